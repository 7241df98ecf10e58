// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "banyan/arch/domain_table.hpp"
#include "tests/baremetal/lib/cores.hpp"
#include "tests/baremetal/lib/selftest.hpp"

// The program as a hypervisor, and its copy in a domain.
//
// A domain's RAM is a slice that the guest sees from 0; the host copies the whole program to where it lies itself, so a
// guest is a function of the same source file. Results come out through a window of its own, the box, which the host can
// read when the domain has ended; while it runs, the two speak through a scratch register of a serial port.

namespace banyan::bare {

inline constexpr u64 kSliceBase = 0x0400'0000;
inline constexpr u64 kSliceSize = 0x0100'0000;
inline constexpr u64 kBoxBase = 0xE000'0000; // BAR 2 of ivshmem-plain: plain memory
inline constexpr u64 kBoxSize = 0x1'0000;
inline constexpr u64 kEcamBase = 0xB000'0000;

/// Where the RAM of a domain lies.
constexpr u64 slice(u32 domain)
{
    return kSliceBase + domain * 2 * kSliceSize;
}
constexpr u64 box(u32 domain)
{
    return kBoxBase + domain * kBoxSize;
}
/// Scratch register of a 16550 that a domain and the host share.
constexpr u16 scratch_port(u32 domain)
{
    return domain == 1 ? 0x2FF : domain == 2 ? 0x3EF : 0x2EF;
}

/// In a domain.
namespace guest {
/// Ends the domain; the host's test fails with these words.
[[noreturn]] void fail(const char *expression, const char *file, int line, u64 seen, u64 expected);
[[noreturn]] void poweroff(); // all is well
[[noreturn]] void reboot();
u32 number(); // of the domain
void result(u32 index, u64 value);
void signal(u8 value);
void await(u8 value);
} // namespace guest

// ---- control window -------------------------------------------------------------------------------------------------

u32 control_read(u32 reg);
void control_write(u32 reg, u32 value);
dt::Status command(u32 domain, dt::Command code); // waits while it is kBusy
dt::State state_of(u32 domain);
dt::EndReason reason_of(u32 domain);
void write_descriptor(u32 domain, const dt::Descriptor &descriptor);
dt::Descriptor read_descriptor(u32 domain);
void open_gate(u64 domains);

// ---- cores ------------------------------------------------------------------------------------------------------------

/// What a core saw of its VMRUN. Valid when the core has finished.
struct Entering {
    volatile bool joined; // WRMSR of the domain register did not fault
    volatile u64 exit_code;
    ExitState state;
};
Entering &entering(u32 core);
Vmcb &vmcb_of(u32 core);
/// SVM on, VMCB and host save area ready; the VMCB is the least that VMRUN accepts. On the core itself.
Vmcb &prepare_vmcb(u32 core);
/// Job: joins the domain and executes VMRUN.
void enter_job(u64 domain);
/// Job: VMRUN without joining.
void vmrun_job(u64);
/// On any core that has left a domain: GIF and the local APIC again.
void recover_core();

// ---- a domain -----------------------------------------------------------------------------------------------------------

using GuestMain = void (*)(u64 argument);

/// One domain through its life. At the end of its scope it is stopped and deleted.
class Domain {
public:
    /// By default: core `number` alone, its slice, its box, its scratch port, vTPM instance `number`.
    explicit Domain(u32 number, GuestMain main, u64 argument = 0, u64 core_mask = 0);
    Domain(const Domain &) = delete;
    Domain &operator=(const Domain &) = delete;
    ~Domain();

    dt::Descriptor &descriptor() { return descriptor_; }
    [[nodiscard]] u32 number() const { return number_; }

    void allow_port(u16 first, u16 last);
    void add_window(u64 base, u64 size);
    void add_msr(const dt::MsrRule &rule);

    /// CREATE, program and descriptor written. Fails the test on any other status.
    void build();
    /// build() and SEAL.
    void seal();
    /// seal(), and VMRUN on every core of the mask, the boot core last.
    void start();
    /// Until no core is inside: the domain is DIRTY.
    void wait();
    /// start(), wait() and remove(); it ended by poweroff.
    void run();
    /// STOP and wait().
    void stop();
    /// Stopped if need be, and deleted: EMPTY. Fails the test if one of the guest's expectations did.
    void remove();

    [[nodiscard]] dt::State state() const { return state_of(number_); }
    [[nodiscard]] dt::EndReason reason() const { return reason_of(number_); }
    /// What guest::result() put there; after remove().
    [[nodiscard]] u64 result(u32 index) const;
    /// A number of its part of the report, for example "denied.port".
    [[nodiscard]] u64 report(const char *path) const;

    void signal(u8 value) const { out8(scratch_port(number_), value); }
    /// Fails the test if the guest does not say so.
    void await(u8 value);
    /// Until just these cores are inside.
    void await_cores(u64 mask);

private:
    u32 number_;
    dt::Descriptor descriptor_{};
};

/// The machine as the domain tests need it: cores 1..3 up, the box in place. Once per start of the machine.
void set_up_machine();

} // namespace banyan::bare
