// SPDX-License-Identifier: GPL-2.0-or-later
// What the keeper knows of snapshots: what a part is sealed from and for, and where an opened one belongs.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "vtpm/engine/vault.hpp"
#include "vtpm/link/control.hpp"
#include "vtpm/store/snapshot_seal.hpp"

namespace banyan::vtpm {

inline constexpr const char *kNoSnapshotKey =
    "a vTPM without a platform folder needs a key for snapshots: snapshot-key=FILE, 32 random bytes";

/// The machine's.
struct SnapshotTerms {
    bool usable = false; // there is a key that another process can have too
    SealKey key{};
    std::array<std::uint8_t, 32> machine{};
    std::array<std::uint8_t, 16> snapshot{}; // the number of the one that is being saved
};

/// One instance's.
struct SnapshotSubject {
    std::array<std::uint8_t, 32> tpm{}; // zeros in class test
    SignerNames names;                  // class test: a snapshot brings its TPM along
};

/// Before the process loses the right to open files.
[[nodiscard]] bool read_key(const std::string &path, StoreKey &key, std::string &why);
[[nodiscard]] bool machine_id_of(const std::string &certificate, std::array<std::uint8_t, 32> &out);
[[nodiscard]] std::array<std::uint8_t, 32> tpm_id_of(const std::string &names_file);
[[nodiscard]] std::array<std::uint8_t, 32> tpm_id_of_text(const std::string &names);
void warm_up_seal();

/// text.interface is given, the rest comes from store and vault. Nothing runs in the worker.
[[nodiscard]] Result<Bytes> seal_instance(const SnapshotTerms &terms, const SnapshotSubject &subject,
                                          std::uint32_t instance, const SealOrder &order, const Store *store,
                                          const Vault *vault, SnapshotText &text, std::string &why);
[[nodiscard]] Result<OpenedPart> open_instance(const SnapshotTerms &terms, const SnapshotSubject &subject,
                                               std::uint32_t instance, std::span<const std::uint8_t> part,
                                               std::string &why);

/// The one checkpoint of a new vault.
[[nodiscard]] bool place_checkpoint(int vault, std::uint64_t generation, std::span<const std::uint8_t> state);
[[nodiscard]] bool unpack_names(std::span<const std::uint8_t> bytes, SignerNames &names);
[[nodiscard]] Result<std::uint32_t> write_file(int file, std::span<const std::uint8_t> bytes);

} // namespace banyan::vtpm
