// SPDX-License-Identifier: GPL-2.0-or-later
// Workers that die, and sandboxes that the host cannot give, with the real processes.
#include <functional>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <seccomp.h>

#include "tests/unit/vtpm/extended.hpp"
#include "tests/unit/vtpm/processes.hpp"
#include "tests/unit/vtpm/vtpm_machine.hpp"
#include "tests/unit/vtpm/wanted.hpp"

namespace banyan::vtpm::testing {
namespace {

TEST(Recovery, AWorkerThatKeepsDyingIsParkedUntilThePowerOn)
{
    Machine machine;
    ASSERT_TRUE(machine.power(0)) << machine.describe();
    Guest guest(machine.vtpm);
    for (int death = 1; death <= 17; ++death) {
        ASSERT_TRUE(end_process(last_worker())) << machine.describe();
        // Its line may close a moment after it is gone.
        const std::string restarted = "\"restarts\":" + std::to_string(death);
        for (int look = 0; look < 20000; ++look) {
            const bool settled = death == 17 ? machine.settle(0) == BANYAN_VTPM_PARKED
                                             : machine.settle(0) == BANYAN_VTPM_READY &&
                                                   machine.json().find(restarted) != std::string::npos;
            if (settled) {
                break;
            }
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
        if (death < 17) {
            ASSERT_EQ(code_of(guest.command(get_random(4))), 0U) << machine.describe();
        }
    }
    EXPECT_EQ(banyan_vtpm_instance_state(machine.vtpm, 0), BANYAN_VTPM_PARKED);
    EXPECT_NE(machine.json().find("\"state\":\"parked\""), std::string::npos) << machine.json();
    EXPECT_TRUE(machine.saw("worker-parked"));
    EXPECT_EQ(code_of(guest.command(get_random(4))), 0x101U);
    EXPECT_EQ(last_worker(), -1) << "no process is left";
    EXPECT_TRUE(machine.power(0));
    EXPECT_EQ(code_of(guest.command(get_random(4))), 0U);
}

/// A launch of `block`, a byte a step; the worker is killed after `steps` of the sequence, or while that one is under way.
void killed_launch(Machine &machine, Guest &guest, const Bytes &block, std::size_t steps, bool under_way)
{
    ASSERT_TRUE(machine.power(0)) << machine.describe();
    const Bytes good(33, 0x47);
    ASSERT_EQ(machine.launch(0, good), 0);
    ASSERT_EQ(digest_of(guest.command(pcr_read(17))), launched(good));
    const pid_t worker = last_worker();
    const std::size_t end = block.size() + 1; // START is step 0, END the last
    banyan_status last = 0;
    for (std::size_t step = 0; step <= end && last == 0; ++step) {
        const banyan_drtm_step what = step == 0 ? BANYAN_DRTM_START : step == end ? BANYAN_DRTM_END : BANYAN_DRTM_DATA;
        const Bytes data = what == BANYAN_DRTM_DATA ? Bytes{block[step - 1]} : Bytes{};
        if (under_way && step == steps) {
            last = banyan_vtpm_drtm(machine.vtpm, 0, what, data.data(), static_cast<std::uint32_t>(data.size()));
            ASSERT_TRUE(end_process(worker));
            while (last == 0 && (last = banyan_vtpm_drtm_poll(machine.vtpm, 0)) == BANYAN_BUSY) {
                std::this_thread::sleep_for(std::chrono::microseconds(50));
                last = 0;
            }
        } else {
            last = machine.drtm(0, what, data);
        }
        if (!under_way && step == steps) {
            ASSERT_TRUE(end_process(worker));
        }
    }
    const banyan_vtpm_state state = machine.settle(0);
    const Bytes seen = digest_of(guest.command(pcr_read(17)));
    ASSERT_NE(seen, launched(good)) << "an older good PCR 17";
    if (last == 0) { // the sequence was over: the worker comes back with its end
        ASSERT_EQ(steps, end);
        for (int i = 0; i < 100 && digest_of(guest.command(pcr_read(17))).empty(); ++i) {
        }
        ASSERT_EQ(digest_of(guest.command(pcr_read(17))), launched(block)) << machine.describe();
    } else {
        ASSERT_EQ(state, BANYAN_VTPM_FAILED) << machine.describe();
        ASSERT_TRUE(seen.empty());
        ASSERT_EQ(code_of(guest.command(pcr_read(17))), 0x101U);
        ASSERT_LT(machine.drtm(0, BANYAN_DRTM_START), 0);
    }
}

TEST(Recovery, AWorkerKilledAtAnyByteOfALaunchBringsNoOlderPcr17Back)
{
    const unsigned long bytes = wanted("BANYAN_TEST_LAUNCH_BYTES", 8);
    Machine machine;
    Guest guest(machine.vtpm);
    Bytes block(bytes);
    for (std::size_t i = 0; i < block.size(); ++i) {
        block[i] = static_cast<std::uint8_t>(i * 31 + 1);
    }
    for (std::size_t step = 0; step <= block.size() + 1; ++step) {
        for (const bool under_way : {false, true}) {
            killed_launch(machine, guest, block, step, under_way);
            ASSERT_FALSE(::testing::Test::HasFatalFailure())
                << "killed " << (under_way ? "in" : "after") << " step " << step;
        }
    }
}

TEST(Recovery, AWorkerKilledWhileItsCommandMakesRoomForALaunchBringsNoOlderPcr17Back)
{
    Machine machine({.sync_bound_ns = 0});
    Guest guest(machine.vtpm);
    for (int i = 0; i < 4; ++i) {
        ASSERT_TRUE(machine.power(0));
        ASSERT_EQ(machine.launch(0, Bytes(33, 0x47)), 0);
        ASSERT_TRUE(guest.request(0));
        Bytes full_test{1};
        guest.put(0, tpm_command(0x8001, 0x143, full_test)); // TPM2_SelfTest: long
        guest.go(0);
        const pid_t worker = last_worker();
        ASSERT_EQ(banyan_vtpm_drtm(machine.vtpm, 0, BANYAN_DRTM_START, nullptr, 0), 0);
        std::this_thread::sleep_for(std::chrono::microseconds(300 * i));
        ASSERT_TRUE(end_process(worker));
        banyan_status last = BANYAN_BUSY;
        while (last == BANYAN_BUSY) {
            last = banyan_vtpm_drtm_poll(machine.vtpm, 0);
            std::this_thread::sleep_for(std::chrono::microseconds(50));
        }
        if (last == 0) { // the step was done before
            last = machine.drtm(0, BANYAN_DRTM_END);
        }
        EXPECT_LT(last, 0);
        EXPECT_EQ(machine.settle(0), BANYAN_VTPM_FAILED) << machine.describe();
        EXPECT_EQ(code_of(guest.command(pcr_read(17))), 0x101U);
    }
}

/// Runs in a child whose processes, and theirs, cannot use some system calls.
int without(std::initializer_list<std::pair<int, int>> calls, const std::function<bool()> &check)
{
    const pid_t child = ::fork();
    if (child == 0) {
        scmp_filter_ctx filter = ::seccomp_init(SCMP_ACT_ALLOW);
        bool good = filter != nullptr && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
        for (const auto &[call, error] : calls) {
            good = good && ::seccomp_rule_add(filter, SCMP_ACT_ERRNO(static_cast<std::uint32_t>(error)), call, 0) == 0;
        }
        good = good && ::seccomp_load(filter) == 0;
        ::_exit(good ? (check() ? 0 : 1) : 2);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool refuses_and_says(const std::string &what)
{
    const Machine strict({.require_sandbox = BANYAN_SANDBOX_FULL});
    const bool refused = strict.status < 0 && strict.why.find(what) != std::string::npos &&
                         strict.why.find("require-sandbox=full") != std::string::npos;
    if (!refused) {
        std::fprintf(stderr, "status %d: %s\n", strict.status, strict.why.c_str());
    }
    return refused;
}

bool runs_with(const std::string &level)
{
    Machine machine;
    const bool shown = machine.power(0) && machine.json().find("\"sandbox\":\"" + level + "\"") != std::string::npos;
    if (!shown) {
        std::fprintf(stderr, "%s\n", machine.describe().c_str());
    }
    return shown;
}

const std::pair<int, int> kNoLandlock{SCMP_SYS(landlock_create_ruleset), ENOSYS}; // a kernel without it
const std::pair<int, int> kNoNamespaces{SCMP_SYS(unshare), EPERM};                // a container that forbids them

bool host_has_all()
{
    return Machine({.require_sandbox = BANYAN_SANDBOX_FULL}).status == 0;
}

TEST(Sandbox, IsFullWhereTheHostGivesAll)
{
    if (!host_has_all()) {
        GTEST_SKIP() << "this host lacks Landlock or namespaces";
    }
    Machine machine({.require_sandbox = BANYAN_SANDBOX_FULL});
    ASSERT_TRUE(machine.power(0)) << machine.describe();
    EXPECT_NE(machine.json().find("\"sandbox\":\"seccomp+landlock+namespaces\""), std::string::npos);
}

TEST(Sandbox, WithoutLandlockSaysSoAndIsRefusedWhereAllIsRequired)
{
    if (!host_has_all()) {
        GTEST_SKIP() << "this host lacks Landlock or namespaces";
    }
    EXPECT_EQ(without({kNoLandlock}, [] { return runs_with("seccomp+namespaces"); }), 0);
    EXPECT_EQ(without({kNoLandlock}, [] { return refuses_and_says("no Landlock,"); }), 0);
}

TEST(Sandbox, WithoutNamespacesSaysSoAndIsRefusedWhereAllIsRequired)
{
    if (!host_has_all()) {
        GTEST_SKIP() << "this host lacks Landlock or namespaces";
    }
    EXPECT_EQ(without({kNoNamespaces}, [] { return runs_with("seccomp+landlock"); }), 0);
    EXPECT_EQ(without({kNoNamespaces}, [] { return refuses_and_says("no namespaces of their own,"); }), 0);
}

TEST(Sandbox, WithoutBothSaysSo)
{
    EXPECT_EQ(without({kNoLandlock, kNoNamespaces}, [] { return runs_with("seccomp"); }), 0);
    EXPECT_EQ(without({kNoLandlock, kNoNamespaces},
                      [] { return refuses_and_says("no Landlock and namespaces of their own,"); }),
              0);
}

TEST(Sandbox, NamesTheSystemCallThatAWorkerWasRefused)
{
    for (const auto &[call, name] : {std::pair{SYS_socket, "socket"}, std::pair{SYS_openat, "openat"},
                                     std::pair{SYS_kill, "kill"}, std::pair{SYS_ptrace, "ptrace"}}) {
        ASSERT_EQ(::setenv("BANYAN_TEST_CALL", std::to_string(call).c_str(), 1), 0);
        Machine machine({.engine = BANYAN_TEST_TRESPASSING_ENGINE});
        ASSERT_EQ(machine.status, 0) << machine.why;
        EXPECT_FALSE(machine.power(0));
        EXPECT_EQ(banyan_vtpm_instance_state(machine.vtpm, 0), BANYAN_VTPM_FAILED);
        EXPECT_TRUE(machine.saw("syscall-refused", name)) << machine.describe();
        EXPECT_NE(machine.json().find("\"restarts\":0,"), std::string::npos) << "the next one would trespass, too";
    }
    ASSERT_EQ(::unsetenv("BANYAN_TEST_CALL"), 0);
    Machine machine({.engine = BANYAN_TEST_TRESPASSING_ENGINE});
    EXPECT_TRUE(machine.power(0)) << "the same engine without trespass: " << machine.describe();
}

} // namespace
} // namespace banyan::vtpm::testing
