// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/ustar.hpp"

#include <cstdio>
#include <cstring>
#include <random>

#include <gtest/gtest.h>

namespace banyan::tool {
namespace {

using Bytes = std::vector<std::uint8_t>;

struct Member {
    std::string name;
    std::string content;
    char type = '0';
    std::string link = {};
    std::string prefix = {};
};

void sum_up(std::uint8_t *header)
{
    std::memset(header + 148, ' ', 8);
    unsigned sum = 0;
    for (int i = 0; i < 512; ++i) {
        sum += header[i];
    }
    std::snprintf(reinterpret_cast<char *>(header) + 148, 8, "%06o", sum);
}

Bytes archive_of(const std::vector<Member> &members)
{
    Bytes out;
    for (const Member &m : members) {
        Bytes header(512);
        auto *h = reinterpret_cast<char *>(header.data());
        std::memcpy(h, m.name.data(), std::min<std::size_t>(m.name.size(), 100));
        std::snprintf(h + 100, 8, "%07o", 0644);
        std::snprintf(h + 124, 12, "%011zo", m.content.size());
        h[156] = m.type;
        std::memcpy(h + 157, m.link.data(), m.link.size());
        std::memcpy(h + 257,
                    "ustar\0"
                    "00",
                    8);
        std::memcpy(h + 345, m.prefix.data(), m.prefix.size());
        sum_up(header.data());
        out.insert(out.end(), header.begin(), header.end());
        out.insert(out.end(), m.content.begin(), m.content.end());
        out.resize((out.size() + 511) / 512 * 512);
    }
    out.resize(out.size() + 1024);
    return out;
}

const std::set<std::string, std::less<>> kAllowed{"ak.pem", "quote.msg"};

auto read(const Bytes &archive, std::size_t most = 4096)
{
    return read_ustar(archive, kAllowed, most);
}

TEST(Ustar, TakesNamedFiles)
{
    const auto files = read(archive_of({{"./", "", '5'}, {"./ak.pem", "key"}, {"quote.msg", std::string(1000, 'q')}}));
    ASSERT_TRUE(files) << files.error();
    ASSERT_EQ(files->size(), 2u);
    EXPECT_EQ(files->at("ak.pem"), Bytes({'k', 'e', 'y'}));
    EXPECT_EQ(files->at("quote.msg").size(), 1000u);
}

TEST(Ustar, RefusesWhatIsNoPlainAllowedFile)
{
    const Member cases[] = {{"../ak.pem", "x"},
                            {"/etc/passwd", "x"},
                            {"sub/ak.pem", "x"},
                            {"./../ak.pem", "x"},
                            {"nonce", "x"},
                            {"", "x"},
                            {"ak.pem", "", '1', "/etc/passwd"},
                            {"ak.pem", "", '2', "/etc/passwd"},
                            {"ak.pem", "", '3'},
                            {"ak.pem", "", '5'},
                            {"ak.pem", "", '6'},
                            {"ak.pem", "30 path=../../x\n", 'x'},
                            {"ak.pem", "long name", 'L'},
                            {"ak.pem", "x", '0', "", "../.."},
                            {std::string(100, 'a'), "x"}};
    for (const Member &member : cases) {
        EXPECT_FALSE(read(archive_of({member}))) << member.name << " " << member.type;
    }
}

TEST(Ustar, RefusesTwiceTooLongCutOffAndUnsummed)
{
    EXPECT_FALSE(read(archive_of({{"ak.pem", "1"}, {"./ak.pem", "2"}})));
    EXPECT_FALSE(read(archive_of({{"ak.pem", std::string(4097, 'x')}})));
    EXPECT_TRUE(read(archive_of({{"ak.pem", std::string(4096, 'x')}})));
    Bytes cut = archive_of({{"ak.pem", std::string(600, 'x')}});
    cut.resize(1200);
    EXPECT_FALSE(read(cut));
    cut.resize(300);
    EXPECT_FALSE(read(cut));
    Bytes wrong = archive_of({{"ak.pem", "x"}});
    wrong[1] = 'q';
    EXPECT_FALSE(read(wrong));
}

TEST(Ustar, RefusesSizesThatAreNoNumbers)
{
    for (const char *size : {"77777777777", "9", "-1", "\x80\x01", ""}) {
        Bytes archive = archive_of({{"ak.pem", "x"}});
        std::memset(&archive[124], 0, 12);
        std::memcpy(&archive[124], size, std::strlen(size));
        sum_up(archive.data());
        EXPECT_FALSE(read(archive)) << size;
    }
}

TEST(Ustar, SurvivesNoise)
{
    std::mt19937 random(1); // NOLINT: the same noise each time
    const Bytes good = archive_of({{"ak.pem", "key"}, {"quote.msg", std::string(700, 'q')}});
    for (int round = 0; round < 3000; ++round) {
        Bytes bad = good;
        for (unsigned i = 0; i < 1 + random() % 3; ++i) {
            bad[random() % bad.size()] = static_cast<std::uint8_t>(random());
        }
        if (random() % 2 == 0) {
            sum_up(bad.data());
        }
        bad.resize(random() % (bad.size() + 1));
        if (const auto files = read(bad)) {
            for (const auto &[name, content] : *files) {
                EXPECT_TRUE(kAllowed.count(name) == 1 && content.size() <= 4096);
            }
        }
    }
}

} // namespace
} // namespace banyan::tool
