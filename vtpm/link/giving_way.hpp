// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <ctime>

namespace banyan::vtpm {

/// How often a side gives way (sched_yield) before it sleeps: the host for an answer, the worker for a driver's next
/// command. Most come within, and both wake-ups are spared, which cost more than most commands do.
inline constexpr unsigned kYieldsMax = 20;

/// CLOCK_MONOTONIC, what waits are measured with.
inline std::uint64_t monotonic_ns()
{
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

} // namespace banyan::vtpm
