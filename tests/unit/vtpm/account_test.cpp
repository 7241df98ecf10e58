// SPDX-License-Identifier: GPL-2.0-or-later
#include <utility>

#include <gtest/gtest.h>

#include "tests/unit/vtpm/fake_link.hpp"
#include "vtpm/chip/tis_regs.hpp"
#include "vtpm/manager/instance.hpp"

namespace banyan::vtpm::testing {
namespace {

using namespace tis;
using Bytes = std::vector<std::uint8_t>;

const Bytes kGetRandom{0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 32};
const Bytes kStartup{0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0};

class Book final : public Observer {
public:
    void command(const CommandRecord &record) override { commands.push_back(record); }
    void locality(std::uint8_t from, std::uint8_t to) override { changes.emplace_back(from, to); }
    std::int64_t host_ns() override { return now += 5; }

    std::vector<CommandRecord> commands;
    std::vector<std::pair<int, int>> changes;
    std::int64_t now = 1000;
};

class AnObservedInstance : public ::testing::Test {
protected:
    void SetUp() override
    {
        ASSERT_TRUE(instance.power_on());
        ASSERT_EQ(instance.state(), PowerState::kReady);
        request(0);
    }
    void write(unsigned locality, Reg reg, std::uint32_t value)
    {
        instance.write(locality * kPageSize + static_cast<std::uint32_t>(reg), 1, value, 0);
    }
    void request(unsigned locality) { write(locality, Reg::kAccess, Access::RequestUse::kMask); }
    void go(const Bytes &command)
    {
        write(0, Reg::kSts, Sts::CommandReady::kMask);
        for (const std::uint8_t byte : command) {
            write(0, Reg::kDataFifo, byte);
        }
        write(0, Reg::kSts, Sts::TpmGo::kMask);
    }
    [[nodiscard]] bool says(const std::string &text) { return instance.json().find(text) != std::string::npos; }

    Book book;
    std::shared_ptr<FakeEngine> engine = std::make_shared<FakeEngine>();
    Instance instance{{1000, false}, std::make_unique<FakeLink>(engine), &book};
};

TEST_F(AnObservedInstance, BooksEachCommandOnceWithItsTime)
{
    engine->response = {0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x23, 0xaa, 0xbb};
    go(kGetRandom);
    (void)instance.read(static_cast<std::uint32_t>(Reg::kSts), 4, 0);
    ASSERT_EQ(book.commands.size(), 1U);
    EXPECT_EQ(book.commands[0].locality, 0);
    EXPECT_EQ(book.commands[0].code, 0x17bU);
    EXPECT_EQ(book.commands[0].command_size, 12U);
    EXPECT_EQ(book.commands[0].response_size, 12U);
    EXPECT_EQ(book.commands[0].result, 0x123U);
    EXPECT_EQ(book.commands[0].ns, 5U);
    EXPECT_TRUE(says("\"commands\":1,\"command_ns\":5,\"longest_command_ns\":5"));
}

TEST_F(AnObservedInstance, BooksACommandThatTheChipItselfRefuses)
{
    go({0x80, 0x01, 0, 0, 0, 9, 0, 0, 1, 0x7b}); // its length is not in it
    ASSERT_EQ(book.commands.size(), 1U);
    EXPECT_EQ(book.commands[0].result, static_cast<std::uint32_t>(TpmRc::kCommandSize));
    EXPECT_TRUE(engine->requests.empty());
}

TEST_F(AnObservedInstance, BooksACommandThatWasGivenUp)
{
    engine->answers_at_once = false;
    go(kGetRandom);
    EXPECT_TRUE(book.commands.empty());
    ASSERT_TRUE(instance.power_off());
    ASSERT_EQ(book.commands.size(), 1U);
    EXPECT_EQ(book.commands[0].response_size, 0U);
    EXPECT_EQ(book.commands[0].code, 0x17bU);
}

TEST_F(AnObservedInstance, TellsEachChangeOfLocalityOnce)
{
    request(2); // waits
    write(0, Reg::kAccess, Access::ActiveLocality::kMask);
    write(2, Reg::kAccess, Access::ActiveLocality::kMask);
    (void)instance.read(static_cast<std::uint32_t>(Reg::kAccess), 1, 0);
    ASSERT_TRUE(instance.launch(LaunchEvent::kStart, {}));
    const std::vector<std::pair<int, int>> expected{
        {kNoLocality, 0}, {0, 2}, {2, kNoLocality}, {kNoLocality, kHardwareLocality}};
    EXPECT_EQ(book.changes, expected);
}

TEST_F(AnObservedInstance, CountsWhatIsDenied)
{
    write(4, Reg::kAccess, Access::RequestUse::kMask);
    write(4, Reg::kDataFifo, 1);
    EXPECT_TRUE(says("\"denied\":2,\"locality4_writes\":2"));
    ASSERT_TRUE(instance.power_off());
    request(0);
    EXPECT_TRUE(says("\"denied\":3,\"locality4_writes\":2,\"unpowered\":1"));
}

class AnInstanceThatFirmwareKnows : public AnObservedInstance {
protected:
    void SetUp() override
    {
        instance.expect_firmware();
        AnObservedInstance::SetUp();
    }
    std::uint32_t result_of_startup()
    {
        engine->response = {0x80, 0x01, 0, 0, 0, 10, 0, 0, 1, 0x00}; // TPM_RC_INITIALIZE: libtpms has been started
        go(kStartup);
        return book.commands.back().result;
    }
};

TEST_F(AnInstanceThatFirmwareKnows, HasBeenStartedWhenItIsAskedFirst)
{
    EXPECT_EQ(result_of_startup(), 0U);
    EXPECT_TRUE(engine->requests.empty());
    EXPECT_EQ(result_of_startup(), 0x100U); // once
    ASSERT_TRUE(instance.power_on());
    ASSERT_EQ(instance.state(), PowerState::kReady);
    request(0);
    EXPECT_EQ(result_of_startup(), 0U); // in each power cycle
}

TEST_F(AnInstanceThatFirmwareKnows, RefusesAStartAfterAnyOtherCommand)
{
    go(kGetRandom);
    EXPECT_EQ(result_of_startup(), 0x100U);
}

TEST_F(AnInstanceThatFirmwareKnows, RefusesAnyOtherStart)
{
    engine->response = {0x80, 0x01, 0, 0, 0, 10, 0, 0, 1, 0x00};
    go({0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 1}); // TPM_SU_STATE
    EXPECT_EQ(book.commands.back().result, 0x100U);
}

TEST_F(AnInstanceThatFirmwareKnows, RefusesAStartAtAnotherLocality)
{
    write(0, Reg::kAccess, Access::ActiveLocality::kMask);
    request(3);
    engine->response = {0x80, 0x01, 0, 0, 0, 10, 0, 0, 1, 0x00};
    write(3, Reg::kSts, Sts::CommandReady::kMask);
    for (const std::uint8_t byte : kStartup) {
        write(3, Reg::kDataFifo, byte);
    }
    write(3, Reg::kSts, Sts::TpmGo::kMask);
    EXPECT_EQ(book.commands.back().result, 0x100U);
}

TEST_F(AnInstanceThatFirmwareKnows, RefusesAStartBehindALaunch)
{
    ASSERT_TRUE(instance.launch(LaunchEvent::kStart, {}));
    ASSERT_EQ(instance.launch_poll(), LaunchProgress::kDone);
    ASSERT_TRUE(instance.launch(LaunchEvent::kEnd, {}));
    ASSERT_EQ(instance.launch_poll(), LaunchProgress::kDone);
    request(0);
    EXPECT_EQ(result_of_startup(), 0x100U);
}

TEST_F(AnObservedInstance, TakesNoSecondStartWithoutFirmware)
{
    engine->response = {0x80, 0x01, 0, 0, 0, 10, 0, 0, 1, 0x00};
    go(kStartup);
    EXPECT_EQ(book.commands.back().result, 0x100U);
    EXPECT_EQ(engine->requests.size(), 1U);
}

} // namespace
} // namespace banyan::vtpm::testing
