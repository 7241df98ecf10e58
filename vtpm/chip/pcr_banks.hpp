// SPDX-License-Identifier: GPL-2.0-or-later
// The PCR banks an instance may have. Algorithm identifiers: TCG algorithm registry, table 3.
#pragma once

#include <array>
#include <cstdint>

namespace banyan::vtpm {

struct PcrBank {
    std::uint32_t bit; // in a set of banks; those of the C ABI
    std::uint16_t algorithm;
};

inline constexpr std::array kPcrBanks{
    PcrBank{1U << 0, 0x0004}, // SHA-1
    PcrBank{1U << 1, 0x000b}, // SHA-256
    PcrBank{1U << 2, 0x000c}, // SHA-384
};
inline constexpr std::uint32_t kAllPcrBanks = 7;
inline constexpr std::uint16_t kAlgorithmSha512 = 0x000d; // libtpms has it; no instance does

} // namespace banyan::vtpm
