// SPDX-License-Identifier: GPL-2.0-or-later
// Messages between QEMU, the zygote and the signer: one struct, one SOCK_SEQPACKET datagram, same build on both ends.
#pragma once

#include <cstdint>

#include "banyan/capi/base.h"
#include "vtpm/link/tpm_setup.hpp"

namespace banyan::vtpm {

inline constexpr int kZygoteControlFd = 3; // of the started engine
inline constexpr int kSignerFd = 4;
inline constexpr std::uint32_t kControlVersion = 2;
inline constexpr std::uint32_t kMaxInstances = 1024;

enum class ControlKind : std::uint32_t {
    // to the zygote
    kSpawn = 1,   // fds: mailbox, bell, life line. An earlier worker of the instance is killed first
    kRestore = 2, // the same, from the last checkpoint
    kKill = 3,
    kErase = 4,
    // Snapshot, with the machine stopped. life is a ticket; kDone answers, status: a size or a negated Errc
    kSeal = 5,    // fd: SealOrder and the interface's state, status bytes of it; the part comes back in it
    kOpen = 6,    // fd: a part, status bytes of it; the interface's state comes back in it
    kInstall = 7, // what was opened becomes the instance's state; its worker has ended, kRestore starts the next
    kYield = 8,   // the platform folder is handed to another machine
    kTake = 9,    // and taken back
    // from the zygote
    kHello = 16,  // status 0: text is the sandbox level; else text says what went wrong
    kExited = 17, // text: how; a worker that was not asked to
    kErased = 18,
    kNotice = 19, // text: "kind: sentence"
    kDone = 20,   // text: why not
};

inline constexpr const char *kEventRolledBack = "store-rolled-back";

struct ControlMessage {
    std::uint32_t version = kControlVersion;
    ControlKind kind{};
    std::uint32_t instance = 0;
    std::uint32_t life = 0; // number of the power-on or restart, to tell late news
    std::int32_t status = 0;
    TpmSetup setup; // kSpawn, kRestore
    char event[32] = {};
    char text[192] = {};
};

inline constexpr unsigned kSpawnFds = 3;

struct SealOrder {
    std::uint32_t count = 0; // of instances in the snapshot
    bool first = false;      // of its parts: the keeper draws a number that no other snapshot has
    bool running = false;    // with the worker's checkpoint
};

struct SignRequest {
    std::uint32_t version = kControlVersion;
    std::uint32_t slot = 0;
    std::uint32_t ticket = 0;
    banyan_report_facts facts{};
};

struct SignReply {
    std::uint32_t version = kControlVersion;
    std::uint32_t slot = 0;
    std::uint32_t ticket = 0;
    std::int32_t status = 0; // 0 or a negated Errc
    std::uint32_t size = 0;
    std::uint8_t bytes[BANYAN_REPORT_MAX] = {};
};

inline constexpr unsigned kSignSlots = 32;

} // namespace banyan::vtpm
