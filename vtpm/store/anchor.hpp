// SPDX-License-Identifier: GPL-2.0-or-later
// Which record of an instance's store was the last to be acknowledged, kept apart from the store itself, so that an
// older store file put back is noticed. Format: docs/spec/vtpm.md, "Generations file".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
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

    /// The same instance's, as the file has it now.
    [[nodiscard]] Anchor read_again() const { return {file_, key_, instance_}; }

    /// Durable on success. On failure now() is what it was, and so is the disk, or else the next settle() fails or
    /// repairs it.
    [[nodiscard]] Status advance(const Anchored &next);
    [[nodiscard]] Status settle();
    [[nodiscard]] bool in_doubt() const { return doubt_ != Doubt::kNone; }
    // A step of settle() for many instances with one flush: rewrite() all, sync() the file, settled() all.
    [[nodiscard]] Status rewrite();
    void settled();

private:
    [[nodiscard]] Status write(const Anchored &value);

    std::shared_ptr<StoreFile> file_;
    StoreKey key_;
    std::uint32_t instance_;
    std::optional<Anchored> now_;
    // What the disk may hold although it seems to hold something else: a flush that fails is told once, and then the
    // page cache has what the disk has not, also for the next process.
    enum class Doubt : std::uint8_t {
        kNone,
        kTarget, // in the target; the other slot is durable
        kBoth, // after opening. The target is the slot that was read: writing the same bytes there again harms nothing
    };

    unsigned target_ = 0; // the slot to write next, and its sequence
    std::uint64_t sequence_ = 1;
    Doubt doubt_ = Doubt::kBoth;
};

/// settle() for many instances of one file with two flushes. What fails is left to their own settle().
void settle_all(std::span<Anchor *const> anchors, StoreFile *file);

/// <private>/generations
[[nodiscard]] std::string generations_file(const std::string &private_folder);

} // namespace banyan::vtpm
