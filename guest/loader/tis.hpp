// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/loader/hash/digest.hpp"
#include "guest/loader/transport.hpp"

// The TPM's FIFO interface. TCG PC Client PTP 1.05, section 6.5.2. Offsets within one locality's page.

namespace banyan::loader {

namespace tis {
inline constexpr std::uint32_t kAccess = 0x00; // u8
inline constexpr std::uint32_t kSts = 0x18;    // u32: status in byte 0, burst count in bytes 1 and 2
inline constexpr std::uint32_t kFifo = 0x24;   // u8

inline constexpr std::uint8_t kAccessValid = 1u << 7;
inline constexpr std::uint8_t kAccessActive = 1u << 5; // written: relinquish
inline constexpr std::uint8_t kAccessSeize = 1u << 3;
inline constexpr std::uint8_t kAccessRequestUse = 1u << 1;

inline constexpr std::uint8_t kStsValid = 1u << 7;
inline constexpr std::uint8_t kStsCommandReady = 1u << 6;
inline constexpr std::uint8_t kStsGo = 1u << 5;
inline constexpr std::uint8_t kStsDataAvail = 1u << 4;
inline constexpr std::uint8_t kStsExpect = 1u << 3;
} // namespace tis

/// One locality of a TPM. Mmio: read8(offset), read32(offset), write8(offset, value), pause().
/// Every wait ends after `polls` looks at a register; there is no clock here.
template <typename Mmio>
class Tis {
public:
    Tis(Mmio &mmio, std::uint32_t polls) : mmio_(mmio), polls_(polls) {}

    /// Takes the locality, from a lower one if need be.
    [[nodiscard]] TransportFault request()
    {
        mmio_.write8(tis::kAccess, tis::kAccessRequestUse);
        if (granted(polls_ / 16 + 1)) {
            return TransportFault::kNone;
        }
        mmio_.write8(tis::kAccess, tis::kAccessSeize);
        return granted(polls_) ? TransportFault::kNone : TransportFault::kNoGrant;
    }

    void relinquish() { mmio_.write8(tis::kAccess, tis::kAccessActive); }

    /// Sends a command and receives its response, `size` bytes of `response`.
    [[nodiscard]] TransportFault transmit(Bytes command, std::span<std::uint8_t> response, std::size_t &size)
    {
        TransportFault fault = send(command);
        if (fault == TransportFault::kNone) {
            fault = receive(response, size);
        }
        mmio_.write8(tis::kSts, tis::kStsCommandReady); // to idle; the answer, if any, has been read
        return fault;
    }

private:
    bool granted(std::uint32_t polls)
    {
        for (; polls != 0; --polls, mmio_.pause()) {
            const std::uint8_t access = mmio_.read8(tis::kAccess);
            if (access != 0xFF && (access & tis::kAccessValid) != 0 && (access & tis::kAccessActive) != 0) {
                return true;
            }
        }
        return false;
    }

    bool wait(std::uint8_t mask)
    {
        for (std::uint32_t left = polls_; left != 0; --left, mmio_.pause()) {
            if ((status() & mask) == mask) {
                return true;
            }
        }
        return false;
    }

    /// Bytes that the FIFO takes or gives now; 0 when none came within the bound.
    std::uint32_t burst()
    {
        for (std::uint32_t left = polls_; left != 0; --left, mmio_.pause()) {
            if (const std::uint32_t count = mmio_.read32(tis::kSts) >> 8 & 0xFFFF; count != 0 && count != 0xFFFF) {
                return count;
            }
        }
        return 0;
    }

    std::uint8_t status() { return static_cast<std::uint8_t>(mmio_.read32(tis::kSts)); }

    TransportFault send(Bytes command)
    {
        mmio_.write8(tis::kSts, tis::kStsCommandReady);
        if (!wait(tis::kStsCommandReady)) {
            return TransportFault::kNotReady;
        }
        while (!command.empty()) {
            std::uint32_t room = burst();
            if (room == 0) {
                return TransportFault::kNoBurst;
            }
            for (; room != 0 && !command.empty(); --room, command = command.subspan(1)) {
                mmio_.write8(tis::kFifo, command.front());
            }
            if (!wait(tis::kStsValid)) {
                return TransportFault::kNotReady;
            }
            const bool more = (status() & tis::kStsExpect) != 0;
            if (more != !command.empty()) {
                return more ? TransportFault::kTooLate : TransportFault::kTooEarly;
            }
        }
        mmio_.write8(tis::kSts, tis::kStsGo);
        return TransportFault::kNone;
    }

    TransportFault receive(std::span<std::uint8_t> response, std::size_t &size)
    {
        if (!wait(tis::kStsValid | tis::kStsDataAvail)) {
            return TransportFault::kNoAnswer;
        }
        size = kTpmHeader;
        for (std::size_t got = 0; got < size;) {
            std::uint32_t available = burst();
            if (available == 0) {
                return TransportFault::kNoBurst;
            }
            for (; available != 0 && got < size; --available) {
                response[got++] = mmio_.read8(tis::kFifo);
                if (got == kTpmHeader) {
                    size = claimed_size(response.data());
                    if (size < kTpmHeader || size > response.size()) {
                        return TransportFault::kBadAnswer;
                    }
                }
            }
        }
        return TransportFault::kNone;
    }

    Mmio &mmio_;
    std::uint32_t polls_;
};

} // namespace banyan::loader
