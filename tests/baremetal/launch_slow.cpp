// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/domain.hpp"
#include "tests/baremetal/lib/launch.hpp"
#include "tests/baremetal/lib/tpm.hpp"

// Launches that take their time on the bus: 64 KiB in about two seconds. What happens meanwhile.

using namespace banyan;
using namespace banyan::bare;

namespace {

void launches(u64 measured)
{
    make_block(kSlb, static_cast<u16>(measured));
    guest::signal(1);
    launch();
    guest::signal(3);
    guest::await(2);
}

/// Two seconds of launching have begun.
void start_in_the_middle(Domain &d)
{
    d.start();
    d.await(1);
    (void)ask("sleep ", 300u);
    BANYAN_EXPECT_EQ(in8(scratch_port(d.number())), 1);
}

} // namespace

// STOP while the block is on its way to the vTPM. Passes if the domain ends soon, without having launched; the core is
// the host's; and the next life launches as if nothing had been.
BANYAN_SELFTEST(the_stop_line_reaches_a_core_in_the_middle_of_skinit)
{
    Domain d(1, launches, 0xFFFF);
    start_in_the_middle(d);
    d.stop();
    BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kStopped);
    BANYAN_EXPECT_EQ(entering(1).exit_code, dt::ExitCode::kDomainStop);
    BANYAN_EXPECT_EQ(d.report("launch_count"), 0);
    d.remove();
    (void)ask("sleep ", 100u);
    static volatile u32 worked;
    run_on(1, [](u64) { worked = 1; });
    BANYAN_EXPECT_EQ(worked, 1);

    Domain again(1, launches, 0x100);
    again.start();
    again.await(3);
    again.signal(2);
    again.wait();
    BANYAN_EXPECT_EQ(again.reason(), dt::EndReason::kPoweroff);
    BANYAN_EXPECT_EQ(again.report("launch_count"), 1);
}

// The machine is reset in the middle of a launch. Passes if the domain is DIRTY with reason "reset", and the next life
// launches.
BANYAN_SELFTEST(a_reset_in_the_middle_of_skinit_leaves_the_domain_dirty)
{
    if (boot_phase() == 0) {
        Domain d(1, launches, 0xFFFF);
        start_in_the_middle(d);
        reset_machine();
    }
    set_up_machine();
    BANYAN_EXPECT_EQ(state_of(1), dt::State::kDirty);
    BANYAN_EXPECT_EQ(reason_of(1), dt::EndReason::kReset);
    BANYAN_EXPECT_EQ(command(1, dt::Command::kDelete), dt::Status::kOk);
    Domain again(1, launches, 0x100);
    again.start();
    again.await(3);
    again.signal(2);
    again.wait();
    BANYAN_EXPECT_EQ(again.reason(), dt::EndReason::kPoweroff);
}

// Two domains launch 64 KiB each. Passes if both together take about as long as one, and neither waited for the other.
BANYAN_SELFTEST(launches_of_two_domains_overlap)
{
    Domain one(1, launches, 0xFFFF), two(2, launches, 0xFFFF);
    one.start();
    two.start();
    one.await(3);
    two.await(3);
    one.signal(2);
    two.signal(2);
    one.wait();
    two.wait();
    BANYAN_EXPECT_EQ(one.report("launch.wait_for_other_domain_ns") | two.report("launch.wait_for_other_domain_ns"), 0);
    BANYAN_EXPECT(one.report("launch.hash_start_ns") < two.report("launch.hash_end_ns"));
    BANYAN_EXPECT(two.report("launch.hash_start_ns") < one.report("launch.hash_end_ns"));
    BANYAN_EXPECT(one.report("launch.entry_ns") - one.report("launch.start_ns") >= 65535 * (kSecond / 32768));
}

// While one domain launches, another runs and the host works: nobody waits for it.
BANYAN_SELFTEST(nobody_else_stands_still_during_a_launch)
{
    Domain one(1, launches, 0xFFFF);
    Domain two(2, [](u64) {
        BANYAN_EXPECT(tpm::request(0));
        guest::signal(1);
        guest::await(2);
        for (u32 i = 0; i < 10; ++i) {
            BANYAN_EXPECT_EQ(tpm::pcr_extend(0, 10, static_cast<u8>(i)), 0);
        }
        guest::signal(3);
        guest::await(4);
    });
    two.start();
    two.await(1);
    start_in_the_middle(one);
    two.signal(2);
    two.await(3);
    BANYAN_EXPECT_EQ(in8(scratch_port(1)), 1); // the launch still goes on
    two.signal(4);
    two.wait();
    BANYAN_EXPECT_EQ(two.reason(), dt::EndReason::kPoweroff);
}

// The guest launches with interrupts on and a timer that falls due all the while. Passes if no handler runs between SKINIT
// and the block.
BANYAN_SELFTEST(the_launching_core_executes_nothing_until_entry)
{
    Domain d(1, [](u64) {
        make_block(kSlb, 0x2000);
        sti();
        lapic::set(lapic::kTimerDivide, 0xB);
        lapic::set(lapic::kLvtTimer, lapic::kPeriodic | 0x52);
        lapic::set(lapic::kTimerInitial, 1'000'000); // interrupts fall due during the launch
        BANYAN_EXPECT(eventually([] { return this_core().interrupts[0x52] > 2; }));
        const u32 before = this_core().interrupts[0x52];
        launch();
        BANYAN_EXPECT(this_core().interrupts[0x52] - before <= 1);
    });
    d.run();
}
