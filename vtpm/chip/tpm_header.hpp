// SPDX-License-Identifier: GPL-2.0-or-later
// The ten bytes that begin every command and response. TPM 2.0 library, part 1, section 18.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace banyan::vtpm {

inline constexpr std::size_t kTpmHeaderSize = 10;
inline constexpr std::size_t kTpmSizeAt = 2; // commandSize, responseSize
inline constexpr std::size_t kTpmCodeAt = 6; // commandCode, responseCode
inline constexpr std::size_t kTpmBufferSize = 4096;

inline constexpr std::uint16_t kTpmStNoSessions = 0x8001;
inline constexpr std::uint16_t kTpmStSessions = 0x8002;
inline constexpr std::uint16_t kTpmStRspCommand = 0x00c4; // tag of the answer to a bad tag

// TPM 2.0 library, part 2, section 6.6.3
enum class TpmRc : std::uint32_t {
    kSuccess = 0,
    kInitialize = 0x100,
    kFailure = 0x101,
    kCommandSize = 0x142,
    kLocality = 0x907,
    kCanceled = 0x909,
    kRetry = 0x922,
    kNvUnavailable = 0x923,
};

[[nodiscard]] constexpr std::uint16_t load_be16(std::span<const std::uint8_t> bytes, std::size_t at)
{
    return static_cast<std::uint16_t>((bytes[at] << 8) | bytes[at + 1]);
}

[[nodiscard]] constexpr std::uint32_t load_be32(std::span<const std::uint8_t> bytes, std::size_t at)
{
    return (static_cast<std::uint32_t>(load_be16(bytes, at)) << 16) | load_be16(bytes, at + 2);
}

/// A command may go to the engine only with this; the engine checks all the rest.
[[nodiscard]] constexpr bool command_header_ok(std::span<const std::uint8_t> command)
{
    return command.size() >= kTpmHeaderSize && command.size() <= kTpmBufferSize &&
           load_be32(command, kTpmSizeAt) == command.size();
}

/// A response may go to the guest only with this.
[[nodiscard]] constexpr bool response_header_ok(std::span<const std::uint8_t> response)
{
    if (response.size() < kTpmHeaderSize || response.size() > kTpmBufferSize) {
        return false;
    }
    const std::uint16_t tag = load_be16(response, 0);
    return (tag == kTpmStNoSessions || tag == kTpmStSessions || tag == kTpmStRspCommand) &&
           load_be32(response, kTpmSizeAt) == response.size();
}

[[nodiscard]] constexpr std::array<std::uint8_t, kTpmHeaderSize> error_response(TpmRc why)
{
    const auto code = static_cast<std::uint32_t>(why);
    return {0x80,
            0x01,
            0,
            0,
            0,
            kTpmHeaderSize,
            static_cast<std::uint8_t>(code >> 24),
            static_cast<std::uint8_t>(code >> 16),
            static_cast<std::uint8_t>(code >> 8),
            static_cast<std::uint8_t>(code)};
}

} // namespace banyan::vtpm
