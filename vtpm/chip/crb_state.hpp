// SPDX-License-Identifier: GPL-2.0-or-later
// States of the CRB protocol. PTP 1.05, section 6.5.3.12. Pure: the caller performs the action.
#pragma once

#include <array>
#include <cstdint>

namespace banyan::vtpm::crb {

/// The last two are ours: the guest sees them as Idle that is slow to become Ready.
enum class CrbState : std::uint8_t {
    kIdle,
    kReady,
    kReception,
    kExecution,
    kCompletion,
    kAborting,      // an abandoned command still runs
    kAbortingReady, // and cmdReady was asked for meanwhile
};

enum class CrbEvent : std::uint8_t {
    kCmdReady,
    kGoIdle,
    kBufferWrite,
    kStart,
    kResponse, // the engine answered, or will not any more
    kCancel,
    kRelease, // the active locality lost the interface
};

enum class CrbAction : std::uint8_t {
    kIgnore,
    kClear,
    kStore,
    kClearAndStore, // the first byte of a command over a response
    kDispatch,
    kPublish,
    kCancel,
    kAbandon,
};

inline constexpr std::array kCrbStates{CrbState::kIdle,         CrbState::kReady,      CrbState::kReception,
                                       CrbState::kExecution,    CrbState::kCompletion, CrbState::kAborting,
                                       CrbState::kAbortingReady};
inline constexpr std::array kCrbEvents{CrbEvent::kCmdReady, CrbEvent::kGoIdle, CrbEvent::kBufferWrite, CrbEvent::kStart,
                                       CrbEvent::kResponse, CrbEvent::kCancel, CrbEvent::kRelease};

struct CrbStep {
    CrbState next;
    CrbAction action;
    friend constexpr bool operator==(CrbStep, CrbStep) = default;
};

[[nodiscard]] constexpr CrbStep step(CrbState state, CrbEvent event)
{
    using S = CrbState;
    using E = CrbEvent;
    using A = CrbAction;
    const CrbStep ignored{state, A::kIgnore};
    const CrbStep to_ready{S::kReady, A::kClear};
    const CrbStep to_idle{S::kIdle, A::kClear};

    switch (state) {
    case S::kIdle:
        return event == E::kCmdReady ? to_ready : ignored;

    case S::kReady:
        if (event == E::kBufferWrite) {
            return {S::kReception, A::kStore};
        }
        return event == E::kGoIdle || event == E::kRelease ? to_idle : ignored;

    case S::kReception:
        if (event == E::kBufferWrite) {
            return {S::kReception, A::kStore};
        }
        if (event == E::kStart) {
            return {S::kExecution, A::kDispatch};
        }
        if (event == E::kCmdReady) {
            return to_ready;
        }
        return event == E::kGoIdle || event == E::kRelease ? to_idle : ignored;

    case S::kExecution: // cmdReady and goIdle do not stop a command: Cancel does
        if (event == E::kResponse) {
            return {S::kCompletion, A::kPublish};
        }
        if (event == E::kCancel) {
            return {S::kExecution, A::kCancel};
        }
        return event == E::kRelease ? CrbStep{S::kAborting, A::kAbandon} : ignored;

    case S::kCompletion:
        if (event == E::kBufferWrite) { // CapCRBIdleBypass: Linux sends several commands for one cmdReady
            return {S::kReception, A::kClearAndStore};
        }
        if (event == E::kCmdReady) {
            return to_ready;
        }
        return event == E::kGoIdle || event == E::kRelease ? to_idle : ignored;

    case S::kAborting:
        if (event == E::kResponse) {
            return to_idle;
        }
        return event == E::kCmdReady ? CrbStep{S::kAbortingReady, A::kIgnore} : ignored;

    case S::kAbortingReady:
        if (event == E::kResponse) {
            return to_ready;
        }
        return event == E::kGoIdle || event == E::kRelease ? CrbStep{S::kAborting, A::kIgnore} : ignored;
    }
    return ignored;
}

} // namespace banyan::vtpm::crb
