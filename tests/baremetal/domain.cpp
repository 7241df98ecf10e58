// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/domain_jobs.hpp"

// The domain table: what may be built, who may join, how a core enters, the start gate.

using namespace banyan;
using namespace banyan::bare;

extern "C" {
extern u32 entry_state[24];
extern u32 entry_probe_function;
void entry_probe();
}

namespace {

dt::Status seal_status(Domain &d)
{
    d.build();
    return command(d.number(), dt::Command::kSeal);
}
} // namespace

// A domain whose guest ends itself. It shows that the frame of all the tests here stands: entry, window, end, reason.
BANYAN_SELFTEST(a_domain_runs_and_powers_off)
{
    Domain d(
        1, [](u64 argument) { guest::result(0, argument + 1); }, 41);
    d.run();
    BANYAN_EXPECT_EQ(d.result(0), 42);
    BANYAN_EXPECT_EQ(entering(1).exit_code, dt::ExitCode::kDomainStop);
    BANYAN_EXPECT_EQ(d.report("exits.final"), 1);
    BANYAN_EXPECT_EQ(d.report("exits.running"), 0);
}

BANYAN_SELFTEST(a_domain_that_writes_its_reset_register_ends_with_reboot)
{
    Domain d(1, [](u64) { guest::reboot(); });
    d.start();
    d.wait();
    BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kReboot);
}

// The host writes another entry point, other ranges and other cores over the descriptor of a domain that is SEALED, that
// runs, and that has ended. Passes if what it reads back never changes, and the domain ran where it was sealed to.
BANYAN_SELFTEST(a_sealed_descriptor_cannot_be_edited)
{
    Domain d(1, waits_for_the_host);
    d.seal();
    const auto edit = [&] {
        dt::Descriptor other = d.descriptor();
        other.entry.eip += 0x1000;
        other.core_mask = 0xE;
        other.ranges[0].hpa = 0x20'0000;
        other.flags = dt::flag::kDebug;
        write_descriptor(1, other);
        return read_descriptor(1).entry.eip == d.descriptor().entry.eip &&
               read_descriptor(1).core_mask == d.descriptor().core_mask &&
               read_descriptor(1).ranges[0].hpa == d.descriptor().ranges[0].hpa && read_descriptor(1).flags == 0;
    };
    BANYAN_EXPECT(edit());
    begin_on(1, enter_job, 1);
    d.await(1);
    BANYAN_EXPECT(edit());
    BANYAN_EXPECT(!can_join(2, 1));
    d.signal(2);
    d.wait();
    BANYAN_EXPECT(edit());
}

// Every command in every state but its own; the statuses are those of the architecture, and the state stays.
BANYAN_SELFTEST(commands_out_of_their_state_are_refused_and_change_nothing)
{
    Domain d(1, waits_for_the_host);
    using C = dt::Command;
    const auto refused = [&](dt::State state, std::initializer_list<C> commands) {
        BANYAN_EXPECT_EQ(d.state(), state);
        for (const C code : commands) {
            BANYAN_EXPECT_EQ(command(1, code), dt::Status::kBadState);
            BANYAN_EXPECT_EQ(d.state(), state);
        }
    };
    refused(dt::State::kEmpty, {C::kSeal, C::kStop, C::kDelete, C::kErase, C::kReceipt, C{0}, C{99}});
    d.build();
    refused(dt::State::kBuilding, {C::kCreate, C::kStop, C::kReceipt, C{0}});
    BANYAN_EXPECT_EQ(command(1, C::kSeal), dt::Status::kOk);
    refused(dt::State::kSealed, {C::kCreate, C::kSeal, C::kDelete, C::kErase});
    begin_on(1, enter_job, 1);
    d.await(1);
    refused(dt::State::kRunning, {C::kCreate, C::kSeal, C::kDelete, C::kErase});
    d.signal(2);
    d.wait();
    refused(dt::State::kDirty, {C::kCreate, C::kSeal, C::kStop});
}

BANYAN_SELFTEST(domains_that_do_not_exist_take_no_command)
{
    set_up_machine();
    for (const u32 number : {0u, 16u, 0x8000'0001u}) {
        BANYAN_EXPECT_EQ(command(number, dt::Command::kCreate), dt::Status::kBadDomain);
        BANYAN_EXPECT_EQ(state_of(number), dt::State::kEmpty);
    }
}

// Domain 1 is sealed. Domain 2 asks for one thing of domain 1's at a time.
BANYAN_SELFTEST(what_one_domain_has_no_other_gets)
{
    Domain one(1, waits_for_the_host);
    one.seal();
    const auto refused = [](auto edit) {
        Domain two(2, waits_for_the_host);
        edit(two, two.descriptor());
        BANYAN_EXPECT_EQ(seal_status(two), dt::Status::kOverlap);
        BANYAN_EXPECT_EQ(two.state(), dt::State::kBuilding);
    };
    refused([](Domain &, dt::Descriptor &d) { d.ranges[0].hpa = slice(1) + kSliceSize - 0x1000; });
    refused([](Domain &, dt::Descriptor &d) { d.ranges[0] = {0, slice(1) - 0x1000, 0x2000 + kSliceSize}; });
    refused([](Domain &, dt::Descriptor &d) { d.ranges[d.range_count++] = {0x2000'0000, slice(1) + 0x5000, 0x1000}; });
    refused([](Domain &, dt::Descriptor &d) { d.core_mask |= 2; });
    refused([](Domain &, dt::Descriptor &d) { d.vtpm_instance = 1; });
    refused([](Domain &, dt::Descriptor &d) { d.further_vtpms[0] = 1; });
    refused([](Domain &d, dt::Descriptor &) { d.add_window(box(1) + kBoxSize - 0x1000, 0x1000); });
    refused([](Domain &d, dt::Descriptor &) { d.add_window(kEcamBase + 0x8'0000, 0x1000); }); // bus 0

    Domain two(2, waits_for_the_host); // and nothing of it was kept from domain 2 alone
    BANYAN_EXPECT_EQ(seal_status(two), dt::Status::kOk);
}

// The same for what belongs to nobody, or to the platform.
BANYAN_SELFTEST(what_no_domain_may_have_is_refused)
{
    const auto refused = [](auto edit) {
        Domain d(1, waits_for_the_host);
        edit(d, d.descriptor());
        const dt::Status status = seal_status(d);
        BANYAN_EXPECT(status == dt::Status::kBadDescriptor || status == dt::Status::kOverlap);
    };
    refused([](Domain &, dt::Descriptor &d) { d.core_mask |= 1; });       // the host's core
    refused([](Domain &, dt::Descriptor &d) { d.core_mask |= 1u << 4; }); // no such core
    refused([](Domain &, dt::Descriptor &d) { d.boot_core = 2; });
    refused([](Domain &, dt::Descriptor &d) { d.vtpm_instance = 0; });
    refused([](Domain &, dt::Descriptor &d) { d.further_vtpms[0] = d.vtpm_instance; });
    refused([](Domain &, dt::Descriptor &d) { d.further_vtpms[1] = 3; });                           // a gap
    refused([](Domain &, dt::Descriptor &d) { d.ranges[0].hpa = 256u << 20; });                     // beyond RAM
    refused([](Domain &, dt::Descriptor &d) { d.ranges[0].size = 0xB'0000, d.ranges[0].hpa = 0; }); // the legacy hole
    refused([](Domain &, dt::Descriptor &d) { d.ranges[d.range_count++] = {0x2000'0000, slice(1), 0x1000}; }); // twice
    refused([](Domain &, dt::Descriptor &d) { d.ranges[d.range_count++] = {dt::kLapicBase, slice(2), 0x1000}; });
    refused([](Domain &d, dt::Descriptor &) { d.add_window(dt::kControlBase, 0x1000); });
    refused([](Domain &d, dt::Descriptor &) { d.add_window(dt::kLapicBase, 0x1000); });
    refused([](Domain &d, dt::Descriptor &) { d.add_window(slice(3), 0x1000); }); // RAM by another name
    refused([](Domain &d, dt::Descriptor &) { d.add_msr({msr::kVmHsavePa, dt::MsrAction::kPass, {}, 0, kOnes}); });
    refused([](Domain &d, dt::Descriptor &) { d.add_msr({dt::kMsrDomain, dt::MsrAction::kPass, {}, 0, kOnes}); });
    refused([](Domain &d, dt::Descriptor &) { d.add_msr({0x830, dt::MsrAction::kPass, {}, 0, kOnes}); }); // x2APIC ICR
    refused([](Domain &, dt::Descriptor &d) { d.entry.eip = 0x4000'0000; });
    refused([](Domain &, dt::Descriptor &d) { d.flags = 0x8000'0000; });
}

BANYAN_SELFTEST(only_a_core_of_the_mask_can_join_and_only_a_sealed_or_running_domain)
{
    Domain d(1, waits_for_the_host, 0, 1u << 1 | 1u << 3);
    BANYAN_EXPECT(!can_join(1, 1)); // EMPTY
    d.build();
    BANYAN_EXPECT(!can_join(1, 1)); // BUILDING
    BANYAN_EXPECT_EQ(command(1, dt::Command::kSeal), dt::Status::kOk);
    BANYAN_EXPECT(can_join(1, 1));
    BANYAN_EXPECT(!can_join(2, 1)); // not in the mask
    BANYAN_EXPECT(attempt([] { wrmsr(dt::kMsrDomain, 1); }).is(kGp));
    begin_on(1, enter_job, 1);
    d.await(1);
    BANYAN_EXPECT(can_join(3, 1));
    BANYAN_EXPECT(!can_join(2, 1));
    d.signal(2);
    d.wait();
    BANYAN_EXPECT(!can_join(1, 1)); // DIRTY
    for (const u64 number : {u64{16}, u64{255}, u64{0x1'0000'0001}, kOnes}) {
        BANYAN_EXPECT(attempt([=] { wrmsr(dt::kMsrDomain, number); }).is(kGp));
    }
}

// The VMCB names another entry point, another CR3, an injected event and every intercept there is. Passes if the guest
// runs from the descriptor's entry in the documented state, and CPUID, HLT, RDTSC, IN, WRMSR and INT do not exit.
BANYAN_SELFTEST(vmrun_enters_the_descriptors_state_whatever_the_vmcb_says)
{
    entry_probe_function = address_of(+[](u64) {
        const u32 expected[] = {
            0x1111'1111, 0x2222'2222, 0, 0, 0x3333'3333, 0,     0,          0, // eax ebx ecx edx esi edi ebp esp
            2,           0x11,        0, 0, 0,           0x400, 0xFFFF'0FF0};  // eflags cr0 cr3 cr4 efer dr7 dr6
        for (u32 i = 0; i < 15; ++i) {
            guest::result(i, entry_state[i] ^ u64{expected[i]});
        }
        guest::result(15, entry_state[15]); // cs, ss
        guest::result(16, entry_state[16]); // ds, es
        guest::result(17, entry_state[17]); // what four times STOSB moved on
        (void)cpuid(0);
        (void)rdtsc();
        (void)in8(0x80);
        wrmsr(msr::kFsBase, 0x1000);
        asm volatile("int $0x50" : : : "memory");
        guest::result(18, this_core().interrupts[0x50]);
    });
    Domain d(1, waits_for_the_host);
    d.descriptor().entry = {address_of(entry_probe), 0x1111'1111, 0x2222'2222, 0x3333'3333};
    d.seal();
    run_on(1, join_job, 1);
    BANYAN_EXPECT(entering(1).joined);
    Vmcb &vmcb = vmcb_of(1);
    for (u32 &word : vmcb.intercepts) {
        word = ~0u;
    }
    vmcb.rip = 0x20'0000;
    vmcb.rax = 0x4444'4444;
    vmcb.rsp = 0x5555'5555;
    vmcb.cr0 = 0x8000'0011;
    vmcb.cr3 = 0x30'0000;
    vmcb.efer = kEferSvme | 0x500;
    vmcb.cr4 = 0x20;
    vmcb.rflags = 0x302;
    vmcb.nested_control = 1;
    vmcb.event_injection = 1u << 31 | 3u << 8 | 6;
    vmcb.virtual_interrupt = 1u << 8 | 0x21ull << 32;
    vmcb.tsc_offset = 0x1234'5678'0000;
    run_on(1, vmrun_job);
    BANYAN_EXPECT_EQ(entering(1).exit_code, dt::ExitCode::kDomainStop);
    d.wait();
    BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kPoweroff);
    d.remove();
    BANYAN_EXPECT_EQ(d.result(0), 0);  // eax
    BANYAN_EXPECT_EQ(d.result(1), 0);  // ebx
    BANYAN_EXPECT_EQ(d.result(2), 0);  // ecx
    BANYAN_EXPECT_EQ(d.result(3), 0);  // edx
    BANYAN_EXPECT_EQ(d.result(4), 0);  // esi
    BANYAN_EXPECT_EQ(d.result(5), 0);  // edi
    BANYAN_EXPECT_EQ(d.result(6), 0);  // ebp
    BANYAN_EXPECT_EQ(d.result(7), 0);  // esp
    BANYAN_EXPECT_EQ(d.result(8), 0);  // eflags
    BANYAN_EXPECT_EQ(d.result(9), 0);  // cr0
    BANYAN_EXPECT_EQ(d.result(10), 0); // cr3
    BANYAN_EXPECT_EQ(d.result(11), 0); // cr4
    BANYAN_EXPECT_EQ(d.result(12), 0); // efer
    BANYAN_EXPECT_EQ(d.result(13), 0); // dr7
    BANYAN_EXPECT_EQ(d.result(14), 0); // dr6
    BANYAN_EXPECT_EQ(d.result(15), 0x0010'0008);
    BANYAN_EXPECT_EQ(d.result(16), 0x0010'0010);
    BANYAN_EXPECT_EQ(d.result(17), 4); // string instructions go up by one, without a CLD before
    BANYAN_EXPECT_EQ(d.result(18), 1);
}

// A core that has joined domain 1 executes VMRUN of code of its own, in host memory. Passes if that code never runs.
BANYAN_SELFTEST(foreign_code_cannot_be_run_under_a_domains_tag)
{
    static volatile u32 ran = 0;
    Domain d(1, [](u64) {});
    d.seal();
    run_on(1, join_job, 1);
    Vmcb &vmcb = vmcb_of(1);
    vmcb.rip = address_of(+[] { ran = 1; });
    vmcb.cr0 = 0x8000'0011;
    vmcb.cr4 = 0x620;
    vmcb.cr3 = read_cr3();
    vmcb.efer = kEferSvme | 0x500;
    vmcb.cs = {0x08, 0xA9B, 0xFFFF'FFFF, 0};
    run_on(1, vmrun_job);
    d.wait();
    BANYAN_EXPECT_EQ(ran, 0);
    BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kPoweroff); // the domain's own guest ran
}

// A core that has joined nobody is an ordinary SVM host: VMRUN obeys the VMCB and VMMCALL comes back.
BANYAN_SELFTEST(a_core_that_joined_nobody_runs_ordinary_guests)
{
    set_up_machine();
    run_on(1, [](u64) {
        static u8 stack[256];
        Vmcb &vmcb = prepare_vmcb(1);
        vmcb.intercepts[4] |= 1u << 1; // VMMCALL
        vmcb.rip = address_of(+[] { asm volatile("vmmcall"); });
        vmcb.rsp = address_of(stack + sizeof stack);
        vmcb.cr0 = 0x8000'0011;
        vmcb.cr4 = 0x620;
        vmcb.cr3 = read_cr3();
        vmcb.efer = kEferSvme | 0x500;
        vmcb.cs = {0x08, 0xA9B, 0xFFFF'FFFF, 0};
        vmrun_job(0);
    });
    BANYAN_EXPECT_EQ(entering(1).exit_code, exit_code::kVmmcall);
}

// Three domains run side by side on three cores, each in its own RAM, and one after the other ends.
BANYAN_SELFTEST(three_domains_run_at_once)
{
    const GuestMain main = [](u64 argument) {
        write<u64>(kSecretAt, argument);
        guest::signal(1);
        guest::await(2);
        BANYAN_EXPECT_EQ(read<u64>(kSecretAt), argument);
        guest::result(0, guest::number());
    };
    Domain one(1, main, 11), two(2, main, 22), three(3, main, 33);
    Domain *const all[] = {&one, &two, &three};
    for (Domain *d : all) {
        d->start();
        d->await(1);
    }
    for (Domain *d : all) {
        BANYAN_EXPECT_EQ(d->state(), dt::State::kRunning);
        d->signal(2);
        d->wait();
        BANYAN_EXPECT_EQ(d->reason(), dt::EndReason::kPoweroff);
        d->remove();
        BANYAN_EXPECT_EQ(d->result(0), d->number());
    }
}

// The gate reads 0 until the host opens it, and another domain's gate is not this one's.
BANYAN_SELFTEST(the_start_gate_opens_for_the_domains_named)
{
    const GuestMain main = [](u64) {
        BANYAN_EXPECT_EQ(read<u32>(dt::kOwnPageBase + dt::own::kGate), 0);
        guest::signal(1);
        while (read<u32>(dt::kOwnPageBase + dt::own::kGate) != 1) {
            pause();
        }
    };
    Domain one(1, main), two(2, main);
    one.start();
    two.start();
    one.await(1);
    two.await(1);
    open_gate(1u << 1);
    one.wait();
    BANYAN_EXPECT_EQ(two.state(), dt::State::kRunning);
    open_gate(1u << 2);
    two.wait();
    BANYAN_EXPECT_EQ(two.reason(), dt::EndReason::kPoweroff);
}
