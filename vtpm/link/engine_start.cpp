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
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

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

    std::string count = std::to_string(options.instances);
    std::string engine = options.engine;
    std::string platform = options.platform;
    char role[] = "zygote";
    char instances_flag[] = "--instances";
    char platform_flag[] = "--platform";
    char rollback_flag[] = "--rollback";
    char rollback[] = "report";
    char sandbox_flag[] = "--require-sandbox";
    char sandbox[] = "full";
    std::string snapshot_key = options.snapshot_key;
    char snapshot_key_flag[] = "--snapshot-key";
    char incoming_flag[] = "--incoming";
    char incoming[] = "yes";
    std::vector<char *> argv{engine.data(), role, instances_flag, count.data()};
    // NOLINTNEXTLINE(readability-non-const-parameter): that is what posix_spawn takes
    const auto add = [&argv](bool wanted, char *flag, char *value) {
        if (wanted) {
            argv.insert(argv.end(), {flag, value});
        }
    };
    add(!platform.empty(), platform_flag, platform.data());
    add(options.accept_rollback, rollback_flag, rollback);
    add(options.full_sandbox, sandbox_flag, sandbox);
    add(!snapshot_key.empty(), snapshot_key_flag, snapshot_key.data());
    add(options.incoming, incoming_flag, incoming);
    argv.push_back(nullptr);

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
    const int error = ::posix_spawn(&pid, engine.c_str(), &actions, &attributes, argv.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
    if (error != 0) {
        why = "cannot start the vTPM engine " + engine + ": " + std::strerror(error);
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
        why = "the vTPM engine " + engine + " did not come up";
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
