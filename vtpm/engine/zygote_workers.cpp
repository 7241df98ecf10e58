// SPDX-License-Identifier: GPL-2.0-or-later
// How workers begin and end.
#include <cerrno>
#include <csignal>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

#include "vtpm/engine/vault.hpp"
#include "vtpm/engine/zygote.hpp"
#include "vtpm/link/mailbox_worker.hpp"

namespace banyan::vtpm {
namespace {

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

} // namespace

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

/// Mailbox and line of a worker's life, out of what its host sent.
void Zygote::keep_ends(Instance &instance, std::vector<int> &fds)
{
    instance.mailbox = fds[0];
    instance.line = fds[2];
    fds = {fds[1]};
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

/// No worker comes for this request.
void Zygote::refuse(std::uint32_t index, std::span<const int> fds, ControlKind kind, const char *event,
                    const char *text)
{
    say(kind, index, -1, event, text);
    end_life(fds[0], fds[2], WorkerEnd::kGaveUp);
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

} // namespace banyan::vtpm
