// SPDX-License-Identifier: GPL-2.0-or-later
// What a worker may not do, tried by a process in a worker's sandbox.
#include <cerrno>
#include <fcntl.h>
#include <functional>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "vtpm/engine/process.hpp"
#include "vtpm/engine/roles.hpp"

namespace banyan::vtpm {
namespace {

constexpr int kDone = 42;

int in_a_child(const std::function<void()> &what)
{
    const pid_t pid = ::fork();
    if (pid == 0) {
        what();
        quit(kDone);
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    return status;
}

class ARefusedCall : public testing::TestWithParam<long> {};

TEST_P(ARefusedCall, EndsTheWorkerWhetherItStoodByOrNot)
{
    WorkerFilters filters;
    ASSERT_TRUE(worker_filters(filters));
    for (const bool stood_by : {false, true}) {
        const int status = in_a_child([&] {
            if ((stood_by && !apply_filter(filters.stand_by)) || !apply_filter(filters.serving)) {
                quit(1);
            }
            (void)::syscall(GetParam(), 0, 0, 0, 0, 0, 0);
        });
        ASSERT_TRUE(WIFSIGNALED(status)) << syscall_name(static_cast<int>(GetParam()));
        EXPECT_EQ(WTERMSIG(status), SIGSYS);
    }
}

INSTANTIATE_TEST_SUITE_P(Worker, ARefusedCall,
                         testing::Values(SYS_open, SYS_openat, SYS_openat2, SYS_creat, SYS_socket, SYS_connect,
                                         SYS_execve, SYS_execveat, SYS_fork, SYS_vfork, SYS_clone, SYS_clone3,
                                         SYS_ptrace, SYS_kill, SYS_ftruncate, SYS_fcntl, SYS_memfd_create, SYS_dup2,
                                         SYS_ioctl, SYS_unlink, SYS_rename, SYS_process_vm_readv, SYS_process_vm_writev,
                                         SYS_shmget, SYS_mount, SYS_setuid, SYS_seccomp, SYS_bpf, SYS_pwrite64,
                                         SYS_sendmsg, SYS_recvmsg, SYS_userfaultfd, SYS_io_uring_setup, SYS_mprotect),
                         [](const auto &test) { return syscall_name(static_cast<int>(test.param)); });

TEST(Worker, MayDoWhatItNeeds)
{
    WorkerFilters filters;
    ASSERT_TRUE(worker_filters(filters));
    const int status = in_a_child([&] {
        if (!apply_filter(filters.serving)) {
            quit(1);
        }
        std::string memory(1 << 20, 'x');
        (void)::getpid();
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone);
}

TEST(Landlock, LeavesNoFileToOpen)
{
    const int status = in_a_child([] {
        if (!deny_files()) {
            quit(77);
        }
        if (::open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES ||
            ::open("/tmp/x", O_CREAT | O_WRONLY, 0600) >= 0) {
            quit(1);
        }
    });
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        GTEST_SKIP() << "the kernel has no Landlock";
    }
    EXPECT_EQ(WEXITSTATUS(status), kDone);
}

TEST(SharedMemory, CannotBeTakenAway)
{
    const int fd = make_shared_memory("test", 8192);
    ASSERT_GE(fd, 0);
    EXPECT_NE(::ftruncate(fd, 0), 0);
    EXPECT_NE(::ftruncate(fd, 1 << 20), 0);
    ::close(fd);
}

TEST(KeepOnly, MovesAndCloses)
{
    const int status = in_a_child([] {
        int ends[2];
        if (::pipe(ends) != 0) {
            quit(1);
        }
        const int far = ::fcntl(ends[1], F_DUPFD, 300);
        keep_only(std::array{far, ends[0]});
        char byte = 'k';
        if (::write(3, &byte, 1) != 1 || ::read(4, &byte, 1) != 1 || ::fcntl(5, F_GETFD) >= 0 ||
            ::fcntl(far, F_GETFD) >= 0) {
            quit(2);
        }
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << status;
}

} // namespace
} // namespace banyan::vtpm
