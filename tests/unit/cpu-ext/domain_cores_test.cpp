// SPDX-License-Identifier: GPL-2.0-or-later
#include <gtest/gtest.h>

#include "fake_host.hpp"

// Cores: who joins, who enters, who ends what.

namespace banyan::domain {
namespace {

using dt::Command;
using dt::EndReason;
using dt::State;
using dt::Status;

dt::Descriptor two_cores() // 2 and 4
{
    dt::Descriptor d = good_descriptor(2);
    d.core_mask |= 1U << 4;
    return d;
}

TEST(DomainCores, OnlyACoreOfTheMaskJoinsOnlyASealedDomain)
{
    Bench b;
    EXPECT_FALSE(b.table.join(1, 1)) << "empty";
    b.command(1, Command::kCreate);
    EXPECT_FALSE(b.table.join(1, 1)) << "building";
    b.write_descriptor(1, good_descriptor(1));
    b.command(1, Command::kSeal);
    EXPECT_FALSE(b.table.join(0, 1));
    EXPECT_FALSE(b.table.join(2, 1));
    EXPECT_FALSE(b.table.join(6, 1)) << "no such core";
    EXPECT_FALSE(b.table.join(64, 1));
    EXPECT_FALSE(b.table.join(1, 16)) << "no such domain";
    EXPECT_TRUE(b.table.join(1, 1));
    EXPECT_TRUE(b.table.join(1, 0)) << "leaves";
    EXPECT_FALSE(b.table.enter(1, 1)) << "left";
}

TEST(DomainCores, TheFirstVmrunBeginsAtTheDescriptorsEntry)
{
    Bench b;
    ASSERT_EQ(b.seal(1), Status::kOk);
    EXPECT_FALSE(b.table.enter(1, 1)) << "not joined";
    ASSERT_TRUE(b.table.join(1, 1));
    const auto begin = b.table.enter(1, 1);
    ASSERT_TRUE(begin);
    EXPECT_EQ(begin->entry.eip, 0x2'0000U);
    EXPECT_EQ(begin->entry.eax, 1U);
    EXPECT_EQ(begin->entry.ebx, 2U);
    EXPECT_EQ(begin->entry.esi, 3U);
    EXPECT_FALSE(begin->wait_for_sipi);
    EXPECT_EQ(b.state(1), State::kRunning);
    EXPECT_EQ(b.table.cores(0), 0x3DU);
}

TEST(DomainCores, OtherCoresBeginInWaitForSipi)
{
    Bench b;
    ASSERT_EQ(b.seal(2, two_cores()), Status::kOk);
    ASSERT_TRUE(b.table.join(4, 2));
    const auto ap = b.table.enter(4, 2);
    ASSERT_TRUE(ap);
    EXPECT_TRUE(ap->wait_for_sipi);
    EXPECT_EQ(b.state(2), State::kRunning);
    ASSERT_TRUE(b.table.join(2, 2));
    const auto boot = b.table.enter(2, 2);
    ASSERT_TRUE(boot);
    EXPECT_FALSE(boot->wait_for_sipi);
}

TEST(DomainCores, ACoreEntersOnceBetweenSealAndStop)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    EXPECT_FALSE(b.table.enter(1, 1)) << "it is inside";
    EXPECT_FALSE(b.table.join(1, 0)) << "host code does not run there";
    b.table.exit(1, 1, ExitCause::kShutdown);
    EXPECT_FALSE(b.table.join(1, 1));
    EXPECT_FALSE(b.table.enter(1, 1));
}

TEST(DomainCores, EveryExitIsTheEndOfTheWholeDomain)
{
    struct Case {
        ExitCause cause;
        EndReason reason;
    };
    for (const Case c :
         {Case{ExitCause::kStopLine, EndReason::kStopped}, Case{ExitCause::kShutdown, EndReason::kShutdown},
          Case{ExitCause::kSibling, EndReason::kSibling}, Case{ExitCause::kOther, EndReason::kShutdown}}) {
        Bench b;
        ASSERT_EQ(b.seal(2, two_cores()), Status::kOk);
        ASSERT_TRUE(b.start(2, 2));
        ASSERT_TRUE(b.start(4, 2));
        b.host.calls.clear();
        b.table.exit(4, 2, c.cause);
        EXPECT_EQ(b.state(2), State::kStopping);
        EXPECT_EQ(b.reason(2), c.reason);
        EXPECT_EQ(b.host.calls, (std::vector<std::string>{"stop 2 4", "cancel 2", "off 2 2"}));
        EXPECT_TRUE(b.table.is_closed(2));
        EXPECT_FALSE(b.table.join(4, 2)) << "late";
        EXPECT_FALSE(b.table.enter(4, 2)) << "again";
        b.table.exit(2, 2, ExitCause::kStopLine);
        EXPECT_EQ(b.state(2), State::kDirty);
        EXPECT_EQ(b.reason(2), c.reason) << "the first reason stays";
        EXPECT_TRUE(b.host.called("reach 2"));
        EXPECT_EQ(b.host.count("stop"), 1);
        EXPECT_EQ(b.host.count("off"), 1);
    }
}

TEST(DomainCores, ALateCoreDoesNotEnterAStoppingDomain)
{
    Bench b;
    ASSERT_EQ(b.seal(2, two_cores()), Status::kOk);
    ASSERT_TRUE(b.start(2, 2));
    ASSERT_TRUE(b.table.join(4, 2)); // tagged, but not yet in
    EXPECT_EQ(b.command(2, Command::kStop), Status::kOk);
    EXPECT_EQ(b.state(2), State::kStopping);
    EXPECT_FALSE(b.table.enter(4, 2));
    b.table.exit(2, 2, ExitCause::kStopLine);
    EXPECT_EQ(b.state(2), State::kDirty);
}

TEST(DomainCores, ATagDoesNotOutliveTheLifeItWasGivenFor)
{
    Bench b;
    ASSERT_EQ(b.seal(2, two_cores()), Status::kOk);
    ASSERT_TRUE(b.start(2, 2));
    ASSERT_TRUE(b.table.join(4, 2));
    b.table.exit(2, 2, ExitCause::kShutdown);
    b.command(2, Command::kDelete);
    ASSERT_EQ(b.seal(2, two_cores()), Status::kOk);
    EXPECT_FALSE(b.table.enter(4, 2)) << "a core with an old tag runs foreign code";
    EXPECT_TRUE(b.start(4, 2));
}

TEST(DomainCores, AnExitOfACoreThatIsNotInsideEndsNothing)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    b.table.exit(2, 1, ExitCause::kShutdown);
    b.table.exit(1, 2, ExitCause::kShutdown);
    b.table.exit(1, 0, ExitCause::kShutdown);
    b.table.exit(99, 1, ExitCause::kShutdown);
    b.table.exit(1, 99, ExitCause::kShutdown);
    EXPECT_EQ(b.state(1), State::kRunning);
    EXPECT_NE(b.json().find("\"exits\":{\"running\":1,\"final\":0"), std::string::npos);
}

TEST(DomainCores, TheGuestEndsItselfThroughItsOwnPage)
{
    struct Case {
        std::uint32_t reg;
        std::uint64_t value;
        EndReason reason;
    };
    for (const Case c : {Case{dt::own::kSleepControl, 0x34, EndReason::kPoweroff},
                         Case{dt::own::kReset, dt::own::kResetValue, EndReason::kReboot}}) {
        Bench b;
        ASSERT_TRUE(b.run(1));
        ASSERT_TRUE(b.run(2));
        b.own_write(1, c.reg, c.value, 1);
        EXPECT_EQ(b.state(1), State::kStopping);
        EXPECT_EQ(b.reason(1), c.reason);
        EXPECT_TRUE(b.host.called("stop 1 2"));
        EXPECT_EQ(b.state(2), State::kRunning);
        b.table.exit(1, 1, ExitCause::kStopLine);
        EXPECT_EQ(b.state(1), State::kDirty);
        EXPECT_EQ(b.reason(1), c.reason);
    }
}

TEST(DomainCores, OtherWritesToTheseRegistersEndNothing)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    b.own_write(1, dt::own::kSleepControl, 0x14, 1); // no SLP_EN
    b.own_write(1, dt::own::kSleepStatus, 0x80, 1);  // ACPI clears WAK_STS first
    b.own_write(1, dt::own::kReset, 0x53, 1);
    EXPECT_EQ(b.state(1), State::kRunning);
    EXPECT_EQ(b.denied(1, "mmio"), 0U);
    b.own_write(0, dt::own::kReset, dt::own::kResetValue, 1); // the host is no domain
    EXPECT_EQ(b.denied(0, "mmio"), 1U);
}

TEST(DomainCores, GatesOpenTogetherAndOnlyForRunningDomains)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    ASSERT_TRUE(b.run(2));
    ASSERT_EQ(b.seal(3), Status::kOk);
    EXPECT_EQ(b.own(1, dt::own::kGate), 0U);
    b.control_write(dt::control::kGateOpen, 0xFFFF'FFFF'FFFF'FFFF, 8);
    EXPECT_EQ(b.own(1, dt::own::kGate), 1U);
    EXPECT_EQ(b.own(2, dt::own::kGate), 1U);
    ASSERT_TRUE(b.start(3, 3));
    EXPECT_EQ(b.own(3, dt::own::kGate), 0U) << "it was not running yet";
    b.control_write(dt::control::kGateOpen, 1U << 3);
    EXPECT_EQ(b.own(3, dt::own::kGate), 1U) << "the low half alone will do";
}

TEST(DomainCores, AGateIsClosedAgainInTheNextLife)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    b.control_write(dt::control::kGateOpen, 2, 8);
    b.table.exit(1, 1, ExitCause::kShutdown);
    b.command(1, Command::kDelete);
    ASSERT_TRUE(b.run(1));
    EXPECT_EQ(b.own(1, dt::own::kGate), 0U);
}

TEST(DomainCores, LaunchesAreCountedSinceTheSeal)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    Digest slb{};
    slb[0] = 0xAB;
    b.table.launched(1, slb, {10, 20, 30, 40, 5});
    b.table.launched(1, slb, {10, 20, 30, 40, 5});
    b.select(1);
    EXPECT_EQ(b.control(dt::control::kLaunchCount, 8), 2U);
    const std::string json = b.json();
    EXPECT_NE(json.find("\"virtual_ns\":7,"), std::string::npos) << "as the host said";
    EXPECT_NE(json.find("\"launch\":{\"start_ns\":10,\"hash_start_ns\":20,\"hash_end_ns\":30,\"entry_ns\":40,"
                        "\"wait_for_other_domain_ns\":5,\"slb_sha384\":\"ab00"),
              std::string::npos)
        << json;
    b.table.exit(1, 1, ExitCause::kShutdown);
    b.table.launched(1, slb, {}); // too late
    EXPECT_EQ(b.control(dt::control::kLaunchCount, 8), 2U);
    b.command(1, Command::kDelete);
    EXPECT_NE(b.json().find("\"launch_count\":2"), std::string::npos) << "kept until the next seal";
    ASSERT_TRUE(b.run(1));
    EXPECT_EQ(b.control(dt::control::kLaunchCount, 8), 0U);
    b.table.launched(99, slb, {});
}

TEST(DomainCores, OneDomainsEndDoesNotTouchAnother)
{
    Bench b;
    for (std::uint32_t n = 1; n <= 5; ++n) {
        ASSERT_TRUE(b.run(n)) << n;
    }
    b.host.calls.clear();
    b.table.exit(3, 3, ExitCause::kShutdown);
    for (std::uint32_t n = 1; n <= 5; ++n) {
        EXPECT_EQ(b.state(n), n == 3 ? State::kDirty : State::kRunning);
    }
    EXPECT_EQ(b.host.calls, (std::vector<std::string>{"stop 3 0", "cancel 3", "off 3 3", "cancel 3", "reach 3"}));
}

} // namespace
} // namespace banyan::domain
