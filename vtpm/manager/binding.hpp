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
/// Window 0 is at dt::kVtpmBase for everyone. Further ones lie between dt::kVtpmWindowsBase and dt::kVtpmWindowsEnd: those
/// of domain 0 where its machine puts them, those of another domain at dt::vtpm_window(), the same place for all.
class BindingTable {
public:
    static constexpr std::uint32_t kNone = 0xffff'ffff;
    static constexpr std::uint32_t kWindows =
        1 + (dt::kVtpmWindowsEnd - dt::kVtpmWindowsBase) / dt::kVtpmSize; // of domain 0
    static_assert(dt::kVtpmWindows <= kWindows);

    /// What an address among the further windows means to a requester.
    struct Place {
        std::uint32_t window = 0; // 0: no further window is there
        std::uint32_t offset = 0; // in it
    };

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

    /// offset: from dt::kVtpmWindowsBase.
    [[nodiscard]] Place place_of(std::uint8_t requester, std::uint64_t offset) const
    {
        if (offset >= kPages * dt::kPageSize) {
            return {};
        }
        std::uint64_t window = 1 + offset / dt::kVtpmSize;
        std::uint64_t begin = (window - 1) * dt::kVtpmSize;
        if (requester == 1) { // domain 0
            window = hosts_[offset / dt::kPageSize].load(std::memory_order_acquire);
            begin = window == 0 ? 0 : base_[window].load(std::memory_order_acquire) - dt::kVtpmWindowsBase;
        }
        return {static_cast<std::uint32_t>(window), static_cast<std::uint32_t>(offset - begin)};
    }

    [[nodiscard]] Status bind(std::uint32_t domain, std::uint32_t window, std::uint32_t instance)
    {
        if (window >= (domain == 0 ? 1 : dt::kVtpmWindows)) {
            return fail(Errc::kBadArgument); // the host's further windows have an address: add_window()
        }
        const std::lock_guard lock(writers_);
        return bind_window(domain, window, instance);
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
        base_[window].store(base, std::memory_order_release);
        for (std::uint64_t page = 0; page < dt::kVtpmSize; page += dt::kPageSize) {
            hosts_[(base + page - dt::kVtpmWindowsBase) / dt::kPageSize].store(static_cast<std::uint8_t>(window),
                                                                               std::memory_order_release);
        }
        return window;
    }

    /// Where that window lies; 0: there is none.
    [[nodiscard]] std::uint64_t base_of(std::uint32_t domain, std::uint32_t window) const
    {
        if (domain != 0) {
            return window < dt::kVtpmWindows ? dt::vtpm_window(window) : 0;
        }
        return window < kWindows ? base_[window].load(std::memory_order_acquire) : 0;
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
    static constexpr std::uint64_t kPages = (dt::kVtpmWindowsEnd - dt::kVtpmWindowsBase) / dt::kPageSize;

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
        for (const auto &entry : base_) {
            const std::uint64_t other = entry.load(std::memory_order_relaxed);
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
    std::array<std::atomic<std::uint64_t>, kWindows> base_{}; // of domain 0; 0: no such window
    std::array<std::atomic<std::uint8_t>, kPages> hosts_{};   // which window of domain 0 each page belongs to; 0: none
};

} // namespace banyan::vtpm
