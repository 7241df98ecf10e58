# SPDX-License-Identifier: GPL-2.0-or-later
# Interface targets that carry include directories and compiler flags.
#
#   banyan_headers     include/ (public) and the source root ("vtpm/crb/crb_regs.hpp")
#   banyan_core_flags  core libraries: no exceptions, no RTTI
#   banyan_app_flags   tool, attest, engine, tests: exceptions allowed, their libraries use them
#   banyan_warnings    just the warnings

add_library(banyan_headers INTERFACE)
target_include_directories(banyan_headers INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR})
target_compile_features(banyan_headers INTERFACE cxx_std_20)

# -Wshadow=local: the full one takes the enumerators of a scoped enum for shadows.
add_library(banyan_warnings INTERFACE)
target_compile_options(banyan_warnings INTERFACE
    -Wall -Wextra -Wshadow=local -Wvla -Wundef -Wformat=2 -Wcast-align
    $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor -Woverloaded-virtual -Wextra-semi>
    $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes -Wmissing-prototypes>
    $<$<BOOL:${BANYAN_WERROR}>:-Werror>)

# Sanitizers go with the host code only; freestanding payloads have no runtime for them.
add_library(banyan_host_flags INTERFACE)
target_link_libraries(banyan_host_flags INTERFACE banyan_warnings banyan_headers)
target_compile_options(banyan_host_flags INTERFACE -fstack-protector-strong)
if(BANYAN_SANITIZE)
    target_compile_options(banyan_host_flags INTERFACE
        -fsanitize=${BANYAN_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer
        # Objects of the core have no type information for tests that have it to check.
        $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize=vptr>)
    target_compile_definitions(banyan_host_flags INTERFACE _GLIBCXX_ASSERTIONS)
    target_link_options(banyan_host_flags INTERFACE -fsanitize=${BANYAN_SANITIZE})
endif()
if(BANYAN_LIBFUZZER) # what is fuzzed shows its edges, not just the target's own file
    target_compile_options(banyan_host_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

add_library(banyan_core_flags INTERFACE)
target_link_libraries(banyan_core_flags INTERFACE banyan_host_flags)
target_compile_options(banyan_core_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions -fno-rtti>)

add_library(banyan_app_flags INTERFACE)
target_link_libraries(banyan_app_flags INTERFACE banyan_host_flags)
