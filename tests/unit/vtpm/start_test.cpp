// SPDX-License-Identifier: GPL-2.0-or-later
// Workers that die while they start, with the real processes.
#include <filesystem>
#include <fstream>

#include "tests/unit/vtpm/extended.hpp"
#include "tests/unit/vtpm/processes.hpp"
#include "tests/unit/vtpm/stage.hpp"
#include "tests/unit/vtpm/vtpm_machine.hpp"

namespace banyan::vtpm::testing {
namespace {

constexpr std::uint32_t kFailure = 0x101;
constexpr Moment kCold[] = {Moment::kBeforeLoad, Moment::kBeforeStir, Moment::kBeforeCommit, Moment::kCommitUnderWay};
constexpr Moment kFromACheckpoint[] = {Moment::kBeforeLoad, Moment::kBeforeStir};

Bytes ek_of(Guest &guest)
{
    Bytes body;
    put32(body, 0x81010016);
    return guest.command(tpm_command(0x8001, 0x173, body)); // TPM2_ReadPublic
}

class AStart : public ::testing::Test {
protected:
    static Machine::Options options()
    {
        Machine::Options options;
        options.engine = BANYAN_TEST_STAGED_ENGINE;
        return options;
    }
    static bool restarted(Machine &machine, int times)
    {
        return machine.json().find("\"restarts\":" + std::to_string(times) + ",") != std::string::npos;
    }
    /// The worker is killed; its successor waits at the moment, and dies there when it is let on.
    void kill_and_hold(Machine &machine, Moment moment)
    {
        stage.hold(moment, 1);
        ASSERT_TRUE(end_process(last_worker()));
        for (int i = 0; i < 20000 && stage->came == 0; ++i) {
            (void)machine.settle(0);
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
        ASSERT_EQ(stage->came, 1) << machine.describe();
        ASSERT_TRUE(restarted(machine, 1)) << machine.describe();
    }

    Stage stage;
};

TEST_F(AStart, WhoseWorkerDiesIsBegunAgain)
{
    Machine machine(options());
    ASSERT_EQ(machine.status, 0) << machine.why;
    ASSERT_TRUE(machine.power(0)) << machine.describe();
    Guest guest(machine.vtpm);
    const Bytes key = ek_of(guest);
    int restarts = 0;
    for (const Moment moment : kCold) {
        for (const int deaths : {1, 16}) {
            stage.die(moment, deaths);
            ASSERT_TRUE(machine.power(0)) << static_cast<int>(moment) << machine.describe();
            EXPECT_EQ(stage->deaths, 0);
            restarts += deaths;
            EXPECT_TRUE(restarted(machine, restarts)) << machine.describe();
            EXPECT_EQ(ek_of(guest), key);
            EXPECT_EQ(code_of(guest.command(pcr_extend(9, 1))), 0U);
            EXPECT_EQ(digest_of(guest.command(pcr_read(9))), extended(Bytes(32, 0), 1)) << "a start, as any";
        }
    }
    EXPECT_TRUE(machine.saw("worker-died", "killed by signal 4")) << machine.describe();
}

TEST_F(AStart, OfATpmThatWasMadeForItIsBegunAgain)
{
    for (const Moment moment : kCold) {
        Machine machine(options());
        ASSERT_EQ(machine.status, 0) << machine.why;
        stage.die(moment, 2);
        ASSERT_TRUE(machine.power(0)) << static_cast<int>(moment) << machine.describe();
        EXPECT_TRUE(restarted(machine, 2)) << machine.describe();
    }
}

TEST_F(AStart, ThatStopsBeforeStartupIsBegunAgain)
{
    Machine machine(options());
    ASSERT_EQ(machine.status, 0) << machine.why;
    stage.die(Moment::kBeforeLoad, 3);
    ASSERT_TRUE(machine.power_held(0)) << machine.describe();
    EXPECT_EQ(machine.drtm(0, BANYAN_DRTM_START), 0) << "an H-CRTM sequence";
    EXPECT_EQ(machine.drtm(0, BANYAN_DRTM_END), 0);
    Guest guest(machine.vtpm);
    EXPECT_EQ(code_of(guest.command(get_random(4))), 0U);
}

TEST_F(AStart, WhoseWorkerKeepsDyingIsParkedUntilThePowerOn)
{
    for (const Moment moment : kCold) {
        Machine machine(options());
        ASSERT_EQ(machine.status, 0) << machine.why;
        stage.die(moment, 17);
        ASSERT_EQ(banyan_vtpm_power_on(machine.vtpm, 0), 0);
        EXPECT_EQ(machine.settle(0), BANYAN_VTPM_PARKED) << machine.describe();
        EXPECT_TRUE(machine.saw("worker-parked"));
        EXPECT_EQ(stage->deaths, 0) << "17 have died";
        EXPECT_TRUE(restarted(machine, 16)) << machine.describe();
        Guest guest(machine.vtpm);
        EXPECT_EQ(code_of(guest.command(get_random(4))), kFailure);
        EXPECT_TRUE(machine.power(0)) << machine.describe();
        EXPECT_EQ(code_of(guest.command(get_random(4))), 0U);
    }
}

TEST_F(AStart, UnderIcountIsOverForWhoAsks)
{
    Machine::Options exact = options();
    exact.deterministic = true;
    Machine machine(exact);
    ASSERT_EQ(machine.status, 0) << machine.why;
    for (const Moment moment : kCold) {
        stage.die(moment, 5);
        ASSERT_EQ(banyan_vtpm_power_on(machine.vtpm, 0), 0);
        EXPECT_EQ(banyan_vtpm_instance_state(machine.vtpm, 0), BANYAN_VTPM_READY) << machine.describe();
    }
}

TEST_F(AStart, FromASnapshotIsBegunAgainWithIt)
{
    char name[] = "/tmp/banyan-start-XXXXXX";
    const std::string folder = ::mkdtemp(name);
    std::ofstream(folder + "/key") << std::string(32, 'k');
    Machine::Options keyed = options();
    keyed.snapshot_key = folder + "/key";
    {
        Machine machine(keyed);
        ASSERT_TRUE(machine.power(0)) << machine.why;
        Guest guest(machine.vtpm);
        ASSERT_EQ(code_of(guest.command(pcr_extend(9, 1))), 0U);
        const Bytes saved = machine.save();
        ASSERT_FALSE(saved.empty()) << machine.why;
        for (const Moment moment : kFromACheckpoint) {
            ASSERT_EQ(code_of(guest.command(pcr_extend(9, 2))), 0U);
            stage.die(moment, 16);
            ASSERT_TRUE(machine.load(saved)) << machine.why;
            EXPECT_EQ(stage->deaths, 0);
            EXPECT_EQ(digest_of(guest.command(pcr_read(9))), extended(Bytes(32, 0), 1)) << machine.describe();
            stage.die(moment, 17);
            EXPECT_FALSE(machine.load(saved));
            EXPECT_EQ(banyan_vtpm_instance_state(machine.vtpm, 0), BANYAN_VTPM_PARKED) << machine.describe();
            ASSERT_TRUE(machine.power(0)) << machine.describe();
        }
    }
    std::filesystem::remove_all(folder);
}

TEST_F(AStart, FromACheckpointLosesItsCommandAndNothingElse)
{
    for (const Moment moment : kFromACheckpoint) {
        Machine machine(options());
        ASSERT_TRUE(machine.power(0)) << machine.why;
        Guest guest(machine.vtpm);
        ASSERT_EQ(code_of(guest.command(pcr_extend(9, 1))), 0U);
        kill_and_hold(machine, moment);
        ASSERT_TRUE(guest.request(0));
        guest.put(0, pcr_extend(9, 2));
        guest.go(0);
        stage.let_on();
        EXPECT_EQ(code_of(guest.take(0)), kFailure);
        guest.write(0, tis::Reg::kSts, tis::Sts::CommandReady::kMask, 1);
        EXPECT_EQ(digest_of(guest.command(0, pcr_read(9))), extended(Bytes(32, 0), 1)) << "not half";
        EXPECT_TRUE(restarted(machine, 2)) << machine.describe();
    }
}

TEST_F(AStart, FromACheckpointIsNotBegunAgainOnceALaunchIsOpen)
{
    const Bytes good(33, 0x47);
    for (const Moment moment : kFromACheckpoint) {
        Machine machine(options());
        ASSERT_TRUE(machine.power(0)) << machine.why;
        Guest guest(machine.vtpm);
        ASSERT_EQ(machine.launch(0, good), 0);
        ASSERT_EQ(digest_of(guest.command(pcr_read(17))), launched(good));
        kill_and_hold(machine, moment);
        ASSERT_EQ(banyan_vtpm_drtm(machine.vtpm, 0, BANYAN_DRTM_START, nullptr, 0), 0);
        stage.let_on(); // it dies with good's PCR 17 in the vault
        banyan_status last = BANYAN_BUSY;
        while ((last = banyan_vtpm_drtm_poll(machine.vtpm, 0)) == BANYAN_BUSY) {
            std::this_thread::sleep_for(std::chrono::microseconds(50));
        }
        EXPECT_LT(last, 0);
        EXPECT_EQ(machine.settle(0), BANYAN_VTPM_FAILED) << machine.describe();
        EXPECT_EQ(code_of(guest.command(pcr_read(17))), kFailure);
        ASSERT_TRUE(machine.power(0));
        EXPECT_EQ(digest_of(guest.command(pcr_read(17))), Bytes(32, 0xff)) << "a new life";
    }
}

TEST_F(AStart, IntoWhichALaunchComesFailsHoweverItsWorkerEnds)
{
    const Bytes good(33, 0x47);
    for (const Moment moment : kCold) {
        for (const int deaths : {0, 1}) {
            Machine machine(options());
            ASSERT_TRUE(machine.power(0)) << machine.why;
            Guest guest(machine.vtpm);
            ASSERT_EQ(machine.launch(0, good), 0);
            stage.hold(moment, deaths);
            ASSERT_EQ(banyan_vtpm_power_on(machine.vtpm, 0), 0);
            for (int i = 0; i < 20000 && stage->came == 0; ++i) {
                std::this_thread::sleep_for(std::chrono::microseconds(200));
            }
            ASSERT_EQ(stage->came, 1);
            EXPECT_LT(machine.drtm(0, BANYAN_DRTM_START), 0);
            stage.let_on();
            EXPECT_EQ(machine.settle(0), BANYAN_VTPM_FAILED) << machine.describe();
            EXPECT_EQ(code_of(guest.command(pcr_read(17))), kFailure);
        }
    }
}

} // namespace
} // namespace banyan::vtpm::testing
