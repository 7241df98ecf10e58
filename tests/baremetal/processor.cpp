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
