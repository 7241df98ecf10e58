// SPDX-License-Identifier: GPL-2.0-or-later
// What becomes of an instance whose worker died. Pure.
#pragma once

#include <array>
#include <cstdint>

#include "vtpm/link/instance_link.hpp"

namespace banyan::vtpm {

enum class AfterDeath : std::uint8_t {
    kAnew,    // nobody has seen the TPM yet: from the durable state, as its power-on began
    kRestore, // from its last checkpoint
    kFail,
    kPark,
};

/// Where the worker was in its life.
enum class LifePart : std::uint8_t {
    kStarting,  // for a power-on
    kResuming,  // with a snapshot's state
    kHeld,      // between _TPM_Init and TPM2_Startup: there is no checkpoint yet
    kRunning,   // or coming back from a checkpoint
    kLaunching, // HASH_START was asked for, and no checkpoint came after it: an older one has PCR 17 of before
};

inline constexpr std::array kLifeParts{LifePart::kStarting, LifePart::kResuming, LifePart::kHeld, LifePart::kRunning,
                                       LifePart::kLaunching};

/// deaths: in this power cycle, with this one.
[[nodiscard]] constexpr AfterDeath after_death(LifePart part, unsigned deaths)
{
    if (deaths > kDeathsMax) {
        return AfterDeath::kPark;
    }
    switch (part) {
    case LifePart::kStarting:
        return AfterDeath::kAnew;
    case LifePart::kResuming:
    case LifePart::kRunning:
        return AfterDeath::kRestore;
    case LifePart::kHeld:
    case LifePart::kLaunching:
        return AfterDeath::kFail;
    }
    return AfterDeath::kFail;
}

} // namespace banyan::vtpm
