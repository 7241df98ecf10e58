// SPDX-License-Identifier: GPL-2.0-or-later
// The engine's executable: its start and its end.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <new>
#include <spawn.h>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "vtpm/link/engine_link.hpp"
#include "vtpm/link/fd.hpp"

namespace banyan::vtpm {
namespace {

constexpr std::uint64_t kHelloNs = 20 * kSecond;

/// A life holds two descriptors here, and hands two over when it starts. The soft limit of most systems is 1024.
void make_room_for(std::uint32_t instances)
{
    constexpr rlim_t kOfTheProgram = 512;
    const rlim_t wanted = kOfTheProgram + 4 * static_cast<rlim_t>(instances);
    rlimit files{};
    if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < wanted) {
        files.rlim_cur = std::min(wanted, files.rlim_max);
        (void)::setrlimit(RLIMIT_NOFILE, &files);
    }
}

/// This program's, and for glibc: no restartable sequences. The kernel looks at a thread's each time that the thread
/// gets a core, in a page that is cold then; the engine has no use for them. Source: glibc's manual, "Tunables".
std::vector<std::string> environment_of_engine()
{
    const std::string tunables = "GLIBC_TUNABLES=";
    std::string wanted;
    std::vector<std::string> variables;
    for (char **variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
        const std::string text = *variable;
        if (text.rfind(tunables, 0) == 0) {
            wanted = text.substr(tunables.size()) + ":";
        } else {
            variables.push_back(text);
        }
    }
    wanted += "glibc.pthread.rseq=0"; // of two that name the same one the last counts
    variables.push_back(tunables + wanted);
    return variables;
}

std::vector<char *> pointers_to(std::vector<std::string> &texts)
{
    std::vector<char *> pointers;
    pointers.reserve(texts.size() + 1);
    for (std::string &text : texts) {
        pointers.push_back(text.data());
    }
    pointers.push_back(nullptr);
    return pointers;
}

} // namespace

Result<std::unique_ptr<EngineLink>> EngineLink::start(const Options &options, std::string &why)
{
    make_room_for(options.instances);
    Fd control;
    Fd far_control;
    Fd signer;
    Fd far_signer;
    if (!make_pair(SOCK_SEQPACKET, control, far_control) || !make_pair(SOCK_SEQPACKET, signer, far_signer)) {
        why = "cannot make a socket pair for the vTPM engine: " + std::string(std::strerror(errno));
        return fail(Errc::kIo);
    }
    // Out of the way of the numbers that they get in the child.
    far_control.reset(::fcntl(far_control.get(), F_DUPFD_CLOEXEC, 16));
    far_signer.reset(::fcntl(far_signer.get(), F_DUPFD_CLOEXEC, 16));

    std::vector<std::string> words{options.engine, "zygote", "--instances", std::to_string(options.instances)};
    const auto add = [&words](bool wanted, const std::string &flag, const std::string &value) {
        if (wanted) {
            words.insert(words.end(), {flag, value});
        }
    };
    add(!options.platform.empty(), "--platform", options.platform);
    add(options.accept_rollback, "--rollback", "report");
    add(options.full_sandbox, "--require-sandbox", "full");
    add(!options.snapshot_key.empty(), "--snapshot-key", options.snapshot_key);
    add(options.incoming, "--incoming", "yes");
    const std::vector<char *> argv = pointers_to(words);
    std::vector<std::string> variables = environment_of_engine();
    const std::vector<char *> envp = pointers_to(variables);

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    ::posix_spawn_file_actions_adddup2(&actions, far_control.get(), kZygoteControlFd);
    ::posix_spawn_file_actions_adddup2(&actions, far_signer.get(), kSignerFd);
    sigset_t none;
    sigset_t all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    ::posix_spawnattr_setpgroup(&attributes, 0); // a Ctrl-C on the terminal is QEMU's to handle
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    pid_t pid = -1;
    const int error = ::posix_spawn(&pid, argv[0], &actions, &attributes, argv.data(), envp.data());
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (error != 0) {
        why = "cannot start the vTPM engine " + options.engine + ": " + std::strerror(error);
        return fail(Errc::kNotFound);
    }
    far_control.reset(-1);
    far_signer.reset(-1);

    std::unique_ptr<EngineLink> link(new (std::nothrow) EngineLink);
    if (!link) {
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
        return fail(Errc::kNoSpace);
    }
    link->zygote_ = pid;
    link->control_ = control.release();
    link->signer_ = signer.release();

    ControlMessage hello;
    if (!readable_within(link->control_, kHelloNs) || !receive(link->control_, hello, 0) ||
        hello.kind != ControlKind::kHello) {
        why = "the vTPM engine " + options.engine + " did not come up";
        return fail(Errc::kIo);
    }
    hello.text[sizeof(hello.text) - 1] = '\0';
    if (hello.status != 0) {
        why = hello.text;
        return fail(static_cast<Errc>(-hello.status));
    }
    link->sandbox_ = hello.text;
    return link;
}

EngineLink::~EngineLink()
{
    if (zygote_ <= 1) {
        return;
    }
    ::close(control_); // the zygote ends when it sees this, and its workers with it
    ::close(signer_);
    for (int i = 0; i < 200; ++i) {
        const pid_t done = ::waitpid(zygote_, nullptr, WNOHANG);
        if (done == zygote_ || (done < 0 && errno != EINTR)) {
            return;
        }
        const timespec pause = to_timespec(10'000'000);
        ::nanosleep(&pause, nullptr);
    }
    ::kill(zygote_, SIGKILL);
    ::waitpid(zygote_, nullptr, 0);
}

} // namespace banyan::vtpm
