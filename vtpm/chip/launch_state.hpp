// SPDX-License-Identifier: GPL-2.0-or-later
// The D-RTM hash sequence of one instance. Pure. PTP 1.05, section 3.5; docs/spec/vtpm.md, "Launch".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace banyan::vtpm {

inline constexpr std::size_t kLaunchDataMax = 4096; // bytes of one HASH_DATA

enum class LaunchState : std::uint8_t {
    kClosed,
    kSeizing,  // HASH_START asked for; the command it cancelled has not ended yet
    kStarting, // the engine performs HASH_START
    kOpen,
    kHashing,
    kEnding,
    kFailed,
};

enum class LaunchEvent : std::uint8_t {
    kStart,
    kData,
    kEnd,
    kAbort,
    kEngineFree, // no command runs in the engine
    kDone,       // the engine did what was asked of it
    kEngineLost, // died, refused or lied
};

enum class LaunchAction : std::uint8_t { kIgnore, kSeize, kPostStart, kPostData, kPostEnd, kFinish, kFail };

inline constexpr std::array kLaunchStates{LaunchState::kClosed, LaunchState::kSeizing, LaunchState::kStarting,
                                          LaunchState::kOpen,   LaunchState::kHashing, LaunchState::kEnding,
                                          LaunchState::kFailed};
inline constexpr std::array kLaunchEvents{LaunchEvent::kStart,     LaunchEvent::kData,       LaunchEvent::kEnd,
                                          LaunchEvent::kAbort,     LaunchEvent::kEngineFree, LaunchEvent::kDone,
                                          LaunchEvent::kEngineLost};

struct LaunchStep {
    LaunchState next;
    LaunchAction action;
    friend constexpr bool operator==(LaunchStep, LaunchStep) = default;
};

/// True from HASH_START on until HASH_END has been done: no older state of the TPM may come back.
[[nodiscard]] constexpr bool launch_open(LaunchState state)
{
    return state != LaunchState::kClosed;
}

[[nodiscard]] constexpr bool launch_busy(LaunchState state)
{
    return state == LaunchState::kSeizing || state == LaunchState::kStarting || state == LaunchState::kHashing ||
           state == LaunchState::kEnding;
}

[[nodiscard]] constexpr LaunchStep step(LaunchState state, LaunchEvent event)
{
    using S = LaunchState;
    using E = LaunchEvent;
    using A = LaunchAction;
    const LaunchStep ignored{state, A::kIgnore};
    const LaunchStep failed{S::kFailed, A::kFail};

    if (event == E::kAbort) {
        return state == S::kFailed ? ignored : failed;
    }
    switch (state) {
    case S::kClosed:
        if (event == E::kStart) {
            return {S::kSeizing, A::kSeize};
        }
        return event == E::kData || event == E::kEnd ? failed : ignored;
    case S::kSeizing:
        if (event == E::kEngineFree) {
            return {S::kStarting, A::kPostStart};
        }
        return event == E::kDone ? ignored : failed;
    case S::kStarting:
    case S::kHashing:
        if (event == E::kDone) {
            return {S::kOpen, A::kIgnore};
        }
        return event == E::kEngineFree ? ignored : failed;
    case S::kOpen:
        if (event == E::kData) {
            return {S::kHashing, A::kPostData};
        }
        if (event == E::kEnd) {
            return {S::kEnding, A::kPostEnd};
        }
        return event == E::kStart || event == E::kEngineLost ? failed : ignored;
    case S::kEnding:
        if (event == E::kDone) {
            return {S::kClosed, A::kFinish};
        }
        return event == E::kEngineFree ? ignored : failed;
    case S::kFailed:
        return ignored;
    }
    return ignored;
}

} // namespace banyan::vtpm
