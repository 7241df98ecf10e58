// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/cores.hpp"
#include "tests/baremetal/lib/deadline_rules.hpp"

// The local timer's TSC-deadline mode on a machine without domains, where the TSC may count anything.

using namespace banyan;
using namespace banyan::bare;

BANYAN_SELFTEST(a_deadline_in_ticks_of_the_tsc_raises_the_timer_interrupt_once)
{
    expect_deadline_rules();
}

// INIT takes the deadline with it.
BANYAN_SELFTEST(a_core_that_is_reset_has_no_deadline)
{
    constexpr u32 kDeadlineMode = 2u << 17;
    start_core(1);
    run_on(1, [](u64) {
        lapic::set(lapic::kLvtTimer, kDeadlineMode | 0x61);
        wrmsr(msr::kTscDeadline, rdtsc() + 1000 * kSecond);
    });
    start_core(1);
    static u64 deadline;
    run_on(1, [](u64) { deadline = rdmsr(msr::kTscDeadline); });
    BANYAN_EXPECT_EQ(deadline, 0);
}
