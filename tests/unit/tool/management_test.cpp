// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/management.hpp"

#include <random>

#include <gtest/gtest.h>

namespace banyan::tool {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes text(std::string_view s)
{
    return {s.begin(), s.end()};
}

TEST(Crc32, IsThatOfIeee)
{
    EXPECT_EQ(crc32(text("123456789")), 0xCBF4'3926u);
    EXPECT_EQ(crc32({}), 0u);
    EXPECT_EQ(crc32(text("56789"), crc32(text("1234"))), 0xCBF4'3926u);
}

Frame sample(std::size_t payload)
{
    return {static_cast<std::uint16_t>(mgmt::Type::kStatus) | mgmt::kResponse, 7, 5, 4, Bytes(payload, 0xA5)};
}

TEST(FrameReader, TakesFramesInAnyPieces)
{
    Bytes stream = encode(sample(0));
    const Bytes second = encode(sample(mgmt::kMaxPayload));
    stream.insert(stream.end(), second.begin(), second.end());
    for (const std::size_t piece : {1u, 3u, 28u, 29u, 5000u}) {
        FrameReader reader;
        std::vector<Frame> frames;
        for (std::size_t at = 0; at < stream.size(); at += piece) {
            reader.feed(std::span(stream).subspan(at, std::min(piece, stream.size() - at)));
            for (auto next = reader.next(); next && *next; next = reader.next()) {
                frames.push_back(**next);
            }
        }
        ASSERT_EQ(frames.size(), 2u) << piece;
        EXPECT_EQ(frames[0].sequence, 7u);
        EXPECT_EQ(frames[0].result, 5u);
        EXPECT_EQ(frames[0].detail, 4u);
        EXPECT_EQ(frames[1].payload, Bytes(mgmt::kMaxPayload, 0xA5));
    }
}

TEST(FrameReader, RefusesEveryFlippedBit)
{
    const Bytes good = encode(sample(5));
    for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
        Bytes bad = good;
        bad[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
        FrameReader reader;
        reader.feed(bad);
        reader.feed(Bytes(mgmt::kMaxPayload, 0)); // in case it waits for a longer payload
        EXPECT_FALSE(reader.next()) << bit;
        EXPECT_FALSE(reader.next()) << "a broken stream stays broken";
        reader.feed(good);
        EXPECT_FALSE(reader.next());
    }
}

TEST(FrameReader, RefusesLengthsBeyondTheLimitBeforeTheyArrive)
{
    Frame frame = sample(0);
    frame.payload.resize(mgmt::kMaxPayload + 1);
    FrameReader reader;
    const Bytes bytes = encode(frame);
    reader.feed(std::span(bytes).first(sizeof(mgmt::Header)));
    const auto next = reader.next();
    ASSERT_FALSE(next);
    EXPECT_NE(next.error().find("4097"), std::string::npos);
}

TEST(FrameReader, SurvivesNoise)
{
    std::mt19937 random(1); // NOLINT: the same noise each time
    for (int round = 0; round < 2000; ++round) {
        Bytes noise = encode(sample(random() % 40));
        for (unsigned i = 0; i < 1 + random() % 4; ++i) {
            noise[random() % noise.size()] = static_cast<std::uint8_t>(random());
        }
        FrameReader reader;
        reader.feed(noise);
        for (auto next = reader.next(); next && *next; next = reader.next()) {
            EXPECT_LE((**next).payload.size(), mgmt::kMaxPayload);
        }
    }
}

} // namespace
} // namespace banyan::tool
