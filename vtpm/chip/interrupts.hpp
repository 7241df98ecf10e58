// SPDX-License-Identifier: GPL-2.0-or-later
// Interrupt enables and status of the five localities, as TIS and CRB have them. PTP 1.05, sections 6.5.2.8, 6.5.3.10.
#pragma once

#include <array>
#include <cstdint>

#include "vtpm/chip/locality.hpp"

namespace banyan::vtpm {

/// The line is a level: high while a locality with its global enable has a cause that it enabled. A cause is noted only
/// while it is enabled, so enabling one later reports nothing old. Without a wire nothing is ever noted.
class Interrupts {
public:
    static constexpr std::uint32_t kGlobalEnable = 1U << 31; // in both interfaces

    explicit Interrupts(bool wired) : wired_(wired) {}

    void reset() { lines_ = {}; }
    [[nodiscard]] bool wired() const { return wired_; }

    void enable(std::uint8_t locality, std::uint32_t bits) { lines_[locality].enabled = wired_ ? bits : 0; }
    void acknowledge(std::uint8_t locality, std::uint32_t bits) { lines_[locality].status &= ~bits; }
    void occur(std::uint8_t locality, std::uint32_t causes)
    {
        if (locality < kLocalities) {
            lines_[locality].status |= causes & lines_[locality].enabled & ~kGlobalEnable;
        }
    }
    void occur_everywhere(std::uint32_t causes)
    {
        for (std::uint8_t locality = 0; locality < kLocalities; ++locality) {
            occur(locality, causes);
        }
    }

    /// Snapshot: false if these bits cannot be.
    [[nodiscard]] bool put_back(std::uint8_t locality, std::uint32_t enabled, std::uint32_t status, std::uint32_t bits)
    {
        if ((enabled & ~bits) != 0 || (status & ~(bits & ~kGlobalEnable)) != 0 ||
            (!wired_ && (enabled | status) != 0)) {
            return false;
        }
        lines_[locality] = {enabled, status};
        return true;
    }

    [[nodiscard]] std::uint32_t enabled(std::uint8_t locality) const { return lines_[locality].enabled; }
    [[nodiscard]] std::uint32_t status(std::uint8_t locality) const { return lines_[locality].status; }
    [[nodiscard]] bool level() const
    {
        for (const Line &line : lines_) {
            if ((line.enabled & kGlobalEnable) != 0 && (line.enabled & line.status) != 0) {
                return true;
            }
        }
        return false;
    }

private:
    struct Line {
        std::uint32_t enabled = 0;
        std::uint32_t status = 0;
    };
    bool wired_;
    std::array<Line, kLocalities> lines_{};
};

} // namespace banyan::vtpm
