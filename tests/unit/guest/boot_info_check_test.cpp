// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/boot_info_check.hpp"

#include <functional>
#include <string>

#include <gtest/gtest.h>

namespace banyan::loader {
namespace {

using boot::BootInfo;
using boot::E820Type;

constexpr std::uint64_t kRam = 512ull << 20;
constexpr std::uint64_t kLog = kRam - boot::kLogSize;

BootInfo good()
{
    BootInfo info{};
    info.magic = boot::kBootInfoMagic;
    info.size = sizeof(info);
    info.kernel = {boot::kKernelRaw, 8 << 20};
    info.initrd = {kLog - (16 << 20), (16 << 20) - 123};
    info.command_line = {boot::kCommandLineRaw, 40};
    info.acpi = {boot::kAcpi, 0x1100};
    info.log = {kLog, boot::kLogSize};
    info.ram_end = kRam;
    info.e820_count = 6;
    info.e820[0] = {0x1000, boot::kAcpi - 0x1000, E820Type::kRam, 0};
    info.e820[1] = {boot::kAcpi, boot::kAcpiSize, E820Type::kAcpi, 0};
    info.e820[2] = {0x9'0000, 0x1'0000, E820Type::kNvs, 0};
    info.e820[3] = {boot::kHighStart, kLog - boot::kHighStart, E820Type::kRam, 0};
    info.e820[4] = {kLog, boot::kLogSize, E820Type::kNvs, 0};
    info.e820[5] = {0xB100'0000, 0x10'0000, E820Type::kReserved, 0};
    return info;
}

TEST(BootInfoCheck, AcceptsWhatTheToolMakes)
{
    EXPECT_EQ(check_boot_info(good()), BootInfoFault::kNone);
}

TEST(BootInfoCheck, AcceptsNoInitrdNoCommandLineAndHighRam)
{
    BootInfo info = good();
    info.initrd = {0, 0};
    info.command_line.size = 0;
    info.e820_count = 7;
    info.e820[6] = {kFourGiB, 1ull << 30, E820Type::kRam, 0};
    EXPECT_EQ(check_boot_info(info), BootInfoFault::kNone);
}

struct Hostile {
    const char *name;
    BootInfoFault expected;
    std::function<void(BootInfo &)> spoil;
};

constexpr std::uint64_t kHuge = ~0ull;

const Hostile kHostile[] = {
    {"magic", BootInfoFault::kMagic, [](auto &i) { i.magic ^= 1; }},
    {"all_ones", BootInfoFault::kMagic, [](auto &i) { __builtin_memset(&i, 0xFF, sizeof(i)); }},
    {"all_zero", BootInfoFault::kMagic, [](auto &i) { __builtin_memset(&i, 0, sizeof(i)); }},
    {"size", BootInfoFault::kSize, [](auto &i) { i.size += 8; }},
    {"reserved", BootInfoFault::kReserved, [](auto &i) { i.reserved = 1; }},
    {"ram_small", BootInfoFault::kRamEnd, [](auto &i) { i.ram_end = boot::kMinRam - 0x1000; }},
    {"ram_large", BootInfoFault::kRamEnd, [](auto &i) { i.ram_end = kRamEndMax + 0x1000; }},
    {"ram_huge", BootInfoFault::kRamEnd, [](auto &i) { i.ram_end = kHuge; }},
    {"ram_unaligned", BootInfoFault::kRamEnd, [](auto &i) { i.ram_end += 1; }},
    {"log_elsewhere", BootInfoFault::kLog, [](auto &i) { i.log.base -= 0x1000; }},
    {"log_large", BootInfoFault::kLog, [](auto &i) { i.log.size += 1; }},
    {"log_over_slb", BootInfoFault::kLog,
     [](auto &i) {
         i.log = {boot::kSlb, boot::kSlbSize};
     }},
    {"e820_none", BootInfoFault::kE820Count, [](auto &i) { i.e820_count = 0; }},
    {"e820_many", BootInfoFault::kE820Count, [](auto &i) { i.e820_count = boot::kMaxE820 + 1; }},
    {"e820_huge", BootInfoFault::kE820Count, [](auto &i) { i.e820_count = 0xFFFF'FFFF; }},
    {"e820_unused", BootInfoFault::kE820Unused, [](auto &i) { i.e820[11].base = 1; }},
    {"e820_empty", BootInfoFault::kE820Entry, [](auto &i) { i.e820[2].size = 0; }},
    {"e820_wraps", BootInfoFault::kE820Entry, [](auto &i) { i.e820[5].size = kHuge; }},
    {"e820_wraps_to_zero", BootInfoFault::kE820Entry, [](auto &i) { i.e820[5].size = 0 - i.e820[5].base; }},
    {"e820_type_0", BootInfoFault::kE820Entry, [](auto &i) { i.e820[2].type = E820Type{0}; }},
    {"e820_type_5", BootInfoFault::kE820Entry, [](auto &i) { i.e820[2].type = E820Type{5}; }},
    {"e820_reserved", BootInfoFault::kE820Entry, [](auto &i) { i.e820[2].reserved = 1; }},
    {"e820_overlap", BootInfoFault::kE820Order, [](auto &i) { i.e820[0].size += 1; }},
    {"e820_descends", BootInfoFault::kE820Order, [](auto &i) { std::swap(i.e820[0], i.e820[1]); }},
    {"ram_in_legacy_hole", BootInfoFault::kE820Ram,
     [](auto &i) {
         i.e820[2] = {0x9'0000, 0x2'0000, E820Type::kRam, 0};
     }},
    {"ram_over_log", BootInfoFault::kE820Ram, [](auto &i) { i.e820[3].size += 1; }},
    {"ram_over_mmio", BootInfoFault::kE820Ram, [](auto &i) { i.e820[5].type = E820Type::kRam; }},
    {"ram_beyond_physical", BootInfoFault::kE820Ram,
     [](auto &i) {
         i.e820[5] = {kHighRamEnd - 0x1000, 0x2000, E820Type::kRam, 0};
     }},
    {"log_type", BootInfoFault::kLogType, [](auto &i) { i.e820[4].type = E820Type::kReserved; }},
    {"kernel_empty", BootInfoFault::kKernel, [](auto &i) { i.kernel.size = 0; }},
    {"kernel_large", BootInfoFault::kKernel, [](auto &i) { i.kernel.size = kKernelMax + 1; }},
    {"kernel_huge", BootInfoFault::kKernel, [](auto &i) { i.kernel.size = kHuge; }},
    {"kernel_wraps", BootInfoFault::kKernel, [](auto &i) { i.kernel.base = kHuge - 0xFFF; }},
    {"kernel_unaligned", BootInfoFault::kKernel, [](auto &i) { i.kernel.base += 1; }},
    {"kernel_low", BootInfoFault::kKernel,
     [](auto &i) {
         i.kernel = {0x5'0000, 0x1000};
     }},
    {"kernel_mmio", BootInfoFault::kKernel, [](auto &i) { i.kernel.base = 0xFED4'0000; }},
    {"kernel_into_log", BootInfoFault::kKernel,
     [](auto &i) {
         i.kernel = {kLog - 0x1000, 0x1001};
     }},
    {"kernel_in_gap", BootInfoFault::kNotRam,
     [](auto &i) {
         i.e820[3] = {boot::kHighStart, boot::kKernelRaw, E820Type::kRam, 0}; // ends 1 MiB into the kernel
         i.initrd = {boot::kHighStart, 0x1000};
     }},
    {"initrd_unaligned", BootInfoFault::kInitrd, [](auto &i) { i.initrd.base += 8; }},
    {"initrd_none_with_base", BootInfoFault::kInitrd, [](auto &i) { i.initrd.size = 0; }},
    {"initrd_wraps", BootInfoFault::kInitrd, [](auto &i) { i.initrd.size = kHuge - i.initrd.base + 1; }},
    {"initrd_high", BootInfoFault::kInitrd, [](auto &i) { i.initrd.base = kFourGiB; }},
    {"initrd_low", BootInfoFault::kInitrd,
     [](auto &i) {
         i.initrd = {boot::kSlb, 0x1000};
     }},
    {"initrd_over_kernel", BootInfoFault::kOverlap,
     [](auto &i) {
         i.initrd = {i.kernel.base + 0x1000, 0x1000};
     }},
    {"initrd_around_kernel", BootInfoFault::kOverlap,
     [](auto &i) {
         i.initrd = {i.kernel.base - 0x1000, 32 << 20};
     }},
    {"command_line_long", BootInfoFault::kCommandLine, [](auto &i) { i.command_line.size = kCommandLineMax + 1; }},
    {"command_line_huge", BootInfoFault::kCommandLine, [](auto &i) { i.command_line.size = kHuge; }},
    {"command_line_high", BootInfoFault::kCommandLine, [](auto &i) { i.command_line.base = kHuge; }},
    {"command_line_page_0", BootInfoFault::kCommandLine, [](auto &i) { i.command_line.base = 0; }},
    {"command_line_over_slb", BootInfoFault::kOverlap, [](auto &i) { i.command_line.base = boot::kSlb + 4; }},
    {"command_line_over_info", BootInfoFault::kOverlap, [](auto &i) { i.command_line.base = boot::kBootInfo + 8; }},
    {"command_line_over_copy", BootInfoFault::kOverlap, [](auto &i) { i.command_line.base = boot::kCommandLine; }},
    {"command_line_over_tables", BootInfoFault::kOverlap,
     [](auto &i) { i.command_line.base = boot::kPageTables + 64; }},
    {"command_line_over_zero_page", BootInfoFault::kOverlap,
     [](auto &i) { i.command_line.base = boot::kZeroPage - 8; }},
    {"command_line_over_acpi", BootInfoFault::kOverlap, [](auto &i) { i.command_line.base = boot::kAcpi - 8; }},
    {"command_line_in_nvs", BootInfoFault::kNotRam, [](auto &i) { i.command_line.base = 0x9'0000; }},
    {"acpi_elsewhere", BootInfoFault::kAcpi, [](auto &i) { i.acpi.base += 0x1000; }},
    {"acpi_short", BootInfoFault::kAcpi, [](auto &i) { i.acpi.size = kRsdpMin - 1; }},
    {"acpi_large", BootInfoFault::kAcpi, [](auto &i) { i.acpi.size = boot::kAcpiSize + 1; }},
    {"acpi_huge", BootInfoFault::kAcpi, [](auto &i) { i.acpi.size = kHuge; }},
    {"acpi_type", BootInfoFault::kAcpiType, [](auto &i) { i.e820[1].type = E820Type::kReserved; }},
    {"own_memory_no_ram", BootInfoFault::kNotRam,
     [](auto &i) {
         i.e820[0] = {boot::kBootInfo, boot::kAcpi - boot::kBootInfo, E820Type::kRam, 0};
     }},
};

class EveryHostileBootInfo : public testing::TestWithParam<Hostile> {};

TEST_P(EveryHostileBootInfo, IsRefusedForItsReason)
{
    BootInfo info = good();
    GetParam().spoil(info);
    EXPECT_STREQ(describe(check_boot_info(info)), describe(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(Table, EveryHostileBootInfo, testing::ValuesIn(kHostile),
                         [](const auto &param) { return std::string(param.param.name); });

TEST(BootInfoCheck, NoSingleByteCanBeChangedIntoAnExtentOutsideRam)
{
    // What passes after any byte was changed still keeps every extent inside RAM and away from the loader.
    for (std::size_t at = 0; at < sizeof(BootInfo); ++at) {
        for (const unsigned change : {0x01u, 0x80u, 0xFFu}) {
            BootInfo info = good();
            reinterpret_cast<unsigned char *>(&info)[at] ^= static_cast<unsigned char>(change);
            if (check_boot_info(info) != BootInfoFault::kNone) {
                continue;
            }
            ASSERT_TRUE(lies_in(info, info.kernel, E820Type::kRam)) << at;
            ASSERT_TRUE(lies_in(info, info.initrd, E820Type::kRam)) << at;
            ASSERT_TRUE(lies_in(info, info.command_line, E820Type::kRam)) << at;
            ASSERT_FALSE(overlap(info.kernel, {boot::kSlb, boot::kSlbSize})) << at;
            ASSERT_FALSE(overlap(info.initrd, {boot::kSlb, boot::kSlbSize})) << at;
            ASSERT_FALSE(overlap(info.command_line, {boot::kSlb, boot::kSlbSize})) << at;
            ASSERT_LE(info.ram_end, kRamEndMax) << at;
        }
    }
}

} // namespace
} // namespace banyan::loader
