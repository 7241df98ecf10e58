// SPDX-License-Identifier: GPL-2.0-or-later
// The engine's processes. The zygote is the executable's main(); it forks the others, which never return.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "vtpm/engine/process.hpp"
#include "vtpm/engine/vault.hpp"
#include "vtpm/link/tpm_setup.hpp"
#include "vtpm/store/store_file.hpp"

namespace banyan::vtpm {

struct EngineOptions {
    std::string platform; // the private folder, or empty for class test
    std::uint32_t instances = 0;
    bool accept_rollback = false; // report an older store file and go on with it; else refuse it
    bool full_sandbox = false;    // seccomp, namespaces and Landlock, or no engine
    std::string snapshot_key;     // a file, class test alone; empty: no snapshots there
    bool incoming = false;        // a snapshot will come; until then the platform folder is another machine's
    /// Of the keeper. A test has disks of its own.
    std::function<Result<std::unique_ptr<StoreFile>>(const std::string &path, int flags)> open_file = open_disk_file;
};

/// From SEQPACKET socket `zygote`.
[[noreturn]] void run_keeper(int zygote, const EngineOptions &options);

/// clients: requests of QEMU; zygote: hello, and names of class-test instances.
[[noreturn]] void run_signer(int clients, int zygote, const EngineOptions &options);

struct SignerHello {
    std::int32_t status = 0;
    bool landlock = false;
    char text[160] = {};
};

struct WorkerFds {
    int mailbox;
    int bell; // for an event loop of QEMU's side
    int line; // to QEMU: ends when the worker does; a byte on it is a request to cancel
    int vault;
    int keeper;
};

struct WorkerFilters {
    Filter serving;  // the calls of a worker that a guest can talk to
    Filter stand_by; // and those with which one that stands by becomes one
};
[[nodiscard]] bool worker_filters(WorkerFilters &out);

/// The TPM of one instance.
[[noreturn]] void run_worker(const WorkerFds &given, const WorkerFilters &filters, bool restore, const TpmSetup &setup);

/// The same for an instance that nobody has asked for yet: the TPM is started, and durable. The way to its host comes
/// over `door`: the kSpawnFds descriptors of control.hpp.
struct StandbyFds {
    int door;
    int vault;
    int keeper;
};
[[noreturn]] void run_standby(const StandbyFds &given, const WorkerFilters &filters);

/// A throw-away process that makes a TPM, writes its permanent state to the file `state` and then Made to `out`.
/// idle: only when nobody else wants the processor.
struct Made {
    std::uint32_t permanent_size = 0;
    SignerNames names;
};
[[noreturn]] void run_maker(int out, int state, bool idle);

/// The executable: options are what the command line does not say otherwise.
[[nodiscard]] int run_engine(int argc, char **argv, EngineOptions options);
[[nodiscard]] int run_zygote(int control, int signer, const EngineOptions &options);

} // namespace banyan::vtpm
