# SPDX-License-Identifier: GPL-2.0-or-later

# Where g++ keeps <bits/c++config.h>: with -m32 and no multilib it looks beside it and finds nothing.
execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-multiarch OUTPUT_VARIABLE banyan_multiarch
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
string(REGEX MATCH "^[0-9]+" banyan_cxx_major "${CMAKE_CXX_COMPILER_VERSION}")

# banyan_add_freestanding(name
#     LINKER_SCRIPT file
#     SOURCES file...            .cpp, .c and .S
#     [BITS 32|64]               64 unless told; 32 is -m32
#     [MCMODEL small|kernel|large]
#     [LINK target...]           interface targets: headers, definitions
#     [FLAGS flag...]            after ours, so -Os wins over the build type's -O2
#     [DEFINES name...] [INCLUDES dir...] [LINK_FLAGS flag...]
#     [DEPENDS file...]          relink when one changes
#     [FLAT])                    also payloads/NAME.bin, by objcopy -O binary
#
# An ELF file payloads/NAME that runs without an operating system: no red zone, no vector registers, no exceptions,
# no RTTI, no run-time library. Target properties: BANYAN_FLAT is the path of the flat image.
function(banyan_add_freestanding name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "FLAT" "LINKER_SCRIPT;BITS;MCMODEL"
        "SOURCES;LINK;FLAGS;DEFINES;INCLUDES;LINK_FLAGS;DEPENDS")
    if(arg_UNPARSED_ARGUMENTS OR NOT arg_LINKER_SCRIPT OR NOT arg_SOURCES)
        message(FATAL_ERROR "banyan_add_freestanding(${name}): LINKER_SCRIPT and SOURCES are needed"
            " (not understood: '${arg_UNPARSED_ARGUMENTS}')")
    endif()
    if(NOT arg_BITS)
        set(arg_BITS 64)
    endif()
    get_filename_component(script ${arg_LINKER_SCRIPT} ABSOLUTE)

    add_executable(${name} ${arg_SOURCES})
    set_target_properties(${name} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${BANYAN_PAYLOAD_DIR}
        POSITION_INDEPENDENT_CODE OFF
        LINK_DEPENDS "${script};${arg_DEPENDS}")
    target_link_libraries(${name} PRIVATE banyan_headers banyan_warnings ${arg_LINK})
    target_include_directories(${name} PRIVATE ${arg_INCLUDES})
    target_compile_definitions(${name} PRIVATE BANYAN_FREESTANDING=1 ${arg_DEFINES})

    set(code -ffreestanding -fno-builtin -fno-stack-protector -fno-asynchronous-unwind-tables -fno-unwind-tables
        -fcf-protection=none -fno-strict-aliasing -ffunction-sections -fdata-sections
        -mno-red-zone -mgeneral-regs-only)
    set(machine -m${arg_BITS} -fno-pic -fno-pie)
    if(arg_BITS EQUAL 64)
        if(NOT arg_MCMODEL)
            set(arg_MCMODEL small)
        endif()
        list(APPEND machine -mcmodel=${arg_MCMODEL})
    else()
        target_compile_options(${name} PRIVATE
            "SHELL:-idirafter ${PROJECT_SOURCE_DIR}/cmake/freestanding"
            "SHELL:-idirafter /usr/include/${banyan_multiarch}/c++/${banyan_cxx_major}"
            "SHELL:-idirafter /usr/include/${banyan_multiarch}")
    endif()
    target_compile_options(${name} PRIVATE
        ${machine}
        "$<$<COMPILE_LANGUAGE:C,CXX>:${code}>"
        "$<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions;-fno-rtti;-fno-threadsafe-statics;-fno-use-cxa-atexit>"
        ${arg_FLAGS})
    target_link_options(${name} PRIVATE
        -m${arg_BITS} -static -nostdlib -no-pie -Wl,-T,${script} -Wl,--build-id=none -Wl,-z,noexecstack
        -Wl,-z,max-page-size=4096 -Wl,--gc-sections -Wl,--no-warn-rwx-segments
        ${arg_LINK_FLAGS})

    if(arg_FLAT)
        set(flat ${BANYAN_PAYLOAD_DIR}/${name}.bin)
        add_custom_command(TARGET ${name} POST_BUILD
            COMMAND ${CMAKE_OBJCOPY} -O binary $<TARGET_FILE:${name}> ${flat}
            BYPRODUCTS ${flat} VERBATIM)
        set_target_properties(${name} PROPERTIES BANYAN_FLAT ${flat})
    endif()
endfunction()
