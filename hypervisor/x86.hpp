// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>

// Facts of the AMD manuals that the hypervisor needs, and the instructions behind them.

namespace banyan::hv {

// ---- MSRs. APM 2, appendix A --------------------------------------------------------------------------------------

inline constexpr std::uint32_t kMsrVmCr = 0xC001'0114;
inline constexpr std::uint32_t kMsrVmHsavePa = 0xC001'0117;
inline constexpr std::uint64_t kVmCrRInit = 1u << 1; // APM 2, 15.30.1: INIT is redirected to #SX

// ---- VMCB. APM 2, appendix B --------------------------------------------------------------------------------------

struct Segment {
    std::uint16_t selector;
    std::uint16_t attributes;
    std::uint32_t limit;
    std::uint64_t base;
};

struct alignas(4096) Vmcb {
    std::uint32_t intercepts[6]; // 000h
    std::uint8_t reserved_018[0x058 - 0x018];
    std::uint32_t guest_asid; // 058h
    std::uint8_t reserved_05c[0x070 - 0x05C];
    std::uint64_t exit_code; // 070h
    std::uint8_t reserved_078[0x400 - 0x078];
    Segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr; // 400h
    std::uint8_t reserved_4a0[0x4D0 - 0x4A0];
    std::uint64_t efer; // 4D0h
    std::uint8_t reserved_4d8[0x548 - 0x4D8];
    std::uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip; // 548h
    std::uint8_t reserved_580[0x668 - 0x580];
    std::uint64_t g_pat; // 668h
    std::uint8_t reserved_670[0x1000 - 0x670];
};
static_assert(offsetof(Vmcb, guest_asid) == 0x058);
static_assert(offsetof(Vmcb, exit_code) == 0x070);
static_assert(offsetof(Vmcb, es) == 0x400);
static_assert(offsetof(Vmcb, efer) == 0x4D0);
static_assert(offsetof(Vmcb, cr4) == 0x548);
static_assert(offsetof(Vmcb, rip) == 0x578);
static_assert(offsetof(Vmcb, g_pat) == 0x668);
static_assert(sizeof(Vmcb) == 0x1000);

inline constexpr std::uint32_t kInterceptShutdown = 1u << 31; // word 3, APM 2, table B-1, 00Ch
inline constexpr std::uint32_t kInterceptVmrun = 1u << 0;     // word 4, 010h

/// The least that VMRUN accepts (APM 2, 15.5.1): the domain table replaces the entry state by the descriptor's.
inline void make_vmcb(Vmcb &vmcb)
{
    vmcb.intercepts[3] = kInterceptShutdown;
    vmcb.intercepts[4] = kInterceptVmrun;
    vmcb.guest_asid = 1;
    vmcb.es = vmcb.ss = vmcb.ds = vmcb.fs = vmcb.gs = {0x10, 0xC93, 0xFFFF'FFFF, 0};
    vmcb.cs = {0x08, 0xC9B, 0xFFFF'FFFF, 0};
    vmcb.ldtr = {0, 0x82, 0, 0};
    vmcb.tr = {0, 0x8B, 0, 0};
    vmcb.efer = 1u << 12; // SVME
    vmcb.cr0 = 0x11;      // ET, PE
    vmcb.dr6 = 0xFFFF'0FF0;
    vmcb.dr7 = 0x400;
    vmcb.rflags = 2;
    vmcb.g_pat = 0x0007'0406'0007'0406;
}

// ---- instructions -------------------------------------------------------------------------------------------------

inline void out8(std::uint16_t port, std::uint8_t value)
{
    asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
inline void out32(std::uint16_t port, std::uint32_t value)
{
    asm volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

inline std::uint8_t in8(std::uint16_t port)
{
    std::uint8_t value = 0;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

inline std::uint32_t in32(std::uint16_t port)
{
    std::uint32_t value = 0;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

inline std::uint64_t rdmsr(std::uint32_t msr)
{
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return static_cast<std::uint64_t>(high) << 32 | low;
}

inline void wrmsr(std::uint32_t msr, std::uint64_t value)
{
    asm volatile("wrmsr"
                 :
                 : "c"(msr), "a"(static_cast<std::uint32_t>(value)), "d"(static_cast<std::uint32_t>(value >> 32))
                 : "memory");
}

/// SKINIT leaves INIT redirected and GIF clear, on the other cores too (APM 2, 15.27.8). R_INIT goes first: an INIT
/// held back by GIF would else raise #SX. DIS_A20M and DPD stay: nothing here wants A20 masked or a debug port.
inline void open_gif()
{
    wrmsr(kMsrVmCr, rdmsr(kMsrVmCr) & ~kVmCrRInit);
    asm volatile("stgi" : : : "memory");
}

} // namespace banyan::hv
