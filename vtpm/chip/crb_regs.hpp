// SPDX-License-Identifier: GPL-2.0-or-later
// Registers of the Command Response Buffer. TCG PC Client Platform TPM Profile (PTP) 1.05, section 6.5.3 and table 35.
// Facts of the specification only; behaviour is in crb_interface.cpp.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "banyan/base/field.hpp"
#include "banyan/base/reg_file.hpp"
#include "vtpm/chip/locality.hpp"

namespace banyan::vtpm::crb {

using Word = std::uint32_t;

inline constexpr std::uint64_t kWindowBase = 0xfed4'0000; // where the profile puts the TPM
inline constexpr std::uint32_t kDataBufferAt = 0x080;
inline constexpr std::size_t kDataBufferSize = kPageSize - kDataBufferAt;

enum class Reg : std::uint16_t {
    kLocState = 0x000, // the same in every locality
    kLocCtrl = 0x008,
    kLocSts = 0x00c,
    kIntfId = 0x030, // 64 bits: two words
    kIntfIdHigh = 0x034,
    kCtrlReq = 0x040,
    kCtrlSts = 0x044,
    kCtrlCancel = 0x048,
    kCtrlStart = 0x04c,
    kIntEnable = 0x050,
    kIntSts = 0x054,
    kCtrlCmdSize = 0x058,
    kCtrlCmdLaddr = 0x05c,
    kCtrlCmdHaddr = 0x060,
    kCtrlRspSize = 0x064,
    kCtrlRspAddr = 0x068, // 64 bits: two words
    kCtrlRspAddrHigh = 0x06c,
    kDataBuffer = kDataBufferAt,
};

// TPM_LOC_STATE
struct LocState {
    using TpmEstablished = Field<Word, 0, 0, bool>; // as TPM_ACCESS.tpmEstablishment, 0: a D-RTM sequence happened
    using LocAssigned = Field<Word, 1, 1, bool>;
    using ActiveLocality = Field<Word, 2, 4>; // meaningful with locAssigned
    using TpmRegValidSts = Field<Word, 7, 7, bool>;
};

// TPM_LOC_CTRL_x, write only
struct LocCtrl {
    using RequestAccess = Field<Word, 0, 0, bool>;
    using Relinquish = Field<Word, 1, 1, bool>;
    using Seize = Field<Word, 2, 2, bool>;
    using ResetEstablishmentBit = Field<Word, 3, 3, bool>; // localities 3 and 4
};

// TPM_LOC_STS_x
struct LocSts {
    using Granted = Field<Word, 0, 0, bool>;
    using BeenSeized = Field<Word, 1, 1, bool>;
};

// TPM_CRB_INTF_ID_x, lower word; the upper is vendor and device
struct IntfId {
    using InterfaceType = Field<Word, 0, 3>;            // 1: CRB active
    using InterfaceVersion = Field<Word, 4, 7>;         // 1: CRB
    using CapLocality = Field<Word, 8, 8, bool>;        // 1: five localities
    using CapCrbIdleBypass = Field<Word, 9, 9, bool>;   // 1: Completion leads to Reception without Idle
    using CapDataXferSizeSupport = Field<Word, 11, 12>; // 3: 64 bytes
    using CapFifo = Field<Word, 13, 13, bool>;
    using CapCrb = Field<Word, 14, 14, bool>;
    using InterfaceSelector = Field<Word, 17, 18>; // 1: CRB
    using IntfSelLock = Field<Word, 19, 19, bool>;
    using Rid = Field<Word, 24, 31>;
};

// TPM_CRB_CTRL_REQ_x
struct CtrlReq {
    using CmdReady = Field<Word, 0, 0, bool>; // cleared by the TPM when it is done
    using GoIdle = Field<Word, 1, 1, bool>;
};

// TPM_CRB_CTRL_STS_x
struct CtrlSts {
    using TpmSts = Field<Word, 0, 0, bool>; // 1: fatal error
    using TpmIdle = Field<Word, 1, 1, bool>;
};

// TPM_CRB_CTRL_CANCEL_x, TPM_CRB_CTRL_START_x
struct CtrlCancel {
    using Cancel = Field<Word, 0, 0, bool>;
};
struct CtrlStart {
    using Start = Field<Word, 0, 0, bool>; // cleared by the TPM when the response is there
};

// TPM_CRB_INT_ENABLE_x; TPM_CRB_INT_STS_x has the causes at the same places, a write of 1 clears
struct IntEnable {
    using Start = Field<Word, 0, 0, bool>;
    using CmdReady = Field<Word, 1, 1, bool>;
    using EstablishmentClear = Field<Word, 2, 2, bool>;
    using LocalityChange = Field<Word, 3, 3, bool>;
    using GlobalInterruptEnable = Field<Word, 31, 31, bool>;
};

inline constexpr Word kInterfaceTypeCrb = 1;
inline constexpr Word kInterfaceVersionCrb = 1;
inline constexpr Word kInterfaceSelectorCrb = 1;
inline constexpr Word kTransfer64 = 3;
inline constexpr Word kIntCauses = IntEnable::Start::kMask | IntEnable::CmdReady::kMask |
                                   IntEnable::EstablishmentClear::kMask | IntEnable::LocalityChange::kMask;

struct RegSpec {
    Reg reg;
    std::string_view name; // the specification's own
    std::uint16_t size;    // bytes that decode to it
    bool active_only;      // other localities read ones, their writes vanish
    Word reset;            // read at locality 0 after power-on (active_only: once locality 0 is active)
    Word guest_writable;   // bits a write acts on
};

inline constexpr Word kIntfIdReset =
    IntfId::InterfaceType::with(0, kInterfaceTypeCrb) | IntfId::InterfaceVersion::with(0, kInterfaceVersionCrb) |
    IntfId::CapLocality::kMask | IntfId::CapCrbIdleBypass::kMask |
    IntfId::CapDataXferSizeSupport::with(0, kTransfer64) | IntfId::CapCrb::kMask |
    IntfId::InterfaceSelector::with(0, kInterfaceSelectorCrb) | IntfId::IntfSelLock::kMask | IntfId::Rid::with(0, 1);
inline constexpr Word kBufferLow = static_cast<Word>(kWindowBase + kDataBufferAt);

// Vendor, device and the window's base are the machine's choice; their resets here are the default. Another locality's
// addresses point into its own page. The interrupt registers take writes only with an interrupt wired.
inline constexpr std::array kRegs{
    RegSpec{Reg::kLocState, "TPM_LOC_STATE", 4, false,
            LocState::TpmRegValidSts::kMask | LocState::TpmEstablished::kMask, 0},
    RegSpec{Reg::kLocCtrl, "TPM_LOC_CTRL", 4, false, 0,
            LocCtrl::RequestAccess::kMask | LocCtrl::Relinquish::kMask | LocCtrl::Seize::kMask |
                LocCtrl::ResetEstablishmentBit::kMask},
    RegSpec{Reg::kLocSts, "TPM_LOC_STS", 4, false, 0, 0},
    RegSpec{Reg::kIntfId, "TPM_CRB_INTF_ID", 4, false, kIntfIdReset, 0},
    RegSpec{Reg::kIntfIdHigh, "TPM_CRB_INTF_ID_high", 4, false, 0x0001'1014, 0},
    RegSpec{Reg::kCtrlReq, "TPM_CRB_CTRL_REQ", 4, true, 0, CtrlReq::CmdReady::kMask | CtrlReq::GoIdle::kMask},
    RegSpec{Reg::kCtrlSts, "TPM_CRB_CTRL_STS", 4, true, CtrlSts::TpmIdle::kMask, 0},
    RegSpec{Reg::kCtrlCancel, "TPM_CRB_CTRL_CANCEL", 4, true, 0, CtrlCancel::Cancel::kMask},
    RegSpec{Reg::kCtrlStart, "TPM_CRB_CTRL_START", 4, true, 0, CtrlStart::Start::kMask},
    RegSpec{Reg::kIntEnable, "TPM_CRB_INT_ENABLE", 4, false, 0, kIntCauses | IntEnable::GlobalInterruptEnable::kMask},
    RegSpec{Reg::kIntSts, "TPM_CRB_INT_STS", 4, false, 0, kIntCauses},
    RegSpec{Reg::kCtrlCmdSize, "TPM_CRB_CTRL_CMD_SIZE", 4, false, kDataBufferSize, 0},
    RegSpec{Reg::kCtrlCmdLaddr, "TPM_CRB_CTRL_CMD_LADDR", 4, false, kBufferLow, 0},
    RegSpec{Reg::kCtrlCmdHaddr, "TPM_CRB_CTRL_CMD_HADDR", 4, false, kWindowBase >> 32, 0},
    RegSpec{Reg::kCtrlRspSize, "TPM_CRB_CTRL_RSP_SIZE", 4, false, kDataBufferSize, 0},
    RegSpec{Reg::kCtrlRspAddr, "TPM_CRB_CTRL_RSP_ADDR", 4, false, kBufferLow, 0},
    RegSpec{Reg::kCtrlRspAddrHigh, "TPM_CRB_CTRL_RSP_ADDR_high", 4, false, kWindowBase >> 32, 0},
    RegSpec{Reg::kDataBuffer, "TPM_CRB_DATA_BUFFER", kDataBufferSize, true, 0xffff'ffff, 0xffff'ffff},
};

static_assert(offsets_ascend(kRegs));

/// The register that decodes an offset inside a locality's page, or null: reserved, reads ones.
[[nodiscard]] constexpr const RegSpec *find_reg(std::uint32_t offset)
{
    for (const RegSpec &spec : kRegs) {
        const auto at = static_cast<std::uint32_t>(spec.reg);
        if (offset >= at && offset < at + spec.size) {
            return &spec;
        }
    }
    return nullptr;
}

} // namespace banyan::vtpm::crb
