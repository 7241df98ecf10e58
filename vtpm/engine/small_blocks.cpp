// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/small_blocks.hpp"

#include <algorithm>
#include <bit>

namespace banyan::vtpm {
namespace {

constexpr std::uint32_t lowest(std::size_t count)
{
    return count >= 32 ? ~std::uint32_t{0} : (std::uint32_t{1} << count) - 1;
}
constexpr std::uint32_t bit(std::size_t index)
{
    return std::uint32_t{1} << index;
}

} // namespace

void *SmallBlocks::take(std::size_t size)
{
    if (size > kMost) {
        return nullptr;
    }
    const std::size_t steps = std::max<std::size_t>((size + kStep - 1) / kStep, 1);
    std::uint32_t &with_room = rows_with_room_.at(steps);
    if (with_room == 0) {
        if (unused_rows_ == 0) {
            return nullptr;
        }
        const auto fresh = static_cast<std::size_t>(std::countr_zero(unused_rows_));
        unused_rows_ &= unused_rows_ - 1;
        size_of_row_.at(fresh) = static_cast<std::uint8_t>(steps);
        free_in_row_.at(fresh) = lowest(kRowSize / kStep / steps);
        with_room = bit(fresh);
    }
    const auto row = static_cast<std::size_t>(std::countr_zero(with_room));
    std::uint32_t &free = free_in_row_.at(row);
    const auto index = static_cast<std::size_t>(std::countr_zero(free));
    free &= free - 1;
    if (free == 0) {
        with_room &= ~bit(row);
    }
    return memory_ + row * kRowSize + index * steps * kStep;
}

bool SmallBlocks::give_back(void *block)
{
    if (!owns(block)) {
        return false;
    }
    const std::size_t row = row_of(block);
    const std::size_t size = size_of_row_.at(row) * kStep;
    const std::size_t offset = static_cast<std::size_t>(static_cast<std::byte *>(block) - memory_) % kRowSize;
    std::uint32_t &free = free_in_row_.at(row);
    if ((unused_rows_ & bit(row)) != 0 || offset % size != 0 || (free & bit(offset / size)) != 0 ||
        offset / size >= kRowSize / size) {
        return false;
    }
    free |= bit(offset / size);
    std::uint32_t &with_room = rows_with_room_.at(size / kStep);
    with_room |= bit(row);
    if (free == lowest(kRowSize / size)) {
        with_room &= ~bit(row);
        unused_rows_ |= bit(row);
    }
    return true;
}

} // namespace banyan::vtpm
