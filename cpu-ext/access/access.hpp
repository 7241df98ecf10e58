// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>

#include "banyan/arch/domain_table.hpp"

// What a domain's profile and its own rules say about one port or MSR. Pure.

namespace banyan::access {

inline constexpr std::uint32_t kMsrProfileMax = 1; // profiles are numbered from 1
inline constexpr std::uint32_t kPortProfileMax = 1;

struct PortAnswer {
    dt::PortAction action;
    std::uint8_t value; // what a denied read gives
};

struct MsrAnswer {
    dt::MsrAction action;
    std::uint64_t value;
    std::uint64_t write_mask;
};

[[nodiscard]] PortAnswer profile_port(std::uint32_t profile, std::uint16_t port);
[[nodiscard]] MsrAnswer profile_msr(std::uint32_t profile, std::uint32_t msr);

/// Never the core's own register for a domain, whatever a descriptor asks for.
[[nodiscard]] bool msr_forbidden(std::uint32_t msr);

} // namespace banyan::access
