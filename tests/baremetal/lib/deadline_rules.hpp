// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "tests/baremetal/lib/selftest.hpp"

// TSC-deadline mode of the local timer (Intel SDM 3A): the same on the bare core and in a domain.

namespace banyan::bare {

/// On the calling core, interrupts off; vectors 0x60 and 0x61 are its own.
inline void expect_deadline_rules()
{
    constexpr u8 kVector = 0x60;
    constexpr u32 kDeadlineMode = 2u << 17;
    static u64 at_interrupt;
    PerCore &core = this_core();
    core.hook = [](Frame &) { at_interrupt = rdtsc(); };
    const auto came = [&] { return core.interrupts[kVector]; };
    const auto arm = [](u64 ticks) {
        const u64 deadline = rdtsc() + ticks;
        wrmsr(msr::kTscDeadline, deadline);
        return deadline;
    };

    // A host that takes the core's thread away for longer than a count lasts lets the count come to its end before the
    // steps do. Such a try shows nothing, and another is made.
    const auto in_less_than = [&](u64 limit, auto &&steps) {
        for (;;) {
            const u64 begin = rdtsc();
            const u32 before = came();
            steps();
            if (rdtsc() - begin < limit) {
                return before;
            }
            wrmsr(msr::kTscDeadline, 0);
            spin(kMillisecond);
        }
    };

    BANYAN_EXPECT((cpuid(1).ecx >> 24 & 1) != 0);
    lapic::set(lapic::kTimerDivide, 0xB);
    lapic::set(lapic::kLvtTimer, kVector); // one shot
    (void)arm(kMillisecond);
    BANYAN_EXPECT_EQ(rdmsr(msr::kTscDeadline), 0); // not the mode for it

    sti();
    u32 before = in_less_than(2 * kMillisecond, [] {
        lapic::set(lapic::kLvtTimer, kVector);
        lapic::set(lapic::kTimerInitial, 5'000'000);
        lapic::set(lapic::kLvtTimer, kDeadlineMode | kVector); // and that ends the count
        lapic::set(lapic::kTimerInitial, 1000);
    });
    BANYAN_EXPECT_EQ(lapic::get(lapic::kTimerCurrent), 0);
    spin(20 * kMillisecond);
    BANYAN_EXPECT_EQ(came(), before);

    u64 deadline = 0;
    u64 told = 0;
    before = in_less_than(2 * kMillisecond, [&] {
        deadline = arm(2 * kMillisecond);
        told = rdmsr(msr::kTscDeadline);
    });
    BANYAN_EXPECT_EQ(told, deadline);
    BANYAN_EXPECT(eventually([&] { return came() == before + 1; }));
    BANYAN_EXPECT(at_interrupt >= deadline);
    BANYAN_EXPECT_EQ(rdmsr(msr::kTscDeadline), 0);

    wrmsr(msr::kTscDeadline, 1); // long past: at once
    BANYAN_EXPECT(eventually([&] { return came() == before + 2; }));

    before = in_less_than(10 * kMillisecond, [&] {
        (void)arm(10 * kMillisecond);
        wrmsr(msr::kTscDeadline, 0); // called off
    });
    spin(30 * kMillisecond);
    BANYAN_EXPECT_EQ(came(), before);

    before = in_less_than(10 * kMillisecond, [&] {
        (void)arm(10 * kMillisecond); // the later of two counts alone
        deadline = arm(20 * kMillisecond);
    });
    BANYAN_EXPECT(eventually([&] { return came() == before + 1; }));
    BANYAN_EXPECT(at_interrupt >= deadline);

    lapic::set(lapic::kLvtTimer, kDeadlineMode | lapic::kMasked | kVector);
    (void)arm(kMillisecond); // passes unheard
    BANYAN_EXPECT(eventually([] { return rdmsr(msr::kTscDeadline) == 0; }));
    lapic::set(lapic::kLvtTimer, kDeadlineMode | kVector);
    spin(5 * kMillisecond);
    BANYAN_EXPECT_EQ(came(), before + 1);

    before = in_less_than(10 * kMillisecond, [&] {
        (void)arm(10 * kMillisecond);
        lapic::set(lapic::kLvtTimer, kVector); // another mode ends it
        told = rdmsr(msr::kTscDeadline);
        lapic::set(lapic::kLvtTimer, kDeadlineMode | kVector);
    });
    BANYAN_EXPECT_EQ(told, 0);
    spin(30 * kMillisecond);
    BANYAN_EXPECT_EQ(came(), before);

    wrmsr(msr::kTscDeadline, ~u64{0}); // for ever, and harmless
    spin(kMillisecond);
    cli();
    (void)arm(2 * kMillisecond);
    while (came() == before) { // it wakes a halted core
        asm volatile("sti; hlt; cli" ::: "memory");
    }
    core.hook = nullptr;
    BANYAN_EXPECT_EQ(came(), before + 1);
    lapic::set(lapic::kLvtTimer, lapic::kMasked);
}

} // namespace banyan::bare
