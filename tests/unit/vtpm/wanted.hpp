// SPDX-License-Identifier: GPL-2.0-or-later
// How many rounds a test goes: few in CI, as many as the environment says in a long run.
#pragma once

#include <cstdlib>

namespace banyan::vtpm::testing {

[[nodiscard]] inline unsigned long wanted(const char *variable, unsigned long usually)
{
    const char *value = std::getenv(variable);
    return value != nullptr ? std::strtoul(value, nullptr, 0) : usually;
}

} // namespace banyan::vtpm::testing
