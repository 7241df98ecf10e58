// SPDX-License-Identifier: GPL-2.0-or-later
#include <gtest/gtest.h>

#include "fake_host.hpp"

// Reach: the second stage of a domain, and what is left to the host.

namespace banyan::domain {
namespace {

using dt::Command;

Reach reach(const Bench &b, std::uint32_t domain, std::uint64_t gpa)
{
    std::uint64_t hpa = 0;
    return b.table.translate(domain, gpa, hpa);
}

TEST(DomainReach, ADomainReachesItsRangesAtTheirPhysicalPlaceAndItsWindows)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    const dt::Descriptor d = good_descriptor(1);
    for (std::uint32_t i = 0; i < d.range_count; ++i) {
        const dt::Range &r = d.ranges[i];
        for (const std::uint64_t at : {std::uint64_t{0}, std::uint64_t{0x1234}, r.size - 1}) {
            std::uint64_t hpa = 0;
            EXPECT_EQ(b.table.translate(1, r.gpa + at, hpa), Reach::kRam);
            EXPECT_EQ(hpa, r.hpa + at);
        }
        EXPECT_EQ(reach(b, 1, r.gpa + r.size), Reach::kNone);
    }
    const dt::Window windows[] = {{dt::kVtpmBase, dt::kVtpmSize},
                                  {dt::kOwnPageBase, dt::kOwnPageSize},
                                  {dt::kLapicBase, dt::kLapicSize},
                                  {0xB00C'0000, 0x1000}, // 00:18.0 in ECAM
                                  {0xB00C'3000, 0x1000}, // 00:18.3
                                  d.windows[0],
                                  d.windows[1]};
    for (const dt::Window &w : windows) {
        std::uint64_t hpa = 0;
        EXPECT_EQ(b.table.translate(1, w.base, hpa), Reach::kMmio);
        EXPECT_EQ(hpa, w.base);
        EXPECT_EQ(b.table.translate(1, w.base + w.size - 1, hpa), Reach::kMmio);
        EXPECT_EQ(hpa, w.base + w.size - 1);
    }
}

TEST(DomainReach, AsManyFurtherVtpmWindowsAsTheDescriptorHasInstances)
{
    Bench b;
    dt::Descriptor d = good_descriptor(1);
    for (std::uint32_t count = 0; count <= dt::kMaxFurtherVtpms; ++count) {
        b.command(1, Command::kCreate);
        if (count > 0) {
            d.further_vtpms[count - 1] = 20 + count;
        }
        b.write_descriptor(1, d);
        ASSERT_EQ(b.command(1, Command::kSeal), dt::Status::kOk);
        for (std::uint64_t window = 1; window <= 9; ++window) {
            const std::uint64_t base = 0xFED6'0000 + (window - 1) * 0x5000;
            const Reach expected = window <= count ? Reach::kMmio : Reach::kNone;
            EXPECT_EQ(reach(b, 1, base), expected) << window << " of " << count;
            EXPECT_EQ(reach(b, 1, base + 0x4FFF), expected) << window << " of " << count;
        }
        EXPECT_EQ(reach(b, 1, dt::kVtpmWindowsBase - 1), Reach::kNone);
        EXPECT_EQ(reach(b, 2, dt::kVtpmWindowsBase), Reach::kNone);
        b.command(1, Command::kStop);
        ASSERT_EQ(b.command(1, Command::kDelete), dt::Status::kOk);
    }
}

TEST(DomainReach, NothingElse)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    ASSERT_TRUE(b.run(2));
    const dt::Descriptor other = good_descriptor(2);
    for (const std::uint64_t gpa :
         {std::uint64_t{0xA'0000}, dt::kControlBase, dt::kControlBase + 0x1000, dt::kBlackHoleBase,
          dt::kLapicBase + 0x1000, dt::kVtpmBase - 1, std::uint64_t{0xFEC0'0000}, std::uint64_t{0xB000'0000},
          std::uint64_t{0xB00C'1000}, std::uint64_t{0xB00C'4000}, std::uint64_t{0xB00B'F000}, other.ranges[1].hpa,
          other.windows[0].base, other.windows[1].base, std::uint64_t{1} << 46, ~std::uint64_t{0}}) {
        EXPECT_EQ(reach(b, 1, gpa), Reach::kNone) << std::hex << gpa;
    }
    EXPECT_EQ(reach(b, 16, 0), Reach::kNone);
    EXPECT_EQ(reach(b, 0xFFFF'FFFF, 0), Reach::kNone);
}

TEST(DomainReach, LastsFromSealToTheLastExit)
{
    Bench b;
    b.command(1, Command::kCreate);
    b.write_descriptor(1, good_descriptor(1));
    EXPECT_EQ(reach(b, 1, kMib), Reach::kNone);
    EXPECT_EQ(reach(b, 1, dt::kVtpmBase), Reach::kNone);
    b.host.instance = Instance::kBusy;
    b.command(1, Command::kSeal);
    EXPECT_EQ(reach(b, 1, kMib), Reach::kNone) << "its instance is not up yet";
    b.host.instance = Instance::kReady;
    EXPECT_EQ(b.status(1), dt::Status::kOk);
    EXPECT_EQ(reach(b, 1, kMib), Reach::kRam);
    b.start(1, 1);
    EXPECT_EQ(reach(b, 1, kMib), Reach::kRam);
    b.command(1, Command::kStop);
    EXPECT_EQ(reach(b, 1, kMib), Reach::kRam) << "cores are still inside";
    b.table.exit(1, 1, ExitCause::kStopLine);
    EXPECT_EQ(reach(b, 1, kMib), Reach::kNone);
    EXPECT_EQ(reach(b, 1, dt::kVtpmBase), Reach::kNone);
    EXPECT_FALSE(b.table.ram(1, kMib, 1));
    EXPECT_TRUE(b.table.range(1, 0)) << "dirty RAM is still a hole in the host's reach";
    b.command(1, Command::kDelete);
    EXPECT_FALSE(b.table.range(1, 0));
}

TEST(DomainReach, TheHostHasNoReachIntoAClosedDomain)
{
    Bench b;
    dt::Descriptor d = good_descriptor(1);
    d.root_port_count = 2;
    d.root_ports[1] = {0xF8, 99, {}};
    const auto host_reaches = [&](std::uint64_t hpa) {
        std::uint64_t out = 0;
        const Reach found = b.table.translate(0, hpa, out);
        EXPECT_EQ(out, found == Reach::kRam ? hpa : 0);
        return found == Reach::kRam;
    };
    const auto all = [&](bool open) {
        for (std::uint32_t i = 0; i < d.range_count; ++i) {
            EXPECT_EQ(host_reaches(d.ranges[i].hpa), open);
            EXPECT_EQ(host_reaches(d.ranges[i].hpa + d.ranges[i].size - 1), open);
            EXPECT_TRUE(host_reaches(d.ranges[i].hpa - 1));
            EXPECT_TRUE(host_reaches(d.ranges[i].hpa + d.ranges[i].size));
        }
        for (std::uint32_t i = 0; i < d.window_count; ++i) { // its devices could be told to write into its RAM
            EXPECT_EQ(host_reaches(d.windows[i].base), open);
            EXPECT_EQ(host_reaches(d.windows[i].base + d.windows[i].size - 1), open);
        }
        EXPECT_EQ(host_reaches(0xB000'0000 + d.root_ports[0].secondary * kMib + 0x1000), open);
        EXPECT_EQ(host_reaches(0xB000'0000 + d.root_ports[1].secondary * kMib), open) << "a bus without a window";
        EXPECT_TRUE(host_reaches(dt::kControlBase));
        EXPECT_TRUE(host_reaches(0xB000'0000));
        EXPECT_TRUE(host_reaches(0));
        EXPECT_TRUE(host_reaches(~std::uint64_t{0}));
    };
    b.command(1, Command::kCreate);
    b.write_descriptor(1, d);
    all(true);
    b.command(1, Command::kSeal);
    all(false);
    b.start(1, 1);
    all(false);
    b.command(1, Command::kStop);
    all(false);
    b.table.exit(1, 1, ExitCause::kStopLine);
    all(false);
    b.table.reset();
    all(false);
    b.command(1, Command::kDelete);
    all(true);
}

TEST(DomainReach, ABlockOfRamLiesWholeInOneRange)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    const dt::Range r = good_descriptor(1).ranges[1];
    EXPECT_EQ(b.table.ram(1, r.gpa, r.size), r.hpa);
    EXPECT_EQ(b.table.ram(1, r.gpa + r.size - 0x1'0000, 0x1'0000), r.hpa + r.size - 0x1'0000);
    EXPECT_FALSE(b.table.ram(1, r.gpa + r.size - 0x1'0000, 0x1'0001));
    EXPECT_FALSE(b.table.ram(1, 0x9'0000, 0x2'0000)) << "over the legacy hole";
    EXPECT_FALSE(b.table.ram(1, dt::kVtpmBase, 0x1000));
    EXPECT_FALSE(b.table.ram(1, r.gpa, ~std::uint64_t{0}));
    EXPECT_FALSE(b.table.ram(1, r.gpa, 0));
    EXPECT_FALSE(b.table.ram(2, r.gpa, 1));
    EXPECT_FALSE(b.table.ram(16, r.gpa, 1));
}

TEST(DomainReach, TheHostsBlockIsRamOfNoDomain)
{
    Bench b;
    EXPECT_EQ(b.table.ram(0, 0x10'0000, 0x1'0000), 0x10'0000U);
    EXPECT_FALSE(b.table.ram(0, 0x9'8000, 0x1'0000)) << "legacy hole";
    EXPECT_FALSE(b.table.ram(0, 2048 * kMib - 0x8000, 0x1'0000));
    EXPECT_FALSE(b.table.ram(0, 0, 0));
    const dt::Range r = good_descriptor(1).ranges[1];
    EXPECT_TRUE(b.table.ram(0, r.hpa - 0x8000, 0x1'0000));
    ASSERT_EQ(b.seal(1), dt::Status::kOk);
    EXPECT_FALSE(b.table.ram(0, r.hpa - 0x8000, 0x1'0000)) << "its end is domain 1's";
}

TEST(DomainReach, RangesAndRootPortsAreThoseOfClosedDomains)
{
    Bench b;
    const dt::Descriptor d = good_descriptor(3);
    b.command(3, Command::kCreate);
    b.write_descriptor(3, d);
    EXPECT_FALSE(b.table.range(3, 0)) << "a draft";
    EXPECT_EQ(b.table.of_root_port(d.root_ports[0].devfn), 0U);
    EXPECT_EQ(b.table.cores(3), 0U);
    b.command(3, Command::kSeal);
    for (std::uint32_t i = 0; i < 6; ++i) {
        const auto range = b.table.range(3, i);
        ASSERT_EQ(range.has_value(), i < d.range_count);
        if (range) {
            EXPECT_EQ(range->gpa, d.ranges[i].gpa);
            EXPECT_EQ(range->hpa, d.ranges[i].hpa);
            EXPECT_EQ(range->size, d.ranges[i].size);
        }
    }
    EXPECT_FALSE(b.table.range(0, 0));
    for (unsigned devfn = 0; devfn < 256; ++devfn) {
        EXPECT_EQ(b.table.of_root_port(static_cast<std::uint8_t>(devfn)), devfn == d.root_ports[0].devfn ? 3U : 0U);
    }
    EXPECT_EQ(b.table.cores(3), d.core_mask);
    EXPECT_EQ(b.table.instance(3), 3U);
    EXPECT_EQ(b.table.instance(0), 0U);
    EXPECT_EQ(b.table.instance(16), 0U);
    EXPECT_FALSE(b.table.is_closed(0));
    EXPECT_FALSE(b.table.is_closed(16));
}

} // namespace
} // namespace banyan::domain
