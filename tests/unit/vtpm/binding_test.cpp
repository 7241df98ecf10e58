// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/manager/binding.hpp"

#include <set>

#include <gtest/gtest.h>

namespace banyan::vtpm::testing {
namespace {

constexpr std::uint8_t kHost = 1; // requester: domain + 1

TEST(Windows, LieOneBehindTheOtherAndMeetNobody)
{
    BindingTable table;
    ASSERT_TRUE(table.bind(0, 0));
    std::set<std::uint64_t> bases{table.base_of(0)};
    for (std::uint32_t i = 1; i < BindingTable::kWindows; ++i) {
        const auto window = table.add_window(i, 0);
        ASSERT_TRUE(window) << i;
        EXPECT_EQ(*window, i);
        const std::uint64_t base = table.base_of(i);
        EXPECT_GE(base, dt::kBlackHoleBase + dt::kBlackHoleSize);
        EXPECT_LE(base + dt::kVtpmSize, dt::kLapicBase);
        for (const std::uint64_t other : bases) {
            EXPECT_TRUE(base >= other + dt::kVtpmSize || other >= base + dt::kVtpmSize);
        }
        bases.insert(base);
    }
    EXPECT_EQ(table.add_window(63, 0).error(), Errc::kNoSpace);
}

TEST(Windows, SelectTheirOwnInstanceForTheHostAndNothingForAnybodyElse)
{
    BindingTable table;
    ASSERT_TRUE(table.bind(0, 0));
    ASSERT_TRUE(table.add_window(7, 0));
    ASSERT_TRUE(table.bind(3, 5));
    EXPECT_EQ(table.of_requester(kHost, 0), 0U);
    EXPECT_EQ(table.of_requester(kHost, 1), 7U);
    EXPECT_EQ(table.of_requester(kHost, 2), BindingTable::kNone);
    EXPECT_EQ(table.of_requester(kHost, BindingTable::kWindows), BindingTable::kNone);
    EXPECT_EQ(table.of_requester(0, 1), BindingTable::kNone);
    for (std::uint32_t requester = 2; requester < 256; ++requester) {
        EXPECT_EQ(table.of_requester(static_cast<std::uint8_t>(requester), 1), BindingTable::kNone);
    }
    EXPECT_EQ(table.of_requester(4, 0), 5U);
}

TEST(Windows, ShareNoInstance)
{
    BindingTable table;
    ASSERT_TRUE(table.bind(0, 0));
    ASSERT_TRUE(table.add_window(7, 0));
    EXPECT_EQ(table.add_window(7, 0).error(), Errc::kBusy);
    EXPECT_EQ(table.add_window(0, 0).error(), Errc::kBusy);
    EXPECT_EQ(table.bind(1, 7).error(), Errc::kBusy); // no domain gets what the host has behind a window
    ASSERT_TRUE(table.bind(1, 8));
    EXPECT_EQ(table.add_window(8, 0).error(), Errc::kBusy);
    ASSERT_TRUE(table.unbind(1));
    EXPECT_TRUE(table.add_window(8, 0));
    EXPECT_EQ(table.base_of(3), 0U); // what was refused has no place
}

TEST(Windows, LieOnlyWhereTheMapHasRoomForThem)
{
    BindingTable table;
    EXPECT_TRUE(table.add_window(1, dt::kVtpmWindowsEnd - dt::kVtpmSize));
    EXPECT_TRUE(table.add_window(2, dt::kVtpmWindowsBase + 0x1000));
    for (const std::uint64_t address :
         {dt::kVtpmBase, dt::kOwnPageBase, dt::kVtpmWindowsBase - dt::kPageSize, dt::kVtpmWindowsBase + 1,
          dt::kVtpmWindowsBase, dt::kVtpmWindowsBase + 0x5000, dt::kVtpmWindowsEnd - dt::kVtpmSize + dt::kPageSize,
          dt::kVtpmWindowsEnd - 2 * dt::kPageSize, dt::kLapicBase, std::uint64_t{0x1000}, ~std::uint64_t{0xfff}}) {
        EXPECT_EQ(table.add_window(3, address).error(), Errc::kBadArgument) << std::hex << address;
    }
    const auto window = table.add_window(3, 0); // the first place clear of those
    ASSERT_TRUE(window);
    EXPECT_EQ(table.base_of(*window), dt::kVtpmWindowsBase + 0x6000);
}

TEST(Windows, OfADomainGoWithItsBinding)
{
    BindingTable table;
    ASSERT_TRUE(table.bind(2, 4));
    ASSERT_TRUE(table.unbind(2));
    EXPECT_EQ(table.of_requester(3, 0), BindingTable::kNone);
    EXPECT_TRUE(table.bind(5, 4));
    EXPECT_FALSE(table.bind(BANYAN_MAX_DOMAINS + 1, 6));
    EXPECT_FALSE(table.unbind(BANYAN_MAX_DOMAINS + 1));
}

} // namespace
} // namespace banyan::vtpm::testing
