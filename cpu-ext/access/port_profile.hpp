// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "banyan/arch/domain_table.hpp"

// Port profile 1: every port denied. A denied read gives ones, but for the ports named here.
// Facts only; the look-up is in access.cpp.

namespace banyan::access {

struct PortFact {
    std::uint16_t first, last;
    std::uint8_t value;
    std::string_view name;
    std::string_view reason;
};

inline constexpr std::uint8_t kPortOnes = 0xFF;

inline constexpr std::array kPortProfileDenied{
    PortFact{0x42, 0x42, 0, "8254 counter 2", "with ones the calibration loop polls 100 000 times"},
    PortFact{0x71, 0x71, 0, "RTC data", "with ones register A says \"update in progress\" for ever"},
};

} // namespace banyan::access
