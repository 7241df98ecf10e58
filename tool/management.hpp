// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <tl/expected.hpp>

#include "banyan/arch/management.hpp"

// Frames of the management protocol (include/banyan/arch/management.hpp), the caller's side.

namespace banyan::tool {

/// CRC-32 of IEEE 802.3, as zlib computes it. `seed` continues an earlier one.
std::uint32_t crc32(std::span<const std::uint8_t> bytes, std::uint32_t seed = 0);

struct Frame {
    std::uint16_t type = 0; // mgmt::Type, with mgmt::kResponse where it is one
    std::uint32_t sequence = 0;
    std::uint32_t result = 0;
    std::uint32_t detail = 0;
    std::vector<std::uint8_t> payload;
};

std::vector<std::uint8_t> encode(const Frame &frame);

/// Cuts a byte stream into frames. What it is fed is not trusted: a frame that does not check out ends the stream,
/// for after it nobody knows where the next begins.
class FrameReader {
public:
    void feed(std::span<const std::uint8_t> bytes);

    /// The next whole frame, nothing when more bytes are needed, or what is wrong.
    tl::expected<std::optional<Frame>, std::string> next();

private:
    std::vector<std::uint8_t> buffer_;
    std::string broken_;
};

// For messages.
const char *name_of(mgmt::Result result);
const char *name_of(dt::Status status);
const char *name_of(dt::State state);
const char *name_of(dt::EndReason reason);

} // namespace banyan::tool
