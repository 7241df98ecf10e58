// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "tests/baremetal/lib/cores.hpp"
#include "tests/baremetal/lib/selftest.hpp"

// APM 2, 15.17 (GIF) and 15.27.6 (R_INIT): the same on the bare core and in a domain.

namespace banyan::bare {

/// In a domain, or on the host: core `other` is up. What INIT does to it.
inline void expect_init_rules(u32 other)
{
    static volatile u32 vector, error, stage;
    const auto send_init = [=] { lapic::send(other, lapic::kInit | lapic::kAssert); };

    // With GIF clear an INIT waits.
    stage = 0;
    begin_on(
        other,
        [](u64) {
            wrmsr(msr::kEfer, rdmsr(msr::kEfer) | kEferSvme);
            wrmsr(msr::kVmCr, kVmCrRInit);
            clgi();
            stage = 1;
            while (stage == 1) {
                pause();
            }
            const Fault fault = attempt([] {
                stgi();
                spin(kSecond);
            });
            vector = fault.vector;
            error = static_cast<u32>(fault.error);
            wrmsr(msr::kVmCr, 0);
            stage = 3;
        },
        0);
    BANYAN_EXPECT(eventually([] { return stage == 1; }));
    send_init();
    spin(10 * kMillisecond);
    BANYAN_EXPECT_EQ(stage, 1);
    stage = 2;
    // With R_INIT it is #SX then, with error code 1, and the core goes on.
    BANYAN_EXPECT(finished_on(other));
    BANYAN_EXPECT_EQ(stage, 3);
    BANYAN_EXPECT_EQ(vector, kSx);
    BANYAN_EXPECT_EQ(error, 1);

    // Without R_INIT the core waits for SIPI after STGI.
    stage = 0;
    begin_on(
        other,
        [](u64) {
            clgi();
            stage = 1;
            while (stage == 1) {
                pause();
            }
            stgi();
            spin(kSecond);
            stage = 3;
        },
        0);
    BANYAN_EXPECT(eventually([] { return stage == 1; }));
    send_init();
    spin(10 * kMillisecond);
    stage = 2;
    spin(2 * kSecond);
    BANYAN_EXPECT_EQ(stage, 2);
    start_core(other, false);

    // INIT reaches a core that halts with interrupts off.
    stage = 0;
    begin_on(
        other,
        [](u64) {
            stage = 1;
            for (;;) {
                asm volatile("cli; hlt");
            }
        },
        0);
    BANYAN_EXPECT(eventually([] { return stage == 1; }));
    spin(5 * kMillisecond);
    send_init();
    spin(5 * kMillisecond);
    start_core(other, false);
}

} // namespace banyan::bare
