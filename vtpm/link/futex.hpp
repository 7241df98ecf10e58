// SPDX-License-Identifier: GPL-2.0-or-later
// futex(2) on a word of memory that two processes share. std::atomic_ref::wait is for the threads of one process.
#pragma once

#include <cerrno>
#include <climits>
#include <cstdint>
#include <ctime>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace banyan::vtpm {

inline constexpr std::uint64_t kForever = ~std::uint64_t{0};

/// Sleeps while the word has this value, at most so long, or until a signal comes. False: the time is over.
inline bool futex_wait(std::uint32_t &word, std::uint32_t value, std::uint64_t most_ns)
{
    constexpr std::uint64_t kSecond = 1'000'000'000;
    const timespec most{static_cast<time_t>(most_ns / kSecond), static_cast<long>(most_ns % kSecond)};
    const long woken =
        ::syscall(SYS_futex, &word, FUTEX_WAIT, value, most_ns == kForever ? nullptr : &most, nullptr, 0);
    return woken == 0 || errno != ETIMEDOUT;
}

inline void futex_wake_all(std::uint32_t &word)
{
    (void)::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

} // namespace banyan::vtpm
