// SPDX-License-Identifier: GPL-2.0-or-later
// The zygote: warm, never the owner of a TPM, forks one worker per instance when QEMU asks.
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "vtpm/engine/roles.hpp"
#include "vtpm/engine/tpm_life.hpp"
#include "vtpm/engine/vault.hpp"
#include "vtpm/link/control.hpp"
#include "vtpm/link/mailbox.hpp"

namespace banyan::vtpm {
namespace {

constexpr std::size_t kUnset = static_cast<std::size_t>(-1);

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
    int vault = -1;
    bool made = false; // class test: the keeper has its state
    pid_t maker = -1;
    int maker_output = -1;
    bool waiting = false; // a spawn waits for the maker
    ControlMessage request;
    std::vector<int> request_fds;
};

class Zygote {
public:
    Zygote(int control, int keeper, int signer, bool test, std::uint32_t count)
        : control_(control),
          keeper_(keeper),
          signer_(signer),
          test_(test),
          instances_(count)
    {}
    [[nodiscard]] int run(const std::string &level);

private:
    void from_host();
    void from_keeper();
    void from_maker(std::uint32_t index);
    void reap();
    void kill_worker(Instance &instance);
    void start_maker(std::uint32_t index);
    void spawn(std::uint32_t index, const ControlMessage &request, std::vector<int> &fds);
    void say(ControlKind kind, std::uint32_t index, std::int32_t status, const std::string &event,
             const std::string &text);
    [[nodiscard]] std::string cause_of(const Instance &instance, int status, std::string &event) const;

    int control_;
    int keeper_;
    int signer_;
    int signals_ = -1;
    bool test_;
    bool stopping_ = false;
    Filter filter_;
    std::vector<Instance> instances_;
};

void close_all(std::vector<int> &fds)
{
    for (const int fd : fds) {
        ::close(fd);
    }
    fds.clear();
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
    (void)send_with_fds(control_, &message, sizeof(message), {}, MSG_DONTWAIT);
}

void Zygote::kill_worker(Instance &instance)
{
    if (instance.worker > 0) {
        ::kill(instance.worker, SIGKILL);
        int status = 0;
        while (::waitpid(instance.worker, &status, 0) < 0 && errno == EINTR) {
        }
        instance.worker = -1;
    }
    if (instance.mailbox >= 0) {
        ::close(instance.mailbox);
        instance.mailbox = -1;
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
        kill_worker(instance);
        close_all(instance.request_fds);
        instance.waiting = false;
        if (test_ && !instance.made) {
            instance.request = request;
            instance.request_fds.swap(fds);
            instance.waiting = true;
            start_maker(request.instance);
        } else {
            spawn(request.instance, request, fds);
        }
        break;
    case ControlKind::kKill:
        if (request.life == instance.life) {
            kill_worker(instance);
        }
        if (instance.waiting && request.life == instance.request.life) {
            instance.waiting = false;
            close_all(instance.request_fds);
        }
        break;
    case ControlKind::kErase: {
        kill_worker(instance);
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
    case ControlKind::kHello:
    case ControlKind::kExited:
    case ControlKind::kErased:
    case ControlKind::kNotice:
        break;
    }
    close_all(fds);
}

void Zygote::start_maker(std::uint32_t index)
{
    Instance &instance = instances_[index];
    if (instance.maker > 0) {
        return;
    }
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return;
    }
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) {
        harden_child(parent);
        ::dup2(0, 2);
        keep_only(std::array{ends[1]});
        run_maker(3);
    }
    ::close(ends[1]);
    instance.maker = pid;
    instance.maker_output = ends[0];
}

void Zygote::from_maker(std::uint32_t index)
{
    Instance &instance = instances_[index];
    Made made;
    bool good = ::recv(instance.maker_output, &made, sizeof(made), MSG_WAITALL) == static_cast<ssize_t>(sizeof(made)) &&
                made.permanent_size > 0 && made.permanent_size <= kPermanentMax;
    if (good) {
        Bytes blob(made.permanent_size);
        good =
            ::recv(instance.maker_output, blob.data(), blob.size(), MSG_WAITALL) == static_cast<ssize_t>(blob.size());
        const int file = ::memfd_create("banyan-vtpm-made", MFD_CLOEXEC);
        good = good && file >= 0 && ::pwrite(file, blob.data(), blob.size(), 0) == static_cast<ssize_t>(blob.size());
        KeeperMessage message;
        message.tell = KeeperTell::kCreate;
        message.instance = index;
        good = good && send_with_fds(keeper_, &message, sizeof(message), std::array{file});
        made.names.instance = index;
        good = good && ::send(signer_, &made.names, sizeof(made.names), MSG_NOSIGNAL) ==
                           static_cast<ssize_t>(sizeof(made.names));
        if (file >= 0) {
            ::close(file);
        }
    }
    ::close(instance.maker_output);
    instance.maker_output = -1;
    instance.maker = -1; // reaped with the other children
    instance.made = good;
    if (!good) {
        say(ControlKind::kNotice, index, -1, "manufacture-failed", "a TPM of class test could not be made");
    }
    if (instance.waiting) {
        instance.waiting = false;
        if (good) {
            spawn(index, instance.request, instance.request_fds);
        }
        close_all(instance.request_fds);
    }
}

void Zygote::spawn(std::uint32_t index, const ControlMessage &request, std::vector<int> &fds)
{
    Instance &instance = instances_[index];
    instance.life = request.life;
    const bool restore = request.kind == ControlKind::kRestore && instance.vault >= 0;
    if (!restore) {
        if (instance.vault >= 0) {
            ::close(instance.vault);
        }
        instance.vault = make_shared_memory("banyan-vtpm-vault", sizeof(Vault));
    }
    int ends[2];
    if (instance.vault < 0 || ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        say(ControlKind::kExited, index, -1, "worker-died", "no descriptors left for a worker");
        return;
    }
    KeeperMessage message;
    message.tell = KeeperTell::kAdopt;
    message.instance = index;
    const bool adopted = send_with_fds(keeper_, &message, sizeof(message), std::array{instance.vault, ends[0]});
    ::close(ends[0]);
    const pid_t parent = ::getpid();
    const pid_t pid = adopted ? ::fork() : -1;
    if (pid == 0) {
        harden_child(parent);
        run_worker({fds[0], fds[1], fds[2], fds[3], instance.vault, ends[1]}, filter_, restore, request.setup);
    }
    ::close(ends[1]);
    if (pid < 0) {
        say(ControlKind::kExited, index, -1, "worker-died", "a worker could not be started");
        return;
    }
    instance.worker = pid;
    instance.mailbox = fds[0];
    fds.erase(fds.begin());
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
    if (message.tell == KeeperTell::kErased) {
        say(ControlKind::kErased, message.instance, message.status, message.status == 0 ? "" : "store-failed",
            message.text);
    } else if (message.tell == KeeperTell::kFailed) {
        say(ControlKind::kNotice, message.instance, message.status, "store-failed", message.text);
    } else if (message.tell == KeeperTell::kRolledBack) {
        say(ControlKind::kNotice, message.instance, message.status, kEventRolledBack, message.text);
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
        for (std::uint32_t i = 0; i < instances_.size(); ++i) {
            if (instances_[i].worker == pid) {
                std::string event;
                const std::string cause = cause_of(instances_[i], status, event);
                instances_[i].worker = -1;
                say(ControlKind::kExited, i, status, event, cause);
            }
        }
    }
}

int Zygote::run(const std::string &level)
{
    if (!worker_filter(filter_)) {
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
    std::vector<std::size_t> who;
    while (!stopping_) {
        fds = {{control_, POLLIN, 0}, {keeper_, POLLIN, 0}, {signals_, POLLIN, 0}};
        who.assign(3, kUnset);
        for (std::size_t i = 0; i < instances_.size(); ++i) {
            if (instances_[i].maker_output >= 0) {
                fds.push_back({instances_[i].maker_output, POLLIN, 0});
                who.push_back(i);
            }
        }
        if (::poll(fds.data(), fds.size(), -1) < 0) {
            continue;
        }
        for (std::size_t i = 3; i < fds.size(); ++i) {
            if (fds[i].revents != 0) {
                from_maker(static_cast<std::uint32_t>(who[i]));
            }
        }
        if (fds[1].revents != 0) {
            from_keeper();
        }
        if (fds[2].revents != 0) {
            reap();
        }
        if (fds[0].revents != 0) {
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
    std::vector<int> none;
    if (!receive_with_fds(keeper[0], &keeper_hello, sizeof(keeper_hello), none) || keeper_hello.status != 0) {
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
    Zygote zygote(control, keeper[0], signer[0], options.platform.empty(), options.instances);
    return zygote.run(level);
}

} // namespace banyan::vtpm
