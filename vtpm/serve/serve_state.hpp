// SPDX-License-Identifier: GPL-2.0-or-later
// The power of a served instance. Pure.
#pragma once

#include <array>
#include <cstdint>

namespace banyan::vtpm {

enum class ServeState : std::uint8_t {
    kOff,
    kStarting, // power is on, _TPM_Init under way
    kOn,
    kRecovering, // the worker died; its last checkpoint comes back
    kFailed,     // until the next init
};

enum class ServeEvent : std::uint8_t {
    kInit,
    kStop,
    kReady,    // the worker said so
    kDied,     // the worker is gone
    kHopeless, // it must not come back: a hash sequence was open, it died too often, or the engine said why it cannot
};

enum class ServeAction : std::uint8_t {
    kIgnore,
    kStart,
    kStartAgain, // as it was begun: nobody has seen the TPM yet
    kRestore,
    kStop,
    kServe,
    kFail,
};

inline constexpr std::array kServeStates{ServeState::kOff, ServeState::kStarting, ServeState::kOn,
                                         ServeState::kRecovering, ServeState::kFailed};
inline constexpr std::array kServeEvents{ServeEvent::kInit, ServeEvent::kStop, ServeEvent::kReady, ServeEvent::kDied,
                                         ServeEvent::kHopeless};

struct ServeStep {
    ServeState next;
    ServeAction action;
    friend constexpr bool operator==(ServeStep, ServeStep) = default;
};

[[nodiscard]] constexpr ServeStep step(ServeState state, ServeEvent event)
{
    using S = ServeState;
    using E = ServeEvent;
    using A = ServeAction;
    const ServeStep ignored{state, A::kIgnore};
    if (event == E::kInit) {
        return {S::kStarting, A::kStart};
    }
    if (event == E::kStop) {
        return {S::kOff, state == S::kOff ? A::kIgnore : A::kStop};
    }
    switch (state) {
    case S::kOff:
    case S::kFailed:
        return ignored;
    case S::kStarting:
        if (event == E::kReady) {
            return {S::kOn, A::kServe};
        }
        return event == E::kDied ? ServeStep{S::kStarting, A::kStartAgain} : ServeStep{S::kFailed, A::kFail};
    case S::kOn:
        if (event == E::kReady) {
            return ignored;
        }
        return event == E::kDied ? ServeStep{S::kRecovering, A::kRestore} : ServeStep{S::kFailed, A::kFail};
    case S::kRecovering:
        if (event == E::kReady) {
            return {S::kOn, A::kServe};
        }
        return event == E::kDied ? ServeStep{S::kRecovering, A::kRestore} : ServeStep{S::kFailed, A::kFail};
    }
    return ignored;
}

} // namespace banyan::vtpm
