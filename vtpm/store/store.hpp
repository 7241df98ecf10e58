// SPDX-License-Identifier: GPL-2.0-or-later
// The durable state of one TPM instance: two slots, written in turn, each with a generation and a MAC.
// Target banyan_vtpm_store (APP; OpenSSL). Format: docs/spec/vtpm.md, "Store file".
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "banyan/base/result.hpp"
#include "vtpm/store/anchor.hpp"
#include "vtpm/store/store_file.hpp"
#include "vtpm/store/store_key.hpp"

namespace banyan::vtpm {

using Bytes = std::vector<std::uint8_t>;

inline constexpr std::size_t kPermanentMax = std::size_t{128} * 1024; // largest permanent blob a store takes

struct StoreRecord {
    std::uint64_t generation = 0; // counts commits, from 1
    bool established = false;     // tpmEstablishment: a D-RTM sequence was completed since the last reset of the bit
    Bytes permanent;              // libtpms' permanent state
    StoreMac mac{};
    std::uint64_t restores = 0; // snapshots that this TPM was brought back from; each began a new lineage
};

/// What the anchor says of an opened store.
enum class Freshness : std::uint8_t {
    kCurrent,    // the record is the one that was acknowledged last; always, when there is no anchor
    kRolledBack, // only other records are there: the file, or a part of it, is an older one
    kUnanchored, // the generations file says nothing of this instance
    kErased,
};

/// Makes a new store file, mode 0600, with generation 1; fails with kBadState if the path exists. Durable on return.
/// The instance number is part of the MAC: a file renamed to another instance's is kCorrupt.
[[nodiscard]] Status create_store(const std::string &path, const StoreKey &key, std::uint32_t instance,
                                  std::span<const std::uint8_t> permanent_blob);

/// create_store() in a private platform folder, and the instance's anchor.
[[nodiscard]] Status create_instance(const std::string &private_folder, const StoreKey &key, std::uint32_t instance,
                                     std::span<const std::uint8_t> permanent_blob);

/// The newest slot whose MAC holds. kNotFound: no such file. kCorrupt: neither slot holds.
[[nodiscard]] Result<StoreRecord> load_store(const std::string &path, const StoreKey &key, std::uint32_t instance);

/// An open store file. One object per file at a time. Not thread safe.
class Store {
public:
    Store() = default;
    ~Store() { wipe_key(key_); }
    Store(Store &&) noexcept = default;
    Store &operator=(Store &&) noexcept = default;
    Store(const Store &) = delete;
    Store &operator=(const Store &) = delete;

    /// Reads an existing file. Without an anchor the newest record counts.
    [[nodiscard]] static Result<Store> open(std::unique_ptr<StoreFile> file, const StoreKey &key,
                                            std::uint32_t instance, std::optional<Anchor> anchor);
    [[nodiscard]] static Result<Store> open(const std::string &path, const StoreKey &key, std::uint32_t instance);
    /// Takes over an empty file (a memfd for instances that live as long as the process) and writes the first record.
    [[nodiscard]] static Result<Store> adopt_empty(std::unique_ptr<StoreFile> file, const StoreKey &key,
                                                   std::uint32_t instance, std::optional<Anchor> anchor,
                                                   std::span<const std::uint8_t> permanent_blob);

    /// Room for a store's usual records in an empty file, durable: a commit then changes no metadata of the file.
    [[nodiscard]] static Status prepare(StoreFile &file);
    /// Takes over a prepared file for a state that is nowhere yet: it is in memory, generation 0, until the first
    /// commit has made one durable.
    [[nodiscard]] static Store begin(std::unique_ptr<StoreFile> file, const StoreKey &key, std::uint32_t instance,
                                     std::optional<Anchor> anchor, std::span<const std::uint8_t> permanent_blob);

    /// The current record; if the freshness is another, the newest there is.
    [[nodiscard]] const StoreRecord &record() const { return record_; }
    [[nodiscard]] Freshness freshness() const { return freshness_; }
    [[nodiscard]] Anchor *anchor() { return anchor_ ? &*anchor_ : nullptr; }

    /// Durable on success (pwrite, fdatasync; store, then anchor). On failure the earlier record is still the one that
    /// counts, in memory and on the disk. kBadState unless current.
    [[nodiscard]] Status commit(std::span<const std::uint8_t> permanent_blob, bool established);

    /// Takes the newest record there is, rolled back or not anchored, for the current one, with a generation above
    /// every one seen.
    [[nodiscard]] Status accept();

    /// A snapshot's state, as commit(). Generation and number of restores come out above those of this store, of its
    /// anchor and of the snapshot: nothing that was ever handed out has their like.
    [[nodiscard]] Status restore(const StoreRecord &snapshot);
    /// Reads the file and the anchor again: another machine may have had them meanwhile. On failure nothing is left.
    [[nodiscard]] Status reload();

    /// Overwrites both slots, durable; nothing can be loaded any more, from this file or an older one.
    [[nodiscard]] Status erase();

private:
    Store(std::unique_ptr<StoreFile> file, const StoreKey &key, std::uint32_t instance, std::optional<Anchor> anchor)
        : file_(std::move(file)),
          instance_(instance),
          key_(key),
          anchor_(std::move(anchor))
    {}
    [[nodiscard]] Status write_record(std::uint64_t generation, std::span<const std::uint8_t> permanent_blob,
                                      bool established, std::uint64_t restores);
    [[nodiscard]] std::uint64_t above(std::uint64_t seen) const;
    [[nodiscard]] Status overwrite();
    [[nodiscard]] bool anything_left();

    std::unique_ptr<StoreFile> file_;
    std::uint32_t instance_ = 0;
    StoreKey key_{};
    std::optional<Anchor> anchor_;
    Freshness freshness_ = Freshness::kCurrent;
    StoreRecord record_;
};

/// Makes OpenSSL load what it loads at its first use, for a process that is about to lose the right to open files.
void warm_up_store();

/// <private>/instances/NNN.nvstore, or another suffix ("names").
[[nodiscard]] std::string instance_file(const std::string &private_folder, std::uint32_t instance,
                                        const std::string &suffix);

} // namespace banyan::vtpm
