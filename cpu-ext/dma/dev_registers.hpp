// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstdint>

#include "banyan/arch/domain_table.hpp"
#include "cpu-ext/dma/dev_regs.hpp"

namespace banyan::dma {

/// What a write asks for.
enum class DevWish : std::uint8_t { kNothing, kLiftWindow };

/// The registers by which a loader lifts the DMA closure of its block, a bank for each domain: a core finds its own domain's
/// closure there and no other's.
///
/// There are no protection bitmaps: DEV_CAP says so, and the rest of DEV reads 0. Big lock.
class DevRegisters {
public:
    /// A word of function 3 (0xF4 or 0xF8) or 0 (0x384); any other reads 0. `closed`: the domain's launch window is.
    [[nodiscard]] std::uint32_t read(std::uint32_t domain, std::uint8_t function, std::uint16_t offset,
                                     bool closed) const;
    /// A write of `width` bytes (1, 2 or 4, inside one word) at `offset`.
    [[nodiscard]] DevWish write(std::uint32_t domain, std::uint8_t function, std::uint16_t offset, unsigned width,
                                std::uint32_t value, bool closed);
    void reset(std::uint32_t domain)
    {
        if (domain < op_.size()) {
            op_[domain] = 0;
        }
    }

private:
    std::array<dev::Word, dt::kMaxDomains + 1> op_{};
};

} // namespace banyan::dma
