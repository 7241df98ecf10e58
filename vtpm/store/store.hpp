// SPDX-License-Identifier: GPL-2.0-or-later
// The durable state of one TPM instance: two slots, written in turn, each with a generation and a MAC.
// Target banyan_vtpm_store (APP; OpenSSL). Format: docs/spec/vtpm.md, "Store file".
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "banyan/base/result.hpp"

namespace banyan::vtpm {

using Bytes = std::vector<std::uint8_t>;

inline constexpr std::size_t kStoreKeySize = 32; // store.key of the private platform folder, raw
using StoreKey = std::array<std::uint8_t, kStoreKeySize>;

inline constexpr std::size_t kPermanentMax = 128 * 1024; // largest permanent blob a store takes

struct StoreRecord {
    std::uint64_t generation = 0; // counts commits, from 1
    bool established = false;     // tpmEstablishment: a D-RTM sequence was completed since the last reset of the bit
    Bytes permanent;              // libtpms' permanent state
};

/// Makes a new store file, mode 0600, with generation 1; fails with kBadState if the path exists. Durable on return.
/// The instance number is part of the MAC: a file renamed to another instance's is kCorrupt.
[[nodiscard]] Status create_store(const std::string &path, const StoreKey &key, std::uint32_t instance,
                                  std::span<const std::uint8_t> permanent_blob);

/// The newest slot whose MAC holds. kNotFound: no such file. kCorrupt: neither slot holds.
[[nodiscard]] Result<StoreRecord> load_store(const std::string &path, const StoreKey &key, std::uint32_t instance);

/// An open store file. One object per file at a time; the object owns the descriptor. Not thread safe.
class Store {
public:
    Store() = default;
    ~Store();
    Store(Store &&other) noexcept;
    Store &operator=(Store &&other) noexcept;
    Store(const Store &) = delete;
    Store &operator=(const Store &) = delete;

    /// Opens and reads an existing file.
    [[nodiscard]] static Result<Store> open(const std::string &path, const StoreKey &key, std::uint32_t instance);
    /// Takes over a descriptor of an empty file (a memfd for instances that live as long as the process) and writes
    /// the first record.
    [[nodiscard]] static Result<Store> adopt_empty(int fd, const StoreKey &key, std::uint32_t instance,
                                                   std::span<const std::uint8_t> permanent_blob);

    [[nodiscard]] const StoreRecord &record() const { return record_; }

    /// Durable on success (pwrite, fdatasync). On failure the earlier record is still the one that counts, in memory
    /// and on the disk.
    [[nodiscard]] Status commit(std::span<const std::uint8_t> permanent_blob, bool established);

    /// Overwrites both slots, durable; nothing can be loaded any more.
    [[nodiscard]] Status erase();

private:
    Store(int fd, const StoreKey &key, std::uint32_t instance) : fd_(fd), instance_(instance), key_(key) {}

    int fd_ = -1;
    std::uint32_t instance_ = 0;
    StoreKey key_{};
    StoreRecord record_;
};

/// Makes OpenSSL load what it loads at its first use, for a process that is about to lose the right to open files.
void warm_up_store();

/// <private>/instances/NNN.nvstore, or another suffix ("names").
[[nodiscard]] std::string instance_file(const std::string &private_folder, std::uint32_t instance,
                                        const std::string &suffix);

} // namespace banyan::vtpm
