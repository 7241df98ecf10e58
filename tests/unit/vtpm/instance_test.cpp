// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/manager/instance.hpp"

#include <gtest/gtest.h>

#include "tests/unit/vtpm/fake_link.hpp"
#include "vtpm/chip/tis_regs.hpp"
#include "vtpm/chip/tpm_header.hpp"
#include "vtpm/link/mailbox_host.hpp"

namespace banyan::vtpm::testing {
namespace {

using namespace tis;
using Bytes = std::vector<std::uint8_t>;

const Bytes kGetRandom{0x80, 0x01, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 32};

class AnInstance : public ::testing::Test {
protected:
    explicit AnInstance(InstanceConfig config = {1000, false}) : config_(config) {}

    void SetUp() override
    {
        instance = std::make_unique<Instance>(config_, std::make_unique<FakeLink>(engine));
        ASSERT_TRUE(instance->power_on());
        ASSERT_EQ(instance->state(), PowerState::kReady);
        write(Reg::kAccess, Access::RequestUse::kMask);
    }
    void write(Reg reg, std::uint32_t value) { instance->write(static_cast<std::uint32_t>(reg), 1, value, now); }
    void write32(Reg reg, std::uint32_t value) { instance->write(static_cast<std::uint32_t>(reg), 4, value, now); }
    std::uint32_t read(Reg reg, unsigned width = 4)
    {
        return static_cast<std::uint32_t>(instance->read(static_cast<std::uint32_t>(reg), width, now));
    }
    void go(const Bytes &command = kGetRandom)
    {
        write(Reg::kSts, Sts::CommandReady::kMask);
        for (const std::uint8_t byte : command) {
            write(Reg::kDataFifo, byte);
        }
        write(Reg::kSts, Sts::TpmGo::kMask);
    }
    bool available() { return Sts::DataAvail::get(read(Reg::kSts)); }
    std::uint32_t code()
    {
        Bytes bytes;
        while (available()) {
            bytes.push_back(static_cast<std::uint8_t>(read(Reg::kDataFifo, 1)));
        }
        return bytes.size() < 10 ? 0xffff'ffff : load_be32(bytes, 6);
    }

    InstanceConfig config_;
    std::shared_ptr<FakeEngine> engine = std::make_shared<FakeEngine>();
    std::unique_ptr<Instance> instance;
    std::int64_t now = 0;
};

class ADeterministicInstance : public AnInstance {
protected:
    ADeterministicInstance() : AnInstance({0, true}) {}
};

TEST_F(AnInstance, AnswersAShortCommandInsideTheDoorbell)
{
    go();
    EXPECT_EQ(engine->waits, 1);
    ASSERT_EQ(engine->requests.size(), 1U);
    EXPECT_EQ(engine->requests[0].bytes, kGetRandom);
    EXPECT_EQ(code(), 0U);
}

TEST_F(AnInstance, AnswersALongCommandLater)
{
    engine->answers_at_once = false;
    go();
    EXPECT_FALSE(available());
    engine->complete();
    EXPECT_TRUE(available());
}

TEST_F(AnInstance, AHostileAnswerEndsTheWorkerAndTheCommandFails)
{
    engine->answers_at_once = false;
    go();
    engine->complete(Answer::Kind::kHostile);
    EXPECT_TRUE(available());
    EXPECT_EQ(engine->stops, 1);
    EXPECT_EQ(engine->starts, (std::vector<bool>{false, true}));
    EXPECT_EQ(code(), 0x101U);
    EXPECT_EQ(instance->state(), PowerState::kReady);
}

TEST_F(AnInstance, AWorkerThatKeepsDyingIsParked)
{
    engine->answers_at_once = false;
    for (int i = 0; i < 16; ++i) {
        go();
        engine->health = Health::kDead;
        EXPECT_EQ(code(), 0x101U);
        EXPECT_EQ(instance->state(), PowerState::kReady) << i;
    }
    go();
    engine->health = Health::kDead;
    EXPECT_EQ(code(), 0x101U);
    EXPECT_EQ(instance->state(), PowerState::kFailed);
    go();
    EXPECT_EQ(code(), 0x101U);
    EXPECT_TRUE(instance->power_on());
    EXPECT_EQ(instance->state(), PowerState::kReady);
}

TEST_F(AnInstance, APowerCycleDuringTheDoorbellsWaitWins)
{
    engine->answers_at_once = false;
    engine->while_waiting = [&] {
        engine->while_waiting = [] {};
        ASSERT_TRUE(instance->power_off());
        ASSERT_TRUE(instance->power_on());
        engine->pending = true; // an answer that is not for the new life's interface
        engine->complete();
    };
    go();
    EXPECT_EQ(instance->state(), PowerState::kReady);
    EXPECT_EQ(read(Reg::kSts), 0xffff'ffffU) << "no locality is active in the new life";
}

TEST_F(AnInstance, ALaunchDuringTheDoorbellsWaitWins)
{
    engine->answers_at_once = false;
    engine->while_waiting = [&] {
        engine->while_waiting = [] {};
        ASSERT_TRUE(instance->launch(LaunchEvent::kStart, {}));
        EXPECT_EQ(instance->launch_poll(), LaunchProgress::kBusy);
        EXPECT_EQ(engine->requests.size(), 1U) << "HASH_START waits for the command";
        engine->complete();
    };
    go();
    EXPECT_EQ(engine->cancels, 1);
    EXPECT_EQ(instance->launch_poll(), LaunchProgress::kBusy);
    ASSERT_EQ(engine->requests.size(), 2U);
    EXPECT_EQ(engine->requests[1].op, Op::kHashStart);
    EXPECT_EQ(engine->requests[1].locality, 4);
    engine->complete();
    EXPECT_EQ(instance->launch_poll(), LaunchProgress::kDone);
}

TEST_F(AnInstance, AStepWhileOneIsUnderWayFailsTheLaunch)
{
    engine->answers_at_once = false;
    ASSERT_TRUE(instance->launch(LaunchEvent::kStart, {}));
    EXPECT_FALSE(instance->launch(LaunchEvent::kData, Bytes(4)));
    EXPECT_EQ(instance->state(), PowerState::kFailed);
    EXPECT_EQ(instance->launch_poll(), LaunchProgress::kFailed);
}

TEST_F(AnInstance, TooMuchDataFailsTheLaunch)
{
    ASSERT_TRUE(instance->launch(LaunchEvent::kStart, {}));
    EXPECT_EQ(instance->launch_poll(), LaunchProgress::kDone);
    EXPECT_FALSE(instance->launch(LaunchEvent::kData, Bytes(4097)));
    EXPECT_EQ(instance->state(), PowerState::kFailed);
}

TEST_F(AnInstance, NoCheckpointIsRestoredWhileALaunchIsOpen)
{
    ASSERT_TRUE(instance->launch(LaunchEvent::kStart, {}));
    EXPECT_EQ(instance->launch_poll(), LaunchProgress::kDone);
    engine->answers_at_once = false;
    ASSERT_TRUE(instance->launch(LaunchEvent::kData, Bytes(4)));
    engine->health = Health::kDead;
    EXPECT_EQ(instance->launch_poll(), LaunchProgress::kFailed);
    EXPECT_EQ(engine->starts, std::vector<bool>{false}) << "no restart";
    EXPECT_EQ(instance->state(), PowerState::kFailed);
}

TEST_F(AnInstance, AnIdleWorkerThatDiedBetweenTwoStepsFailsTheLaunch)
{
    ASSERT_TRUE(instance->launch(LaunchEvent::kStart, {}));
    EXPECT_EQ(instance->launch_poll(), LaunchProgress::kDone);
    engine->health = Health::kDead;
    EXPECT_EQ(instance->state(), PowerState::kFailed);
    EXPECT_EQ(engine->starts, std::vector<bool>{false});
}

TEST_F(AnInstance, ARefusedHashFailsTheLaunch)
{
    for (int step = 0; step < 3; ++step) {
        ASSERT_TRUE(instance->power_on());
        ASSERT_EQ(instance->state(), PowerState::kReady);
        engine->answers_at_once = step != 0;
        ASSERT_TRUE(instance->launch(LaunchEvent::kStart, {}));
        if (step > 0) {
            EXPECT_EQ(instance->launch_poll(), LaunchProgress::kDone);
            engine->answers_at_once = false;
            ASSERT_TRUE(instance->launch(step == 1 ? LaunchEvent::kData : LaunchEvent::kEnd, {}));
        }
        engine->complete(Answer::Kind::kRefused);
        EXPECT_EQ(instance->launch_poll(), LaunchProgress::kFailed);
        EXPECT_EQ(instance->state(), PowerState::kFailed);
    }
}

TEST_F(AnInstance, ThatDoesNotStartIsFailed)
{
    engine->start_works = false;
    EXPECT_FALSE(instance->power_on());
    EXPECT_EQ(instance->state(), PowerState::kFailed);
    EXPECT_TRUE(Access::TpmRegValidSts::get(read(Reg::kAccess)));
    write(Reg::kAccess, Access::RequestUse::kMask);
    go();
    EXPECT_EQ(code(), 0x101U);
}

TEST_F(AnInstance, SaysNotValidWhileItStarts)
{
    ASSERT_TRUE(instance->power_on());
    engine->health = Health::kBooting;
    EXPECT_EQ(read(Reg::kAccess), 0U);
    EXPECT_EQ(read(Reg::kSts), 0xffff'ffffU);
    EXPECT_EQ(instance->state(), PowerState::kStarting);
    EXPECT_FALSE(instance->launch(LaunchEvent::kStart, {})) << "a launch that nobody hashed";
    EXPECT_EQ(instance->state(), PowerState::kFailed);
}

TEST_F(AnInstance, ASeizedCommandIsCancelledAndItsResponseDropped)
{
    engine->answers_at_once = false;
    go();
    instance->write(kPageSize * 2, 1, Access::Seize::kMask, now);
    EXPECT_EQ(engine->cancels, 1);
    instance->write(kPageSize * 2 + static_cast<std::uint32_t>(Reg::kSts), 1, Sts::CommandReady::kMask, now);
    const auto sts = [&] {
        return static_cast<std::uint32_t>(
            instance->read(kPageSize * 2 + static_cast<std::uint32_t>(Reg::kSts), 4, now));
    };
    EXPECT_FALSE(Sts::CommandReady::get(sts()));
    engine->complete();
    EXPECT_TRUE(Sts::CommandReady::get(sts()));
    EXPECT_FALSE(Sts::DataAvail::get(sts()));
}

TEST_F(ADeterministicInstance, ShowsNoResponseBeforeItsTime)
{
    now = 1000;
    go();
    EXPECT_FALSE(available());
    now = 1000 + static_cast<std::int64_t>(command_cost_ns(0x17b)) - 1;
    EXPECT_FALSE(available());
    ++now;
    EXPECT_TRUE(available());
}

TEST_F(ADeterministicInstance, CancelChangesNothing)
{
    go();
    write32(Reg::kSts, Sts::CommandCancel::kMask);
    EXPECT_EQ(engine->cancels, 0);
    EXPECT_FALSE(available());
    now += 1'000'000;
    EXPECT_EQ(code(), 0U);
}

TEST_F(ADeterministicInstance, ALaunchPollWaits)
{
    engine->answers_at_once = false;
    engine->while_waiting = [&] { engine->complete(); };
    ASSERT_TRUE(instance->launch(LaunchEvent::kStart, {}));
    EXPECT_EQ(instance->launch_poll(), LaunchProgress::kDone);
}

class HostileWorker : public ::testing::Test {
protected:
    HostileWorker() { host.attach(box.get()); }
    std::optional<Answer> collect() { return host.collect(into); }
    void answer(std::uint32_t number, std::uint32_t status, std::uint32_t size)
    {
        box->worker.status = status;
        box->worker.size = size;
        box->worker.response = number;
    }

    std::unique_ptr<Mailbox> box = std::make_unique<Mailbox>();
    MailboxHost host;
    Bytes into = Bytes(kTpmBufferSize);
};

TEST_F(HostileWorker, NothingBeforeItAnswers)
{
    EXPECT_FALSE(collect());
    host.post(Op::kCommand, 0, kGetRandom);
    EXPECT_FALSE(collect());
}

TEST_F(HostileWorker, AGoodAnswerIsTakenOnce)
{
    host.post(Op::kCommand, 0, kGetRandom);
    const auto good = error_response(TpmRc::kFailure);
    std::copy(good.begin(), good.end(), box->answer);
    answer(1, 0, good.size());
    const auto got = collect();
    ASSERT_TRUE(got);
    EXPECT_EQ(got->kind, Answer::Kind::kOk);
    EXPECT_EQ(got->size, good.size());
    EXPECT_FALSE(collect());
}

TEST_F(HostileWorker, ASizeOutsideTheBufferIsHostile)
{
    for (const std::uint32_t size : {0U, 9U, 4097U, 0x8000'0000U, 0xffff'ffffU}) {
        box = std::make_unique<Mailbox>();
        host.attach(box.get());
        host.post(Op::kCommand, 0, kGetRandom);
        const auto good = error_response(TpmRc::kFailure);
        std::copy(good.begin(), good.end(), box->answer);
        answer(box->host.request, 0, size);
        ASSERT_TRUE(host.pending());
        const auto got = collect();
        ASSERT_TRUE(got) << size;
        EXPECT_EQ(got->kind, Answer::Kind::kHostile) << size;
    }
}

TEST_F(HostileWorker, AHeaderThatDisagreesIsHostile)
{
    host.post(Op::kCommand, 0, kGetRandom);
    auto bad = error_response(TpmRc::kFailure);
    bad[5] = 200;
    std::copy(bad.begin(), bad.end(), box->answer);
    answer(1, 0, bad.size());
    EXPECT_EQ(collect()->kind, Answer::Kind::kHostile);
}

TEST_F(HostileWorker, AnotherNumberOrStatusIsHostile)
{
    host.post(Op::kHashStart, 4, {});
    answer(7, 0, 0);
    EXPECT_EQ(collect()->kind, Answer::Kind::kHostile);
    host.post(Op::kHashData, 4, {});
    answer(2, 99, 0);
    EXPECT_EQ(collect()->kind, Answer::Kind::kHostile);
    host.post(Op::kHashEnd, 4, {});
    answer(3, static_cast<std::uint32_t>(WorkerStatus::kRefused), 0xffff'ffff);
    EXPECT_EQ(collect()->kind, Answer::Kind::kRefused);
}

TEST_F(HostileWorker, TheRequestWordsAreNotReadBack)
{
    host.post(Op::kCommand, 0, kGetRandom);
    box->host.request = 1000;
    answer(1000, 0, 10);
    EXPECT_EQ(collect()->kind, Answer::Kind::kHostile);
}

} // namespace
} // namespace banyan::vtpm::testing
