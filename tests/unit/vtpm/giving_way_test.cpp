// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/link/giving_way.hpp"

#include <gtest/gtest.h>

namespace banyan::vtpm::testing {
namespace {

constexpr std::uint64_t kNow = 1'000'000'000'000;
constexpr std::uint64_t kLong = GivingWay::kLongNs + 1;

TEST(GivingWay, IsForAFewTurnsOfAWait)
{
    const GivingWay way;
    EXPECT_TRUE(way.may(0, kNow, false));
    EXPECT_TRUE(way.may(GivingWay::kTurnsMax - 1, kNow, false));
    EXPECT_FALSE(way.may(GivingWay::kTurnsMax, kNow, false));
    EXPECT_FALSE(way.may(GivingWay::kTurnsMax, kNow, true));
}

TEST(GivingWay, PausesAfterALongTurnAndNotAfterAShortOne)
{
    GivingWay way;
    way.took(kNow - GivingWay::kLongNs, kNow, false);
    EXPECT_TRUE(way.may(0, kNow, false));
    way.took(kNow - kLong, kNow, false);
    EXPECT_FALSE(way.may(0, kNow + GivingWay::kPauseMinNs - 1, false));
    EXPECT_TRUE(way.may(0, kNow + GivingWay::kPauseMinNs, false));
}

TEST(GivingWay, PausesLongerWhenTheNextTurnIsLongAgain)
{
    GivingWay way;
    std::uint64_t now = kNow;
    std::uint64_t pause = GivingWay::kPauseMinNs;
    for (int round = 0; round < 6; ++round) {
        way.took(now - kLong, now, false);
        EXPECT_FALSE(way.may(0, now + pause - 1, false)) << round;
        now += pause;
        EXPECT_TRUE(way.may(0, now, false)) << round;
        pause = std::min(4 * pause, GivingWay::kPauseMaxNs);
    }
    now += 3 * GivingWay::kPauseMaxNs; // long enough without
    way.took(now - kLong, now, false);
    EXPECT_TRUE(way.may(0, now + GivingWay::kPauseMinNs, false));
}

TEST(GivingWay, GoesOnInACrowd)
{
    GivingWay way;
    way.took(kNow - kLong, kNow, true);
    EXPECT_TRUE(way.may(0, kNow, false)) << "the crowd's turn was long, not somebody else's";
    way.took(kNow - kLong, kNow, false);
    EXPECT_TRUE(way.may(0, kNow, true));
    EXPECT_FALSE(way.may(0, kNow, false));
}

TEST(Crowd, IsMoreThanTheCores)
{
    Crowd crowd(2);
    const Crowd::Member one(crowd);
    const Crowd::Member two(crowd);
    EXPECT_FALSE(crowd.more_than_cores());
    {
        const Crowd::Member three(crowd);
        EXPECT_TRUE(crowd.more_than_cores());
    }
    EXPECT_FALSE(crowd.more_than_cores());
}

} // namespace
} // namespace banyan::vtpm::testing
