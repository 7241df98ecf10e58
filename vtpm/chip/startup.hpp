// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

namespace banyan::vtpm {

// TPM2_Startup(TPM_SU_CLEAR). TPM 2.0 library, part 3, section 9.3
inline constexpr std::array<std::uint8_t, 12> kStartupClear{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0};

/// The chip has started its TPM by itself. Firmware that knows the TPM from its tables starts it too, and takes an
/// error for a broken TPM: it would disable the hierarchies. As the first command of a power cycle, at the locality
/// that the chip used, it asks for what has just been done.
class FirmwareStartup {
public:
    void expect() { expected_ = true; }
    void power_on() { first_ = true; }
    void launch() { first_ = false; }
    [[nodiscard]] bool already_done(std::uint8_t locality, std::span<const std::uint8_t> command)
    {
        const bool first = first_;
        first_ = false;
        return expected_ && first && locality == 0 && std::ranges::equal(command, kStartupClear);
    }

private:
    bool expected_ = false;
    bool first_ = false;
};

} // namespace banyan::vtpm
