// SPDX-License-Identifier: GPL-2.0-or-later
// Sockets of the server: where they are, who may connect, what comes through them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <sys/types.h>
#include <utility>
#include <vector>

#include <tl/expected.hpp>

namespace banyan::vtpm {

class ServeFd {
public:
    ServeFd() = default;
    explicit ServeFd(int fd) : fd_(fd) {}
    ServeFd(ServeFd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    ServeFd &operator=(ServeFd &&other) noexcept
    {
        if (this != &other) {
            reset(std::exchange(other.fd_, -1));
        }
        return *this;
    }
    ServeFd(const ServeFd &) = delete;
    ServeFd &operator=(const ServeFd &) = delete;
    ~ServeFd() { reset(-1); }

    [[nodiscard]] int get() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }
    [[nodiscard]] int release() { return std::exchange(fd_, -1); }
    void reset(int fd);

private:
    int fd_ = -1;
};

template <typename T>
using Opened = tl::expected<T, std::string>; // an error says what was tried and what happened

/// Makes the folder, mode 0700, or takes one of that kind that is there; the descriptor holds it for this process alone.
[[nodiscard]] Opened<ServeFd> hold_folder(const std::string &folder);

/// A listening UNIX socket, mode 0600; what is left of an earlier server there is replaced.
[[nodiscard]] Opened<ServeFd> listen_unix(const std::string &path);

/// Two listening TCP sockets on 127.0.0.1, the second on the port after the first. port 0: any that is free.
struct PortPair {
    ServeFd first;
    ServeFd second;
    std::uint16_t port = 0; // of the first
};
[[nodiscard]] Opened<PortPair> listen_port_pair(std::uint16_t port);

/// Who connected: none if the kernel does not say.
[[nodiscard]] std::optional<uid_t> peer_of(int socket);
/// True if that is this user or root.
[[nodiscard]] bool peer_allowed(std::optional<uid_t> peer);

struct Received {
    std::size_t size = 0;
    bool closed = false; // its end, or an error that is not "not now"
    ServeFd passed;      // a descriptor that came along, the last of several
};
/// passing: descriptors may come along; else they are dropped.
[[nodiscard]] Received receive_some(int socket, std::span<std::uint8_t> into, bool passing);

[[nodiscard]] bool is_socket(int fd);
[[nodiscard]] bool set_nonblocking(int fd);

} // namespace banyan::vtpm
