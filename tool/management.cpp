// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/management.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

namespace banyan::tool {

namespace {

constexpr std::uint32_t kPolynomial = 0xEDB8'8320; // IEEE 802.3, reflected

constexpr std::array<std::uint32_t, 256> make_table()
{
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < table.size(); ++i) {
        std::uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit) {
            value = (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
        }
        table[i] = value;
    }
    return table;
}

constexpr auto kTable = make_table();

std::uint32_t frame_crc(mgmt::Header header, std::span<const std::uint8_t> payload)
{
    header.crc = 0;
    std::array<std::uint8_t, sizeof(header)> raw{};
    std::memcpy(raw.data(), &header, sizeof(header));
    return crc32(payload, crc32(raw));
}

} // namespace

std::uint32_t crc32(std::span<const std::uint8_t> bytes, std::uint32_t seed)
{
    std::uint32_t value = ~seed;
    for (const std::uint8_t byte : bytes) {
        value = (value >> 8) ^ kTable[(value ^ byte) & 0xFF];
    }
    return ~value;
}

std::vector<std::uint8_t> encode(const Frame &frame)
{
    mgmt::Header header{mgmt::kMagic,
                        mgmt::kVersion,
                        frame.type,
                        frame.sequence,
                        frame.result,
                        frame.detail,
                        static_cast<std::uint32_t>(frame.payload.size()),
                        0};
    header.crc = frame_crc(header, frame.payload);
    std::vector<std::uint8_t> bytes(sizeof(header) + frame.payload.size());
    std::memcpy(bytes.data(), &header, sizeof(header));
    std::copy(frame.payload.begin(), frame.payload.end(), bytes.begin() + sizeof(header));
    return bytes;
}

void FrameReader::feed(std::span<const std::uint8_t> bytes)
{
    if (broken_.empty()) {
        buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    }
}

tl::expected<std::optional<Frame>, std::string> FrameReader::next()
{
    const auto broken = [this](std::string why) {
        broken_ = std::move(why);
        buffer_.clear();
        return tl::unexpected<std::string>(broken_);
    };
    if (!broken_.empty()) {
        return tl::unexpected<std::string>(broken_);
    }
    mgmt::Header header{};
    if (buffer_.size() < sizeof(header)) {
        return std::optional<Frame>{};
    }
    std::memcpy(&header, buffer_.data(), sizeof(header));
    if (header.magic != mgmt::kMagic) {
        return broken(fmt::format("a frame begins with 0x{:08x} instead of 0x{:08x}", header.magic, mgmt::kMagic));
    }
    if (header.version != mgmt::kVersion) {
        return broken(fmt::format("a frame is of version {} instead of {}", header.version, mgmt::kVersion));
    }
    if (header.length > mgmt::kMaxPayload) {
        return broken(fmt::format("a frame announces {} bytes, more than {}", header.length, mgmt::kMaxPayload));
    }
    if (buffer_.size() - sizeof(header) < header.length) {
        return std::optional<Frame>{};
    }
    const std::span<const std::uint8_t> payload(buffer_.data() + sizeof(header), header.length);
    if (const std::uint32_t crc = frame_crc(header, payload); crc != header.crc) {
        return broken(fmt::format("a frame's CRC is 0x{:08x}, its bytes give 0x{:08x}", header.crc, crc));
    }
    Frame frame{header.type, header.sequence, header.result, header.detail, {payload.begin(), payload.end()}};
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(sizeof(header) + header.length));
    return std::optional<Frame>(std::move(frame));
}

const char *name_of(mgmt::Result result)
{
    switch (result) {
    case mgmt::Result::kOk:
        return "ok";
    case mgmt::Result::kBadFrame:
        return "bad frame";
    case mgmt::Result::kUnknown:
        return "unknown request";
    case mgmt::Result::kBadField:
        return "a field is out of its range";
    case mgmt::Result::kBadState:
        return "the domain is in the wrong state";
    case mgmt::Result::kRefused:
        return "refused by the domain table";
    case mgmt::Result::kNoModule:
        return "a boot module is missing";
    case mgmt::Result::kNoMemory:
        return "a placement lies outside the VM's memory";
    case mgmt::Result::kNoCore:
        return "a core did not come up";
    }
    return "unknown result";
}

const char *name_of(dt::Status status)
{
    switch (status) {
    case dt::Status::kOk:
        return "ok";
    case dt::Status::kBusy:
        return "busy";
    case dt::Status::kBadState:
        return "bad state";
    case dt::Status::kBadDescriptor:
        return "bad descriptor";
    case dt::Status::kOverlap:
        return "overlaps another domain or the platform";
    case dt::Status::kNoInstance:
        return "vTPM instance not available";
    case dt::Status::kBadDomain:
        return "no such domain";
    }
    return "unknown status";
}

const char *name_of(dt::State state)
{
    switch (state) {
    case dt::State::kEmpty:
        return "empty";
    case dt::State::kBuilding:
        return "building";
    case dt::State::kSealed:
        return "sealed";
    case dt::State::kRunning:
        return "running";
    case dt::State::kStopping:
        return "stopping";
    case dt::State::kDirty:
        return "dirty";
    }
    return "unknown";
}

const char *name_of(dt::EndReason reason)
{
    switch (reason) {
    case dt::EndReason::kNone:
        return "none";
    case dt::EndReason::kPoweroff:
        return "poweroff";
    case dt::EndReason::kReboot:
        return "reboot";
    case dt::EndReason::kShutdown:
        return "shutdown";
    case dt::EndReason::kStopped:
        return "stopped";
    case dt::EndReason::kSibling:
        return "sibling";
    case dt::EndReason::kReset:
        return "reset";
    }
    return "unknown";
}

} // namespace banyan::tool
