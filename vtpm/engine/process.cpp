// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/process.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <seccomp.h>

namespace banyan::vtpm {
namespace {
constexpr std::size_t kFdsMax = 8;
}

bool send_with_fds(int socket, const void *data, std::size_t size, std::span<const int> fds, int flags)
{
    iovec part{const_cast<void *>(data), size}; // sendmsg only reads it
    alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int) * kFdsMax)] = {};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (!fds.empty()) {
        header.msg_control = space;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
        cmsghdr *rights = CMSG_FIRSTHDR(&header);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
        std::memcpy(CMSG_DATA(rights), fds.data(), sizeof(int) * fds.size());
    }
    ssize_t sent = 0;
    do {
        sent = ::sendmsg(socket, &header, flags | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent == static_cast<ssize_t>(size);
}

bool receive_with_fds(int socket, void *data, std::size_t size, std::vector<int> &fds, int flags)
{
    iovec part{data, size};
    alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int) * kFdsMax)] = {};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = space;
    header.msg_controllen = sizeof(space);
    ssize_t got = 0;
    do {
        got = ::recvmsg(socket, &header, flags | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    fds.clear();
    if (got < 0) {
        return false;
    }
    for (cmsghdr *rights = CMSG_FIRSTHDR(&header); rights != nullptr; rights = CMSG_NXTHDR(&header, rights)) {
        if (rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS) {
            const std::size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            const std::size_t had = fds.size();
            fds.resize(had + count);
            std::memcpy(fds.data() + had, CMSG_DATA(rights), count * sizeof(int));
        }
    }
    return got == static_cast<ssize_t>(size) && (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
}

int make_shared_memory(const char *name, std::size_t size)
{
    const int fd = ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(size)) != 0 ||
        ::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        if (fd >= 0) {
            ::close(fd);
        }
        return -1;
    }
    return fd;
}

void *map_shared(int fd, std::size_t size)
{
    void *at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return at == MAP_FAILED ? nullptr : at;
}

void keep_only(std::span<const int> keep)
{
    constexpr int kAside = 512;
    std::vector<int> aside;
    for (const int fd : keep) {
        aside.push_back(::fcntl(fd, F_DUPFD, kAside));
    }
    ::close_range(3, kAside - 1, 0);
    int next = 3;
    for (const int fd : aside) {
        ::dup2(fd, next++);
    }
    ::close_range(static_cast<unsigned>(next), ~0U, 0);
}

void name_process(const char *name)
{
    ::prctl(PR_SET_NAME, name);
}

void harden_child(pid_t parent)
{
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) { // it died before
        quit(0);
    }
    ::prctl(PR_SET_DUMPABLE, 0);
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    sigset_t nothing;
    ::sigemptyset(&nothing);
    ::sigprocmask(SIG_SETMASK, &nothing, nullptr);
}

bool compile_filter(const std::vector<int> &calls, Filter &out)
{
    scmp_filter_ctx context = ::seccomp_init(SCMP_ACT_TRAP);
    if (context == nullptr) {
        return false;
    }
    bool good = true;
    for (const int call : calls) {
        good = good && ::seccomp_rule_add(context, SCMP_ACT_ALLOW, call, 0) == 0;
    }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    // The sanitizers' run-time libraries look at themselves.
    for (const int call : {SCMP_SYS(gettid), SCMP_SYS(sigaltstack), SCMP_SYS(sched_yield), SCMP_SYS(rt_sigprocmask),
                           SCMP_SYS(rt_sigaction), SCMP_SYS(prctl), SCMP_SYS(getpid), SCMP_SYS(tgkill)}) {
        good = good && ::seccomp_rule_add(context, SCMP_ACT_ALLOW, call, 0) == 0;
    }
#endif
    const int file = ::memfd_create("filter", MFD_CLOEXEC);
    good = good && file >= 0 && ::seccomp_export_bpf(context, file) == 0;
    ::seccomp_release(context);
    if (good) {
        const off_t size = ::lseek(file, 0, SEEK_END);
        out.resize(static_cast<std::size_t>(size) / sizeof(sock_filter));
        good = ::pread(file, out.data(), static_cast<std::size_t>(size), 0) == size && !out.empty();
    }
    if (file >= 0) {
        ::close(file);
    }
    return good;
}

bool apply_filter(const Filter &filter)
{
    sock_fprog program{static_cast<unsigned short>(filter.size()), const_cast<sock_filter *>(filter.data())};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

std::string syscall_name(int number)
{
    char *name = ::seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);
    std::string text = name != nullptr ? name : "system call " + std::to_string(number);
    std::free(name);
    return text;
}

bool deny_files(const std::string &but_in)
{
    const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 1) {
        return false;
    }
    landlock_ruleset_attr rules{};
    rules.handled_access_fs = (1ULL << 13) - 1; // every right of version 1, none granted
    const long fd = ::syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules.handled_access_fs), 0);
    if (fd < 0) {
        return false;
    }
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!but_in.empty()) {
        landlock_path_beneath_attr beneath{};
        beneath.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                                 LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                                 LANDLOCK_ACCESS_FS_REMOVE_FILE;
        beneath.parent_fd = ::open(but_in.c_str(), O_PATH | O_CLOEXEC);
        (void)::syscall(SYS_landlock_add_rule, static_cast<int>(fd), LANDLOCK_RULE_PATH_BENEATH, &beneath, 0);
        ::close(beneath.parent_fd);
    }
    const bool done = ::syscall(SYS_landlock_restrict_self, static_cast<int>(fd), 0) == 0;
    ::close(static_cast<int>(fd));
    return done;
}

Sandbox enter_sandbox()
{
    Sandbox sandbox;
    constexpr int kSpaces = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWNS | CLONE_NEWUTS;
    sandbox.namespaces = ::unshare(kSpaces) == 0 || ::unshare(CLONE_NEWUSER | kSpaces) == 0;
    sandbox.landlock = deny_files();
    return sandbox;
}

void quit(int status)
{
    ::_exit(status);
}

} // namespace banyan::vtpm
