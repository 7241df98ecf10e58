// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/boot_info_check.hpp"

#include <cstddef>
#include <iterator>

namespace banyan::loader {
namespace {

using boot::BootInfo;
using boot::E820;
using boot::E820Type;
using boot::Extent;

// What the loader itself writes or runs in; nothing it is told of may lie there.
constexpr Extent kOwn[] = {
    {boot::kZeroPage, 0x1000},    {boot::kCommandLine, 0x1000},        {boot::kPageTables, 0x8000},
    {boot::kSlb, boot::kSlbSize}, {boot::kBootInfo, sizeof(BootInfo)},
};

bool is_zero(const E820 &entry)
{
    return entry.base == 0 && entry.size == 0 && entry.type == E820Type{} && entry.reserved == 0;
}

bool sane(const E820 &entry)
{
    const auto type = static_cast<std::uint32_t>(entry.type);
    return entry.size != 0 && entry.base + entry.size > entry.base && entry.reserved == 0 && type >= 1 && type <= 4;
}

/// RAM is below the legacy hole, between 1 MiB and the log, or above 4 GiB.
bool ram_where_ram_may_be(const E820 &entry, std::uint64_t log_base)
{
    const Extent extent{entry.base, entry.size};
    return within(extent, 0, boot::kLowEnd) || within(extent, boot::kHighStart, log_base) ||
           within(extent, kFourGiB, kHighRamEnd);
}

BootInfoFault check_e820(const BootInfo &info, std::uint64_t log_base)
{
    if (info.e820_count == 0 || info.e820_count > boot::kMaxE820) {
        return BootInfoFault::kE820Count;
    }
    for (std::size_t i = 0; i < boot::kMaxE820; ++i) {
        const E820 &entry = info.e820[i];
        if (i >= info.e820_count) {
            if (!is_zero(entry)) {
                return BootInfoFault::kE820Unused;
            }
            continue;
        }
        if (!sane(entry)) {
            return BootInfoFault::kE820Entry;
        }
        if (i != 0 && entry.base < info.e820[i - 1].base + info.e820[i - 1].size) {
            return BootInfoFault::kE820Order;
        }
        if (entry.type == E820Type::kRam && !ram_where_ram_may_be(entry, log_base)) {
            return BootInfoFault::kE820Ram;
        }
    }
    return BootInfoFault::kNone;
}

bool page_aligned(std::uint64_t address)
{
    return address % 0x1000 == 0;
}

} // namespace

const char *describe(BootInfoFault fault)
{
    switch (fault) {
    case BootInfoFault::kNone:
        return "no fault";
    case BootInfoFault::kMagic:
        return "its magic is wrong";
    case BootInfoFault::kSize:
        return "its size is not that of this version";
    case BootInfoFault::kReserved:
        return "its reserved field is not zero";
    case BootInfoFault::kRamEnd:
        return "the end of RAM is not possible";
    case BootInfoFault::kE820Count:
        return "the number of e820 entries is not possible";
    case BootInfoFault::kE820Unused:
        return "an unused e820 entry is not zero";
    case BootInfoFault::kE820Entry:
        return "an e820 entry is empty, wraps or has an unknown type";
    case BootInfoFault::kE820Order:
        return "e820 entries overlap or do not ascend";
    case BootInfoFault::kE820Ram:
        return "an e820 entry calls something RAM that cannot be";
    case BootInfoFault::kLog:
        return "the event log is not the last 64 KiB of RAM";
    case BootInfoFault::kLogType:
        return "the event log does not lie in e820 type 4";
    case BootInfoFault::kKernel:
        return "the kernel's extent is not possible";
    case BootInfoFault::kInitrd:
        return "the initrd's extent is not possible";
    case BootInfoFault::kCommandLine:
        return "the command line's extent is not possible";
    case BootInfoFault::kAcpi:
        return "the ACPI tables' extent is not possible";
    case BootInfoFault::kAcpiType:
        return "the ACPI tables do not lie in e820 type 3";
    case BootInfoFault::kOverlap:
        return "two extents overlap, or one overlaps the loader's memory";
    case BootInfoFault::kNotRam:
        return "an extent does not lie in RAM";
    }
    return "unknown";
}

bool lies_in(const BootInfo &info, const Extent &extent, E820Type type)
{
    for (std::size_t i = 0; i < info.e820_count; ++i) {
        const E820 &entry = info.e820[i];
        if (entry.type == type && within(extent, entry.base, entry.base + entry.size)) {
            return true;
        }
    }
    return false;
}

BootInfoFault check_boot_info(const BootInfo &info)
{
    if (info.magic != boot::kBootInfoMagic) {
        return BootInfoFault::kMagic;
    }
    if (info.size != sizeof(BootInfo)) {
        return BootInfoFault::kSize;
    }
    if (info.reserved != 0) {
        return BootInfoFault::kReserved;
    }
    if (info.ram_end < boot::kMinRam || info.ram_end > kRamEndMax || !page_aligned(info.ram_end)) {
        return BootInfoFault::kRamEnd;
    }
    const std::uint64_t log_base = info.ram_end - boot::kLogSize;
    if (info.log.base != log_base || info.log.size != boot::kLogSize) {
        return BootInfoFault::kLog;
    }
    if (const BootInfoFault fault = check_e820(info, log_base); fault != BootInfoFault::kNone) {
        return fault;
    }
    if (!lies_in(info, info.log, E820Type::kNvs)) {
        return BootInfoFault::kLogType;
    }
    if (info.kernel.size == 0 || info.kernel.size > kKernelMax || !page_aligned(info.kernel.base) ||
        !within(info.kernel, boot::kHighStart, log_base)) {
        return BootInfoFault::kKernel;
    }
    if (!page_aligned(info.initrd.base) ||
        (info.initrd.size == 0 ? info.initrd.base != 0 : !within(info.initrd, boot::kHighStart, log_base))) {
        return BootInfoFault::kInitrd;
    }
    if (info.command_line.size > kCommandLineMax || !within(info.command_line, 0x1000, boot::kLowEnd)) {
        return BootInfoFault::kCommandLine;
    }
    if (info.acpi.base != boot::kAcpi || info.acpi.size < kRsdpMin || info.acpi.size > boot::kAcpiSize) {
        return BootInfoFault::kAcpi;
    }
    if (!lies_in(info, info.acpi, E820Type::kAcpi)) {
        return BootInfoFault::kAcpiType;
    }
    const Extent told[] = {info.kernel, info.initrd, info.command_line, info.acpi, info.log};
    for (std::size_t i = 0; i < std::size(told); ++i) {
        for (std::size_t j = i + 1; j < std::size(told); ++j) {
            if (overlap(told[i], told[j])) {
                return BootInfoFault::kOverlap;
            }
        }
        for (const Extent &own : kOwn) {
            if (overlap(told[i], own)) {
                return BootInfoFault::kOverlap;
            }
        }
    }
    const Extent in_ram[] = {
        info.kernel, info.command_line, {boot::kZeroPage, boot::kPageTables + 0x8000 - boot::kZeroPage}};
    for (const Extent &extent : in_ram) {
        if (!lies_in(info, extent, E820Type::kRam)) {
            return BootInfoFault::kNotRam;
        }
    }
    if (info.initrd.size != 0 && !lies_in(info, info.initrd, E820Type::kRam)) {
        return BootInfoFault::kNotRam;
    }
    return BootInfoFault::kNone;
}

} // namespace banyan::loader
