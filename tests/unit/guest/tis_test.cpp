// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/tis.hpp"

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/guest/answer_of.hpp"

namespace banyan::loader {
namespace {

/// Registers of one locality, PTP 6.5.2, and the ways in which a TPM can be slow or broken.
struct FakeTpm {
    std::uint32_t burst_size = 64;
    unsigned slow = 0;         // looks at a register before a change shows
    bool other_active = false; // a lower locality holds the TPM until seized
    bool never_grants = false;
    bool never_ready = false;
    bool never_answers = false;
    bool no_burst = false;
    std::size_t swallow = ~std::size_t{0}; // stops expecting after this many bytes
    bool insatiable = false;               // goes on expecting
    Buffer answer = answer_of(19);

    Buffer command;
    bool active = false;
    bool seized = false;
    bool ready = false;
    bool done = false;
    std::size_t given = 0;
    unsigned pauses = 0;
    unsigned countdown = 0;

    std::size_t command_size() const
    {
        return command.size() < 6
                   ? 6u
                   : static_cast<std::size_t>(command[2]) << 24 | static_cast<std::size_t>(command[3]) << 16 |
                         static_cast<std::size_t>(command[4]) << 8 | command[5];
    }

    std::uint8_t read8(std::uint32_t offset)
    {
        if (offset == tis::kAccess) {
            return static_cast<std::uint8_t>(tis::kAccessValid | (active && settled() ? tis::kAccessActive : 0));
        }
        EXPECT_EQ(offset, tis::kFifo);
        EXPECT_LT(given, answer.size());
        return answer[given++];
    }

    std::uint32_t read32(std::uint32_t offset)
    {
        EXPECT_EQ(offset, tis::kSts);
        if (!settled()) {
            return 0;
        }
        std::uint32_t status = tis::kStsValid;
        if (ready && command.empty()) {
            status |= tis::kStsCommandReady;
        }
        if (!done && !command.empty() &&
            (insatiable || (command.size() < command_size() && command.size() < swallow))) {
            status |= tis::kStsExpect;
        }
        if (done && !never_answers && given < answer.size()) {
            status |= tis::kStsDataAvail;
        }
        return status | (no_burst ? 0 : burst_size << 8);
    }

    void write8(std::uint32_t offset, std::uint8_t value)
    {
        countdown = slow;
        if (offset == tis::kAccess) {
            if ((value & tis::kAccessRequestUse) != 0 && !other_active && !never_grants) {
                active = true;
            }
            if ((value & tis::kAccessSeize) != 0 && !never_grants) {
                active = seized = true;
            }
            if ((value & tis::kAccessActive) != 0) {
                active = false;
            }
        } else if (offset == tis::kFifo) {
            EXPECT_TRUE(ready);
            command.push_back(value);
        } else if (value == tis::kStsCommandReady) {
            ready = !never_ready;
            if (!done) {
                command.clear();
            }
        } else if (value == tis::kStsGo) {
            done = true;
        }
    }

    void pause() { ++pauses; }

private:
    bool settled()
    {
        if (countdown != 0) {
            --countdown;
            return false;
        }
        return true;
    }
};

const Buffer kCommand{0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 8};

struct Talk {
    FakeTpm tpm;
    Buffer response = Buffer(64);
    std::size_t size = 0;
    unsigned polls = 100;

    TransportFault run()
    {
        Tis tis(tpm, polls);
        if (const TransportFault fault = tis.request(); fault != TransportFault::kNone) {
            return fault;
        }
        return tis.transmit(kCommand, response, size);
    }
};

TEST(TisDriver, CarriesACommandAndItsAnswer)
{
    Talk talk;
    ASSERT_EQ(talk.run(), TransportFault::kNone);
    EXPECT_EQ(talk.tpm.command, kCommand);
    EXPECT_EQ(talk.size, 19u);
    EXPECT_EQ(Buffer(talk.response.begin(), talk.response.begin() + 19), talk.tpm.answer);
    EXPECT_FALSE(talk.tpm.seized);
}

TEST(TisDriver, EveryBurstCountWorks)
{
    for (std::uint32_t burst = 1; burst <= 32; ++burst) {
        Talk talk;
        talk.tpm.burst_size = burst;
        ASSERT_EQ(talk.run(), TransportFault::kNone) << burst;
        ASSERT_EQ(talk.tpm.command, kCommand) << burst;
    }
}

TEST(TisDriver, WaitsForASlowTpm)
{
    Talk talk;
    talk.tpm.slow = 50;
    talk.polls = 2000;
    ASSERT_EQ(talk.run(), TransportFault::kNone);
    EXPECT_GE(talk.tpm.pauses, 50u);
}

TEST(TisDriver, SeizesFromALowerLocality)
{
    Talk talk;
    talk.tpm.other_active = true;
    ASSERT_EQ(talk.run(), TransportFault::kNone);
    EXPECT_TRUE(talk.tpm.seized);
}

TEST(TisDriver, RelinquishGivesTheLocalityBack)
{
    FakeTpm tpm;
    Tis tis(tpm, 100);
    ASSERT_EQ(tis.request(), TransportFault::kNone);
    tis.relinquish();
    EXPECT_FALSE(tpm.active);
}

struct Broken {
    const char *name;
    TransportFault expected;
    void (*breaks)(FakeTpm &);
};

const Broken kBroken[] = {
    {"never_grants", TransportFault::kNoGrant, [](FakeTpm &t) { t.never_grants = true; }},
    {"never_ready", TransportFault::kNotReady, [](FakeTpm &t) { t.never_ready = true; }},
    {"no_burst", TransportFault::kNoBurst, [](FakeTpm &t) { t.no_burst = true; }},
    {"burst_of_ones", TransportFault::kNoBurst, [](FakeTpm &t) { t.burst_size = 0xFFFF; }},
    {"stops_expecting", TransportFault::kTooEarly, [](FakeTpm &t) { t.burst_size = 4, t.swallow = 8; }},
    {"insatiable", TransportFault::kTooLate, [](FakeTpm &t) { t.insatiable = true; }},
    {"never_answers", TransportFault::kNoAnswer, [](FakeTpm &t) { t.never_answers = true; }},
    {"answer_of_9", TransportFault::kBadAnswer, [](FakeTpm &t) { t.answer = answer_of(19), t.answer[5] = 9; }},
    {"answer_of_0", TransportFault::kBadAnswer, [](FakeTpm &t) { t.answer[5] = 0; }},
    {"answer_of_ones", TransportFault::kBadAnswer, [](FakeTpm &t) { t.answer.assign(64, 0xFF); }},
    {"answer_larger_than_the_buffer", TransportFault::kBadAnswer, [](FakeTpm &t) { t.answer = answer_of(65); }},
};

class EveryBrokenTpm : public testing::TestWithParam<Broken> {};

TEST_P(EveryBrokenTpm, IsReportedWithinTheBound)
{
    Talk talk;
    GetParam().breaks(talk.tpm);
    EXPECT_STREQ(describe(talk.run()), describe(GetParam().expected));
    EXPECT_LE(talk.tpm.pauses, 2 * talk.polls);
}

INSTANTIATE_TEST_SUITE_P(Table, EveryBrokenTpm, testing::ValuesIn(kBroken),
                         [](const auto &param) { return std::string(param.param.name); });

} // namespace
} // namespace banyan::loader
