// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/agent.hpp"

#include <algorithm>

#include <gtest/gtest.h>

namespace banyan::tool {
namespace {

using Kind = AgentEvent::Kind;

std::vector<AgentEvent> feed(AgentReader &reader, std::string_view text, std::size_t piece = SIZE_MAX)
{
    std::vector<AgentEvent> all;
    while (!text.empty()) {
        const std::string_view now = text.substr(0, piece);
        text.remove_prefix(now.size());
        for (auto &event : reader.feed({reinterpret_cast<const std::uint8_t *>(now.data()), now.size()})) {
            all.push_back(std::move(event));
        }
    }
    return all;
}

TEST(AgentReader, TakesAWholeConversationInAnyPieces)
{
    for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, SIZE_MAX}) {
        AgentReader reader;
        const auto events = feed(reader, "ready\r\nevidence 6\nab\ncd\ndone\nfailed to stop\n", piece);
        ASSERT_EQ(events.size(), 4u);
        EXPECT_EQ(events[0].kind, Kind::kReady);
        EXPECT_EQ(events[1].kind, Kind::kEvidence);
        EXPECT_EQ(std::string(events[1].bytes.begin(), events[1].bytes.end()), "ab\ncd\n");
        EXPECT_EQ(events[2].kind, Kind::kDone);
        EXPECT_EQ(events[3].kind, Kind::kFailed);
        EXPECT_EQ(events[3].text, "to stop");
    }
}

TEST(AgentReader, EndsAtWhatDoesNotFit)
{
    for (const char *line :
         {"hello", "", "evidence", "evidence ", "evidence 0", "evidence -1", "evidence 1 ", "evidence 0x10",
          "evidence 4194305", "evidence 99999999999999999999999", "READY", "ready ", "failedx"}) {
        AgentReader reader;
        const auto events = feed(reader, std::string(line) + "\nready\n");
        ASSERT_EQ(events.size(), 1u) << line;
        EXPECT_EQ(events[0].kind, Kind::kBroken) << line;
        EXPECT_TRUE(feed(reader, "ready\n").empty()) << line;
    }
}

TEST(AgentReader, EndsAtALineWithoutEnd)
{
    AgentReader reader;
    const auto events = feed(reader, std::string(AgentReader::kMaxLine + 1, 'x'));
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].kind, Kind::kBroken);
}

TEST(AgentReader, ShowsNoControlCharacters)
{
    AgentReader reader;
    const auto events = feed(reader, "failed \x1b[2Jx\n");
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].text, "?[2Jx");
}

TEST(AttestLine, HasNonceAndTask)
{
    const std::vector<std::uint8_t> nonce{0x00, 0xAB};
    EXPECT_EQ(attest_line(nonce, ""), "attest 00ab\n");
    EXPECT_EQ(attest_line(nonce, "seal"), "attest 00ab seal\n");
}

} // namespace
} // namespace banyan::tool
