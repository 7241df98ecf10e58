// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/domain_jobs.hpp"

// The end of a domain: what is left of it in the cores, who ends with it, a reset of the machine, the stop line.

using namespace banyan;
using namespace banyan::bare;

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
