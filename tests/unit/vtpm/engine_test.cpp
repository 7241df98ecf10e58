// SPDX-License-Identifier: GPL-2.0-or-later
// The chip with its real processes.
#include <set>

#include "tests/unit/vtpm/extended.hpp"
#include "tests/unit/vtpm/processes.hpp"
#include "tests/unit/vtpm/vtpm_machine.hpp"

namespace banyan::vtpm::testing {
namespace {

Bytes some_block(std::size_t size)
{
    Bytes block(size);
    for (std::size_t i = 0; i < size; ++i) {
        block[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
    }
    return block;
}

Bytes read_public(std::uint32_t handle)
{
    Bytes body;
    put32(body, handle);
    return tpm_command(0x8001, 0x173, body);
}

TEST(Engine, AnswersACommandThroughTheWindow)
{
    Machine machine;
    ASSERT_EQ(machine.status, 0) << machine.why;
    ASSERT_TRUE(machine.power(0)) << machine.describe();
    Guest guest(machine.vtpm);
    const Bytes random = guest.command(get_random(32));
    EXPECT_EQ(code_of(random), 0U);
    EXPECT_EQ(random.size(), 44U);
}

TEST(Engine, SaysWhyItCannotStart)
{
    banyan_vtpm_config config{};
    config.size = sizeof(config);
    config.instances = 1;
    config.engine = "/nonexistent/engine";
    banyan_vtpm *vtpm = nullptr;
    char *error = nullptr;
    EXPECT_LT(banyan_vtpm_create(&config, nullptr, nullptr, &vtpm, &error), 0);
    ASSERT_NE(error, nullptr);
    EXPECT_NE(std::string(error).find("/nonexistent/engine"), std::string::npos);
    std::free(error);

    config.engine = BANYAN_TEST_ENGINE;
    config.platform = "/nonexistent/platform";
    EXPECT_LT(banyan_vtpm_create(&config, nullptr, nullptr, &vtpm, &error), 0);
    EXPECT_NE(std::string(error).find("/nonexistent/platform/store.key"), std::string::npos) << error;
    std::free(error);
}

TEST(Engine, FreshInstancesShareNeitherKeysNorRandomNumbers)
{
    constexpr std::uint32_t kMany = 8;
    Machine machine({.instances = kMany});
    std::set<Bytes> keys;
    std::set<Bytes> numbers;
    for (std::uint32_t i = 0; i < kMany; ++i) {
        ASSERT_TRUE(machine.power(i)) << machine.describe();
        ASSERT_EQ(banyan_vtpm_bind(machine.vtpm, i, i), 0);
        Guest guest(machine.vtpm, i);
        for (const std::uint32_t handle : {0x81010001U, 0x81010016U, 0x81010100U}) {
            const Bytes key = guest.command(read_public(handle));
            EXPECT_EQ(code_of(key), 0U);
            keys.insert(key);
        }
        for (int n = 0; n < 4; ++n) {
            numbers.insert(guest.command(get_random(32)));
        }
    }
    EXPECT_EQ(keys.size(), 3U * kMany);
    EXPECT_EQ(numbers.size(), 4U * kMany);
}

TEST(Engine, EachPowerOnIsAStartupClearWithOtherRandomNumbers)
{
    Machine machine;
    Guest guest(machine.vtpm);
    std::set<Bytes> numbers;
    std::set<Bytes> keys;
    for (int i = 0; i < 4; ++i) {
        ASSERT_TRUE(machine.power(0)) << machine.describe();
        EXPECT_EQ(code_of(guest.command(startup(0))), 0x100U) << "TPM_RC_INITIALIZE: the chip has done it";
        numbers.insert(guest.command(get_random(32)));
        keys.insert(guest.command(read_public(0x81010016)));
    }
    EXPECT_EQ(numbers.size(), 4U);
    EXPECT_EQ(keys.size(), 1U) << "the instance is the same";
}

TEST(Engine, StartupStateAfterAPowerCycleBringsNoPcrBack)
{
    Machine machine;
    ASSERT_TRUE(machine.power(0));
    Guest guest(machine.vtpm);
    ASSERT_EQ(machine.launch(0, some_block(100)), 0);
    EXPECT_EQ(code_of(guest.command(pcr_extend(0, 1))), 0U);
    EXPECT_EQ(code_of(guest.command(pcr_extend(12, 1))), 0U);
    EXPECT_EQ(code_of(guest.command(shutdown(1))), 0U) << "TPM2_Shutdown(STATE)";
    ASSERT_TRUE(machine.power(0));
    EXPECT_EQ(code_of(guest.command(startup(1))), 0x100U);
    EXPECT_EQ(digest_of(guest.command(pcr_read(0))), Bytes(32, 0));
    EXPECT_EQ(digest_of(guest.command(pcr_read(12))), Bytes(32, 0));
    EXPECT_EQ(digest_of(guest.command(pcr_read(17))), Bytes(32, 0xff));
}

TEST(Engine, LaunchExtendsPcr17AsComputedByHand)
{
    Machine machine;
    ASSERT_TRUE(machine.power(0)) << machine.describe();
    Guest guest(machine.vtpm);
    EXPECT_EQ(digest_of(guest.command(pcr_read(17))), Bytes(32, 0xff));
    EXPECT_TRUE(tis::Access::TpmEstablishment::get(guest.read(0, tis::Reg::kAccess, 1)));
    const Bytes block = some_block(60000);
    ASSERT_EQ(machine.launch(0, block), 0) << machine.describe();
    EXPECT_EQ(digest_of(guest.command(pcr_read(17))), extended(Bytes(32, 0), sha256(block)));
    for (unsigned pcr = 18; pcr < 23; ++pcr) {
        EXPECT_EQ(digest_of(guest.command(pcr_read(pcr))), Bytes(32, 0));
    }
    EXPECT_FALSE(tis::Access::TpmEstablishment::get(guest.read(0, tis::Reg::kAccess, 1)));
    // A second launch begins at zero again.
    ASSERT_EQ(machine.launch(0, {}), 0);
    EXPECT_EQ(digest_of(guest.command(pcr_read(17))), extended(Bytes(32, 0), sha256({})));
}

TEST(Engine, OnlyTheThreeBanksAreThere)
{
    Machine machine;
    ASSERT_TRUE(machine.power(0));
    Guest guest(machine.vtpm);
    for (const auto &[bank, size] : {std::pair{0x0004, 20U}, std::pair{0x000b, 32U}, std::pair{0x000c, 48U}}) {
        EXPECT_EQ(digest_of(guest.command(pcr_read(17, static_cast<std::uint16_t>(bank)))), Bytes(size, 0xff));
    }
    EXPECT_TRUE(digest_of(guest.command(pcr_read(17, 0x000d))).empty());
}

TEST(Engine, EstablishedOutlivesAPowerCycleAndIsResetFromLocality3)
{
    Machine machine;
    Guest guest(machine.vtpm);
    const auto established = [&] { return !tis::Access::TpmEstablishment::get(guest.read(0, tis::Reg::kAccess, 1)); };
    ASSERT_TRUE(machine.power(0));
    EXPECT_FALSE(established());
    ASSERT_EQ(machine.launch(0, some_block(1)), 0);
    ASSERT_TRUE(machine.power(0));
    EXPECT_TRUE(established());
    ASSERT_TRUE(guest.request(3));
    guest.write(3, tis::Reg::kSts, tis::Sts::ResetEstablishmentBit::kMask);
    for (int i = 0; i < 1000 && established(); ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_FALSE(established());
    guest.relinquish(3);
    EXPECT_EQ(code_of(guest.command(get_random(8))), 0U);
    ASSERT_TRUE(machine.power(0));
    EXPECT_FALSE(established());
}

TEST(Engine, LaunchCancelsARunningCommand)
{
    Machine machine({.sync_bound_ns = 0});
    ASSERT_TRUE(machine.power(0));
    Guest guest(machine.vtpm);
    ASSERT_TRUE(guest.request(0));
    for (int i = 0; i < 5; ++i) {
        guest.put(0, create_primary_rsa());
        guest.go(0);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        ASSERT_EQ(machine.launch(0, some_block(5000)), 0) << machine.describe();
        EXPECT_EQ(guest.read(0, tis::Reg::kSts), 0xffff'ffffU) << "locality 0 was seized";
        ASSERT_TRUE(guest.request(0));
        EXPECT_EQ(digest_of(guest.command(0, pcr_read(17))), extended(Bytes(32, 0), sha256(some_block(5000))));
    }
}

TEST(Engine, CommandCancelEndsAKeyGeneration)
{
    Machine machine({.sync_bound_ns = 0});
    ASSERT_TRUE(machine.power(0));
    Guest guest(machine.vtpm);
    ASSERT_TRUE(guest.request(0));
    int cancelled = 0;
    for (int i = 0; i < 100 && cancelled < 5; ++i) { // on a slow host the key may be there before the cancel is
        guest.put(0, create_primary_rsa());
        guest.go(0);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        guest.write(0, tis::Reg::kSts, tis::Sts::CommandCancel::kMask);
        const Bytes answer = guest.take(0);
        const std::uint32_t code = code_of(answer);
        ASSERT_TRUE(code == 0 || code == 0x909) << std::hex << code;
        cancelled += code == 0x909 ? 1 : 0;
        guest.write(0, tis::Reg::kSts, tis::Sts::CommandReady::kMask, 1);
        EXPECT_EQ(code_of(guest.command(0, get_random(4))), 0U) << "the next command is not cancelled";
        if (code == 0) {
            EXPECT_EQ(code_of(guest.command(0, flush(answer))), 0U);
        }
    }
    EXPECT_EQ(cancelled, 5);
}

TEST(Engine, LaunchStepOutOfOrderFailsTheInstanceUntilPowerOn)
{
    Machine machine;
    Guest guest(machine.vtpm);
    const std::vector<std::vector<banyan_drtm_step>> wrong{
        {BANYAN_DRTM_DATA},
        {BANYAN_DRTM_END},
        {BANYAN_DRTM_START, BANYAN_DRTM_START},
        {BANYAN_DRTM_START, BANYAN_DRTM_DATA, BANYAN_DRTM_START},
        {BANYAN_DRTM_START, BANYAN_DRTM_ABORT},
        {BANYAN_DRTM_START, BANYAN_DRTM_DATA, BANYAN_DRTM_ABORT},
    };
    for (const auto &steps : wrong) {
        ASSERT_TRUE(machine.power(0)) << machine.describe();
        EXPECT_EQ(machine.launch(0, some_block(9)), 0); // a good PCR 17 that must not be seen again
        banyan_status last = 0;
        for (const banyan_drtm_step step : steps) {
            EXPECT_EQ(last, 0);
            last = machine.drtm(0, step, step == BANYAN_DRTM_DATA ? some_block(10) : Bytes{});
        }
        EXPECT_LT(last, 0);
        EXPECT_EQ(machine.settle(0), BANYAN_VTPM_FAILED);
        EXPECT_EQ(code_of(guest.command(pcr_read(17))), 0x101U);
        EXPECT_LT(machine.drtm(0, BANYAN_DRTM_START), 0);
    }
}

TEST(Engine, AnOpenLaunchHoldsSoftwareOff)
{
    Machine machine;
    ASSERT_TRUE(machine.power(0));
    Guest guest(machine.vtpm);
    ASSERT_EQ(machine.drtm(0, BANYAN_DRTM_START), 0);
    ASSERT_EQ(machine.drtm(0, BANYAN_DRTM_DATA, some_block(50)), 0);
    for (unsigned l = 0; l < 5; ++l) {
        EXPECT_EQ(guest.request(l), l == 4) << "locality 4 is active, by hardware";
        guest.write(l, tis::Reg::kSts, tis::Sts::CommandReady::kMask);
        for (const std::uint8_t byte : get_random(4)) {
            guest.write(l, tis::Reg::kDataFifo, byte, 1);
        }
        guest.go(l);
        guest.relinquish(l);
    }
    guest.write(4, tis::Reg::kHashEnd, 1);
    guest.write(4, tis::Reg::kDataFifo, 0x41414141);
    guest.write(4, tis::Reg::kHashStart, 1);
    ASSERT_EQ(machine.drtm(0, BANYAN_DRTM_END), 0) << machine.describe();
    EXPECT_EQ(digest_of(guest.command(pcr_read(17))), extended(Bytes(32, 0), sha256(some_block(50))));
}

TEST(Engine, AKilledWorkerComesBackWithItsPcrs)
{
    Machine machine;
    ASSERT_TRUE(machine.power(0));
    Guest guest(machine.vtpm);
    ASSERT_EQ(machine.launch(0, some_block(77)), 0);
    std::set<Bytes> numbers;
    Bytes pcr(32, 0);
    for (std::uint8_t i = 1; i <= 8; ++i) {
        EXPECT_EQ(code_of(guest.command(pcr_extend(9, i))), 0U) << machine.describe();
        pcr = extended(pcr, Bytes(32, i));
        ASSERT_TRUE(end_process(last_worker()));
        // Its descriptors may close a moment after it is gone.
        const std::string restarted = "\"restarts\":" + std::to_string(i);
        for (int look = 0; look < 5000 && machine.json().find(restarted) == std::string::npos; ++look) {
            EXPECT_EQ(machine.settle(0), BANYAN_VTPM_READY);
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
        const Bytes random = guest.command(get_random(32));
        EXPECT_EQ(code_of(random), 0U);
        numbers.insert(random);
        EXPECT_EQ(digest_of(guest.command(pcr_read(9))), pcr);
    }
    EXPECT_EQ(numbers.size(), 8U) << "a restored state is stirred";
    EXPECT_EQ(digest_of(guest.command(pcr_read(17))), extended(Bytes(32, 0), sha256(some_block(77))));
    EXPECT_TRUE(machine.saw("worker-died", "signal 9")) << machine.describe();
    EXPECT_NE(machine.json().find("\"restarts\":8"), std::string::npos);
}

TEST(Engine, ACommandWhoseWorkerDiesFailsAndTheNextWorks)
{
    Machine machine({.sync_bound_ns = 0});
    ASSERT_TRUE(machine.power(0));
    Guest guest(machine.vtpm);
    ASSERT_TRUE(guest.request(0));
    guest.put(0, create_primary_rsa());
    guest.go(0);
    ASSERT_TRUE(end_process(last_worker()));
    EXPECT_EQ(code_of(guest.take(0)), 0x101U);
    guest.write(0, tis::Reg::kSts, tis::Sts::CommandReady::kMask);
    EXPECT_EQ(code_of(guest.command(0, get_random(4))), 0U);
}

TEST(Engine, NoAnsweredExtendIsLostWheneverTheWorkerDies)
{
    Machine machine({.sync_bound_ns = 0});
    Guest guest(machine.vtpm);
    unsigned seed = 1;
    unsigned failed = 0;
    for (int cycle = 0; cycle < 10; ++cycle) { // a power cycle stands 16 deaths
        ASSERT_TRUE(machine.power(0)) << machine.describe();
        ASSERT_TRUE(guest.request(0));
        Bytes pcr(32, 0);
        for (int death = 0; death < 15; ++death) {
            const pid_t worker = last_worker();
            ASSERT_GT(worker, 1);
            seed = seed * 1103515245 + 12345;
            std::thread killer([worker, delay = (seed >> 16) % 600] {
                std::this_thread::sleep_for(std::chrono::microseconds(delay));
                EXPECT_TRUE(end_process(worker));
            });
            for (std::uint8_t i = 0; i < 12; ++i) {
                const std::uint32_t code = code_of(guest.command(0, pcr_extend(9, i)));
                const Bytes after = extended(pcr, Bytes(32, i));
                if (code == 0) {
                    pcr = after;
                    continue;
                }
                ASSERT_EQ(code, 0x101U);
                ++failed;
                const Bytes seen = digest_of(guest.command(0, pcr_read(9)));
                ASSERT_TRUE(seen == pcr || seen == after) << "as a whole or not at all";
                pcr = seen;
            }
            killer.join();
            ASSERT_EQ(machine.settle(0), BANYAN_VTPM_READY);
            Bytes seen = guest.command(0, pcr_read(9));
            if (code_of(seen) == 0x101) { // it was this one that met the dying worker
                seen = guest.command(0, pcr_read(9));
            }
            ASSERT_EQ(digest_of(seen), pcr) << machine.describe();
        }
        guest.relinquish(0);
    }
    EXPECT_GT(failed, 0U) << "some deaths met a command";
}

TEST(Engine, AWorkerThatDiesDuringALaunchBringsNoOldPcr17Back)
{
    Machine machine;
    Guest guest(machine.vtpm);
    for (int kill_after = 0; kill_after < 3; ++kill_after) {
        ASSERT_TRUE(machine.power(0)) << machine.describe();
        ASSERT_EQ(machine.launch(0, some_block(33)), 0); // the good one
        const std::vector<banyan_drtm_step> steps{BANYAN_DRTM_START, BANYAN_DRTM_DATA, BANYAN_DRTM_END};
        banyan_status last = 0;
        for (int i = 0; i < 3; ++i) {
            if (last == 0) {
                last = machine.drtm(0, steps[static_cast<std::size_t>(i)], i == 1 ? some_block(4096) : Bytes{});
            }
            if (i == kill_after && i < 2) {
                ASSERT_TRUE(end_process(last_worker()));
            }
        }
        if (kill_after < 2) {
            EXPECT_LT(last, 0);
            EXPECT_EQ(machine.settle(0), BANYAN_VTPM_FAILED) << machine.describe();
            EXPECT_EQ(code_of(guest.command(pcr_read(17))), 0x101U);
        } else {
            EXPECT_EQ(last, 0);
            EXPECT_EQ(digest_of(guest.command(pcr_read(17))), extended(Bytes(32, 0), sha256(some_block(4096))));
        }
    }
}

TEST(Engine, HostileSizesAreAnsweredByTheChip)
{
    Machine machine;
    ASSERT_TRUE(machine.power(0));
    Guest guest(machine.vtpm);
    ASSERT_TRUE(guest.request(0));
    for (const std::uint32_t size : {0U, 9U, 4097U, 0xffff'ffffU}) {
        Bytes bytes{0x80, 0x01};
        put32(bytes, size);
        bytes.resize(4200, 0x5a);
        guest.put(0, bytes);
        guest.go(0);
        EXPECT_EQ(code_of(guest.take(0)), 0x142U) << size;
        guest.write(0, tis::Reg::kSts, tis::Sts::CommandReady::kMask);
    }
    EXPECT_EQ(code_of(guest.command(0, get_random(4))), 0U);
}

TEST(Engine, ATagSelectsItsInstanceAndNothingElseDoes)
{
    Machine machine({.instances = 3});
    for (std::uint32_t i = 0; i < 3; ++i) {
        ASSERT_TRUE(machine.power(i));
    }
    ASSERT_EQ(banyan_vtpm_bind(machine.vtpm, 1, 1), 0);
    EXPECT_LT(banyan_vtpm_bind(machine.vtpm, 2, 1), 0) << "an instance has one domain";
    EXPECT_LT(banyan_vtpm_bind(machine.vtpm, 16, 2), 0);
    EXPECT_LT(banyan_vtpm_bind(machine.vtpm, 2, 3), 0);
    Guest host(machine.vtpm, 0);
    Guest guest(machine.vtpm, 1);
    EXPECT_EQ(code_of(guest.command(pcr_extend(16, 9))), 0U);
    EXPECT_NE(digest_of(guest.command(pcr_read(16))), Bytes(32, 0));
    EXPECT_EQ(digest_of(host.command(pcr_read(16))), Bytes(32, 0));

    Guest stranger(machine.vtpm, 2);
    EXPECT_EQ(stranger.read(0, tis::Reg::kDidVid), 0xffff'ffffU);
    Guest device(machine.vtpm, 1);
    device.cycle.from_core = 0;
    EXPECT_EQ(device.read(0, 0xf00, 8), ~std::uint64_t{0});
    EXPECT_FALSE(device.request(0) && tis::Access::TpmRegValidSts::get(guest.read(0, tis::Reg::kAccess)) &&
                 tis::Access::ActiveLocality::get(guest.read(0, tis::Reg::kAccess)));
    device.cycle = guest.cycle;
    device.cycle.requester = 0;
    EXPECT_EQ(device.read(0, 0xf00, 2), 0xffffU);
    EXPECT_EQ(banyan_vtpm_unbind(machine.vtpm, 1), 0);
    EXPECT_EQ(guest.read(0, tis::Reg::kDidVid), 0xffff'ffffU);
    EXPECT_NE(machine.json().find("\"untagged\":4"), std::string::npos) << machine.json();
}

TEST(Engine, AnInstanceWithoutPowerReadsOnes)
{
    Machine machine;
    Guest guest(machine.vtpm);
    EXPECT_EQ(guest.read(0, tis::Reg::kAccess), 0xffff'ffffU);
    EXPECT_EQ(banyan_vtpm_instance_state(machine.vtpm, 0), BANYAN_VTPM_OFF);
    EXPECT_EQ(banyan_vtpm_instance_state(machine.vtpm, 1), BANYAN_VTPM_ABSENT);
    EXPECT_LT(machine.drtm(0, BANYAN_DRTM_START), 0);
    ASSERT_TRUE(machine.power(0));
    ASSERT_EQ(banyan_vtpm_power_off(machine.vtpm, 0), 0);
    EXPECT_EQ(guest.read(0, tis::Reg::kDidVid), 0xffff'ffffU);
    EXPECT_EQ(machine.settle(0), BANYAN_VTPM_OFF);
    ASSERT_TRUE(machine.power(0));
}

TEST(Engine, AnErasedInstanceIsGone)
{
    Machine machine({.instances = 2});
    ASSERT_TRUE(machine.power(1));
    ASSERT_EQ(banyan_vtpm_erase(machine.vtpm, 1), 0);
    EXPECT_EQ(machine.settle(1), BANYAN_VTPM_ABSENT) << machine.describe();
    EXPECT_LT(banyan_vtpm_power_on(machine.vtpm, 1), 0);
    EXPECT_TRUE(machine.power(0));
}

TEST(Engine, DeterministicResponsesComeAtTheirVirtualTime)
{
    Machine machine({.deterministic = true});
    ASSERT_EQ(banyan_vtpm_power_on(machine.vtpm, 0), 0);
    ASSERT_EQ(banyan_vtpm_instance_state(machine.vtpm, 0), BANYAN_VTPM_READY) << "the first look waits";
    Guest guest(machine.vtpm);
    ASSERT_TRUE(guest.request(0));
    for (int i = 0; i < 20; ++i) {
        guest.cycle.vtime_ns += 1'000'000;
        guest.put(0, pcr_extend(16, 1));
        const std::int64_t posted = guest.cycle.vtime_ns;
        guest.go(0);
        guest.cycle.vtime_ns = posted + 19'999;
        EXPECT_FALSE(tis::Sts::DataAvail::get(guest.read(0, tis::Reg::kSts)));
        guest.cycle.vtime_ns = posted + 20'000;
        EXPECT_TRUE(tis::Sts::DataAvail::get(guest.read(0, tis::Reg::kSts))) << i;
        EXPECT_EQ(code_of(guest.take(0)), 0U);
        guest.write(0, tis::Reg::kSts, tis::Sts::CommandReady::kMask);
    }
    ASSERT_EQ(banyan_vtpm_drtm(machine.vtpm, 0, BANYAN_DRTM_START, nullptr, 0), 0);
    EXPECT_EQ(banyan_vtpm_drtm_poll(machine.vtpm, 0), 0);
    ASSERT_EQ(banyan_vtpm_drtm(machine.vtpm, 0, BANYAN_DRTM_END, nullptr, 0), 0);
    EXPECT_EQ(banyan_vtpm_drtm_poll(machine.vtpm, 0), 0);
}

TEST(Engine, TwoCoresHammerOneInstance)
{
    Machine machine({.instances = 2});
    ASSERT_TRUE(machine.power(0) && machine.power(1));
    ASSERT_EQ(banyan_vtpm_bind(machine.vtpm, 1, 1), 0);
    std::vector<std::thread> cores;
    for (unsigned core = 0; core < 2; ++core) {
        cores.emplace_back([&machine, core] {
            banyan_cycle cycle{};
            cycle.size = sizeof(cycle);
            cycle.requester = 1;
            cycle.from_core = 1;
            std::uint64_t seed = core + 1;
            for (int i = 0; i < 20000; ++i) {
                seed = seed * 6364136223846793005U + 1442695040888963407U;
                const std::uint64_t offset = (seed >> 33) % 5 * 0x1000 + ((seed >> 40) % 12) * 4;
                std::uint64_t value = 0;
                if ((seed & 1) != 0) {
                    (void)banyan_vtpm_mmio_read(machine.vtpm, &cycle, offset, 4, &value);
                } else {
                    (void)banyan_vtpm_mmio_write(machine.vtpm, &cycle, offset, 1, seed >> 20);
                }
            }
        });
    }
    Guest neighbour(machine.vtpm, 1);
    for (int i = 0; i < 50; ++i) {
        EXPECT_EQ(code_of(neighbour.command(get_random(16))), 0U);
    }
    for (auto &core : cores) {
        core.join();
    }
    EXPECT_EQ(machine.settle(0), BANYAN_VTPM_READY);
}

TEST(Engine, NothingIsLeftAfterDestroy)
{
    {
        Machine machine({.instances = 4});
        for (std::uint32_t i = 0; i < 4; ++i) {
            ASSERT_TRUE(machine.power(i));
        }
        const auto zygotes = children_of(::getpid());
        ASSERT_EQ(zygotes.size(), 1U);
        EXPECT_EQ(workers().size(), 4U);
        EXPECT_GE(children_of(zygotes.front()).size(), 6U) << "keeper and signer; a maker may be at work";
    }
    EXPECT_TRUE(children_of(::getpid()).empty());
}

} // namespace
} // namespace banyan::vtpm::testing
