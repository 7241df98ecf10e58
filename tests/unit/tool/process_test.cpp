// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/process.hpp"

#include <csignal>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>

#include "tests/unit/tool/fixture.hpp"

namespace banyan::tool {
namespace {

using namespace std::chrono_literals;

class ProcessTest : public ::testing::Test {
protected:
    Outcome<Process> shell(const std::string &script)
    {
        return Process::start({"/bin/sh", "-c", script}, build_.path(), build_.path() / "log");
    }

    /// The number that the script has written to `name`.
    pid_t number_in(const std::string &name)
    {
        pid_t pid = 0;
        for (int i = 0; i < 500 && pid == 0; ++i) {
            std::ifstream(build_.path() / name) >> pid;
            std::this_thread::sleep_for(10ms);
        }
        return pid;
    }

    test::BuildFolder build_;
};

TEST_F(ProcessTest, ReportsHowItEnded)
{
    auto process = shell("echo words; exit 3");
    ASSERT_TRUE(process) << process.error().text;
    ASSERT_TRUE(process->wait_until(Clock::now() + 10s));
    EXPECT_EQ(describe_wait_status(*process->ended()), "status 3");
    EXPECT_EQ(last_line(build_.path() / "log"), "words");
    auto killed = shell("kill -9 $$");
    ASSERT_TRUE(killed && killed->wait_until(Clock::now() + 10s));
    EXPECT_EQ(describe_wait_status(*killed->ended()), "signal 9 (Killed)");
}

TEST_F(ProcessTest, SaysWhyAProgramDoesNotStart)
{
    const auto process = Process::start({"/no/such/program"}, build_.path(), build_.path() / "log");
    ASSERT_FALSE(process);
    EXPECT_EQ(process.error().exit, Exit::kEnvironment);
    EXPECT_NE(process.error().text.find("No such file"), std::string::npos);
}

TEST_F(ProcessTest, LeavesNothingRunning)
{
    pid_t plain = 0;
    pid_t runaway = 0;
    {
        // One child in the group, deaf to SIGTERM; one that has left the group and whose parent is gone.
        auto process = shell("trap '' TERM; sleep 100 & echo $! >plain; "
                             "(setsid sh -c 'echo $$ >runaway; exec sleep 100' &) ; sleep 100");
        ASSERT_TRUE(process) << process.error().text;
        plain = number_in("plain");
        runaway = number_in("runaway");
        ASSERT_GT(plain, 0);
        ASSERT_GT(runaway, 0);
        EXPECT_EQ(::kill(runaway, 0), 0);
    }
    EXPECT_NE(::kill(plain, 0), 0);
    EXPECT_NE(::kill(runaway, 0), 0);
}

} // namespace
} // namespace banyan::tool
