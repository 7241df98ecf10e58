// SPDX-License-Identifier: GPL-2.0-or-later
// States of the FIFO protocol. PTP 1.05, section 6.5.2.10 and figure 5. Pure: the caller performs the action.
#pragma once

#include <array>
#include <cstdint>

namespace banyan::vtpm::tis {

/// The last two are ours: the guest sees them as Idle that is slow to become Ready, which PTP allows within TIMEOUT_B.
enum class FifoState : std::uint8_t {
    kIdle,
    kReady,
    kReception,
    kExecution,
    kCompletion,
    kAborting,      // an abandoned command still runs
    kAbortingReady, // and commandReady was asked for meanwhile
};

enum class FifoEvent : std::uint8_t {
    kCommandReady,
    kByteIn,   // a byte of DATA_FIFO that the command still expects
    kGo,       // tpmGo with the whole command in
    kResponse, // the engine answered, or will not any more
    kRetry,
    kCancel,
    kRelease, // the active locality lost the interface
};

enum class FifoAction : std::uint8_t { kIgnore, kClear, kStore, kDispatch, kPublish, kRewind, kCancel, kAbandon };

inline constexpr std::array kFifoStates{FifoState::kIdle,         FifoState::kReady,      FifoState::kReception,
                                        FifoState::kExecution,    FifoState::kCompletion, FifoState::kAborting,
                                        FifoState::kAbortingReady};
inline constexpr std::array kFifoEvents{FifoEvent::kCommandReady, FifoEvent::kByteIn, FifoEvent::kGo,
                                        FifoEvent::kResponse,     FifoEvent::kRetry,  FifoEvent::kCancel,
                                        FifoEvent::kRelease};

struct FifoStep {
    FifoState next;
    FifoAction action;
    friend constexpr bool operator==(FifoStep, FifoStep) = default;
};

[[nodiscard]] constexpr FifoStep step(FifoState state, FifoEvent event)
{
    using S = FifoState;
    using E = FifoEvent;
    using A = FifoAction;
    const FifoStep ignored{state, A::kIgnore};

    switch (state) {
    case S::kIdle:
        return event == E::kCommandReady ? FifoStep{S::kReady, A::kClear} : ignored;

    case S::kReady:
        if (event == E::kByteIn) {
            return {S::kReception, A::kStore};
        }
        return event == E::kRelease ? FifoStep{S::kIdle, A::kClear} : ignored;

    case S::kReception:
        if (event == E::kByteIn) {
            return {S::kReception, A::kStore};
        }
        if (event == E::kGo) {
            return {S::kExecution, A::kDispatch};
        }
        if (event == E::kCommandReady) {
            return {S::kReady, A::kClear};
        }
        return event == E::kRelease ? FifoStep{S::kIdle, A::kClear} : ignored;

    case S::kExecution:
        if (event == E::kResponse) {
            return {S::kCompletion, A::kPublish};
        }
        if (event == E::kCancel) {
            return {S::kExecution, A::kCancel};
        }
        if (event == E::kCommandReady) { // PTP: aborts the command
            return {S::kAbortingReady, A::kAbandon};
        }
        return event == E::kRelease ? FifoStep{S::kAborting, A::kAbandon} : ignored;

    case S::kCompletion:
        if (event == E::kCommandReady) {
            return {S::kReady, A::kClear};
        }
        if (event == E::kRetry) {
            return {S::kCompletion, A::kRewind};
        }
        return event == E::kRelease ? FifoStep{S::kIdle, A::kClear} : ignored;

    case S::kAborting:
        if (event == E::kResponse) {
            return {S::kIdle, A::kClear};
        }
        return event == E::kCommandReady ? FifoStep{S::kAbortingReady, A::kIgnore} : ignored;

    case S::kAbortingReady:
        if (event == E::kResponse) {
            return {S::kReady, A::kClear};
        }
        return event == E::kRelease ? FifoStep{S::kAborting, A::kIgnore} : ignored;
    }
    return ignored;
}

} // namespace banyan::vtpm::tis
