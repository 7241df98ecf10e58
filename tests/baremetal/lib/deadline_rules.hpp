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

    BANYAN_EXPECT((cpuid(1).ecx >> 24 & 1) != 0);
    lapic::set(lapic::kLvtTimer, kVector); // one shot
    (void)arm(kMillisecond);
    BANYAN_EXPECT_EQ(rdmsr(msr::kTscDeadline), 0); // not the mode for it

    lapic::set(lapic::kTimerDivide, 0xB);
    lapic::set(lapic::kTimerInitial, 5'000'000);
    lapic::set(lapic::kLvtTimer, kDeadlineMode | kVector); // and that ends the count
    lapic::set(lapic::kTimerInitial, 1000);
    BANYAN_EXPECT_EQ(lapic::get(lapic::kTimerCurrent), 0);
    sti();
    spin(20 * kMillisecond);
    BANYAN_EXPECT_EQ(came(), 0);

    u64 deadline = arm(2 * kMillisecond);
    BANYAN_EXPECT(rdmsr(msr::kTscDeadline) == deadline || came() == 1);
    BANYAN_EXPECT(eventually([&] { return came() == 1; }));
    BANYAN_EXPECT(at_interrupt >= deadline);
    BANYAN_EXPECT_EQ(rdmsr(msr::kTscDeadline), 0);

    wrmsr(msr::kTscDeadline, 1); // long past: at once
    BANYAN_EXPECT(eventually([&] { return came() == 2; }));

    (void)arm(10 * kMillisecond);
    wrmsr(msr::kTscDeadline, 0); // called off
    spin(30 * kMillisecond);
    BANYAN_EXPECT_EQ(came(), 2);

    (void)arm(10 * kMillisecond); // the later of two counts alone
    deadline = arm(20 * kMillisecond);
    BANYAN_EXPECT(eventually([&] { return came() == 3; }));
    BANYAN_EXPECT(at_interrupt >= deadline);

    lapic::set(lapic::kLvtTimer, kDeadlineMode | lapic::kMasked | kVector);
    (void)arm(kMillisecond); // passes unheard
    BANYAN_EXPECT(eventually([] { return rdmsr(msr::kTscDeadline) == 0; }));
    lapic::set(lapic::kLvtTimer, kDeadlineMode | kVector);
    spin(5 * kMillisecond);
    BANYAN_EXPECT_EQ(came(), 3);

    (void)arm(10 * kMillisecond);
    lapic::set(lapic::kLvtTimer, kVector); // another mode ends it
    BANYAN_EXPECT_EQ(rdmsr(msr::kTscDeadline), 0);
    lapic::set(lapic::kLvtTimer, kDeadlineMode | kVector);
    spin(30 * kMillisecond);
    BANYAN_EXPECT_EQ(came(), 3);

    wrmsr(msr::kTscDeadline, ~u64{0}); // for ever, and harmless
    spin(kMillisecond);
    (void)arm(2 * kMillisecond);
    while (came() == 3) { // it wakes a halted core
        asm volatile("hlt");
    }
    cli();
    core.hook = nullptr;
    BANYAN_EXPECT_EQ(came(), 4);
    lapic::set(lapic::kLvtTimer, lapic::kMasked);
}

} // namespace banyan::bare
