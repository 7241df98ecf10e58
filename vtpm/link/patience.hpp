// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace banyan::vtpm {

/// How to wait for an answer that may be there in microseconds. Giving way (sched_yield) spares a wake-up, which from
/// an idle core takes longer than most commands; on a busy machine others have the processor for a whole slice then,
/// and sleeping is quicker. Which it is, is measured: the better way is taken, the other one tried now and then.
///
/// Any thread; what two of them measure at once may be lost.
class Patience {
public:
    [[nodiscard]] bool gives_way()
    {
        const bool better = yield_ns_.load(std::memory_order_relaxed) <= sleep_ns_.load(std::memory_order_relaxed);
        const std::uint32_t turn = turn_.fetch_add(1, std::memory_order_relaxed);
        return turn % kTryEvery == kTryEvery - 1 ? !better : better;
    }

    void took(bool gave_way, std::uint64_t ns)
    {
        std::atomic<std::uint64_t> &mean = gave_way ? yield_ns_ : sleep_ns_;
        const std::uint64_t was = mean.load(std::memory_order_relaxed);
        const std::uint64_t now = std::min(ns, kMostNs);
        mean.store(was == 0 ? now : was - was / kWeight + now / kWeight, std::memory_order_relaxed);
    }

private:
    static constexpr std::uint32_t kTryEvery = 64;
    static constexpr std::uint64_t kWeight = 8;
    static constexpr std::uint64_t kMostNs = 1'000'000; // one that took long says little more

    std::atomic<std::uint64_t> yield_ns_{0};
    std::atomic<std::uint64_t> sleep_ns_{0}; // 0: not tried yet
    std::atomic<std::uint32_t> turn_{0};
};

} // namespace banyan::vtpm
