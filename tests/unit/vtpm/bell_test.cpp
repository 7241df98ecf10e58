// SPDX-License-Identifier: GPL-2.0-or-later
// Interrupts of commands that outlast their doorbell, with the real engine: a guest that waits for its line and touches
// no register meanwhile, and a host that looks when it is told to.
#include <filesystem>
#include <poll.h>

#include "tests/unit/vtpm/crb_guest.hpp"
#include "tests/unit/vtpm/processes.hpp"
#include "tests/unit/vtpm/vtpm_machine.hpp"

namespace banyan::vtpm::testing {
namespace {

constexpr int kLongMs = 30'000; // an RSA key takes up to seconds
constexpr std::uint32_t kAllCauses = tis::IntEnable::DataAvail::kMask | tis::IntEnable::StsValid::kMask |
                                     tis::IntEnable::CommandReady::kMask | tis::IntEnable::GlobalIntEnable::kMask;

bool rings_within(int bell, int ms)
{
    pollfd one{bell, POLLIN, 0};
    return ::poll(&one, 1, ms) == 1;
}

banyan_vtpm_instance_config with_interrupts(banyan_vtpm_interface interface = BANYAN_VTPM_TIS)
{
    banyan_vtpm_instance_config config{};
    config.size = sizeof(config);
    config.interface = interface;
    config.interrupts = 1;
    return config;
}

/// A file of 32 bytes.
struct SnapshotKey {
    SnapshotKey()
    {
        const int fd = ::mkstemp(path.data());
        const Bytes key(32, 0x42);
        EXPECT_EQ(::write(fd, key.data(), key.size()), 32);
        ::close(fd);
    }
    ~SnapshotKey() { ::unlink(path.c_str()); }
    SnapshotKey(const SnapshotKey &) = delete;
    SnapshotKey &operator=(const SnapshotKey &) = delete;

    std::string path = "/tmp/banyan-bell-XXXXXX";
};

/// Instance 0 has the FIFO, all its causes enabled at locality 0.
class TheBell : public ::testing::Test {
protected:
    void SetUp() override
    {
        const banyan_vtpm_instance_config config = with_interrupts();
        ASSERT_EQ(banyan_vtpm_configure(machine.vtpm, 0, &config), 0);
        bell = banyan_vtpm_bell(machine.vtpm, 0);
        ASSERT_GE(bell, 0);
        ASSERT_TRUE(machine.power(0)) << machine.describe();
        ASSERT_TRUE(guest.request(0));
        guest.write(0, tis::Reg::kIntEnable, kAllCauses);
    }
    void start(const Bytes &command)
    {
        guest.put(0, command);
        guest.write(0, tis::Reg::kIntStatus, kAllCauses);
        EXPECT_EQ(machine.irq[0], 0);
        guest.go(0);
    }
    void look() { EXPECT_EQ(banyan_vtpm_look(machine.vtpm, 0, 0), 0); }
    /// Looks at each ring until the line is up.
    [[nodiscard]] bool line_comes()
    {
        while (machine.irq[0] == 0 && rings_within(bell, kLongMs)) {
            look();
        }
        return machine.irq[0] == 1;
    }

    Machine machine{{.instances = 2, .wired = true}};
    Guest guest{machine.vtpm};
    int bell = -1;
};

TEST_F(TheBell, RingsWhenALongCommandHasEnded)
{
    for (int i = 0; i < 2; ++i) {
        start(create_primary_rsa());
        EXPECT_EQ(machine.irq[0], 0) << "it takes longer than the doorbell waits";
        ASSERT_TRUE(rings_within(bell, kLongMs));
        EXPECT_EQ(machine.irq[0], 0) << "nobody has looked";
        ASSERT_TRUE(line_comes());
        EXPECT_EQ(guest.read(0, tis::Reg::kIntStatus),
                  tis::IntEnable::DataAvail::kMask | tis::IntEnable::StsValid::kMask);
        EXPECT_FALSE(rings_within(bell, 0)) << "hushed";
        const Bytes made = guest.take(0);
        ASSERT_EQ(code_of(made), 0U);
        ASSERT_EQ(code_of(guest.command(0, flush(made))), 0U);
    }
}

TEST_F(TheBell, IsSilentForACommandThatEndsInsideItsDoorbell)
{
    for (int i = 0; i < 20; ++i) {
        start(pcr_extend(9, 1));
        if (machine.irq[0] == 1) { // else the host was slow, and the bell is due
            EXPECT_FALSE(rings_within(bell, 0));
        } else {
            ASSERT_TRUE(line_comes());
        }
        EXPECT_EQ(code_of(guest.take(0)), 0U);
    }
}

TEST_F(TheBell, RingsWhenTheWorkerDies)
{
    for (int i = 0; i < 2; ++i) {
        start(create_primary_rsa());
        ASSERT_TRUE(end_process(last_worker()));
        ASSERT_TRUE(line_comes()) << machine.describe();
        EXPECT_EQ(code_of(guest.take(0)), 0x101U) << "TPM_RC_FAILURE";
        EXPECT_FALSE(rings_within(bell, 0));
        EXPECT_EQ(code_of(guest.command(0, pcr_extend(9, 1))), 0U) << "its successor";
    }
}

/// The worker's bells, from this side: what a hostile worker does with its own.
void ring_worker_bells()
{
    for (const auto &entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        std::error_code gone;
        if (std::filesystem::read_symlink(entry, gone) == "anon_inode:[eventfd]") {
            const std::uint64_t one = 1;
            EXPECT_EQ(::write(std::stoi(entry.path().filename()), &one, sizeof(one)), 8);
        }
    }
}

TEST_F(TheBell, OfAWorkerThatRingsForFunIsNotListenedTo)
{
    ASSERT_EQ(::kill(last_worker(), SIGSTOP), 0);
    start(create_primary_rsa());
    int heard = 0;
    for (int i = 0; i < 100; ++i) {
        ring_worker_bells();
        if (rings_within(bell, 0)) {
            ++heard;
            look();
        }
    }
    EXPECT_EQ(heard, 16);
    EXPECT_EQ(machine.irq[0], 0);
    ASSERT_EQ(::kill(last_worker(), SIGCONT), 0);
    EXPECT_EQ(code_of(guest.take(0)), 0U) << "whoever looks next";
    EXPECT_EQ(machine.irq[0], 1);
    guest.write(0, tis::Reg::kSts, tis::Sts::CommandReady::kMask, 1);
    start(create_primary_rsa());
    EXPECT_TRUE(line_comes()) << "the next command has its own chance";
}

TEST_F(TheBell, RingsForACommandThatWasBrokenOff)
{
    start(create_primary_rsa());
    guest.write(0, tis::Reg::kIntEnable, tis::IntEnable::CommandReady::kMask | tis::IntEnable::GlobalIntEnable::kMask);
    guest.write(0, tis::Reg::kSts, tis::Sts::CommandReady::kMask, 1);
    ASSERT_TRUE(line_comes());
    EXPECT_EQ(guest.read(0, tis::Reg::kIntStatus), tis::IntEnable::CommandReady::kMask);
    EXPECT_EQ(code_of(guest.command(0, pcr_extend(9, 1))), 0U);
}

/// QEMU looks under its big lock, which must not wait for a core that is in the instance.
TEST_F(TheBell, IsLookedAtByWhoHasTheLockForWhoCannotWait)
{
    start(create_primary_rsa());
    ASSERT_TRUE(rings_within(bell, kLongMs));
    ASSERT_EQ(machine.irq[0], 0);
    bool back = false;
    machine.when_irq_moves = [&] {
        machine.when_irq_moves = nullptr;
        std::thread other([this] { look(); });
        other.join();
        back = true;
        EXPECT_TRUE(rings_within(bell, 0)) << "the lock is not his";
    };
    EXPECT_TRUE(tis::Sts::DataAvail::get(guest.read(0, tis::Reg::kSts)));
    EXPECT_TRUE(back);
    EXPECT_FALSE(rings_within(bell, 0)) << "nobody has looked";
}

TEST_F(TheBell, OutlivesAPowerCycle)
{
    start(create_primary_rsa());
    ASSERT_TRUE(machine.power(0));
    look();
    EXPECT_FALSE(rings_within(bell, 0)) << "of the earlier life nothing is left";
    EXPECT_EQ(banyan_vtpm_bell(machine.vtpm, 0), bell);
    ASSERT_TRUE(guest.request(0));
    guest.write(0, tis::Reg::kIntEnable, kAllCauses);
    start(create_primary_rsa());
    ASSERT_TRUE(line_comes());
    EXPECT_EQ(code_of(guest.take(0)), 0U);
}

TEST_F(TheBell, IsNotThereWithoutInterrupts)
{
    EXPECT_EQ(banyan_vtpm_bell(machine.vtpm, 1), -1);
    EXPECT_EQ(banyan_vtpm_bell(machine.vtpm, 2), -1);
    EXPECT_EQ(banyan_vtpm_bell(nullptr, 0), -1);
    EXPECT_LT(banyan_vtpm_look(machine.vtpm, 2, 0), 0);
    EXPECT_LT(banyan_vtpm_look(nullptr, 0, 0), 0);
    EXPECT_EQ(banyan_vtpm_look(machine.vtpm, 1, 0), 0) << "always allowed";
}

TEST(UnderIcount, ALookIsAskedForAtTheTimeOfTheResponse)
{
    Machine machine({.instances = 1, .deterministic = true, .wired = true});
    const banyan_vtpm_instance_config config = with_interrupts(BANYAN_VTPM_CRB);
    ASSERT_EQ(banyan_vtpm_configure(machine.vtpm, 0, &config), 0);
    EXPECT_EQ(banyan_vtpm_bell(machine.vtpm, 0), -1) << "when the host is done must not show";
    ASSERT_TRUE(machine.power(0));
    CrbGuest guest(machine.vtpm);
    ASSERT_TRUE(guest.request(0));
    ASSERT_TRUE(guest.command_ready(0));
    guest.write(0, crb::Reg::kIntEnable, crb::IntEnable::Start::kMask | crb::IntEnable::GlobalInterruptEnable::kMask);
    constexpr std::int64_t kBegun = 5'000'000;
    guest.cycle.vtime_ns = kBegun;
    guest.send(0, create_primary_rsa());
    const std::int64_t due = machine.look_at[0];
    EXPECT_EQ(due, kBegun + 20'000'000) << "the command's cost";
    ASSERT_EQ(banyan_vtpm_look(machine.vtpm, 0, due - 1), 0);
    EXPECT_EQ(machine.irq[0], 0);
    ASSERT_EQ(banyan_vtpm_look(machine.vtpm, 0, due), 0);
    EXPECT_EQ(machine.irq[0], 1);
    EXPECT_EQ(guest.read(0, crb::Reg::kIntSts), crb::IntEnable::Start::kMask);
    EXPECT_EQ(machine.looks_asked[0], 1) << "once for each response";
    EXPECT_EQ(code_of(guest.receive(0)), 0U);
    guest.send(0, get_random(4));
    EXPECT_EQ(machine.looks_asked[0], 2);
}

/// Nothing that the engine takes its time for shows its time: what software may wait for is done with the write.
TEST(UnderIcount, AResetOfTpmEstablishmentIsDoneWithTheWrite)
{
    Machine machine({.instances = 1, .deterministic = true, .wired = true});
    const banyan_vtpm_instance_config config = with_interrupts(BANYAN_VTPM_CRB);
    ASSERT_EQ(banyan_vtpm_configure(machine.vtpm, 0, &config), 0);
    ASSERT_TRUE(machine.power(0));
    ASSERT_EQ(machine.launch(0, Bytes(100, 1)), 0);
    CrbGuest guest(machine.vtpm);
    ASSERT_TRUE(guest.request(3));
    guest.write(3, crb::Reg::kIntEnable,
                crb::IntEnable::EstablishmentClear::kMask | crb::IntEnable::GlobalInterruptEnable::kMask);
    EXPECT_FALSE(crb::LocState::TpmEstablished::get(guest.read(3, crb::Reg::kLocState)));
    guest.write(3, crb::Reg::kLocCtrl, crb::LocCtrl::ResetEstablishmentBit::kMask);
    EXPECT_EQ(machine.irq[0], 1);
    EXPECT_TRUE(crb::LocState::TpmEstablished::get(guest.read(3, crb::Reg::kLocState)));
}

TEST(UnderIcount, AResponseThatASnapshotHoldsIsLookedAtInItsTime)
{
    const SnapshotKey key;
    const Machine::Options options{.instances = 1, .deterministic = true, .wired = true, .snapshot_key = key.path};
    const banyan_vtpm_instance_config config = with_interrupts();
    Bytes saved;
    {
        Machine machine(options);
        ASSERT_EQ(banyan_vtpm_configure(machine.vtpm, 0, &config), 0);
        ASSERT_TRUE(machine.power(0));
        Guest guest(machine.vtpm);
        ASSERT_TRUE(guest.request(0));
        guest.write(0, tis::Reg::kIntEnable, kAllCauses);
        guest.put(0, create_primary_rsa());
        guest.write(0, tis::Reg::kIntStatus, kAllCauses);
        guest.go(0);
        saved = machine.save();
        ASSERT_FALSE(saved.empty()) << machine.why;
    }
    Machine machine(options);
    ASSERT_EQ(banyan_vtpm_configure(machine.vtpm, 0, &config), 0);
    ASSERT_TRUE(machine.load(saved)) << machine.why;
    ASSERT_EQ(machine.looks_asked[0], 1);
    EXPECT_EQ(machine.irq[0], 0);
    ASSERT_EQ(banyan_vtpm_look(machine.vtpm, 0, machine.look_at[0]), 0);
    EXPECT_EQ(machine.irq[0], 1);
}

TEST(Setup, IsGivenToAnInstanceOnce)
{
    Machine machine({.instances = 3, .wired = true});
    const auto set_up = [&](std::uint32_t instance, const banyan_vtpm_instance_config &config) {
        char *error = nullptr;
        const banyan_status status = banyan_vtpm_set_up(machine.vtpm, instance, &config, &error);
        std::string text = error != nullptr ? error : "";
        std::free(error);
        EXPECT_EQ(status != 0, !text.empty());
        return text;
    };
    banyan_vtpm_instance_config config = with_interrupts();
    EXPECT_EQ(set_up(1, config), "");
    EXPECT_EQ(set_up(1, config), "instance 1 has its setup from another device");
    EXPECT_EQ(set_up(3, config), "the vTPM chip has 3 instances, so no instance 3");
    config.banks = 8;
    EXPECT_EQ(set_up(2, config), "instance 2 takes no such setup now");
    config.banks = BANYAN_VTPM_SHA256;
    EXPECT_EQ(set_up(2, config), "") << "one that was refused is no setup";
    EXPECT_LT(banyan_vtpm_set_up(nullptr, 1, &config, nullptr), 0);
    EXPECT_LT(banyan_vtpm_set_up(machine.vtpm, 1, nullptr, nullptr), 0);
    EXPECT_EQ(set_up(0, config), "");
    EXPECT_EQ(set_up(0, config), "instance 0 is behind another window");
}

TEST(Setup, OfADomainsFurtherTpmIsNoCrb)
{
    Machine machine({.instances = 2});
    banyan_vtpm_instance_config config{};
    config.size = sizeof(config);
    config.interface = BANYAN_VTPM_CRB;
    ASSERT_EQ(banyan_vtpm_set_up(machine.vtpm, 1, &config, nullptr), 0);
    EXPECT_LT(banyan_vtpm_bind_window(machine.vtpm, 1, 1, 1), 0);
    EXPECT_EQ(banyan_vtpm_bind_window(machine.vtpm, 1, 0, 1), 0);
}

} // namespace
} // namespace banyan::vtpm::testing
