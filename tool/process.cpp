// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/process.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include <fmt/format.h>

namespace banyan::tool {

namespace {

using namespace std::chrono_literals;

constexpr auto kGrace = 2s; // for a program to end by SIGTERM

[[noreturn]] void run_child(std::vector<char *> &argv, const char *folder, int log, int report, pid_t parent)
{
    // Only async-signal-safe calls here.
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) {
        ::_exit(127); // the parent was gone before the line above
    }
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::signal(SIGPIPE, SIG_DFL);
    const int null = ::open("/dev/null", O_RDONLY);
    if (::chdir(folder) == 0 && null >= 0 && ::dup2(null, 0) == 0 && ::dup2(log, 1) == 1 && ::dup2(log, 2) == 2) {
        ::execvp(argv[0], argv.data());
    }
    const int error = errno;
    [[maybe_unused]] const ssize_t told = ::write(report, &error, sizeof(error));
    ::_exit(127);
}

/// Children that we have now, those that were left to us included.
std::vector<pid_t> children()
{
    std::ifstream in(fmt::format("/proc/self/task/{}/children", ::getpid()));
    std::vector<pid_t> all;
    for (pid_t pid = 0; in >> pid;) {
        all.push_back(pid);
    }
    return all;
}

} // namespace

Outcome<Process> Process::start(const std::vector<std::string> &arguments, const std::filesystem::path &folder,
                                const std::filesystem::path &log_file)
{
    const auto trouble = [&](const char *what, int error) {
        return failed(Exit::kEnvironment,
                      fmt::format("cannot start {}: {}: {}", arguments.front(), what, std::strerror(error)));
    };
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    const Fd log(::open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (!log) {
        return trouble(log_file.c_str(), errno);
    }
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
        return trouble("pipe", errno);
    }
    const Fd report_in(ends[0]);
    Fd report_out(ends[1]);
    std::vector<std::string> copies = arguments;
    std::vector<char *> argv;
    argv.reserve(copies.size() + 1);
    for (std::string &argument : copies) {
        argv.push_back(argument.data());
    }
    argv.push_back(nullptr);
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) {
        return trouble("fork", errno);
    }
    if (pid == 0) {
        run_child(argv, folder.c_str(), log.get(), report_out.get(), parent);
    }
    ::setpgid(pid, pid); // whoever comes first
    report_out.reset();
    int error = 0;
    if (::read(report_in.get(), &error, sizeof(error)) == sizeof(error)) {
        ::waitpid(pid, nullptr, 0);
        return trouble("exec", error);
    }
    Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    Process process(pid, std::move(pidfd));
    if (!process.pidfd_) {
        return trouble("pidfd_open", errno);
    }
    return process;
}

Process::Process(Process &&other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      status_(other.status_)
{}

Process::~Process()
{
    stop();
}

std::optional<int> Process::ended()
{
    int status = 0;
    if (!status_ && pid_ > 0 && ::waitpid(pid_, &status, WNOHANG) == pid_) {
        status_ = status;
    }
    return status_;
}

bool Process::wait_until(Clock::time_point until)
{
    while (!ended() && Clock::now() < until) {
        pollfd entry{pidfd_.get(), POLLIN, 0};
        ::poll(&entry, 1, 100);
    }
    return status_.has_value();
}

void Process::stop()
{
    if (pid_ <= 0) {
        return;
    }
    if (!ended()) {
        ::kill(-pid_, SIGTERM);
        wait_until(Clock::now() + kGrace);
    }
    ::kill(-pid_, SIGKILL); // the group outlives its leader while a member runs
    wait_until(Clock::now() + kGrace);
    const auto until = Clock::now() + kGrace;
    for (auto left = children(); !left.empty() && Clock::now() < until; left = children()) {
        for (const pid_t pid : left) {
            ::kill(pid, SIGKILL);
            ::waitpid(pid, nullptr, WNOHANG);
        }
        std::this_thread::sleep_for(5ms);
    }
    pid_ = -1;
}

std::string describe_wait_status(int status)
{
    if (WIFSIGNALED(status)) {
        return fmt::format("signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
    }
    return fmt::format("status {}", WEXITSTATUS(status));
}

} // namespace banyan::tool
