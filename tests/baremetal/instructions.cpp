// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/domain.hpp"

// Instructions, MSRs and ports in a domain: what is the host's is not there, what is the core's own works.

using namespace banyan;
using namespace banyan::bare;

namespace {

constexpr u64 kOnes = ~u64{0};

void run_in_domain(GuestMain main)
{
    Domain d(1, main);
    d.run();
}

void set_svme(bool on)
{
    const u64 efer = rdmsr(msr::kEfer);
    wrmsr(msr::kEfer, on ? efer | kEferSvme : efer & ~kEferSvme);
}

bool msr_faults(u32 number)
{
    const Fault load = attempt([=] { (void)rdmsr(number); });
    const Fault store = attempt([=] { wrmsr(number, 0); });
    const Fault ones = attempt([=] { wrmsr(number, kOnes); });
    return load.is(kGp) && store.is(kGp) && ones.is(kGp) && load.error == 0;
}

/// Reads `value`, and any write vanishes or faults.
void expect_constant(u32 number, u64 value)
{
    BANYAN_EXPECT_EQ(rdmsr(number), value);
    (void)attempt([=] { wrmsr(number, ~value); });
    (void)attempt([=] { wrmsr(number, 0); });
    BANYAN_EXPECT_EQ(rdmsr(number), value);
}

} // namespace

// The instructions that work on host physical memory or would leave the domain are undefined, whatever EFER.SVME says.
BANYAN_SELFTEST(instructions_of_an_svm_host_are_undefined)
{
    run_in_domain([](u64) {
        for (const bool svme : {false, true}) {
            set_svme(svme);
            BANYAN_EXPECT(attempt([] { asm volatile("vmrun %%rax" : : "a"(0x20'0000) : "memory"); }).is(kUd));
            BANYAN_EXPECT(attempt([] { asm volatile("vmload %%rax" : : "a"(0x20'0000) : "memory"); }).is(kUd));
            BANYAN_EXPECT(attempt([] { asm volatile("vmsave %%rax" : : "a"(0x20'0000) : "memory"); }).is(kUd));
            BANYAN_EXPECT(attempt([] { asm volatile("vmmcall"); }).is(kUd));
            BANYAN_EXPECT(attempt([] { asm volatile("invlpga %%rax, %%ecx" : : "a"(0), "c"(1) : "memory"); }).is(kUd));
            BANYAN_EXPECT(attempt([] { asm volatile(".byte 0x0f, 0x01, 0xc1"); }).is(kUd)); // VMCALL
            BANYAN_EXPECT(attempt([] { asm volatile("rsm"); }).is(kUd));
            for (u64 at = 0x20'0000; at < 0x20'1000; at += 8) {
                BANYAN_EXPECT_EQ(read<u64>(at), 0);
            }
        }
        set_svme(false);
        BANYAN_EXPECT(attempt([] { clgi(); }).is(kUd));
    });
}

// EFER.SVME is a bit that the guest sets and reads back; it grants nothing.
BANYAN_SELFTEST(efer_svme_is_a_shadow)
{
    const u64 before = rdmsr(msr::kEfer);
    run_in_domain([](u64) {
        BANYAN_EXPECT_EQ(rdmsr(msr::kEfer) & kEferSvme, 0);
        set_svme(true);
        BANYAN_EXPECT_EQ(rdmsr(msr::kEfer) & kEferSvme, kEferSvme);
        set_svme(false);
        BANYAN_EXPECT_EQ(rdmsr(msr::kEfer) & kEferSvme, 0);
    });
    BANYAN_EXPECT_EQ(rdmsr(msr::kEfer), before);
}

// CLGI holds the guest's own interrupts and NMI back, STGI lets them come.
BANYAN_SELFTEST(gif_is_the_guests)
{
    run_in_domain([](u64) {
        set_svme(true);
        clgi();
        sti();
        lapic::set(lapic::kIcrLow, lapic::kFixed | lapic::kAssert | lapic::kSelf | 0x50);
        lapic::set(lapic::kIcrLow, lapic::kNmiMode | lapic::kAssert | lapic::kSelf);
        spin(10 * kMillisecond);
        BANYAN_EXPECT_EQ(this_core().interrupts[0x50], 0);
        BANYAN_EXPECT_EQ(this_core().interrupts[kNmi], 0);
        stgi();
        spin(10 * kMillisecond);
        cli();
        BANYAN_EXPECT_EQ(this_core().interrupts[0x50], 1);
        BANYAN_EXPECT_EQ(this_core().interrupts[kNmi], 1);
    });
}

// The guest locks SVM off in its VM_CR. Passes if that holds in the domain, and the host's VM_CR and SVM are as before, on
// the same core, and the domain's next life begins without it.
BANYAN_SELFTEST(vm_cr_is_banked_by_domain)
{
    Domain d(1, [](u64) {
        BANYAN_EXPECT_EQ(rdmsr(msr::kVmCr), 0);
        wrmsr(msr::kVmCr, kVmCrSvmdis | kVmCrLock | kVmCrRInit | kVmCrDpd);
        BANYAN_EXPECT_EQ(rdmsr(msr::kVmCr), kVmCrSvmdis | kVmCrLock | kVmCrRInit | kVmCrDpd);
        BANYAN_EXPECT(attempt([] { wrmsr(msr::kEfer, rdmsr(msr::kEfer) | kEferSvme); }).is(kGp));
        wrmsr(msr::kVmCr, 0);
        BANYAN_EXPECT_EQ(rdmsr(msr::kVmCr), kVmCrSvmdis | kVmCrLock);
    });
    d.run();
    static u64 seen;
    run_on(1, [](u64) { seen = rdmsr(msr::kVmCr); });
    BANYAN_EXPECT_EQ(seen, 0);
    d.run();
}

BANYAN_SELFTEST(the_hosts_msrs_are_out_of_reach)
{
    static u64 before[8], after[8];
    constexpr auto look = [](u64 into) {
        constexpr u32 kNumbers[] = {msr::kVmHsavePa, msr::kEfer, msr::kApicBase, 0xC001'0015, msr::kSyscfg, msr::kVmCr};
        u64 *to = reinterpret_cast<u64 *>(into);
        for (const u32 number : kNumbers) {
            (void)attempt([=] { *to = rdmsr(number); });
            ++to;
        }
    };
    set_up_machine();
    run_on(1, [](u64) { prepare_vmcb(1); });
    run_on(1, +look, address_of(before));
    run_in_domain([](u64) {
        for (const u32 number : {msr::kVmHsavePa, msr::kSvmKey, dt::kMsrDomain, u32{0xC001'0111}, u32{0xC001'0112},
                                 u32{0xC001'0113}, u32{0xC001'0115}, u32{0xC001'0116}, u32{0xC001'011B}}) {
            BANYAN_EXPECT(msr_faults(number));
        }
        expect_constant(msr::kSyscfg, 0);
        expect_constant(msr::kMmioConf, 0xB000'0021); // ECAM, which is how a loader finds 00:18.3
        expect_constant(0xC001'001A, 0);              // TOP_MEM
        expect_constant(0xC001'0015, 1u << 24);       // HWCR
        const u64 base = rdmsr(msr::kApicBase);
        for (const u64 value : {base ^ 0x800, base | 0x400, base ^ 0x1000, u64{0}}) { // off, x2APIC, elsewhere
            (void)attempt([=] { wrmsr(msr::kApicBase, value); });
            BANYAN_EXPECT_EQ(rdmsr(msr::kApicBase), base);
        }
        BANYAN_EXPECT_EQ(base, dt::kLapicBase | 0x900); // enabled, boot core
    });
    run_on(1, +look, address_of(after));
    for (u32 i = 0; i < 8; ++i) {
        BANYAN_EXPECT_EQ(after[i], before[i]);
    }
}

// x2APIC registers, what is beside the TSC deadline, machine checks of other makers, unknown numbers at every end of the space.
BANYAN_SELFTEST(an_msr_that_no_list_names_faults)
{
    run_in_domain([](u64) {
        for (u32 number = 0x800; number < 0x900; ++number) {
            BANYAN_EXPECT(msr_faults(number));
        }
        for (const u32 number : {0x3Au, 0x6E1u, 0x4D0u, 0x4B564D00u, 0x4000'0000u, 0x4000'0080u, 0xC000'0085u,
                                 0xC000'0104u, 0xC001'0EFFu, 0xC001'0F01u, 0xC001'1FFFu, 0xFFFF'FFFFu, 0x1FFFu}) {
            BANYAN_EXPECT(msr_faults(number));
        }
        BANYAN_EXPECT_EQ(rdmsr(msr::kPat), 0x0007'0406'0007'0406); // the core is still itself
    });
    BANYAN_EXPECT(ask("report domains.1.denied.msr") >= 256 * 3);
}

// Rules of a descriptor: a register that faults, one that is constant, and one whose lower half alone can be written.
BANYAN_SELFTEST(msr_rules_of_the_descriptor_hold)
{
    Domain d(1, [](u64) {
        BANYAN_EXPECT(msr_faults(0xC000'0081));
        expect_constant(0x175, 0x1234'5678'9ABC'DEF0);
        expect_constant(0xC001'0F77, 0x77);
        BANYAN_EXPECT_EQ(rdmsr(msr::kPat), 0x0007'0406'0007'0406);
        wrmsr(msr::kPat, 0x0707'0707'0606'0606);
        BANYAN_EXPECT_EQ(rdmsr(msr::kPat), 0x0007'0406'0606'0606); // bits out of the mask keep what they were
    });
    d.add_msr({0xC000'0081, dt::MsrAction::kFault, {}, 0, 0});
    d.add_msr({0x175, dt::MsrAction::kConstant, {}, 0x1234'5678'9ABC'DEF0, 0});
    d.add_msr({0xC001'0F77, dt::MsrAction::kConstant, {}, 0x77, 0});
    d.add_msr({msr::kPat, dt::MsrAction::kPass, {}, 0, 0xFFFF'FFFF});
    d.run();
}

// Every port but the descriptor's own: reads are ones, and 42h and 71h zero.
BANYAN_SELFTEST(denied_ports_read_the_tables_value)
{
    run_in_domain([](u64) {
        const u16 mine = scratch_port(1);
        for (u32 port = 0; port < 0x1'0000; port += port < 0x1000 ? 1 : 61) {
            if (port == mine) {
                continue;
            }
            const u8 expected = port == 0x42 || port == 0x71 ? 0 : 0xFF;
            BANYAN_EXPECT_EQ(in8(static_cast<u16>(port)), expected);
        }
        BANYAN_EXPECT_EQ(in16(0xCF8), 0xFFFF);
        BANYAN_EXPECT_EQ(in32(0xCFC), 0xFFFF'FFFF);
        BANYAN_EXPECT_EQ(in32(0x40), 0xFF00'FFFF);
        BANYAN_EXPECT_EQ(in16(0x70), 0x00FF);
        BANYAN_EXPECT_EQ(in16(mine - 1), 0xFFFF); // half of it is allowed: all of it is denied
        BANYAN_EXPECT_EQ(in16(mine), 0xFFFF);
        BANYAN_EXPECT_EQ(in32(mine - 3), 0xFFFF'FFFF);
        BANYAN_EXPECT_EQ(in32(0xFFFE), 0xFFFF'FFFF); // over the end of the port space
        out16(mine - 1, 0xAAAA);
        out16(mine, 0xAAAA);
        BANYAN_EXPECT_EQ(in8(mine), 0);
        out8(mine, 0x55);
        BANYAN_EXPECT_EQ(in8(mine), 0x55);
        // The string forms go the same way.
        u8 bytes[16];
        u64 to = address_of(bytes), count = 16;
        asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"(0x61) : "memory");
        for (const u8 byte : bytes) {
            BANYAN_EXPECT_EQ(byte, 0xFF);
        }
        to = address_of(bytes), count = 4;
        asm volatile("rep insl" : "+D"(to), "+c"(count) : "d"(0xCFC) : "memory");
        BANYAN_EXPECT_EQ(bytes[15], 0xFF);
    });
    BANYAN_EXPECT(ask("report domains.1.denied.port") > 4096);
}

// The guest writes to the ports that reset, switch off, reconfigure or take the machine over: reset control, keyboard
// controller, ACPI sleep, SMI command, A20, PCI configuration, fw_cfg DMA, debug exit, VAPIC, the 8259s, the timer. Passes
// if the host finds nothing changed.
BANYAN_SELFTEST(denied_port_writes_vanish)
{
    static u32 before[4], after[4];
    constexpr auto look = [](u64 into) {
        u32 *to = reinterpret_cast<u32 *>(into);
        out32(0xCF8, 0x8000'0000);
        to[0] = in32(0xCF8);
        to[1] = in8(0x21) | in8(0xA1) << 8 | (in8(0x61) & 0xF) << 16;
        out8(0x70, 0x50 | 0x80);
        to[2] = in8(0x71);
        out32(0xCF8, 0x8000'0060);
        to[3] = in32(0xCFC);
    };
    set_up_machine();
    look(address_of(before));
    run_in_domain([](u64) {
        for (const u16 port : {0xCF9, 0x64,  0x60,  0x92,  0xB2,  0xB3,  0x7E,   0xF4,   0x501, 0x604, 0x600, 0x20,
                               0x21,  0xA0,  0xA1,  0x43,  0x40,  0x61,  0x70,   0x71,   0x80,  0x3F8, 0x3F9, 0x2F8,
                               0x510, 0x511, 0x514, 0x518, 0xCF8, 0xCFC, 0xAE00, 0x5658, 0x402, 0xE9}) {
            for (const u32 value : {0x06u, 0xFEu, 0xD1u, 0x3400u, 0x2000u, 0xFFFF'FFFFu, 0u}) {
                out8(port, static_cast<u8>(value));
                out16(port, static_cast<u16>(value));
                out32(port, value);
            }
        }
        static const u8 bytes[] = {6, 0xFE, 0, 0xFF};
        u64 from = address_of(bytes), count = 4;
        asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(0xCF9) : "memory");
        BANYAN_EXPECT_EQ(read<u64>(0x10'0000 - 8) | 1, 1); // and A20 is not masked: this is not address 0
    });
    look(address_of(after));
    for (u32 i = 0; i < 4; ++i) {
        BANYAN_EXPECT_EQ(after[i], before[i]);
    }
}

// Registers that a guest needs are its own: they work, and keep nothing from the host or an earlier life.
BANYAN_SELFTEST(the_cores_own_registers_work_and_begin_fresh)
{
    Domain d(1, [](u64) {
        for (const u32 number :
             {0x174u, 0x175u, 0x176u, 0xC000'0081u, 0xC000'0082u, 0xC000'0083u, 0xC000'0084u, 0xC000'0102u}) {
            BANYAN_EXPECT_EQ(rdmsr(number), 0);
            wrmsr(number, 0x18);
            BANYAN_EXPECT_EQ(rdmsr(number), 0x18);
        }
        const u64 tsc = rdtsc();
        (void)attempt([] { wrmsr(msr::kTsc, 0); });
        BANYAN_EXPECT(rdtsc() >= tsc);
    });
    d.run();
    d.run();
}
