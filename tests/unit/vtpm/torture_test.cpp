// SPDX-License-Identifier: GPL-2.0-or-later
// Workers killed and power cut at random moments under load, with the real processes: what was answered stays, and
// nothing is half. BANYAN_TEST_KILLS, BANYAN_TEST_CUTS and BANYAN_TEST_SEED make a long run of it.
#include <atomic>
#include <cstdio>
#include <random>

#include "tests/unit/vtpm/extended.hpp"
#include "tests/unit/vtpm/platform_folder.hpp"
#include "tests/unit/vtpm/processes.hpp"
#include "tests/unit/vtpm/wanted.hpp"

namespace banyan::vtpm::testing {
namespace {

constexpr std::uint32_t kFailure = 0x101;
constexpr std::uint32_t kNvUnavailable = 0x923;

class Torture : public PlatformFolder {
protected:
    static Bytes nv_write_value(std::uint64_t value)
    {
        Bytes command = nv_write(kIndex, 0);
        for (unsigned i = 0; i < 8; ++i) { // before the offset that ends the command
            command[command.size() - 10 + i] = static_cast<std::uint8_t>(value >> (8 * i));
        }
        return command;
    }
    static std::uint64_t value_of(const Bytes &response)
    {
        const Bytes data = data_of(response);
        std::uint64_t value = 0;
        for (unsigned i = 0; i < 8 && data.size() == 8; ++i) {
            value |= std::uint64_t{data[i]} << (8 * i);
        }
        return value;
    }

    /// One instance, and what it has to hold.
    struct Victim {
        Victim(banyan_vtpm *vtpm, std::uint32_t domain) : guest(vtpm, domain) {}

        Guest guest;
        Bytes pcr = Bytes(32, 0);
        std::uint64_t nv = 0;
        unsigned failed = 0;

        /// Again when it met the dying worker.
        Bytes read(const Bytes &command)
        {
            Bytes response;
            for (int i = 0; i < 4; ++i) {
                response = guest.command(command);
                if (code_of(response) != kFailure) {
                    break;
                }
            }
            return response;
        }
        [[nodiscard]] Bytes read_pcr() { return digest_of(read(pcr_read(9))); }
        [[nodiscard]] std::uint64_t read_nv() { return value_of(read(nv_read(kIndex, 8, 0))); }

        void check()
        {
            ASSERT_EQ(read_pcr(), pcr);
            ASSERT_EQ(read_nv(), nv);
        }

        void do_something(std::mt19937_64 &random)
        {
            const std::uint64_t dice = random() % 4;
            if (dice == 0) {
                const std::uint64_t next = random() | 1;
                const std::uint32_t code = code_of(guest.command(nv_write_value(next)));
                if (code != 0) {
                    ASSERT_EQ(code, kFailure);
                    ++failed;
                    const std::uint64_t seen = read_nv();
                    ASSERT_TRUE(seen == nv || seen == next) << "as a whole or not at all";
                    nv = seen;
                } else {
                    nv = next;
                }
            } else if (dice == 1) {
                const Bytes random_bytes = guest.command(get_random(16));
                failed += code_of(random_bytes) == kFailure ? 1 : 0;
            } else {
                const auto fill = static_cast<std::uint8_t>(random());
                const Bytes after = extended(pcr, Bytes(32, fill));
                const std::uint32_t code = code_of(guest.command(pcr_extend(9, fill)));
                if (code != 0) {
                    ASSERT_EQ(code, kFailure);
                    ++failed;
                    const Bytes seen = read_pcr();
                    ASSERT_TRUE(seen == pcr || seen == after) << "as a whole or not at all";
                    pcr = seen;
                } else {
                    pcr = after;
                }
            }
        }
    };
};

class KilledWorker : public Torture {};

TEST_F(KilledWorker, AtAnyMomentLosesNothingAnswered)
{
    const unsigned long kills = wanted("BANYAN_TEST_KILLS", 60);
    const unsigned long seed = wanted("BANYAN_TEST_SEED", 1);
    constexpr unsigned kPerPowerCycle = 15; // more would park it
    std::mt19937_64 random(seed);
    Machine machine(options());
    std::array victims{Victim(machine.vtpm, 0), Victim(machine.vtpm, 1)};
    ASSERT_EQ(banyan_vtpm_bind(machine.vtpm, 1, 1), 0);
    unsigned long commands = 0;
    for (unsigned long kill = 0; kill < kills; ++kill) {
        if (kill % kPerPowerCycle == 0) {
            for (std::uint32_t i = 0; i < victims.size(); ++i) {
                ASSERT_TRUE(machine.power(i)) << machine.describe();
                victims[i].pcr = Bytes(32, 0);
                if (kill == 0) {
                    ASSERT_EQ(code_of(victims[i].guest.command(nv_define(kIndex))), 0U);
                    ASSERT_EQ(code_of(victims[i].guest.command(nv_write_value(0))), 0U);
                }
            }
        }
        const auto alive = workers();
        ASSERT_FALSE(alive.empty());
        const pid_t worker = alive[random() % alive.size()];
        std::atomic<bool> done{false};
        std::thread killer([&done, worker, delay = random() % 1500] {
            std::this_thread::sleep_for(std::chrono::microseconds(delay));
            EXPECT_TRUE(end_process(worker));
            done = true;
        });
        for (bool last = false; !last; ++commands) {
            last = done;
            victims[random() % victims.size()].do_something(random);
            if (HasFatalFailure()) {
                break;
            }
        }
        killer.join();
        for (Victim &victim : victims) {
            if (!HasFatalFailure()) {
                victim.check();
            }
        }
        ASSERT_FALSE(HasFatalFailure()) << "kill " << kill << ", seed " << seed << "\n" << machine.describe();
    }
    std::printf("seed %lu: %lu kills, %lu commands, %u met a dying worker\n", seed, kills, commands,
                victims[0].failed + victims[1].failed);
    EXPECT_TRUE(machine.saw("worker-died", "signal 9"));
}

class PowerCut : public Torture {};

TEST_F(PowerCut, AtAnyWriteOfTheDiskLosesNothingAnswered)
{
    const unsigned long cuts = wanted("BANYAN_TEST_CUTS", 30);
    const unsigned long seed = wanted("BANYAN_TEST_SEED", 1);
    std::mt19937_64 random(seed);
    std::uint64_t nv = 0;
    std::vector<std::uint64_t> maybe; // not answered, or refused and not settled since
    unsigned long writes = 0;
    unsigned long refused = 0;
    unsigned long early = 0; // cuts before the first command
    {
        Machine machine(options());
        ASSERT_TRUE(machine.power(0)) << machine.describe();
        Guest guest(machine.vtpm);
        ASSERT_EQ(code_of(guest.command(nv_define(kIndex))), 0U);
        ASSERT_EQ(code_of(guest.command(nv_write_value(nv))), 0U);
    }
    for (unsigned long cut = 0; cut < cuts; ++cut) {
        const std::string plan =
            std::to_string(random()) + " " + std::to_string(1 + random() % 60) + " " + (random() % 2 == 0 ? "0" : "25");
        ASSERT_EQ(::setenv("BANYAN_TEST_DISK", plan.c_str(), 1), 0);
        Machine::Options faulty = options();
        faulty.engine = BANYAN_TEST_FAULTY_ENGINE;
        Machine machine(faulty);
        bool up = false;
        for (int tries = 0; machine.status == 0 && !up && tries < 4; ++tries) {
            up = machine.power(0); // its first commit may fail too
        }
        if (!up) {
            EXPECT_FALSE(machine.vtpm != nullptr && machine.json().find("\"rolled_back\":0") == std::string::npos)
                << machine.describe();
            ++early;
            continue;
        }
        Guest guest(machine.vtpm);
        const Bytes first = guest.command(nv_read(kIndex, 8, 0));
        if (code_of(first) == kFailure) {
            ++early;
            continue;
        }
        const std::uint64_t found = value_of(first);
        ASSERT_TRUE(found == nv || std::find(maybe.begin(), maybe.end(), found) != maybe.end())
            << "cut " << cut << ", seed " << seed << ", disk " << plan << "\n"
            << machine.describe();
        nv = found;
        Bytes pcr(32, 0);
        for (;;) {
            const std::uint64_t next = random() | 1;
            const std::uint32_t code = code_of(guest.command(nv_write_value(next)));
            ++writes;
            if (code == 0) {
                nv = next;
                maybe.clear();
            } else if (code == kNvUnavailable) {
                ++refused;
                maybe.push_back(next);
                const Bytes now = guest.command(nv_read(kIndex, 8, 0));
                ASSERT_TRUE(code_of(now) == kFailure || value_of(now) == nv) << "it did not happen";
            } else {
                ASSERT_EQ(code, kFailure) << std::hex << code; // the engine is gone with its disk
                maybe.push_back(next);
                break;
            }
            const auto fill = static_cast<std::uint8_t>(random());
            const Bytes after = extended(pcr, Bytes(32, fill));
            const std::uint32_t extend = code_of(guest.command(pcr_extend(9, fill)));
            if (extend == kFailure) {
                break;
            }
            pcr = extend == 0 ? after : pcr; // the first one after a start writes NV
            const Bytes seen = guest.command(pcr_read(9));
            if (code_of(seen) == kFailure) {
                break;
            }
            ASSERT_EQ(digest_of(seen), pcr);
        }
        EXPECT_TRUE(machine.saw("engine-died")) << machine.describe();
        ASSERT_NE(machine.json().find("\"rolled_back\":0"), std::string::npos) << machine.describe();
    }
    Machine machine(options());
    ASSERT_TRUE(machine.power(0)) << "never locked out\n" << machine.describe();
    std::printf("seed %lu: %lu cuts, %lu of them before the first command, %lu NV writes, %lu refused by the disk\n",
                seed, cuts, early, writes, refused);
    EXPECT_GT(writes, cuts);
}

} // namespace
} // namespace banyan::vtpm::testing
