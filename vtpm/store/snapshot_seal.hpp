// SPDX-License-Identifier: GPL-2.0-or-later
// Sealing of snapshots: AES-256-GCM under a key that is made of the platform's store key. Target banyan_vtpm_store.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "banyan/base/result.hpp"
#include "vtpm/link/snapshot.hpp"
#include "vtpm/store/store.hpp"

namespace banyan::vtpm {

using SealKey = std::array<std::uint8_t, 32>;

[[nodiscard]] SealKey seal_key_of(const StoreKey &key);

/// What is secret in a part.
struct SnapshotText {
    Bytes interface;
    Bytes names;
    Bytes permanent;
    Bytes volatile_state;

    SnapshotText() = default;
    ~SnapshotText(); // wipes
    SnapshotText(SnapshotText &&) = default;
    SnapshotText &operator=(SnapshotText &&) = default;
    SnapshotText(const SnapshotText &) = delete;
    SnapshotText &operator=(const SnapshotText &) = delete;
};

/// A part. Sizes and nonce of `head` are filled in.
[[nodiscard]] Result<Bytes> seal_part(const SealKey &key, SnapshotHead head, const SnapshotText &text);

struct OpenedPart {
    SnapshotHead head;
    SnapshotText text;
};
/// kCorrupt: another key, or not a byte as it was sealed.
[[nodiscard]] Result<OpenedPart> open_part(const SealKey &key, std::span<const std::uint8_t> part);

} // namespace banyan::vtpm
