// SPDX-License-Identifier: GPL-2.0-or-later
#include "cpu-ext/launch/launch.hpp"

#include <map>
#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace banyan::launch {
namespace {

constexpr std::uint64_t kSlb = 0x3'0000;

class FakeHost : public Host {
public:
    std::vector<std::string> calls;
    std::map<std::uint32_t, std::vector<std::uint8_t>> hashed; // by domain
    std::map<std::uint32_t, std::vector<std::int64_t>> data_at;
    Block block{};
    bool drained_answer = true;
    bool readable = true;
    std::string refuse; // the step whose posting is refused
    std::string fail;   // the step whose poll fails
    int polls_busy = 0; // polls that say busy after each step
    int digest_polls_busy = 0;
    std::int64_t now = 0;

    std::uint32_t entered_core = 99;
    EntryState entry{};
    Digest entered_digest{};
    Times times{};

    void window(std::uint32_t domain, std::uint64_t slb, bool closed) override
    {
        note(domain, (closed ? "close " : "open ") + std::to_string(slb));
    }
    bool drained(std::uint32_t) override { return drained_answer; }
    bool read_slb(std::uint32_t domain, std::uint64_t, Block &out) override
    {
        note(domain, "read");
        out = block;
        return readable;
    }
    bool drtm(std::uint32_t domain, Drtm step, std::span<const std::uint8_t> data) override
    {
        const std::string name = step_name(step);
        note(domain, name);
        if (step == Drtm::kData) {
            EXPECT_LE(data.size(), kChunk);
            hashed[domain].insert(hashed[domain].end(), data.begin(), data.end());
            data_at[domain].push_back(now);
        }
        last_[domain] = name;
        busy_[domain] = polls_busy;
        return name != refuse;
    }
    Poll drtm_poll(std::uint32_t domain) override
    {
        if (busy_[domain]-- > 0) {
            return Poll::kBusy;
        }
        return last_[domain] == fail ? Poll::kFailed : Poll::kDone;
    }
    void digest_begin(std::uint32_t domain, std::span<const std::uint8_t> data) override
    {
        digests_[domain] = digest_of(data);
    }
    std::optional<Digest> digest(std::uint32_t domain) override
    {
        return digest_polls_busy-- > 0 ? std::nullopt : std::optional(digests_.at(domain));
    }
    void enter(std::uint32_t core, std::uint32_t domain, const EntryState &state, const Digest &slb_digest,
               const Times &when) override
    {
        note(domain, "enter");
        entered_core = core;
        entry = state;
        entered_digest = slb_digest;
        times = when;
    }

    static Digest digest_of(std::span<const std::uint8_t> data)
    {
        Digest digest{};
        for (std::size_t i = 0; i < data.size(); ++i) {
            digest[i % digest.size()] = static_cast<std::uint8_t>(digest[i % digest.size()] * 7 + data[i] + 1);
        }
        return digest;
    }

    [[nodiscard]] long count(const std::string &call) const { return std::count(calls.begin(), calls.end(), call); }

private:
    static std::string step_name(Drtm step)
    {
        switch (step) {
        case Drtm::kStart:
            return "start";
        case Drtm::kData:
            return "data";
        case Drtm::kEnd:
            return "end";
        case Drtm::kAbort:
            return "abort";
        }
        return "?";
    }
    void note(std::uint32_t domain, const std::string &what) { calls.push_back(std::to_string(domain) + " " + what); }

    std::map<std::uint32_t, Digest> digests_;
    std::map<std::uint32_t, std::string> last_;
    std::map<std::uint32_t, int> busy_;
};

class LaunchTest : public testing::Test {
protected:
    LaunchTest()
    {
        for (std::size_t i = 0; i < host.block.size(); ++i) {
            host.block[i] = static_cast<std::uint8_t>(i * 13 + i / 256);
        }
        set_header(0x40, 10'000);
    }

    void set_header(std::uint16_t entry, std::uint16_t measured)
    {
        host.block[0] = static_cast<std::uint8_t>(entry);
        host.block[1] = static_cast<std::uint8_t>(entry >> 8);
        host.block[2] = static_cast<std::uint8_t>(measured);
        host.block[3] = static_cast<std::uint8_t>(measured >> 8);
    }

    /// Ticks at the asked times until the launch entered; the time then, or -1.
    std::int64_t run(Launches &launches, std::uint32_t domain, std::int64_t now)
    {
        for (int i = 0; i < 10'000; ++i) {
            std::int64_t next = 0;
            host.now = now;
            const auto progress = launches.tick(domain, now, next);
            if (!progress) {
                return -1;
            }
            if (*progress == Launches::Progress::kEntered) {
                return now;
            }
            EXPECT_GT(next, now);
            now = next;
        }
        ADD_FAILURE() << "never entered";
        return -1;
    }

    FakeHost host;
};

TEST_F(LaunchTest, ClosesDrainsReadsHashesAndEnters)
{
    Launches launches({0, false, 100}, host);
    ASSERT_TRUE(launches.begin(3, 2, kSlb, 1000));
    EXPECT_TRUE(launches.is_open(2));
    EXPECT_TRUE(host.calls.empty()) << "begin() only commits";
    EXPECT_EQ(run(launches, 2, 1000), 1000 + 5 * kCycleNs) << "HASH_START, three chunks, HASH_END";
    EXPECT_FALSE(launches.is_open(2));
    EXPECT_EQ(host.calls, (std::vector<std::string>{"2 close 196608", "2 read", "2 start", "2 data", "2 data", "2 data",
                                                    "2 end", "2 enter"}));
    EXPECT_EQ(host.entered_core, 3U);
    EXPECT_EQ(host.entry.slb, kSlb);
    EXPECT_EQ(host.entry.eip, kSlb + 0x40);
    EXPECT_EQ(host.entry.esp, kSlb + 0x1'0000);
    EXPECT_EQ(host.entry.measured, 10'000U);
    const auto measured = std::span(host.block).first(10'000);
    EXPECT_TRUE(std::equal(measured.begin(), measured.end(), host.hashed[2].begin(), host.hashed[2].end()));
    EXPECT_EQ(host.entered_digest, FakeHost::digest_of(measured));
    EXPECT_EQ(host.times.wait_for_other_domain_ns, 0);
}

TEST_F(LaunchTest, MeasuresExactlyTheLengthOfTheHeader)
{
    for (const std::uint32_t length : {1U, 3U, 4U, 4095U, 4096U, 4097U, 8192U, 65535U}) {
        set_header(0, static_cast<std::uint16_t>(length));
        host.hashed.clear();
        Launches launches({0, false, 100}, host);
        ASSERT_TRUE(launches.begin(0, 0, kSlb, 0));
        EXPECT_GE(run(launches, 0, 0), 0);
        EXPECT_EQ(host.hashed[0].size(), length);
        EXPECT_EQ(host.entry.measured, length);
    }
}

TEST_F(LaunchTest, ALengthOfZeroMeasuresAllSixtyFourKib)
{
    set_header(0xFFFE, 0);
    Launches launches({0, false, 100}, host);
    ASSERT_TRUE(launches.begin(1, 1, 0xFFFF'0000, 0));
    EXPECT_GE(run(launches, 1, 0), 0);
    EXPECT_EQ(host.hashed[1].size(), 0x1'0000U);
    EXPECT_EQ(host.entry.eip, 0xFFFF'FFFEU);
    EXPECT_EQ(host.entry.esp, 0U) << "wraps as the register does";
}

TEST_F(LaunchTest, ReadsTheBlockOnceAndEntersWhatWasHashed)
{
    Launches launches({1'000'000, false, 100}, host);
    ASSERT_TRUE(launches.begin(1, 1, kSlb, 0));
    std::int64_t next = 0;
    ASSERT_TRUE(launches.tick(1, 0, next));
    const Block original = host.block;
    host.block.fill(0xEE); // whoever still writes comes too late
    EXPECT_GE(run(launches, 1, next), 0);
    EXPECT_EQ(host.count("1 read"), 1);
    EXPECT_EQ(host.entry.eip, kSlb + 0x40);
    EXPECT_TRUE(std::equal(host.hashed[1].begin(), host.hashed[1].end(), original.begin()));
}

TEST_F(LaunchTest, WaitsForTheDrainBeforeItReads)
{
    Launches launches({0, false, 250}, host);
    ASSERT_TRUE(launches.begin(1, 1, kSlb, 0));
    host.drained_answer = false;
    std::int64_t next = 0;
    for (std::int64_t now = 0; now < 1000; now = next) {
        ASSERT_EQ(*launches.tick(1, now, next), Launches::Progress::kBusy);
        EXPECT_EQ(next, now + 250);
    }
    EXPECT_EQ(host.calls, (std::vector<std::string>{"1 close 196608"}));
    host.drained_answer = true;
    EXPECT_EQ(run(launches, 1, next), next + 5 * kCycleNs);
}

TEST_F(LaunchTest, KBytesNeverArriveBeforeKOverRate)
{
    for (const std::uint64_t rate : {1'000ULL, 333'333ULL, 1'000'000ULL, 999'999'937ULL, 33'000'000ULL}) {
        for (const int polls : {0, 3}) {
            set_header(0, 0);
            host.hashed.clear();
            host.data_at.clear();
            host.polls_busy = polls;
            Launches launches({rate, false, 50}, host);
            ASSERT_TRUE(launches.begin(1, 1, kSlb, 7));
            const std::int64_t end = run(launches, 1, 7);
            ASSERT_EQ(host.data_at[1].size(), 16U);
            std::uint64_t bytes = 0;
            for (const std::int64_t at : host.data_at[1]) {
                bytes += kChunk;
                EXPECT_GE(static_cast<__int128>(at - 7) * static_cast<__int128>(rate),
                          static_cast<__int128>(bytes) * 1'000'000'000);
            }
            EXPECT_GE(end - 7, static_cast<std::int64_t>(0x1'0000ULL * 1'000'000'000 / rate));
            EXPECT_LE(host.times.hash_start_ns, host.data_at[1].front());
            EXPECT_EQ(host.times.hash_end_ns, end);
            EXPECT_EQ(host.times.entry_ns, end);
            EXPECT_EQ(host.times.start_ns, 7);
        }
    }
}

TEST_F(LaunchTest, RoundingDoesNotAddUp)
{
    set_header(0, 0);
    Launches launches({3'000'000'007, false, 1}, host);
    ASSERT_TRUE(launches.begin(1, 1, kSlb, 0));
    const std::int64_t end = run(launches, 1, 0);
    EXPECT_EQ(end, (0x1'0000LL * 1'000'000'000 + 3'000'000'006) / 3'000'000'007 + 2 * kCycleNs);
}

// Without transfer time a launch still takes virtual time, so that one which waits for another can be told from one that
// does not.
TEST_F(LaunchTest, TakesABusCycleAStepWhenBytesTakeNone)
{
    for (const std::uint32_t length : {1U, 4096U, 4097U, 65535U}) {
        set_header(0, static_cast<std::uint16_t>(length));
        Launches launches({0, false, 100}, host);
        ASSERT_TRUE(launches.begin(1, 1, kSlb, 50));
        const std::int64_t chunks = (length + kChunk - 1) / kChunk;
        EXPECT_EQ(run(launches, 1, 50), 50 + (chunks + 2) * kCycleNs);
    }
}

// The digest names in the report what was entered; it is computed elsewhere, and SKINIT completes when it is there.
TEST_F(LaunchTest, EntersNoSoonerThanTheDigestIsThere)
{
    for (const std::string failing : {"", "start", "data", "end"}) {
        host.fail = failing;
        host.digest_polls_busy = 7;
        Launches launches({0, false, 100}, host);
        ASSERT_TRUE(launches.begin(1, 1, kSlb, 0));
        EXPECT_GT(run(launches, 1, 0), 0);
        EXPECT_EQ(host.digest_polls_busy, -1) << "asked until it was there, and not again";
        EXPECT_EQ(host.entered_digest, FakeHost::digest_of(std::span(host.block).first(10'000)));
    }
}

TEST_F(LaunchTest, AnEarlyTickChangesNothing)
{
    Launches launches({1'000'000, false, 100}, host);
    ASSERT_TRUE(launches.begin(1, 1, kSlb, 0));
    std::int64_t due = 0;
    ASSERT_TRUE(launches.tick(1, 0, due));
    const auto calls = host.calls;
    std::int64_t next = 0;
    EXPECT_EQ(*launches.tick(1, due - 1, next), Launches::Progress::kBusy);
    EXPECT_EQ(next, due);
    EXPECT_EQ(host.calls, calls);
}

TEST_F(LaunchTest, DomainsLaunchAtTheSameTime)
{
    Launches launches({1'000'000, false, 100}, host);
    const auto alone = [&] {
        FakeHost one;
        one.block = host.block;
        Launches single({1'000'000, false, 100}, one);
        std::int64_t now = *single.begin(1, 1, kSlb, 0);
        std::int64_t next = 0;
        while (*single.tick(1, now, next) == Launches::Progress::kBusy) {
            now = next;
        }
        return now;
    }();
    std::map<std::uint32_t, std::int64_t> due;
    for (std::uint32_t d = 1; d <= 4; ++d) {
        due[d] = *launches.begin(d, d, kSlb, 0);
    }
    std::map<std::uint32_t, std::int64_t> entered;
    while (!due.empty()) {
        const auto first =
            std::min_element(due.begin(), due.end(), [](const auto &a, const auto &b) { return a.second < b.second; });
        std::int64_t next = 0;
        const auto [domain, now] = *first;
        if (*launches.tick(domain, now, next) == Launches::Progress::kEntered) {
            entered[domain] = now;
            EXPECT_EQ(host.times.wait_for_other_domain_ns, 0);
            due.erase(domain);
        } else {
            due[domain] = next;
        }
    }
    for (std::uint32_t d = 1; d <= 4; ++d) {
        EXPECT_EQ(entered[d], alone) << "as long as one alone";
    }
}

TEST_F(LaunchTest, TheSerialArbiterLetsThemWaitInOrderAndCountsIt)
{
    Launches launches({1'000'000, true, 100}, host);
    std::map<std::uint32_t, std::int64_t> due;
    for (const std::uint32_t d : {3U, 1U, 2U}) { // order of begin()
        due[d] = *launches.begin(d, d, kSlb, 0);
    }
    std::vector<std::uint32_t> order;
    std::vector<std::int64_t> waits;
    while (!due.empty()) {
        const auto first =
            std::min_element(due.begin(), due.end(), [](const auto &a, const auto &b) { return a.second < b.second; });
        std::int64_t next = 0;
        const auto [domain, now] = *first;
        if (*launches.tick(domain, now, next) == Launches::Progress::kEntered) {
            order.push_back(domain);
            waits.push_back(host.times.wait_for_other_domain_ns);
            due.erase(domain);
        } else {
            due[domain] = next;
        }
    }
    EXPECT_EQ(order, (std::vector<std::uint32_t>{3, 1, 2}));
    EXPECT_EQ(waits[0], 0);
    EXPECT_GE(waits[1], 10'000'000) << "10 000 bytes at 1 MB/s";
    EXPECT_GE(waits[2], 20'000'000);
    EXPECT_EQ(host.count("1 close 196608"), 1);
}

TEST_F(LaunchTest, ACancelledLaunchFreesTheArbiter)
{
    Launches launches({0, true, 100}, host);
    host.drained_answer = false;
    std::int64_t next = 0;
    ASSERT_TRUE(launches.begin(1, 1, kSlb, 0));
    ASSERT_TRUE(launches.begin(2, 2, kSlb, 0));
    ASSERT_TRUE(launches.begin(3, 3, kSlb, 0));
    (void)launches.tick(1, 0, next);
    (void)launches.tick(2, 0, next);
    launches.cancel(1);
    launches.cancel(2); // waiting: nothing of it was begun
    EXPECT_EQ(host.calls, (std::vector<std::string>{"1 close 196608", "1 open 196608"}));
    host.drained_answer = true;
    EXPECT_EQ(run(launches, 3, 100), 100 + 5 * kCycleNs);
}

TEST_F(LaunchTest, HashFailuresDoNotStopTheLaunch)
{
    for (const bool at_post : {true, false}) {
        for (const std::string step : {"start", "data", "end"}) {
            host.calls.clear();
            host.refuse.clear();
            host.fail.clear();
            (at_post ? host.refuse : host.fail) = step;
            Launches launches({0, false, 100}, host);
            ASSERT_TRUE(launches.begin(1, 1, kSlb, 0));
            EXPECT_GE(run(launches, 1, 0), 0) << step;
            EXPECT_EQ(host.count("1 enter"), 1);
            EXPECT_EQ(host.count("1 abort"), 1) << "the instance is left failed";
            EXPECT_EQ(host.entry.eip, kSlb + 0x40);
            EXPECT_EQ(host.calls.back(), "1 enter");
            EXPECT_FALSE(launches.is_open(1));
        }
    }
}

TEST_F(LaunchTest, CanBeCancelledAtEveryStep)
{
    // Count the ticks of one launch, then cancel another after 0, 1, 2, ... of them.
    host.polls_busy = 1;
    int ticks = 0;
    {
        Launches launches({1'000'000, false, 100}, host);
        std::int64_t now = *launches.begin(1, 1, kSlb, 0);
        std::int64_t next = 0;
        while (*launches.tick(1, now, next) == Launches::Progress::kBusy) {
            now = next;
            ++ticks;
        }
    }
    ASSERT_GT(ticks, 5);
    for (int stop = 0; stop <= ticks; ++stop) {
        host.calls.clear();
        Launches launches({1'000'000, false, 100}, host);
        std::int64_t now = *launches.begin(1, 1, kSlb, 0);
        std::int64_t next = 0;
        for (int i = 0; i < stop; ++i) {
            ASSERT_EQ(*launches.tick(1, now, next), Launches::Progress::kBusy);
            now = next;
        }
        launches.cancel(1);
        EXPECT_FALSE(launches.is_open(1));
        EXPECT_EQ(host.count("1 enter"), 0);
        EXPECT_EQ(host.count("1 close 196608"), host.count("1 open 196608"));
        EXPECT_EQ(host.count("1 abort"), host.count("1 start"));
        EXPECT_FALSE(launches.tick(1, now, next)) << "no open launch";
        launches.cancel(1); // once more does nothing
        EXPECT_LE(host.count("1 abort"), 1);
        EXPECT_TRUE(launches.begin(1, 1, kSlb, now)) << "and another can begin";
    }
}

TEST_F(LaunchTest, ResetForgetsEveryLaunch)
{
    Launches launches({1'000'000, false, 100}, host);
    std::int64_t next = 0;
    for (const std::uint32_t d : {0U, 5U, 15U}) {
        ASSERT_TRUE(launches.begin(d, d, kSlb, 0));
        (void)launches.tick(d, 0, next);
    }
    launches.reset();
    for (std::uint32_t d = 0; d < 16; ++d) {
        EXPECT_FALSE(launches.is_open(d));
    }
    EXPECT_EQ(host.count("5 abort"), 1);
    EXPECT_EQ(host.count("0 open 196608"), 1);
}

TEST_F(LaunchTest, OneLaunchADomainAndOnlyBlocksThatFitTheRegister)
{
    Launches launches({0, false, 100}, host);
    ASSERT_TRUE(launches.begin(1, 1, kSlb, 0));
    EXPECT_FALSE(launches.begin(2, 1, kSlb, 0));
    EXPECT_TRUE(launches.begin(2, 2, kSlb, 0));
    EXPECT_FALSE(launches.begin(3, 3, kSlb + 0x1000, 0));
    EXPECT_FALSE(launches.begin(3, 3, 0x1'0000'0000, 0));
    EXPECT_FALSE(launches.begin(3, 16, kSlb, 0));
    EXPECT_FALSE(launches.is_open(3));
    EXPECT_FALSE(launches.is_open(16));
    launches.cancel(16);
    std::int64_t next = 0;
    EXPECT_FALSE(launches.tick(16, 0, next));
}

TEST_F(LaunchTest, ABlockThatIsNotAllRamEndsWithoutEntry)
{
    Launches launches({0, false, 100}, host);
    host.readable = false;
    ASSERT_TRUE(launches.begin(1, 1, kSlb, 0));
    EXPECT_EQ(run(launches, 1, 0), -1);
    EXPECT_FALSE(launches.is_open(1));
    EXPECT_EQ(host.calls, (std::vector<std::string>{"1 close 196608", "1 read", "1 open 196608"}));
}

TEST_F(LaunchTest, APollTimeOfZeroStillMovesTimeOn)
{
    Launches launches({0, false, 0}, host);
    host.polls_busy = 5;
    ASSERT_TRUE(launches.begin(1, 1, kSlb, 0));
    EXPECT_GT(run(launches, 1, 0), 0);
}

} // namespace
} // namespace banyan::launch
