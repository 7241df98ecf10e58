// SPDX-License-Identifier: GPL-2.0-or-later
#include "cpu-ext/launch/launch_state.hpp"

#include <set>

#include <gtest/gtest.h>

namespace banyan::launch {
namespace {

struct Cell {
    State from;
    Event event;
    State to;
    Action action;
};

constexpr std::array kTable{
    Cell{State::kClosed, Event::kBegin, State::kWaiting, Action::kPark},
    Cell{State::kWaiting, Event::kGranted, State::kDraining, Action::kCloseWindow},
    Cell{State::kWaiting, Event::kCancel, State::kClosed, Action::kDrop},
    Cell{State::kDraining, Event::kDrained, State::kStarting, Action::kReadAndStart},
    Cell{State::kDraining, Event::kUnreadable, State::kClosed, Action::kReopen},
    Cell{State::kDraining, Event::kCancel, State::kClosed, Action::kReopen},
    Cell{State::kStarting, Event::kDone, State::kTransferring, Action::kTransfer},
    Cell{State::kStarting, Event::kFailed, State::kClosed, Action::kEnterUnhashed},
    Cell{State::kStarting, Event::kCancel, State::kClosed, Action::kAbort},
    Cell{State::kTransferring, Event::kArrived, State::kHashing, Action::kHash},
    Cell{State::kTransferring, Event::kCancel, State::kClosed, Action::kAbort},
    Cell{State::kHashing, Event::kDone, State::kTransferring, Action::kTransfer},
    Cell{State::kHashing, Event::kDoneLast, State::kEnding, Action::kEndHash},
    Cell{State::kHashing, Event::kFailed, State::kClosed, Action::kEnterUnhashed},
    Cell{State::kHashing, Event::kCancel, State::kClosed, Action::kAbort},
    Cell{State::kEnding, Event::kDoneLast, State::kClosed, Action::kEnter},
    Cell{State::kEnding, Event::kFailed, State::kClosed, Action::kEnterUnhashed},
    Cell{State::kEnding, Event::kCancel, State::kClosed, Action::kAbort},
};

TEST(LaunchState, IsTheTableOfTheManualAndRefusesAllElse)
{
    for (const State state : kAllStates) {
        for (const Event event : kAllEvents) {
            SCOPED_TRACE(testing::Message() << static_cast<int>(state) << " " << static_cast<int>(event));
            Step expected{state, Action::kRefuse};
            for (const Cell &cell : kTable) {
                if (cell.from == state && cell.event == event) {
                    expected = {cell.to, cell.action};
                }
            }
            EXPECT_EQ(step(state, event), expected);
        }
    }
}

TEST(LaunchState, CanBeCancelledInEveryOpenState)
{
    for (const State state : kAllStates) {
        const Step next = step(state, Event::kCancel);
        EXPECT_EQ(next.next, State::kClosed);
        EXPECT_EQ(next.action == Action::kRefuse, state == State::kClosed);
    }
}

TEST(LaunchState, NothingIsReadBeforeTheWindowIsClosedAndDrained)
{
    std::set<State> before{State::kClosed}; // what is reached without kDrained
    for (std::size_t round = 0; round < kAllStates.size(); ++round) {
        for (const State state : kAllStates) {
            for (const Event event : kAllEvents) {
                if (before.contains(state) && event != Event::kDrained) {
                    before.insert(step(state, event).next);
                    const Action action = step(state, event).action;
                    EXPECT_NE(action, Action::kReadAndStart);
                    EXPECT_NE(action, Action::kHash);
                    EXPECT_NE(action, Action::kEnter);
                    EXPECT_NE(action, Action::kEnterUnhashed);
                }
            }
        }
    }
    EXPECT_EQ(before, (std::set<State>{State::kClosed, State::kWaiting, State::kDraining}));
}

} // namespace
} // namespace banyan::launch
