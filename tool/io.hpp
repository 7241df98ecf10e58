// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>

#include "tool/exit_status.hpp"

namespace banyan::tool {

using Clock = std::chrono::steady_clock;

/// Owns a file descriptor.
class Fd {
public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    Fd(Fd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd &operator=(Fd &&other) noexcept
    {
        if (this != &other) {
            reset();
            fd_ = std::exchange(other.fd_, -1);
        }
        return *this;
    }
    ~Fd() { reset(); }

    [[nodiscard]] int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    void reset();

private:
    int fd_ = -1;
};

/// Waits for many descriptors in one thread. A handler must not call turn().
class Loop {
public:
    using Handler = std::function<void()>;

    /// Calls `handler` whenever `fd` can be read, or has ended.
    void watch(int fd, Handler handler) { handlers_[fd] = std::move(handler); }
    void unwatch(int fd) { handlers_.erase(fd); }

    /// Waits until something was handled or `until` has come.
    void turn(Clock::time_point until);

private:
    std::map<int, Handler> handlers_;
};

/// Reads what is there, at most one buffer. End of file and errors other than EAGAIN are `closed`.
struct ReadResult {
    std::span<const std::uint8_t> bytes;
    bool closed = false;
};
ReadResult read_some(int fd, std::span<std::uint8_t> buffer);

/// Sends everything to a socket; false when the peer is gone or takes too long.
bool send_all(int fd, std::span<const std::uint8_t> bytes, Clock::time_point until);
bool send_all(int fd, std::string_view text, Clock::time_point until);

/// A listening UNIX socket at `path`.
Outcome<Fd> listen_at(const std::filesystem::path &path);

/// Writes a whole file; the folder must exist.
Outcome<void> write_file(const std::filesystem::path &file, std::span<const std::uint8_t> bytes);
Outcome<void> write_file(const std::filesystem::path &file, std::string_view text);

/// The last line that is not blank, for messages; empty if there is none.
std::string last_line(const std::filesystem::path &file);

/// A folder of our own under TMPDIR, removed with all in it at the end unless kept.
class RunFolder {
public:
    static Outcome<RunFolder> make();
    RunFolder(RunFolder &&other) noexcept : path_(std::move(other.path_)) { other.path_.clear(); }
    RunFolder &operator=(RunFolder &&) = delete;
    ~RunFolder();

    [[nodiscard]] const std::filesystem::path &path() const { return path_; }
    void keep() { path_.clear(); }

private:
    explicit RunFolder(std::filesystem::path path) : path_(std::move(path)) {}
    std::filesystem::path path_;
};

} // namespace banyan::tool
