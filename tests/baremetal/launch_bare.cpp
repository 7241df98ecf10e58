// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/launch.hpp"
#include "tests/baremetal/lib/pci.hpp"
#include "tests/baremetal/lib/tpm.hpp"

// SKINIT on the bare core, without domains: with a vTPM and without.

using namespace banyan;
using namespace banyan::bare;

namespace {

/// The other cores wait for SIPI, as a loader leaves them.
void park_others()
{
    lapic::send(0, lapic::kInit | lapic::kOthers | lapic::kAssert);
    (void)ask("sleep ", 100u); // no register says when a core has taken its INIT
}

void expect_manuals_entry_state()
{
    const LaunchState s = launch_state;
    BANYAN_EXPECT_EQ(s.eax, kSlb);
    BANYAN_EXPECT_EQ(s.edx, cpuid(1).eax);
    BANYAN_EXPECT_EQ(s.esp, kSlb + kSlbSize);
    BANYAN_EXPECT_EQ(s.eip, kSlb + kSlbEntry);
    BANYAN_EXPECT_EQ(s.ebx | s.ecx | s.esi | s.edi | s.ebp, 0);
    BANYAN_EXPECT_EQ(launch_high, 0);
    BANYAN_EXPECT_EQ(s.cr0, 0x11);
    BANYAN_EXPECT_EQ(s.cr2 | s.cr3 | s.cr4, 0);
    BANYAN_EXPECT_EQ(s.efer, 0);
    BANYAN_EXPECT_EQ(s.dr6, 0xFFFF'0FF0);
    BANYAN_EXPECT_EQ(s.dr7, 0x400);
    BANYAN_EXPECT_EQ(s.vm_cr, kVmCrDpd | kVmCrRInit | kVmCrDisA20m);
    BANYAN_EXPECT_EQ(s.cs, 0x08);
    BANYAN_EXPECT_EQ(s.ss, 0x10);
    BANYAN_EXPECT_EQ(s.ds | s.es | s.fs | s.gs, 0);
    BANYAN_EXPECT_EQ(s.gdt_base | s.idt_base, 0);
    BANYAN_EXPECT_EQ(launch_xmm5, 0x5EED'5EED'5EED'5EED);
}

/// GIF set and INIT plain again, as a loader leaves the machine to what it boots.
void settle()
{
    wrmsr(msr::kVmCr, rdmsr(msr::kVmCr) & ~kVmCrRInit);
    stgi();
}

} // namespace

BANYAN_SELFTEST(the_processor_says_that_it_has_skinit)
{
    const bool has = (cpuid(0x8000'0001).ecx >> 12 & 1) != 0;
    BANYAN_EXPECT_EQ(has, machine_has("skinit"));
}

// Without the CPUID bit and with EFER.SVME clear the instruction is undefined.
BANYAN_SELFTEST(without_skinit_and_svme_it_is_undefined)
{
    if (machine_has("skinit")) {
        skip("a processor with SKINIT");
    }
    wrmsr(msr::kEfer, rdmsr(msr::kEfer) & ~kEferSvme);
    BANYAN_EXPECT(attempt([] { launch_now(kSlb); }).is(kUd));
    asm volatile("cld");
}

// The firmware has left the other cores halted, not waiting for SIPI: SKINIT shuts the machine down, which a PC turns into
// a reset.
BANYAN_SELFTEST(skinit_beside_a_running_core_shuts_the_machine_down)
{
    if (!machine_has("skinit")) {
        skip("a processor without SKINIT");
    }
    if (boot_phase() != 0) {
        return;
    }
    start_core(1);
    make_block(kSlb, 0x200);
    expect_reset(1);
    launch();
    BANYAN_EXPECT(false);
}

BANYAN_SELFTEST(skinit_on_an_application_core_faults)
{
    if (!machine_has("skinit")) {
        skip("a processor without SKINIT");
    }
    static Fault fault;
    start_core(1);
    run_on(1, [](u64) {
        fault = attempt([] { launch_now(kSlb); });
        asm volatile("cld");
    });
    BANYAN_EXPECT(fault.is(kGp));
    park_others();
}

BANYAN_SELFTEST(skinit_enters_the_block_as_the_manual_says)
{
    if (!machine_has("skinit")) {
        skip("a processor without SKINIT");
    }
    park_others();
    make_block(kSlb, 0x200);
    launch();
    expect_manuals_entry_state();
    settle();
}

BANYAN_SELFTEST(skinit_leaves_no_flag_set)
{
    if (!machine_has("skinit")) {
        skip("a processor without SKINIT");
    }
    park_others();
    make_block(kSlb, 0x200);
    launch(kSlb + 0x1234);
    settle();
    BANYAN_EXPECT_EQ(launch_state.eflags, 2);
}

BANYAN_SELFTEST(interrupts_wait_until_stgi_after_skinit)
{
    if (!machine_has("skinit")) {
        skip("a processor without SKINIT");
    }
    park_others();
    make_block(kSlb, 0x200);
    lapic::set(lapic::kIcrLow, lapic::kFixed | lapic::kAssert | lapic::kSelf | 0x50);
    const u32 before = this_core().interrupts[0x50];
    const u32 nmis = this_core().interrupts[kNmi];
    launch();
    lapic::set(lapic::kIcrLow, lapic::kNmiMode | lapic::kAssert | lapic::kSelf);
    sti();
    spin(5 * kMillisecond);
    BANYAN_EXPECT_EQ(this_core().interrupts[0x50] - before, 0);
    BANYAN_EXPECT_EQ(this_core().interrupts[kNmi] - nmis, 0);
    stgi(); // EFER.SVME is 0
    spin(5 * kMillisecond);
    cli();
    BANYAN_EXPECT_EQ(this_core().interrupts[0x50] - before, 1);
    BANYAN_EXPECT_EQ(this_core().interrupts[kNmi] - nmis, 1);
    // An INIT of the core itself is #SX(1) now.
    const Fault fault = attempt([] {
        lapic::set(lapic::kIcrHigh, 0);
        lapic::set(lapic::kIcrLow, lapic::kInit | lapic::kAssert);
        spin(5 * kMillisecond);
    });
    BANYAN_EXPECT(fault.is(kSx));
    BANYAN_EXPECT_EQ(fault.error, 1);
    settle();
}

BANYAN_SELFTEST(a_block_that_is_not_all_ram_faults)
{
    if (!machine_has("skinit")) {
        skip("a processor without SKINIT");
    }
    park_others();
    for (const u32 at : {0xFED4'0000u, 0xFFFF'0000u, 0xFEE0'0000u, 0x1000'0000u, 0xB000'0000u}) { // 256 MiB of RAM
        const Fault fault = attempt([=] { launch_now(at); });
        asm volatile("cld");
        BANYAN_EXPECT(fault.is(kGp));
        BANYAN_EXPECT_EQ(fault.error, 0);
    }
}

namespace {

/// Runs `body` with CPL 3; a fault comes back.
Fault attempt_as_user(void (*body)())
{
    static u8 stack[4096];
    alignas(16) static u64 gdt[10];
    alignas(16) static u32 tss[26];
    struct [[gnu::packed]] Table {
        u16 limit;
        u64 base;
    } old;
    asm volatile("sgdt %0" : "=m"(old));
    for (u32 i = 0; i < 8; ++i) {
        gdt[i] = read<u64>(old.base + i * 8);
    }
    static u8 ring0[4096];
    const u64 rsp0 = address_of(ring0 + sizeof ring0);
    tss[1] = static_cast<u32>(rsp0);
    tss[2] = static_cast<u32>(rsp0 >> 32);
    const u64 base = address_of(tss);
    gdt[8] = (sizeof tss - 1) | (base & 0xFF'FFFF) << 16 | 0x89ull << 40 | (base >> 24 & 0xFF) << 56;
    gdt[9] = base >> 32;
    const Table mine{sizeof gdt - 1, address_of(gdt)};
    const Fault fault = attempt([&] {
        asm volatile("lgdt %0\n mov $0x40, %%eax\n ltr %%ax" : : "m"(mine) : "rax", "memory");
        asm volatile("push $0x33\n push %0\n push $2\n push $0x3B\n push %1\n iretq"
                     :
                     : "r"(stack + sizeof stack), "r"(body)
                     : "memory");
    });
    asm volatile("lgdt %0" : : "m"(old));
    return fault;
}

} // namespace

BANYAN_SELFTEST(skinit_is_privileged)
{
    if (!machine_has("skinit")) {
        skip("a processor without SKINIT");
    }
    park_others();
    const Fault fault = attempt_as_user([] { asm volatile("skinit %%eax" : : "a"(kSlb)); });
    BANYAN_EXPECT(fault.is(kGp));
    BANYAN_EXPECT_EQ(fault.error, 0);
    BANYAN_EXPECT_EQ(rdmsr(msr::kVmCr) & kVmCrRInit, 0);
}

// In an ordinary SVM guest SKINIT obeys its intercept.
BANYAN_SELFTEST(skinit_in_an_ordinary_guest_is_intercepted)
{
    if (!machine_has("skinit")) {
        skip("a processor without SKINIT");
    }
    static Vmcb vmcb;
    static u8 host_save[4096] __attribute__((aligned(4096)));
    static ExitState state;
    static const u8 code[] = {0x0F, 0x01, 0xDE};
    wrmsr(msr::kEfer, rdmsr(msr::kEfer) | kEferSvme);
    wrmsr(msr::kVmHsavePa, address_of(host_save));
    vmcb.intercepts[3] = 1u << 31;
    vmcb.intercepts[4] = 1 | 1u << 6; // VMRUN, SKINIT
    vmcb.guest_asid = 1;
    vmcb.es = vmcb.ss = vmcb.ds = vmcb.fs = vmcb.gs = {0x10, 0xC93, 0xFFFF'FFFF, 0};
    vmcb.cs = {0x18, 0xC9B, 0xFFFF'FFFF, 0};
    vmcb.efer = kEferSvme;
    vmcb.cr0 = 0x11;
    vmcb.dr6 = 0xFFFF'0FF0;
    vmcb.dr7 = 0x400;
    vmcb.rflags = 2;
    vmcb.rip = address_of(code);
    vmrun_probe(address_of(&vmcb), &state);
    stgi();
    wrmsr(msr::kEfer, rdmsr(msr::kEfer) & ~kEferSvme);
    BANYAN_EXPECT_EQ(vmcb.exit_code, 0x86);
}

// PCR 17 of instance 0 is the measure of the block, computed apart from the machine's memory.
BANYAN_SELFTEST(pcr_17_is_the_measure_of_the_block)
{
    if (!machine_has("vtpm")) {
        skip("a machine without vTPM");
    }
    park_others();
    u8 seed = 0;
    for (const u32 measured : {0x200u, 1u, 4u, 0x1000u, 0x1001u, 0xFFFFu, 0u}) {
        make_block(kSlb, static_cast<u16>(measured), ++seed);
        u8 expected[52];
        const u32 size = measured == 0 ? 0x1'0000 : measured;
        for (u32 i = 0; i < 48; i += 3) {
            expected[i] = static_cast<u8>(ask("pcr17 sha384 ", u64{kSlb}, " ", u64{size}, " ", u64{i}));
        }
        launch();
        settle();
        u8 pcr[48];
        BANYAN_EXPECT(tpm::request(0));
        BANYAN_EXPECT_EQ(tpm::pcr_read(0, 17, tpm::kSha384, pcr), 0);
        for (u32 i = 0; i < 48; i += 3) {
            BANYAN_EXPECT_EQ(pcr[i], expected[i]);
        }
    }
}

// Without a TPM SKINIT completes all the same: it is one-way.
BANYAN_SELFTEST(skinit_completes_without_a_tpm)
{
    if (machine_has("vtpm") || !machine_has("skinit")) {
        skip("a machine with a vTPM, or without SKINIT");
    }
    park_others();
    for (u32 i = 0; i < 3; ++i) {
        make_block(kSlb, 0x200);
        launch();
        expect_manuals_entry_state();
        settle();
    }
}

namespace {

constexpr u32 kEduBar = 0xE100'0000;

bool set_up_edu()
{
    const pci::Function edu = pci::find(0x1234, 0x11E8);
    if (edu.found) {
        pci::write(edu, pci::kBar0, kEduBar);
        pci::write(edu, pci::kCommand, pci::kMemory | pci::kMaster);
    }
    return edu.found;
}

/// Four zero bytes out of the device's buffer to `address`.
bool edu_clears(u64 address)
{
    write<u64>(kEduBar + 0x80, 0x40000);
    write<u64>(kEduBar + 0x88, address);
    write<u64>(kEduBar + 0x90, 4);
    write<u64>(kEduBar + 0x98, 3);
    return eventually([] { return (read<u32>(kEduBar + 0x98) & 1) == 0; });
}

void launch_with_a_mark()
{
    park_others();
    make_block(kSlb, 0x200);
    write<u32>(kSlb + 0x8000, 0x1234'5678);
    write<u32>(kSlb + 0x1'0000, 0x1234'5678);
    launch();
    settle();
}

} // namespace

// The block's 64 KiB are closed to devices from the launch on.
BANYAN_SELFTEST(a_device_cannot_write_into_the_launched_block)
{
    if (!machine_has("skinit") || !set_up_edu()) {
        skip("a machine without SKINIT or without the device edu");
    }
    launch_with_a_mark();
    BANYAN_EXPECT(edu_clears(kSlb + 0x8000));
    BANYAN_EXPECT(edu_clears(kSlb + 0x1'0000));
    BANYAN_EXPECT_EQ(read<u32>(kSlb + 0x8000), 0x1234'5678);
    BANYAN_EXPECT_EQ(read<u32>(kSlb + 0x1'0000), 0); // behind the block the device works
}

// A loader finds the DEV capability at 00:18.3, sees the closure in DEV_CR, and lifts it there.
BANYAN_SELFTEST(a_loader_lifts_the_closure_through_dev)
{
    if (!machine_has("skinit") || !set_up_edu()) {
        skip("a machine without SKINIT or without the device edu");
    }
    const pci::Function dev{true, 0, 0x18 << 3 | 3};
    constexpr u32 kDevCr = 4 << 8;
    constexpr u32 kSlDevEn = 1u << 5;
    BANYAN_EXPECT((pci::read(dev, 0x04) >> 16 & 0x10) != 0); // status: capabilities list
    u32 at = pci::read(dev, 0x34) & 0xFC;
    while (at != 0 && (pci::read(dev, at) & 0xFF) != 0x0F) {
        at = pci::read(dev, at) >> 8 & 0xFC;
    }
    BANYAN_EXPECT_EQ(at, 0xF0);
    pci::write(dev, at + 4, kDevCr);
    pci::write(dev, at + 8, 0); // an earlier launch's
    BANYAN_EXPECT_EQ(pci::read(dev, at + 8) & kSlDevEn, 0);
    launch_with_a_mark();
    BANYAN_EXPECT_EQ(pci::read(dev, at + 8) & kSlDevEn, kSlDevEn);
    pci::write(dev, at + 8, pci::read(dev, at + 8) & ~kSlDevEn);
    BANYAN_EXPECT_EQ(pci::read(dev, at + 8) & kSlDevEn, 0);
    BANYAN_EXPECT(edu_clears(kSlb + 0x8000));
    BANYAN_EXPECT_EQ(read<u32>(kSlb + 0x8000), 0);
    pci::write(dev, at + 8, kSlDevEn); // only the processor closes it
    BANYAN_EXPECT_EQ(pci::read(dev, at + 8) & kSlDevEn, 0);
}

// The same at word 384h of 00:18.0, where processors of family 17h have it: extended configuration space.
BANYAN_SELFTEST(a_loader_lifts_the_closure_as_on_family_17h)
{
    if (!machine_has("skinit") || !set_up_edu()) {
        skip("a machine without SKINIT or without the device edu");
    }
    constexpr u64 kWord = 0xB000'0000 + (0x18ull << 15) + 0x384;
    write<u32>(kWord, 0); // an earlier launch's
    BANYAN_EXPECT_EQ(read<u32>(kWord) & 1, 0);
    launch_with_a_mark();
    BANYAN_EXPECT_EQ(read<u32>(kWord) & 1, 1);
    write<u32>(kWord, read<u32>(kWord) & ~1u);
    BANYAN_EXPECT_EQ(read<u32>(kWord) & 1, 0);
    BANYAN_EXPECT(edu_clears(kSlb + 0x8000));
    BANYAN_EXPECT_EQ(read<u32>(kSlb + 0x8000), 0);
}

// A core that waits starts after the launch with GIF clear and R_INIT set: its wake-up interrupt does not come.
BANYAN_SELFTEST(a_core_that_waits_starts_after_the_launch_with_gif_clear)
{
    if (!machine_has("skinit")) {
        skip("a processor without SKINIT");
    }
    park_others();
    make_block(kSlb, 0x200);
    launch();
    settle();
    BANYAN_EXPECT(try_start_core(1, false, 20 * kSecond));
    begin_on(
        1, [](u64) {}, 0);
    BANYAN_EXPECT(!finished_on(1, 20 * kMillisecond));
}
