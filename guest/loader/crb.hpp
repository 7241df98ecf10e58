// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/loader/hash/digest.hpp"
#include "guest/loader/transport.hpp"

// The TPM's Command Response Buffer. TCG PC Client PTP 1.05, section 6.5.3. Offsets within one locality's page.

namespace banyan::loader {

namespace crb {
inline constexpr std::uint32_t kLocCtrl = 0x08; // u32, as all of them
inline constexpr std::uint32_t kLocSts = 0x0C;
inline constexpr std::uint32_t kCtrlReq = 0x40;
inline constexpr std::uint32_t kCtrlSts = 0x44;
inline constexpr std::uint32_t kCtrlCancel = 0x48;
inline constexpr std::uint32_t kCtrlStart = 0x4C;
inline constexpr std::uint32_t kCmdSize = 0x58;
inline constexpr std::uint32_t kCmdLow = 0x5C;
inline constexpr std::uint32_t kCmdHigh = 0x60;
inline constexpr std::uint32_t kRspSize = 0x64;
inline constexpr std::uint32_t kRspLow = 0x68;
inline constexpr std::uint32_t kRspHigh = 0x6C;
inline constexpr std::uint32_t kBuffer = 0x80; // of command and response, to the end of the page

inline constexpr std::uint32_t kLocCtrlRequestAccess = 1u << 0;
inline constexpr std::uint32_t kLocCtrlRelinquish = 1u << 1;
inline constexpr std::uint32_t kLocCtrlSeize = 1u << 2;
inline constexpr std::uint32_t kLocStsGranted = 1u << 0;
inline constexpr std::uint32_t kCtrlReqCmdReady = 1u << 0;
inline constexpr std::uint32_t kCtrlReqGoIdle = 1u << 1;
inline constexpr std::uint32_t kCtrlStsError = 1u << 0;
inline constexpr std::uint32_t kCtrlStsIdle = 1u << 1;
inline constexpr std::uint32_t kStart = 1u << 0;

inline constexpr std::uint32_t kOnes = 0xFFFF'FFFF; // nobody answers there
} // namespace crb

/// One locality of a TPM. Mmio as Tis has it, and write32(offset, value), address(): of the locality's page.
/// Every wait ends after `polls` looks at a register.
template <typename Mmio>
class Crb {
public:
    Crb(Mmio &mmio, std::uint32_t polls) : mmio_(mmio), polls_(polls) {}

    /// Takes the locality, from a lower one if need be.
    [[nodiscard]] TransportFault request()
    {
        mmio_.write32(crb::kLocCtrl, crb::kLocCtrlRequestAccess);
        if (!reads(crb::kLocSts, crb::kLocStsGranted, crb::kLocStsGranted, polls_ / 16 + 1)) {
            mmio_.write32(crb::kLocCtrl, crb::kLocCtrlSeize);
            if (!reads(crb::kLocSts, crb::kLocStsGranted, crb::kLocStsGranted, polls_)) {
                return TransportFault::kNoGrant;
            }
        }
        // A measurement must not travel through memory that is somebody else's.
        const std::uint64_t buffer = mmio_.address() + crb::kBuffer;
        if (address_at(crb::kCmdLow, crb::kCmdHigh) != buffer || address_at(crb::kRspLow, crb::kRspHigh) != buffer) {
            return TransportFault::kElsewhere;
        }
        return TransportFault::kNone;
    }

    void relinquish() { mmio_.write32(crb::kLocCtrl, crb::kLocCtrlRelinquish); }

    /// Sends a command and receives its response, `size` bytes of `response`.
    [[nodiscard]] TransportFault transmit(Bytes command, std::span<std::uint8_t> response, std::size_t &size)
    {
        TransportFault fault = send(command);
        if (fault == TransportFault::kNone) {
            fault = receive(response, size);
        }
        // To Idle, from where every CRB becomes ready again: the response has been read. Not all have the bypass.
        mmio_.write32(crb::kCtrlReq, crb::kCtrlReqGoIdle);
        if (!reads(crb::kCtrlReq, crb::kCtrlReqGoIdle, 0, polls_) && fault == TransportFault::kNone) {
            fault = TransportFault::kNotReady;
        }
        return fault;
    }

private:
    /// Until the bits of `mask` are `wanted`.
    bool reads(std::uint32_t at, std::uint32_t mask, std::uint32_t wanted, std::uint32_t polls)
    {
        for (; polls != 0; --polls, mmio_.pause()) {
            if (const std::uint32_t value = mmio_.read32(at); value != crb::kOnes && (value & mask) == wanted) {
                return true;
            }
        }
        return false;
    }

    std::uint64_t address_at(std::uint32_t low, std::uint32_t high)
    {
        return std::uint64_t{mmio_.read32(high)} << 32 | mmio_.read32(low);
    }

    TransportFault send(Bytes command)
    {
        mmio_.write32(crb::kCtrlReq, crb::kCtrlReqCmdReady);
        if (!reads(crb::kCtrlReq, crb::kCtrlReqCmdReady, 0, polls_) ||
            !reads(crb::kCtrlSts, crb::kCtrlStsIdle, 0, polls_)) {
            return TransportFault::kNotReady;
        }
        if (command.size() > mmio_.read32(crb::kCmdSize)) {
            return TransportFault::kNoRoom;
        }
        std::uint32_t at = crb::kBuffer;
        for (const std::uint8_t byte : command) {
            mmio_.write8(at++, byte);
        }
        mmio_.write32(crb::kCtrlCancel, 0); // what earlier software may have left
        mmio_.write32(crb::kCtrlStart, crb::kStart);
        return TransportFault::kNone;
    }

    TransportFault receive(std::span<std::uint8_t> response, std::size_t &size)
    {
        if (!reads(crb::kCtrlStart, crb::kStart, 0, polls_)) {
            return TransportFault::kNoAnswer;
        }
        if ((mmio_.read32(crb::kCtrlSts) & crb::kCtrlStsError) != 0) {
            return TransportFault::kFatalError;
        }
        const std::size_t room = std::min<std::size_t>(response.size(), mmio_.read32(crb::kRspSize));
        if (room < kTpmHeader) {
            return TransportFault::kNoRoom;
        }
        copy(response.first(kTpmHeader), 0);
        size = claimed_size(response.data());
        if (size < kTpmHeader || size > room) {
            return TransportFault::kBadAnswer;
        }
        copy(response.first(size).subspan(kTpmHeader), kTpmHeader);
        return TransportFault::kNone;
    }

    void copy(std::span<std::uint8_t> to, std::uint32_t from)
    {
        for (std::uint8_t &byte : to) {
            byte = mmio_.read8(crb::kBuffer + from++);
        }
    }

    Mmio &mmio_;
    std::uint32_t polls_;
};

} // namespace banyan::loader
