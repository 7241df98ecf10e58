// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

#include "banyan/base/result.hpp"
#include "banyan/capi/base.h"

namespace banyan::vtpm {

/// Which instance a bus tag selects. Looked up without a lock at every access; an instance has at most one domain.
class BindingTable {
public:
    static constexpr std::uint32_t kNone = 0xffff'ffff;

    BindingTable()
    {
        for (auto &entry : instance_of_) {
            entry.store(kNone, std::memory_order_relaxed);
        }
    }

    [[nodiscard]] std::uint32_t of_requester(std::uint8_t requester) const
    {
        if (requester == 0 || requester > instance_of_.size()) {
            return kNone;
        }
        return instance_of_[requester - 1U].load(std::memory_order_acquire);
    }

    [[nodiscard]] Status bind(std::uint32_t domain, std::uint32_t instance)
    {
        const std::lock_guard lock(writers_);
        if (domain >= instance_of_.size()) {
            return fail(Errc::kBadArgument);
        }
        for (std::uint32_t other = 0; other < instance_of_.size(); ++other) {
            if (other != domain && instance_of_[other].load() == instance) {
                return fail(Errc::kBusy);
            }
        }
        instance_of_[domain].store(instance, std::memory_order_release);
        return {};
    }

    [[nodiscard]] Status unbind(std::uint32_t domain)
    {
        const std::lock_guard lock(writers_);
        if (domain >= instance_of_.size()) {
            return fail(Errc::kBadArgument);
        }
        instance_of_[domain].store(kNone, std::memory_order_release);
        return {};
    }

private:
    std::mutex writers_;
    std::array<std::atomic<std::uint32_t>, BANYAN_MAX_DOMAINS + 1> instance_of_;
};

} // namespace banyan::vtpm
