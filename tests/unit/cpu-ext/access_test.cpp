// SPDX-License-Identifier: GPL-2.0-or-later
#include "cpu-ext/access/access.hpp"

#include <gtest/gtest.h>

#include "cpu-ext/access/msr_profile.hpp"
#include "fake_host.hpp"

namespace banyan::domain {
namespace {

using access::kMsrProfileLinux;
using dt::MsrAction;
using dt::PortAction;

TEST(MsrProfile, AnswersAsItsTableAtEveryEdge)
{
    for (const access::MsrFact &fact : kMsrProfileLinux) {
        for (const std::uint32_t msr : {fact.first, fact.last}) {
            const access::MsrAnswer answer = access::profile_msr(1, msr);
            EXPECT_EQ(answer.action, fact.action) << fact.name;
            EXPECT_EQ(answer.value, fact.value) << fact.name;
            EXPECT_EQ(answer.write_mask, fact.write_mask) << fact.name;
        }
    }
    for (std::size_t i = 1; i < kMsrProfileLinux.size(); ++i) {
        if (kMsrProfileLinux[i - 1].last + 1 < kMsrProfileLinux[i].first) {
            EXPECT_EQ(access::profile_msr(1, kMsrProfileLinux[i].first - 1).action, MsrAction::kFault);
        }
    }
}

TEST(MsrProfile, WhatNoLineNamesFaults)
{
    for (const std::uint32_t msr : {0U, 0x11U, 0x830U, 0xC000'0104U, 0xC001'0111U, 0xC001'0117U, 0xC001'0118U,
                                    dt::kMsrDomain, 0xC001'0299U, 0x4000'0000U, 0xFFFF'FFFFU}) {
        EXPECT_EQ(access::profile_msr(1, msr).action, MsrAction::kFault) << std::hex << msr;
    }
    EXPECT_EQ(access::profile_msr(0, 0xC000'0080).action, MsrAction::kFault) << "no such profile";
    EXPECT_EQ(access::profile_msr(2, 0xC000'0080).action, MsrAction::kFault);
}

TEST(MsrProfile, GivesNoForbiddenRegisterToAWrite)
{
    for (const access::MsrForbidden &forbidden : access::kMsrForbidden) {
        for (std::uint32_t msr = forbidden.first; msr <= forbidden.last; ++msr) {
            EXPECT_TRUE(access::msr_forbidden(msr));
            EXPECT_EQ(access::profile_msr(1, msr).write_mask, 0U);
        }
    }
    EXPECT_FALSE(access::msr_forbidden(0xC000'0080));
    EXPECT_FALSE(access::msr_forbidden(0xC001'0114));
}

TEST(MsrFilter, LaterRulesWinOverEarlierOnesAndTheProfile)
{
    Bench b;
    dt::Descriptor d = good_descriptor(1);
    d.msr_count = 3;
    d.msrs[0] = {0xC000'0080, MsrAction::kFault, {}, 0, 0};
    d.msrs[1] = {0xC000'0080, MsrAction::kConstant, {}, 0xD01, 0};
    d.msrs[2] = {0x0000'0DA0, MsrAction::kPass, {}, 0, 0x100};
    ASSERT_EQ(b.seal(1, d), dt::Status::kOk);
    EXPECT_EQ(b.table.msr(1, 0xC000'0080, false).value, 0xD01U);
    EXPECT_EQ(b.table.msr(1, 0x0DA0, true).action, MsrAction::kPass);
    EXPECT_EQ(b.table.msr(1, 0x0DA0, true).write_mask, 0x100U);
    EXPECT_EQ(b.table.msr(1, 0x277, true).action, MsrAction::kPass) << "the profile's";
}

TEST(MsrFilter, CountsFaultsAndWritesThatVanish)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    (void)b.table.msr(1, 0x277, true);        // passes
    (void)b.table.msr(1, 0x10, false);        // read passes
    (void)b.table.msr(1, 0xC001'0010, false); // constant read
    EXPECT_EQ(b.denied(1, "msr"), 0U);
    (void)b.table.msr(1, 0x10, true);        // TSC write vanishes
    (void)b.table.msr(1, 0xC001'0010, true); // SYSCFG write vanishes
    (void)b.table.msr(1, 0xC001'0117, false);
    (void)b.table.msr(1, 0xC001'0117, true);
    EXPECT_EQ(b.denied(1, "msr"), 4U);
}

TEST(MsrFilter, TheHostIsNotFilteredAndADeadDomainGetsNothing)
{
    Bench b;
    EXPECT_EQ(b.table.msr(0, 0xC001'0117, true).action, MsrAction::kPass);
    EXPECT_EQ(b.table.msr(1, 0x277, false).action, MsrAction::kFault);
    EXPECT_EQ(b.table.msr(16, 0x277, false).action, MsrAction::kFault);
    ASSERT_TRUE(b.run(1));
    EXPECT_EQ(b.table.msr(1, 0x277, false).action, MsrAction::kPass);
    b.table.exit(1, 1, ExitCause::kShutdown);
    EXPECT_EQ(b.table.msr(1, 0x277, false).action, MsrAction::kFault);
}

TEST(PortFilter, DeniesAllAndReadsOnesButForTwo)
{
    Bench b;
    dt::Descriptor d = good_descriptor(1);
    d.port_count = 0;
    d.ports[0] = {};
    ASSERT_EQ(b.seal(1, d), dt::Status::kOk);
    for (std::uint32_t port = 0; port < 0x1'0000; ++port) {
        std::uint32_t value = 0xDEAD;
        ASSERT_FALSE(b.table.port(1, static_cast<std::uint16_t>(port), 1, false, value));
        ASSERT_EQ(value, port == 0x42 || port == 0x71 ? 0U : 0xFFU) << port;
    }
    EXPECT_EQ(b.denied(1, "port"), 0x1'0000U);
}

TEST(PortFilter, WideAccessesNeedEveryPortAndReadEachOnesByte)
{
    Bench b;
    dt::Descriptor d = good_descriptor(1);
    d.port_count = 3;
    d.ports[0] = {0x3F8, 0x3FF, PortAction::kAllow, 0, {}};
    d.ports[1] = {0x3FC, 0x3FC, PortAction::kDeny, 0x5A, {}};
    d.ports[2] = {0x100, 0x101, PortAction::kDeny, 0x11, {}};
    ASSERT_EQ(b.seal(1, d), dt::Status::kOk);
    std::uint32_t value = 0xDEAD;
    EXPECT_TRUE(b.table.port(1, 0x3F8, 4, false, value));
    EXPECT_EQ(value, 0xDEADU) << "the bus answers";
    EXPECT_FALSE(b.table.port(1, 0x3FC, 1, false, value)) << "the later rule wins";
    EXPECT_EQ(value, 0x5AU);
    EXPECT_FALSE(b.table.port(1, 0x3FB, 2, false, value));
    EXPECT_EQ(value, 0x5AFFU);
    EXPECT_FALSE(b.table.port(1, 0x3FE, 4, false, value)) << "half of it is not its own";
    EXPECT_FALSE(b.table.port(1, 0x100, 4, false, value));
    EXPECT_EQ(value, 0xFFFF'1111U);
    EXPECT_FALSE(b.table.port(1, 0x70, 2, false, value));
    EXPECT_EQ(value, 0x00FFU);
    EXPECT_FALSE(b.table.port(1, 0xFFFE, 4, false, value)) << "over the end";
    EXPECT_EQ(value, 0xFFFF'FFFFU);
    EXPECT_FALSE(b.table.port(1, 0x3F8, 3, false, value)) << "no such width";
    value = 0xDEAD;
    EXPECT_FALSE(b.table.port(1, 0x100, 1, true, value));
    EXPECT_EQ(value, 0xDEADU) << "a write gives nothing back";
}

TEST(PortFilter, TheHostIsNotFilteredAndADeadDomainGetsNothing)
{
    Bench b;
    std::uint32_t value = 0;
    EXPECT_TRUE(b.table.port(0, 0xCF8, 4, true, value));
    EXPECT_FALSE(b.table.port(1, 0x80, 1, false, value));
    EXPECT_FALSE(b.table.port(16, 0x80, 1, false, value));
    ASSERT_TRUE(b.run(1));
    EXPECT_TRUE(b.table.port(1, 0x80, 1, false, value));
    b.table.exit(1, 1, ExitCause::kShutdown);
    EXPECT_FALSE(b.table.port(1, 0x80, 1, false, value));
    EXPECT_EQ(b.denied(0, "port"), 0U);
}

TEST(Denials, AreCountedByDomainAndKindFromTheSealOn)
{
    Bench b;
    ASSERT_TRUE(b.run(1));
    ASSERT_TRUE(b.run(2));
    for (const Denied what : kAllDenied) {
        for (int i = 0; i <= static_cast<int>(what); ++i) {
            b.table.deny(1, what);
        }
    }
    b.table.deny(0, Denied::kDma);
    b.table.deny(16, Denied::kDma);
    EXPECT_EQ(b.denied(1, "port"), 1U);
    EXPECT_EQ(b.denied(1, "mmio"), 2U);
    EXPECT_EQ(b.denied(1, "interrupt"), 3U);
    EXPECT_EQ(b.denied(1, "msr"), 4U);
    EXPECT_EQ(b.denied(1, "dma"), 5U);
    EXPECT_EQ(b.denied(2, "dma"), 0U);
    EXPECT_EQ(b.denied(0, "dma"), 1U);
    b.table.exit(1, 1, ExitCause::kShutdown);
    EXPECT_EQ(b.denied(1, "dma"), 5U);
    b.command(1, dt::Command::kDelete);
    EXPECT_EQ(b.denied(1, "dma"), 5U) << "until the next seal";
    ASSERT_TRUE(b.run(1));
    EXPECT_EQ(b.denied(1, "dma"), 0U);
}

} // namespace
} // namespace banyan::domain
