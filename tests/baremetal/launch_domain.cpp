// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/domain.hpp"
#include "tests/baremetal/lib/launch.hpp"
#include "tests/baremetal/lib/tpm.hpp"

// SKINIT in a domain.

using namespace banyan;
using namespace banyan::bare;

namespace {

void expect_manuals_entry_state(u32 eax)
{
    const LaunchState s = launch_state;
    const u32 slb = eax & 0xFFFF'0000;
    BANYAN_EXPECT_EQ(s.eax, slb);
    BANYAN_EXPECT_EQ(s.edx, cpuid(1).eax);
    BANYAN_EXPECT_EQ(s.esp, slb + kSlbSize);
    BANYAN_EXPECT_EQ(s.eip, slb + kSlbEntry);
    BANYAN_EXPECT_EQ(s.ebx | s.ecx | s.esi | s.edi | s.ebp, 0);
    BANYAN_EXPECT_EQ(launch_high, 0); // R8 to R15
    BANYAN_EXPECT_EQ(s.cr0, 0x11);
    BANYAN_EXPECT_EQ(s.cr2, 0);
    BANYAN_EXPECT_EQ(s.cr3, 0);
    BANYAN_EXPECT_EQ(s.cr4, 0);
    BANYAN_EXPECT_EQ(s.efer, 0);
    BANYAN_EXPECT_EQ(s.dr6, 0xFFFF'0FF0);
    BANYAN_EXPECT_EQ(s.dr7, 0x400);
    BANYAN_EXPECT_EQ(s.vm_cr & 7, kVmCrDpd | kVmCrRInit | kVmCrDisA20m);
    BANYAN_EXPECT_EQ(s.cs, 0x08);
    BANYAN_EXPECT_EQ(s.ss, 0x10);
    BANYAN_EXPECT_EQ(s.ds | s.es | s.fs | s.gs, 0);
    BANYAN_EXPECT_EQ(s.gdt_base | s.idt_base, 0);
    BANYAN_EXPECT_EQ(s.gdt_limit & s.idt_limit, 0xFFFF);
    BANYAN_EXPECT_EQ(launch_xmm5, 0x5EED'5EED'5EED'5EED); // vector registers stay
}

} // namespace

// Domain 1 launches a block whose code writes down every register. Passes if they are what the manual says.
BANYAN_SELFTEST(skinit_enters_the_block_as_the_manual_says)
{
    Domain d(1, [](u64) {
        make_block(kSlb, 0x200);
        launch();
        expect_manuals_entry_state(kSlb);
    });
    d.run();
    BANYAN_EXPECT_EQ(d.report("launch_count"), 1);
}

// EFLAGS are 2, although the direction flag and arithmetic flags were set.
BANYAN_SELFTEST(skinit_leaves_no_flag_set)
{
    Domain d(1, [](u64) {
        make_block(kSlb, 0x200);
        launch();
        BANYAN_EXPECT_EQ(launch_state.eflags, 2);
    });
    d.run();
}

BANYAN_SELFTEST(skinit_ignores_the_low_half_of_eax)
{
    Domain d(1, [](u64) {
        make_block(kSlb, 0x200);
        launch(kSlb + 0xFFFF);
        expect_manuals_entry_state(kSlb);
    });
    d.run();
}

// An interrupt, an NMI and an INIT that were raised before come after STGI: the first two as such, INIT as #SX(1).
BANYAN_SELFTEST(interrupts_wait_until_stgi_after_skinit)
{
    Domain d(1, [](u64) {
        make_block(kSlb, 0x200);
        lapic::set(lapic::kIcrLow, lapic::kFixed | lapic::kAssert | lapic::kSelf | 0x50);
        launch();
        lapic::set(lapic::kIcrLow, lapic::kNmiMode | lapic::kAssert | lapic::kSelf);
        sti();
        spin(5 * kMillisecond);
        BANYAN_EXPECT_EQ(this_core().interrupts[0x50], 0);
        BANYAN_EXPECT_EQ(this_core().interrupts[kNmi], 0);
        stgi(); // EFER.SVME is 0: legal, because there is SKINIT
        spin(5 * kMillisecond);
        BANYAN_EXPECT_EQ(this_core().interrupts[0x50], 1);
        BANYAN_EXPECT_EQ(this_core().interrupts[kNmi], 1);
        BANYAN_EXPECT(attempt([] { clgi(); }).is(kUd)); // CLGI wants EFER.SVME
    });
    d.run();
}

// A block at an address that is not all RAM of one range: behind the end, over the end, in the own page, in another
// domain's RAM by its physical address, at the end of the address space. Each is #GP(0) and changes nothing.
BANYAN_SELFTEST(a_block_that_is_not_all_ram_faults)
{
    Domain d(1, [](u64) {
        make_block(kSlb, 0x200);
        for (const u32 at : {static_cast<u32>(kSliceSize), static_cast<u32>(kSliceSize - 0x1'0000), 0xFED5'0000u,
                             0xFFFF'0000u, static_cast<u32>(slice(2)), 0xE001'0000u}) {
            const Fault fault = attempt([=] { launch_now(at); });
            asm volatile("cld");
            BANYAN_EXPECT(fault.is(kGp));
            BANYAN_EXPECT_EQ(fault.error, 0);
        }
        BANYAN_EXPECT_EQ(rdmsr(msr::kVmCr), 0);
        launch();
    });
    d.descriptor().ranges[0].size = kSliceSize - 0x1000;
    d.run();
    BANYAN_EXPECT_EQ(d.report("launch_count"), 1);
}

BANYAN_SELFTEST(skinit_on_a_domains_other_core_faults)
{
    Domain d(
        1,
        [](u64) {
            make_block(kSlb, 0x200);
            start_core(2);
            run_on(2, [](u64) {
                const Fault fault = attempt([] { launch_now(kSlb); });
                asm volatile("cld");
                guest::result(0, fault.vector);
            });
        },
        0, 1u << 1 | 1u << 2);
    d.run();
    BANYAN_EXPECT_EQ(d.result(0), kGp);
}

// The domain's second core runs, or halts, while the first executes SKINIT: the domain ends with reason "sibling".
BANYAN_SELFTEST(skinit_beside_a_running_sibling_ends_the_domain)
{
    Domain d(
        1,
        [](u64) {
            make_block(kSlb, 0x200);
            start_core(2); // it halts, with interrupts on
            launch();
            guest::reboot();
        },
        0, 1u << 1 | 1u << 2);
    d.start();
    d.wait();
    BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kSibling);
    BANYAN_EXPECT_EQ(entering(1).exit_code, dt::ExitCode::kShutdown);
    BANYAN_EXPECT_EQ(d.report("launch_count"), 0);
}

// The second core waits for SIPI. After the launch it can be started: with GIF clear and R_INIT set, as the manual says.
BANYAN_SELFTEST(a_sibling_that_waits_starts_after_the_launch_with_gif_clear)
{
    Domain d(
        1,
        [](u64) {
            make_block(kSlb, 0x200);
            launch();
            stgi();
            prepare_trampoline(2);
            lapic::send(2, lapic::kStartup | lapic::kAssert | kTrampoline >> 12);
            BANYAN_EXPECT(eventually([] { return core_is_idle(2); })); // it halts, waiting for its wake-up interrupt
            begin_on(
                2, [](u64) { guest::result(0, rdmsr(msr::kVmCr)); }, 0);
            BANYAN_EXPECT(!finished_on(2, 20 * kMillisecond)); // which GIF holds back
        },
        0, 1u << 1 | 1u << 2);
    d.start();
    d.wait();
    const dt::EndReason why = d.reason();
    d.remove();
    BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
}

// The boot core sends SIPI to the waiting core and executes SKINIT at once. Whatever becomes of the SIPI, no code but the
// block's may run in the domain from then on: the domain ends, or the sibling stays where it is.
BANYAN_SELFTEST(a_sipi_sent_before_skinit_starts_no_core_beside_the_block)
{
    for (u32 life = 0; life < 10; ++life) { // whether the SIPI is taken before or after the check is a race
        Domain d(
            1,
            [](u64) {
                make_block(kSlb, 0x200);
                static const u8 code[] = {0x2E, 0xFF, 0x06, 0x80, 0x00, 0xEB, 0xF9}; // 1: incw %cs:0x80; jmp 1b
                for (u32 i = 0; i < sizeof code; ++i) {
                    write<u8>(0x9000 + i, code[i]);
                }
                write<u16>(0x9080, 0);
                lapic::set(lapic::kIcrHigh, 2u << 24);
                lapic::set(lapic::kIcrLow, lapic::kStartup | lapic::kAssert | 0x09);
                launch();
                spin(20 * kMillisecond);
                guest::result(0, read<u16>(0x9080));
            },
            0, 1u << 1 | 1u << 2);
        d.start();
        d.wait();
        const dt::EndReason why = d.reason();
        d.remove();
        if (why != dt::EndReason::kSibling) {
            BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
            BANYAN_EXPECT_EQ(d.result(0), 0);
        }
    }
}

// The guest ends itself and executes SKINIT in the same breath. Passes if that starts no launch: neither the host's core
// that the domain leaves behind, nor the domain's next life, is touched by it.
BANYAN_SELFTEST(a_domain_that_has_ended_launches_nothing)
{
    static volatile u32 worked;
    for (u32 life = 1; life <= 20; ++life) {
        Domain d(1, [](u64) {
            make_block(kSlb, 0x200);
            asm volatile("movb %b0, (%1)\n skinit %%eax"
                         :
                         : "a"(kSlb | dt::own::kSleepEnable), "r"(dt::kOwnPageBase + dt::own::kSleepControl)
                         : "memory");
        });
        d.start();
        d.wait();
        BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kPoweroff);
        BANYAN_EXPECT_EQ(d.report("launch_count"), 0);
        worked = 0;
        run_on(
            1, [](u64 argument) { worked = static_cast<u32>(argument); }, life); // the core is the host's
        BANYAN_EXPECT_EQ(worked, life);
    }
}

// A domain of two cores launches and ends without having started its second core. Passes if that core, back with the host,
// starts by INIT and SIPI as any core does: GIF set, no R_INIT.
BANYAN_SELFTEST(a_launch_leaves_no_mark_on_a_core_that_goes_back_to_the_host)
{
    Domain d(
        1,
        [](u64) {
            spin(20 * kMillisecond);
            make_block(kSlb, 0x200);
            launch();
        },
        0, 1u << 1 | 1u << 2);
    d.start();
    d.wait();
    BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kPoweroff);
    for (u32 core = 1; core < 3; ++core) {
        start_core(core);
        static u64 vm_cr;
        begin_on(
            core, [](u64) { vm_cr = rdmsr(msr::kVmCr); }, 0);
        BANYAN_EXPECT(finished_on(core, kSecond)); // the wake-up interrupt comes: GIF is set
        BANYAN_EXPECT_EQ(vm_cr, 0);
    }
}

// A launch resets PCR 17 and extends it by the measured bytes, in each bank, in the domain's own instance. Lengths: tiny,
// chunk boundaries, the largest, and 0, which measures all 64 KiB. The expected value is computed apart, from the machine's
// memory.
BANYAN_SELFTEST(pcr_17_is_the_measure_of_the_block)
{
    static constexpr tpm::Bank kBanks[] = {tpm::kSha1, tpm::kSha256, tpm::kSha384};
    u32 seed = 0;
    for (const u32 measured : {0x200u, 4u, 1u, 0x1000u, 0x1001u, 0xFFFFu, 0u}) {
        Domain d(
            1,
            [](u64 argument) {
                make_block(kSlb, static_cast<u16>(argument), static_cast<u8>(argument >> 16));
                guest::signal(1);
                guest::await(2);
                launch();
                BANYAN_EXPECT(tpm::request(0));
                u32 index = 0;
                for (const tpm::Bank bank : kBanks) {
                    u8 pcr[48];
                    BANYAN_EXPECT_EQ(tpm::pcr_read(0, 17, bank, pcr), 0);
                    for (u32 i = 0; i < tpm::size_of(bank); ++i) {
                        guest::result(index++, pcr[i]);
                    }
                }
            },
            measured | ++seed << 16);
        d.start();
        d.await(1);
        u8 expected[100];
        u32 index = 0;
        const u32 size = measured == 0 ? 0x1'0000 : measured;
        for (const tpm::Bank bank : kBanks) {
            for (u32 i = 0; i < tpm::size_of(bank); i += 4) {
                expected[index + i] = static_cast<u8>(
                    ask("pcr17 ", tpm::name_of(bank), " ", slice(1) + kSlb, " ", u64{size}, " ", u64{i}));
            }
            index += tpm::size_of(bank);
        }
        d.signal(2);
        d.wait();
        const dt::EndReason why = d.reason();
        d.remove();
        BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
        for (u32 i = 0; i < 100; i += 4) {
            BANYAN_EXPECT_EQ(d.result(i), expected[i]);
        }
    }
}

// The launched block's 64 KiB are closed to DMA until the loader lifts it through its own page, which says so.
BANYAN_SELFTEST(the_launch_window_is_closed_until_it_is_lifted)
{
    Domain d(1, [](u64) {
        const auto closed = [] { return read<u32>(dt::kOwnPageBase + dt::own::kSlDev); };
        BANYAN_EXPECT_EQ(closed(), 0);
        make_block(kSlb, 0x200);
        launch();
        BANYAN_EXPECT_EQ(closed(), 1);
        write<u32>(dt::kOwnPageBase + dt::own::kSlDev, 1);
        BANYAN_EXPECT_EQ(closed(), 1);
        write<u32>(dt::kOwnPageBase + dt::own::kSlDev, 0);
        BANYAN_EXPECT_EQ(closed(), 0);
        write<u32>(dt::kOwnPageBase + dt::own::kSlDev, 1); // software cannot close it
        BANYAN_EXPECT_EQ(closed(), 0);
    });
    d.run();
}

BANYAN_SELFTEST(a_domain_can_launch_again)
{
    Domain d(1, [](u64) {
        for (u32 i = 0; i < 3; ++i) {
            make_block(kSlb + i * kSlbSize, 0x200);
            launch(kSlb + i * kSlbSize);
            expect_manuals_entry_state(kSlb + i * kSlbSize);
        }
    });
    d.run();
    BANYAN_EXPECT_EQ(d.report("launch_count"), 3);
}

// The host launches a block of its own whose second half belongs to a sealed domain: it would be measured, and the measure
// tells what is in there. Passes if that is #GP(0). Then the whole block is the host's, and it launches.
BANYAN_SELFTEST(the_host_cannot_measure_a_closed_domains_ram)
{
    Domain d(1, [](u64) {
        guest::signal(1);
        guest::await(2);
    });
    constexpr u64 kHalf = 0x8000;
    d.descriptor().ranges[0] = {kHalf, slice(1) + kHalf, kSliceSize - kHalf};
    make_block(static_cast<u32>(slice(1)), 0);
    make_block(kSlb, 0x200);
    d.start();
    d.await(1);
    for (u32 core = 2; core < 4; ++core) { // all cores of the host wait; the domain's does not count
        lapic::send(core, lapic::kInit | lapic::kAssert);
    }
    (void)ask("sleep ", 100u);
    const Fault fault = attempt([] { launch_now(static_cast<u32>(slice(1))); });
    asm volatile("cld");
    BANYAN_EXPECT(fault.is(kGp));
    launch();
    wrmsr(msr::kVmCr, 0);
    stgi();
    BANYAN_EXPECT_EQ(launch_state.eip, kSlb + kSlbEntry);
    BANYAN_EXPECT_EQ(ask("report host.launch_count"), 1);
    d.signal(2);
    d.wait();
    BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kPoweroff);
}
