// SPDX-License-Identifier: GPL-2.0-or-later
#include <cstdio>
#include <cstdlib>
#include <string>

#include <gtest/gtest.h>

#include "guest/agent/request.hpp"
#include "guest/agent/ustar.hpp"

namespace banyan::agent {
namespace {

using Verb = Request::Verb;
using Secret = Request::Secret;

TEST(AgentRequest, UnderstandsEveryVerb)
{
    EXPECT_EQ(parse_request("poweroff")->verb, Verb::kPoweroff);
    EXPECT_EQ(parse_request("reboot")->verb, Verb::kReboot);
    EXPECT_EQ(parse_request("panic")->verb, Verb::kPanic);
    EXPECT_EQ(parse_request("hang")->verb, Verb::kHang);
    const auto attest = parse_request("attest 00ff10");
    ASSERT_TRUE(attest);
    EXPECT_EQ(attest->verb, Verb::kAttest);
    EXPECT_EQ(attest->nonce, std::string("\x00\xFF\x10", 3));
    EXPECT_EQ(attest->secret, Secret::kNone);
    EXPECT_EQ(parse_request("attest 00 seal")->secret, Secret::kSeal);
    EXPECT_EQ(parse_request("attest 00 unseal")->secret, Secret::kUnseal);
}

TEST(AgentRequest, RefusesEverythingElse)
{
    for (const char *line :
         {"", "attest", "attest ", "attest 0", "attest 0g", "attest 00FF", "attest 00  seal", "attest 00 ",
          "attest 00 steal", "attest  00", "poweroff ", "Poweroff", " hang", "rm -rf /"}) {
        EXPECT_FALSE(parse_request(line)) << line;
    }
    EXPECT_TRUE(parse_request("attest " + std::string(128, 'a')));
    EXPECT_FALSE(parse_request("attest " + std::string(130, 'a')));
}

TEST(AgentUstar, StockTarReadsIt)
{
    Ustar archive;
    archive.add("nonce", std::string("\x00\x01", 2));
    archive.add("empty", "");
    archive.add("long", std::string(1025, 'x'));
    const std::string bytes = archive.finish();
    EXPECT_EQ(bytes.size() % 512, 0u);

    const std::string path = testing::TempDir() + "agent_test.tar";
    std::FILE *const file = std::fopen(path.c_str(), "wb");
    ASSERT_NE(file, nullptr);
    ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
    std::fclose(file);
    std::FILE *const tar = ::popen(("LC_ALL=C tar -tvf " + path + " 2>&1").c_str(), "r");
    ASSERT_NE(tar, nullptr);
    std::string listing;
    for (int c = std::fgetc(tar); c != EOF; c = std::fgetc(tar)) {
        listing += static_cast<char>(c);
    }
    EXPECT_EQ(::pclose(tar), 0) << listing;
    EXPECT_NE(listing.find("1025 1970-01-01"), std::string::npos) << listing;
    EXPECT_NE(listing.find(" nonce\n"), std::string::npos) << listing;
    std::remove(path.c_str());
}

} // namespace
} // namespace banyan::agent
