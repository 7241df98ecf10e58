// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/journal.hpp"

#include <algorithm>
#include <atomic>

#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {
namespace {

constexpr std::size_t kHead = 3;
constexpr std::uint32_t kEntriesMax = 64; // bounds the time to come back
constexpr std::uint8_t kLocalityMax = 4;

std::uint32_t count_of(const Journal &journal)
{
    return std::atomic_ref<std::uint32_t>(const_cast<std::uint32_t &>(journal.count)).load(std::memory_order_acquire);
}

} // namespace

bool JournalWriter::note(std::uint64_t checkpoint, std::uint8_t locality, std::span<const std::uint8_t> command)
{
    std::atomic_ref<std::uint32_t> count(journal_->count);
    if (journal_->checkpoint != checkpoint) {
        count.store(0, std::memory_order_seq_cst); // the old ones must not show under the new number
        std::atomic_ref<std::uint64_t>(journal_->checkpoint).store(checkpoint, std::memory_order_seq_cst);
        used_ = 0;
    }
    const std::uint32_t noted = count.load(std::memory_order_relaxed);
    const bool of_another = noted != 0 && used_ == 0; // of the worker before
    if (of_another || noted >= kEntriesMax || command.size() > 0xffff ||
        kHead + command.size() > Journal::kRoom - used_) {
        return false;
    }
    std::uint8_t *at = journal_->entries + used_;
    at[0] = locality;
    at[1] = static_cast<std::uint8_t>(command.size() >> 8);
    at[2] = static_cast<std::uint8_t>(command.size());
    std::copy(command.begin(), command.end(), at + kHead);
    used_ += kHead + command.size();
    count.store(noted + 1, std::memory_order_seq_cst);
    return true;
}

void JournalWriter::clear()
{
    std::atomic_ref<std::uint32_t>(journal_->count).store(0, std::memory_order_seq_cst);
    std::atomic_ref<std::uint64_t>(journal_->checkpoint).store(0, std::memory_order_seq_cst);
    used_ = 0;
}

bool JournalWriter::empty(std::uint64_t checkpoint) const
{
    return journal_->checkpoint != checkpoint || count_of(*journal_) == 0;
}

bool replay(const Journal &journal, std::uint64_t checkpoint,
            const std::function<bool(std::uint8_t, std::span<const std::uint8_t>)> &one)
{
    if (journal.checkpoint != checkpoint) {
        return true;
    }
    std::uint32_t left = count_of(journal);
    if (left > kEntriesMax) {
        return false;
    }
    for (std::size_t at = 0; left > 0; --left) {
        if (Journal::kRoom - at < kHead) {
            return false;
        }
        const std::uint8_t locality = journal.entries[at];
        const std::size_t size = std::size_t{journal.entries[at + 1]} << 8 | journal.entries[at + 2];
        if (locality > kLocalityMax || Journal::kRoom - at - kHead < size) {
            return false;
        }
        const std::span command(journal.entries + at + kHead, size);
        if (!command_header_ok(command) || !one(locality, command)) {
            return false;
        }
        at += kHead + size;
    }
    return true;
}

} // namespace banyan::vtpm
