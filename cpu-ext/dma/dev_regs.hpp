// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "banyan/arch/domain_table.hpp"
#include "banyan/base/field.hpp"
#include "banyan/base/reg_file.hpp"

// The device exclusion vector's capability block in PCI configuration space. APM 2, 15.24.4 to 15.24.6. It stands in
// function 3 of device 18h, and at F0h, where drivers that do not walk the list of capabilities look for it.
// Facts only; behaviour is in dev_registers.hpp.

namespace banyan::dma::dev {

using Word = std::uint32_t;

inline constexpr std::uint8_t kCapabilityId = 0x0F;
inline constexpr std::uint8_t kCapabilitySize = 12;

enum class Reg : std::uint16_t { // configuration space offsets of function 3
    kHeader = 0xF0,
    kOp = 0xF4,
    kData = 0xF8,
};

inline constexpr std::uint32_t kFunction = dt::kDevFunction;         // with the capability block
inline constexpr std::uint32_t kLinkFunction = dt::kDevLinkFunction; // with kSlbProtection

/// Processors of family 17h and later have no capability block. There function 0 of the same device has a word at 384h
/// (extended configuration space) whose bit 0 is set while the secure loader's block is protected.
inline constexpr std::uint16_t kSlbProtection = 0x384;

// DEV_OP: which register DEV_DATA shows.
struct Op {
    using Index = Field<Word, 0, 7>;
    using Function = Field<Word, 8, 15>;
};

enum class Function : std::uint8_t {
    kBaseLow = 0,
    kBaseHigh = 1,
    kMap = 2,
    kCapability = 3,
    kControl = 4,
    kErrorStatus = 5,
    kErrorAddressLow = 6,
    kErrorAddressHigh = 7,
};

// DEV_CAP
struct Capability {
    using Revision = Field<Word, 0, 7>;
    using Domains = Field<Word, 8, 15>; // protection bitmaps
    using Maps = Field<Word, 16, 23>;
};

// DEV_CR
struct Control {
    using Enable = Field<Word, 0, 0, bool>;
    using Clear = Field<Word, 1, 1, bool>;
    using IoSpaceEnable = Field<Word, 2, 2, bool>;
    using MachineCheckEnable = Field<Word, 3, 3, bool>;
    using InvalidateOverride = Field<Word, 4, 4, bool>;
    using SlDevEnable = Field<Word, 5, 5, bool>; // the block that SKINIT launched is closed to DMA
    using ProbeEnable = Field<Word, 6, 6, bool>;
};

struct RegSpec {
    Reg reg;
    std::string_view name; // the manual's
    Word reset;
    Word guest_writable;
};

inline constexpr std::array kRegs{
    RegSpec{Reg::kHeader, "DEV_HDR", kCapabilityId, 0},
    RegSpec{Reg::kOp, "DEV_OP", 0, Op::Index::kMask | Op::Function::kMask},
    RegSpec{Reg::kData, "DEV_DATA", 0, Control::SlDevEnable::kMask}, // of DEV_CR
};
static_assert(offsets_ascend(kRegs));

} // namespace banyan::dma::dev
