# SPDX-License-Identifier: GPL-2.0-or-later

# banyan_add_library(name CORE|APP SOURCES file... [LINK target...])
#   A static library, lib/libNAME.a. CORE: without exceptions and RTTI. LINK is public.
#   A header-only library has no SOURCES and becomes an INTERFACE target.
function(banyan_add_library name kind)
    cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "SOURCES;LINK")
    if(arg_UNPARSED_ARGUMENTS OR NOT kind MATCHES "^(CORE|APP)$")
        message(FATAL_ERROR "banyan_add_library(${name} ${kind}): unexpected '${arg_UNPARSED_ARGUMENTS}'; "
            "use (name CORE|APP SOURCES ... LINK ...)")
    endif()
    if(NOT arg_SOURCES)
        add_library(${name} INTERFACE)
        target_link_libraries(${name} INTERFACE banyan_headers ${arg_LINK})
        return()
    endif()
    string(TOLOWER ${kind} kind)
    add_library(${name} STATIC ${arg_SOURCES})
    target_link_libraries(${name} PUBLIC banyan_headers ${arg_LINK} PRIVATE $<BUILD_INTERFACE:banyan_${kind}_flags>)
endfunction()

# banyan_add_executable(name SOURCES file... [LINK target...]): a program for users, bin/NAME.
function(banyan_add_executable name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINK")
    add_executable(${name} ${arg_SOURCES})
    target_link_libraries(${name} PRIVATE banyan_app_flags ${arg_LINK})
endfunction()

# banyan_core_member(target [REQUIRES pkg-config-name...])
#   Puts the objects of a CORE library into libbanyan.a, the one archive that QEMU links. REQUIRES names what
#   QEMU must link with it.
function(banyan_core_member target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "REQUIRES")
    set_property(GLOBAL APPEND PROPERTY BANYAN_CORE_MEMBERS ${target})
    set_property(GLOBAL APPEND PROPERTY BANYAN_CORE_REQUIRES ${arg_REQUIRES})
endfunction()

# lib/libbanyan.a of every member, and lib/pkgconfig/banyan.pc by which QEMU's build finds it.
function(banyan_add_merged_library)
    get_property(members GLOBAL PROPERTY BANYAN_CORE_MEMBERS)
    get_property(requires GLOBAL PROPERTY BANYAN_CORE_REQUIRES)
    list(REMOVE_DUPLICATES requires)
    list(JOIN requires " " BANYAN_PC_REQUIRES)

    configure_file(${PROJECT_SOURCE_DIR}/cmake/banyan_version.cpp.in generated/banyan_version.cpp @ONLY)
    add_library(banyan STATIC ${CMAKE_CURRENT_BINARY_DIR}/generated/banyan_version.cpp)
    target_link_libraries(banyan PUBLIC banyan_headers PRIVATE banyan_core_flags)
    foreach(member IN LISTS members)
        get_target_property(type ${member} TYPE)
        if(type STREQUAL "INTERFACE_LIBRARY")
            continue() # headers alone have no objects
        endif()
        target_sources(banyan PRIVATE $<TARGET_OBJECTS:${member}>)
    endforeach()
    configure_file(${PROJECT_SOURCE_DIR}/cmake/banyan.pc.in lib/pkgconfig/banyan.pc @ONLY)
endfunction()
