// SPDX-License-Identifier: GPL-2.0-or-later
// From the start of the executable to the zygote that serves: the other roles, the warm-up, the sandbox.
#include <array>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vtpm/engine/huge_pages.hpp"
#include "vtpm/engine/tpm_life.hpp"
#include "vtpm/engine/vault.hpp"
#include "vtpm/engine/zygote.hpp"

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

    move_constants_to_huge_pages();
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
