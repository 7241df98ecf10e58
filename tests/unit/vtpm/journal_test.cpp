// SPDX-License-Identifier: GPL-2.0-or-later
// What a command leaves behind, and the journal that stands in for checkpoints.
#include "vtpm/engine/journal.hpp"

#include <cstring>
#include <memory>

#include "tests/unit/vtpm/vtpm_machine.hpp"
#include "vtpm/engine/trace.hpp"

namespace banyan::vtpm::testing {
namespace {

Bytes quote(std::uint16_t scheme)
{
    Bytes body;
    put32(body, 0x80000000);
    const Bytes area = auth_area();
    body.insert(body.end(), area.begin(), area.end());
    put16(body, 3); // qualifyingData
    body.insert(body.end(), 3, 0x11);
    put16(body, scheme);
    put32(body, 0);
    return tpm_command(0x8002, 0x158, body);
}

TEST(Trace, OfAPasswordedExtendIsLeftAgainByTheSameBytes)
{
    EXPECT_EQ(trace_of(pcr_extend(9, 1)), Trace::kReplay);
}

TEST(Trace, OfReadersAndPlainQuotesIsNothing)
{
    EXPECT_EQ(trace_of(pcr_read(9)), Trace::kNone);
    EXPECT_EQ(trace_of(get_random(8)), Trace::kNone);
    EXPECT_EQ(trace_of(quote(0x0010)), Trace::kNone);
}

TEST(Trace, OfAnythingElseIsSomething)
{
    EXPECT_EQ(trace_of(quote(0x001a)), Trace::kOther) << "ECDAA uses a commitment up";
    EXPECT_EQ(trace_of(shutdown(0)), Trace::kOther);
    Bytes session = pcr_extend(9, 1);
    session[18] = 0x02; // an HMAC session: its nonce rolls
    EXPECT_EQ(trace_of(session), Trace::kOther);
    Bytes two = pcr_extend(9, 1);
    two[17] = 18; // authorizationSize of two sessions
    EXPECT_EQ(trace_of(two), Trace::kOther);
    Bytes audited = get_random(8);
    audited[1] = 2; // the tag says sessions
    EXPECT_EQ(trace_of(audited), Trace::kOther);
}

TEST(Trace, IsReadFromAnyBytesWithAHeader)
{
    for (const Bytes &whole : {pcr_extend(9, 1), quote(0x0010), pcr_read(1)}) {
        for (std::size_t size = kTpmHeaderSize; size < whole.size(); ++size) {
            const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
            for (const std::uint8_t size_of_auth : {0x00, 0xff}) {
                Bytes bytes = cut;
                if (bytes.size() > 14) {
                    bytes[14] = size_of_auth;
                }
                (void)trace_of(bytes); // the sanitizers watch
            }
        }
    }
}

struct Seen {
    std::uint8_t locality;
    Bytes command;
    friend bool operator==(const Seen &, const Seen &) = default;
};

std::vector<Seen> replayed(const Journal &journal, std::uint64_t checkpoint, bool *whole = nullptr)
{
    std::vector<Seen> seen;
    const bool good = replay(journal, checkpoint, [&](std::uint8_t locality, std::span<const std::uint8_t> command) {
        seen.push_back({locality, Bytes(command.begin(), command.end())});
        return true;
    });
    if (whole != nullptr) {
        *whole = good;
    }
    return seen;
}

TEST(Journal, IsReplayedInOrderBesideItsCheckpointAlone)
{
    const auto journal = std::make_unique<Journal>();
    JournalWriter writer(*journal);
    EXPECT_TRUE(writer.empty(1));
    const std::vector<Seen> noted{{0, pcr_extend(9, 1)}, {2, pcr_extend(17, 2)}, {0, pcr_extend(9, 3)}};
    for (const Seen &one : noted) {
        ASSERT_TRUE(writer.note(7, one.locality, one.command));
    }
    EXPECT_FALSE(writer.empty(7));
    EXPECT_EQ(replayed(*journal, 7), noted);
    EXPECT_TRUE(replayed(*journal, 8).empty());
    ASSERT_TRUE(writer.note(8, 1, noted[0].command));
    EXPECT_TRUE(replayed(*journal, 7).empty()) << "a newer checkpoint has taken it over";
    EXPECT_EQ(replayed(*journal, 8), (std::vector<Seen>{{1, noted[0].command}}));
    writer.clear();
    EXPECT_TRUE(replayed(*journal, 8).empty());
}

TEST(Journal, AnEntryThatIsNotWholeDoesNotCount)
{
    const auto journal = std::make_unique<Journal>();
    JournalWriter writer(*journal);
    ASSERT_TRUE(writer.note(1, 0, pcr_extend(9, 1)));
    const auto before = std::make_unique<Journal>(*journal);
    ASSERT_TRUE(writer.note(1, 0, pcr_extend(9, 2)));
    journal->count = before->count; // the worker died before it counted the entry
    EXPECT_EQ(replayed(*journal, 1).size(), 1U);
}

TEST(Journal, TellsWhenACheckpointIsDue)
{
    const auto journal = std::make_unique<Journal>();
    JournalWriter writer(*journal);
    unsigned fit = 0;
    while (writer.note(1, 0, pcr_extend(9, 1))) {
        ASSERT_LT(++fit, 1000U);
    }
    EXPECT_GT(fit, 16U);
    EXPECT_EQ(replayed(*journal, 1).size(), fit);
    EXPECT_TRUE(writer.note(2, 0, pcr_extend(9, 1)));
    EXPECT_FALSE(writer.note(3, 0, Bytes(Journal::kRoom, 1)));
}

TEST(Journal, OfAnotherWorkerIsNotContinued)
{
    const auto journal = std::make_unique<Journal>();
    JournalWriter first(*journal);
    ASSERT_TRUE(first.note(5, 0, pcr_extend(9, 1)));
    JournalWriter second(*journal);
    EXPECT_FALSE(second.note(5, 0, pcr_extend(9, 2)));
    EXPECT_EQ(replayed(*journal, 5).size(), 1U);
}

TEST(Journal, WhatNoWorkerNotesDownIsNotReplayed)
{
    const auto journal = std::make_unique<Journal>();
    JournalWriter writer(*journal);
    ASSERT_TRUE(writer.note(1, 4, pcr_extend(9, 1)));
    bool whole = false;
    EXPECT_EQ(replayed(*journal, 1, &whole).size(), 1U);
    EXPECT_TRUE(whole);
    const auto refused = [&](auto &&damage) {
        const auto other = std::make_unique<Journal>(*journal);
        damage(*other);
        return replayed(*other, 1, &whole).empty() && !whole;
    };
    EXPECT_TRUE(refused([](Journal &at) { at.entries[0] = 5; })) << "there is no locality 5";
    EXPECT_TRUE(refused([](Journal &at) { at.entries[2] -= 1; })) << "its header says another size";
    EXPECT_TRUE(refused([](Journal &at) { at.entries[1] = at.entries[2] = 0; })) << "no header";
    EXPECT_TRUE(refused([](Journal &at) { at.count = 65; })) << "they would take too long";
}

TEST(Journal, WhateverLiesInItIsReadWithinIt)
{
    const auto journal = std::make_unique<Journal>();
    journal->checkpoint = 1;
    for (const std::uint32_t count : {1U, 64U, 0xffff'ffffU}) {
        for (const std::uint8_t fill : {0x00, 0x01, 0x7f, 0xff}) {
            journal->count = count;
            std::memset(journal->entries, fill, sizeof(journal->entries));
            bool whole = true;
            for (const Seen &one : replayed(*journal, 1, &whole)) {
                EXPECT_LE(one.command.size(), Journal::kRoom);
            }
            EXPECT_TRUE(!whole || count <= 64);
        }
    }
}

} // namespace
} // namespace banyan::vtpm::testing
