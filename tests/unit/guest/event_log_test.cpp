// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/event_log.hpp"

#include <cstdint>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "banyan/arch/boot_info.hpp"

namespace banyan::loader {
namespace {

constexpr std::size_t kHeader = 32 + 41; // TCG_PCR_EVENT, and a Spec ID event of three algorithms without vendor data
constexpr std::size_t kSkinitEvent = 12 + 22 + 34 + 50 + 4 + 6;

std::uint32_t word(const std::vector<std::uint8_t> &bytes, std::size_t at)
{
    std::uint32_t value = 0;
    std::memcpy(&value, bytes.data() + at, 4);
    return value;
}

Digests marked_digests()
{
    Digests digests{};
    digests.sha1.fill(0x11);
    digests.sha256.fill(0x22);
    digests.sha384.fill(0x33);
    return digests;
}

TEST(EventLog, BeginsWithTheSpecIdEventOfThreeAlgorithms)
{
    std::vector<std::uint8_t> area(1024, 0xEE);
    const EventLog log(area);
    EXPECT_EQ(word(area, 0), 0u); // PCR
    EXPECT_EQ(word(area, 4), 3u); // EV_NO_ACTION
    EXPECT_EQ(word(area, 28), log.size() - 32);
    EXPECT_EQ(std::memcmp(area.data() + 32, "Spec ID Event03\0", 16), 0);
    const std::vector<std::uint8_t> rest(area.begin() + 48, area.begin() + static_cast<std::ptrdiff_t>(log.size()));
    const std::vector<std::uint8_t> expected{0, 0,  0, 0,   0, 2,  0, 2,   3, 0,  0, 0, 4,
                                             0, 20, 0, 0xB, 0, 32, 0, 0xC, 0, 48, 0, 0};
    EXPECT_EQ(rest, expected);
    EXPECT_EQ(log.size(), kHeader);
}

TEST(EventLog, ZeroesWhatItHasNotWritten)
{
    std::vector<std::uint8_t> area(1024, 0xEE);
    const EventLog log(area);
    for (std::size_t i = log.size(); i < area.size(); ++i) {
        ASSERT_EQ(area[i], 0) << i;
    }
}

TEST(EventLog, AnEventHoldsPcrTypeDigestsAndText)
{
    std::vector<std::uint8_t> area(1024, 0);
    EventLog log(area);
    const std::size_t at = log.size();
    ASSERT_TRUE(log.append(boot::kPcrCode, boot::kEventSkinit, marked_digests(), boot::kTextSkinit));
    EXPECT_EQ(log.size(), at + kSkinitEvent);
    EXPECT_EQ(word(area, at), 17u);
    EXPECT_EQ(word(area, at + 4), 0x502u);
    EXPECT_EQ(word(area, at + 8), 3u);
    EXPECT_EQ(area[at + 12], 4);
    EXPECT_EQ(area[at + 14], 0x11);
    EXPECT_EQ(area[at + 34], 0xB);
    EXPECT_EQ(area[at + 36], 0x22);
    EXPECT_EQ(area[at + 68], 0xC);
    EXPECT_EQ(area[at + 70], 0x33);
    EXPECT_EQ(word(area, at + 118), 6u);
    EXPECT_EQ(std::memcmp(area.data() + at + 122, "SKINIT", 6), 0);
}

TEST(EventLog, RefusesWhatDoesNotFitAndStaysAsItWas)
{
    std::vector<std::uint8_t> area(kHeader + kSkinitEvent + kSkinitEvent - 1, 0);
    EventLog log(area);
    ASSERT_TRUE(log.append(17, 1, marked_digests(), "SKINIT"));
    const auto before = area;
    EXPECT_FALSE(log.append(17, 1, marked_digests(), "SKINIT"));
    EXPECT_EQ(area, before);
    EXPECT_EQ(log.size(), kHeader + kSkinitEvent);
}

TEST(EventLog, AnAreaTooSmallForTheHeaderTakesNothing)
{
    std::vector<std::uint8_t> area(kHeader - 1, 0xEE);
    EventLog log(area);
    EXPECT_EQ(log.size(), 0u);
    EXPECT_FALSE(log.append(17, 1, marked_digests(), ""));
}

} // namespace
} // namespace banyan::loader
