// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>

#include "banyan/arch/domain_table.hpp"

// Who owns which physical address, as the hypervisor sees the machine. docs/hypervisor.md has the map.

namespace banyan::hv {

inline constexpr std::uint64_t kLowEnd = 0x10'0000;  // firmware, multiboot information, trampoline
inline constexpr std::uint64_t kTrampoline = 0x8000; // one page; its number is the SIPI vector
inline constexpr std::uint64_t kEcam = 0xB000'0000;  // bus b at + b MiB; the hypervisor programs it so
inline constexpr std::uint64_t kEcamBus = 0x10'0000;
inline constexpr std::uint64_t kEcamEnd = 0xC000'0000;
inline constexpr std::uint64_t kPciHoleEnd = 0xFEC0'0000;   // functions' memory lies in [kEcamEnd, kPciHoleEnd)
inline constexpr std::uint64_t kRamHole = kEcam;            // no RAM from here
inline constexpr std::uint64_t kRamHoleEnd = 0x1'0000'0000; // to here
inline constexpr std::uint64_t kMapEnd = 512ull << 30;      // of the hypervisor's identity map

struct Extent {
    std::uint64_t base;
    std::uint64_t size;
};

/// [base, base + size) does not wrap and lies in [from, to).
[[nodiscard]] constexpr bool within(Extent extent, std::uint64_t from, std::uint64_t to)
{
    return extent.base >= from && extent.base <= to && extent.size <= to - extent.base;
}

/// Both must not wrap.
[[nodiscard]] constexpr bool overlap(Extent a, Extent b)
{
    return a.base < b.base + b.size && b.base < a.base + a.size;
}

[[nodiscard]] constexpr bool page_aligned(Extent extent)
{
    return (extent.base | extent.size) % dt::kPageSize == 0;
}

} // namespace banyan::hv
