// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/io.hpp"

#include <array>
#include <sys/socket.h>

#include <gtest/gtest.h>

#include "tests/unit/tool/fixture.hpp"
#include "tool/qmp.hpp"

namespace banyan::tool {
namespace {

using namespace std::chrono_literals;

TEST(Loop, HandsOnWhatComesAndTheEnd)
{
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    const Fd here(ends[0]);
    Fd there(ends[1]);
    std::string seen;
    bool closed = false;
    Loop loop;
    loop.watch(here.get(), [&] {
        std::array<std::uint8_t, 16> buffer{};
        const ReadResult got = read_some(here.get(), buffer);
        seen.append(got.bytes.begin(), got.bytes.end());
        closed = got.closed;
        if (closed) {
            loop.unwatch(here.get());
        }
    });
    ASSERT_TRUE(send_all(there.get(), "hello", Clock::now() + 1s));
    loop.turn(Clock::now() + 1s);
    EXPECT_EQ(seen, "hello");
    there.reset();
    loop.turn(Clock::now() + 1s);
    EXPECT_TRUE(closed);
    const auto before = Clock::now();
    loop.turn(before + 20ms);
    EXPECT_GE(Clock::now(), before + 20ms);
    EXPECT_FALSE(send_all(here.get(), "x", Clock::now() + 1s));
}

TEST(Loop, GivesUpOnAPeerThatDoesNotRead)
{
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    const Fd here(ends[0]);
    const Fd there(ends[1]);
    EXPECT_FALSE(send_all(here.get(), std::string(std::size_t{8} << 20, 'x'), Clock::now() + 50ms));
}

TEST(Listen, SaysWhenANameIsTooLong)
{
    const auto fd = listen_at("/tmp/" + std::string(200, 'x'));
    ASSERT_FALSE(fd);
    EXPECT_EQ(fd.error().exit, Exit::kEnvironment);
}

TEST(RunFolder, GoesUnlessKept)
{
    std::filesystem::path gone;
    std::filesystem::path kept;
    {
        auto a = RunFolder::make();
        auto b = RunFolder::make();
        ASSERT_TRUE(a && b);
        gone = a->path();
        kept = b->path();
        EXPECT_NE(gone, kept);
        b->keep();
    }
    EXPECT_FALSE(std::filesystem::exists(gone));
    EXPECT_TRUE(std::filesystem::remove(kept));
}

TEST(LastLine, IsTheLastThatSaysSomething)
{
    const test::BuildFolder build;
    EXPECT_EQ(last_line(build.put("log", "one\ntwo\n\n  \n")), "two");
    EXPECT_EQ(last_line(build.put("log", "")), "");
    EXPECT_EQ(last_line(build.path() / "none"), "");
}

std::vector<std::uint8_t> text(std::string_view s)
{
    return {s.begin(), s.end()};
}

TEST(QmpReader, TakesObjectsALineEach)
{
    QmpReader reader;
    reader.feed(text("{\"QMP\": {}}\r\n{\"ret"));
    ASSERT_TRUE(reader.next());
    EXPECT_FALSE(reader.next());
    reader.feed(text("urn\": 3}\n\n"));
    EXPECT_EQ(reader.next()->at("return"), 3);
    EXPECT_FALSE(reader.broken());
}

TEST(QmpReader, EndsAtWhatIsNoObject)
{
    for (const char *bad : {"[]\n", "3\n", "{\n", "\"x\"\n", "{\"a\":1}}\n"}) {
        QmpReader reader;
        reader.feed(text(bad));
        EXPECT_TRUE(reader.broken()) << bad;
        EXPECT_FALSE(reader.next());
    }
    QmpReader reader;
    reader.feed(std::vector<std::uint8_t>(QmpReader::kMaxLine + 1, 'x'));
    EXPECT_TRUE(reader.broken());
}

} // namespace
} // namespace banyan::tool
