// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace banyan::vtpm {

/// Small blocks of memory, as close to each other as they fit: of the free ones of its size the lowest is taken, and
/// what says which are free lies before all of them, so that who writes past a block does not write there. A TPM
/// command's few hundred short-lived blocks then touch a few pages, instead of lines all over a heap. Not thread safe.
///
/// A row is of nobody, or of one size and then at least one of its blocks is taken. No block is in two rows.
class SmallBlocks {
public:
    static constexpr std::size_t kMost = 112;    // a larger block is not taken from here
    static constexpr std::size_t kStep = 16;     // sizes and alignment
    static constexpr std::size_t kRowSize = 512; // bytes
    static constexpr std::size_t kRows = 64;     // as a word has bits
    static constexpr std::size_t kCapacity = kRows * kRowSize;

    /// nullptr: too large, or no room.
    [[nodiscard]] void *take(std::size_t size) noexcept;
    [[nodiscard]] bool owns(const void *block) const noexcept { return offset_of(block) < kCapacity; }
    /// Bytes that may be used of it. 0: this block is not taken (any more).
    [[nodiscard]] std::size_t room(const void *block) const noexcept;
    /// False: this block is not taken (any more), and nothing changes.
    [[nodiscard]] bool give_back(void *block) noexcept;

private:
    static constexpr std::size_t kSizes = kMost / kStep + 1;
    struct Place {
        std::size_t row;
        std::size_t index;
        std::size_t steps;
    };

    [[nodiscard]] std::size_t offset_of(const void *block) const noexcept
    {
        return reinterpret_cast<std::uintptr_t>(block) - reinterpret_cast<std::uintptr_t>(memory_);
    }
    /// Of a block that is taken.
    [[nodiscard]] std::optional<Place> place_of(const void *block) const noexcept;

    std::uint64_t used_rows_ = 0;
    std::array<std::uint64_t, kSizes> rows_with_room_{}; // for each size
    std::array<std::uint32_t, kRows> free_in_row_{};
    std::array<std::uint8_t, kRows> steps_of_row_{};
    alignas(64) std::byte memory_[kCapacity]{};
};

} // namespace banyan::vtpm
