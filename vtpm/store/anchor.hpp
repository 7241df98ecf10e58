// SPDX-License-Identifier: GPL-2.0-or-later
// Which record of an instance's store was the last to be acknowledged, kept apart from the store itself, so that an
// older store file put back is noticed. Format: docs/spec/vtpm.md, "Generations file".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "banyan/base/result.hpp"
#include "vtpm/store/store_file.hpp"
#include "vtpm/store/store_key.hpp"

namespace banyan::vtpm {

/// A generation alone would not do: a commit that fails and is repeated leaves two records of one generation.
struct Anchored {
    std::uint64_t generation = 0;
    StoreMac record{}; // the record's MAC
};
inline constexpr std::uint64_t kErasedGeneration = ~std::uint64_t{0}; // nothing is current any more

/// One instance's two slots in the generations file, written in turn.
///
/// The anchor is the commit point of a store: a record counts from the moment its anchor is durable. For that the disk
/// must hold a whole record for each value that the anchor may have on it. So before a store overwrites the record
/// that is not current, settle() makes sure that the disk's anchor has one value, now().
class Anchor {
public:
    /// Reads both slots. now() is empty if neither holds.
    Anchor(std::shared_ptr<StoreFile> file, const StoreKey &key, std::uint32_t instance);
    ~Anchor() { wipe_key(key_); }
    Anchor(const Anchor &) = default;
    Anchor &operator=(const Anchor &) = default;

    [[nodiscard]] const std::optional<Anchored> &now() const { return now_; }

    /// Durable on success. On failure now() is what it was, and so is the disk, or else the next settle() fails or
    /// repairs it.
    [[nodiscard]] Status advance(const Anchored &next);
    [[nodiscard]] Status settle();
    /// Writes now() once more, without making it durable; with many instances one sync() then settles all of them.
    [[nodiscard]] Status rewrite();
    void settled(); // after rewrite() and a sync()

private:
    [[nodiscard]] Status write(const Anchored &value);

    std::shared_ptr<StoreFile> file_;
    StoreKey key_;
    std::uint32_t instance_;
    std::optional<Anchored> now_;
    std::uint64_t sequence_ = 0; // of the newest slot
    unsigned spare_ = 0;         // the slot to write next
    // What was read may be in the page cache alone, left by a process that died between write and flush.
    bool in_doubt_ = true;
};

/// <private>/generations
[[nodiscard]] std::string generations_file(const std::string &private_folder);

} // namespace banyan::vtpm
