// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "tool/exit_status.hpp"
#include "tool/io.hpp"

namespace banyan::tool {

/// A program in a process group of its own, that dies with us. What it starts and leaves behind comes to us
/// (PR_SET_CHILD_SUBREAPER) and is ended too: when stop() returns, nothing of it runs.
class Process {
public:
    static Outcome<Process> start(const std::vector<std::string> &arguments, const std::filesystem::path &folder,
                                  const std::filesystem::path &log);
    Process(Process &&other) noexcept;
    Process &operator=(Process &&) = delete;
    ~Process();

    [[nodiscard]] pid_t pid() const { return pid_; }
    /// Becomes readable when the program has ended.
    [[nodiscard]] int fd() const { return pidfd_.get(); }
    /// The program's wait status once it has ended.
    std::optional<int> ended();
    /// Waits for it to end by itself.
    bool wait_until(Clock::time_point until);
    /// Ends the program and all that it started.
    void stop();

private:
    Process(pid_t pid, Fd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}

    pid_t pid_ = -1;
    Fd pidfd_;
    std::optional<int> status_;
};

/// "status 1", "signal 9 (Killed)".
std::string describe_wait_status(int status);

} // namespace banyan::tool
