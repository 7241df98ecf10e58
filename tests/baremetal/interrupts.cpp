// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/deadline_rules.hpp"
#include "tests/baremetal/lib/domain.hpp"
#include "tests/baremetal/lib/init_rules.hpp"

// Interrupts stay in the domain that sends them, whatever the local APIC is told; inside, they work.

using namespace banyan;
using namespace banyan::bare;

namespace {

constexpr u8 kVector = 0x51;

u32 taken(const PerCore &core)
{
    u32 sum = 0;
    for (u32 vector = 0; vector < 256; ++vector) {
        sum += core.interrupts[vector];
    }
    return sum;
}

/// Domain 2 takes interrupts all the while, and fails if one came.
void hears_nothing(u64)
{
    sti();
    guest::signal(1);
    guest::await(2);
    cli();
    BANYAN_EXPECT_EQ(taken(this_core()), 0);
    const u64 id = lapic::get(lapic::kId);
    BANYAN_EXPECT_EQ(id, 2u << 24);
}

volatile bool listening;
volatile u32 heard;

/// A host core that takes interrupts until listening is false.
void listens(u64)
{
    const u32 before = taken(this_core());
    sti();
    while (listening) {
        pause();
    }
    cli();
    heard = taken(this_core()) - before;
}

/// Runs `main` in domain 1 beside domain 2 and two host cores that listen; fails if anyone but domain 1 heard a thing.
void send_from_domain_1(GuestMain main, u64 core_mask = 2)
{
    Domain two(2, hears_nothing);
    two.start();
    two.await(1);
    heard = 0;
    listening = true;
    begin_on(3, listens, 0);
    Domain one(1, main, 0, core_mask);
    one.start();
    const u32 before = taken(this_core());
    sti();
    one.wait();
    const dt::EndReason why = one.reason();
    spin(5 * kMillisecond);
    cli();
    BANYAN_EXPECT_EQ(taken(this_core()) - before, 0);
    listening = false;
    BANYAN_EXPECT(finished_on(3)); // it was not reset either
    BANYAN_EXPECT_EQ(heard, 0);
    one.remove();
    BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
    BANYAN_EXPECT_EQ(two.state(), dt::State::kRunning);
    two.signal(2);
    two.wait();
    const dt::EndReason of_two = two.reason();
    two.remove();
    BANYAN_EXPECT_EQ(of_two, dt::EndReason::kPoweroff);
}

constexpr u32 kModes[] = {lapic::kFixed,   lapic::kLowest, lapic::kSmi,     3u << 8,
                          lapic::kNmiMode, lapic::kInit,   lapic::kStartup, 7u << 8};

} // namespace

// Every delivery mode, physical destinations of all cores and the broadcast, edge and level, asserted and not.
BANYAN_SELFTEST(an_ipi_to_a_physical_destination_stays_inside)
{
    send_from_domain_1([](u64) {
        for (const u32 mode : kModes) {
            for (const u32 destination : {0u, 2u, 3u, 4u, 0xFEu, 0xFFu}) {
                if (destination == 0xFF &&
                    (mode == lapic::kInit || mode == lapic::kNmiMode || mode <= lapic::kLowest)) {
                    continue; // reaches itself
                }
                for (const u32 more : {lapic::kAssert, 0u, lapic::kLevel | lapic::kAssert, lapic::kLevel}) {
                    lapic::send(destination, mode | more | kVector);
                }
            }
        }
        BANYAN_EXPECT_EQ(taken(this_core()), 0);
    });
    BANYAN_EXPECT(ask("report domains.1.denied.interrupt") > 50);
}

// The same with logical destinations, flat and in clusters, which the sender cannot know the others' of: it tries them all.
BANYAN_SELFTEST(an_ipi_to_a_logical_destination_stays_inside)
{
    set_up_machine();
    lapic::set(lapic::kDestinationFormat, 0xFFFF'FFFF);
    lapic::set(lapic::kLogicalDestination, 1u << 24);
    send_from_domain_1([](u64) {
        lapic::set(lapic::kLogicalDestination, 0x80u << 24);
        for (const u32 format : {0xFFFF'FFFFu, 0x0FFF'FFFFu}) {
            lapic::set(lapic::kDestinationFormat, format);
            for (const u32 mode : kModes) {
                for (u32 destination = 1; destination < 0x80; ++destination) {
                    lapic::send(destination, mode | lapic::kLogical | lapic::kAssert | kVector);
                }
            }
        }
        BANYAN_EXPECT_EQ(taken(this_core()), 0);
    });
}

// All excluding self, in every mode: with one core in the domain that is nobody.
BANYAN_SELFTEST(an_ipi_to_all_others_stays_inside)
{
    send_from_domain_1([](u64) {
        for (const u32 mode : kModes) {
            for (const u32 more : {lapic::kAssert, 0u, lapic::kLevel | lapic::kAssert, lapic::kLevel}) {
                lapic::send(0, mode | lapic::kOthers | more | kVector);
            }
        }
        BANYAN_EXPECT_EQ(taken(this_core()), 0);
    });
}

// All including self, and self: they reach the sender, fixed and NMI, and nobody else; SMI reaches nobody.
BANYAN_SELFTEST(an_ipi_to_all_reaches_the_sender_alone)
{
    send_from_domain_1([](u64) {
        for (const u32 mode : {lapic::kFixed, lapic::kNmiMode, lapic::kSmi}) {
            for (const u32 whom : {lapic::kAll, lapic::kSelf}) {
                lapic::send(0, mode | whom | lapic::kAssert | kVector);
                sti();
                spin(kMillisecond);
                cli();
            }
        }
        BANYAN_EXPECT_EQ(this_core().interrupts[kVector], 2);
        BANYAN_EXPECT_EQ(this_core().interrupts[kNmi], 2);
        BANYAN_EXPECT_EQ(taken(this_core()), 4);
    });
}

// A store into the first 16 bytes of the local APIC's page, or beyond its 4 KiB, is an interrupt message on a PC: with a
// delivery mode and a destination of the writer's choice. From a core of a domain it is nothing.
BANYAN_SELFTEST(the_local_apics_page_sends_no_messages)
{
    send_from_domain_1([](u64) {
        for (const u32 mode : kModes) {
            for (u64 destination = 0; destination < 5; ++destination) {
                for (const u64 offset : {0x0, 0x4, 0x8, 0xC}) {
                    write<u32>(dt::kLapicBase + offset, mode | lapic::kAssert | kVector);
                    write<u32>(dt::kLapicBase + 0x1000 * destination + offset, mode | kVector);
                    write<u32>(dt::kLapicBase + (destination << 12 | 1u << 3) + offset,
                               mode | kVector); // redirection hint
                    write<u64>(dt::kLapicBase + offset, mode | kVector);
                }
            }
            write<u32>(dt::kLapicBase + 0xF'F000, mode | kVector); // broadcast
        }
        sti();
        spin(kMillisecond);
        cli();
        BANYAN_EXPECT_EQ(taken(this_core()), 0);
    });
}

BANYAN_SELFTEST(the_local_apics_id_is_read_only)
{
    send_from_domain_1([](u64) {
        const u32 id = lapic::get(lapic::kId);
        BANYAN_EXPECT_EQ(id, 1u << 24);
        for (const u32 other : {0u, 2u, 3u, 0xFFu}) {
            lapic::set(lapic::kId, other << 24);
            BANYAN_EXPECT_EQ(lapic::get(lapic::kId), id);
        }
    });
}

// The local timer, one shot and periodic, and an LVT entry that asks for an NMI.
BANYAN_SELFTEST(the_local_timer_works_in_a_domain)
{
    send_from_domain_1([](u64) {
        lapic::set(lapic::kTimerDivide, 0xB);
        lapic::set(lapic::kLvtTimer, kVector);
        lapic::set(lapic::kTimerInitial, 100'000);
        sti();
        BANYAN_EXPECT(eventually([] { return this_core().interrupts[kVector] == 1; }));
        lapic::set(lapic::kLvtTimer, lapic::kPeriodic | (kVector + 1));
        lapic::set(lapic::kTimerInitial, 100'000);
        while (this_core().interrupts[kVector + 1] < 3) { // it wakes a halted core
            asm volatile("hlt");
        }
        cli();
        BANYAN_EXPECT_EQ(this_core().interrupts[kVector], 1);
    });
}

// The same in TSC-deadline mode.
BANYAN_SELFTEST(the_local_timer_keeps_a_deadline_in_a_domain)
{
    send_from_domain_1([](u64) { expect_deadline_rules(); });
}

// Timer and LINT entries with SMI, NMI, INIT and ExtINT as delivery mode. Passes if nothing leaves, and the domain goes on.
BANYAN_SELFTEST(lvt_entries_of_other_modes_stay_inside)
{
    send_from_domain_1([](u64) {
        for (const u32 mode : kModes) {
            if (mode == lapic::kInit || mode == lapic::kStartup || mode == 7u << 8) {
                continue; // INIT would be its own; ExtINT has a test to itself
            }
            for (const u32 entry : {lapic::kLvtTimer, lapic::kLvtLint0, lapic::kLvtLint1, lapic::kLvtError,
                                    lapic::kLvtCounter, lapic::kLvtThermal}) {
                lapic::set(entry, mode | kVector);
            }
            lapic::set(lapic::kTimerDivide, 0xB);
            lapic::set(lapic::kTimerInitial, 1000);
            sti();
            spin(kMillisecond);
            cli();
        }
    });
}

// A timer entry with the delivery mode ExtINT asks for a vector from an interrupt controller that the domain does not have.
// Passes if nothing comes.
BANYAN_SELFTEST(an_lvt_entry_of_mode_extint_delivers_nothing)
{
    send_from_domain_1([](u64) {
        lapic::set(lapic::kLvtTimer, 7u << 8 | kVector);
        lapic::set(lapic::kTimerDivide, 0xB);
        lapic::set(lapic::kTimerInitial, 1000);
        sti();
        spin(50 * kMillisecond);
        cli();
        BANYAN_EXPECT_EQ(taken(this_core()), 0);
    });
}

// The guest leaves its timer armed, interrupts pending in its local APIC, an NMI and an SMI held back by GIF, and ends.
// Passes if the host, back on that core, takes none of them.
BANYAN_SELFTEST(what_a_guest_left_pending_does_not_reach_the_host)
{
    Domain d(1, [](u64) {
        wrmsr(msr::kEfer, rdmsr(msr::kEfer) | kEferSvme);
        clgi();
        lapic::set(lapic::kTimerDivide, 0xB);
        lapic::set(lapic::kLvtTimer, lapic::kPeriodic | 0x52);
        lapic::set(lapic::kTimerInitial, 1000);
        lapic::set(lapic::kTpr, 0xF0);
        lapic::send(0, lapic::kFixed | lapic::kSelf | lapic::kAssert | 0x53);
        lapic::send(0, lapic::kNmiMode | lapic::kSelf | lapic::kAssert);
        lapic::send(0, lapic::kSmi | lapic::kSelf | lapic::kAssert);
        lapic::send(1, lapic::kInit | lapic::kAssert);
        spin(kMillisecond);
    });
    d.start();
    d.wait();
    static u32 seen;
    run_on(1, [](u64) {
        const u32 before = taken(this_core());
        for (u32 reg = lapic::kIrr; reg < lapic::kIrr + 0x80; reg += 0x10) {
            BANYAN_EXPECT_EQ(lapic::get(reg), 0);
        }
        lapic::set(lapic::kTpr, 0);
        sti();
        spin(20 * kMillisecond);
        cli();
        seen = taken(this_core()) - before;
    });
    BANYAN_EXPECT_EQ(seen, 0);
    BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kPoweroff);
}

// And the other way round: what the host left pending on a core does not reach the guest that runs there next.
BANYAN_SELFTEST(what_the_host_left_pending_does_not_reach_a_guest)
{
    Domain d(1, hears_nothing);
    d.descriptor().core_mask = 1u << 2;
    d.descriptor().boot_core = 2;
    d.seal();
    begin_on(
        2,
        [](u64) {
            wrmsr(msr::kEfer, rdmsr(msr::kEfer) | kEferSvme);
            clgi();
            lapic::set(lapic::kTimerDivide, 0xB);
            lapic::set(lapic::kLvtTimer, lapic::kPeriodic | 0x52);
            lapic::set(lapic::kTimerInitial, 1000);
            lapic::send(0, lapic::kFixed | lapic::kSelf | lapic::kAssert | 0x53);
            lapic::send(0, lapic::kNmiMode | lapic::kSelf | lapic::kAssert);
            spin(kMillisecond);
            enter_job(1);
        },
        0);
    d.await(1);
    spin(10 * kMillisecond);
    d.signal(2);
    d.wait();
    const dt::EndReason why = d.reason();
    d.remove();
    BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
    start_core(2); // an NMI of its own may still be there
}

// The host sends everything it can to the domain's core. Passes if the guest hears nothing and is not reset.
BANYAN_SELFTEST(the_hosts_ipis_do_not_reach_a_domain)
{
    Domain two(2, hears_nothing);
    two.start();
    two.await(1);
    for (const u32 mode : kModes) {
        if (mode == lapic::kSmi) {
            continue;
        }
        for (const u32 more : {lapic::kAssert, 0u, lapic::kLevel | lapic::kAssert}) {
            lapic::send(2, mode | more | kVector);
        }
        write<u32>(dt::kLapicBase + (2u << 12), mode | kVector); // a message
    }
    (void)ask("sleep ", 20u);
    two.signal(2);
    two.wait();
    const dt::EndReason why = two.reason();
    two.remove();
    BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
    BANYAN_EXPECT(ask("report host.denied.interrupt") > 10);
}

// ---- more than one core in a domain ---------------------------------------------------------------------------------------

// The domain's RAM holds a real-mode interrupt table whose every vector leads to code that leaves a mark: what a core would
// run that begins at the reset vector, where there is no memory. Passes if the second core leaves none: it waits for SIPI.
BANYAN_SELFTEST(a_second_core_executes_nothing_before_its_sipi)
{
    Domain d(
        1,
        [](u64) {
            spin(100 * kMillisecond);
            BANYAN_EXPECT_EQ(read<u32>(0x6000), 0);
        },
        0, 1u << 1 | 1u << 2);
    d.build();
    for (u32 vector = 0; vector < 256; ++vector) {
        write<u32>(slice(1) + vector * 4, 0x0700'0000); // 0700:0000
    }
    static const u8 mark[] = {0x2E, 0x66, 0xFF, 0x06, 0x00, 0x80, // incl %cs:0x8000, which is 0F000h
                              0xB8, 0x00, 0x06, 0x8E, 0xD8,       // mov $0x600, %ax; mov %ax, %ds
                              0xFF, 0x06, 0x00, 0x00,             // incw 0
                              0xEB, 0xFE};
    for (u32 i = 0; i < sizeof mark; ++i) {
        write<u8>(slice(1) + 0x7000 + i, mark[i]);
    }
    BANYAN_EXPECT_EQ(command(1, dt::Command::kSeal), dt::Status::kOk);
    begin_on(2, enter_job, 1);
    d.await_cores(1u << 2);
    spin(20 * kMillisecond);
    begin_on(1, enter_job, 1);
    d.wait();
    const dt::EndReason why = d.reason();
    d.remove();
    BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
}

// INIT and SIPI start the domain's second core, and it takes IPIs; nobody outside notices.
BANYAN_SELFTEST(a_domain_starts_its_own_cores)
{
    Domain d(
        1,
        [](u64) {
            static volatile u32 worked;
            start_core(2);
            run_on(
                2, [](u64 argument) { worked = static_cast<u32>(argument); }, 77);
            guest::result(0, worked);
            guest::result(1, lapic::get(lapic::kId) >> 24);
            run_on(2, [](u64) { guest::result(2, lapic::get(lapic::kId) >> 24); });
            run_on(2, [](u64) { guest::result(3, rdmsr(msr::kApicBase) & 0x100); });
            lapic::send(0, lapic::kNmiMode | lapic::kOthers | lapic::kAssert);
            run_on(2, [](u64) { guest::result(4, this_core().interrupts[kNmi]); });
        },
        0, 1u << 1 | 1u << 2);
    d.start();
    d.wait();
    BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kPoweroff);
    d.remove();
    BANYAN_EXPECT_EQ(d.result(0), 77);
    BANYAN_EXPECT_EQ(d.result(1), 1);
    BANYAN_EXPECT_EQ(d.result(2), 2);
    BANYAN_EXPECT_EQ(d.result(3), 0); // not the boot core
    BANYAN_EXPECT_EQ(d.result(4), 1);
}

// INIT waits for GIF, is #SX(1) under R_INIT, and reaches a halted core.
BANYAN_SELFTEST(init_obeys_gif_and_r_init_in_a_domain)
{
    Domain d(
        1,
        [](u64) {
            start_core(2);
            expect_init_rules(2);
        },
        0, 1u << 1 | 1u << 2);
    d.run();
}

// A second core sends INIT to the boot core. Passes if the boot core waits for SIPI, in the domain, and starts again there.
BANYAN_SELFTEST(an_init_of_the_boot_core_stays_inside)
{
    Domain d(
        1,
        [](u64) {
            static volatile u32 boot_again;
            start_core(2);
            begin_on(
                2,
                [](u64) {
                    lapic::send(1, lapic::kInit | lapic::kAssert);
                    spin(10 * kMillisecond);
                    prepare_trampoline(1);
                    lapic::send(1, lapic::kStartup | lapic::kAssert | kTrampoline >> 12);
                    (void)eventually([] { return core_is_idle(1); });
                    begin_on(
                        1, [](u64) { boot_again = guest::number(); }, 0);
                    if (finished_on(1) && boot_again == 1) {
                        guest::poweroff();
                    }
                    guest::reboot();
                },
                0);
            for (;;) {
                pause();
            }
        },
        0, 1u << 1 | 1u << 2);
    d.start();
    d.wait();
    BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kPoweroff);
}

// The NMI button is pressed while a domain runs with its LINT1 entry open. The platform's NMI is the host's.
BANYAN_SELFTEST(the_nmi_button_is_not_heard_in_a_domain)
{
    Domain two(2, [](u64 argument) {
        lapic::set(lapic::kLvtLint1, lapic::kNmiMode);
        hears_nothing(argument);
    });
    two.start();
    two.await(1);
    (void)ask("nmi");
    two.signal(2);
    two.wait();
    const dt::EndReason why = two.reason();
    two.remove();
    BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
}
