// SPDX-License-Identifier: GPL-2.0-or-later
// Each state machine over its whole product.
#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "vtpm/chip/crb_state.hpp"
#include "vtpm/chip/fifo_state.hpp"
#include "vtpm/chip/launch_state.hpp"
#include "vtpm/chip/locality.hpp"

namespace banyan::vtpm {
namespace {

using tis::FifoAction;
using tis::FifoEvent;
using tis::FifoState;
using tis::kFifoEvents;
using tis::kFifoStates;

template <typename Visit>
void for_each_fifo_step(Visit visit)
{
    for (const FifoState from : kFifoStates) {
        for (const FifoEvent event : kFifoEvents) {
            SCOPED_TRACE(testing::Message() << "state " << int(from) << " event " << int(event));
            visit(from, event, step(from, event));
        }
    }
}

bool engine_runs(FifoState state)
{
    return state == FifoState::kExecution || state == FifoState::kAborting || state == FifoState::kAbortingReady;
}

TEST(FifoStates, DispatchOnlyOnGoInReception)
{
    for_each_fifo_step([](FifoState from, FifoEvent event, tis::FifoStep result) {
        EXPECT_EQ(result.action == FifoAction::kDispatch, from == FifoState::kReception && event == FifoEvent::kGo);
    });
}

TEST(FifoStates, TheEngineIsOwedOneAnswerForEachDispatch)
{
    for_each_fifo_step([](FifoState from, FifoEvent event, tis::FifoStep result) {
        const bool starts = result.action == FifoAction::kDispatch;
        const bool ends = engine_runs(from) && event == FifoEvent::kResponse;
        EXPECT_EQ(engine_runs(result.next), (engine_runs(from) || starts) && !ends);
    });
}

TEST(FifoStates, OnlyAnAbandonedCommandLosesItsResponse)
{
    for_each_fifo_step([](FifoState from, FifoEvent event, tis::FifoStep result) {
        const bool leaves = from == FifoState::kExecution && result.next != FifoState::kExecution;
        EXPECT_EQ(leaves, result.action == FifoAction::kAbandon || result.action == FifoAction::kPublish);
        if (result.action == FifoAction::kPublish) {
            EXPECT_EQ(event, FifoEvent::kResponse);
            EXPECT_EQ(result.next, FifoState::kCompletion);
        }
    });
}

TEST(FifoStates, ALocalityThatGoesLeavesNothingBehind)
{
    for (const FifoState from : kFifoStates) {
        const auto result = step(from, FifoEvent::kRelease);
        EXPECT_EQ(result.next, engine_runs(from) ? FifoState::kAborting : FifoState::kIdle) << int(from);
    }
}

TEST(FifoStates, CommandReadyAlwaysLeadsTowardsReady)
{
    for (const FifoState from : kFifoStates) {
        const auto result = step(from, FifoEvent::kCommandReady);
        EXPECT_EQ(result.next, engine_runs(from) ? FifoState::kAbortingReady : FifoState::kReady) << int(from);
        EXPECT_EQ(step(FifoState::kAbortingReady, FifoEvent::kResponse).next, FifoState::kReady);
    }
}

TEST(FifoStates, EveryStateIsReachable)
{
    std::set<FifoState> seen{FifoState::kIdle};
    for (std::size_t round = 0; round < kFifoStates.size(); ++round) {
        for_each_fifo_step([&](FifoState from, FifoEvent, tis::FifoStep result) {
            if (seen.contains(from)) {
                seen.insert(result.next);
            }
        });
    }
    EXPECT_EQ(seen.size(), kFifoStates.size());
}

using crb::CrbAction;
using crb::CrbEvent;
using crb::CrbState;
using crb::kCrbEvents;
using crb::kCrbStates;

template <typename Visit>
void for_each_crb_step(Visit visit)
{
    for (const CrbState from : kCrbStates) {
        for (const CrbEvent event : kCrbEvents) {
            SCOPED_TRACE(testing::Message() << "state " << int(from) << " event " << int(event));
            visit(from, event, step(from, event));
        }
    }
}

bool engine_runs(CrbState state)
{
    return state == CrbState::kExecution || state == CrbState::kAborting || state == CrbState::kAbortingReady;
}

TEST(CrbStates, DispatchOnlyOnStartInReception)
{
    for_each_crb_step([](CrbState from, CrbEvent event, crb::CrbStep result) {
        EXPECT_EQ(result.action == CrbAction::kDispatch, from == CrbState::kReception && event == CrbEvent::kStart);
    });
}

TEST(CrbStates, TheEngineIsOwedOneAnswerForEachDispatch)
{
    for_each_crb_step([](CrbState from, CrbEvent event, crb::CrbStep result) {
        const bool starts = result.action == CrbAction::kDispatch;
        const bool ends = engine_runs(from) && event == CrbEvent::kResponse;
        EXPECT_EQ(engine_runs(result.next), (engine_runs(from) || starts) && !ends);
    });
}

TEST(CrbStates, TheBufferChangesInReadyReceptionAndCompletionAlone)
{
    for_each_crb_step([](CrbState from, CrbEvent event, crb::CrbStep result) {
        const bool stores = result.action == CrbAction::kStore || result.action == CrbAction::kClearAndStore;
        const bool open = from == CrbState::kReady || from == CrbState::kReception || from == CrbState::kCompletion;
        EXPECT_EQ(stores, open && event == CrbEvent::kBufferWrite);
        EXPECT_EQ(result.action == CrbAction::kClearAndStore, stores && from == CrbState::kCompletion);
        EXPECT_FALSE(engine_runs(from) && result.action == CrbAction::kClear && event != CrbEvent::kResponse);
    });
}

TEST(CrbStates, OnlyAnAbandonedCommandLosesItsResponse)
{
    for_each_crb_step([](CrbState from, CrbEvent event, crb::CrbStep result) {
        const bool leaves = from == CrbState::kExecution && result.next != CrbState::kExecution;
        EXPECT_EQ(leaves, result.action == CrbAction::kAbandon || result.action == CrbAction::kPublish);
        if (result.action == CrbAction::kAbandon) {
            EXPECT_EQ(event, CrbEvent::kRelease) << "cmdReady and goIdle stop no command";
        }
        if (result.action == CrbAction::kPublish) {
            EXPECT_EQ(event, CrbEvent::kResponse);
            EXPECT_EQ(result.next, CrbState::kCompletion);
        }
    });
}

TEST(CrbStates, CancelChangesNoState)
{
    for_each_crb_step([](CrbState from, CrbEvent event, crb::CrbStep result) {
        EXPECT_EQ(result.action == CrbAction::kCancel, from == CrbState::kExecution && event == CrbEvent::kCancel);
        if (event == CrbEvent::kCancel) {
            EXPECT_EQ(result.next, from);
        }
    });
}

TEST(CrbStates, ALocalityThatGoesLeavesNothingBehind)
{
    for (const CrbState from : kCrbStates) {
        const auto result = step(from, CrbEvent::kRelease);
        EXPECT_EQ(result.next, engine_runs(from) ? CrbState::kAborting : CrbState::kIdle) << int(from);
        const bool holds = from == CrbState::kReady || from == CrbState::kReception || from == CrbState::kCompletion;
        EXPECT_EQ(result.action == CrbAction::kClear, holds) << int(from);
    }
}

TEST(CrbStates, CmdReadyAndGoIdleLeadWhereTheySayUnlessACommandExecutes)
{
    for (const CrbState from : kCrbStates) {
        if (from == CrbState::kExecution) {
            EXPECT_EQ(step(from, CrbEvent::kCmdReady), (crb::CrbStep{from, CrbAction::kIgnore}));
            EXPECT_EQ(step(from, CrbEvent::kGoIdle), (crb::CrbStep{from, CrbAction::kIgnore}));
            continue;
        }
        EXPECT_EQ(step(from, CrbEvent::kCmdReady).next,
                  engine_runs(from) ? CrbState::kAbortingReady : CrbState::kReady);
        EXPECT_EQ(step(from, CrbEvent::kGoIdle).next, engine_runs(from) ? CrbState::kAborting : CrbState::kIdle);
    }
    EXPECT_EQ(step(CrbState::kAbortingReady, CrbEvent::kResponse).next, CrbState::kReady);
    EXPECT_EQ(step(CrbState::kAborting, CrbEvent::kResponse).next, CrbState::kIdle);
}

TEST(CrbStates, EveryStateIsReachable)
{
    std::set<CrbState> seen{CrbState::kIdle};
    for (std::size_t round = 0; round < kCrbStates.size(); ++round) {
        for_each_crb_step([&](CrbState from, CrbEvent, crb::CrbStep result) {
            if (seen.contains(from)) {
                seen.insert(result.next);
            }
        });
    }
    EXPECT_EQ(seen.size(), kCrbStates.size());
}

template <typename Visit>
void for_each_locality_step(Visit visit)
{
    for (const std::uint8_t active :
         {std::uint8_t{0}, std::uint8_t{1}, std::uint8_t{2}, std::uint8_t{3}, std::uint8_t{4}, kNoLocality}) {
        for (unsigned requested = 0; requested < 32; ++requested) {
            for (unsigned seized = 0; seized < 32; ++seized) {
                const Localities now{active, static_cast<std::uint8_t>(requested), static_cast<std::uint8_t>(seized)};
                if (active != kNoLocality && now.waits(active)) {
                    continue; // the owner does not wait
                }
                for (const LocalityEvent event : kLocalityEvents) {
                    for (std::uint8_t locality = 0; locality < 5; ++locality) {
                        SCOPED_TRACE(testing::Message()
                                     << "active " << int(active) << " requested " << requested << " seized " << seized
                                     << " event " << int(event) << " by " << int(locality));
                        visit(now, event, locality, step(now, event, locality));
                    }
                }
            }
        }
    }
}

TEST(LocalityStates, TheOwnerNeverWaits)
{
    for_each_locality_step([](Localities, LocalityEvent, std::uint8_t, LocalityStep result) {
        EXPECT_TRUE(result.next.active == kNoLocality || result.next.active < 5);
        EXPECT_FALSE(result.next.active != kNoLocality && result.next.waits(result.next.active));
        EXPECT_EQ(result.next.requested & 0xe0, 0);
        EXPECT_EQ(result.next.seized & 0xe0, 0);
    });
}

TEST(LocalityStates, OnlyASeizeOrItsOwnerTakesTheInterfaceAway)
{
    for_each_locality_step([](Localities now, LocalityEvent event, std::uint8_t locality, LocalityStep result) {
        if (now.active == kNoLocality || result.next.active == now.active) {
            return;
        }
        EXPECT_TRUE(result.released);
        if (event == LocalityEvent::kRelinquish) {
            EXPECT_EQ(locality, now.active);
        } else if (event == LocalityEvent::kSeize) {
            EXPECT_GT(locality, now.active);
            EXPECT_TRUE(result.next.been_seized(now.active));
        } else {
            EXPECT_EQ(event, LocalityEvent::kHardwareSeize);
            EXPECT_TRUE(result.next.been_seized(now.active));
        }
    });
}

TEST(LocalityStates, TheHighestThatWaitsComesNext)
{
    for_each_locality_step([](Localities now, LocalityEvent event, std::uint8_t locality, LocalityStep result) {
        if (event != LocalityEvent::kRelinquish || now.active != locality) {
            return;
        }
        for (unsigned l = 0; l < 5; ++l) {
            if (now.waits(l)) {
                EXPECT_NE(result.next.active, kNoLocality);
                EXPECT_GE(result.next.active, l);
            }
        }
        EXPECT_EQ(result.next.active == kNoLocality, now.requested == 0);
    });
}

TEST(LocalityStates, BeenSeizedIsClearedByItsOwnWriteAlone)
{
    for_each_locality_step([](Localities now, LocalityEvent event, std::uint8_t locality, LocalityStep result) {
        const unsigned lost = now.seized & ~unsigned{result.next.seized};
        EXPECT_EQ(lost & ~(event == LocalityEvent::kClearSeized ? 1U << locality : 0U), 0U);
    });
}

TEST(LocalityStates, ALaunchLeavesNobodyWaiting)
{
    for_each_locality_step([](Localities, LocalityEvent event, std::uint8_t locality, LocalityStep result) {
        if (event == LocalityEvent::kHardwareSeize) {
            EXPECT_EQ(result.next.active, locality);
            EXPECT_EQ(result.next.requested, 0);
        }
    });
}

TEST(LaunchStates, StartDataEndIsTheOnlyWay)
{
    LaunchState state = LaunchState::kClosed;
    const auto go = [&](LaunchEvent event) {
        const LaunchStep result = step(state, event);
        state = result.next;
        return result.action;
    };
    EXPECT_EQ(go(LaunchEvent::kStart), LaunchAction::kSeize);
    EXPECT_EQ(go(LaunchEvent::kEngineFree), LaunchAction::kPostStart);
    EXPECT_EQ(go(LaunchEvent::kDone), LaunchAction::kIgnore);
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(go(LaunchEvent::kData), LaunchAction::kPostData);
        EXPECT_EQ(go(LaunchEvent::kDone), LaunchAction::kIgnore);
    }
    EXPECT_EQ(go(LaunchEvent::kEnd), LaunchAction::kPostEnd);
    EXPECT_EQ(go(LaunchEvent::kDone), LaunchAction::kFinish);
    EXPECT_EQ(state, LaunchState::kClosed);
}

TEST(LaunchStates, AStepOutOfOrderFailsItForGood)
{
    for (const LaunchState from : kLaunchStates) {
        for (const LaunchEvent event :
             {LaunchEvent::kStart, LaunchEvent::kData, LaunchEvent::kEnd, LaunchEvent::kAbort}) {
            const LaunchStep result = step(from, event);
            const bool in_order =
                (from == LaunchState::kClosed && event == LaunchEvent::kStart) ||
                (from == LaunchState::kOpen && (event == LaunchEvent::kData || event == LaunchEvent::kEnd));
            EXPECT_EQ(result.next == LaunchState::kFailed, !in_order) << int(from) << " " << int(event);
        }
    }
}

TEST(LaunchStates, ALostEngineClosesNoLaunch)
{
    for (const LaunchState from : kLaunchStates) {
        const LaunchStep result = step(from, LaunchEvent::kEngineLost);
        EXPECT_EQ(launch_open(result.next), launch_open(from)) << int(from);
        if (launch_open(from)) {
            EXPECT_EQ(result.next, LaunchState::kFailed);
        }
    }
}

TEST(LaunchStates, OnlyTheEndClosesIt)
{
    for (const LaunchState from : kLaunchStates) {
        for (const LaunchEvent event : kLaunchEvents) {
            const LaunchStep result = step(from, event);
            if (launch_open(from) && !launch_open(result.next)) {
                EXPECT_EQ(from, LaunchState::kEnding);
                EXPECT_EQ(event, LaunchEvent::kDone);
                EXPECT_EQ(result.action, LaunchAction::kFinish);
            }
        }
    }
}

} // namespace
} // namespace banyan::vtpm
