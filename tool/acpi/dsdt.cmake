# SPDX-License-Identifier: GPL-2.0-or-later
# cmake -DIASL=PROGRAM -DFOLDER=DIR -DCOUNT=N -P dsdt.cmake
# Compiles DIR/dsdt-1.asl .. DIR/dsdt-N.asl and writes them all as DIR/dsdt.cpp.
set(arrays "")
set(list "")
foreach(domain RANGE 1 ${COUNT})
    execute_process(COMMAND ${IASL} -vs -p ${FOLDER}/dsdt-${domain} ${FOLDER}/dsdt-${domain}.asl
        RESULT_VARIABLE status OUTPUT_VARIABLE log ERROR_VARIABLE log)
    if(NOT status EQUAL 0)
        message(FATAL_ERROR "iasl dsdt-${domain}.asl:\n${log}")
    endif()
    file(READ ${FOLDER}/dsdt-${domain}.aml hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(APPEND arrays "constexpr std::uint8_t kDsdt${domain}[] = {${bytes}};\n")
    string(APPEND list "    kDsdt${domain},\n")
endforeach()
file(WRITE ${FOLDER}/dsdt.cpp "// Made by tool/acpi/dsdt.cmake.
#include \"tool/acpi.hpp\"

#include <cassert>

namespace banyan::tool {

namespace {

${arrays}
constexpr std::span<const std::uint8_t> kAll[] = {
${list}};

} // namespace

std::span<const std::uint8_t> dsdt_of(unsigned domain)
{
    assert(domain >= 1 && domain <= ${COUNT});
    return kAll[domain - 1];
}

} // namespace banyan::tool
")
