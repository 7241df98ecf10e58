// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace banyan::vtpm {

/// Small blocks of memory, as close to each other as they fit: of the free ones the lowest is taken, and what says which
/// are free lies beside them, not in them, so who writes past a block does not write there. A TPM command's few hundred
/// short-lived blocks then touch two or three pages, always the same, instead of lines all over a heap. Not thread safe.
class SmallBlocks {
public:
    static constexpr std::size_t kMost = 512;       // a larger block is not taken from here
    static constexpr std::size_t kStep = 16;        // sizes and alignment
    static constexpr std::size_t kCapacity = 16384; // bytes

    /// nullptr: too large, or no room.
    [[nodiscard]] void *take(std::size_t size);
    [[nodiscard]] bool owns(const void *block) const
    {
        return reinterpret_cast<std::uintptr_t>(block) - reinterpret_cast<std::uintptr_t>(memory_) < kCapacity;
    }
    /// Bytes that may be used of a block taken from here.
    [[nodiscard]] std::size_t room(const void *block) const { return size_of_row_.at(row_of(block)) * kStep; }
    /// False: this block is not taken (any more), and nothing changes.
    [[nodiscard]] bool give_back(void *block);

private:
    static constexpr std::size_t kRowSize = 512; // a row has blocks of one size
    static constexpr std::size_t kRows = kCapacity / kRowSize;
    static constexpr std::size_t kSizes = kMost / kStep + 1;
    static_assert(kRows == 32 && kRowSize / kStep == 32, "a word has a bit for each");

    [[nodiscard]] std::size_t row_of(const void *block) const
    {
        return (reinterpret_cast<std::uintptr_t>(block) - reinterpret_cast<std::uintptr_t>(memory_)) / kRowSize;
    }

    alignas(4096) std::byte memory_[kCapacity];
    std::uint32_t unused_rows_ = ~std::uint32_t{0};
    std::array<std::uint32_t, kSizes> rows_with_room_{}; // for each size
    std::array<std::uint32_t, kRows> free_in_row_{};
    std::array<std::uint8_t, kRows> size_of_row_{}; // in steps
};

} // namespace banyan::vtpm
