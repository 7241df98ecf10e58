// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/chip/tis_interface.hpp"

#include <vector>

#include <gtest/gtest.h>

namespace banyan::vtpm {
namespace {

using namespace tis;
using Bytes = std::vector<std::uint8_t>;

const Bytes kCommand{0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 32};
const Bytes kResponse{0x80, 0x01, 0, 0, 0, 14, 0, 0, 0, 0, 1, 2, 3, 4};

class Tis : public testing::Test {
protected:
    explicit Tis(bool interrupts = false) : tis(0, interrupts) { tis.power_on(false); }

    Wish write(unsigned locality, Reg reg, std::uint64_t value, unsigned width = 4)
    {
        return tis.write(locality * kPageSize + static_cast<std::uint32_t>(reg), width, value);
    }
    std::uint32_t read(unsigned locality, Reg reg, unsigned width = 4)
    {
        return static_cast<std::uint32_t>(tis.read(locality * kPageSize + static_cast<std::uint32_t>(reg), width));
    }
    void take(unsigned locality) { (void)write(locality, Reg::kAccess, Access::RequestUse::kMask, 1); }
    void put(unsigned locality, const Bytes &bytes)
    {
        (void)write(locality, Reg::kSts, Sts::CommandReady::kMask, 1);
        for (const std::uint8_t byte : bytes) {
            (void)write(locality, Reg::kDataFifo, byte, 1);
        }
    }
    Wish go(unsigned locality) { return write(locality, Reg::kSts, Sts::TpmGo::kMask, 1); }
    std::uint32_t burst(unsigned locality, unsigned width = 4)
    {
        return width == 4 ? Sts::BurstCount::get(read(locality, Reg::kSts)) : 0;
    }

    TisInterface tis;
};

TEST_F(Tis, ACommandGoesRoundOnce)
{
    take(0);
    put(0, kCommand);
    EXPECT_FALSE(Sts::Expect::get(read(0, Reg::kSts)));
    const Wish wish = go(0);
    EXPECT_TRUE(wish.dispatch);
    EXPECT_EQ(Bytes(tis.command().begin(), tis.command().end()), kCommand);
    EXPECT_EQ(tis.locality(), 0);
    EXPECT_FALSE(Sts::DataAvail::get(read(0, Reg::kSts)));
    tis.respond(kResponse);
    for (const std::uint8_t byte : kResponse) {
        EXPECT_TRUE(Sts::DataAvail::get(read(0, Reg::kSts)));
        EXPECT_EQ(read(0, Reg::kDataFifo, 1), byte);
    }
    EXPECT_FALSE(Sts::DataAvail::get(read(0, Reg::kSts)));
    EXPECT_EQ(read(0, Reg::kDataFifo, 1), 0xffU);
}

TEST_F(Tis, AFifoTakesAndGivesAnyWidth)
{
    for (const Reg reg : {Reg::kDataFifo, Reg::kXdataFifo}) {
        for (const unsigned width : {1U, 2U, 4U, 8U}) {
            if (width == 8 && reg == Reg::kDataFifo) {
                continue; // the upper word would be TPM_HASH_START
            }
            tis.power_on(false);
            take(1);
            (void)write(1, Reg::kSts, Sts::CommandReady::kMask, 1);
            for (std::size_t at = 0; at < kCommand.size(); at += width) {
                std::uint64_t value = 0;
                for (unsigned i = 0; i < width && at + i < kCommand.size(); ++i) {
                    value |= std::uint64_t{kCommand[at + i]} << (8 * i);
                }
                (void)write(1, reg, value, width);
            }
            ASSERT_TRUE(go(1).dispatch) << width;
            EXPECT_EQ(Bytes(tis.command().begin(), tis.command().end()), kCommand) << width;
            tis.respond(kResponse);
            Bytes got;
            while (got.size() < kResponse.size()) {
                const std::uint64_t value = tis.read(kPageSize + static_cast<std::uint32_t>(reg), width);
                for (unsigned i = 0; i < width; ++i) {
                    got.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
                }
            }
            got.resize(kResponse.size());
            EXPECT_EQ(got, kResponse) << width;
        }
    }
}

TEST_F(Tis, EveryWordOfTheExtendedFifoIsTheFifo)
{
    take(0);
    (void)write(0, Reg::kSts, Sts::CommandReady::kMask, 1);
    for (std::size_t at = 0; at < kCommand.size(); at += 4) {
        std::uint32_t word = 0;
        for (unsigned i = 0; i < 4; ++i) {
            word |= std::uint32_t{kCommand[at + i]} << (8 * i);
        }
        (void)tis.write(static_cast<std::uint32_t>(Reg::kXdataFifo) + static_cast<std::uint32_t>(at), 4, word);
    }
    EXPECT_TRUE(go(0).dispatch);
}

TEST_F(Tis, BurstCountIsWhatMayBeWrittenOrRead)
{
    take(0);
    EXPECT_EQ(burst(0), 0U);
    put(0, {});
    EXPECT_EQ(burst(0), kTpmBufferSize);
    EXPECT_EQ(tis.read(static_cast<std::uint32_t>(Reg::kSts) + 1, 1), 0xffU) << "byte by byte it is capped";
    put(0, kCommand);
    EXPECT_EQ(burst(0), kTpmBufferSize - kCommand.size());
    (void)go(0);
    EXPECT_EQ(burst(0), 0U);
    tis.respond(kResponse);
    EXPECT_EQ(burst(0), kResponse.size());
    (void)read(0, Reg::kDataFifo, 4);
    EXPECT_EQ(burst(0), kResponse.size() - 4);
}

TEST_F(Tis, ResponseRetryStartsTheResponseAgain)
{
    take(0);
    put(0, kCommand);
    (void)go(0);
    tis.respond(kResponse);
    (void)read(0, Reg::kDataFifo, 4);
    (void)write(0, Reg::kSts, Sts::ResponseRetry::kMask, 1);
    EXPECT_EQ(read(0, Reg::kDataFifo, 1), kResponse[0]);
}

TEST_F(Tis, GoWaitsForTheWholeCommand)
{
    take(0);
    put(0, Bytes(kCommand.begin(), kCommand.end() - 1));
    EXPECT_TRUE(Sts::Expect::get(read(0, Reg::kSts)));
    EXPECT_FALSE(go(0).dispatch);
    (void)write(0, Reg::kDataFifo, kCommand.back(), 1);
    EXPECT_TRUE(go(0).dispatch);
    EXPECT_FALSE(go(0).dispatch) << "once";
}

TEST_F(Tis, BytesAfterTheCommandVanish)
{
    take(0);
    put(0, kCommand);
    (void)write(0, Reg::kDataFifo, 0xee, 1);
    EXPECT_EQ(tis.command().size(), kCommand.size());
}

TEST_F(Tis, AHostileSizeFillsAtMostTheBuffer)
{
    for (const std::uint32_t size : {0U, 9U, 4097U, 0xffff'ffffU}) {
        tis.power_on(false);
        take(0);
        put(0, {0x80, 1, static_cast<std::uint8_t>(size >> 24), static_cast<std::uint8_t>(size >> 16),
                static_cast<std::uint8_t>(size >> 8), static_cast<std::uint8_t>(size)});
        for (int i = 0; i < 6000; ++i) {
            (void)write(0, Reg::kDataFifo, 0xab, 1);
        }
        EXPECT_LE(tis.command().size(), kTpmBufferSize);
        EXPECT_FALSE(Sts::Expect::get(read(0, Reg::kSts)));
        EXPECT_TRUE(go(0).dispatch);
        EXPECT_FALSE(command_header_ok(tis.command())) << "the owner answers TPM_RC_COMMAND_SIZE";
    }
}

TEST_F(Tis, CommandReadyWhileExecutingAbandonsTheCommand)
{
    take(0);
    put(0, kCommand);
    (void)go(0);
    EXPECT_TRUE(write(0, Reg::kSts, Sts::CommandReady::kMask, 1).abandon);
    EXPECT_FALSE(Sts::CommandReady::get(read(0, Reg::kSts)));
    tis.respond(kResponse);
    EXPECT_TRUE(Sts::CommandReady::get(read(0, Reg::kSts)));
    EXPECT_FALSE(Sts::DataAvail::get(read(0, Reg::kSts)));
}

TEST_F(Tis, CommandCancelWantsTheResponse)
{
    take(0);
    EXPECT_FALSE(write(0, Reg::kSts, Sts::CommandCancel::kMask).cancel);
    put(0, kCommand);
    (void)go(0);
    const Wish wish = write(0, Reg::kSts, Sts::CommandCancel::kMask);
    EXPECT_TRUE(wish.cancel);
    EXPECT_FALSE(wish.abandon);
    tis.respond(kResponse);
    EXPECT_TRUE(Sts::DataAvail::get(read(0, Reg::kSts)));
}

TEST_F(Tis, ASeizeAbandonsTheOthersCommand)
{
    take(0);
    put(0, kCommand);
    (void)go(0);
    EXPECT_TRUE(write(2, Reg::kAccess, Access::Seize::kMask, 1).abandon);
    EXPECT_EQ(read(2, Reg::kAccess, 1) & 0xff,
              Access::TpmRegValidSts::kMask | Access::ActiveLocality::kMask | Access::TpmEstablishment::kMask);
    EXPECT_TRUE(Access::BeenSeized::get(read(0, Reg::kAccess, 1)));
    EXPECT_EQ(read(0, Reg::kSts), 0xffff'ffffU);
    put(2, kCommand);
    EXPECT_FALSE(go(2).dispatch) << "not before the abandoned one has ended";
    tis.respond(kResponse);
    EXPECT_TRUE(Sts::CommandReady::get(read(2, Reg::kSts)));
    put(2, kCommand);
    EXPECT_TRUE(go(2).dispatch);
    EXPECT_EQ(tis.locality(), 2);
    (void)write(0, Reg::kAccess, Access::BeenSeized::kMask, 1);
    EXPECT_FALSE(Access::BeenSeized::get(read(0, Reg::kAccess, 1)));
}

TEST_F(Tis, ARequestWaitsAndIsGrantedByRelinquish)
{
    take(1);
    take(0);
    EXPECT_TRUE(Access::RequestUse::get(read(0, Reg::kAccess, 1)));
    EXPECT_TRUE(Access::PendingRequest::get(read(1, Reg::kAccess, 1)));
    EXPECT_FALSE(Access::PendingRequest::get(read(0, Reg::kAccess, 1)));
    (void)write(1, Reg::kAccess, Access::ActiveLocality::kMask, 1);
    EXPECT_TRUE(Access::ActiveLocality::get(read(0, Reg::kAccess, 1)));
    EXPECT_FALSE(Access::PendingRequest::get(read(1, Reg::kAccess, 1)));
}

TEST_F(Tis, ALaunchTakesTheInterfaceAndGivesItBack)
{
    take(0);
    take(1);
    put(0, kCommand);
    (void)go(0);
    EXPECT_TRUE(tis.hardware_seize().abandon);
    EXPECT_EQ(tis.locality(), 4);
    for (unsigned l = 0; l < 4; ++l) {
        take(l);
        (void)write(l, Reg::kAccess, Access::Seize::kMask, 1);
        EXPECT_EQ(tis.locality(), 4) << l;
        EXPECT_FALSE(go(l).dispatch);
    }
    tis.respond(kResponse);
    tis.hardware_release();
    EXPECT_EQ(tis.locality(), 3) << "those that asked during the launch come now";
}

TEST_F(Tis, EstablishedIsInvertedAndResetFromLocality3)
{
    tis.power_on(true);
    EXPECT_FALSE(Access::TpmEstablishment::get(read(0, Reg::kAccess, 1)));
    for (unsigned l = 0; l < 5; ++l) {
        take(l);
        const Wish wish = write(l, Reg::kSts, Sts::ResetEstablishmentBit::kMask);
        EXPECT_EQ(wish.reset_established, l == 3) << l;
        (void)write(l, Reg::kAccess, Access::ActiveLocality::kMask, 1);
    }
    tis.set_established(false);
    EXPECT_TRUE(Access::TpmEstablishment::get(read(0, Reg::kAccess, 1)));
}

TEST_F(Tis, PowerOnForgetsEverything)
{
    take(0);
    take(2);
    put(0, kCommand);
    (void)go(0);
    tis.power_on(false);
    EXPECT_EQ(tis.localities(), Localities{});
    EXPECT_EQ(tis.state(), FifoState::kIdle);
    EXPECT_TRUE(tis.command().empty());
}

class WiredTis : public Tis {
protected:
    WiredTis() : Tis(true) {}
    void enable(unsigned locality, std::uint32_t causes)
    {
        (void)write(locality, Reg::kIntEnable, causes | IntEnable::GlobalIntEnable::kMask);
    }
    void expect_causes(unsigned locality, std::uint32_t causes)
    {
        EXPECT_EQ(read(locality, Reg::kIntStatus), causes);
        EXPECT_TRUE(tis.irq_level());
        (void)write(locality, Reg::kIntStatus, ~causes);
        EXPECT_TRUE(tis.irq_level()) << "not by another bit";
        (void)write(locality, Reg::kIntStatus, causes);
        EXPECT_EQ(read(locality, Reg::kIntStatus), 0U);
        EXPECT_FALSE(tis.irq_level());
    }
};

TEST_F(WiredTis, SaysSoInItsCapabilities)
{
    EXPECT_EQ(read(0, Reg::kIntfCapability) & 0xff, 0x97U) << "four causes, low level";
    EXPECT_EQ(read(0, Reg::kIntEnable), IntEnable::TypePolarity::with(0, kPolarityLow));
    enable(0, 0xffff'ffff);
    EXPECT_EQ(read(0, Reg::kIntEnable), 0x8000'008fU) << "polarity is not software's choice";
    (void)write(0, Reg::kIntVector, 0xffff'ffff);
    EXPECT_EQ(read(0, Reg::kIntVector), 0xfU);
    EXPECT_EQ(read(1, Reg::kIntEnable), IntEnable::TypePolarity::with(0, kPolarityLow)) << "each locality its own";
}

TEST_F(WiredTis, EachCauseRaisesTheLineUntilItIsAcknowledged)
{
    enable(0, kIntCauses);
    EXPECT_FALSE(tis.irq_level());
    take(0);
    expect_causes(0, IntEnable::LocalityChange::kMask);
    (void)write(0, Reg::kSts, Sts::CommandReady::kMask, 1);
    expect_causes(0, IntEnable::CommandReady::kMask);
    for (std::size_t i = 0; i + 1 < kCommand.size(); ++i) {
        (void)write(0, Reg::kDataFifo, kCommand[i], 1);
    }
    EXPECT_FALSE(tis.irq_level());
    (void)write(0, Reg::kDataFifo, kCommand.back(), 1);
    expect_causes(0, IntEnable::StsValid::kMask);
    (void)go(0);
    EXPECT_FALSE(tis.irq_level());
    tis.respond(kResponse);
    expect_causes(0, IntEnable::DataAvail::kMask | IntEnable::StsValid::kMask);
}

TEST_F(WiredTis, AGrantedRequestIsTheNewOwnersInterrupt)
{
    take(1);
    enable(0, IntEnable::LocalityChange::kMask);
    enable(1, IntEnable::LocalityChange::kMask);
    take(0);
    EXPECT_FALSE(tis.irq_level()) << "it waits";
    (void)write(1, Reg::kAccess, Access::ActiveLocality::kMask, 1);
    EXPECT_EQ(read(1, Reg::kIntStatus), 0U);
    expect_causes(0, IntEnable::LocalityChange::kMask);
}

TEST_F(WiredTis, WhatIsNotEnabledIsNotNoted)
{
    (void)write(0, Reg::kIntEnable, IntEnable::LocalityChange::kMask); // no global enable
    take(0);
    (void)write(0, Reg::kSts, Sts::CommandReady::kMask, 1);
    EXPECT_EQ(read(0, Reg::kIntStatus), IntEnable::LocalityChange::kMask);
    EXPECT_FALSE(tis.irq_level());
    enable(0, IntEnable::LocalityChange::kMask);
    EXPECT_TRUE(tis.irq_level());
    tis.power_on(false);
    EXPECT_FALSE(tis.irq_level());
}

TEST_F(Tis, WithoutAWireNothingIsEverEnabledOrRaised)
{
    (void)write(0, Reg::kIntEnable, 0xffff'ffff);
    (void)write(0, Reg::kIntVector, 5);
    EXPECT_EQ(read(0, Reg::kIntEnable), IntEnable::TypePolarity::with(0, kPolarityLow));
    EXPECT_EQ(read(0, Reg::kIntVector), 0U);
    EXPECT_EQ(read(0, Reg::kIntfCapability), 0x3000'0600U);
    take(0);
    put(0, kCommand);
    (void)go(0);
    tis.respond(kResponse);
    EXPECT_EQ(read(0, Reg::kIntStatus), 0U);
    EXPECT_FALSE(tis.irq_level());
}

TEST(TpmHeader, ACommandsSizeIsItsOwn)
{
    EXPECT_TRUE(command_header_ok(kCommand));
    Bytes bad = kCommand;
    bad[5] = 13;
    EXPECT_FALSE(command_header_ok(bad));
    EXPECT_FALSE(command_header_ok(Bytes(kCommand.begin(), kCommand.begin() + 9)));
}

TEST(TpmHeader, AResponseNeedsAKnownTagAndItsOwnSize)
{
    EXPECT_TRUE(response_header_ok(kResponse));
    EXPECT_TRUE(response_header_ok(error_response(TpmRc::kFailure)));
    for (const std::size_t size : {0UL, 9UL, 13UL}) {
        EXPECT_FALSE(response_header_ok(std::span(kResponse).first(size)));
    }
    Bytes bad = kResponse;
    bad[1] = 7;
    EXPECT_FALSE(response_header_ok(bad));
    bad = kResponse;
    bad[2] = 0xff;
    EXPECT_FALSE(response_header_ok(bad));
}

} // namespace
} // namespace banyan::vtpm
