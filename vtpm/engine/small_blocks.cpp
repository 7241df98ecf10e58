// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/small_blocks.hpp"

#include <algorithm>
#include <bit>

namespace banyan::vtpm {
namespace {

constexpr std::size_t blocks_in_row(std::size_t steps)
{
    return SmallBlocks::kRowSize / SmallBlocks::kStep / steps;
}
constexpr std::uint32_t all_of_row(std::size_t steps)
{
    return ~std::uint32_t{0} >> (32 - blocks_in_row(steps));
}
constexpr std::uint64_t row_bit(std::size_t row)
{
    return std::uint64_t{1} << row;
}
constexpr std::uint32_t block_bit(std::size_t index)
{
    return std::uint32_t{1} << index;
}
static_assert(blocks_in_row(1) == 32 && SmallBlocks::kRows == 64, "a word has a bit for each");

} // namespace

void *SmallBlocks::take(std::size_t size) noexcept
{
    if (size > kMost) {
        return nullptr;
    }
    const std::size_t steps = std::max<std::size_t>((size + kStep - 1) / kStep, 1);
    std::uint64_t &with_room = rows_with_room_.at(steps);
    if (with_room == 0) {
        if (used_rows_ == ~std::uint64_t{0}) {
            return nullptr;
        }
        const auto fresh = static_cast<std::size_t>(std::countr_one(used_rows_));
        used_rows_ |= row_bit(fresh);
        steps_of_row_.at(fresh) = static_cast<std::uint8_t>(steps);
        free_in_row_.at(fresh) = all_of_row(steps);
        with_room = row_bit(fresh);
    }
    const auto row = static_cast<std::size_t>(std::countr_zero(with_room));
    std::uint32_t &free = free_in_row_.at(row);
    const auto index = static_cast<std::size_t>(std::countr_zero(free));
    free &= free - 1;
    if (free == 0) {
        with_room &= ~row_bit(row);
    }
    return memory_ + row * kRowSize + index * steps * kStep;
}

std::size_t SmallBlocks::room(const void *block) const noexcept
{
    const auto place = place_of(block);
    return place ? place->steps * kStep : 0;
}

bool SmallBlocks::give_back(void *block) noexcept
{
    const auto place = place_of(block);
    if (!place) {
        return false;
    }
    std::uint32_t &free = free_in_row_.at(place->row);
    free |= block_bit(place->index);
    std::uint64_t &with_room = rows_with_room_.at(place->steps);
    with_room |= row_bit(place->row);
    if (free == all_of_row(place->steps)) {
        with_room &= ~row_bit(place->row);
        used_rows_ &= ~row_bit(place->row);
    }
    return true;
}

std::optional<SmallBlocks::Place> SmallBlocks::place_of(const void *block) const noexcept
{
    const std::size_t offset = offset_of(block);
    const std::size_t row = offset / kRowSize;
    if (offset >= kCapacity || (used_rows_ & row_bit(row)) == 0) {
        return std::nullopt;
    }
    const std::size_t steps = steps_of_row_.at(row);
    const std::size_t in_row = offset % kRowSize;
    const std::size_t index = in_row / (steps * kStep);
    if (in_row % (steps * kStep) != 0 || index >= blocks_in_row(steps) ||
        (free_in_row_.at(row) & block_bit(index)) != 0) {
        return std::nullopt;
    }
    return Place{row, index, steps};
}

} // namespace banyan::vtpm
