// SPDX-License-Identifier: GPL-2.0-or-later
#include <gtest/gtest.h>

#include "fake_host.hpp"

// Commands of the control window: create, seal, stop, delete, erase.

namespace banyan::domain {
namespace {

using dt::Command;
using dt::State;
using dt::Status;

TEST(DomainSeal, ADomainIsOpenToItsHostUntilItIsSealed)
{
    Bench b;
    EXPECT_EQ(b.command(1, Command::kCreate), Status::kOk);
    EXPECT_EQ(b.state(1), State::kBuilding);
    b.write_descriptor(1, good_descriptor(1));
    EXPECT_FALSE(b.table.is_closed(1));
    EXPECT_EQ(b.host.count("reach"), 0);
    EXPECT_EQ(b.command(1, Command::kSeal), Status::kOk);
    EXPECT_EQ(b.state(1), State::kSealed);
    EXPECT_TRUE(b.table.is_closed(1));
    EXPECT_EQ(b.host.calls, (std::vector<std::string>{"on 1 1", "reach 1"}));
}

TEST(DomainSeal, HashesTheDescriptorAndCountsTheStart)
{
    Bench b;
    const dt::Descriptor d = good_descriptor(1);
    ASSERT_EQ(b.seal(1, d), Status::kOk);
    const Digest expected = b.host.sha384(std::as_bytes(std::span(&d, 1)));
    for (std::uint32_t i = 0; i < expected.size(); ++i) {
        EXPECT_EQ(b.control(dt::control::kDigest + i, 1), expected[i]);
    }
    EXPECT_EQ(b.control(dt::control::kStartCount, 8), 1U);
    b.command(1, Command::kStop);
    b.command(1, Command::kDelete);
    EXPECT_EQ(b.control(dt::control::kDigest, 8), 0U);
    EXPECT_EQ(b.control(dt::control::kStartCount, 8), 1U) << "since power-on";
    ASSERT_EQ(b.seal(1, d), Status::kOk);
    EXPECT_EQ(b.control(dt::control::kStartCount, 8), 2U);
}

TEST(DomainSeal, ARefusedDescriptorStaysADraft)
{
    Bench b;
    dt::Descriptor d = good_descriptor(1);
    d.entry.eip = 0xFFFF'0000;
    EXPECT_EQ(b.seal(1, d), Status::kBadDescriptor);
    EXPECT_EQ(b.state(1), State::kBuilding);
    EXPECT_EQ(b.host.count("on"), 0);
    EXPECT_NE(b.json().find("the entry point lies in RAM"), std::string::npos);
    b.write_descriptor(1, good_descriptor(1));
    EXPECT_EQ(b.command(1, Command::kSeal), Status::kOk);
    EXPECT_EQ(b.json().find("the entry point lies in RAM"), std::string::npos);
}

TEST(DomainSeal, NothingOfAnotherDomainCanBeClaimed)
{
    for (const State other : {State::kBuilding, State::kSealed, State::kRunning, State::kDirty}) {
        Bench b;
        if (other == State::kBuilding) {
            b.command(1, Command::kCreate);
            b.write_descriptor(1, good_descriptor(1));
        } else if (other == State::kRunning) {
            ASSERT_TRUE(b.run(1));
        } else {
            ASSERT_EQ(b.seal(1), Status::kOk);
            if (other == State::kDirty) {
                b.command(1, Command::kStop);
            }
        }
        ASSERT_EQ(b.state(1), other);
        dt::Descriptor d = good_descriptor(2);
        d.ranges[0].hpa = good_descriptor(1).ranges[0].hpa;
        EXPECT_EQ(b.seal(2, d), Status::kOverlap) << static_cast<int>(other);
        d = good_descriptor(2);
        d.vtpm_instance = 1;
        b.write_descriptor(2, d);
        EXPECT_EQ(b.command(2, Command::kSeal), Status::kOverlap);
        EXPECT_EQ(b.host.count("on 2"), 0);
        b.write_descriptor(2, good_descriptor(2));
        EXPECT_EQ(b.command(2, Command::kSeal), Status::kOk);
    }
}

TEST(DomainSeal, IsBusyUntilTheInstanceIsUp)
{
    Bench b;
    b.host.instance = Instance::kBusy;
    EXPECT_EQ(b.seal(1), Status::kBusy);
    EXPECT_EQ(b.state(1), State::kBuilding);
    EXPECT_EQ(b.status(1), Status::kBusy);
    EXPECT_FALSE(b.table.is_closed(1));
    EXPECT_EQ(b.table.instance(1), 1U);

    // Frozen: neither bytes nor commands get through.
    b.select(1);
    b.control_write(dt::control::kDescriptor + 40, 0, 8);
    EXPECT_EQ(b.control(dt::control::kDescriptor + 40, 8), good_descriptor(1).core_mask);
    for (const Command c :
         {Command::kCreate, Command::kSeal, Command::kStop, Command::kDelete, Command::kErase, Command::kReceipt}) {
        EXPECT_EQ(b.command(1, c), Status::kBusy);
    }
    EXPECT_FALSE(b.table.join(1, 1));
    EXPECT_EQ(b.host.calls, (std::vector<std::string>{"on 1 1"}));

    // Another domain is not held up, and cannot take what the first has had checked.
    EXPECT_EQ(b.command(2, Command::kCreate), Status::kOk);
    dt::Descriptor d = good_descriptor(2);
    d.core_mask |= 2;
    b.write_descriptor(2, d);
    EXPECT_EQ(b.command(2, Command::kSeal), Status::kOverlap);

    b.host.instance = Instance::kReady;
    EXPECT_EQ(b.status(1), Status::kOk);
    EXPECT_EQ(b.state(1), State::kSealed);
}

TEST(DomainSeal, ReadingAnyRegisterOfTheDomainSeesTheInstanceComeUp)
{
    for (const std::uint32_t reg : {dt::control::kState, dt::control::kStatus, dt::control::kStartCount}) {
        Bench b;
        b.host.instance = Instance::kBusy;
        b.seal(1);
        b.host.instance = Instance::kReady;
        b.control(reg, reg == dt::control::kStartCount ? 8 : 4);
        EXPECT_TRUE(b.table.is_closed(1));
    }
    Bench b;
    b.host.instance = Instance::kBusy;
    b.seal(1);
    b.host.instance = Instance::kReady;
    EXPECT_TRUE(b.table.join(1, 1));
}

TEST(DomainSeal, AnInstanceThatFailsLeavesADraftAndNoBinding)
{
    Bench b;
    b.host.instance = Instance::kBusy;
    b.seal(1);
    b.host.instance = Instance::kFailed;
    EXPECT_EQ(b.status(1), Status::kNoInstance);
    EXPECT_EQ(b.state(1), State::kBuilding);
    EXPECT_EQ(b.host.calls, (std::vector<std::string>{"on 1 1", "off 1 1", "unbind 1 1"}));
    EXPECT_EQ(b.table.instance(1), 0U);
    EXPECT_EQ(b.control(dt::control::kStartCount, 8), 0U);
    b.host.instance = Instance::kReady;
    EXPECT_EQ(b.command(1, Command::kSeal), Status::kOk);
}

TEST(DomainSeal, AnInstanceThatCannotBeBoundIsRefusedAtOnce)
{
    Bench b;
    b.host.instance_on_answer = false;
    EXPECT_EQ(b.seal(1), Status::kNoInstance);
    EXPECT_EQ(b.state(1), State::kBuilding);
    EXPECT_EQ(b.host.calls, (std::vector<std::string>{"on 1 1"})) << "it may be bound to another";
}

/// Domain 1 with instances 1, 21 and 22, as a draft.
void build_with_three(Bench &b)
{
    dt::Descriptor d = good_descriptor(1);
    d.further_vtpms[0] = 21;
    d.further_vtpms[1] = 22;
    b.command(1, Command::kCreate);
    b.write_descriptor(1, d);
}

TEST(DomainSeal, WaitsForEveryInstance)
{
    Bench b;
    build_with_three(b);
    b.host.instances[21] = Instance::kBusy;
    EXPECT_EQ(b.command(1, Command::kSeal), Status::kBusy);
    EXPECT_EQ(b.host.calls, (std::vector<std::string>{"on 1 1", "on 1 21", "on 1 22"}));
    EXPECT_EQ(b.host.behind, (std::map<std::uint32_t, std::uint32_t>{{0, 1}, {1, 21}, {2, 22}}));
    EXPECT_EQ(b.status(1), Status::kBusy);
    b.host.instances[21] = Instance::kReady;
    EXPECT_EQ(b.status(1), Status::kOk);
    EXPECT_EQ(b.state(1), State::kSealed);
    EXPECT_EQ(b.table.instance(1), 1U) << "the one that a launch reaches";
    EXPECT_NE(b.table.json(0).find(R"("instance":1,"further_instances":[21,22],)"), std::string::npos);

    b.host.calls.clear();
    b.command(1, Command::kStop);
    EXPECT_EQ(b.host.count("off"), 3);
    EXPECT_EQ(b.command(1, Command::kErase), Status::kOk);
    for (const char *call : {"off 1 1", "off 1 21", "off 1 22", "erase 1 1", "erase 1 21", "erase 1 22"}) {
        EXPECT_TRUE(b.host.called(call)) << call;
    }
}

TEST(DomainSeal, OneInstanceThatFailsReleasesAll)
{
    Bench b;
    build_with_three(b);
    b.host.instances[1] = Instance::kBusy;
    b.host.instances[22] = Instance::kFailed;
    EXPECT_EQ(b.command(1, Command::kSeal), Status::kNoInstance);
    EXPECT_EQ(b.state(1), State::kBuilding);
    for (const char *call : {"off 1 1", "off 1 21", "off 1 22", "unbind 1 1", "unbind 1 21", "unbind 1 22"}) {
        EXPECT_TRUE(b.host.called(call)) << call;
    }
}

TEST(DomainSeal, AnInstanceThatCannotBeBoundReleasesThoseBeforeIt)
{
    Bench b;
    build_with_three(b);
    b.host.refused = 22;
    EXPECT_EQ(b.command(1, Command::kSeal), Status::kNoInstance);
    EXPECT_EQ(b.state(1), State::kBuilding);
    EXPECT_EQ(b.host.calls, (std::vector<std::string>{"on 1 1", "on 1 21", "on 1 22", "off 1 21", "unbind 1 21",
                                                      "off 1 1", "unbind 1 1"}));
}

TEST(DomainSeal, ADraftErasesNoneOfAnothersFurtherInstances)
{
    Bench b;
    build_with_three(b);
    ASSERT_EQ(b.command(1, Command::kSeal), Status::kOk);
    dt::Descriptor d = good_descriptor(2);
    d.further_vtpms[3] = 22;
    b.command(2, Command::kCreate);
    b.write_descriptor(2, d);
    EXPECT_EQ(b.command(2, Command::kErase), Status::kNoInstance);
    EXPECT_EQ(b.host.count("erase"), 0);
}

TEST(DomainSeal, TheDescriptorCannotBeWrittenAfterwards)
{
    Bench b;
    ASSERT_EQ(b.seal(1), Status::kOk);
    for (std::uint32_t at = 0; at < sizeof(dt::Descriptor); ++at) {
        const std::uint64_t before = b.control(dt::control::kDescriptor + at, 1);
        b.control_write(dt::control::kDescriptor + at, ~before, 1);
        ASSERT_EQ(b.control(dt::control::kDescriptor + at, 1), before);
    }
    EXPECT_EQ(b.denied(0, "mmio"), sizeof(dt::Descriptor));
}

TEST(DomainSeal, CommandsInTheWrongStateChangeNothing)
{
    const auto at = [](State state, Bench &b) {
        if (state >= State::kBuilding) {
            b.command(1, Command::kCreate);
            b.write_descriptor(1, good_descriptor(1));
        }
        if (state >= State::kSealed) {
            b.command(1, Command::kSeal);
        }
        if (state == State::kRunning || state == State::kStopping) {
            b.start(1, 1);
        }
        if (state >= State::kStopping) {
            b.command(1, Command::kStop);
        }
        ASSERT_EQ(b.state(1), state);
    };
    struct Allowed {
        State state;
        std::vector<Command> commands;
    };
    const std::vector<Allowed> table{
        {State::kEmpty, {Command::kCreate}},
        {State::kBuilding, {Command::kSeal, Command::kDelete, Command::kErase}},
        {State::kSealed, {Command::kStop, Command::kReceipt}},
        {State::kRunning, {Command::kStop, Command::kReceipt}},
        {State::kStopping, {Command::kReceipt}},
        {State::kDirty, {Command::kDelete, Command::kErase, Command::kReceipt}},
    };
    for (const Allowed &row : table) {
        for (std::uint32_t code = 0; code <= 8; ++code) {
            Bench b;
            at(row.state, b);
            const auto calls = b.host.calls;
            const auto command = static_cast<Command>(code);
            const bool allowed = std::count(row.commands.begin(), row.commands.end(), command) != 0;
            const Status status = b.command(1, command);
            EXPECT_EQ(status, allowed ? Status::kOk : Status::kBadState)
                << "state " << static_cast<int>(row.state) << " command " << code;
            if (!allowed) {
                EXPECT_EQ(b.state(1), row.state);
                EXPECT_EQ(b.host.calls, calls);
            }
        }
    }
}

TEST(DomainSeal, StopOfASealedDomainMakesItDirty)
{
    Bench b;
    ASSERT_EQ(b.seal(1), Status::kOk);
    ASSERT_TRUE(b.table.join(1, 1));
    b.host.calls.clear();
    EXPECT_EQ(b.command(1, Command::kStop), Status::kOk);
    EXPECT_EQ(b.state(1), State::kDirty);
    EXPECT_EQ(b.reason(1), dt::EndReason::kStopped);
    EXPECT_EQ(b.host.calls, (std::vector<std::string>{"cancel 1", "off 1 1", "cancel 1", "reach 1"}));
    EXPECT_FALSE(b.table.enter(1, 1));
}

TEST(DomainSeal, DeleteScrubsEveryRangeBeforeTheHostGetsItBack)
{
    Bench b;
    const dt::Descriptor d = good_descriptor(1);
    ASSERT_EQ(b.seal(1), Status::kOk);
    b.command(1, Command::kStop);
    b.host.calls.clear();
    b.host.window_is_closed = true;
    EXPECT_EQ(b.command(1, Command::kDelete), Status::kOk);
    EXPECT_EQ(b.state(1), State::kEmpty);
    const auto scrub = [](const dt::Range &r) {
        return "scrub " + std::to_string(r.hpa) + " " + std::to_string(r.size);
    };
    EXPECT_EQ(b.host.calls,
              (std::vector<std::string>{scrub(d.ranges[0]), scrub(d.ranges[1]), "unbind 1 1", "lifted 1", "reach 1"}));
    EXPECT_FALSE(b.table.is_closed(1));
    EXPECT_EQ(b.control(dt::control::kDescriptor, 8), 0U);
}

TEST(DomainSeal, EraseZeroisesTheInstanceToo)
{
    Bench b;
    ASSERT_EQ(b.seal(1), Status::kOk);
    b.command(1, Command::kStop);
    EXPECT_EQ(b.command(1, Command::kErase), Status::kOk);
    EXPECT_TRUE(b.host.called("erase 1 1"));
    EXPECT_EQ(b.host.count("scrub"), 2);
}

TEST(DomainSeal, ADraftCanNeitherScrubNorEraseWhatIsNotItsOwn)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    b.command(2, Command::kCreate);
    dt::Descriptor d = good_descriptor(1); // names domain 1's RAM and instance
    b.write_descriptor(2, d);
    EXPECT_EQ(b.command(2, Command::kErase), Status::kNoInstance);
    EXPECT_EQ(b.state(2), State::kBuilding);
    EXPECT_EQ(b.command(2, Command::kDelete), Status::kOk);
    EXPECT_EQ(b.host.count("scrub"), 0);
    EXPECT_EQ(b.host.count("erase"), 0);
    EXPECT_EQ(b.host.count("unbind"), 0);

    b.command(2, Command::kCreate);
    d.vtpm_instance = 0; // the host's
    b.write_descriptor(2, d);
    EXPECT_EQ(b.command(2, Command::kErase), Status::kNoInstance);
    d.vtpm_instance = 7; // nobody's
    b.write_descriptor(2, d);
    EXPECT_EQ(b.command(2, Command::kErase), Status::kOk);
    EXPECT_TRUE(b.host.called("erase 2 7"));
}

TEST(DomainSeal, ResetDropsDraftsAndLeavesDirt)
{
    Bench b;
    b.command(1, Command::kCreate);
    ASSERT_EQ(b.seal(2), Status::kOk);
    ASSERT_TRUE(b.run(3));
    ASSERT_TRUE(b.run(4));
    b.command(4, Command::kStop);
    b.host.instance = Instance::kBusy;
    b.seal(5);
    b.host.calls.clear();
    b.table.reset();
    EXPECT_EQ(b.host.count("stop"), 0) << "the reset has torn the cores out";
    EXPECT_TRUE(b.host.called("off 2 2") && b.host.called("off 3 3") && b.host.called("off 5 5"));
    EXPECT_TRUE(b.host.called("unbind 5 5"));
    EXPECT_TRUE(b.host.called("reach 2") && b.host.called("reach 3") && b.host.called("reach 4"));
    EXPECT_EQ(b.host.count("scrub"), 0);
    EXPECT_EQ(b.state(1), State::kEmpty);
    EXPECT_EQ(b.state(2), State::kDirty);
    EXPECT_EQ(b.state(3), State::kDirty);
    EXPECT_EQ(b.state(4), State::kDirty);
    EXPECT_EQ(b.state(5), State::kEmpty);
    EXPECT_EQ(b.reason(2), dt::EndReason::kReset);
    EXPECT_EQ(b.reason(3), dt::EndReason::kReset);
    EXPECT_EQ(b.reason(4), dt::EndReason::kStopped) << "the first reason stays";
    EXPECT_EQ(b.table.cores(0), 0x3FU) << "all cores are the host's again";
    EXPECT_EQ(b.command(3, Command::kDelete), Status::kOk);
    EXPECT_EQ(b.host.count("scrub"), 2);

    b.table.reset(); // dirt outlives the next one too
    EXPECT_EQ(b.state(2), State::kDirty);
}

TEST(DomainSeal, ResetForgetsTheSelection)
{
    Bench b;
    b.select(3);
    b.table.reset();
    EXPECT_EQ(b.control(dt::control::kSelect), 0U);
    EXPECT_EQ(b.control(dt::control::kStatus), static_cast<std::uint64_t>(Status::kBadDomain));
}

} // namespace
} // namespace banyan::domain
