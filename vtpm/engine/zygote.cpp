// SPDX-License-Identifier: GPL-2.0-or-later
// The zygote: warm, never the owner of a TPM, forks one worker per instance when QEMU asks.
#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <span>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <unordered_map>
#include <utility>
#include <vector>

#include "vtpm/engine/huge_text.hpp"
#include "vtpm/engine/outbox.hpp"
#include "vtpm/engine/pool.hpp"
#include "vtpm/engine/roles.hpp"
#include "vtpm/engine/standby.hpp"
#include "vtpm/engine/tpm_life.hpp"
#include "vtpm/engine/vault.hpp"
#include "vtpm/link/control.hpp"
#include "vtpm/link/mailbox.hpp"
#include "vtpm/link/mailbox_worker.hpp"

namespace banyan::vtpm {
namespace {

/// One whole TPM life without consequences: OpenSSL's caches are filled, libtpms' pages are touched. Nothing of its
/// seeds is left: workers begin with an _TPM_Init of their own.
void warm_up()
{
    TpmLife life;
    if (!life.begin({}, {}) || !life.startup_clear()) {
        return;
    }
    const std::array<std::uint8_t, 1> full_test{1};
    const std::array<std::uint8_t, 2> thirty_two{0, 32};
    (void)life.execute(0, plain_command(0x0143, full_test));  // TPM2_SelfTest
    (void)life.execute(0, plain_command(0x017b, thirty_two)); // TPM2_GetRandom
    (void)life.volatile_state();
    life.end();
}

struct Instance {
    pid_t worker = -1;
    std::uint32_t life = 0;
    int mailbox = -1; // to read which call was refused
    int line = -1;    // the worker's end of its host's
    int vault = -1;
    int door = -1;        // to a worker that stands by: nobody has asked for the TPM yet
    bool made = false;    // the keeper has its state
    bool ahead = false;   // made, but nobody has asked for it yet
    bool erased = false;  // it gets no TPM unasked
    bool spoilt = false;  // what stands by met a disk that fails
    bool waiting = false; // a spawn waits for the pool
    ControlMessage request;
    std::vector<int> request_fds;
};

struct Maker {
    Pool::Need why;
    int output;
    int state; // memory file: never read here, where workers are forked from
};

class Zygote {
public:
    /// made: which instances have a state; the others get one from the pool when they first start, or before that if
    /// the next few may stand by.
    Zygote(int control, int keeper, int signer, const std::vector<bool> &made, bool stand_by)
        : control_(control),
          outbox_(control),
          keeper_(keeper),
          signer_(signer),
          standby_(stand_by),
          instances_(made.size()),
          pool_(static_cast<std::uint32_t>(std::count(made.begin(), made.end(), false)))
    {
        for (std::size_t i = 0; i < made.size(); ++i) {
            instances_[i].made = made[i];
        }
    }
    [[nodiscard]] int run(const std::string &level);

private:
    void from_host();
    void from_keeper();
    void from_maker(std::size_t index);
    void reap();
    void kill_worker(Instance &instance);
    void look_after_pool();
    [[nodiscard]] bool start_maker(Pool::Need why);
    [[nodiscard]] bool hand_over(const Pool::Grant &grant);
    void snapshot(const ControlMessage &request, std::vector<int> &fds);
    void spawn(std::uint32_t index, const ControlMessage &request, std::vector<int> &fds);
    [[nodiscard]] bool open_door(std::uint32_t index, const ControlMessage &request, std::vector<int> &fds);
    void stand_by();
    void stop_standby();
    [[nodiscard]] bool start_standby(std::uint32_t index);
    [[nodiscard]] int introduce(std::uint32_t index, bool restore);
    void say(ControlKind kind, std::uint32_t index, std::int32_t status, const std::string &event,
             const std::string &text);
    void refuse(std::uint32_t index, std::span<const int> fds, ControlKind kind, const char *event, const char *text);
    void cannot_make(std::uint32_t index);
    [[nodiscard]] std::string cause_of(const Instance &instance, int status, std::string &event) const;

    int control_;
    Outbox<ControlMessage> outbox_;
    int keeper_;
    int signer_;
    int signals_ = -1;
    bool stopping_ = false;
    StandBy standby_;
    WorkerFilters filters_;
    std::vector<Instance> instances_;
    std::unordered_map<pid_t, std::uint32_t> workers_; // running or not collected yet, and whose
    std::vector<Maker> makers_;
    Pool pool_;
};

void close_all(std::vector<int> &fds)
{
    for (const int fd : fds) {
        ::close(fd);
    }
    fds.clear();
}

/// Mailbox and line of a worker's life, out of what its host sent.
void keep_ends(Instance &instance, std::vector<int> &fds)
{
    instance.mailbox = fds[0];
    instance.line = fds[2];
    fds = {fds[1]};
}

/// The last word on a life, where its host looks when its line ends, then that end. shutdown(), since a child that was
/// just forked may hold the line a moment longer.
void end_life(int mailbox, int line, WorkerEnd how)
{
    const auto word = static_cast<std::uint32_t>(how);
    (void)!::pwrite(mailbox, &word, sizeof(word), offsetof(Mailbox, worker) + offsetof(Mailbox::Worker, end));
    (void)::shutdown(line, SHUT_RDWR);
    if (auto *box = static_cast<Mailbox *>(map_shared(mailbox, sizeof(Mailbox)))) {
        MailboxWorker::tell_of_death(box);
        ::munmap(box, sizeof(Mailbox));
    }
}

/// A worker that ends with one of its own words has a reason that the next one will find, too.
WorkerEnd end_of(int status)
{
    if (!WIFEXITED(status)) {
        return WorkerEnd::kDied;
    }
    switch (WEXITSTATUS(status)) {
    case kExitRefusedCall:
    case kExitStore:
    case kExitTpm:
    case kExitProtocol:
    case kExitSandbox:
        return WorkerEnd::kGaveUp;
    default:
        return WorkerEnd::kDied;
    }
}

void Zygote::say(ControlKind kind, std::uint32_t index, std::int32_t status, const std::string &event,
                 const std::string &text)
{
    ControlMessage message;
    message.kind = kind;
    message.instance = index;
    message.life = index < instances_.size() ? instances_[index].life : 0;
    message.status = status;
    (void)std::snprintf(message.event, sizeof(message.event), "%s", event.c_str());
    (void)std::snprintf(message.text, sizeof(message.text), "%s", text.c_str());
    if (kind == ControlKind::kErased) {
        outbox_.answer(message);
        return;
    }
    outbox_.notice(message, [&](const ControlMessage &earlier) { // nobody may listen for long
        return earlier.kind == kind && earlier.instance == index && std::strcmp(earlier.event, message.event) == 0;
    });
}

void Zygote::kill_worker(Instance &instance)
{
    if (instance.worker > 0) {
        ::kill(instance.worker, SIGKILL);
        int status = 0;
        while (::waitpid(instance.worker, &status, 0) < 0 && errno == EINTR) {
        }
        workers_.erase(instance.worker);
        instance.worker = -1;
    }
    instance.spoilt = false;
    for (int *fd : {&instance.mailbox, &instance.line, &instance.door}) {
        if (*fd >= 0) {
            ::close(*fd);
            *fd = -1;
        }
    }
}

void Zygote::from_host()
{
    ControlMessage request;
    std::vector<int> fds;
    if (!receive_with_fds(control_, &request, sizeof(request), fds) || request.version != kControlVersion ||
        request.instance >= instances_.size()) {
        stopping_ = true; // QEMU has ended
        close_all(fds);
        return;
    }
    Instance &instance = instances_[request.instance];
    switch (request.kind) {
    case ControlKind::kSpawn:
    case ControlKind::kRestore:
        if (fds.size() != kSpawnFds) {
            break;
        }
        instance.ahead = false;
        standby_.somebody_asked();
        if (open_door(request.instance, request, fds)) {
            break;
        }
        kill_worker(instance);
        close_all(instance.request_fds);
        instance.waiting = false;
        if (!instance.made) {
            instance.request = request;
            instance.request_fds.swap(fds);
            instance.waiting = true;
            pool_.want(request.instance);
        } else {
            spawn(request.instance, request, fds);
        }
        break;
    case ControlKind::kKill:
        if (request.life == instance.life && instance.door < 0) {
            kill_worker(instance);
        }
        if (instance.waiting && request.life == instance.request.life) {
            instance.waiting = false;
            pool_.forget(request.instance);
            close_all(instance.request_fds);
        }
        break;
    case ControlKind::kErase: {
        kill_worker(instance);
        instance.waiting = false;
        instance.ahead = false;
        instance.erased = true;
        pool_.forget(request.instance);
        close_all(instance.request_fds);
        KeeperMessage message;
        message.tell = KeeperTell::kErase;
        message.instance = request.instance;
        (void)send_with_fds(keeper_, &message, sizeof(message), {});
        if (instance.vault >= 0) {
            ::close(instance.vault);
            instance.vault = -1;
        }
        break;
    }
    case ControlKind::kSeal:
    case ControlKind::kOpen:
    case ControlKind::kInstall:
    case ControlKind::kYield:
    case ControlKind::kTake:
        snapshot(request, fds);
        break;
    case ControlKind::kHello:
    case ControlKind::kExited:
    case ControlKind::kErased:
    case ControlKind::kNotice:
    case ControlKind::kDone:
        break;
    }
    close_all(fds);
}

/// The keeper's work, passed on to it. An instance that gets another state loses its worker first.
void Zygote::snapshot(const ControlMessage &request, std::vector<int> &fds)
{
    Instance &instance = instances_[request.instance];
    KeeperMessage message;
    message.instance = request.instance;
    message.status = request.status;
    message.ticket = request.life;
    if (request.kind != ControlKind::kSeal) {
        stop_standby();
        standby_.snapshot(monotonic_ns());
    }
    if (request.kind == ControlKind::kSeal) {
        message.tell = KeeperTell::kSeal;
    } else if (request.kind == ControlKind::kOpen) {
        message.tell = KeeperTell::kOpen;
    } else if (request.kind == ControlKind::kYield) {
        message.tell = KeeperTell::kYield;
        standby_.folder(false);
    } else if (request.kind == ControlKind::kTake) {
        message.tell = KeeperTell::kTake;
    } else {
        message.tell = KeeperTell::kInstall;
        kill_worker(instance);
        instance.waiting = false;
        close_all(instance.request_fds);
        pool_.forget(request.instance);
        if (instance.vault >= 0) {
            ::close(instance.vault);
        }
        instance.vault = make_shared_memory("banyan-vtpm-vault", sizeof(Vault));
        (void)send_with_fds(keeper_, &message, sizeof(message), std::array{instance.vault});
        return;
    }
    (void)send_with_fds(keeper_, &message, sizeof(message), fds);
}

bool Zygote::start_maker(Pool::Need why)
{
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return false;
    }
    const int state = ::memfd_create("banyan-vtpm-made", MFD_CLOEXEC);
    const pid_t parent = ::getpid();
    const pid_t pid = state >= 0 ? ::fork() : -1;
    if (pid == 0) {
        harden_child(parent);
        ::dup2(0, 2);
        keep_only(std::array{ends[1], state});
        run_maker(3, 4, why == Pool::Need::kAhead);
    }
    ::close(ends[1]);
    if (pid < 0) {
        ::close(ends[0]);
        if (state >= 0) {
            ::close(state);
        }
        return false;
    }
    makers_.push_back({why, ends[0], state}); // the process is reaped with the other children
    return true;
}

void Zygote::from_maker(std::size_t index)
{
    const Maker maker = makers_[index];
    makers_.erase(makers_.begin() + static_cast<std::ptrdiff_t>(index));
    Made made;
    const bool good = ::recv(maker.output, &made, sizeof(made), MSG_WAITALL) == static_cast<ssize_t>(sizeof(made));
    if (good) {
        KeeperMessage message;
        message.tell = KeeperTell::kStock;
        message.ticket = pool_.made(maker.why, made.names);
        (void)send_with_fds(keeper_, &message, sizeof(message), std::array{maker.state});
    } else if (const auto unlucky = pool_.failed(maker.why)) {
        cannot_make(*unlucky);
    }
    ::close(maker.output);
    ::close(maker.state);
}

/// No worker comes for this request.
void Zygote::refuse(std::uint32_t index, std::span<const int> fds, ControlKind kind, const char *event,
                    const char *text)
{
    say(kind, index, -1, event, text);
    end_life(fds[0], fds[2], WorkerEnd::kGaveUp);
}

void Zygote::cannot_make(std::uint32_t index)
{
    Instance &instance = instances_[index];
    instance.waiting = false;
    refuse(index, instance.request_fds, ControlKind::kNotice, "manufacture-failed", "a TPM could not be made");
    close_all(instance.request_fds);
}

/// Keeper and signer hear of the instance before its worker asks for it.
bool Zygote::hand_over(const Pool::Grant &grant)
{
    KeeperMessage message;
    message.tell = KeeperTell::kCreate;
    message.instance = grant.instance;
    message.ticket = grant.ticket;
    message.names = grant.names;
    SignerNames names = grant.names;
    names.instance = grant.instance;
    return send_with_fds(keeper_, &message, sizeof(message), {}) &&
           ::send(signer_, &names, sizeof(names), MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof(names));
}

void Zygote::look_after_pool()
{
    while (const auto grant = pool_.grant()) {
        Instance &instance = instances_[grant->instance];
        instance.made = hand_over(*grant);
        instance.waiting = false;
        if (instance.made) {
            spawn(grant->instance, instance.request, instance.request_fds);
            close_all(instance.request_fds);
        } else {
            cannot_make(grant->instance);
        }
    }
    while (pool_.need() != Pool::Need::kNone) {
        const Pool::Need need = pool_.need();
        pool_.begun(need);
        if (start_maker(need)) {
            continue;
        }
        if (const auto unlucky = pool_.failed(need)) {
            cannot_make(*unlucky);
        }
    }
    stand_by();
}

/// The next few instances get their TPMs before they ask: started and durable, so that who asks waits for no disk. None
/// of that is seen until then; an instance that wants another setup gets its TPM started anew.
void Zygote::stand_by()
{
    if (!standby_.may(monotonic_ns())) {
        return;
    }
    auto standing =
        std::count_if(instances_.begin(), instances_.end(), [](const Instance &one) { return one.door >= 0; });
    for (std::uint32_t i = 0; i < instances_.size() && standing < kStandbyMax; ++i) {
        Instance &instance = instances_[i];
        if (instance.door >= 0 || instance.erased || (instance.made && !instance.ahead)) {
            continue;
        }
        if (!instance.made) {
            const auto grant = pool_.grant_ahead(i);
            if (!grant) {
                return;
            }
            instance.made = hand_over(*grant);
            instance.ahead = instance.made;
        }
        if (!instance.made || !start_standby(i)) {
            standby_.gave_up();
            return;
        }
        ++standing;
    }
}

/// The folder may be another machine's from here on, or instances get states out of a snapshot.
void Zygote::stop_standby()
{
    for (Instance &instance : instances_) {
        if (instance.door >= 0) {
            kill_worker(instance);
        }
    }
}

bool Zygote::start_standby(std::uint32_t index)
{
    Instance &instance = instances_[index];
    int door[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, door) != 0) {
        return false;
    }
    const int keeper = introduce(index, false);
    const pid_t parent = ::getpid();
    const pid_t pid = keeper >= 0 ? ::fork() : -1;
    if (pid == 0) {
        harden_child(parent);
        run_standby({door[1], instance.vault, keeper}, filters_);
    }
    ::close(door[1]);
    if (keeper >= 0) {
        ::close(keeper);
    }
    if (pid < 0) {
        ::close(door[0]);
        return false;
    }
    instance.worker = pid;
    workers_[pid] = index;
    instance.door = door[0];
    return true;
}

/// Whether the worker that stands by is the one that was asked for, and is that from now on.
bool Zygote::open_door(std::uint32_t index, const ControlMessage &request, std::vector<int> &fds)
{
    Instance &instance = instances_[index];
    const char knock = 0;
    if (instance.door < 0 || instance.spoilt || request.kind != ControlKind::kSpawn || request.setup != TpmSetup{} ||
        !send_with_fds(instance.door, &knock, sizeof(knock), fds, MSG_DONTWAIT)) {
        return false;
    }
    ::close(std::exchange(instance.door, -1));
    standby_.taken();
    instance.life = request.life;
    keep_ends(instance, fds);
    return true;
}

/// Gives the instance's next worker a vault and a way to the keeper, whose other end is returned. -1: it could not.
int Zygote::introduce(std::uint32_t index, bool restore)
{
    Instance &instance = instances_[index];
    if (!restore) {
        if (instance.vault >= 0) {
            ::close(instance.vault);
        }
        instance.vault = make_shared_memory("banyan-vtpm-vault", sizeof(Vault));
    }
    int ends[2];
    if (instance.vault < 0 || ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return -1;
    }
    KeeperMessage message;
    message.tell = KeeperTell::kAdopt;
    message.instance = index;
    const bool adopted = send_with_fds(keeper_, &message, sizeof(message), std::array{instance.vault, ends[0]});
    ::close(ends[0]);
    if (!adopted) {
        ::close(ends[1]);
        return -1;
    }
    return ends[1];
}

void Zygote::spawn(std::uint32_t index, const ControlMessage &request, std::vector<int> &fds)
{
    Instance &instance = instances_[index];
    instance.life = request.life;
    const bool restore = request.kind == ControlKind::kRestore && instance.vault >= 0;
    const int keeper = introduce(index, restore);
    if (keeper < 0) {
        refuse(index, fds, ControlKind::kExited, "worker-died", "no descriptors left for a worker");
        return;
    }
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) {
        harden_child(parent);
        run_worker({fds[0], fds[1], fds[2], instance.vault, keeper}, filters_, restore, request.setup);
    }
    ::close(keeper);
    if (pid < 0) {
        refuse(index, fds, ControlKind::kExited, "worker-died", "a worker could not be started");
        return;
    }
    instance.worker = pid;
    workers_[pid] = index;
    keep_ends(instance, fds);
}

void Zygote::from_keeper()
{
    KeeperMessage message;
    std::vector<int> fds;
    const bool good = receive_with_fds(keeper_, &message, sizeof(message), fds);
    close_all(fds);
    if (!good || message.instance >= instances_.size()) {
        stopping_ = true; // without the keeper nothing is durable
        return;
    }
    message.text[sizeof(message.text) - 1] = '\0';
    if (message.tell == KeeperTell::kFailed && instances_[message.instance].door >= 0) {
        instances_[message.instance].spoilt = true; // who asks gets another worker, and hears what that one meets
        return;
    }
    if (message.tell == KeeperTell::kErased) {
        say(ControlKind::kErased, message.instance, message.status, message.status == 0 ? "" : "store-failed",
            message.text);
    } else if (message.tell == KeeperTell::kFailed) {
        say(ControlKind::kNotice, message.instance, message.status, "store-failed", message.text);
    } else if (message.tell == KeeperTell::kRolledBack) {
        say(ControlKind::kNotice, message.instance, message.status, kEventRolledBack, message.text);
    } else if (message.tell == KeeperTell::kLineage) {
        instances_[message.instance].made = true;
        instances_[message.instance].ahead = false; // it came with a snapshot
        (void)::send(signer_, &message.names, sizeof(message.names), MSG_NOSIGNAL);
    } else if (message.tell == KeeperTell::kMissing) {
        instances_[message.instance].made = false; // its worker tells its host; the next start asks for another TPM
        instances_[message.instance].ahead = false;
        pool_.lost();
    } else if (message.tell == KeeperTell::kDone) {
        standby_.folder(message.holds);
        ControlMessage done;
        done.kind = ControlKind::kDone;
        done.instance = message.instance;
        done.life = message.ticket;
        done.status = message.status;
        (void)std::snprintf(done.text, sizeof(done.text), "%s", message.text);
        outbox_.answer(done);
    }
}

std::string Zygote::cause_of(const Instance &instance, int status, std::string &event) const
{
    event = "worker-died";
    if (WIFSIGNALED(status)) {
        return std::string("killed by signal ") + std::to_string(WTERMSIG(status));
    }
    switch (WEXITSTATUS(status)) {
    case kExitRefusedCall: {
        std::uint32_t number = 0;
        (void)!::pread(instance.mailbox, &number, sizeof(number),
                       offsetof(Mailbox, worker) + offsetof(Mailbox::Worker, refused_syscall));
        event = "syscall-refused";
        return number == 0 || number > 4096 ? "a system call" : syscall_name(static_cast<int>(number - 1));
    }
    case kExitStore:
        return "its state could not be read or made durable";
    case kExitTpm:
        return "the TPM did not start";
    case kExitProtocol:
        return "it was asked for nonsense";
    case kExitSandbox:
        return "its sandbox could not be set up";
    default:
        return "ended with status " + std::to_string(WEXITSTATUS(status));
    }
}

void Zygote::reap()
{
    signalfd_siginfo info{};
    while (::read(signals_, &info, sizeof(info)) > 0) {
    }
    for (;;) {
        int status = 0;
        const pid_t pid = ::waitpid(-1, &status, WNOHANG);
        if (pid <= 0) {
            return;
        }
        if (const auto found = workers_.find(pid); found != workers_.end()) {
            const std::uint32_t index = found->second;
            Instance &instance = instances_[index];
            workers_.erase(found);
            instance.worker = -1;
            if (instance.door >= 0) { // the next worker says what is wrong to who asks for it
                ::close(std::exchange(instance.door, -1));
                instance.spoilt = false;
                end_of(status) == WorkerEnd::kDied ? standby_.died() : standby_.gave_up();
                continue;
            }
            std::string event;
            const std::string cause = cause_of(instance, status, event);
            say(ControlKind::kExited, index, status, event, cause); // there before the line's end is seen
            end_life(instance.mailbox, instance.line, end_of(status));
        }
    }
}

int Zygote::run(const std::string &level)
{
    if (!worker_filters(filters_)) {
        say(ControlKind::kHello, 0, -static_cast<std::int32_t>(Errc::kUnsupported), "", "seccomp is not available");
        return 1;
    }
    sigset_t children;
    ::sigemptyset(&children);
    ::sigaddset(&children, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &children, nullptr);
    signals_ = ::signalfd(-1, &children, SFD_NONBLOCK | SFD_CLOEXEC);
    say(ControlKind::kHello, 0, 0, "", level);

    std::vector<pollfd> fds;
    while (!stopping_) {
        look_after_pool();
        const short room = outbox_.waiting() ? POLLOUT : 0;
        fds = {{control_, static_cast<short>(POLLIN | room), 0}, {keeper_, POLLIN, 0}, {signals_, POLLIN, 0}};
        for (const Maker &maker : makers_) {
            fds.push_back({maker.output, POLLIN, 0});
        }
        const auto quiet = standby_.wait_ns(monotonic_ns());
        if (::poll(fds.data(), fds.size(), quiet ? static_cast<int>(*quiet / 1'000'000) + 1 : -1) < 0) {
            continue;
        }
        for (std::size_t i = fds.size(); i-- > 3;) { // from_maker() takes it out of the list
            if (fds[i].revents != 0) {
                from_maker(i - 3);
            }
        }
        if (fds[1].revents != 0) {
            from_keeper();
        }
        if (fds[2].revents != 0) {
            reap();
        }
        outbox_.flush();
        if ((fds[0].revents & ~POLLOUT) != 0) {
            from_host();
        }
    }
    for (Instance &instance : instances_) {
        kill_worker(instance);
    }
    ::close(keeper_); // keeper and signer end when they see this, the keeper after a commit under way
    ::close(signer_);
    while (::waitpid(-1, nullptr, 0) > 0 || errno == EINTR) { // leaves no process for somebody else to collect
    }
    return 0;
}

/// Forks a role before anything worth protecting from it exists here.
template <typename Role>
pid_t fork_role(std::span<const int> keep, Role role)
{
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) {
        harden_child(parent);
        keep_only(keep);
        role();
        quit(1);
    }
    return pid;
}

} // namespace

int run_zygote(int control, int signer_clients, const EngineOptions &options)
{
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGHUP, SIG_IGN);
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    keep_only(std::array{control, signer_clients});
    control = 3;
    signer_clients = 4;

    const auto refuse = [&](std::int32_t status, const std::string &text) {
        ControlMessage hello;
        hello.kind = ControlKind::kHello;
        hello.status = status;
        (void)std::snprintf(hello.text, sizeof(hello.text), "%s", text.c_str());
        (void)send_with_fds(control, &hello, sizeof(hello), {});
        return 1;
    };
    int keeper[2];
    int signer[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, keeper) != 0 ||
        ::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, signer) != 0) {
        return refuse(-static_cast<std::int32_t>(Errc::kIo), "no socket pair for the engine's processes");
    }
    fork_role(std::array{keeper[1]}, [&] { run_keeper(3, options); });
    fork_role(std::array{signer_clients, signer[1]}, [&] { run_signer(3, 4, options); });
    ::close(keeper[1]);
    ::close(signer[1]);
    ::close(signer_clients);
    keep_only(std::array{control, keeper[0], signer[0]});
    control = 3;
    keeper[0] = 4;
    signer[0] = 5;
    for (const int fd : {control, keeper[0], signer[0]}) {
        ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    }

    KeeperMessage keeper_hello;
    std::vector<SignerNames> lineages;
    std::vector<int> none;
    std::vector<bool> made(options.instances, !options.platform.empty());
    bool heard = receive_with_fds(keeper[0], &keeper_hello, sizeof(keeper_hello), none);
    while (heard && (keeper_hello.tell == KeeperTell::kMissing || keeper_hello.tell == KeeperTell::kLineage) &&
           keeper_hello.instance < made.size()) {
        if (keeper_hello.tell == KeeperTell::kMissing) {
            made[keeper_hello.instance] = false;
        } else {
            lineages.push_back(keeper_hello.names);
        }
        heard = receive_with_fds(keeper[0], &keeper_hello, sizeof(keeper_hello), none);
    }
    if (!heard || keeper_hello.status != 0) {
        keeper_hello.text[sizeof(keeper_hello.text) - 1] = '\0';
        return refuse(keeper_hello.status != 0 ? keeper_hello.status : -static_cast<std::int32_t>(Errc::kIo),
                      keeper_hello.text);
    }
    SignerHello signer_hello;
    if (::recv(signer[0], &signer_hello, sizeof(signer_hello), 0) != static_cast<ssize_t>(sizeof(signer_hello)) ||
        signer_hello.status != 0) {
        signer_hello.text[sizeof(signer_hello.text) - 1] = '\0';
        return refuse(signer_hello.status != 0 ? signer_hello.status : -static_cast<std::int32_t>(Errc::kIo),
                      signer_hello.text);
    }
    for (const SignerNames &lineage : lineages) {
        (void)::send(signer[0], &lineage, sizeof(lineage), MSG_NOSIGNAL);
    }

    move_text_to_huge_pages();
    warm_up();
    Sandbox sandbox = enter_sandbox();
    sandbox.landlock = sandbox.landlock && keeper_hello.landlock && signer_hello.landlock;
    std::string level = "seccomp";
    level += sandbox.landlock ? "+landlock" : "";
    level += sandbox.namespaces ? "+namespaces" : "";
    if (options.full_sandbox && !(sandbox.landlock && sandbox.namespaces)) {
        std::string missing = sandbox.landlock ? "" : "Landlock";
        missing += sandbox.landlock || sandbox.namespaces ? "" : " and ";
        missing += sandbox.namespaces ? "" : "namespaces of their own";
        return refuse(-static_cast<std::int32_t>(Errc::kUnsupported),
                      "this host gives the vTPM's processes no " + missing +
                          ", and require-sandbox=full asks for all of the sandbox");
    }
    Zygote zygote(control, keeper[0], signer[0], made, !options.incoming);
    return zygote.run(level);
}

} // namespace banyan::vtpm
