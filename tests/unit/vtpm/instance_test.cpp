// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/manager/instance.hpp"

#include <gtest/gtest.h>

#include "tests/unit/vtpm/fake_link.hpp"
#include "vtpm/chip/crb_regs.hpp"
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
    EXPECT_EQ(instance->state(), PowerState::kParked);
    EXPECT_NE(instance->json().find("\"state\":\"parked\""), std::string::npos) << instance->json();
    EXPECT_EQ(engine->reports, std::vector<std::string>{"worker-parked"});
    const std::size_t starts = engine->starts.size();
    go();
    EXPECT_EQ(code(), 0x101U);
    EXPECT_EQ(engine->starts.size(), starts) << "not started again";
    EXPECT_FALSE(instance->launch(LaunchEvent::kStart, {}));
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

TEST(AfterDeath, FollowsFromWhereTheWorkerWasUntilItDiedTooOften)
{
    for (const LifePart part : kLifeParts) {
        EXPECT_EQ(after_death(part, kDeathsMax + 1), AfterDeath::kPark);
    }
    for (const unsigned deaths : {1U, kDeathsMax}) {
        EXPECT_EQ(after_death(LifePart::kStarting, deaths), AfterDeath::kAnew);
        EXPECT_EQ(after_death(LifePart::kResuming, deaths), AfterDeath::kRestore);
        EXPECT_EQ(after_death(LifePart::kRunning, deaths), AfterDeath::kRestore);
        EXPECT_EQ(after_death(LifePart::kHeld, deaths), AfterDeath::kFail);
        EXPECT_EQ(after_death(LifePart::kLaunching, deaths), AfterDeath::kFail) << "an older PCR 17";
    }
}

TEST_F(AnInstance, WhoseWorkerDiesWhileItStartsIsStartedAgainAsItWas)
{
    for (const PowerOn mode : {PowerOn::kStartup, PowerOn::kHeld}) {
        engine->starts.clear();
        ASSERT_TRUE(instance->power_on(mode));
        for (std::size_t death = 1; death <= 16; ++death) {
            engine->health = Health::kDead;
            engine->started = Health::kBooting;
            ASSERT_EQ(instance->state(), PowerState::kStarting) << death;
            EXPECT_EQ(engine->starts.size(), 1 + death);
            EXPECT_EQ(read(Reg::kAccess), 0U) << "come again";
        }
        engine->health = Health::kReady;
        EXPECT_EQ(instance->state(), mode == PowerOn::kHeld ? PowerState::kHeld : PowerState::kReady);
        EXPECT_EQ(engine->starts, std::vector<bool>(17, false)) << "no checkpoint of an earlier life";
        engine->started = Health::kReady;
    }
    EXPECT_TRUE(engine->reports.empty());
    EXPECT_NE(instance->json().find("\"restarts\":32"), std::string::npos) << instance->json();
}

TEST_F(AnInstance, WhoseWorkerKeepsDyingWhileItStartsIsParked)
{
    engine->started = Health::kDead;
    ASSERT_TRUE(instance->power_on());
    for (int look = 0; look < 16; ++look) {
        ASSERT_EQ(instance->state(), PowerState::kStarting) << look;
    }
    EXPECT_EQ(instance->state(), PowerState::kParked);
    EXPECT_EQ(engine->reports, std::vector<std::string>{"worker-parked"});
    EXPECT_EQ(engine->starts, std::vector<bool>(18, false)) << "16 of them after a death";
    write(Reg::kAccess, Access::RequestUse::kMask);
    go();
    EXPECT_EQ(code(), 0x101U);
    engine->started = Health::kReady;
    ASSERT_TRUE(instance->power_on());
    EXPECT_EQ(instance->state(), PowerState::kReady);
}

TEST_F(AnInstance, ThatTheEngineRefusesFailsAtOnce)
{
    engine->started = Health::kRefused;
    ASSERT_TRUE(instance->power_on());
    EXPECT_EQ(instance->state(), PowerState::kFailed);
    EXPECT_EQ(engine->starts.size(), 2U) << "not tried again";
    EXPECT_TRUE(engine->reports.empty()) << "the engine said why";
    EXPECT_NE(instance->json().find("\"restarts\":0"), std::string::npos) << instance->json();
}

TEST_F(AnInstance, WhoseCheckpointIsRefusedFailsAtOnceAndSoDoesItsCommand)
{
    engine->answers_at_once = false;
    engine->started = Health::kRefused;
    go();
    engine->health = Health::kDead;
    EXPECT_EQ(code(), 0x101U);
    EXPECT_EQ(instance->state(), PowerState::kFailed);
    EXPECT_EQ(engine->starts, (std::vector<bool>{false, true}));
}

TEST_F(AnInstance, ALaunchIntoAWorkerThatDiesAsItComesBackBringsNothingOlderBack)
{
    engine->answers_at_once = false;
    engine->started = Health::kBooting;
    engine->health = Health::kDead; // the idle one
    ASSERT_TRUE(instance->launch(LaunchEvent::kStart, {}));
    ASSERT_EQ(engine->starts, (std::vector<bool>{false, true}));
    ASSERT_EQ(engine->requests.back().op, Op::kHashStart);
    engine->health = Health::kDead; // before it was ready, and perhaps before it wiped its checkpoints
    EXPECT_EQ(instance->launch_poll(), LaunchProgress::kFailed);
    EXPECT_EQ(instance->state(), PowerState::kFailed);
    EXPECT_EQ(engine->starts, (std::vector<bool>{false, true})) << "not restored";
}

TEST_F(ADeterministicInstance, SaysThatItStartsToNobodyHoweverOftenItsWorkerDies)
{
    engine->started = Health::kBooting;
    int deaths = 0;
    engine->while_waiting = [&] { engine->health = ++deaths <= 16 ? Health::kDead : Health::kReady; };
    ASSERT_TRUE(instance->power_on());
    EXPECT_EQ(instance->state(), PowerState::kReady);
    EXPECT_EQ(deaths, 17);
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

TEST_F(AnInstance, TellsTheEngineWhatItsTpmIsToBe)
{
    ASSERT_EQ(engine->setups.size(), 1U);
    EXPECT_EQ(engine->setups[0].banks, kAllPcrBanks);
    EXPECT_EQ(engine->setups[0].buffer_size, kTpmBufferSize);
    InstanceSetup setup;
    setup.interface = InterfaceKind::kCrb;
    setup.banks = 2;
    EXPECT_FALSE(instance->configure(setup)) << "it has power";
    ASSERT_TRUE(instance->power_off());
    ASSERT_EQ(instance->state(), PowerState::kOff);
    ASSERT_TRUE(instance->configure(setup));
    EXPECT_EQ(instance->setup().interface, InterfaceKind::kCrb);
    ASSERT_TRUE(instance->power_on(PowerOn::kHeld));
    EXPECT_EQ(engine->setups[1].banks, 2U);
    EXPECT_EQ(engine->setups[1].buffer_size, crb::kDataBufferSize);
    EXPECT_EQ(engine->setups[1].hold_startup, 1U);
    ASSERT_TRUE(instance->power_on());
    EXPECT_EQ(engine->setups[2].hold_startup, 0U);
}

TEST_F(AnInstance, AHeldPowerOnGoesOnAfterOneHashSequence)
{
    ASSERT_TRUE(instance->power_on(PowerOn::kHeld));
    EXPECT_EQ(instance->state(), PowerState::kHeld);
    EXPECT_EQ(read(Reg::kAccess, 1), 0U) << "software is to come again";
    write(Reg::kAccess, Access::RequestUse::kMask);
    for (const LaunchEvent event : {LaunchEvent::kStart, LaunchEvent::kData}) {
        ASSERT_TRUE(instance->launch(event, Bytes(event == LaunchEvent::kData ? 4 : 0)));
        EXPECT_EQ(instance->launch_poll(), LaunchProgress::kDone);
        EXPECT_EQ(instance->state(), PowerState::kHeld);
    }
    engine->answers_at_once = false;
    ASSERT_TRUE(instance->launch(LaunchEvent::kEnd, {}));
    engine->complete();
    EXPECT_EQ(instance->launch_poll(), LaunchProgress::kBusy) << "the chip starts the TPM";
    EXPECT_EQ(engine->requests.back().op, Op::kStartup);
    EXPECT_EQ(instance->state(), PowerState::kHeld);
    engine->complete();
    EXPECT_EQ(instance->launch_poll(), LaunchProgress::kDone);
    EXPECT_EQ(instance->state(), PowerState::kReady);
    EXPECT_TRUE(Access::TpmEstablishment::get(read(Reg::kAccess, 1))) << "not a dynamic launch";
    EXPECT_FALSE(Access::ActiveLocality::get(read(Reg::kAccess, 1)));
}

TEST_F(AnInstance, AStartupThatIsRefusedOrLostAfterAHeldPowerOnFailsIt)
{
    for (const bool dies : {false, true}) {
        engine->answers_at_once = true;
        ASSERT_TRUE(instance->power_on(PowerOn::kHeld));
        ASSERT_EQ(instance->state(), PowerState::kHeld);
        ASSERT_TRUE(instance->launch(LaunchEvent::kStart, {}));
        ASSERT_EQ(instance->launch_poll(), LaunchProgress::kDone);
        engine->answers_at_once = false;
        ASSERT_TRUE(instance->launch(LaunchEvent::kEnd, {}));
        engine->complete();
        ASSERT_EQ(instance->launch_poll(), LaunchProgress::kBusy);
        if (dies) {
            engine->health = Health::kDead;
        } else {
            engine->complete(Answer::Kind::kRefused);
        }
        EXPECT_EQ(instance->launch_poll(), LaunchProgress::kFailed);
        EXPECT_EQ(instance->state(), PowerState::kFailed);
    }
    EXPECT_EQ(engine->starts, (std::vector<bool>{false, false, false})) << "nothing to restore";
}

TEST_F(AnInstance, APowerCycleEndsAHeldOne)
{
    ASSERT_TRUE(instance->power_on(PowerOn::kHeld));
    ASSERT_TRUE(instance->launch(LaunchEvent::kStart, {}));
    ASSERT_TRUE(instance->power_on());
    EXPECT_EQ(instance->state(), PowerState::kReady);
    write(Reg::kAccess, Access::RequestUse::kMask);
    go();
    EXPECT_EQ(code(), 0U);
}

/// With a CRB and its interrupt line.
class ACrbInstance : public AnInstance {
protected:
    ACrbInstance() : AnInstance(with_crb(levels)) {}
    static InstanceConfig with_crb(std::vector<bool> &levels)
    {
        InstanceConfig config{1000, false};
        config.setup.interface = InterfaceKind::kCrb;
        config.setup.interrupts = true;
        config.irq = [&levels](bool level) { levels.push_back(level); };
        return config;
    }
    void put(crb::Reg reg, std::uint32_t value, unsigned locality = 0)
    {
        instance->write(locality * kPageSize + static_cast<std::uint32_t>(reg), 4, value, now);
    }
    std::uint32_t get(crb::Reg reg, unsigned locality = 0)
    {
        return static_cast<std::uint32_t>(
            instance->read(locality * kPageSize + static_cast<std::uint32_t>(reg), 4, now));
    }
    void start()
    {
        put(crb::Reg::kLocCtrl, crb::LocCtrl::RequestAccess::kMask);
        put(crb::Reg::kCtrlReq, crb::CtrlReq::CmdReady::kMask);
        for (std::size_t i = 0; i < kGetRandom.size(); ++i) {
            instance->write(crb::kDataBufferAt + static_cast<std::uint32_t>(i), 1, kGetRandom[i], now);
        }
        put(crb::Reg::kCtrlStart, 1);
    }

    std::vector<bool> levels;
};

TEST_F(ACrbInstance, AnswersAShortCommandInsideTheDoorbell)
{
    start();
    EXPECT_EQ(engine->waits, 1);
    EXPECT_EQ(engine->requests.at(0).bytes, kGetRandom);
    EXPECT_EQ(get(crb::Reg::kCtrlStart), 0U);
    EXPECT_EQ(get(crb::Reg::kDataBuffer), 0x0000'0180U);
    EXPECT_TRUE(levels.empty()) << "nothing was enabled";
}

TEST_F(ACrbInstance, AResponseThatTheInterfaceHasNoRoomForIsAFailure)
{
    engine->response.assign(crb::kDataBufferSize + 1, 0);
    start();
    EXPECT_EQ(get(crb::Reg::kCtrlStart), 0U);
    EXPECT_EQ(get(static_cast<crb::Reg>(crb::kDataBufferAt + 4)), 0x0000'0a00U) << "ten bytes";
    EXPECT_EQ(get(static_cast<crb::Reg>(crb::kDataBufferAt + 8)) & 0xffff, 0x0101U) << "TPM_RC_FAILURE";
}

TEST_F(ACrbInstance, ItsLineFollowsEveryChangeOnce)
{
    put(crb::Reg::kIntEnable, crb::IntEnable::Start::kMask | crb::IntEnable::GlobalInterruptEnable::kMask);
    engine->answers_at_once = false;
    start();
    EXPECT_TRUE(levels.empty());
    engine->complete();
    EXPECT_EQ(instance->state(), PowerState::kReady); // whoever looks
    EXPECT_EQ(levels, std::vector<bool>{true});
    (void)get(crb::Reg::kIntSts);
    EXPECT_EQ(levels, std::vector<bool>{true});
    put(crb::Reg::kIntSts, crb::IntEnable::Start::kMask);
    EXPECT_EQ(levels, (std::vector<bool>{true, false}));
}

TEST_F(ACrbInstance, LosesItsLineWithItsPower)
{
    put(crb::Reg::kIntEnable, crb::IntEnable::LocalityChange::kMask | crb::IntEnable::GlobalInterruptEnable::kMask);
    put(crb::Reg::kLocCtrl, crb::LocCtrl::RequestAccess::kMask);
    EXPECT_EQ(levels, std::vector<bool>{true});
    ASSERT_TRUE(instance->power_off());
    EXPECT_EQ(levels, (std::vector<bool>{true, false}));
}

TEST_F(ACrbInstance, ALaunchSeizesItAndSoftwareAtLocality4IsCounted)
{
    engine->answers_at_once = false;
    start();
    ASSERT_TRUE(instance->launch(LaunchEvent::kStart, {}));
    EXPECT_EQ(engine->cancels, 1);
    EXPECT_EQ(crb::LocState::ActiveLocality::get(get(crb::Reg::kLocState)), 4U);
    put(crb::Reg::kLocCtrl, crb::LocCtrl::Relinquish::kMask, 4);
    put(crb::Reg::kDataBuffer, 0x41414141, 4);
    put(crb::Reg::kCtrlStart, 1, 4);
    EXPECT_EQ(crb::LocState::ActiveLocality::get(get(crb::Reg::kLocState)), 4U);
    EXPECT_NE(instance->json().find("\"locality4_writes\":3"), std::string::npos);
    engine->complete();
    EXPECT_EQ(instance->launch_poll(), LaunchProgress::kBusy);
    EXPECT_EQ(engine->requests.back().op, Op::kHashStart);
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
