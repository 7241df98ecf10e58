// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/domain_jobs.hpp"

// A closed domain's RAM: nothing beside it reads, writes or executes it.

using namespace banyan;
using namespace banyan::bare;

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
