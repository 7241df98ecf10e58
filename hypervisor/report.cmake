# SPDX-License-Identifier: GPL-2.0-or-later
# cmake -DSLB=file -DELF=file -P report.cmake: prints sizes; fails if the SLB's length word is not the file's length.
file(SIZE ${SLB} slb_size)
file(SIZE ${ELF} elf_size)
file(READ ${SLB} length OFFSET 2 LIMIT 2 HEX)
string(REGEX REPLACE "(..)(..)" "0x\\2\\1" length "${length}")
math(EXPR measured "${length}")
if(NOT measured EQUAL slb_size)
    message(FATAL_ERROR "${SLB}: the header says ${measured} measured bytes, the file has ${slb_size}")
endif()
file(SHA256 ${SLB} digest)
message("hypervisor.slb: ${measured} bytes measured of 65536, SHA-256 ${digest}")
message("hypervisor.elf: ${elf_size} bytes")
