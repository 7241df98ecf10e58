// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <ctime>
#include <sched.h>

namespace banyan::vtpm {

/// CLOCK_MONOTONIC, what waits are measured with.
inline std::uint64_t monotonic_ns()
{
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

/// A side gives way (sched_yield) a few times before it sleeps: the host for an answer, the worker for a driver's next
/// command. Most come within, and both wake-ups are spared, which cost more than most commands do.
///
/// Not beside somebody who computes: he keeps the core for his whole slice, a hundred commands long, while who sleeps gets
/// the core back when he is woken. One such turn, and this side does not give way for a while, longer if the next is long
/// again. Where more of our own wait than there are cores, a long turn is theirs, and sleeping would shorten nobody's.
class GivingWay {
public:
    static constexpr unsigned kTurnsMax = 20;

    /// After so many turns; false: sleep.
    [[nodiscard]] bool may(unsigned turns, std::uint64_t now, bool crowded) const
    {
        return turns < kTurnsMax && (crowded || now >= not_before_.load(std::memory_order_relaxed));
    }
    /// A turn lasted from then to now.
    void took(std::uint64_t from, std::uint64_t now, bool crowded)
    {
        if (!crowded && now - from > kLongNs) {
            pause_from(now);
        }
    }
    /// One turn, if it may be.
    [[nodiscard]] bool turn(unsigned turns, std::uint64_t now, bool crowded)
    {
        if (!may(turns, now, crowded)) {
            return false;
        }
        ::sched_yield();
        took(now, monotonic_ns(), crowded);
        return true;
    }

    static constexpr std::uint64_t kLongNs = 500'000;
    static constexpr std::uint64_t kPauseMinNs = 50'000'000;
    static constexpr std::uint64_t kPauseMaxNs = 3'200'000'000;

private:
    /// Longer each time that the turn after a pause was long again. Several threads may be here at once: then one of
    /// their pauses counts.
    void pause_from(std::uint64_t now)
    {
        const std::uint64_t last = pause_ns_.load(std::memory_order_relaxed);
        const bool again = now < not_before_.load(std::memory_order_relaxed) + 2 * last;
        const std::uint64_t next = again ? std::min(4 * last, kPauseMaxNs) : kPauseMinNs;
        pause_ns_.store(next, std::memory_order_relaxed);
        not_before_.store(now + next, std::memory_order_relaxed);
    }

    std::atomic<std::uint64_t> not_before_{0};
    std::atomic<std::uint64_t> pause_ns_{kPauseMinNs};
};

inline unsigned cores_of_this_process()
{
    cpu_set_t set;
    CPU_ZERO(&set);
    return ::sched_getaffinity(0, sizeof(set), &set) == 0 ? static_cast<unsigned>(CPU_COUNT(&set)) : 1;
}

/// Those of one host who wait for an answer now.
class Crowd {
public:
    explicit Crowd(unsigned cores) : cores_(cores) {}

    class Member {
    public:
        explicit Member(Crowd &crowd) : crowd_(crowd) { crowd_.waiting_.fetch_add(1, std::memory_order_relaxed); }
        ~Member() { crowd_.waiting_.fetch_sub(1, std::memory_order_relaxed); }
        Member(const Member &) = delete;
        Member &operator=(const Member &) = delete;

    private:
        Crowd &crowd_;
    };

    [[nodiscard]] bool more_than_cores() const { return waiting_.load(std::memory_order_relaxed) > cores_; }

private:
    const unsigned cores_;
    std::atomic<unsigned> waiting_{0};
};

} // namespace banyan::vtpm
