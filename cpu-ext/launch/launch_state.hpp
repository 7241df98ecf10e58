// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>

// The two-phase SKINIT of one domain. docs/spec/skinit.md, section "Steps".

namespace banyan::launch {

enum class State : std::uint8_t {
    kClosed,       // no launch
    kWaiting,      // for the arbiter: another domain's launch is open (serial mode only)
    kDraining,     // the DMA window is closed; requests from before may still land
    kStarting,     // HASH_START is under way
    kTransferring, // a chunk is on its way over the bus
    kHashing,      // HASH_DATA of that chunk is under way
    kEnding,       // HASH_END is under way
};

enum class Event : std::uint8_t {
    kBegin,
    kGranted, // the arbiter, or there is none
    kDrained,
    kUnreadable, // drained, but the block is not all RAM
    kDone,       // the step under way; chunks are left
    kDoneLast,   // the step under way; all measured bytes are hashed
    kArrived,    // the chunk: its transfer time is over
    kFailed,     // the step under way
    kCancel,
};

enum class Action : std::uint8_t {
    kRefuse,       // not in this state
    kPark,         // the core waits
    kCloseWindow,  // to DMA
    kReadAndStart, // read the block once, digest, HASH_START
    kTransfer,     // the next chunk's time on the bus begins
    kHash,         // HASH_DATA
    kEndHash,      // HASH_END
    kEnter,
    kEnterUnhashed, // abort the sequence, enter all the same: SKINIT is one-way
    kDrop,          // before anything was done
    kReopen,        // open the window again
    kAbort,         // kReopen, and abort the hash sequence
};

inline constexpr std::array kAllStates{State::kClosed,       State::kWaiting, State::kDraining, State::kStarting,
                                       State::kTransferring, State::kHashing, State::kEnding};
inline constexpr std::array kAllEvents{Event::kBegin,      Event::kGranted, Event::kDrained,
                                       Event::kUnreadable, Event::kDone,    Event::kDoneLast,
                                       Event::kArrived,    Event::kFailed,  Event::kCancel};

struct Step {
    State next;
    Action action;
    friend constexpr bool operator==(Step, Step) = default;
};

/// The whole state machine. Pure: the caller performs the returned action.
[[nodiscard]] constexpr Step step(State state, Event event)
{
    const Step refused{state, Action::kRefuse};

    switch (state) {
    case State::kClosed:
        return event == Event::kBegin ? Step{State::kWaiting, Action::kPark} : refused;

    case State::kWaiting:
        if (event == Event::kGranted) {
            return {State::kDraining, Action::kCloseWindow};
        }
        return event == Event::kCancel ? Step{State::kClosed, Action::kDrop} : refused;

    case State::kDraining:
        switch (event) {
        case Event::kDrained:
            return {State::kStarting, Action::kReadAndStart};
        case Event::kUnreadable: // the processor has probed it before: only a change of reach comes here
        case Event::kCancel:
            return {State::kClosed, Action::kReopen};
        default:
            return refused;
        }

    case State::kStarting:
        switch (event) {
        case Event::kDone:
            return {State::kTransferring, Action::kTransfer};
        case Event::kFailed:
            return {State::kClosed, Action::kEnterUnhashed};
        case Event::kCancel:
            return {State::kClosed, Action::kAbort};
        default:
            return refused;
        }

    case State::kTransferring:
        if (event == Event::kArrived) {
            return {State::kHashing, Action::kHash};
        }
        return event == Event::kCancel ? Step{State::kClosed, Action::kAbort} : refused;

    case State::kHashing:
        switch (event) {
        case Event::kDone:
            return {State::kTransferring, Action::kTransfer};
        case Event::kDoneLast:
            return {State::kEnding, Action::kEndHash};
        case Event::kFailed:
            return {State::kClosed, Action::kEnterUnhashed};
        case Event::kCancel:
            return {State::kClosed, Action::kAbort};
        default:
            return refused;
        }

    case State::kEnding:
        switch (event) {
        case Event::kDoneLast:
            return {State::kClosed, Action::kEnter};
        case Event::kFailed:
            return {State::kClosed, Action::kEnterUnhashed};
        case Event::kCancel:
            return {State::kClosed, Action::kAbort};
        default:
            return refused;
        }
    }
    return refused;
}

} // namespace banyan::launch
