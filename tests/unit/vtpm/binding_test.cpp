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
    ASSERT_TRUE(table.bind(0, 0, 0));
    std::set<std::uint64_t> bases{table.base_of(0, 0)};
    for (std::uint32_t i = 1; i < BindingTable::kWindows; ++i) {
        const auto window = table.add_window(i, 0);
        ASSERT_TRUE(window) << i;
        EXPECT_EQ(*window, i);
        const std::uint64_t base = table.base_of(0, i);
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
    ASSERT_TRUE(table.bind(0, 0, 0));
    ASSERT_TRUE(table.add_window(7, 0));
    ASSERT_TRUE(table.bind(3, 0, 5));
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
    ASSERT_TRUE(table.bind(0, 0, 0));
    ASSERT_TRUE(table.add_window(7, 0));
    EXPECT_EQ(table.add_window(7, 0).error(), Errc::kBusy);
    EXPECT_EQ(table.add_window(0, 0).error(), Errc::kBusy);
    EXPECT_EQ(table.bind(1, 0, 7).error(), Errc::kBusy); // no domain gets what the host has behind a window
    ASSERT_TRUE(table.bind(1, 0, 8));
    EXPECT_EQ(table.add_window(8, 0).error(), Errc::kBusy);
    ASSERT_TRUE(table.unbind(1));
    EXPECT_TRUE(table.add_window(8, 0));
    EXPECT_EQ(table.base_of(0, 3), 0U); // what was refused has no place
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
    EXPECT_EQ(table.base_of(0, *window), dt::kVtpmWindowsBase + 0x6000);
}

TEST(Windows, OfADomainLieSideBySideAndMeanItsOwnInstances)
{
    constexpr std::uint8_t kTwo = 3; // domain 2
    BindingTable table;
    ASSERT_TRUE(table.bind(2, 0, 4));
    ASSERT_TRUE(table.bind(2, 1, 5));
    ASSERT_TRUE(table.bind(2, 8, 6));
    ASSERT_TRUE(table.bind(3, 1, 7));
    EXPECT_EQ(table.of_requester(kTwo, 1), 5U);
    EXPECT_EQ(table.of_requester(kTwo, 2), BindingTable::kNone);
    EXPECT_EQ(table.of_requester(kTwo, 8), 6U);
    EXPECT_EQ(table.of_requester(kTwo + 1, 1), 7U);
    EXPECT_EQ(table.base_of(2, 1), 0xFED6'0000U);
    EXPECT_EQ(table.base_of(2, 8), 0xFED6'0000U + 7 * 0x5000);
    EXPECT_EQ(table.base_of(2, 9), 0U);
    EXPECT_EQ(table.bind(2, 9, 10).error(), Errc::kBadArgument);
    EXPECT_EQ(table.bind(0, 1, 10).error(), Errc::kBadArgument) << "the host's have an address";
    EXPECT_EQ(table.bind(4, 0, 6).error(), Errc::kBusy);

    for (const std::uint64_t offset : {0x0, 0x4FFF, 0x5000, 0x27FFF, 0x9FFFF}) {
        const auto place = table.place_of(kTwo, offset);
        EXPECT_EQ(place.window, 1 + offset / 0x5000) << std::hex << offset;
        EXPECT_EQ(place.offset, offset % 0x5000) << std::hex << offset;
    }
    EXPECT_EQ(table.place_of(kTwo, 0xA0000).window, 0U);
    EXPECT_EQ(table.place_of(kTwo, ~std::uint64_t{0}).window, 0U);
    ASSERT_TRUE(table.unbind(2));
    EXPECT_EQ(table.of_requester(kTwo, 8), BindingTable::kNone);
}

TEST(Windows, OfTheHostAreFoundWhereTheyWerePut)
{
    BindingTable table;
    const auto far = table.add_window(1, dt::kVtpmWindowsBase + 0x7000);
    const auto near = table.add_window(2, 0);
    ASSERT_TRUE(far && near);
    EXPECT_EQ(table.place_of(kHost, 0x7000).window, *far);
    EXPECT_EQ(table.place_of(kHost, 0x7123).offset, 0x123U);
    EXPECT_EQ(table.place_of(kHost, 0xBFFF).window, *far);
    EXPECT_EQ(table.place_of(kHost, 0xBFFF).offset, 0x4FFFU);
    EXPECT_EQ(table.place_of(kHost, 0x4FFF).window, *near);
    for (const std::uint64_t beside : {0x5000, 0x6FFF, 0xC000, 0x9FFFF, 0xA0000}) {
        EXPECT_EQ(table.place_of(kHost, beside).window, 0U) << std::hex << beside;
    }
}

TEST(Windows, OfADomainGoWithItsBinding)
{
    BindingTable table;
    ASSERT_TRUE(table.bind(2, 0, 4));
    ASSERT_TRUE(table.unbind(2));
    EXPECT_EQ(table.of_requester(3, 0), BindingTable::kNone);
    EXPECT_TRUE(table.bind(5, 0, 4));
    EXPECT_FALSE(table.bind(BANYAN_MAX_DOMAINS + 1, 0, 6));
    EXPECT_FALSE(table.unbind(BANYAN_MAX_DOMAINS + 1));
}

} // namespace
} // namespace banyan::vtpm::testing
