// SPDX-License-Identifier: GPL-2.0-or-later
// The memory that QEMU and one worker share. Each side takes the other for hostile: a word is read once into a
// variable of one's own and checked there; bytes are copied once and checked in the copy.
//
// host.request and worker.news are futexes: a command costs no descriptor, and nobody is woken who is awake. A side that
// lies about its sleep is not woken; the host sleeps in slices, since a worker need not wake it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {

enum class Op : std::uint32_t {
    kCommand = 1,
    kHashStart = 2,
    kHashData = 3,
    kHashEnd = 4,
    kResetEstablished = 5,
    kStartup = 6,     // after a held power-on
    kReadState = 7,   // kind, offset: the answer is the size of all and a part. Words are big-endian
    kWriteState = 8,  // kind, offset, part
    kAdoptState = 9,  // what was written becomes the TPM's state, durable
    kCheckpoint = 10, // a checkpoint with nothing after it: the vault then holds the TPM as it is
};

enum class StateKind : std::uint32_t { kPermanent = 1, kVolatile = 2 };
inline constexpr std::uint32_t kStateMax = 128 * 1024; // of one kind

enum class WorkerState : std::uint32_t { kBooting = 0, kReady = 1 };

/// Mailbox::end. The zygote's word on a life that is over: it writes that, then ends the host's line. A worker that has
/// died does not end the line by itself, so who sees its end finds the word.
enum class WorkerEnd : std::uint32_t {
    kNone = 0,   // there is no zygote any more
    kDied = 1,   // what it was doing need not happen to the next one
    kGaveUp = 2, // it, or who should have started it, said why: so would the next one
};

/// Mailbox::status
enum class WorkerStatus : std::uint32_t {
    kOk = 0,
    kRefused = 1,     // the operation did not happen
    kStoreFailed = 2, // it was undone because its result could not be made durable
};

struct Mailbox {
    struct alignas(64) Host {
        std::uint32_t request; // number of the last request; written last
        std::uint32_t op;
        std::uint32_t locality;
        std::uint32_t size;
        std::uint32_t cancel;   // number of the request to cancel
        std::uint32_t sleepers; // threads that sleep until worker.news changes
        std::uint32_t listens;  // somebody's event loop wants the bell
        std::uint32_t crowded;  // more wait for their workers than there are cores
    } host;
    struct alignas(64) Worker {
        std::uint32_t response; // number of the last answered request; written last
        std::uint32_t status;
        std::uint32_t size;
        std::uint32_t state;
        std::uint32_t established;
        std::uint32_t refused_syscall; // number + 1
        std::uint32_t restores;        // snapshots that this TPM was brought back from
        std::uint32_t news;            // changes with each answer and each change of state
        std::uint32_t dozes;           // it sleeps until host.request changes
        std::uint32_t end;             // not the worker's: the zygote overwrites it
    } worker;
    alignas(4096) std::uint8_t command[kTpmBufferSize];
    std::uint8_t answer[kTpmBufferSize];
};
static_assert(sizeof(Mailbox) == 3UL * 4096);

[[nodiscard]] inline std::uint32_t shared_load(std::uint32_t &word)
{
    return std::atomic_ref<std::uint32_t>(word).load(std::memory_order_acquire);
}

inline void shared_store(std::uint32_t &word, std::uint32_t value)
{
    std::atomic_ref<std::uint32_t>(word).store(value, std::memory_order_release);
}

/// Where each side announces something and then looks at what the other announced, at least one of the two sees the
/// other's. So nobody falls asleep whom the other thinks awake.
inline void announce(std::uint32_t &word, std::uint32_t value)
{
    std::atomic_ref<std::uint32_t>(word).store(value, std::memory_order_seq_cst);
}

[[nodiscard]] inline std::uint32_t look(std::uint32_t &word)
{
    return std::atomic_ref<std::uint32_t>(word).load(std::memory_order_seq_cst);
}

} // namespace banyan::vtpm
