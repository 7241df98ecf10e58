// SPDX-License-Identifier: GPL-2.0-or-later
// Commands since the last checkpoint that leave the same behind when they are executed again: noting one down is a
// copy of its bytes, a checkpoint is a dump of the whole volatile state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace banyan::vtpm {

/// In memory that outlives the worker. Belongs to one checkpoint; beside another it is void.
struct Journal {
    static constexpr std::size_t kRoom = 2 * 4096 - 16;

    std::uint64_t checkpoint; // number of the checkpoint that it continues
    std::uint32_t count;      // of whole entries; written last
    std::uint32_t reserved;
    std::uint8_t entries[kRoom]; // locality, size (two bytes), command
};
static_assert(sizeof(Journal) == 2UL * 4096);

/// The worker's side.
class JournalWriter {
public:
    explicit JournalWriter(Journal &journal) : journal_(&journal) {}

    /// False when it does not fit: then a checkpoint is due. A worker that dies in here leaves the entry out.
    [[nodiscard]] bool note(std::uint64_t checkpoint, std::uint8_t locality, std::span<const std::uint8_t> command);
    void clear();
    /// Nothing was noted beside this checkpoint.
    [[nodiscard]] bool empty(std::uint64_t checkpoint) const;

private:
    Journal *journal_;
    std::size_t used_ = 0;
};

/// The entries beside this checkpoint, in order, until `one` says no. False if it did, or at what no worker notes down:
/// too many, one that is not whole, one that is no command.
[[nodiscard]] bool replay(const Journal &journal, std::uint64_t checkpoint,
                          const std::function<bool(std::uint8_t, std::span<const std::uint8_t>)> &one);

} // namespace banyan::vtpm
