// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/domain.hpp"

// The life of a domain, as the hypervisor and everyone else beside it sees it.

using namespace banyan;
using namespace banyan::bare;

extern "C" {
extern u32 entry_state[24];
extern u32 entry_probe_function;
void entry_probe();
}

namespace {

constexpr u64 kOnes = ~u64{0};
constexpr u64 kSecretAt = 0x20'0000; // of a domain's RAM, far from the program
constexpr u64 kSecret = 0x5EC2'E700'1234'5678;

/// Runs until the host says so, then ends.
void waits_for_the_host(u64)
{
    guest::signal(1);
    guest::await(2);
}

/// Keeps a value in RAM while the host tries to change it, and fails if it did.
void keeps_a_secret(u64)
{
    const bool kept_before = read<u64>(kSecretAt) == kSecret;
    write<u64>(kSecretAt + 0x1000, kSecret);
    guest::signal(1);
    guest::await(2);
    BANYAN_EXPECT(kept_before);
    for (u64 i = 0; i < 4; ++i) {
        BANYAN_EXPECT_EQ(read<u64>(kSecretAt + i * 8), i == 0 ? kSecret : 0);
    }
    BANYAN_EXPECT_EQ(read<u64>(kSecretAt + 0x1000), kSecret);
}

void join_job(u64 domain)
{
    Entering &mine = entering(this_core().number);
    prepare_vmcb(this_core().number);
    mine.exit_code = 0;
    mine.joined = !attempt([=] { wrmsr(dt::kMsrDomain, domain); }).taken;
}

/// Whether the core can join the domain; it leaves again.
bool can_join(u32 core, u32 domain)
{
    run_on(core, join_job, domain);
    const bool joined = entering(core).joined;
    run_on(core, join_job, 0);
    return joined;
}

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

// The guest fills every general, SSE and x87 register with its secret and ends. Passes if the host, at its first
// instruction, finds none of it: zeros, and its own RAX and RSP.
BANYAN_SELFTEST(registers_are_zero_when_the_host_comes_back)
{
    Domain d(1, [](u64) {
        asm volatile("mov %0, %%rbx\n movq %%rbx, %%xmm0\n punpcklqdq %%xmm0, %%xmm0\n"
                     "movdqa %%xmm0, %%xmm1\n movdqa %%xmm0, %%xmm7\n movdqa %%xmm0, %%xmm8\n movdqa %%xmm0, %%xmm15\n"
                     "fldpi\n fldl2e\n mov %%rbx, %%rcx\n mov %%rbx, %%rsi\n mov %%rbx, %%rdi\n mov %%rbx, %%rbp\n"
                     "mov %%rbx, %%r8\n mov %%rbx, %%r9\n mov %%rbx, %%r10\n mov %%rbx, %%r11\n mov %%rbx, %%r12\n"
                     "mov %%rbx, %%r13\n mov %%rbx, %%r14\n mov %%rbx, %%r15\n"
                     "mov $0xFED50010, %%edx\n mov $0x20, %%al\n movb %%al, (%%rdx)\n 1: jmp 1b"
                     :
                     : "i"(0x5EC2'E700)
                     : "memory");
    });
    d.start();
    d.wait();
    BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kPoweroff);
    const ExitState &s = entering(1).state;
    BANYAN_EXPECT_EQ(s.rax, address_of(&vmcb_of(1)));
    BANYAN_EXPECT_EQ(s.rbx | s.rcx | s.rdx | s.rsi | s.rdi | s.rbp, 0);
    BANYAN_EXPECT_EQ(s.r8 | s.r9 | s.r10 | s.r11 | s.r12 | s.r13 | s.r14 | s.r15, 0);
    for (u32 i = 0; i < 8 * 16; ++i) {
        if (i % 16 < 10) {
            BANYAN_EXPECT_EQ(s.fxsave[32 + i], 0); // ST0..7
        }
    }
    for (u32 i = 0; i < 16 * 16; ++i) {
        BANYAN_EXPECT_EQ(s.fxsave[160 + i], 0); // XMM0..15
    }
}

// The guest leaves values in debug and MTRR registers, PAT, KernelGSbase, SYSENTER and VM_CR. Passes if the core's registers
// are afterwards what they were before.
BANYAN_SELFTEST(nothing_of_the_guest_stays_in_the_cores_other_registers)
{
    static u64 before[8], after[8];
    const auto look = [](u64 into) {
        u64 *r = reinterpret_cast<u64 *>(into);
        r[0] = rdmsr(msr::kMtrrPhysBase0);
        r[1] = rdmsr(0x2FF);
        r[2] = rdmsr(0x250);
        r[3] = rdmsr(msr::kPat);
        r[4] = rdmsr(0xC000'0102);
        r[5] = rdmsr(0x175);
        asm volatile("mov %%dr0, %0" : "=r"(r[6]));
        r[7] = rdmsr(msr::kVmCr);
    };
    Domain d(1, [](u64) {
        wrmsr(0x2FF, 0xC06);
        wrmsr(msr::kMtrrPhysBase0, 0x1234'5000 | 6);
        wrmsr(0x250, 0x0606'0606'0606'0606);
        wrmsr(msr::kPat, 0x0000'0406'0007'0406);
        wrmsr(0xC000'0102, 0x1234'5678);
        wrmsr(0x175, 0x1234'5678);
        asm volatile("mov %0, %%dr0" : : "r"(u64{0x1234'5678}));
        wrmsr(msr::kVmCr, rdmsr(msr::kVmCr) | kVmCrDisA20m);
    });
    run_on(1, +look, address_of(before));
    d.run();
    run_on(1, +look, address_of(after));
    for (u32 i = 0; i < 8; ++i) {
        BANYAN_EXPECT_EQ(after[i] ^ before[i], 0);
    }
}

// Core 1 runs domain 1 and ends; core 3, which is in the mask too, has joined before the end and executes VMRUN after it;
// core 1 tries again. Then the domain lives a second time, and core 3 comes with the tag of the first life.
BANYAN_SELFTEST(no_core_enters_after_the_end)
{
    Domain d(1, waits_for_the_host, 0, 1u << 1 | 1u << 3);
    d.seal();
    run_on(3, join_job, 1);
    BANYAN_EXPECT(entering(3).joined);
    begin_on(1, enter_job, 1);
    d.await(1);
    d.signal(2);
    d.wait();
    BANYAN_EXPECT(!can_join(1, 1));
    run_on(3, vmrun_job);
    BANYAN_EXPECT_EQ(entering(3).exit_code, exit_code::kInvalid);
    d.remove();
    run_on(3, vmrun_job);
    BANYAN_EXPECT_EQ(entering(3).exit_code, exit_code::kInvalid);
    d.seal();
    run_on(3, vmrun_job); // joined in the first life
    BANYAN_EXPECT_EQ(entering(3).exit_code, exit_code::kInvalid);
    BANYAN_EXPECT_EQ(d.state(), dt::State::kSealed);
    run_on(3, join_job, 0);
}

// Two cores are in the domain; the boot core ends it. Passes if the other core is out too, and neither may come back
// before the next SEAL.
BANYAN_SELFTEST(the_end_of_one_core_is_the_end_of_all)
{
    Domain d(1, waits_for_the_host, 0, 1u << 1 | 1u << 2);
    d.start(); // core 2 waits for a SIPI that never comes
    d.await(1);
    d.await_cores(1u << 1 | 1u << 2);
    d.signal(2);
    d.wait();
    BANYAN_EXPECT_EQ(entering(1).exit_code, dt::ExitCode::kDomainStop);
    BANYAN_EXPECT_EQ(entering(2).exit_code, dt::ExitCode::kDomainStop);
    BANYAN_EXPECT_EQ(d.report("exits.final"), 2);
    BANYAN_EXPECT(!can_join(1, 1) && !can_join(2, 1));
}

// The host writes a value into the domain's RAM while BUILDING. From SEAL on it reads ones there and its stores vanish,
// with every kind of access; from DELETE on it reads zeros. The guest finds what was there at SEAL.
BANYAN_SELFTEST(the_host_has_no_reach_into_a_closed_domains_ram)
{
    Domain d(1, keeps_a_secret);
    d.build();
    const u64 secret = slice(1) + kSecretAt;
    write<u64>(secret, kSecret);
    BANYAN_EXPECT_EQ(read<u64>(secret), kSecret);
    BANYAN_EXPECT_EQ(command(1, dt::Command::kSeal), dt::Status::kOk);
    const auto attack = [=] {
        BANYAN_EXPECT_EQ(read<u64>(secret), kOnes);
        BANYAN_EXPECT_EQ(read<u32>(secret + 4), 0xFFFF'FFFF);
        BANYAN_EXPECT_EQ(read<u16>(secret + 2), 0xFFFF);
        BANYAN_EXPECT_EQ(read<u8>(secret + 7), 0xFF);
        write<u64>(secret, 1);
        write<u32>(secret + 4, 1);
        write<u8>(secret + 1, 1);
        asm volatile("lock xaddq %%rax, (%0)" : : "r"(secret), "a"(1) : "memory");
        asm volatile("lock cmpxchg16b (%0)" : : "r"(secret), "a"(-1), "d"(-1), "b"(1), "c"(1) : "memory");
        asm volatile("fxsave64 (%0)" : : "r"(secret) : "memory");
        u64 to = secret, count = 64;
        asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(0) : "memory");
        write<u64>(slice(1) - 4, 0x1111'1111'2222'2222); // four bytes are the host's, four the domain's
        BANYAN_EXPECT_EQ(read<u64>(slice(1) - 4), 0xFFFF'FFFF'2222'2222);
    };
    attack();
    begin_on(1, enter_job, 1);
    d.await(1);
    attack();
    run_on(
        2, [](u64 at) { write<u64>(at, 7); }, secret);
    d.signal(2);
    d.wait();
    attack();
    BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kPoweroff);
    d.remove();
    BANYAN_EXPECT_EQ(read<u64>(secret), 0);
    BANYAN_EXPECT_EQ(read<u64>(secret + 0x1000), 0);
    for (u64 at = slice(1); at < slice(1) + kSliceSize; at += 8) {
        if (read<u64>(at) != 0) {
            BANYAN_EXPECT_EQ(at, 0);
        }
    }
}

// A core of the host stores into the domain's RAM without a pause, before SEAL, through it and after it. Passes if, from the
// domain's first instruction on, no such store lands: what the guest finds there stays.
BANYAN_SELFTEST(no_store_of_the_host_lands_after_a_domain_has_begun)
{
    static volatile bool stop;
    for (u32 life = 0; life < 20; ++life) {
        Domain d(1, [](u64) {
            const u64 first = read<u64>(kSecretAt);
            for (u32 i = 0; i < 20'000; ++i) {
                BANYAN_EXPECT_EQ(read<u64>(kSecretAt), first);
            }
        });
        d.build();
        stop = false;
        begin_on(
            3,
            [](u64 at) {
                for (u64 count = 0; !stop; ++count) {
                    write<u64>(at, count);
                }
            },
            slice(1) + kSecretAt);
        control_write(dt::control::kSelect, 1);
        control_write(dt::control::kCommand, static_cast<u32>(dt::Command::kSeal));
        begin_on(
            1,
            [](u64 domain) {
                (void)eventually([=] {
                    enter_job(domain);
                    return entering(1).joined;
                });
            },
            1);
        d.wait();
        stop = true;
        BANYAN_EXPECT(finished_on(3));
        const dt::EndReason why = d.reason();
        d.remove();
        BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
    }
}

// The host jumps into a closed domain's RAM, where the guest has put code. Passes if not one instruction of it runs.
BANYAN_SELFTEST(the_host_cannot_execute_a_closed_domains_ram)
{
    Domain d(1, waits_for_the_host);
    d.build();
    write<u8>(slice(1) + kSecretAt, 0xC3); // RET
    const auto call = [] { reinterpret_cast<void (*)()>(slice(1) + kSecretAt)(); };
    BANYAN_EXPECT(!attempt(call).taken);
    BANYAN_EXPECT_EQ(command(1, dt::Command::kSeal), dt::Status::kOk);
    BANYAN_EXPECT(attempt(call).is(kUd));
}

namespace {

/// Core 2 attacks a domain's RAM at kSecretAt, all zero; passes if the guest finds 16 KiB there as they were.
void expect_zero_after(void (*attack)(u64), bool comes_back = true)
{
    Domain d(1, [](u64) {
        guest::signal(1);
        guest::await(2);
        for (u64 at = kSecretAt; at < kSecretAt + 0x4000; at += 8) {
            BANYAN_EXPECT_EQ(read<u64>(at), 0);
        }
    });
    d.start();
    d.await(1);
    begin_on(2, attack, slice(1) + kSecretAt);
    if (comes_back) {
        BANYAN_EXPECT(finished_on(2));
    } else {
        spin(20 * kMillisecond);
        start_core(2);
    }
    d.signal(2);
    d.wait();
    const dt::EndReason why = d.reason();
    d.remove();
    BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
}

/// On this core: an ordinary guest whose first instruction shuts down.
void make_shutdown_vmcb()
{
    Vmcb &vmcb = prepare_vmcb(this_core().number);
    vmcb.rip = 0xFFFF'0000; // no memory, no IDT
}

} // namespace

// VMRUN takes physical addresses past any translation. The host has its state saved in a closed domain's RAM, and runs an
// ordinary guest that does not come back: what would be restored is no longer the host's. Passes if the domain finds its
// RAM unchanged.
BANYAN_SELFTEST(vmrun_does_not_save_host_state_into_a_closed_domains_ram)
{
    expect_zero_after(
        [](u64 secret) {
            Vmcb &vmcb = prepare_vmcb(2);
            static const u8 loop[] = {0xEB, 0xFE}; // JMP to itself
            vmcb.rip = address_of(loop);
            wrmsr(msr::kVmHsavePa, secret);
            vmrun_job(0);
        },
        false);
}

// The host names a closed domain's RAM as VMCB: VMRUN writes an exit code into it, whether it begins or not. The same for a
// core that has joined a domain.
BANYAN_SELFTEST(vmrun_does_not_write_an_exit_code_into_a_closed_domains_ram)
{
    expect_zero_after([](u64 secret) {
        make_shutdown_vmcb();
        vmrun_probe(secret, &entering(2).state);
        recover_core();
    });
}

BANYAN_SELFTEST(a_refused_entry_does_not_write_an_exit_code_into_a_closed_domains_ram)
{
    Domain d(
        3, [](u64) {}, 0, 1u << 2);
    d.seal();
    run_on(2, join_job, 3);
    BANYAN_EXPECT_EQ(command(3, dt::Command::kStop), dt::Status::kOk);
    expect_zero_after([](u64 secret) {
        vmrun_probe(secret, &entering(2).state); // the tag is of a life that has ended
        recover_core();
        join_job(0);
    });
}

// VMSAVE and VMLOAD likewise.
BANYAN_SELFTEST(vmsave_and_vmload_do_not_reach_a_closed_domains_ram)
{
    expect_zero_after([](u64 secret) {
        prepare_vmcb(2);
        wrmsr(0xC000'0081, 0x1234'5678'9ABC'DEF0); // STAR
        asm volatile("vmsave %%rax" : : "a"(secret) : "memory");
    });
}

// Domain 1 shuts down by a triple fault while domain 2 and the host run. Passes if only domain 1 ends, with the reason
// and the exit code of a shutdown, and domain 2 still answers.
BANYAN_SELFTEST(a_triple_fault_shuts_down_that_domain_only)
{
    Domain two(2, waits_for_the_host);
    two.start();
    two.await(1);
    Domain one(1, [](u64) {
        const struct [[gnu::packed]] {
            u16 limit;
            u64 base;
        } none{};
        asm volatile("lidt %0\n ud2" : : "m"(none));
    });
    one.start();
    one.wait();
    BANYAN_EXPECT_EQ(one.reason(), dt::EndReason::kShutdown);
    BANYAN_EXPECT_EQ(entering(1).exit_code, dt::ExitCode::kShutdown);
    BANYAN_EXPECT_EQ(two.state(), dt::State::kRunning);
    two.signal(2);
    two.wait();
    BANYAN_EXPECT_EQ(two.reason(), dt::EndReason::kPoweroff);
}

// The host programs the HPET, which is its own, to send its interrupt message to an address in a closed domain's RAM.
// Passes if the guest finds its RAM unchanged.
BANYAN_SELFTEST(a_timers_interrupt_message_cannot_be_aimed_at_a_closed_domains_ram)
{
    constexpr u64 kHpet = 0xFED0'0000;
    set_up_machine();
    if (read<u32>(kHpet + 4) == 0xFFFF'FFFF) {
        skip("a machine without HPET");
    }
    Domain d(1, keeps_a_secret);
    d.build();
    write<u64>(slice(1) + kSecretAt, kSecret);
    BANYAN_EXPECT_EQ(command(1, dt::Command::kSeal), dt::Status::kOk);
    begin_on(1, enter_job, 1);
    d.await(1);
    write<u64>(kHpet + 0x10, 0);
    write<u64>(kHpet + 0xF0, 0);
    write<u64>(kHpet + 0x110, (slice(1) + kSecretAt) << 32 | 0xBAD0'BAD0);
    write<u64>(kHpet + 0x108, 0x1000);
    write<u64>(kHpet + 0x100, 1u << 14 | 1u << 2); // by message, enabled
    write<u64>(kHpet + 0x10, 1);
    ask("sleep ", 50u);
    write<u64>(kHpet + 0x100, 0);
    write<u64>(kHpet + 0x10, 0);
    d.signal(2);
    d.wait();
    const dt::EndReason why = d.reason();
    d.remove();
    BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
}

namespace {

/// The machine has been reset under a running domain: what must hold after it.
void expect_dirty_after_reset()
{
    set_up_machine();
    BANYAN_EXPECT_EQ(state_of(1), dt::State::kDirty);
    BANYAN_EXPECT_EQ(reason_of(1), dt::EndReason::kReset);
    BANYAN_EXPECT_EQ(read<u64>(slice(1) + kSecretAt), kOnes);
    write<u64>(slice(1) + kSecretAt, 0);
    BANYAN_EXPECT(!can_join(1, 1));
    BANYAN_EXPECT_EQ(command(1, dt::Command::kCreate), dt::Status::kBadState);
    BANYAN_EXPECT_EQ(state_of(2), dt::State::kEmpty); // it was BUILDING
    BANYAN_EXPECT_EQ(command(1, dt::Command::kDelete), dt::Status::kOk);
    BANYAN_EXPECT_EQ(read<u64>(slice(1) + kSecretAt), 0);
    BANYAN_EXPECT_EQ(read<u64>(slice(1) + 0x10'0000), 0);
    Domain again(1, waits_for_the_host);
    again.start();
    again.await(1);
    again.signal(2);
    again.wait();
}

template <typename Reset>
void run_up_to(Reset reset)
{
    Domain one(1, keeps_a_secret);
    Domain two(2, waits_for_the_host);
    two.build();
    one.build();
    write<u64>(slice(1) + kSecretAt, kSecret);
    BANYAN_EXPECT_EQ(command(1, dt::Command::kSeal), dt::Status::kOk);
    begin_on(1, enter_job, 1);
    one.await(1);
    reset();
    for (;;) {
        asm volatile("cli; hlt");
    }
}

} // namespace

// A domain runs, another is being built; the machine's reset button is pressed. Passes if the first is DIRTY then, its RAM
// closed until it is deleted, and zero after that; the draft is gone; the next life works.
BANYAN_SELFTEST(a_machine_reset_leaves_a_running_domain_dirty)
{
    if (boot_phase() == 0) {
        run_up_to(reset_machine);
    }
    expect_dirty_after_reset();
}

// The same, the host itself resets the machine by port CF9h.
BANYAN_SELFTEST(a_reset_by_the_host_leaves_a_running_domain_dirty)
{
    if (boot_phase() == 0) {
        run_up_to([] {
            expect_reset(1);
            out8(0xCF9, 2);
            out8(0xCF9, 6);
        });
    }
    expect_dirty_after_reset();
}

// ---- the stop line ------------------------------------------------------------------------------------------------------

namespace {

enum Stubborn : u64 {
    kLoop,
    kHalted,
    kHaltedMasked,
    kGifClear,
    kGifClearHalted,
    kInNmi,
    kInFault,
    kMwait,
    kStubbornEnd
};

void is_stubborn(u64 how)
{
    guest::result(0, how);
    switch (how) {
    case kLoop:
        guest::signal(1);
        for (;;) {
        }
    case kHalted:
        guest::signal(1);
        for (;;) {
            sti_hlt();
        }
    case kHaltedMasked:
        guest::signal(1);
        for (;;) {
            asm volatile("cli; hlt");
        }
    case kGifClear:
        wrmsr(msr::kEfer, rdmsr(msr::kEfer) | kEferSvme);
        clgi();
        guest::signal(1);
        for (;;) {
        }
    case kGifClearHalted:
        wrmsr(msr::kEfer, rdmsr(msr::kEfer) | kEferSvme);
        clgi();
        guest::signal(1);
        for (;;) {
            asm volatile("cli; hlt");
        }
    case kInNmi:
        this_core().hook = [](Frame &) {
            guest::signal(1);
            for (;;) {
            }
        };
        lapic::set(lapic::kIcrLow, lapic::kNmiMode | lapic::kAssert | lapic::kSelf);
        for (;;) {
            pause();
        }
    case kInFault: // a fault that is taken again and again
        this_core().hook = [](Frame &) { guest::signal(1); };
        asm volatile("ud2");
        break;
    case kMwait:
        guest::signal(1);
        asm volatile("mwait" : : "a"(0), "c"(0));
        for (;;) {
            asm volatile("cli; hlt");
        }
    default:
        break;
    }
    guest::reboot();
}

} // namespace

// The guest holds its core back in every way that software has: a loop, HLT with and without IF, GIF clear, inside an NMI,
// in an endless fault. Passes if STOP ends it each time, soon, with the reason and the exit code of a stop.
BANYAN_SELFTEST(the_stop_line_reaches_a_core_in_any_state)
{
    for (u64 how = 0; how < kStubbornEnd; ++how) {
        Domain d(1, is_stubborn, how);
        d.start();
        d.await(1);
        spin(5 * kMillisecond);
        d.stop();
        BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kStopped);
        BANYAN_EXPECT_EQ(entering(1).exit_code, dt::ExitCode::kDomainStop);
    }
}

// The same for a core that waits for SIPI, with and without an INIT pending for it.
BANYAN_SELFTEST(the_stop_line_reaches_a_core_that_waits_for_sipi)
{
    Domain d(
        1,
        [](u64) {
            spin(50 * kMillisecond);
            lapic::send(2, lapic::kInit | lapic::kAssert);
            guest::signal(1);
            for (;;) {
                pause();
            }
        },
        0, 1u << 1 | 1u << 2);
    d.start();
    d.await_cores(1u << 1 | 1u << 2);
    d.await(1);
    d.stop();
    BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kStopped);
    BANYAN_EXPECT_EQ(entering(2).exit_code, dt::ExitCode::kDomainStop);
}

// STOP of a domain that is sealed and has not run: DIRTY at once.
BANYAN_SELFTEST(a_sealed_domain_can_be_stopped)
{
    Domain d(1, waits_for_the_host);
    d.seal();
    BANYAN_EXPECT_EQ(command(1, dt::Command::kStop), dt::Status::kOk);
    BANYAN_EXPECT_EQ(d.state(), dt::State::kDirty);
    BANYAN_EXPECT_EQ(d.reason(), dt::EndReason::kStopped);
    BANYAN_EXPECT(!can_join(1, 1));
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
