// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "tests/baremetal/lib/x86.hpp"

// The I/O APIC: Intel 82093AA, section 3.

namespace banyan::bare::ioapic {

inline constexpr u64 kSelect = 0xFEC0'0000;
inline constexpr u64 kWindow = 0xFEC0'0010;
inline constexpr u32 kRedirection = 0x10;
inline constexpr u32 kLevel = 1u << 15;
inline constexpr u32 kMasked = 1u << 16;

inline void set(u32 reg, u32 value)
{
    write<u32>(kSelect, reg);
    write<u32>(kWindow, value);
}

/// A level on this pin is `vector` on core 0.
inline void route(u32 pin, u8 vector)
{
    set(kRedirection + 2 * pin + 1, 0);
    set(kRedirection + 2 * pin, kLevel | vector);
}
inline void mask(u32 pin)
{
    set(kRedirection + 2 * pin, kLevel | kMasked);
}

} // namespace banyan::bare::ioapic
