// SPDX-License-Identifier: GPL-2.0-or-later
#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include <seccomp.h>

#include "vtpm/engine/banks.hpp"
#include "vtpm/engine/crypto_memory.hpp"
#include "vtpm/engine/journal.hpp"
#include "vtpm/engine/roles.hpp"
#include "vtpm/engine/tpm_life.hpp"
#include "vtpm/engine/trace.hpp"
#include "vtpm/engine/vault.hpp"
#include "vtpm/link/control.hpp"
#include "vtpm/link/mailbox.hpp"
#include "vtpm/link/mailbox_worker.hpp"

namespace banyan::vtpm {
namespace {

// What the signal handlers reach.
Mailbox *handler_box = nullptr;
volatile std::uint32_t running = 0; // number of the request that libtpms works on
volatile std::sig_atomic_t line_has_bytes = 0;

extern "C" void on_line(int /*signal*/)
{
    line_has_bytes = 1;
    if (running != 0 && shared_load(handler_box->host.cancel) == running) {
        TpmLife::cancel();
    }
}

extern "C" void on_refused_call(int /*signal*/, siginfo_t *info, void * /*context*/)
{
    if (handler_box != nullptr) {
        shared_store(handler_box->worker.refused_syscall, static_cast<std::uint32_t>(info->si_syscall) + 1);
    }
    quit(kExitRefusedCall);
}

constexpr std::uint64_t kSettleNs = 2'000'000; // a journal that rests so long becomes a checkpoint

class Worker {
public:
    Worker(int keeper, Vault *vault, const TpmSetup &setup)
        : keeper_(keeper),
          vault_(vault),
          setup_(setup),
          journal_(vault->journal)
    {}

    void boot(bool restore);
    [[noreturn]] void serve(Mailbox *box, int bell, int line);

private:
    KeeperSays ask(const WorkerAsks &question);
    void load();
    [[nodiscard]] bool init();
    [[nodiscard]] bool stir();
    [[nodiscard]] bool restore_checkpoint();
    void wipe_checkpoints();
    bool write_checkpoint(std::uint64_t generation);
    [[nodiscard]] bool make_durable();
    void roll_back();
    [[nodiscard]] WorkerStatus command(std::uint8_t locality, std::span<const std::uint8_t> bytes, Bytes &response);
    [[nodiscard]] WorkerStatus perform(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes,
                                       Bytes &response);
    [[nodiscard]] bool read_state(std::span<const std::uint8_t> asked, Bytes &answer);
    [[nodiscard]] bool write_state(std::span<const std::uint8_t> given);
    [[nodiscard]] bool adopt_state();

    const int keeper_;
    Vault *const vault_;
    const TpmSetup setup_;
    TpmLife life_;
    bool held_ = false;            // _TPM_Init was, TPM2_Startup was not
    bool rebuilt_ = false;         // the permanent state differs from the durable one since before _TPM_Init
    Bytes committed_;              // permanent state that is durable
    std::uint64_t generation_ = 0; // its number
    std::uint64_t restores_ = 0;   // snapshots that it was brought back from
    bool established_ = false;     // durable
    bool established_now_ = false;
    bool stirred_ = false;         // since this worker began
    std::uint64_t checkpoint_ = 0; // number of the last one written; 0: none
    JournalWriter journal_;        // what came after it
    bool audits_ = true;           // every command leaves a trace
    Bytes going_out_;              // a state of which parts are read
    Bytes coming_in_[2];           // permanent, volatile: parts that were written
};

KeeperSays Worker::ask(const WorkerAsks &question)
{
    KeeperSays answer;
    if (::write(keeper_, &question, sizeof(question)) != static_cast<ssize_t>(sizeof(question))) {
        quit(kExitStore);
    }
    ssize_t got = 0;
    do {
        got = ::read(keeper_, &answer, sizeof(answer));
    } while (got < 0 && errno == EINTR);
    if (got != static_cast<ssize_t>(sizeof(answer))) {
        quit(kExitStore);
    }
    return answer;
}

void Worker::load()
{
    const KeeperSays said = ask({KeeperAsk::kLoad, 0, 0});
    if (said.status != 0 || said.size == 0 || said.size > kPermanentMax) {
        quit(kExitStore);
    }
    committed_.assign(vault_->permanent, vault_->permanent + said.size);
    generation_ = said.generation;
    established_ = said.established != 0;
    established_now_ = established_;
    restores_ = said.restores;
}

/// Before TPM2_Startup the TPM takes no command: then it is stirred after that one.
bool Worker::stir()
{
    const std::uint32_t code = life_.stir();
    stirred_ = code == static_cast<std::uint32_t>(TpmRc::kSuccess);
    audits_ = !stirred_ || audits_commands(life_);
    return stirred_ || code == static_cast<std::uint32_t>(TpmRc::kInitialize);
}

bool Worker::restore_checkpoint()
{
    // A checkpoint counts if the permanent state that it belongs to is the durable one: so a command whose commit was
    // done happened as a whole, and one whose commit was not done did not happen.
    const Checkpoint *best = nullptr;
    for (const Checkpoint &one : vault_->checkpoints) {
        if (one.number != 0 && one.generation == generation_ && one.size <= kVolatileMax &&
            (best == nullptr || one.number > best->number)) {
            best = &one;
        }
    }
    if (best == nullptr) {
        return false;
    }
    checkpoint_ = best->number;
    const std::uint8_t *bytes = vault_->volatile_state[best->number % 2];
    return life_.begin(committed_, {bytes, best->size}) && stir() &&
           replay(vault_->journal, best->number, [this](std::uint8_t locality, std::span<const std::uint8_t> command) {
               return response_code(life_.execute(locality, command)) == 0;
           });
}

void Worker::boot(bool restore)
{
    load();
    if (!TpmLife::set_buffer_size(setup_.buffer_size)) {
        quit(kExitTpm);
    }
    if (restore) {
        if (!restore_checkpoint()) {
            quit(kExitTpm);
        }
    } else {
        wipe_checkpoints();
        held_ = setup_.hold_startup != 0;
        if (!init() || (!held_ && !stir())) {
            quit(kExitTpm);
        }
    }
    if (!held_ && !make_durable()) {
        quit(kExitStore);
    }
}

/// _TPM_Init with the banks that are wanted. Banks count from an _TPM_Init on, and only a started TPM says which it
/// has: where they differ, and before a held Startup, the TPM goes through a short life first.
bool Worker::init()
{
    if (setup_.client_startup != 0) {
        return life_.begin(committed_, {}).has_value();
    }
    if (!life_.begin(committed_, {}) || !life_.startup_clear()) {
        return false;
    }
    const auto banks = allocated_banks(life_);
    if (!banks || (*banks != setup_.banks && !allocate_banks(life_, setup_.banks))) {
        return false;
    }
    if (*banks == setup_.banks && !held_) {
        return true;
    }
    if (!life_.shutdown_clear()) {
        return false;
    }
    const Bytes permanent = life_.permanent();
    rebuilt_ = true;
    return life_.begin(permanent, {}).has_value() && (held_ || life_.startup_clear());
}

void Worker::wipe_checkpoints()
{
    for (Checkpoint &one : vault_->checkpoints) {
        reinterpret_cast<volatile std::uint64_t &>(one.number) = 0;
    }
    journal_.clear(); // numbers begin anew
    checkpoint_ = 0;
}

bool Worker::write_checkpoint(std::uint64_t generation)
{
    const auto state = life_.volatile_state();
    if (!state || state->size() > kVolatileMax) {
        return false;
    }
    const std::uint64_t number = checkpoint_ + 1;
    Checkpoint &slot = vault_->checkpoints[number % 2];
    std::atomic_ref<std::uint64_t>(slot.number).store(0, std::memory_order_seq_cst);
    std::copy(state->begin(), state->end(), vault_->volatile_state[number % 2]);
    slot.generation = generation;
    slot.size = static_cast<std::uint32_t>(state->size());
    std::atomic_ref<std::uint64_t>(slot.number).store(number, std::memory_order_seq_cst);
    checkpoint_ = number;
    return true;
}

/// Checkpoint, and commit if the permanent state changed. Afterwards a killed worker comes back here.
bool Worker::make_durable()
{
    // libtpms stores at each _TPM_Init; after a restore that is what is durable already, and costs no flush. Generation
    // 0: nothing is durable yet.
    const bool changed = generation_ == 0 || (life_.dirty() && life_.permanent() != committed_) || rebuilt_ ||
                         established_now_ != established_;
    if (!write_checkpoint(changed ? generation_ + 1 : generation_)) {
        wipe_checkpoints(); // without the newest, none: an older one would undo what was answered
    }
    if (!changed) {
        life_.clean();
        return true;
    }
    const Bytes &permanent = life_.permanent();
    if (permanent.empty() || permanent.size() > kPermanentMax) {
        return false;
    }
    std::copy(permanent.begin(), permanent.end(), vault_->permanent);
    const KeeperSays said =
        ask({KeeperAsk::kCommit, static_cast<std::uint32_t>(permanent.size()), established_now_ ? 1U : 0U});
    if (said.status != 0) {
        return false;
    }
    generation_ = said.generation;
    committed_ = permanent;
    established_ = established_now_;
    rebuilt_ = false;
    life_.clean();
    return true;
}

/// After a commit that failed: the command did not happen.
void Worker::roll_back()
{
    established_now_ = established_;
    if (!restore_checkpoint()) {
        quit(kExitStore);
    }
    life_.clean();
}

WorkerStatus Worker::command(std::uint8_t locality, std::span<const std::uint8_t> bytes, Bytes &response)
{
    response = life_.execute(locality, bytes);
    if (!stirred_) {
        (void)stir(); // the client has sent TPM2_Startup, or has not yet
    }
    const std::uint32_t code = load_be32(bytes, kTpmCodeAt);
    if (code == kCcSetCommandCodeAuditStatus) {
        audits_ = true; // until the next boot asks
    }
    if (!life_.dirty() && !audits_ && response_code(response) == 0) {
        const Trace trace = trace_of(bytes);
        if (trace == Trace::kNone ||
            (trace == Trace::kReplay && checkpoint_ != 0 && journal_.note(checkpoint_, locality, bytes))) {
            return WorkerStatus::kOk;
        }
    }
    if (make_durable()) {
        return WorkerStatus::kOk;
    }
    roll_back();
    const auto unavailable = error_response(TpmRc::kNvUnavailable);
    response.assign(unavailable.begin(), unavailable.end());
    return WorkerStatus::kStoreFailed;
}

WorkerStatus Worker::perform(Op op, std::uint8_t locality, std::span<const std::uint8_t> bytes, Bytes &response)
{
    const auto status = [](bool good) { return good ? WorkerStatus::kOk : WorkerStatus::kRefused; };
    switch (op) {
    case Op::kCommand:
        if (held_ || !command_header_ok(bytes)) {
            return WorkerStatus::kRefused;
        }
        return command(locality, bytes, response);
    case Op::kHashStart:
        wipe_checkpoints(); // PCR 17-22 of before must not come back
        return status(life_.hash_start());
    case Op::kHashData:
        return status(life_.hash_data(bytes));
    case Op::kHashEnd:
        if (!life_.hash_end()) {
            return WorkerStatus::kRefused;
        }
        if (held_ || !stirred_) { // H-CRTM: no dynamic launch, and nothing to keep before Startup
            return WorkerStatus::kOk;
        }
        established_now_ = true;
        return status(make_durable());
    case Op::kStartup:
        if (!std::exchange(held_, false)) {
            return WorkerStatus::kRefused;
        }
        return status(life_.startup_clear() && stir() && make_durable());
    case Op::kResetEstablished:
        if (held_) {
            return WorkerStatus::kRefused;
        }
        established_now_ = false;
        if (!make_durable()) {
            roll_back();
            return WorkerStatus::kStoreFailed;
        }
        return WorkerStatus::kOk;
    case Op::kReadState:
        return status(read_state(bytes, response));
    case Op::kWriteState:
        return status(write_state(bytes));
    case Op::kAdoptState:
        return status(adopt_state());
    case Op::kCheckpoint:
        return status(!held_ && make_durable());
    }
    return WorkerStatus::kRefused;
}

bool Worker::read_state(std::span<const std::uint8_t> asked, Bytes &answer)
{
    if (asked.size() != 8) {
        return false;
    }
    const auto kind = static_cast<StateKind>(load_be32(asked, 0));
    const std::uint32_t offset = load_be32(asked, 4);
    if (offset == 0) {
        going_out_ = life_.permanent();
        if (kind == StateKind::kVolatile) {
            const auto now = life_.volatile_state();
            if (!now) {
                return false;
            }
            going_out_ = *now;
        }
    }
    if (offset > going_out_.size() || going_out_.size() > kStateMax) {
        return false;
    }
    const auto total = static_cast<std::uint32_t>(going_out_.size());
    const std::size_t size = std::min<std::size_t>(total - offset, kTpmBufferSize - sizeof(total));
    answer.clear();
    for (int shift = 24; shift >= 0; shift -= 8) {
        answer.push_back(static_cast<std::uint8_t>(total >> shift));
    }
    answer.insert(answer.end(), going_out_.begin() + offset, going_out_.begin() + static_cast<long>(offset + size));
    return true;
}

bool Worker::write_state(std::span<const std::uint8_t> given)
{
    if (given.size() < 8) {
        return false;
    }
    const std::uint32_t kind = load_be32(given, 0);
    if (kind != static_cast<std::uint32_t>(StateKind::kPermanent) &&
        kind != static_cast<std::uint32_t>(StateKind::kVolatile)) {
        return false;
    }
    Bytes &state = coming_in_[kind - 1];
    if (load_be32(given, 4) != state.size() || state.size() + given.size() - 8 > kStateMax) {
        return false;
    }
    state.insert(state.end(), given.begin() + 8, given.end());
    return true;
}

/// A state that libtpms does not take ends the worker: what is durable stays.
bool Worker::adopt_state()
{
    const Bytes permanent = std::exchange(coming_in_[0], {});
    const Bytes volatile_state = std::exchange(coming_in_[1], {});
    wipe_checkpoints();
    if (held_ || permanent.empty() || !life_.begin(permanent, volatile_state) || !stir()) {
        quit(kExitTpm);
    }
    life_.touch();
    if (!make_durable()) {
        quit(kExitStore);
    }
    return true;
}

void Worker::serve(Mailbox *box, int bell, int line)
{
    use_small_blocks();
    MailboxWorker ways(box, bell);
    shared_store(box->worker.restores, static_cast<std::uint32_t>(restores_));
    shared_store(box->worker.established, established_ ? 1 : 0);
    shared_store(box->worker.state, static_cast<std::uint32_t>(WorkerState::kReady));
    ways.tell_host();
    std::uint32_t answered = 0;
    Bytes bytes;
    Bytes response;
    for (;;) {
        const std::uint32_t request = shared_load(box->host.request);
        if (request == answered) {
            if (!ways.wait(answered, journal_.empty(checkpoint_) ? kForever : kSettleNs)) {
                (void)make_durable(); // nobody asks: a checkpoint now makes the way back short
            }
            continue;
        }
        const auto op = static_cast<Op>(shared_load(box->host.op));
        const std::uint32_t locality = shared_load(box->host.locality);
        const std::uint32_t size = shared_load(box->host.size);
        if (size > kTpmBufferSize || locality > 4) {
            quit(kExitProtocol);
        }
        bytes.assign(box->command, box->command + size);
        response.clear();
        running = request;
        const WorkerStatus status = perform(op, static_cast<std::uint8_t>(locality), bytes, response);
        running = 0;
        if (line_has_bytes != 0) {
            line_has_bytes = 0;
            char rest[64];
            while (::read(line, rest, sizeof(rest)) > 0) {
            }
        }
        std::copy(response.begin(), response.end(), box->answer);
        box->worker.size = static_cast<std::uint32_t>(response.size());
        box->worker.status = static_cast<std::uint32_t>(status);
        shared_store(box->worker.response, request);
        answered = request;
        ways.tell_host();
    }
}

void listen_for(int signal, void (*simple)(int), void (*full)(int, siginfo_t *, void *))
{
    struct sigaction action {};
    action.sa_flags = SA_RESTART;
    if (full != nullptr) {
        action.sa_sigaction = full;
        action.sa_flags |= SA_SIGINFO;
    } else {
        action.sa_handler = simple;
    }
    ::sigaction(signal, &action, nullptr);
}

/// What a worker may use up, and no file at all.
void set_limits()
{
    const rlimit no_files{16, 16};
    ::setrlimit(RLIMIT_NOFILE, &no_files);
    const rlimit no_writes{0, 0};
    ::setrlimit(RLIMIT_FSIZE, &no_writes);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    const rlimit memory{256U << 20, 256U << 20};
    ::setrlimit(RLIMIT_AS, &memory);
#endif
}

template <typename Shared>
Shared *map_and_close(int file)
{
    auto *at = static_cast<Shared *>(map_shared(file, sizeof(Shared)));
    if (at == nullptr) {
        quit(kExitProtocol);
    }
    ::close(file);
    return at;
}

/// From here on signals find the mailbox.
void attach(Mailbox *box, int line)
{
    name_process("vtpm-worker");
    handler_box = box;
    listen_for(SIGIO, on_line, nullptr);
    ::fcntl(line, F_SETOWN, ::getpid());
    ::fcntl(line, F_SETFL, O_ASYNC | O_NONBLOCK);
}

void restrict_to(const Filter &filter)
{
    if (!apply_filter(filter)) {
        quit(kExitSandbox);
    }
}

} // namespace

bool worker_filters(WorkerFilters &out)
{
    std::vector<int> calls{
        SCMP_SYS(read),          SCMP_SYS(write),        SCMP_SYS(sched_yield), SCMP_SYS(restart_syscall),
        SCMP_SYS(futex),         SCMP_SYS(mmap),         SCMP_SYS(munmap),      SCMP_SYS(mremap),
        SCMP_SYS(brk),           SCMP_SYS(madvise),      SCMP_SYS(getrandom),   SCMP_SYS(getpid),
        SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(time),        SCMP_SYS(exit_group),
        SCMP_SYS(rt_sigreturn)};
    if (!compile_filter(calls, out.serving)) {
        return false;
    }
    calls.insert(calls.end(), {SCMP_SYS(recvmsg), SCMP_SYS(close), SCMP_SYS(fcntl), SCMP_SYS(rt_sigaction),
                               SCMP_SYS(prctl), SCMP_SYS(seccomp)});
    return compile_filter(calls, out.stand_by);
}

void run_worker(const WorkerFds &given, const WorkerFilters &filters, bool restore, const TpmSetup &setup)
{
    ::dup2(0, 2); // nothing of a worker reaches the user's terminal
    keep_only(std::array{given.mailbox, given.bell, given.line, given.vault, given.keeper});
    const WorkerFds fds{3, 4, 5, 6, 7};
    auto *box = map_and_close<Mailbox>(fds.mailbox);
    auto *vault = map_and_close<Vault>(fds.vault);
    listen_for(SIGSYS, nullptr, on_refused_call);
    attach(box, fds.line);
    set_limits();
    restrict_to(filters.serving);
    auto *worker = new Worker(fds.keeper, vault, setup);
    worker->boot(restore);
    worker->serve(box, fds.bell, fds.line);
}

void run_standby(const StandbyFds &given, const WorkerFilters &filters)
{
    name_process("vtpm-standby");
    ::dup2(0, 2);
    keep_only(std::array{given.door, given.vault, given.keeper});
    const StandbyFds fds{3, 4, 5};
    auto *vault = map_and_close<Vault>(fds.vault);
    listen_for(SIGSYS, nullptr, on_refused_call);
    set_limits();
    restrict_to(filters.stand_by);
    auto *worker = new Worker(fds.keeper, vault, {});
    worker->boot(false);

    char knock = 0;
    std::vector<int> host;
    if (!receive_with_fds(fds.door, &knock, sizeof(knock), host) || host.size() != kSpawnFds) {
        quit(0); // nobody will ask for it
    }
    ::close(fds.door);
    auto *box = map_and_close<Mailbox>(host[0]);
    attach(box, host[2]);
    restrict_to(filters.serving);
    worker->serve(box, host[1], host[2]);
}

} // namespace banyan::vtpm
