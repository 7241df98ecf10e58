// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>

#include "banyan/arch/boot_info.hpp"

// Whether the loader can act on a BootInfo, which comes from untrusted code. Rules: docs/spec/measurements.md.

namespace banyan::loader {

inline constexpr std::uint64_t kFourGiB = 0x1'0000'0000;
inline constexpr std::uint64_t kRamEndMax = 0xB000'0000; // where ECAM begins on q35
inline constexpr std::uint64_t kHighRamEnd = 1ull << 46;
inline constexpr std::uint64_t kKernelMax = 0x400'0000; // 64 MiB
inline constexpr std::uint64_t kCommandLineMax = 2047;  // what x86 Linux keeps (COMMAND_LINE_SIZE - 1)
inline constexpr std::uint64_t kRsdpMin = 20;           // ACPI 1.0's, the shortest

enum class BootInfoFault : std::uint8_t {
    kNone,
    kMagic,
    kSize,
    kReserved,
    kRamEnd,
    kE820Count,
    kE820Unused,
    kE820Entry,
    kE820Order,
    kE820Ram,
    kLog,
    kLogType,
    kKernel,
    kInitrd,
    kCommandLine,
    kAcpi,
    kAcpiType,
    kOverlap,
    kNotRam,
};

const char *describe(BootInfoFault fault);

/// `info` must be a private copy: nobody else may change it between this check and its use.
[[nodiscard]] BootInfoFault check_boot_info(const boot::BootInfo &info);

/// base + size does not wrap, and [base, base + size) lies in [from, to).
constexpr bool within(const boot::Extent &extent, std::uint64_t from, std::uint64_t to)
{
    return extent.base >= from && extent.base <= to && extent.size <= to - extent.base;
}

/// Both are known not to wrap. An empty extent overlaps nothing.
constexpr bool overlap(const boot::Extent &a, const boot::Extent &b)
{
    return a.size != 0 && b.size != 0 && a.base < b.base + b.size && b.base < a.base + a.size;
}

/// One e820 entry of type RAM holds the whole extent.
[[nodiscard]] bool lies_in(const boot::BootInfo &info, const boot::Extent &extent, boot::E820Type type);

} // namespace banyan::loader
