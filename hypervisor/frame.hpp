// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>

#include "banyan/arch/management.hpp"

// Frames of the management protocol: docs/spec/management.md.

namespace banyan::hv {

struct Frame {
    mgmt::Header header;
    alignas(8) std::uint8_t payload[mgmt::kMaxPayload];

    template <typename T>
    [[nodiscard]] T as() const
    {
        T value;
        __builtin_memcpy(&value, payload, sizeof value);
        return value;
    }

    template <typename T>
    void set(const T &value)
    {
        __builtin_memcpy(payload, &value, sizeof value);
        header.length = sizeof value;
    }
};

/// CRC-32 of IEEE 802.3; `crc` is the result over the bytes before.
[[nodiscard]] constexpr std::uint32_t crc32(const std::uint8_t *bytes, std::size_t size, std::uint32_t crc = 0)
{
    crc = ~crc;
    for (std::size_t i = 0; i < size; ++i) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; ++bit) {
            crc = crc >> 1 ^ (0xEDB8'8320 & (0 - (crc & 1)));
        }
    }
    return ~crc;
}

[[nodiscard]] inline std::uint32_t frame_crc(const Frame &frame)
{
    mgmt::Header header = frame.header;
    header.crc = 0;
    std::uint8_t bytes[sizeof header];
    __builtin_memcpy(bytes, &header, sizeof header);
    return crc32(frame.payload, frame.header.length, crc32(bytes, sizeof bytes));
}

/// What can be said before the payload and the CRC have come.
[[nodiscard]] constexpr bool header_is_valid(const mgmt::Header &header)
{
    return header.magic == mgmt::kMagic && header.version == mgmt::kVersion && header.result == 0 &&
           header.detail == 0 && header.length <= mgmt::kMaxPayload;
}

// ---- 16550 registers at the first serial port -----------------------------------------------------------------------

namespace uart {
inline constexpr std::uint16_t kBase = 0x3F8;
inline constexpr std::uint16_t kData = kBase;                // divisor, low byte, while DLAB is set
inline constexpr std::uint16_t kInterruptEnable = kBase + 1; // divisor, high byte
inline constexpr std::uint16_t kFifoControl = kBase + 2;
inline constexpr std::uint16_t kLineControl = kBase + 3;
inline constexpr std::uint16_t kModemControl = kBase + 4;
inline constexpr std::uint16_t kLineStatus = kBase + 5;
inline constexpr std::uint8_t kDlab = 0x80;
inline constexpr std::uint8_t kEightBits = 0x03;
inline constexpr std::uint8_t kFifoOnAndEmpty = 0xC7; // trigger level 14: QEMU delivers that many bytes at once
inline constexpr std::uint8_t kDtrRtsOut2 = 0x0B;     // OUT2 lets the interrupt through
inline constexpr std::uint8_t kReceiveInterrupt = 0x01;
inline constexpr std::uint8_t kDataReady = 0x01;
inline constexpr std::uint8_t kTransmitEmpty = 0x20;
} // namespace uart

/// Frames over the serial port. Machine: in8, out8, idle (returns when bytes come, and after 10 ms).
template <typename Machine>
class Channel {
public:
    explicit Channel(Machine &machine) : machine_{machine}
    {
        machine_.out8(uart::kLineControl, uart::kDlab | uart::kEightBits);
        machine_.out8(uart::kData, 1);            // 115200
        machine_.out8(uart::kInterruptEnable, 0); // divisor, high byte
        machine_.out8(uart::kLineControl, uart::kEightBits);
        machine_.out8(uart::kFifoControl, uart::kFifoOnAndEmpty);
        machine_.out8(uart::kModemControl, uart::kDtrRtsOut2);
        machine_.out8(uart::kInterruptEnable, uart::kReceiveInterrupt); // ends idle()
    }

    /// Waits for a frame. False: what came is none, and the line has been quiet since; the header says what is known.
    [[nodiscard]] bool receive(Frame &frame)
    {
        std::uint8_t bytes[sizeof frame.header];
        frame.header = {};
        while (!get(bytes[0], kFrameTicks)) {
        }
        bool good = get(bytes + 1, sizeof bytes - 1);
        if (good) {
            __builtin_memcpy(&frame.header, bytes, sizeof bytes);
            good = header_is_valid(frame.header) && get(frame.payload, frame.header.length) &&
                   frame_crc(frame) == frame.header.crc;
        }
        if (!good) {
            while (get(bytes[0], kQuietTicks)) {
            }
        }
        return good;
    }

    /// Sends header and payload; fills in magic, version and CRC.
    void send(Frame &frame)
    {
        frame.header.magic = mgmt::kMagic;
        frame.header.version = mgmt::kVersion;
        frame.header.crc = frame_crc(frame);
        std::uint8_t bytes[sizeof frame.header];
        __builtin_memcpy(bytes, &frame.header, sizeof bytes);
        put(bytes, sizeof bytes);
        put(frame.payload, frame.header.length);
    }

private:
    static constexpr unsigned kPolls = 32;       // before the core sleeps
    static constexpr unsigned kFrameTicks = 100; // a frame that stalls this long is none
    static constexpr unsigned kQuietTicks = 3;

    [[nodiscard]] bool ready(std::uint8_t bit) { return (machine_.in8(uart::kLineStatus) & bit) != 0; }

    [[nodiscard]] bool get(std::uint8_t &byte, unsigned ticks)
    {
        for (unsigned poll = 0; !ready(uart::kDataReady); ++poll) {
            if (poll >= kPolls + ticks) {
                return false;
            }
            if (poll >= kPolls) {
                machine_.idle();
            }
        }
        byte = machine_.in8(uart::kData);
        return true;
    }

    [[nodiscard]] bool get(std::uint8_t *bytes, std::size_t size)
    {
        for (std::size_t i = 0; i < size; ++i) {
            if (!get(bytes[i], kFrameTicks)) {
                return false;
            }
        }
        return true;
    }

    /// The other end may be slow; core 0 has nothing else to do than to wait.
    void put(const std::uint8_t *bytes, std::size_t size)
    {
        for (std::size_t i = 0; i < size; ++i) {
            for (unsigned poll = 0; !ready(uart::kTransmitEmpty); ++poll) {
                if (poll >= kPolls) {
                    machine_.idle();
                }
            }
            machine_.out8(uart::kData, bytes[i]);
        }
    }

    Machine &machine_;
};

} // namespace banyan::hv
