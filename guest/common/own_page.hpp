// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>

#include "banyan/arch/domain_table.hpp"

// The domain's own page, for code that runs without an operating system.

namespace banyan::guest {

template <typename T>
T own_read(std::uint32_t offset)
{
    return *reinterpret_cast<volatile T *>(static_cast<std::uintptr_t>(dt::kOwnPageBase) + offset);
}

template <typename T>
void own_write(std::uint32_t offset, T value)
{
    *reinterpret_cast<volatile T *>(static_cast<std::uintptr_t>(dt::kOwnPageBase) + offset) = value;
}

/// False on a machine without a domain table: the page then reads as whatever unassigned memory reads as.
inline bool own_page_present()
{
    return own_read<std::uint32_t>(dt::own::kId) == dt::kOwnId && own_read<std::uint32_t>(dt::own::kVersion) == 1;
}

/// True in a domain; the host (domain 0) has an own page too, and no start gate.
inline bool in_domain()
{
    return own_page_present() && own_read<std::uint32_t>(dt::own::kDomain) != 0;
}

} // namespace banyan::guest
