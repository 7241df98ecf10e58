# SPDX-License-Identifier: GPL-2.0-or-later
# A test has one label, the place it runs in:
#   unit       host, one module          capi   host, the C ABI from C11
#   fuzz       host, corpus and mutations
#   baremetal  our payloads on the custom QEMU
#   qtest      devices through QEMU's qtest protocol
#   system     whole machines with Linux
# Exit status 77 is SKIP; the test prints its condition.

find_package(GTest)

# banyan_add_unit_test(name SOURCES file... [LINK target...] [LABELS label] [TIMEOUT seconds])
#   GoogleTest with its main(); every TEST is a test of ctest, NAME/Suite.Test.
function(banyan_add_unit_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "SOURCES;LINK;LABELS")
    if(NOT BUILD_TESTING)
        return()
    endif()
    if(NOT GTest_FOUND)
        message(FATAL_ERROR "GoogleTest is missing (package libgtest-dev): run scripts/setup, or set BUILD_TESTING=OFF")
    endif()
    include(GoogleTest)
    if(NOT arg_LABELS)
        set(arg_LABELS unit)
    endif()
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 120)
    endif()
    add_executable(${name} ${arg_SOURCES})
    target_link_libraries(${name} PRIVATE banyan_app_flags ${arg_LINK} GTest::gtest_main)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${BANYAN_TEST_DIR})
    gtest_discover_tests(${name} TEST_PREFIX ${name}/ NO_PRETTY_VALUES DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
        PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT})
endfunction()

# banyan_add_test(name LABELS label COMMAND command... [TIMEOUT seconds] [SERIAL] [ENVIRONMENT NAME=value...])
#   Any program or script. SERIAL: not beside another test, for what measures time or fills both cores.
function(banyan_add_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "SERIAL" "TIMEOUT" "LABELS;COMMAND;ENVIRONMENT")
    if(NOT BUILD_TESTING)
        return()
    endif()
    if(NOT arg_LABELS OR NOT arg_COMMAND)
        message(FATAL_ERROR "banyan_add_test(${name}): LABELS and COMMAND are needed")
    endif()
    if(NOT arg_TIMEOUT)
        set(arg_TIMEOUT 120)
    endif()
    add_test(NAME ${name} COMMAND ${arg_COMMAND})
    set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT} SKIP_RETURN_CODE 77
        RUN_SERIAL ${arg_SERIAL} ENVIRONMENT "${arg_ENVIRONMENT}")
endfunction()

# banyan_add_fuzzer(name SOURCES file... [LINK target...] [CORPUS dir] [RUNS n])
#   SOURCES define LLVMFuzzerTestOneInput. With BANYAN_LIBFUZZER (clang) it is a libFuzzer program; otherwise a
#   driver of our own runs the corpus and n seeded mutations of it, the same ones each time.
function(banyan_add_fuzzer name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "CORPUS;RUNS" "SOURCES;LINK")
    if(NOT BUILD_TESTING)
        return()
    endif()
    if(NOT arg_RUNS)
        set(arg_RUNS 20000)
    endif()
    add_executable(${name} ${arg_SOURCES})
    target_link_libraries(${name} PRIVATE banyan_app_flags ${arg_LINK})
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${BANYAN_TEST_DIR})
    if(BANYAN_LIBFUZZER)
        target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
        target_link_options(${name} PRIVATE -fsanitize=fuzzer)
        set(runs -runs=${arg_RUNS} -seed=1)
    else()
        target_sources(${name} PRIVATE ${PROJECT_SOURCE_DIR}/cmake/fuzz_main.cpp)
        set(runs -runs=${arg_RUNS})
    endif()
    banyan_add_test(${name} LABELS fuzz TIMEOUT 300 COMMAND ${name} ${runs} ${arg_CORPUS})
endfunction()
