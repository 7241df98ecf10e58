// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>

#include "banyan/arch/domain_table.hpp"
#include "banyan/base/result.hpp"
#include "banyan/capi/base.h"

namespace banyan::vtpm {

/// Which instance a bus tag selects in each window, and where the windows of domain 0 lie. Looked up without a lock at
/// every access. An instance is behind at most one window of one domain.
///
/// Window 0 is at dt::kVtpmBase for everyone; further ones lie between dt::kVtpmWindowsBase and dt::kVtpmWindowsEnd.
class BindingTable {
public:
    static constexpr std::uint32_t kNone = 0xffff'ffff;
    static constexpr std::uint32_t kWindows =
        1 + (dt::kVtpmWindowsEnd - dt::kVtpmWindowsBase) / dt::kVtpmSize; // of a domain

    BindingTable()
    {
        for (auto &domain : instance_of_) {
            for (auto &entry : domain) {
                entry.store(kNone, std::memory_order_relaxed);
            }
        }
        base_.front() = dt::kVtpmBase;
    }

    [[nodiscard]] std::uint32_t of_requester(std::uint8_t requester, std::uint32_t window = 0) const
    {
        if (requester == 0 || requester > instance_of_.size()) {
            return kNone;
        }
        return of_domain(requester - 1U, window);
    }
    [[nodiscard]] std::uint32_t of_domain(std::uint32_t domain, std::uint32_t window) const
    {
        if (domain >= instance_of_.size() || window >= kWindows) {
            return kNone;
        }
        return instance_of_[domain][window].load(std::memory_order_acquire);
    }

    [[nodiscard]] Status bind(std::uint32_t domain, std::uint32_t instance)
    {
        const std::lock_guard lock(writers_);
        return bind_window(domain, 0, instance);
    }

    /// A further window of domain 0, at `address` or, when that is 0, at the first free place. Its number.
    [[nodiscard]] Result<std::uint32_t> add_window(std::uint32_t instance, std::uint64_t address)
    {
        const std::lock_guard lock(writers_);
        std::uint32_t window = 1;
        while (window < kWindows && base_[window] != 0) {
            ++window;
        }
        const std::uint64_t base = address != 0 ? address : first_free();
        if (window == kWindows || base == 0) {
            return fail(Errc::kNoSpace);
        }
        if (!placeable(base)) {
            return fail(Errc::kBadArgument);
        }
        if (const Status bound = bind_window(0, window, instance); !bound) {
            return fail(bound.error());
        }
        base_[window] = base;
        return window;
    }

    /// Where window `window` of domain 0 lies; 0: there is none.
    [[nodiscard]] std::uint64_t base_of(std::uint32_t window)
    {
        const std::lock_guard lock(writers_);
        return window < kWindows ? base_[window] : 0;
    }

    [[nodiscard]] bool in_further_window(std::uint32_t instance) const
    {
        for (std::uint32_t window = 1; window < kWindows; ++window) {
            if (of_domain(0, window) == instance) {
                return true;
            }
        }
        return false;
    }

    [[nodiscard]] Status unbind(std::uint32_t domain)
    {
        const std::lock_guard lock(writers_);
        if (domain >= instance_of_.size()) {
            return fail(Errc::kBadArgument);
        }
        for (auto &entry : instance_of_[domain]) {
            entry.store(kNone, std::memory_order_release);
        }
        return {};
    }

private:
    [[nodiscard]] Status bind_window(std::uint32_t domain, std::uint32_t window, std::uint32_t instance)
    {
        if (domain >= instance_of_.size() || window >= kWindows) {
            return fail(Errc::kBadArgument);
        }
        for (std::uint32_t d = 0; d < instance_of_.size(); ++d) {
            for (std::uint32_t w = 0; w < kWindows; ++w) {
                if ((d != domain || w != window) && instance_of_[d][w].load() == instance) {
                    return fail(Errc::kBusy);
                }
            }
        }
        instance_of_[domain][window].store(instance, std::memory_order_release);
        return {};
    }

    [[nodiscard]] bool placeable(std::uint64_t base) const
    {
        if (base % dt::kPageSize != 0 || base < dt::kVtpmWindowsBase || base > dt::kVtpmWindowsEnd - dt::kVtpmSize) {
            return false;
        }
        for (const std::uint64_t other : base_) {
            if (other != 0 && base < other + dt::kVtpmSize && other < base + dt::kVtpmSize) {
                return false;
            }
        }
        return true;
    }
    [[nodiscard]] std::uint64_t first_free() const
    {
        for (std::uint64_t base = dt::kVtpmWindowsBase; base <= dt::kVtpmWindowsEnd - dt::kVtpmSize;
             base += dt::kPageSize) {
            if (placeable(base)) {
                return base;
            }
        }
        return 0;
    }

    std::mutex writers_;
    std::array<std::array<std::atomic<std::uint32_t>, kWindows>, BANYAN_MAX_DOMAINS + 1> instance_of_;
    std::array<std::uint64_t, kWindows> base_{}; // of domain 0; under writers_
};

} // namespace banyan::vtpm
