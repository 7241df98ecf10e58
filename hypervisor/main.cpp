// SPDX-License-Identifier: GPL-2.0-or-later
// The disengaged hypervisor: core 0 creates, starts, stops and deletes domains, and does nothing on behalf of one
// that runs. The other cores pass through here on their way into a domain and halt here after it.

#include "hypervisor/machine.hpp"
#include "hypervisor/manager.hpp"

namespace banyan::hv {
namespace {

// ---- words to the debug port, which may be absent -------------------------------------------------------------------

constexpr std::uint16_t kDebugPort = 0xE9;

void print(const char *text)
{
    for (; *text != 0; ++text) {
        out8(kDebugPort, static_cast<std::uint8_t>(*text));
    }
}

void print_hex(std::uint64_t value)
{
    for (int shift = 60; shift >= 0; shift -= 4) {
        out8(kDebugPort, static_cast<std::uint8_t>("0123456789abcdef"[value >> shift & 0xF]));
    }
}

[[noreturn]] void halt()
{
    for (;;) {
        asm volatile("cli; hlt");
    }
}

// ---- interrupts -----------------------------------------------------------------------------------------------------

struct ExceptionFrame { // boot.S
    std::uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
    std::uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

struct [[gnu::packed]] TableRegister {
    std::uint16_t limit;
    std::uint64_t base;
};

struct Gate {
    std::uint64_t low, high;
};
constinit Gate interrupt_table[256]{};

constexpr std::uint8_t kTimerVector = 0x20;
constexpr std::uint8_t kSerialVector = 0x21;
constexpr std::uint8_t kSpuriousVector = 0xFF;
constexpr std::uint32_t kTick = 625'000; // 10 ms of a 1 GHz local APIC timer, divided by 16

namespace ioapic { // Intel 82093AA, 3.1, 3.2
constexpr std::uint64_t kIndex = 0xFEC0'0000;
constexpr std::uint64_t kData = kIndex + 0x10;
constexpr std::uint32_t kRedirection = 0x10; // two words a pin
constexpr std::uint32_t kMasked = 1u << 16;
constexpr std::uint32_t kPins = 24;
constexpr std::uint32_t kSerialPin = 4;
} // namespace ioapic

void ioapic_write(std::uint32_t reg, std::uint32_t value)
{
    Machine::write32(ioapic::kIndex, reg);
    Machine::write32(ioapic::kData, value);
}

void set_gate(std::size_t vector, std::uint64_t handler)
{
    constexpr std::uint64_t kInterruptGate = 0x8E00ull << 32; // APM 2, 4.8.4; selector: boot.S
    constexpr std::uint64_t kSelector = 0x18ull << 16;
    interrupt_table[vector].low = (handler & 0xFFFF) | kSelector | kInterruptGate | (handler >> 16 & 0xFFFF) << 48;
    interrupt_table[vector].high = handler >> 32;
}

void build_interrupt_table()
{
    for (std::size_t vector = 0; vector < 256; ++vector) {
        const bool ignored = vector == 2 || vector >= 32; // NMI too: its sources are all filtered
        set_gate(vector, ignored ? address_of(ignore_interrupt) : address_of(exception_entries) + vector * 16);
    }
}

void load_interrupt_table()
{
    const TableRegister table{sizeof interrupt_table - 1, address_of(interrupt_table)};
    asm volatile("lidt %0" : : "m"(table));
}

/// The local timer ends a HLT of core 0 after 10 ms at most, the serial port when bytes come. Nothing else may.
void start_interrupts()
{
    for (std::uint32_t pin = 0; pin < ioapic::kPins; ++pin) {
        ioapic_write(ioapic::kRedirection + 2 * pin, pin == ioapic::kSerialPin ? kSerialVector : ioapic::kMasked);
        ioapic_write(ioapic::kRedirection + 2 * pin + 1, 0); // to APIC 0
    }
    out8(0x21, 0xFF); // both 8259s masked
    out8(0xA1, 0xFF);
    const auto write = [](std::uint32_t reg, std::uint32_t value) { Machine::write32(dt::kLapicBase + reg, value); };
    write(lapic::kLvtLint0, lapic::kMasked);
    write(lapic::kLvtLint1, lapic::kMasked);
    write(lapic::kSpurious, lapic::kEnabled | kSpuriousVector);
    write(lapic::kTimerDivide, 3); // by 16
    write(lapic::kLvtTimer, lapic::kPeriodic | kTimerVector);
    write(lapic::kTimerInitial, kTick);
}

Modules modules;
Frame frame;

} // namespace
} // namespace banyan::hv

using namespace banyan;
using namespace banyan::hv;

extern "C" {

void svm_enter(std::uint64_t vmcb);

[[noreturn]] void exception(const ExceptionFrame *regs)
{
    print("hypervisor: exception\n");
    const auto *words = reinterpret_cast<const std::uint64_t *>(regs);
    static constexpr const char *kNames[] = {"rax ", "rbx ", "rcx ", "rdx ", "rsi ", "rdi ", "rbp ", "r8  ",
                                             "r9  ", "r10 ", "r11 ", "r12 ", "r13 ", "r14 ", "r15 ", "vec ",
                                             "err ", "rip ", "cs  ", "rfl ", "rsp ", "ss  "};
    for (const char *name : kNames) {
        print(name);
        print_hex(*words++);
        print("\n");
    }
    halt();
}

/// Core 0, after the launch.
[[noreturn]] void hypervisor_main()
{
    const bool launched = (rdmsr(kMsrVmCr) & kVmCrRInit) != 0; // only SKINIT sets it
    build_interrupt_table();
    load_interrupt_table();
    open_gif();
    start_interrupts();

    Machine machine;
    for (std::uint32_t core = 0; core < dt::kMaxCores; ++core) {
        core_areas[core].mailbox.phase = Phase::kNever;
    }
    const Extent self{address_of(image_start), address_of(image_end) - address_of(image_start)};
    read_modules(machine, handoff_multiboot, address_of(image_end), modules);
    Manager manager{machine, modules, self};
    Channel channel{machine};

    frame.header = {};
    frame.set(mgmt::HelloPayload{static_cast<std::uint32_t>(modules.count), count_cores(machine), launched, 0});
    channel.send(frame);
    print(launched ? "hypervisor: launched\n" : "hypervisor: not launched: no SKINIT\n");
    for (;;) {
        manager.handle(frame, channel.receive(frame));
        channel.send(frame);
    }
}

/// Every other core, once a start: into its domain, and out for good.
[[noreturn]] void core_main(std::uint64_t core)
{
    CoreArea &area = core_areas[core];
    load_interrupt_table();
    open_gif();
    wrmsr(kMsrVmHsavePa, address_of(area.host_save));
    wrmsr(dt::kMsrDomain, area.mailbox.domain); // #GP if the table does not want this core there: it halts
    area.mailbox.phase = Phase::kEntering;
    svm_enter(address_of(&area.vmcb));
    area.mailbox.exit_code = area.vmcb.exit_code;
    wrmsr(dt::kMsrDomain, 0);
    area.mailbox.phase = Phase::kLeft;
    asm volatile("cli; stgi"); // the next INIT must reach it
    halt();
}

// ---- what the compiler calls ------------------------------------------------------------------------------------------

void *memset(void *to, int value, std::size_t size)
{
    void *at = to;
    asm volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, std::size_t size)
{
    Machine::copy(address_of(to), address_of(from), size);
    return to;
}

int memcmp(const void *a, const void *b, std::size_t size)
{
    const auto *x = static_cast<const std::uint8_t *>(a);
    const auto *y = static_cast<const std::uint8_t *>(b);
    for (std::size_t i = 0; i < size; ++i) {
        if (x[i] != y[i]) {
            return x[i] - y[i];
        }
    }
    return 0;
}

} // extern "C"
