// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>

#include "banyan/arch/domain_table.hpp"

// The life of one domain. docs/spec/domain-table.md, section "States".

namespace banyan::domain {

/// dt::State, with the time between the command SEAL and the vTPM instance's READY told apart. To software kSealing is
/// BUILDING with status BUSY.
enum class Phase : std::uint8_t { kEmpty, kBuilding, kSealing, kSealed, kRunning, kStopping, kDirty };

enum class Event : std::uint8_t {
    kCreate, // the commands
    kSeal,   // ... its descriptor has passed every check and the instance's power cycle has begun
    kStop,
    kDelete,
    kErase,
    kReceipt,
    kInstanceReady, // the vTPM instance
    kInstanceFailed,
    kEnter,    // VMRUN of a joined core
    kEnd,      // the domain ended itself through its own page, or one of its cores left
    kLastExit, // no core is inside any more
    kReset,    // of the machine
};

enum class Action : std::uint8_t {
    kRefuse,    // not in this phase
    kNone,      // allowed, nothing to do
    kClear,     // an empty descriptor to write into
    kWait,      // freeze what was checked; ask the instance
    kOpen,      // publish the descriptor: the domain gets its reach, the host loses it
    kRelease,   // the instance did not come up: off, unbound
    kBegin,     // the first VMRUN
    kStopCores, // stop line, launch and instance off
    kClose,     // the domain loses its reach
    kAbandon,   // all of kStopCores but the stop line, then kClose: cores are not, or no longer, inside
    kForget,    // the draft goes; its RAM was the host's all the time
    kForgetErase,
    kScrub, // RAM to zero, instance unbound, then the host gets its reach back
    kScrubErase,
    kSign, // a receipt
};

inline constexpr std::array kAllPhases{Phase::kEmpty,   Phase::kBuilding, Phase::kSealing, Phase::kSealed,
                                       Phase::kRunning, Phase::kStopping, Phase::kDirty};
inline constexpr std::array kAllEvents{Event::kCreate, Event::kSeal,    Event::kStop,          Event::kDelete,
                                       Event::kErase,  Event::kReceipt, Event::kInstanceReady, Event::kInstanceFailed,
                                       Event::kEnter,  Event::kEnd,     Event::kLastExit,      Event::kReset};

struct Step {
    Phase next;
    Action action;
    friend constexpr bool operator==(Step, Step) = default;
};

/// The whole state machine. Pure: the caller performs the returned action.
[[nodiscard]] constexpr Step step(Phase phase, Event event)
{
    const Step refused{phase, Action::kRefuse};

    switch (phase) {
    case Phase::kEmpty:
        if (event == Event::kCreate) {
            return {Phase::kBuilding, Action::kClear};
        }
        return event == Event::kReset ? Step{phase, Action::kNone} : refused;

    case Phase::kBuilding:
        switch (event) {
        case Event::kSeal:
            return {Phase::kSealing, Action::kWait};
        case Event::kDelete:
        case Event::kReset:
            return {Phase::kEmpty, Action::kForget};
        case Event::kErase:
            return {Phase::kEmpty, Action::kForgetErase};
        default:
            return refused;
        }

    case Phase::kSealing: // nothing else may happen to it: what was checked is what gets published
        switch (event) {
        case Event::kInstanceReady:
            return {Phase::kSealed, Action::kOpen};
        case Event::kInstanceFailed:
            return {Phase::kBuilding, Action::kRelease};
        case Event::kReset:
            return {Phase::kEmpty, Action::kRelease};
        default:
            return refused;
        }

    case Phase::kSealed:
        switch (event) {
        case Event::kEnter:
            return {Phase::kRunning, Action::kBegin};
        case Event::kReceipt:
            return {phase, Action::kSign};
        case Event::kStop:
        case Event::kReset:
            return {Phase::kDirty, Action::kAbandon};
        default:
            return refused;
        }

    case Phase::kRunning:
        switch (event) {
        case Event::kEnter: // another core of the mask
            return {phase, Action::kNone};
        case Event::kReceipt:
            return {phase, Action::kSign};
        case Event::kStop:
        case Event::kEnd:
            return {Phase::kStopping, Action::kStopCores};
        case Event::kReset:
            return {Phase::kDirty, Action::kAbandon};
        default:
            return refused;
        }

    case Phase::kStopping:
        switch (event) {
        case Event::kEnd: // the other cores, one by one
            return {phase, Action::kNone};
        case Event::kReceipt:
            return {phase, Action::kSign};
        case Event::kLastExit:
        case Event::kReset:
            return {Phase::kDirty, Action::kClose};
        default:
            return refused;
        }

    case Phase::kDirty:
        switch (event) {
        case Event::kReceipt:
            return {phase, Action::kSign};
        case Event::kDelete:
            return {Phase::kEmpty, Action::kScrub};
        case Event::kErase:
            return {Phase::kEmpty, Action::kScrubErase};
        case Event::kReset: // dirty RAM outlives the reset
            return {phase, Action::kNone};
        default:
            return refused;
        }
    }
    return refused;
}

[[nodiscard]] constexpr dt::State visible(Phase phase)
{
    switch (phase) {
    case Phase::kEmpty:
        return dt::State::kEmpty;
    case Phase::kBuilding:
    case Phase::kSealing:
        return dt::State::kBuilding;
    case Phase::kSealed:
        return dt::State::kSealed;
    case Phase::kRunning:
        return dt::State::kRunning;
    case Phase::kStopping:
        return dt::State::kStopping;
    case Phase::kDirty:
        return dt::State::kDirty;
    }
    return dt::State::kEmpty;
}

/// The host has no reach into the domain; its descriptor is frozen.
[[nodiscard]] constexpr bool closed(Phase phase)
{
    return phase == Phase::kSealed || phase == Phase::kRunning || phase == Phase::kStopping || phase == Phase::kDirty;
}

/// The domain's own cores and devices have their reach.
[[nodiscard]] constexpr bool live(Phase phase)
{
    return closed(phase) && phase != Phase::kDirty;
}

} // namespace banyan::domain
