// SPDX-License-Identifier: GPL-2.0-or-later
#include "tests/baremetal/lib/domain.hpp"

#include "tests/baremetal/lib/pci.hpp"

extern "C" {
extern char image_start[], image_loaded_end[];
void guest_entry();
void *memcpy(void *to, const void *from, std::size_t size);
void *memset(void *to, int value, std::size_t size);
}

namespace banyan::bare {

void report_guest_failure(const char *expression, const char *file, u64 line, u64 seen, u64 expected);

namespace {

// The box: what a failed expectation leaves, then results.
constexpr u64 kFailed = 0x00;
constexpr u64 kExpression = 0x08;
constexpr u64 kFile = 0x10;
constexpr u64 kLine = 0x18;
constexpr u64 kSeen = 0x20;
constexpr u64 kExpected = 0x28;
constexpr u64 kResults = 0x100;
constexpr u32 kFailedMark = 0xFA11'ED00;

alignas(4096) u8 host_save[kCores][4096];
Vmcb vmcbs[kCores];
Entering entered[kCores];
bool machine_is_set_up = false;

} // namespace

// ---- in a domain ----------------------------------------------------------------------------------------------------

namespace guest {

u32 number()
{
    return read<u32>(dt::kOwnPageBase + dt::own::kDomain);
}

void fail(const char *expression, const char *file, int line, u64 seen, u64 expected)
{
    const u64 mine = box(number());
    write<u64>(mine + kExpression, address_of(expression));
    write<u64>(mine + kFile, address_of(file));
    write<u64>(mine + kLine, static_cast<u64>(line));
    write<u64>(mine + kSeen, seen);
    write<u64>(mine + kExpected, expected);
    write<u32>(mine + kFailed, kFailedMark);
    reboot();
}

void poweroff()
{
    write<u8>(dt::kOwnPageBase + dt::own::kSleepControl, dt::own::kSleepEnable);
    for (;;) {
        asm volatile("cli; hlt");
    }
}

void reboot()
{
    write<u8>(dt::kOwnPageBase + dt::own::kReset, dt::own::kResetValue);
    for (;;) {
        asm volatile("cli; hlt");
    }
}

void result(u32 index, u64 value)
{
    write<u64>(box(number()) + kResults + index * 8, value);
}

void signal(u8 value)
{
    out8(scratch_port(number()), value);
}

void await(u8 value)
{
    const u16 port = scratch_port(number());
    while (in8(port) != value) {
        pause();
    }
}

} // namespace guest

// ---- control window -------------------------------------------------------------------------------------------------

u32 control_read(u32 reg)
{
    return read<u32>(dt::kControlBase + reg);
}

void control_write(u32 reg, u32 value)
{
    write<u32>(dt::kControlBase + reg, value);
}

dt::Status command(u32 domain, dt::Command code)
{
    control_write(dt::control::kSelect, domain);
    control_write(dt::control::kCommand, static_cast<u32>(code));
    const auto status = [] { return dt::Status{control_read(dt::control::kStatus)}; };
    (void)eventually([&] { return status() != dt::Status::kBusy; }, 60 * kSecond);
    return status();
}

dt::State state_of(u32 domain)
{
    control_write(dt::control::kSelect, domain);
    return dt::State{control_read(dt::control::kState)};
}

dt::EndReason reason_of(u32 domain)
{
    control_write(dt::control::kSelect, domain);
    return dt::EndReason{control_read(dt::control::kReason)};
}

void write_descriptor(u32 domain, const dt::Descriptor &descriptor)
{
    control_write(dt::control::kSelect, domain);
    const auto *words = reinterpret_cast<const u32 *>(&descriptor);
    for (u32 i = 0; i < sizeof(descriptor) / 4; ++i) {
        control_write(dt::control::kDescriptor + i * 4, words[i]);
    }
}

dt::Descriptor read_descriptor(u32 domain)
{
    control_write(dt::control::kSelect, domain);
    dt::Descriptor descriptor;
    auto *words = reinterpret_cast<u32 *>(&descriptor);
    for (u32 i = 0; i < sizeof(descriptor) / 4; ++i) {
        words[i] = control_read(dt::control::kDescriptor + i * 4);
    }
    return descriptor;
}

void open_gate(u64 domains)
{
    write<u64>(dt::kControlBase + dt::control::kGateOpen, domains);
}

// ---- cores ------------------------------------------------------------------------------------------------------------

Entering &entering(u32 core)
{
    return entered[core];
}

Vmcb &vmcb_of(u32 core)
{
    return vmcbs[core];
}

Vmcb &prepare_vmcb(u32 core)
{
    constexpr u32 kInterceptShutdown = 1u << 31;
    wrmsr(msr::kEfer, rdmsr(msr::kEfer) | kEferSvme);
    wrmsr(msr::kVmHsavePa, address_of(host_save[core]));
    Vmcb &vmcb = vmcbs[core];
    memset(&vmcb, 0, sizeof vmcb);
    vmcb.intercepts[3] = kInterceptShutdown;
    vmcb.intercepts[4] = 1; // VMRUN
    vmcb.guest_asid = 1;
    vmcb.es = vmcb.ss = vmcb.ds = vmcb.fs = vmcb.gs = {0x10, 0xC93, 0xFFFF'FFFF, 0};
    vmcb.cs = {0x18, 0xC9B, 0xFFFF'FFFF, 0};
    vmcb.ldtr = {0, 0x82, 0, 0};
    vmcb.tr = {0, 0x8B, 0, 0};
    vmcb.efer = kEferSvme;
    vmcb.cr0 = 0x11;
    vmcb.dr6 = 0xFFFF'0FF0;
    vmcb.dr7 = 0x400;
    vmcb.rflags = 2;
    vmcb.g_pat = 0x0007'0406'0007'0406;
    return vmcb;
}

void recover_core()
{
    stgi();
    lapic::enable();
}

void vmrun_job(u64)
{
    const u32 core = this_core().number;
    vmrun_probe(address_of(&vmcbs[core]), &entered[core].state);
    entered[core].exit_code = vmcbs[core].exit_code;
    recover_core();
}

void enter_job(u64 domain)
{
    const u32 core = this_core().number;
    Entering &mine = entered[core];
    mine.exit_code = 0;
    prepare_vmcb(core);
    mine.joined = !attempt([=] { wrmsr(dt::kMsrDomain, domain); }).taken;
    if (mine.joined) {
        vmrun_job(0);
    }
}

// ---- a domain -----------------------------------------------------------------------------------------------------------

Domain::Domain(u32 number, GuestMain main, u64 argument, u64 core_mask) : number_(number)
{
    set_up_machine();
    dt::Descriptor &d = descriptor_;
    d.magic = dt::kDescriptorMagic;
    d.version = dt::kDescriptorVersion;
    d.size = sizeof d;
    d.name[0] = 'd';
    d.name[1] = static_cast<char>('0' + number);
    d.core_mask = core_mask != 0 ? core_mask : u64{1} << number;
    d.boot_core = static_cast<u32>(__builtin_ctzll(d.core_mask));
    d.vtpm_instance = number;
    d.msr_profile = 1;
    d.port_profile = 1;
    d.ranges[d.range_count++] = {0, slice(number), kSliceSize};
    d.entry = {address_of(guest_entry), 0, address_of(main), static_cast<u32>(argument)};
    add_window(box(number), kBoxSize);
    allow_port(scratch_port(number), scratch_port(number));
}

Domain::~Domain()
{
    remove();
}

void Domain::allow_port(u16 first, u16 last)
{
    descriptor_.ports[descriptor_.port_count++] = {first, last, dt::PortAction::kAllow, 0, {}};
}

void Domain::add_window(u64 base, u64 size)
{
    descriptor_.windows[descriptor_.window_count++] = {base, size};
}

void Domain::add_msr(const dt::MsrRule &rule)
{
    descriptor_.msrs[descriptor_.msr_count++] = rule;
}

void Domain::build()
{
    memset(reinterpret_cast<void *>(box(number_)), 0, 0x400);
    signal(0);
    BANYAN_EXPECT_EQ(command(number_, dt::Command::kCreate), dt::Status::kOk);
    memcpy(reinterpret_cast<void *>(slice(number_) + address_of(image_start)), image_start,
           static_cast<std::size_t>(image_loaded_end - image_start));
    write_descriptor(number_, descriptor_);
}

void Domain::seal()
{
    build();
    BANYAN_EXPECT_EQ(command(number_, dt::Command::kSeal), dt::Status::kOk);
    BANYAN_EXPECT_EQ(state(), dt::State::kSealed);
}

void Domain::start()
{
    seal();
    const u64 others = descriptor_.core_mask & ~(u64{1} << descriptor_.boot_core);
    for (u32 core = 1; core < kCores; ++core) {
        if ((others >> core & 1) != 0) {
            begin_on(core, enter_job, number_);
        }
    }
    if (others != 0) { // a SIPI to a core that is not inside yet would be lost
        await_cores(others);
    }
    begin_on(descriptor_.boot_core, enter_job, number_);
}

void Domain::wait()
{
    BANYAN_EXPECT(eventually([&] { return state() == dt::State::kDirty; }));
    for (u32 core = 1; core < kCores; ++core) {
        if ((descriptor_.core_mask >> core & 1) != 0) {
            BANYAN_EXPECT(finished_on(core));
        }
    }
}

void Domain::run()
{
    start();
    wait();
    const dt::EndReason why = reason();
    remove();
    BANYAN_EXPECT_EQ(why, dt::EndReason::kPoweroff);
}

void Domain::stop()
{
    BANYAN_EXPECT_EQ(command(number_, dt::Command::kStop), dt::Status::kOk);
    wait();
}

void Domain::remove()
{
    const dt::State now = state();
    if (now == dt::State::kEmpty) {
        return;
    }
    if (now == dt::State::kSealed || now == dt::State::kRunning) {
        (void)command(number_, dt::Command::kStop);
        wait();
    }
    BANYAN_EXPECT_EQ(command(number_, dt::Command::kDelete), dt::Status::kOk);
    const u64 mine = box(number_);
    if (read<u32>(mine + kFailed) == kFailedMark) {
        write<u32>(mine + kFailed, 0);
        report_guest_failure(reinterpret_cast<const char *>(read<u64>(mine + kExpression)),
                             reinterpret_cast<const char *>(read<u64>(mine + kFile)), read<u64>(mine + kLine),
                             read<u64>(mine + kSeen), read<u64>(mine + kExpected));
    }
}

u64 Domain::result(u32 index) const
{
    return read<u64>(box(number_) + kResults + index * 8);
}

u64 Domain::report(const char *path) const
{
    return ask("report domains.", u64{number_}, ".", path);
}

void Domain::await(u8 value)
{
    const u16 port = scratch_port(number_);
    if (!eventually([&] { return in8(port) == value || state() == dt::State::kDirty; }) || in8(port) != value) {
        if (state() == dt::State::kDirty) {
            remove();
        }
        BANYAN_EXPECT_EQ(in8(port), value);
    }
}

void Domain::await_cores(u64 mask)
{
    BANYAN_EXPECT(eventually([&] { return report("cores_inside") == mask; }));
}

void set_up_machine()
{
    if (machine_is_set_up) {
        return;
    }
    machine_is_set_up = true;
    BANYAN_EXPECT_EQ(control_read(dt::control::kId), dt::kOwnId);
    const pci::Function memory = pci::find(0x1AF4, 0x1110); // ivshmem-plain
    BANYAN_EXPECT(memory.found);
    pci::write(memory, pci::kBar2, static_cast<u32>(kBoxBase));
    pci::write(memory, pci::kBar2 + 4, 0);
    pci::write(memory, pci::kCommand, pci::kMemory);
    for (u32 core = 1; core < 4; ++core) {
        start_core(core);
    }
}

} // namespace banyan::bare
