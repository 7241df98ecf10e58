# SPDX-License-Identifier: GPL-2.0-or-later
# Options and directories. Binaries a user calls lie in build/bin, tests and payloads beside them.

option(BANYAN_WERROR "Treat warnings as errors" OFF)
option(BANYAN_BUILD_QEMU "Build the custom QEMU as part of `all`" OFF)
option(BANYAN_ENGINE_STATIC "Link libtpms and libcrypto into the vTPM's engine where there are archives of them" ON)
option(BANYAN_LIBFUZZER "Build the fuzz targets with libFuzzer (needs clang)" OFF)
set(BANYAN_SANITIZE "" CACHE STRING "Comma-separated sanitizers for the host code (address,undefined | thread)")
set(BANYAN_QEMU_SOURCE "" CACHE PATH "QEMU 10.0 source tree to use instead of Debian's source package")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON) # libbanyan.a is linked into QEMU, which is PIE
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
set(BANYAN_TEST_DIR ${PROJECT_BINARY_DIR}/tests/bin)    # test programs
set(BANYAN_PAYLOAD_DIR ${PROJECT_BINARY_DIR}/payloads)  # freestanding ELF files and flat images
set(BANYAN_IMAGES_DIR ${PROJECT_BINARY_DIR}/images)     # kernels that scripts/setup unpacked

find_program(BANYAN_CCACHE ccache)
mark_as_advanced(BANYAN_CCACHE)
if(BANYAN_CCACHE)
    foreach(lang IN ITEMS C CXX)
        if(NOT CMAKE_${lang}_COMPILER_LAUNCHER)
            # Paths below the clone count as relative, so clones share objects.
            set(CMAKE_${lang}_COMPILER_LAUNCHER env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${BANYAN_CCACHE})
        endif()
    endforeach()
endif()
