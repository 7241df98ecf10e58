// SPDX-License-Identifier: GPL-2.0-or-later
// Memory that a worker shares with the keeper: the permanent state on its way to or from the disk, and two checkpoints
// that outlive the worker. QEMU does not map it. The keeper takes nothing in it for true but the bytes of the
// permanent state, which are opaque to it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "vtpm/engine/journal.hpp"
#include "vtpm/link/snapshot.hpp"
#include "vtpm/store/store.hpp"

namespace banyan::vtpm {

inline constexpr std::size_t kVolatileMax = std::size_t{96} * 1024;
static_assert(kVolatileMax == kSnapshotVolatileMax && kPermanentMax == kSnapshotPermanentMax);

struct Checkpoint {
    std::uint64_t number;     // 0: not valid; the higher is the newer
    std::uint64_t generation; // of the permanent state that it belongs to
    std::uint32_t size;
    std::uint32_t reserved;
};

struct Vault {
    alignas(4096) Checkpoint checkpoints[2];
    alignas(4096) Journal journal;
    alignas(4096) std::uint8_t permanent[kPermanentMax];
    alignas(4096) std::uint8_t volatile_state[2][kVolatileMax];
};

// A worker asks, the keeper says: one datagram each.
enum class KeeperAsk : std::uint32_t { kLoad = 1, kCommit = 2 };

struct WorkerAsks {
    KeeperAsk ask{};
    std::uint32_t size = 0; // of Vault::permanent, kCommit
    std::uint32_t established = 0;
};

struct KeeperSays {
    std::int32_t status = 0; // 0 or a negated Errc
    std::uint32_t size = 0;  // of Vault::permanent, kLoad
    std::uint32_t established = 0;
    std::uint64_t generation = 0; // that is durable now
    std::uint64_t restores = 0;
};

// The zygote tells, the keeper reports. One datagram each.
enum class KeeperTell : std::uint32_t {
    kHello = 1,  // from the keeper: status, text
    kAdopt = 2,  // fds: vault, socket of a new worker
    kCreate = 3, // ticket: of the state in the stock that the new instance gets
    kErase = 4,
    kErased = 5,     // from the keeper: status
    kFailed = 6,     // from the keeper: a commit failed, text
    kRolledBack = 7, // from the keeper: an older store file, text
    kStock = 14,     // fd: file with a state made ahead, ticket
    kSpoilt = 17,    // from the keeper: the state of this ticket did not reach the stock
    kMissing = 15,   // from the keeper: an instance that may be made; before kHello, or because it was not created
    // Snapshot: each is answered by kDone with its ticket; status is a size or a negated Errc, text says why.
    kSeal = 8,     // fd: a file with SealOrder and the interface's state, status bytes; becomes the sealed part
    kOpen = 9,     // fd: a file with a sealed part, status bytes; becomes the interface's state, the rest is kept
    kInstall = 10, // fd: a vault. What was opened last becomes the instance's state
    kYield = 11,   // another machine may have the platform folder
    kTake = 12,    // this one has it again
    kDone = 13,
    kLineage = 16, // from the keeper: restores of an instance, and its names if a snapshot brought them
};

/// Names of an instance's keys, for reports.
struct SignerNames {
    std::uint32_t instance = 0;
    std::uint8_t ek_size = 0;
    std::uint8_t iak_size = 0;
    std::uint8_t ek[66] = {};
    std::uint8_t iak[66] = {};
    std::uint64_t restores = 0;
    bool only_restores = false; // the names are as they were
};

struct KeeperMessage {
    KeeperTell tell{};
    std::uint32_t instance = 0;
    std::int32_t status = 0;
    bool landlock = false; // kHello
    bool holds = false;    // kDone: the platform folder is this machine's
    std::uint32_t ticket = 0;
    char text[160] = {};
    SignerNames names; // kCreate, kLineage
};

} // namespace banyan::vtpm
