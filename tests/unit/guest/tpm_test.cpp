// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/tpm.hpp"

#include <deque>
#include <vector>

#include <gtest/gtest.h>

#include "banyan/arch/boot_info.hpp"

namespace banyan::loader {
namespace {

using Buffer = std::vector<std::uint8_t>;

// Answers that libtpms 0.9.2 gave to these commands.
const Buffer kFourBanks{0x80, 0x01, 0,   0, 0,    0x2B, 0,    0,    0,    0,    0,    0,    0,   0,    5,
                        0,    0,    0,   4, 0,    4,    3,    0xFF, 0xFF, 0xFF, 0,    0xB,  3,   0xFF, 0xFF,
                        0xFF, 0,    0xC, 3, 0xFF, 0xFF, 0xFF, 0,    0xD,  3,    0xFF, 0xFF, 0xFF};
const Buffer kExtended{0x80, 0x02, 0, 0, 0, 0x13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0};
const Buffer kBadLocality{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x07};

struct Script {
    std::deque<Buffer> answers;
    std::vector<Buffer> commands;
    TransportFault fault = TransportFault::kNone;

    TransportFault transmit(Bytes command, std::span<std::uint8_t> response, std::size_t &size)
    {
        commands.emplace_back(command.begin(), command.end());
        if (fault != TransportFault::kNone || answers.empty()) {
            return fault == TransportFault::kNone ? TransportFault::kNoAnswer : fault;
        }
        size = answers.front().size();
        std::copy(answers.front().begin(), answers.front().end(), response.begin());
        answers.pop_front();
        return TransportFault::kNone;
    }
};

constexpr std::uint32_t kPcrs[] = {boot::kPcrCode, boot::kPcrPlatform};

TEST(LoaderTpm, ExtendCarriesThreeDigestsUnderAnEmptyPassword)
{
    Digests digests{};
    digests.sha1.fill(1);
    digests.sha256.fill(2);
    digests.sha384.fill(3);
    TpmCommand command = pcr_extend_command(17, digests);
    const Bytes bytes = command.bytes();
    const Buffer head{0x80, 2,    0, 0, 0, 137, 0, 0, 1, 0x82, 0, 0, 0, 17, 0, 0, 0,
                      9,    0x40, 0, 0, 9, 0,   0, 0, 0, 0,    0, 0, 0, 3,  0, 4};
    ASSERT_EQ(bytes.size(), 137u);
    EXPECT_EQ(Buffer(bytes.begin(), bytes.begin() + 33), head);
    EXPECT_EQ(bytes[33], 1);
    EXPECT_EQ(bytes[54], 0xB);
    EXPECT_EQ(bytes[55], 2);
    EXPECT_EQ(bytes[88], 0xC);
    EXPECT_EQ(bytes[89], 3);
}

TEST(LoaderTpm, CapsABankThatItDoesNotHashFor)
{
    Script script{{kFourBanks, kExtended, kExtended}, {}, {}};
    Tpm tpm(script);
    ASSERT_FALSE(tpm.prepare(kPcrs));
    ASSERT_EQ(script.commands.size(), 3u);
    EXPECT_EQ(script.commands[1][13], 17);
    EXPECT_EQ(script.commands[2][13], 18);
    const Buffer &cap = script.commands[1];
    EXPECT_EQ(cap[32], 0xD); // SHA-512
    EXPECT_EQ(cap[33], 1);
    EXPECT_EQ(cap.size(), 33u + 64);
}

TEST(LoaderTpm, AnInactiveBankIsLeftAlone)
{
    Buffer answer = kFourBanks;
    answer[42] = 0xF9; // SHA-512 without PCR 17 and 18
    Script script{{answer}, {}, {}};
    Tpm tpm(script);
    EXPECT_FALSE(tpm.prepare(kPcrs));
    EXPECT_EQ(script.commands.size(), 1u);
}

TEST(LoaderTpm, AnActiveBankOfAnUnknownHashIsRefused)
{
    Buffer answer = kFourBanks;
    answer[38] = 0x77;
    Script script{{answer}, {}, {}};
    Tpm tpm(script);
    const TpmFault fault = tpm.prepare(kPcrs);
    EXPECT_TRUE(fault);
    EXPECT_EQ(fault.bank, 0x77);
}

TEST(LoaderTpm, EveryTruncationOfAnAnswerIsMalformed)
{
    for (std::size_t size = 10; size < kFourBanks.size(); ++size) {
        Script script{{Buffer(kFourBanks.begin(), kFourBanks.begin() + static_cast<std::ptrdiff_t>(size))}, {}, {}};
        Tpm tpm(script);
        ASSERT_TRUE(tpm.prepare(kPcrs).malformed) << size;
    }
}

TEST(LoaderTpm, MoreBanksThanItKeepsAreMalformed)
{
    Buffer answer(kFourBanks.begin(), kFourBanks.begin() + 19);
    answer[18] = 9;
    for (unsigned i = 0; i < 9; ++i) {
        answer.insert(answer.end(), {0, 0xD, 3, 0xFF, 0xFF, 0xFF});
    }
    OtherBanks other;
    EXPECT_FALSE(parse_banks(answer, other));
}

TEST(LoaderTpm, AResponseCodeIsAFault)
{
    Script script{{kBadLocality}, {}, {}};
    Tpm tpm(script);
    const TpmFault fault = tpm.extend(17, {});
    EXPECT_TRUE(fault);
    EXPECT_EQ(fault.code, 0x907u);
}

TEST(LoaderTpm, ATransportFaultIsAFault)
{
    Script script{{}, {}, TransportFault::kNoBurst};
    Tpm tpm(script);
    EXPECT_EQ(tpm.extend(17, {}).transport, TransportFault::kNoBurst);
}

} // namespace
} // namespace banyan::loader
