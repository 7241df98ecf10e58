// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/loader/crb.hpp"
#include "guest/loader/tis.hpp"

// Whichever interface the TPM has. TCG PC Client PTP 1.05, sections 6.5.2 and 6.5.3: a register at the same place in both
// says which.

namespace banyan::loader {

namespace interface {
inline constexpr std::uint32_t kAccessOrState = 0x00; // u8: TPM_ACCESS or TPM_LOC_STATE
inline constexpr std::uint32_t kId = 0x30;            // u32: TPM_INTERFACE_ID or TPM_CRB_INTF_ID

inline constexpr std::uint8_t kValid = 1u << 7; // tpmRegValidSts, in both: only then the rest means something
inline constexpr std::uint32_t kTypeMask = 0xF;
inline constexpr std::uint32_t kTypeFifo = 0;
inline constexpr std::uint32_t kTypeCrb = 1;
inline constexpr std::uint32_t kTypeTis13 = 0xF; // a FIFO from before that register
} // namespace interface

/// One locality of a TPM, by its FIFO or by its CRB. Mmio as Crb has it.
template <typename Mmio>
class TpmInterface {
public:
    TpmInterface(Mmio &mmio, std::uint32_t polls) : mmio_(mmio), polls_(polls), tis_(mmio, polls), crb_(mmio, polls) {}

    /// Finds out which it is, and takes the locality.
    [[nodiscard]] TransportFault request()
    {
        if (const TransportFault fault = wait_until_valid(); fault != TransportFault::kNone) {
            return fault;
        }
        switch (mmio_.read32(interface::kId) & interface::kTypeMask) {
        case interface::kTypeFifo:
        case interface::kTypeTis13:
            is_crb_ = false;
            return tis_.request();
        case interface::kTypeCrb:
            is_crb_ = true;
            return crb_.request();
        default:
            return TransportFault::kUnknown;
        }
    }

    void relinquish() { is_crb_ ? crb_.relinquish() : tis_.relinquish(); }

    [[nodiscard]] TransportFault transmit(Bytes command, std::span<std::uint8_t> response, std::size_t &size)
    {
        return is_crb_ ? crb_.transmit(command, response, size) : tis_.transmit(command, response, size);
    }

private:
    TransportFault wait_until_valid()
    {
        for (std::uint32_t left = polls_; left != 0; --left, mmio_.pause()) {
            const std::uint8_t state = mmio_.read8(interface::kAccessOrState);
            if (state == 0xFF) {
                return TransportFault::kAbsent;
            }
            if ((state & interface::kValid) != 0) {
                return TransportFault::kNone;
            }
        }
        return TransportFault::kNotValid;
    }

    Mmio &mmio_;
    std::uint32_t polls_;
    Tis<Mmio> tis_;
    Crb<Mmio> crb_;
    bool is_crb_ = false;
};

} // namespace banyan::loader
