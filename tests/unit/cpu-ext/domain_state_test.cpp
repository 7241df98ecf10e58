// SPDX-License-Identifier: GPL-2.0-or-later
#include "cpu-ext/domain/domain_state.hpp"

#include <set>

#include <gtest/gtest.h>

#include "cpu-ext/domain/report_state.hpp"

namespace banyan::domain {
namespace {

std::size_t index(Phase phase)
{
    return static_cast<std::size_t>(phase);
}

/// The whole product, as docs/spec/domain-table.md draws it. An empty entry is a refusal.
struct Cell {
    Phase from;
    Event event;
    Phase to;
    Action action;
};

constexpr std::array kTable{
    Cell{Phase::kEmpty, Event::kCreate, Phase::kBuilding, Action::kClear},
    Cell{Phase::kEmpty, Event::kReset, Phase::kEmpty, Action::kNone},
    Cell{Phase::kBuilding, Event::kSeal, Phase::kSealing, Action::kWait},
    Cell{Phase::kBuilding, Event::kDelete, Phase::kEmpty, Action::kForget},
    Cell{Phase::kBuilding, Event::kErase, Phase::kEmpty, Action::kForgetErase},
    Cell{Phase::kBuilding, Event::kReset, Phase::kEmpty, Action::kForget},
    Cell{Phase::kSealing, Event::kInstanceReady, Phase::kSealed, Action::kOpen},
    Cell{Phase::kSealing, Event::kInstanceFailed, Phase::kBuilding, Action::kRelease},
    Cell{Phase::kSealing, Event::kReset, Phase::kEmpty, Action::kRelease},
    Cell{Phase::kSealed, Event::kEnter, Phase::kRunning, Action::kBegin},
    Cell{Phase::kSealed, Event::kReceipt, Phase::kSealed, Action::kSign},
    Cell{Phase::kSealed, Event::kStop, Phase::kDirty, Action::kAbandon},
    Cell{Phase::kSealed, Event::kReset, Phase::kDirty, Action::kAbandon},
    Cell{Phase::kRunning, Event::kEnter, Phase::kRunning, Action::kNone},
    Cell{Phase::kRunning, Event::kReceipt, Phase::kRunning, Action::kSign},
    Cell{Phase::kRunning, Event::kStop, Phase::kStopping, Action::kStopCores},
    Cell{Phase::kRunning, Event::kEnd, Phase::kStopping, Action::kStopCores},
    Cell{Phase::kRunning, Event::kReset, Phase::kDirty, Action::kAbandon},
    Cell{Phase::kStopping, Event::kEnd, Phase::kStopping, Action::kNone},
    Cell{Phase::kStopping, Event::kReceipt, Phase::kStopping, Action::kSign},
    Cell{Phase::kStopping, Event::kLastExit, Phase::kDirty, Action::kClose},
    Cell{Phase::kStopping, Event::kReset, Phase::kDirty, Action::kClose},
    Cell{Phase::kDirty, Event::kReceipt, Phase::kDirty, Action::kSign},
    Cell{Phase::kDirty, Event::kDelete, Phase::kEmpty, Action::kScrub},
    Cell{Phase::kDirty, Event::kErase, Phase::kEmpty, Action::kScrubErase},
    Cell{Phase::kDirty, Event::kReset, Phase::kDirty, Action::kNone},
};

TEST(DomainState, IsTheTableOfTheManualAndRefusesAllElse)
{
    for (const Phase phase : kAllPhases) {
        for (const Event event : kAllEvents) {
            SCOPED_TRACE(testing::Message() << "phase " << index(phase) << " event " << static_cast<int>(event));
            Step expected{phase, Action::kRefuse};
            for (const Cell &cell : kTable) {
                if (cell.from == phase && cell.event == event) {
                    expected = {cell.to, cell.action};
                }
            }
            EXPECT_EQ(step(phase, event), expected);
        }
    }
}

TEST(DomainState, ClosedRamComesBackToTheHostOnlyThroughTheScrub)
{
    for (const Phase phase : kAllPhases) {
        for (const Event event : kAllEvents) {
            const Step next = step(phase, event);
            if (closed(phase) && !closed(next.next)) {
                EXPECT_TRUE(next.action == Action::kScrub || next.action == Action::kScrubErase);
            }
        }
    }
}

TEST(DomainState, OnlyASealWithTheInstanceUpClosesADomain)
{
    for (const Phase phase : kAllPhases) {
        for (const Event event : kAllEvents) {
            const Step next = step(phase, event);
            if (!closed(phase) && closed(next.next)) {
                EXPECT_EQ(phase, Phase::kSealing);
                EXPECT_EQ(event, Event::kInstanceReady);
                EXPECT_EQ(next.action, Action::kOpen);
            }
        }
    }
}

TEST(DomainState, NothingComesBackFromStoppingButThroughANewSeal)
{
    std::set<Phase> reached{Phase::kStopping};
    for (std::size_t round = 0; round < kAllPhases.size(); ++round) {
        for (const Phase phase : kAllPhases) {
            for (const Event event : kAllEvents) {
                if (reached.contains(phase) && event != Event::kCreate) {
                    reached.insert(step(phase, event).next);
                }
            }
        }
    }
    EXPECT_FALSE(reached.contains(Phase::kRunning));
    EXPECT_FALSE(reached.contains(Phase::kSealed));
}

TEST(DomainState, ResetLeavesNoDomainRunningAndForgetsNoDirt)
{
    for (const Phase phase : kAllPhases) {
        const Phase after = step(phase, Event::kReset).next;
        EXPECT_EQ(after, closed(phase) ? Phase::kDirty : Phase::kEmpty);
    }
}

TEST(DomainState, EveryPhaseIsReachable)
{
    std::set<Phase> reached{Phase::kEmpty};
    for (std::size_t round = 0; round < kAllPhases.size(); ++round) {
        for (const Phase phase : kAllPhases) {
            for (const Event event : kAllEvents) {
                if (reached.contains(phase)) {
                    reached.insert(step(phase, event).next);
                }
            }
        }
    }
    EXPECT_EQ(reached.size(), kAllPhases.size());
}

TEST(DomainState, SoftwareSeesASealUnderWayAsBuilding)
{
    EXPECT_EQ(visible(Phase::kSealing), dt::State::kBuilding);
    for (const Phase phase : kAllPhases) {
        if (phase != Phase::kSealing) {
            const auto number = static_cast<std::uint32_t>(visible(phase));
            EXPECT_EQ(number, index(phase) > index(Phase::kSealing) ? index(phase) - 1 : index(phase));
        }
    }
}

TEST(ReportState, SignsOnlyWhenNoSignatureIsUnderWay)
{
    for (const dt::ReportStatus state : kAllReportStates) {
        for (const ReportEvent event : kAllReportEvents) {
            const ReportStep next = step(state, event);
            EXPECT_EQ(next.action == ReportAction::kSign,
                      event == ReportEvent::kStart && state != dt::ReportStatus::kBusy);
            EXPECT_EQ(next.action == ReportAction::kPublish,
                      event == ReportEvent::kSigned && state == dt::ReportStatus::kBusy);
            if (next.action == ReportAction::kIgnore) {
                EXPECT_EQ(next.next, state);
            }
            if (event == ReportEvent::kDrop) {
                EXPECT_EQ(next, (ReportStep{dt::ReportStatus::kIdle, ReportAction::kClear}));
            }
            if (event == ReportEvent::kRefused && state != dt::ReportStatus::kBusy) {
                EXPECT_EQ(next, (ReportStep{dt::ReportStatus::kFailed, ReportAction::kClear}));
            }
            if (event == ReportEvent::kFailed && state == dt::ReportStatus::kBusy) {
                EXPECT_EQ(next, (ReportStep{dt::ReportStatus::kFailed, ReportAction::kClear}));
            }
        }
    }
}

} // namespace
} // namespace banyan::domain
