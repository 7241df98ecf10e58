// SPDX-License-Identifier: GPL-2.0-or-later
// Registers of the FIFO interface. TCG PC Client Platform TPM Profile (PTP) 1.05, section 6.5.2 and table 15.
// Facts of the specification only; behaviour is in tis_interface.cpp.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "banyan/base/field.hpp"
#include "banyan/base/reg_file.hpp"
#include "vtpm/chip/locality.hpp"

namespace banyan::vtpm::tis {

using Word = std::uint32_t;

inline constexpr std::uint32_t kXdataFifoEnd = 0x0c0;

enum class Reg : std::uint16_t {
    kAccess = 0x000,
    kIntEnable = 0x008,
    kIntVector = 0x00c,
    kIntStatus = 0x010,
    kIntfCapability = 0x014,
    kSts = 0x018,
    kHashEnd = 0x020,   // locality 4 only
    kDataFifo = 0x024,  // at locality 4 also TPM_HASH_DATA
    kHashStart = 0x028, // locality 4 only
    kInterfaceId = 0x030,
    kXdataFifo = 0x080,
    kDidVid = 0xf00,
    kRid = 0xf04,
};

// TPM_ACCESS_x, 8 bits
struct Access {
    using TpmEstablishment = Field<Word, 0, 0, bool>; // 0: a D-RTM sequence happened
    using RequestUse = Field<Word, 1, 1, bool>;
    using PendingRequest = Field<Word, 2, 2, bool>;
    using Seize = Field<Word, 3, 3, bool>; // reads 0
    using BeenSeized = Field<Word, 4, 4, bool>;
    using ActiveLocality = Field<Word, 5, 5, bool>;
    using TpmRegValidSts = Field<Word, 7, 7, bool>;
};

// TPM_INT_ENABLE_x
struct IntEnable {
    using DataAvail = Field<Word, 0, 0, bool>;
    using StsValid = Field<Word, 1, 1, bool>;
    using LocalityChange = Field<Word, 2, 2, bool>;
    using TypePolarity = Field<Word, 3, 4>; // 01: low level
    using CommandReady = Field<Word, 7, 7, bool>;
    using GlobalIntEnable = Field<Word, 31, 31, bool>;
};

// TPM_INT_VECTOR_x
struct IntVector {
    using SirqVec = Field<Word, 0, 3>;
};

// TPM_INT_STATUS_x: the causes at their places in TPM_INT_ENABLE_x; a write of 1 clears

// TPM_INTF_CAPABILITY_x
struct IntfCapability {
    using DataAvailIntSupport = Field<Word, 0, 0, bool>;
    using StsValidIntSupport = Field<Word, 1, 1, bool>;
    using LocalityChangeIntSupport = Field<Word, 2, 2, bool>;
    using InterruptLevelLow = Field<Word, 4, 4, bool>;
    using CommandReadyIntSupport = Field<Word, 7, 7, bool>;
    using BurstCountStatic = Field<Word, 8, 8, bool>;
    using DataTransferSizeSupport = Field<Word, 9, 10>; // 0: legacy, 1: 8, 2: 32, 3: 64 bytes
    using InterfaceVersion = Field<Word, 28, 30>;       // 3: TPM 2.0 per PTP
};

// TPM_STS_x
struct Sts {
    using ResponseRetry = Field<Word, 1, 1, bool>; // write only
    using SelfTestDone = Field<Word, 2, 2, bool>;
    using Expect = Field<Word, 3, 3, bool>;
    using DataAvail = Field<Word, 4, 4, bool>;
    using TpmGo = Field<Word, 5, 5, bool>; // write only
    using CommandReady = Field<Word, 6, 6, bool>;
    using StsValid = Field<Word, 7, 7, bool>;
    using BurstCount = Field<Word, 8, 23>;
    using CommandCancel = Field<Word, 24, 24, bool>;         // write only
    using ResetEstablishmentBit = Field<Word, 25, 25, bool>; // write only, localities 3 and 4
    using TpmFamily = Field<Word, 26, 27>;                   // 1: TPM 2.0
};

// TPM_INTERFACE_ID_x
struct InterfaceId {
    using InterfaceType = Field<Word, 0, 3>;     // 0: FIFO as PTP defines it for TPM 2.0, 1: CRB
    using InterfaceVersion = Field<Word, 4, 7>;  // 0: FIFO
    using CapLocality = Field<Word, 8, 8, bool>; // 1: five localities
    using CapFifo = Field<Word, 13, 13, bool>;
    using CapCrb = Field<Word, 14, 14, bool>;
    using IntfSelLock = Field<Word, 19, 19, bool>;
};

inline constexpr Word kInterfaceVersionPtp = 3;
inline constexpr Word kFamilyTpm20 = 1;
inline constexpr Word kPolarityLow = 1;
inline constexpr Word kTransfer64 = 3;
inline constexpr Word kIntCauses = IntEnable::DataAvail::kMask | IntEnable::StsValid::kMask |
                                   IntEnable::LocalityChange::kMask | IntEnable::CommandReady::kMask;
// Added to TPM_INTF_CAPABILITY where the machine has wired an interrupt.
inline constexpr Word kIntCapability =
    IntfCapability::DataAvailIntSupport::kMask | IntfCapability::StsValidIntSupport::kMask |
    IntfCapability::LocalityChangeIntSupport::kMask | IntfCapability::InterruptLevelLow::kMask |
    IntfCapability::CommandReadyIntSupport::kMask;

struct RegSpec {
    Reg reg;
    std::string_view name; // the specification's own
    std::uint16_t size;    // bytes that decode to it
    bool active_only;      // other localities read ones, their writes vanish
    Word reset;            // read at locality 0 after power-on (active_only: once locality 0 is active)
    Word guest_writable;   // bits a write acts on
};

// DID_VID's value is the machine's choice; its reset here is the default. TPM_INT_* take writes and
// TPM_INTF_CAPABILITY has kIntCapability only with an interrupt wired.
inline constexpr std::array kRegs{
    RegSpec{Reg::kAccess, "TPM_ACCESS", 4, false, Access::TpmRegValidSts::kMask | Access::TpmEstablishment::kMask,
            Access::RequestUse::kMask | Access::Seize::kMask | Access::BeenSeized::kMask |
                Access::ActiveLocality::kMask},
    RegSpec{Reg::kIntEnable, "TPM_INT_ENABLE", 4, false, IntEnable::TypePolarity::with(0, kPolarityLow),
            kIntCauses | IntEnable::GlobalIntEnable::kMask},
    RegSpec{Reg::kIntVector, "TPM_INT_VECTOR", 4, false, 0, IntVector::SirqVec::kMask},
    RegSpec{Reg::kIntStatus, "TPM_INT_STATUS", 4, false, 0, kIntCauses},
    RegSpec{Reg::kIntfCapability, "TPM_INTF_CAPABILITY", 4, false,
            IntfCapability::DataTransferSizeSupport::with(
                IntfCapability::InterfaceVersion::with(0, kInterfaceVersionPtp), kTransfer64),
            0},
    RegSpec{Reg::kSts, "TPM_STS", 4, true,
            Sts::TpmFamily::with(Sts::StsValid::kMask | Sts::SelfTestDone::kMask, kFamilyTpm20),
            Sts::ResponseRetry::kMask | Sts::TpmGo::kMask | Sts::CommandReady::kMask | Sts::CommandCancel::kMask |
                Sts::ResetEstablishmentBit::kMask},
    RegSpec{Reg::kHashEnd, "TPM_HASH_END", 4, false, 0xffff'ffff, 0},
    RegSpec{Reg::kDataFifo, "TPM_DATA_FIFO", 4, true, 0xffff'ffff, 0xffff'ffff},
    RegSpec{Reg::kHashStart, "TPM_HASH_START", 4, false, 0xffff'ffff, 0},
    RegSpec{Reg::kInterfaceId, "TPM_INTERFACE_ID", 4, false,
            InterfaceId::CapLocality::kMask | InterfaceId::CapFifo::kMask, 0},
    RegSpec{Reg::kXdataFifo, "TPM_XDATA_FIFO", kXdataFifoEnd - 0x080, true, 0xffff'ffff, 0xffff'ffff},
    RegSpec{Reg::kDidVid, "TPM_DID_VID", 4, false, 0x0001'1014, 0},
    RegSpec{Reg::kRid, "TPM_RID", 4, false, 0x0000'0001, 0},
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

} // namespace banyan::vtpm::tis
