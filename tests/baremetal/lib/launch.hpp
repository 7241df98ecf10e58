// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "tests/baremetal/lib/cores.hpp"
#include "tests/baremetal/lib/selftest.hpp"

// Late launch, of the bare core and in a domain: the block that is launched returns to the launcher.

namespace banyan::bare {

inline constexpr u32 kSlb = 0x80'0000;
inline constexpr u32 kSlbSize = 0x1'0000;
inline constexpr u16 kSlbEntry = 0x40;

/// What the block found. Offsets are launch.S's.
struct [[gnu::packed]] LaunchState {
    u32 eax, ebx, ecx, edx, esi, edi, ebp, esp, eflags, eip;
    u32 cr0, cr2, cr3, cr4, dr6, dr7;
    u64 efer;
    u32 vm_cr;
    u16 cs, ss, ds, es, fs, gs;
    u16 gdt_limit;
    u32 gdt_base;
    u16 pad;
    u16 idt_limit;
    u32 idt_base;
};

extern "C" {
extern LaunchState launch_state;
extern u64 launch_high, launch_xmm5;
extern char launch_block[], launch_block_end[];
void launch_now(u32 eax);
void *memcpy(void *to, const void *from, std::size_t size);
}

/// A block at `at` whose 64 KiB are a pattern that depends on `seed`.
inline void make_block(u32 at, u16 measured, u8 seed = 1)
{
    u8 state = seed;
    for (u32 i = 0; i < kSlbSize; ++i) {
        state = static_cast<u8>(state * 5 + 1 + (i >> 8));
        write<u8>(at + i, state);
    }
    write<u16>(at, kSlbEntry);
    write<u16>(at + 2, measured);
    memcpy(reinterpret_cast<void *>(u64{at} + kSlbEntry), launch_block,
           static_cast<std::size_t>(launch_block_end - launch_block));
}

/// SKINIT; returns in the launched block's name, GIF 0 and interrupts off.
inline void launch(u32 eax = kSlb)
{
    const u32 number = this_core().number;
    launch_now(eax);
    set_up_core(number);
}

} // namespace banyan::bare
