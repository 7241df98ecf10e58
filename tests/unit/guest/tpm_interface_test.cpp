// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/tpm_interface.hpp"

#include <functional>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/guest/answer_of.hpp"
#include "vtpm/chip/crb_interface.hpp"
#include "vtpm/chip/tis_interface.hpp"

// The loader's drivers against the chip's own register machines, and against ones that something is wrong with.

namespace banyan::loader {
namespace {

constexpr std::uint32_t kLocality = 2;
constexpr std::uint32_t kPage = kLocality * vtpm::kPageSize;
constexpr std::uint64_t kWindow = 0xFED4'0000;
constexpr unsigned kPolls = 100;

const Buffer kCommand{0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 8};

/// One locality of a TPM. It answers a command `slow` pauses after its doorbell.
struct Registers {
    std::unique_ptr<vtpm::Interface> chip;
    Buffer answer = answer_of(18);
    unsigned slow = 0;
    std::function<std::uint64_t(std::uint32_t, std::uint64_t)> lie; // what a register reads as
    std::function<bool(std::uint32_t, std::uint32_t)> deaf;         // whether a write is lost

    Buffer command;
    unsigned pauses = 0;
    bool owed = false;

    explicit Registers(std::unique_ptr<vtpm::Interface> interface) : chip(std::move(interface))
    {
        chip->power_on(false);
        // As SKINIT leaves it.
        (void)chip->hardware_seize();
        chip->hardware_release();
    }

    std::uint64_t read(std::uint32_t offset, unsigned width)
    {
        const std::uint64_t value = chip->read(kPage + offset, width);
        return lie ? lie(offset, value) : value;
    }
    void write(std::uint32_t offset, unsigned width, std::uint32_t value)
    {
        if (deaf && deaf(offset, value)) {
            return;
        }
        if (chip->write(kPage + offset, width, value).dispatch) {
            EXPECT_EQ(chip->locality(), kLocality);
            command.assign(chip->command().begin(), chip->command().end());
            owed = true;
        }
        if (slow == 0) {
            settle();
        }
    }
    void settle()
    {
        if (owed) {
            owed = false;
            chip->respond(answer);
        }
    }

    std::uint8_t read8(std::uint32_t offset) { return static_cast<std::uint8_t>(read(offset, 1)); }
    std::uint32_t read32(std::uint32_t offset) { return static_cast<std::uint32_t>(read(offset, 4)); }
    void write8(std::uint32_t offset, std::uint8_t value) { write(offset, 1, value); }
    void write32(std::uint32_t offset, std::uint32_t value) { write(offset, 4, value); }
    static std::uint64_t address() { return kWindow + kPage; }
    void pause()
    {
        if (++pauses >= slow) {
            settle();
        }
    }
};

std::unique_ptr<vtpm::Interface> make(bool crb)
{
    if (crb) {
        return std::make_unique<vtpm::CrbInterface>(0, false);
    }
    return std::make_unique<vtpm::TisInterface>(0, false);
}

struct Talk {
    Registers tpm;
    Buffer response = Buffer(64);
    std::size_t size = 0;

    explicit Talk(bool crb) : tpm(make(crb)) {}

    TransportFault run()
    {
        TpmInterface interface(tpm, kPolls);
        if (const TransportFault fault = interface.request(); fault != TransportFault::kNone) {
            return fault;
        }
        return interface.transmit(kCommand, response, size);
    }
};

class EitherInterface : public testing::TestWithParam<bool> {
protected:
    Talk talk_{GetParam()};
    vtpm::Interface &chip() { return *talk_.tpm.chip; }
};

TEST_P(EitherInterface, CarriesCommandsAndTheirAnswers)
{
    TpmInterface interface(talk_.tpm, kPolls);
    ASSERT_EQ(interface.request(), TransportFault::kNone);
    for (const std::size_t size : {10U, 11U, 18U, 64U, 10U}) {
        talk_.tpm.answer = answer_of(size);
        ASSERT_EQ(interface.transmit(kCommand, talk_.response, talk_.size), TransportFault::kNone) << size;
        EXPECT_EQ(talk_.tpm.command, kCommand);
        ASSERT_EQ(talk_.size, size);
        EXPECT_EQ(Buffer(talk_.response.begin(), talk_.response.begin() + static_cast<std::ptrdiff_t>(size)),
                  talk_.tpm.answer);
    }
    interface.relinquish();
    EXPECT_EQ(chip().locality(), vtpm::kNoLocality);
}

TEST_P(EitherInterface, WaitsForASlowTpm)
{
    talk_.tpm.slow = 50;
    EXPECT_EQ(talk_.run(), TransportFault::kNone);
    EXPECT_GE(talk_.tpm.pauses, 50U);
}

TEST_P(EitherInterface, SeizesFromALowerLocality)
{
    (void)chip().write(GetParam() ? 0x08 : 0x00, GetParam() ? 4 : 1, GetParam() ? 1 : 2);
    ASSERT_EQ(chip().locality(), 0);
    EXPECT_EQ(talk_.run(), TransportFault::kNone);
    EXPECT_EQ(chip().locality(), kLocality);
}

TEST_P(EitherInterface, AHigherLocalityIsNotDriven)
{
    (void)chip().write(3 * vtpm::kPageSize + (GetParam() ? 0x08 : 0x00), GetParam() ? 4 : 1, GetParam() ? 1 : 2);
    ASSERT_EQ(chip().locality(), 3);
    EXPECT_EQ(talk_.run(), TransportFault::kNoGrant);
    EXPECT_EQ(chip().locality(), 3);
}

TEST_P(EitherInterface, WaitsUntilTheRegistersAreValid)
{
    talk_.tpm.lie = [this](std::uint32_t offset, std::uint64_t value) {
        return talk_.tpm.pauses >= 20 ? value : offset == 0 ? 0 : ~std::uint64_t{0};
    };
    EXPECT_EQ(talk_.run(), TransportFault::kNone);
    EXPECT_EQ(talk_.tpm.command, kCommand);
}

INSTANTIATE_TEST_SUITE_P(TpmInterface, EitherInterface, testing::Bool(),
                         [](const auto &param) { return param.param ? "Crb" : "Fifo"; });

struct Broken {
    const char *name;
    TransportFault expected;
    bool crb;
    void (*breaks)(Registers &);
};

void reads_as(Registers &tpm, std::uint32_t wanted, std::uint64_t value)
{
    tpm.lie = [=](std::uint32_t offset, std::uint64_t seen) { return offset == wanted ? value : seen; };
}

void loses(Registers &tpm, std::uint32_t wanted)
{
    tpm.deaf = [=](std::uint32_t offset, std::uint32_t) { return offset == wanted; };
}

const Broken kBroken[] = {
    {"absent", TransportFault::kAbsent, false,
     [](Registers &t) { t.lie = [](std::uint32_t, std::uint64_t) { return ~std::uint64_t{0}; }; }},
    {"never_valid", TransportFault::kNotValid, true, [](Registers &t) { reads_as(t, 0, 0); }},
    {"of_another_kind", TransportFault::kUnknown, true, [](Registers &t) { reads_as(t, interface::kId, 0x2102); }},
    {"never_grants", TransportFault::kNoGrant, true, [](Registers &t) { loses(t, crb::kLocCtrl); }},
    {"grants_with_ones", TransportFault::kNoGrant, true, [](Registers &t) { reads_as(t, crb::kLocSts, crb::kOnes); }},
    {"never_ready", TransportFault::kNotReady, true, [](Registers &t) { loses(t, crb::kCtrlReq); }},
    {"never_done_with_cmdready", TransportFault::kNotReady, true, [](Registers &t) { reads_as(t, crb::kCtrlReq, 1); }},
    {"never_done_with_goidle", TransportFault::kNotReady, true, [](Registers &t) { reads_as(t, crb::kCtrlReq, 2); }},
    {"command_buffer_in_another_page", TransportFault::kElsewhere, true,
     [](Registers &t) { reads_as(t, crb::kCmdLow, 0xFED4'0080); }},
    {"command_buffer_above_4_gib", TransportFault::kElsewhere, true,
     [](Registers &t) { reads_as(t, crb::kCmdHigh, 1); }},
    {"response_buffer_in_memory", TransportFault::kElsewhere, true,
     [](Registers &t) { reads_as(t, crb::kRspLow, 0x10'0000); }},
    {"response_buffer_above_4_gib", TransportFault::kElsewhere, true,
     [](Registers &t) { reads_as(t, crb::kRspHigh, 1); }},
    {"buffer_of_11", TransportFault::kNoRoom, true, [](Registers &t) { reads_as(t, crb::kCmdSize, 11); }},
    {"response_buffer_of_9", TransportFault::kNoRoom, true, [](Registers &t) { reads_as(t, crb::kRspSize, 9); }},
    {"never_starts", TransportFault::kNoAnswer, true, [](Registers &t) { reads_as(t, crb::kCtrlStart, 1); }},
    {"start_of_ones", TransportFault::kNoAnswer, true, [](Registers &t) { reads_as(t, crb::kCtrlStart, crb::kOnes); }},
    {"fatal_error", TransportFault::kFatalError, true, [](Registers &t) { reads_as(t, crb::kCtrlSts, 1); }},
    {"answer_of_9", TransportFault::kBadAnswer, true, [](Registers &t) { t.answer[5] = 9; }},
    {"answer_of_0", TransportFault::kBadAnswer, true, [](Registers &t) { t.answer[5] = 0; }},
    {"answer_of_ones", TransportFault::kBadAnswer, true, [](Registers &t) { t.answer.assign(64, 0xFF); }},
    {"answer_larger_than_its_buffer", TransportFault::kBadAnswer, true,
     [](Registers &t) { reads_as(t, crb::kRspSize, 17); }},
    {"answer_larger_than_the_loaders", TransportFault::kBadAnswer, true,
     [](Registers &t) { t.answer = answer_of(65); }},
};

class EveryBrokenInterface : public testing::TestWithParam<Broken> {};

TEST_P(EveryBrokenInterface, IsReportedWithinTheBound)
{
    Talk talk(GetParam().crb);
    GetParam().breaks(talk.tpm);
    EXPECT_STREQ(describe(talk.run()), describe(GetParam().expected));
    EXPECT_LE(talk.tpm.pauses, 3 * kPolls);
}

INSTANTIATE_TEST_SUITE_P(Table, EveryBrokenInterface, testing::ValuesIn(kBroken),
                         [](const auto &param) { return std::string(param.param.name); });

} // namespace
} // namespace banyan::loader
