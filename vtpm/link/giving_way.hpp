// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <ctime>

namespace banyan::vtpm {

/// How often a side gives way (sched_yield) before it sleeps: the host for an answer, the worker for a driver's next
/// command. Most come within. It spares both wake-ups, which cost more than most commands do; with one TPM and with 256
/// at once several times as many commands are done as with sleeping at once.
inline constexpr unsigned kYieldsMax = 20;

inline std::uint64_t monotonic_ns()
{
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

} // namespace banyan::vtpm
