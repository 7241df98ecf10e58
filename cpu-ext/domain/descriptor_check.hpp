// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "banyan/arch/domain_table.hpp"
#include "cpu-ext/domain/descriptor_rules.hpp"
#include "cpu-ext/domain/platform.hpp"

namespace banyan::domain {

/// Wrap-safe; an empty extent overlaps nothing.
[[nodiscard]] constexpr bool overlaps(std::uint64_t a, std::uint64_t a_size, std::uint64_t b, std::uint64_t b_size)
{
    if (a_size == 0 || b_size == 0) {
        return false;
    }
    return a <= b ? b - a < a_size : a - b < b_size;
}

/// [base, base + size) lies in [outer, outer + outer_size). Wrap-safe.
[[nodiscard]] constexpr bool inside(std::uint64_t base, std::uint64_t size, std::uint64_t outer,
                                    std::uint64_t outer_size)
{
    return base >= outer && base - outer <= outer_size && size <= outer_size - (base - outer);
}

[[nodiscard]] bool in_ram(const Platform &platform, std::uint64_t hpa, std::uint64_t size);

/// The rules that speak of the descriptor and the machine. Rule::kNone: all hold.
[[nodiscard]] Rule check_descriptor(const dt::Descriptor &descriptor, const Platform &platform);

/// The rules between two domains. `descriptor` has passed check_descriptor(); `other` may be a draft with anything in it.
[[nodiscard]] Rule check_against(const dt::Descriptor &descriptor, const dt::Descriptor &other,
                                 const Platform &platform);

/// A vTPM instance that both name. Either may be a draft with anything in it.
[[nodiscard]] bool share_instance(const dt::Descriptor &one, const dt::Descriptor &other);

/// Configuration space of the bus behind a root port.
[[nodiscard]] constexpr dt::Window ecam_of(const dt::RootPort &port, const Platform &platform)
{
    return {platform.ecam_base + port.secondary * kEcamBusSize, kEcamBusSize};
}

} // namespace banyan::domain
