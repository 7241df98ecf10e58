// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>

#include "guest/loader/hash/digest.hpp"

namespace banyan::loader {

/// Configuration space that the ACPI tables give the domain. PCI Firmware Specification 3.3, 4.1.2.
struct ConfigSpace {
    std::uint64_t base = 0; // of bus 0
    std::uint8_t first_bus = 0;
    std::uint8_t last_bus = 0;
    bool present = false; // there is an MCFG table

    bool operator==(const ConfigSpace &) const = default;
};

/// Reads the MCFG table of untrusted tables, which lie at guest physical `base` and nowhere else. False: they are malformed,
/// or MCFG says something that no domain's does: two entries, a segment, an address outside the MMIO hole.
[[nodiscard]] bool find_config_space(Bytes tables, std::uint64_t base, ConfigSpace &found);

} // namespace banyan::loader
