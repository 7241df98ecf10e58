# SPDX-License-Identifier: GPL-2.0-or-later
# cmake -DIASL=PROGRAM -DFOLDER=DIR -DTABLE=NAME -DCOUNT=N -P compile.cmake
# Compiles DIR/NAME-1.asl .. DIR/NAME-N.asl and writes them all as DIR/NAME.cpp, which defines NAME_of(1..N).
set(arrays "")
set(list "")
foreach(number RANGE 1 ${COUNT})
    execute_process(COMMAND ${IASL} -vs -p ${FOLDER}/${TABLE}-${number} ${FOLDER}/${TABLE}-${number}.asl
        RESULT_VARIABLE status OUTPUT_VARIABLE log ERROR_VARIABLE log)
    if(NOT status EQUAL 0)
        message(FATAL_ERROR "iasl ${TABLE}-${number}.asl:\n${log}")
    endif()
    file(READ ${FOLDER}/${TABLE}-${number}.aml hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(APPEND arrays "constexpr std::uint8_t kTable${number}[] = {${bytes}};\n")
    string(APPEND list "    kTable${number},\n")
endforeach()
file(WRITE ${FOLDER}/${TABLE}.cpp "// Made by tool/acpi/compile.cmake.
#include \"tool/acpi.hpp\"

#include <cassert>

namespace banyan::tool {

namespace {

${arrays}
constexpr std::span<const std::uint8_t> kAll[] = {
${list}};

} // namespace

std::span<const std::uint8_t> ${TABLE}_of(unsigned number)
{
    assert(number >= 1 && number <= ${COUNT});
    return kAll[number - 1];
}

} // namespace banyan::tool
")
