// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

// The processor, as the tests use it. Sections are those of the AMD64 Architecture Programmer's Manual.

namespace banyan::bare {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

namespace msr {
inline constexpr u32 kTsc = 0x10;
inline constexpr u32 kApicBase = 0x1B;
inline constexpr u32 kPat = 0x277;
inline constexpr u32 kTscDeadline = 0x6E0;
inline constexpr u32 kMtrrPhysBase0 = 0x200;
inline constexpr u32 kEfer = 0xC000'0080;
inline constexpr u32 kFsBase = 0xC000'0100;
inline constexpr u32 kGsBase = 0xC000'0101;
inline constexpr u32 kSyscfg = 0xC001'0010;
inline constexpr u32 kMmioConf = 0xC001'0058;
inline constexpr u32 kVmCr = 0xC001'0114;
inline constexpr u32 kVmHsavePa = 0xC001'0117;
inline constexpr u32 kSvmKey = 0xC001'0118;
} // namespace msr

inline constexpr u64 kEferSvme = 1u << 12;
inline constexpr u64 kVmCrDpd = 1u << 0;
inline constexpr u64 kVmCrRInit = 1u << 1;
inline constexpr u64 kVmCrDisA20m = 1u << 2;
inline constexpr u64 kVmCrLock = 1u << 3;
inline constexpr u64 kVmCrSvmdis = 1u << 4;

enum Vector : u8 { kDivide = 0, kNmi = 2, kUd = 6, kDf = 8, kGp = 13, kPf = 14, kSx = 30 };

// ---- instructions -------------------------------------------------------------------------------------------------

inline void out8(u16 port, u8 value)
{
    asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
inline void out16(u16 port, u16 value)
{
    asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
inline void out32(u16 port, u32 value)
{
    asm volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

inline u8 in8(u16 port)
{
    u8 value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

inline u16 in16(u16 port)
{
    u16 value;
    asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

inline u32 in32(u16 port)
{
    u32 value;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

inline u64 rdmsr(u32 number)
{
    u32 low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(number));
    return u64{high} << 32 | low;
}

inline void wrmsr(u32 number, u64 value)
{
    asm volatile("wrmsr" : : "c"(number), "a"(static_cast<u32>(value)), "d"(static_cast<u32>(value >> 32)) : "memory");
}

inline u64 rdtsc()
{
    u32 low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return u64{high} << 32 | low;
}

struct Cpuid {
    u32 eax, ebx, ecx, edx;
};

inline Cpuid cpuid(u32 leaf)
{
    Cpuid r;
    asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(0));
    return r;
}

inline u64 read_cr2()
{
    u64 value;
    asm volatile("mov %%cr2, %0" : "=r"(value));
    return value;
}

inline u64 read_cr3()
{
    u64 value;
    asm volatile("mov %%cr3, %0" : "=r"(value));
    return value;
}

inline void write_cr3(u64 value)
{
    asm volatile("mov %0, %%cr3" : : "r"(value) : "memory");
}

inline void pause()
{
    asm volatile("pause" : : : "memory");
}
inline void barrier()
{
    asm volatile("" : : : "memory");
}
inline void sti()
{
    asm volatile("sti" : : : "memory");
}
inline void cli()
{
    asm volatile("cli" : : : "memory");
}
inline void stgi()
{
    asm volatile("stgi" : : : "memory");
}
inline void clgi()
{
    asm volatile("clgi" : : : "memory");
}
/// Interrupts are held back until the HLT: none is lost between the two.
inline void sti_hlt()
{
    asm volatile("sti; hlt; cli" : : : "memory");
}

// ---- memory, by physical address: everything is mapped one to one -----------------------------------------------------

template <typename T = u32>
inline T read(u64 address)
{
    return *reinterpret_cast<const volatile T *>(address);
}

template <typename T = u32>
inline void write(u64 address, T value)
{
    *reinterpret_cast<volatile T *>(address) = value;
}

inline u64 address_of(const volatile void *p)
{
    return reinterpret_cast<u64>(p);
}

template <typename Result, typename... Args>
inline u32 address_of(Result (*function)(Args...))
{
    return static_cast<u32>(reinterpret_cast<u64>(function));
}

// ---- VMCB. Appendix B -----------------------------------------------------------------------------------------------

struct Segment {
    u16 selector;
    u16 attributes;
    u32 limit;
    u64 base;
};

struct alignas(4096) Vmcb {
    u32 intercepts[6]; // 000h
    u8 reserved_018[0x040 - 0x018];
    u64 iopm_base, msrpm_base, tsc_offset; // 040h
    u32 guest_asid, tlb_control;           // 058h
    u64 virtual_interrupt;                 // 060h
    u64 interrupt_shadow;                  // 068h
    u64 exit_code, exit_info1, exit_info2; // 070h
    u64 exit_int_info;                     // 088h
    u64 nested_control;                    // 090h
    u8 reserved_098[0x0A8 - 0x098];
    u64 event_injection; // 0A8h
    u64 nested_cr3;      // 0B0h
    u8 reserved_0b8[0x400 - 0x0B8];
    Segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr; // 400h
    u8 reserved_4a0[0x4CB - 0x4A0];
    u8 cpl;           // 4CBh
    u32 reserved_4cc; // 4CCh
    u64 efer;         // 4D0h
    u8 reserved_4d8[0x548 - 0x4D8];
    u64 cr4, cr3, cr0, dr7, dr6, rflags, rip; // 548h
    u8 reserved_580[0x5D8 - 0x580];
    u64 rsp; // 5D8h
    u8 reserved_5e0[0x5F8 - 0x5E0];
    u64 rax; // 5F8h
    u8 reserved_600[0x668 - 0x600];
    u64 g_pat; // 668h
    u8 reserved_670[0x1000 - 0x670];
};
static_assert(offsetof(Vmcb, iopm_base) == 0x040);
static_assert(offsetof(Vmcb, exit_code) == 0x070);
static_assert(offsetof(Vmcb, event_injection) == 0x0A8);
static_assert(offsetof(Vmcb, nested_cr3) == 0x0B0);
static_assert(offsetof(Vmcb, es) == 0x400);
static_assert(offsetof(Vmcb, cpl) == 0x4CB);
static_assert(offsetof(Vmcb, efer) == 0x4D0);
static_assert(offsetof(Vmcb, rip) == 0x578);
static_assert(offsetof(Vmcb, rsp) == 0x5D8);
static_assert(offsetof(Vmcb, rax) == 0x5F8);
static_assert(offsetof(Vmcb, g_pat) == 0x668);
static_assert(sizeof(Vmcb) == 0x1000);

namespace exit_code {
inline constexpr u64 kVmmcall = 0x81;
inline constexpr u64 kShutdown = 0x7F;
inline constexpr u64 kHlt = 0x78;
inline constexpr u64 kInvalid = ~u64{0};
} // namespace exit_code

/// What vmrun_probe() saw right after the #VMEXIT.
struct alignas(64) ExitState {
    u8 fxsave[512];
    u64 rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
};

// ---- faults -----------------------------------------------------------------------------------------------------------

struct Frame {
    u64 rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15;
    u64 vector, error, rip, cs, rflags, rsp, ss;
};

struct Fault {
    bool taken;
    u8 vector;
    u64 error;
    u64 cr2;
    u64 rip;

    /// taken, with this vector
    [[nodiscard]] bool is(u8 expected) const { return taken && vector == expected; }
};

/// What one core knows of itself; GS base points to it.
struct PerCore {
    PerCore *self;
    u32 number;
    u64 recovery; // protected_call()
    Fault fault;
    volatile u32 interrupts[256];   // taken, by vector
    void (*volatile hook)(Frame &); // called for interrupts first
};

inline PerCore &this_core()
{
    PerCore *core;
    asm volatile("mov %%gs:0, %0" : "=r"(core));
    return *core;
}

extern "C" {
bool protected_call(void (*function)(void *), void *argument, u64 *recovery);
void vmrun_probe(u64 vmcb, ExitState *state);
}

/// Runs `body`; a fault ends it and is returned.
template <typename Body>
Fault attempt(Body body)
{
    PerCore &core = this_core();
    core.fault = {};
    protected_call([](void *b) { (*static_cast<Body *>(b))(); }, &body, &core.recovery);
    return core.fault;
}

/// IDT, GS base and local APIC of the core that calls. number: which stack and PerCore are its own.
void set_up_core(u32 number);

// ---- local APIC. 16.3 -------------------------------------------------------------------------------------------------

namespace lapic {
inline constexpr u64 kBase = 0xFEE0'0000;
inline constexpr u32 kId = 0x020;
inline constexpr u32 kTpr = 0x080;
inline constexpr u32 kEoi = 0x0B0;
inline constexpr u32 kLogicalDestination = 0x0D0;
inline constexpr u32 kDestinationFormat = 0x0E0;
inline constexpr u32 kSpurious = 0x0F0;
inline constexpr u32 kIrr = 0x200;
inline constexpr u32 kIcrLow = 0x300;
inline constexpr u32 kIcrHigh = 0x310;
inline constexpr u32 kLvtTimer = 0x320;
inline constexpr u32 kLvtThermal = 0x330;
inline constexpr u32 kLvtCounter = 0x340;
inline constexpr u32 kLvtLint0 = 0x350;
inline constexpr u32 kLvtLint1 = 0x360;
inline constexpr u32 kLvtError = 0x370;
inline constexpr u32 kTimerInitial = 0x380;
inline constexpr u32 kTimerCurrent = 0x390;
inline constexpr u32 kTimerDivide = 0x3E0;

inline constexpr u32 kFixed = 0u << 8;
inline constexpr u32 kLowest = 1u << 8;
inline constexpr u32 kSmi = 2u << 8;
inline constexpr u32 kNmiMode = 4u << 8;
inline constexpr u32 kInit = 5u << 8;
inline constexpr u32 kStartup = 6u << 8;
inline constexpr u32 kLogical = 1u << 11;
inline constexpr u32 kPending = 1u << 12;
inline constexpr u32 kAssert = 1u << 14;
inline constexpr u32 kLevel = 1u << 15;
inline constexpr u32 kSelf = 1u << 18;
inline constexpr u32 kAll = 2u << 18;
inline constexpr u32 kOthers = 3u << 18;
inline constexpr u32 kMasked = 1u << 16;
inline constexpr u32 kPeriodic = 1u << 17;

inline u32 get(u32 reg)
{
    return read<u32>(kBase + reg);
}
inline void set(u32 reg, u32 value)
{
    write<u32>(kBase + reg, value);
}

inline void send(u32 destination, u32 command)
{
    set(kIcrHigh, destination << 24);
    set(kIcrLow, command);
    while ((get(kIcrLow) & kPending) != 0) {
    }
}

inline void enable()
{
    set(kSpurious, 0x1FF);
}
inline bool in_service_or_pending(u8 vector)
{
    return (get(kIrr + vector / 32 * 16) >> (vector % 32) & 1) != 0;
}
} // namespace lapic

// ---- time -------------------------------------------------------------------------------------------------------------

/// A third of a second to a second, whatever the TSC counts.
inline constexpr u64 kSecond = 1'000'000'000;

/// False: it did not become true within some seconds.
template <typename Predicate>
bool eventually(Predicate done, u64 limit = 20 * kSecond)
{
    const u64 start = rdtsc();
    while (!done()) {
        if (rdtsc() - start > limit) {
            return false;
        }
        pause();
    }
    return true;
}

inline void spin(u64 ticks)
{
    const u64 start = rdtsc();
    while (rdtsc() - start < ticks) {
        pause();
    }
}

inline constexpr u64 kMillisecond = kSecond / 1000;

} // namespace banyan::bare
