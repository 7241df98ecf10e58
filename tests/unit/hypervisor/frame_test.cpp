// SPDX-License-Identifier: GPL-2.0-or-later
#include "hypervisor/frame.hpp"

#include <cstddef>
#include <cstring>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/hypervisor/fake_machine.hpp"

namespace banyan::hv::test {
namespace {

void type(FakeMachine &machine, const std::vector<std::uint8_t> &bytes)
{
    machine.line.insert(machine.line.end(), bytes.begin(), bytes.end());
}

Frame good_frame()
{
    const mgmt::DomainRequest payload{3, 1};
    return request_frame(mgmt::Type::kDelete, &payload, sizeof payload);
}

TEST(Crc32, IsThatOfIeee802)
{
    constexpr std::string_view kCheck = "123456789";
    EXPECT_EQ(crc32(reinterpret_cast<const std::uint8_t *>(kCheck.data()), kCheck.size()), 0xCBF4'3926u);
}

TEST(Crc32, CanBeTakenInPieces)
{
    const std::uint8_t bytes[] = {1, 2, 3, 4, 5};
    EXPECT_EQ(crc32(bytes + 2, 3, crc32(bytes, 2)), crc32(bytes, 5));
}

TEST(Channel, ReceivesAFrame)
{
    FakeMachine machine;
    Channel channel{machine};
    type(machine, bytes_of(good_frame()));
    Frame frame{};
    ASSERT_TRUE(channel.receive(frame));
    EXPECT_EQ(frame.header.sequence, 77u);
    EXPECT_EQ(frame.as<mgmt::DomainRequest>().domain, 3u);
}

TEST(Channel, ReceivesOneFrameAfterAnother)
{
    FakeMachine machine;
    Channel channel{machine};
    type(machine, bytes_of(good_frame()));
    type(machine, bytes_of(good_frame()));
    Frame frame{};
    EXPECT_TRUE(channel.receive(frame));
    EXPECT_TRUE(channel.receive(frame));
    EXPECT_TRUE(machine.line.empty());
}

TEST(Channel, SendsWhatItReceives)
{
    FakeMachine machine;
    Channel channel{machine};
    Frame frame = good_frame();
    channel.send(frame);
    EXPECT_EQ(machine.sent, bytes_of(good_frame()));
}

TEST(Channel, SleepsWhileNothingComes)
{
    FakeMachine machine;
    Channel channel{machine};
    type(machine, {0x42});
    Frame frame{};
    EXPECT_FALSE(channel.receive(frame)); // one byte, then silence
    EXPECT_GE(machine.ticks, 100u);
    EXPECT_EQ(frame.header.sequence, 0u);
}

// Every single changed byte of header and payload: no frame, and the next good one is received.
TEST(Channel, RefusesAFrameWithAnyByteChanged)
{
    const std::vector<std::uint8_t> good = bytes_of(good_frame());
    for (std::size_t i = 0; i < good.size(); ++i) {
        for (const std::uint8_t flip : {0x01, 0x80, 0xFF}) {
            FakeMachine machine;
            Channel channel{machine};
            std::vector<std::uint8_t> bad = good;
            bad[i] ^= flip;
            type(machine, bad);
            Frame frame{};
            EXPECT_FALSE(channel.receive(frame)) << "byte " << i;
            EXPECT_TRUE(machine.line.empty());
            type(machine, good);
            EXPECT_TRUE(channel.receive(frame)) << "after byte " << i;
        }
    }
}

TEST(Channel, RefusesAFrameCutAnywhere)
{
    const std::vector<std::uint8_t> good = bytes_of(good_frame());
    for (std::size_t size = 1; size < good.size(); ++size) {
        FakeMachine machine;
        Channel channel{machine};
        type(machine, {good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)});
        Frame frame{};
        EXPECT_FALSE(channel.receive(frame)) << size;
    }
}

TEST(Channel, RefusesWhatAHeaderMustNotSayEvenWithARightCrc)
{
    const auto refused = [](auto change) {
        FakeMachine machine;
        Channel channel{machine};
        Frame frame = good_frame();
        change(frame.header);
        const std::uint32_t length = frame.header.length;
        frame.header.length = std::min<std::uint32_t>(length, mgmt::kMaxPayload);
        frame.header.crc = 0;
        Frame whole = frame;
        whole.header.length = length;
        whole.header.crc = 0;
        std::vector<std::uint8_t> bytes(sizeof whole.header + length);
        std::memcpy(bytes.data(), &whole.header, sizeof whole.header);
        std::memcpy(bytes.data() + sizeof whole.header, frame.payload, frame.header.length);
        const std::uint32_t crc = crc32(bytes.data(), bytes.size());
        std::memcpy(bytes.data() + offsetof(mgmt::Header, crc), &crc, sizeof crc);
        type(machine, bytes);
        return !channel.receive(frame);
    };
    EXPECT_FALSE(refused([](mgmt::Header &) {}));
    EXPECT_TRUE(refused([](mgmt::Header &h) { h.magic = mgmt::kMagic + 1; }));
    EXPECT_TRUE(refused([](mgmt::Header &h) { h.version = 0; }));
    EXPECT_TRUE(refused([](mgmt::Header &h) { h.version = mgmt::kVersion + 1; }));
    EXPECT_TRUE(refused([](mgmt::Header &h) { h.result = 1; }));
    EXPECT_TRUE(refused([](mgmt::Header &h) { h.detail = 1; }));
    EXPECT_TRUE(refused([](mgmt::Header &h) { h.length = mgmt::kMaxPayload + 1; }));
    EXPECT_FALSE(refused([](mgmt::Header &h) { h.length = mgmt::kMaxPayload; }));
}

} // namespace
} // namespace banyan::hv::test
