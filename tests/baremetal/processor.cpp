// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/init_rules.hpp"

// The processor itself, on a machine without domains.

using namespace banyan;
using namespace banyan::bare;

// INIT waits for GIF, is #SX(1) under VM_CR.R_INIT, and reaches a core that halts with interrupts off.
BANYAN_SELFTEST(init_obeys_gif_and_r_init)
{
    start_core(1);
    expect_init_rules(1);
}

// VM_CR: LOCK stays, and freezes SVMDIS, which denies EFER.SVME. The core is useless for SVM afterwards.
BANYAN_SELFTEST(vm_cr_lock_denies_svm_for_good)
{
    start_core(2);
    static Fault svme;
    static u64 vm_cr;
    run_on(2, [](u64) {
        wrmsr(msr::kVmCr, kVmCrSvmdis | kVmCrLock);
        svme = attempt([] { wrmsr(msr::kEfer, rdmsr(msr::kEfer) | kEferSvme); });
        wrmsr(msr::kVmCr, 0);
        vm_cr = rdmsr(msr::kVmCr);
    });
    BANYAN_EXPECT(svme.is(kGp));
    BANYAN_EXPECT_EQ(vm_cr, kVmCrSvmdis | kVmCrLock);
}

// EFER.SVME is set: SVMDIS cannot be.
BANYAN_SELFTEST(svmdis_cannot_be_set_under_svme)
{
    start_core(1);
    static Fault fault;
    run_on(1, [](u64) {
        wrmsr(msr::kEfer, rdmsr(msr::kEfer) | kEferSvme);
        fault = attempt([] { wrmsr(msr::kVmCr, kVmCrSvmdis); });
        wrmsr(msr::kEfer, rdmsr(msr::kEfer) & ~kEferSvme);
    });
    BANYAN_EXPECT(fault.is(kGp));
}

// Message writes to the local APIC's page work for the host, as on any PC.
BANYAN_SELFTEST(the_host_can_send_messages)
{
    const u32 before = this_core().interrupts[0x61];
    sti();
    write<u32>(lapic::kBase, 0x61);
    spin(kMillisecond);
    cli();
    BANYAN_EXPECT_EQ(this_core().interrupts[0x61] - before, 1);
}

// Without a domain table its register and its windows are not there.
BANYAN_SELFTEST(there_is_no_domain_table_without_the_device)
{
    constexpr u32 kId = 0x4459'4E42;
    BANYAN_EXPECT(read<u32>(0xFED5'1000) != kId);
    BANYAN_EXPECT(read<u32>(0xFED5'0000) != kId);
    const Fault fault = attempt([] { wrmsr(0xC001'0F00, 1); });
    BANYAN_EXPECT(!fault.taken || fault.is(kGp));
}

// Trap and interrupts find PAUSE to be one instruction: the step ends behind it, and so does STI's shadow.
BANYAN_SELFTEST(pause_is_one_instruction)
{
    constexpr u64 kTrapFlag = 0x100;
    constexpr u8 kDebug = 1;
    constexpr u8 kVector = 0x62;
    static u64 stepped, interrupted;
    this_core().hook = [](Frame &frame) {
        (frame.vector == kDebug ? stepped : interrupted) = frame.rip;
        frame.rflags &= ~kTrapFlag;
    };
    u64 behind = 0;
    asm volatile("lea 1f(%%rip), %0; pushfq; orq %1, (%%rsp); popfq; pause; 1: nop"
                 : "=&r"(behind)
                 : "i"(kTrapFlag)
                 : "memory", "cc");
    BANYAN_EXPECT_EQ(stepped, behind);

    lapic::send(0, lapic::kSelf | lapic::kAssert | kVector);
    asm volatile("lea 1f(%%rip), %0; sti; pause; 1: nop; nop; cli" : "=&r"(behind) : : "memory", "cc");
    this_core().hook = nullptr;
    BANYAN_EXPECT_EQ(interrupted, behind);
}

// A core that waits in a loop of PAUSEs leaves the host's CPU to one that works, as far as the host gives way to yields.
BANYAN_SELFTEST(a_core_that_waits_leaves_the_cpu_to_one_that_works)
{
    if (ask("yields") > 10) {
        skip("a host whose sched_yield() gives way");
    }
    static volatile bool worked;
    worked = false;
    start_core(1);
    begin_on(
        1,
        [](u64) {
            while (!worked) {
                pause();
            }
        },
        0);
    (void)ask("crowd");
    const u64 mine = ask("spent 0");
    const u64 its = ask("spent 1");
    u64 spent = 0;
    while (spent < 300) {
        for (u32 i = 0; i < 10'000'000; ++i) {
            barrier();
        }
        spent = ask("spent 0") - mine;
    }
    const u64 waited = ask("spent 1") - its;
    worked = true;
    BANYAN_EXPECT(finished_on(1));
    BANYAN_EXPECT(waited < spent / 4);
}
