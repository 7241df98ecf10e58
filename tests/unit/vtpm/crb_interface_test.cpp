// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/chip/crb_interface.hpp"

#include <vector>

#include <gtest/gtest.h>

#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {
namespace {

using namespace crb;
using Bytes = std::vector<std::uint8_t>;

const Bytes kCommand{0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 32};
const Bytes kResponse{0x80, 0x01, 0, 0, 0, 14, 0, 0, 0, 0, 1, 2, 3, 4};

class Crb : public testing::Test {
protected:
    explicit Crb(bool interrupts = false) : crb(0, interrupts) { crb.power_on(false); }

    Wish write(unsigned locality, Reg reg, std::uint64_t value, unsigned width = 4)
    {
        return crb.write(locality * kPageSize + static_cast<std::uint32_t>(reg), width, value);
    }
    std::uint32_t read(unsigned locality, Reg reg, unsigned width = 4)
    {
        return static_cast<std::uint32_t>(crb.read(locality * kPageSize + static_cast<std::uint32_t>(reg), width));
    }
    void take(unsigned locality) { (void)write(locality, Reg::kLocCtrl, LocCtrl::RequestAccess::kMask); }
    void leave(unsigned locality) { (void)write(locality, Reg::kLocCtrl, LocCtrl::Relinquish::kMask); }
    void ready(unsigned locality) { (void)write(locality, Reg::kCtrlReq, CtrlReq::CmdReady::kMask); }
    void idle(unsigned locality) { (void)write(locality, Reg::kCtrlReq, CtrlReq::GoIdle::kMask); }
    Wish start(unsigned locality) { return write(locality, Reg::kCtrlStart, CtrlStart::Start::kMask); }
    bool granted(unsigned locality) { return LocSts::Granted::get(read(locality, Reg::kLocSts)); }
    bool been_seized(unsigned locality) { return LocSts::BeenSeized::get(read(locality, Reg::kLocSts)); }
    void put(unsigned locality, const Bytes &bytes, unsigned width = 1, std::uint32_t from = 0)
    {
        for (std::size_t at = 0; at < bytes.size(); at += width) {
            std::uint64_t value = 0;
            const unsigned part = static_cast<unsigned>(std::min<std::size_t>(width, bytes.size() - at));
            for (unsigned i = 0; i < part; ++i) {
                value |= std::uint64_t{bytes[at + i]} << (8 * i);
            }
            (void)crb.write(locality * kPageSize + kDataBufferAt + from + static_cast<std::uint32_t>(at), width, value);
        }
    }
    Bytes get(unsigned locality, std::size_t size, unsigned width = 1)
    {
        Bytes bytes;
        for (std::size_t at = 0; at < size; at += width) {
            const std::uint64_t value =
                crb.read(locality * kPageSize + kDataBufferAt + static_cast<std::uint32_t>(at), width);
            for (unsigned i = 0; i < width && bytes.size() < size; ++i) {
                bytes.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
            }
        }
        return bytes;
    }

    CrbInterface crb;
};

TEST_F(Crb, ACommandGoesRoundOnce)
{
    take(0);
    EXPECT_TRUE(granted(0));
    EXPECT_TRUE(CtrlSts::TpmIdle::get(read(0, Reg::kCtrlSts)));
    ready(0);
    EXPECT_FALSE(CtrlSts::TpmIdle::get(read(0, Reg::kCtrlSts)));
    EXPECT_EQ(read(0, Reg::kCtrlReq), 0U) << "done at once";
    put(0, kCommand);
    EXPECT_EQ(get(0, kCommand.size()), kCommand) << "it is a buffer";
    EXPECT_TRUE(start(0).dispatch);
    EXPECT_EQ(Bytes(crb.command().begin(), crb.command().end()), kCommand);
    EXPECT_TRUE(CtrlStart::Start::get(read(0, Reg::kCtrlStart)));
    EXPECT_FALSE(start(0).dispatch);
    crb.respond(kResponse);
    EXPECT_FALSE(CtrlStart::Start::get(read(0, Reg::kCtrlStart)));
    EXPECT_EQ(get(0, kResponse.size()), kResponse);
    idle(0);
    EXPECT_TRUE(CtrlSts::TpmIdle::get(read(0, Reg::kCtrlSts)));
    EXPECT_EQ(get(0, 4), Bytes(4, 0xff)) << "nothing to see in Idle";
}

TEST_F(Crb, TheBufferTakesAndGivesAnyWidthAtAnyAlignment)
{
    take(2);
    for (const unsigned width : {1U, 2U, 4U, 8U}) {
        for (std::uint32_t shift = 0; shift < 8; ++shift) {
            ready(2);
            Bytes bytes;
            for (unsigned i = 0; i < 64; ++i) {
                bytes.push_back(static_cast<std::uint8_t>(i * 37 + width));
            }
            put(2, bytes, width, shift);
            Bytes expected(shift, 0);
            expected.insert(expected.end(), bytes.begin(), bytes.end());
            for (const unsigned out : {1U, 2U, 4U, 8U}) {
                EXPECT_EQ(get(2, expected.size(), out), expected) << width << " in, " << out << " out, at " << shift;
            }
        }
    }
    // To its last byte and not beyond.
    ready(2);
    (void)crb.write(2 * kPageSize + kPageSize - 8, 8, 0x0807'0605'0403'0201);
    EXPECT_EQ(crb.read(2 * kPageSize + kPageSize - 8, 8), 0x0807'0605'0403'0201U);
    EXPECT_EQ(crb.read(2 * kPageSize + kPageSize - 4, 8), ~std::uint64_t{0});
}

TEST_F(Crb, TheBufferIsDeafInIdleAndWhileACommandExecutes)
{
    take(0);
    put(0, kCommand);
    EXPECT_FALSE(start(0).dispatch) << "in Idle nothing was taken";
    ready(0);
    EXPECT_FALSE(start(0).dispatch) << "nor is there a command in Ready";
    put(0, kCommand);
    ASSERT_TRUE(start(0).dispatch);
    put(0, Bytes(64, 0x5a));
    EXPECT_EQ(Bytes(crb.command().begin(), crb.command().end()), kCommand);
    EXPECT_EQ(get(0, 4), Bytes(4, 0xff));
    crb.respond(kResponse);
    EXPECT_EQ(get(0, 20), (Bytes{0x80, 0x01, 0, 0, 0, 14, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0}));
}

TEST_F(Crb, IgnoresGoIdleAndCmdReadyWhileACommandExecutes)
{
    take(0);
    ready(0);
    put(0, kCommand);
    (void)start(0);
    idle(0);
    EXPECT_EQ(crb.state(), CrbState::kExecution);
    ready(0);
    EXPECT_EQ(crb.state(), CrbState::kExecution);
    EXPECT_EQ(read(0, Reg::kCtrlReq), 0U) << "and nobody waits for it";
}

TEST_F(Crb, ANewCommandFollowsAResponseWithoutCmdReady)
{
    take(0);
    ready(0);
    for (int i = 0; i < 3; ++i) {
        put(0, kCommand, 4);
        ASSERT_TRUE(start(0).dispatch) << i;
        EXPECT_EQ(Bytes(crb.command().begin(), crb.command().end()), kCommand);
        crb.respond(kResponse);
        EXPECT_FALSE(start(0).dispatch) << "a response is no command";
    }
    put(0, {0x80});
    EXPECT_EQ(get(0, 6), (Bytes{0x80, 0, 0, 0, 0, 0})) << "the response is gone with the first byte";
}

TEST_F(Crb, BothBitsOfARequestDoNothing)
{
    take(0);
    (void)write(0, Reg::kCtrlReq, CtrlReq::CmdReady::kMask | CtrlReq::GoIdle::kMask);
    EXPECT_EQ(crb.state(), CrbState::kIdle);
    ready(0);
    (void)write(0, Reg::kCtrlReq, CtrlReq::CmdReady::kMask | CtrlReq::GoIdle::kMask);
    EXPECT_EQ(crb.state(), CrbState::kReady);
}

TEST_F(Crb, CancelActsWhenItIsWrittenDuringExecutionAlone)
{
    take(0);
    EXPECT_FALSE(write(0, Reg::kCtrlCancel, 1).cancel);
    EXPECT_EQ(read(0, Reg::kCtrlCancel), 1U) << "reads what was written";
    ready(0);
    put(0, kCommand);
    EXPECT_FALSE(start(0).cancel) << "one that software forgot";
    EXPECT_FALSE(write(0, Reg::kCtrlCancel, 0).cancel);
    EXPECT_TRUE(write(0, Reg::kCtrlCancel, 1).cancel);
    crb.respond(kResponse);
    EXPECT_EQ(get(0, kResponse.size()), kResponse) << "a cancelled command has a response";
    EXPECT_FALSE(write(0, Reg::kCtrlCancel, 1).cancel);
}

TEST_F(Crb, ACommandIsAsLongAsItsHeaderSaysUpToTheBuffer)
{
    take(0);
    for (const std::uint32_t size : {0U, 9U, 10U, 3968U, 3969U, 4097U, 0xffff'ffffU}) {
        ready(0);
        Bytes bytes{0x80, 0x01};
        for (int shift = 24; shift >= 0; shift -= 8) {
            bytes.push_back(static_cast<std::uint8_t>(size >> shift));
        }
        put(0, bytes);
        ASSERT_TRUE(start(0).dispatch);
        EXPECT_EQ(crb.command().size(), std::min<std::size_t>(size, kDataBufferSize));
        EXPECT_EQ(command_header_ok(crb.command()), size == 10 || size == 3968) << size;
        crb.respond(kResponse);
    }
}

TEST_F(Crb, ARequestWaitsAndIsGrantedByRelinquish)
{
    take(1);
    take(0);
    EXPECT_FALSE(granted(0));
    for (unsigned l = 0; l < kLocalities; ++l) { // the same from everywhere
        EXPECT_TRUE(LocState::LocAssigned::get(read(l, Reg::kLocState)));
        EXPECT_EQ(LocState::ActiveLocality::get(read(l, Reg::kLocState)), 1U);
    }
    leave(1);
    EXPECT_TRUE(granted(0));
    EXPECT_FALSE(been_seized(1)) << "it left by itself";
    leave(0);
    EXPECT_FALSE(LocState::LocAssigned::get(read(0, Reg::kLocState)));
    EXPECT_EQ(LocState::ActiveLocality::get(read(0, Reg::kLocState)), 0U);
}

TEST_F(Crb, ASeizureDropsTheCommandAndLeavesNothingToRead)
{
    take(0);
    ready(0);
    put(0, kCommand);
    ASSERT_TRUE(start(0).dispatch);
    EXPECT_FALSE(write(0, Reg::kLocCtrl, LocCtrl::Seize::kMask).abandon) << "not from itself";
    EXPECT_TRUE(write(2, Reg::kLocCtrl, LocCtrl::Seize::kMask).abandon);
    EXPECT_TRUE(been_seized(0));
    EXPECT_FALSE(granted(0));
    EXPECT_TRUE(granted(2));
    EXPECT_EQ(read(0, Reg::kCtrlStart), 0xffff'ffffU);
    EXPECT_TRUE(CtrlSts::TpmIdle::get(read(2, Reg::kCtrlSts)));
    ready(2);
    EXPECT_EQ(read(2, Reg::kCtrlReq), CtrlReq::CmdReady::kMask) << "not before the abandoned one has ended";
    put(2, kCommand);
    EXPECT_FALSE(start(2).dispatch);
    crb.respond(kResponse);
    EXPECT_EQ(read(2, Reg::kCtrlReq), 0U);
    EXPECT_EQ(get(2, kResponse.size()), Bytes(kResponse.size(), 0));
    put(2, kCommand);
    EXPECT_TRUE(start(2).dispatch);
    (void)write(0, Reg::kLocCtrl, LocCtrl::RequestAccess::kMask);
    EXPECT_FALSE(been_seized(0)) << "who asks again knows";
    EXPECT_FALSE(granted(0)) << "and waits";
}

TEST_F(Crb, ALaunchTakesTheInterfaceAndGivesItBack)
{
    take(0);
    take(1);
    ready(0);
    put(0, kCommand);
    (void)start(0);
    EXPECT_TRUE(crb.hardware_seize().abandon);
    EXPECT_EQ(LocState::ActiveLocality::get(read(0, Reg::kLocState)), 4U);
    for (unsigned l = 0; l < 4; ++l) {
        (void)write(l, Reg::kLocCtrl, LocCtrl::Seize::kMask);
        EXPECT_EQ(crb.locality(), 4) << l;
        EXPECT_FALSE(start(l).dispatch);
        take(l);
    }
    crb.respond(kResponse);
    crb.hardware_release();
    EXPECT_EQ(crb.locality(), 3) << "those that asked during the launch come now";
    EXPECT_EQ(crb.state(), CrbState::kIdle);
}

TEST_F(Crb, EstablishedIsInvertedAndResetFromLocality3)
{
    crb.power_on(true);
    EXPECT_FALSE(LocState::TpmEstablished::get(read(0, Reg::kLocState)));
    EXPECT_FALSE(write(3, Reg::kLocCtrl, LocCtrl::ResetEstablishmentBit::kMask).reset_established) << "not active";
    for (unsigned l = 0; l < kLocalities; ++l) {
        take(l);
        EXPECT_EQ(write(l, Reg::kLocCtrl, LocCtrl::ResetEstablishmentBit::kMask).reset_established, l == 3) << l;
        leave(l);
    }
    take(3);
    ready(3);
    put(3, kCommand);
    EXPECT_FALSE(write(3, Reg::kLocCtrl, LocCtrl::ResetEstablishmentBit::kMask).reset_established) << "a command is in";
    crb.set_established(false);
    EXPECT_TRUE(LocState::TpmEstablished::get(read(0, Reg::kLocState)));
}

TEST_F(Crb, PowerOnForgetsEverything)
{
    take(0);
    take(2);
    ready(0);
    put(0, kCommand);
    (void)write(0, Reg::kCtrlCancel, 1);
    (void)start(0);
    crb.power_on(false);
    EXPECT_EQ(crb.localities(), Localities{});
    EXPECT_EQ(crb.state(), CrbState::kIdle);
    take(0);
    EXPECT_EQ(read(0, Reg::kCtrlCancel), 0U);
    ready(0);
    EXPECT_EQ(get(0, kCommand.size()), Bytes(kCommand.size(), 0));
}

class WiredCrb : public Crb {
protected:
    WiredCrb() : Crb(true) {}
    void enable(unsigned locality, std::uint32_t causes)
    {
        (void)write(locality, Reg::kIntEnable, causes | IntEnable::GlobalInterruptEnable::kMask);
    }
    std::uint32_t status(unsigned locality) { return read(locality, Reg::kIntSts); }
    void acknowledge(unsigned locality, std::uint32_t causes) { (void)write(locality, Reg::kIntSts, causes); }
};

TEST_F(WiredCrb, EachCauseRaisesTheLineUntilItIsAcknowledged)
{
    const auto expect_cause = [&](unsigned locality, std::uint32_t cause) {
        EXPECT_EQ(status(locality), cause);
        EXPECT_TRUE(crb.irq_level());
        EXPECT_TRUE(crb.irq_level()) << "a level";
        acknowledge(locality, ~cause);
        EXPECT_TRUE(crb.irq_level()) << "not by another bit";
        acknowledge(locality, cause);
        EXPECT_EQ(status(locality), 0U);
        EXPECT_FALSE(crb.irq_level());
    };
    enable(3, kIntCauses);
    EXPECT_FALSE(crb.irq_level());
    take(3);
    expect_cause(3, IntEnable::LocalityChange::kMask);
    ready(3);
    expect_cause(3, IntEnable::CmdReady::kMask);
    put(3, kCommand);
    (void)start(3);
    EXPECT_FALSE(crb.irq_level());
    crb.respond(kResponse);
    expect_cause(3, IntEnable::Start::kMask);
    crb.set_established(true);
    EXPECT_FALSE(crb.irq_level());
    crb.set_established(false);
    expect_cause(3, IntEnable::EstablishmentClear::kMask);
}

TEST_F(WiredCrb, CmdReadyThatWasDelayedRaisesTheLineWhenItIsDone)
{
    take(0);
    ready(0);
    put(0, kCommand);
    (void)start(0);
    (void)write(1, Reg::kLocCtrl, LocCtrl::Seize::kMask);
    enable(1, IntEnable::CmdReady::kMask);
    ready(1);
    EXPECT_FALSE(crb.irq_level());
    crb.respond({});
    EXPECT_EQ(status(1), IntEnable::CmdReady::kMask);
    EXPECT_TRUE(crb.irq_level());
}

TEST_F(WiredCrb, WhatIsNotEnabledIsNotNoted)
{
    (void)write(0, Reg::kIntEnable, IntEnable::Start::kMask); // no global enable
    take(0);
    ready(0);
    EXPECT_EQ(status(0), 0U);
    put(0, kCommand);
    (void)start(0);
    crb.respond(kResponse);
    EXPECT_EQ(status(0), IntEnable::Start::kMask);
    EXPECT_FALSE(crb.irq_level());
    (void)write(0, static_cast<Reg>(static_cast<unsigned>(Reg::kIntEnable) + 3), 0x80, 1); // its upper byte alone
    EXPECT_EQ(read(0, Reg::kIntEnable), IntEnable::Start::kMask | IntEnable::GlobalInterruptEnable::kMask);
    EXPECT_TRUE(crb.irq_level());
}

TEST_F(WiredCrb, APowerCycleLowersTheLine)
{
    enable(0, kIntCauses);
    take(0);
    ASSERT_TRUE(crb.irq_level());
    crb.power_on(false);
    EXPECT_FALSE(crb.irq_level());
    EXPECT_EQ(read(0, Reg::kIntEnable), 0U);
}

TEST_F(Crb, WithoutAWireNothingIsEverEnabledOrRaised)
{
    (void)write(0, Reg::kIntEnable, 0xffff'ffff);
    EXPECT_EQ(read(0, Reg::kIntEnable), 0U);
    take(0);
    ready(0);
    EXPECT_EQ(read(0, Reg::kIntSts), 0U);
    EXPECT_FALSE(crb.irq_level());
}

} // namespace
} // namespace banyan::vtpm
