// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <ctime>
#include <sys/socket.h>
#include <unistd.h>

#include "vtpm/link/control.hpp"

namespace banyan::vtpm {

inline constexpr std::uint64_t kSecond = 1'000'000'000;

[[nodiscard]] inline timespec to_timespec(std::uint64_t ns)
{
    return {static_cast<time_t>(ns / kSecond), static_cast<long>(ns % kSecond)};
}

/// Owns a descriptor.
class Fd {
public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    Fd(Fd &&other) noexcept : fd_(other.release()) {}
    Fd &operator=(Fd &&other) noexcept
    {
        reset(other.release());
        return *this;
    }
    Fd(const Fd &) = delete;
    Fd &operator=(const Fd &) = delete;
    ~Fd() { reset(-1); }
    [[nodiscard]] int get() const { return fd_; }
    [[nodiscard]] bool ok() const { return fd_ >= 0; }
    int release()
    {
        const int fd = fd_;
        fd_ = -1;
        return fd;
    }
    void reset(int fd)
    {
        if (fd_ >= 0) {
            ::close(fd_);
        }
        fd_ = fd;
    }

private:
    int fd_ = -1;
};

[[nodiscard]] inline bool make_pair(int type, Fd &one, Fd &other)
{
    int fds[2];
    if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) != 0) {
        return false;
    }
    one.reset(fds[0]);
    other.reset(fds[1]);
    return true;
}

/// Whether there is something to read, or the other side has gone, within so long.
[[nodiscard]] bool readable_within(int fd, std::uint64_t bound_ns);

/// One datagram that is this message, of this build.
template <typename Message>
[[nodiscard]] bool receive(int socket, Message &message, int flags)
{
    const ssize_t got = ::recv(socket, &message, sizeof(message), flags);
    return got == static_cast<ssize_t>(sizeof(message)) && message.version == kControlVersion;
}

} // namespace banyan::vtpm
