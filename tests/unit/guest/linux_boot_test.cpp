// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/linux_boot.hpp"

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "guest/loader/boot_info_check.hpp"

namespace banyan::loader {
namespace {

using namespace zero_page;

template <typename T>
void put(std::vector<std::uint8_t> &bytes, std::size_t at, T value)
{
    std::memcpy(bytes.data() + at, &value, sizeof(value));
}

template <typename T, typename Container>
T get(const Container &bytes, std::size_t at)
{
    T value{};
    std::memcpy(&value, bytes.data() + at, sizeof(value));
    return value;
}

constexpr std::uint32_t kSetupSectors = 39; // as in Debian 6.1
constexpr std::uint32_t kCodeOffset = (kSetupSectors + 1) * 512;
constexpr std::uint32_t kCodeSize = 1 << 20;

/// The header fields of Debian's 6.1.0 amd64 kernel around a small body, with a signature's worth of bytes behind.
std::vector<std::uint8_t> kernel()
{
    std::vector<std::uint8_t> image(kCodeOffset + kCodeSize + 1000, 0xC3);
    std::fill(image.begin(), image.begin() + kCodeOffset, std::uint8_t{0});
    image[kSetupSects] = kSetupSectors;
    put(image, kSysSize, kCodeSize / 16);
    put(image, kBootFlag, kBootFlagValue);
    image[0x200] = 0xEB;
    image[kHeaderEnd] = 0x6A; // header ends at 0x26C
    put(image, kHeader, kHeaderMagic);
    put(image, kVersion, std::uint16_t{0x020F});
    image[kLoadFlags] = kLoadedHigh | kKeepSegments;
    put(image, kInitrdAddrMax, 0x7FFF'FFFFu);
    put(image, kKernelAlignment, 0x20'0000u);
    image[kRelocatable] = 1;
    put(image, kXLoadFlags, std::uint16_t{0x7F});
    put(image, kCmdlineSize, 2047u);
    put(image, kSetupData, std::uint64_t{0x1234}); // a loader must not believe it
    put(image, kInitSize, 0x3B6'0000u);
    return image;
}

boot::BootInfo boot_info()
{
    boot::BootInfo info{};
    info.kernel = {boot::kKernelRaw, kernel().size()};
    info.initrd = {0x1A00'0000, 0xB4'0000};
    info.command_line = {boot::kCommandLineRaw, 2047};
    info.acpi = {boot::kAcpi, 0x1000};
    info.ram_end = 0x2000'0000;
    info.e820_count = 2;
    info.e820[0] = {0x1000, 0x7'F000, boot::E820Type::kRam, 0};
    info.e820[1] = {boot::kHighStart, 0x1FEF'0000, boot::E820Type::kRam, 0};
    return info;
}

TEST(LinuxBoot, ReadsTheHeaderOfAKernel)
{
    KernelLayout layout{};
    ASSERT_EQ(parse_kernel(kernel(), layout), KernelFault::kNone);
    EXPECT_EQ(layout.code_offset, kCodeOffset);
    EXPECT_EQ(layout.code_size, kCodeSize);
    EXPECT_EQ(layout.init_size, 0x3B6'0000u);
    EXPECT_EQ(layout.header_end, 0x26Cu);
    EXPECT_EQ(layout.cmdline_size, 2047u);
}

TEST(LinuxBoot, NoSetupSectorsMeansFour)
{
    auto image = kernel();
    image[kSetupSects] = 0;
    KernelLayout layout{};
    ASSERT_EQ(parse_kernel(image, layout), KernelFault::kNone);
    EXPECT_EQ(layout.code_offset, 5u * 512);
}

struct Bad {
    const char *name;
    KernelFault expected;
    std::function<void(std::vector<std::uint8_t> &)> spoil;
};

const Bad kBad[] = {
    {"empty", KernelFault::kTooShort, [](auto &k) { k.clear(); }},
    {"short", KernelFault::kTooShort, [](auto &k) { k.resize(kHeaderMax - 1); }},
    {"header_only", KernelFault::kTruncated, [](auto &k) { k.resize(kHeaderMax); }},
    {"setup_only", KernelFault::kTruncated, [](auto &k) { k.resize(kCodeOffset); }},
    {"cut", KernelFault::kTruncated, [](auto &k) { k.resize(kCodeOffset + kCodeSize - 16); }},
    {"no_boot_flag", KernelFault::kNoHeader, [](auto &k) { k[kBootFlag] = 0; }},
    {"no_magic", KernelFault::kNoHeader, [](auto &k) { k[kHeader] = 'h'; }},
    {"old", KernelFault::kVersion, [](auto &k) { put(k, kVersion, std::uint16_t{0x020B}); }},
    {"header_end_early", KernelFault::kNoHeader, [](auto &k) { k[kHeaderEnd] = 0x10; }},
    {"header_end_late", KernelFault::kNoHeader, [](auto &k) { k[kHeaderEnd] = 0x8F; }},
    {"not_64", KernelFault::kNot64, [](auto &k) { k[kXLoadFlags] = 0x7E; }},
    {"loaded_low", KernelFault::kNot64, [](auto &k) { k[kLoadFlags] = 0; }},
    {"fixed", KernelFault::kNotRelocatable, [](auto &k) { k[kRelocatable] = 0; }},
    {"alignment_0", KernelFault::kAlignment, [](auto &k) { put(k, kKernelAlignment, 0u); }},
    {"alignment_32_mib", KernelFault::kAlignment, [](auto &k) { put(k, kKernelAlignment, 0x200'0000u); }},
    {"syssize_huge", KernelFault::kTruncated, [](auto &k) { put(k, kSysSize, 0xFFFF'FFFFu); }},
    {"syssize_0", KernelFault::kTruncated, [](auto &k) { put(k, kSysSize, 0u); }},
    {"no_entry", KernelFault::kTruncated, [](auto &k) { put(k, kSysSize, 0x200u / 16); }},
    {"init_size", KernelFault::kInitSize, [](auto &k) { put(k, kInitSize, kCodeSize - 1); }},
};

class EveryBadKernel : public testing::TestWithParam<Bad> {};

TEST_P(EveryBadKernel, IsRefusedForItsReason)
{
    auto image = kernel();
    GetParam().spoil(image);
    KernelLayout layout{};
    EXPECT_STREQ(describe(parse_kernel(image, layout)), describe(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(Table, EveryBadKernel, testing::ValuesIn(kBad),
                         [](const auto &param) { return std::string(param.param.name); });

struct Place {
    const char *name;
    KernelFault expected;
    std::function<void(boot::BootInfo &, KernelLayout &)> change;
};

const Place kPlaces[] = {
    {"as_made", KernelFault::kNone, [](auto &, auto &) {}},
    {"up_to_the_raw_kernel", KernelFault::kNone,
     [](auto &, auto &l) { l.init_size = boot::kKernelRaw - boot::kKernelRun; }},
    {"into_the_raw_kernel", KernelFault::kNoRoom,
     [](auto &, auto &l) { l.init_size = boot::kKernelRaw - boot::kKernelRun + 1; }},
    {"initrd_where_it_runs", KernelFault::kNoRoom, [](auto &i, auto &) { i.initrd.base = boot::kKernelRun + 0x1000; }},
    {"runs_beyond_ram", KernelFault::kNoRoom, [](auto &i, auto &) { i.e820[1].size = 0x200'0000; }},
    {"init_size_huge", KernelFault::kNoRoom, [](auto &, auto &l) { l.init_size = 0xFFFF'FFFF; }},
    {"initrd_high", KernelFault::kInitrdTooHigh, [](auto &, auto &l) { l.initrd_max = 0x1A00'0000; }},
    {"command_line", KernelFault::kCommandLineTooLong, [](auto &, auto &l) { l.cmdline_size = 2046; }},
};

class EveryPlacement : public testing::TestWithParam<Place> {};

TEST_P(EveryPlacement, IsJudged)
{
    KernelLayout layout{};
    ASSERT_EQ(parse_kernel(kernel(), layout), KernelFault::kNone);
    boot::BootInfo info = boot_info();
    GetParam().change(info, layout);
    EXPECT_STREQ(describe(check_placement(info, layout)), describe(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(Table, EveryPlacement, testing::ValuesIn(kPlaces),
                         [](const auto &param) { return std::string(param.param.name); });

TEST(LinuxBoot, BootParamsHoldWhatTheProtocolWants)
{
    const auto image = kernel();
    KernelLayout layout{};
    ASSERT_EQ(parse_kernel(image, layout), KernelFault::kNone);
    const boot::BootInfo info = boot_info();
    std::array<std::uint8_t, kSize> page{};
    page.fill(0xEE);
    make_boot_params(page, image, layout, info);

    EXPECT_EQ(get<std::uint32_t>(page, kHeader), kHeaderMagic);
    EXPECT_EQ(page[kTypeOfLoader], 0xFF);
    EXPECT_EQ(page[kLoadFlags], kLoadedHigh);
    EXPECT_EQ(get<std::uint32_t>(page, kCode32Start), boot::kKernelRun);
    EXPECT_EQ(get<std::uint32_t>(page, kRamdiskImage), info.initrd.base);
    EXPECT_EQ(get<std::uint32_t>(page, kRamdiskSize), info.initrd.size);
    EXPECT_EQ(get<std::uint32_t>(page, kCmdLinePtr), boot::kCommandLine);
    EXPECT_EQ(get<std::uint64_t>(page, kSetupData), 0u);
    EXPECT_EQ(get<std::uint64_t>(page, kAcpiRsdp), boot::kAcpi);
    EXPECT_EQ(page[kE820Entries], 2);
    EXPECT_EQ(get<std::uint64_t>(page, kE820Table + 20), boot::kHighStart);
    EXPECT_EQ(get<std::uint64_t>(page, kE820Table + 28), 0x1FEF'0000u);
    EXPECT_EQ(get<std::uint32_t>(page, kE820Table + 36), 1u);
    for (std::size_t i = 0; i < kSetupHeader; ++i) {
        if (i < kAcpiRsdp || (i >= kAcpiRsdp + 8 && i != kE820Entries)) {
            ASSERT_EQ(page[i], 0) << i;
        }
    }
    for (std::size_t i = layout.header_end; i < kE820Table; ++i) {
        ASSERT_EQ(page[i], 0) << i;
    }
}

} // namespace
} // namespace banyan::loader
