// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "tests/baremetal/lib/x86.hpp"

// PCI configuration by mechanism 1 (PCI Local Bus 3.0, 3.2.2.3.2), which only the host has.

namespace banyan::bare::pci {

inline constexpr u8 kCommand = 0x04;
inline constexpr u8 kBar0 = 0x10;
inline constexpr u8 kBar2 = 0x18;
inline constexpr u8 kBuses = 0x18; // bridges: primary, secondary, subordinate
inline constexpr u8 kBridgeMemory = 0x20;
inline constexpr u8 kBridgePrefetch = 0x24;
inline constexpr u32 kMemory = 1u << 1;
inline constexpr u32 kMaster = 1u << 2;

struct Function {
    bool found;
    u8 bus;
    u8 devfn;
};

inline u32 select(Function f, u32 reg)
{
    out32(0xCF8, 1u << 31 | u32{f.bus} << 16 | u32{f.devfn} << 8 | (reg & 0xFC));
    return reg;
}

inline u32 read(Function f, u32 reg)
{
    select(f, reg);
    return in32(0xCFC);
}

inline void write(Function f, u32 reg, u32 value)
{
    select(f, reg);
    out32(0xCFC, value);
}

/// The first function with these ids on buses 0..7.
inline Function find(u16 vendor, u16 device)
{
    for (u32 bus = 0; bus < 8; ++bus) {
        for (u32 devfn = 0; devfn < 256; ++devfn) {
            const Function f{true, static_cast<u8>(bus), static_cast<u8>(devfn)};
            if (read(f, 0) == (u32{device} << 16 | vendor)) {
                return f;
            }
        }
    }
    return {};
}

} // namespace banyan::bare::pci
