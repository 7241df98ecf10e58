// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/serve/sockets.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <netinet/in.h>
#include <optional>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace banyan::vtpm {
namespace {

constexpr int kBacklog = 256;
constexpr unsigned kPortTries = 64;
constexpr std::uint32_t kLoopback = 0x7f000001; // 127.0.0.1

tl::unexpected<std::string> cannot(const std::string &what, const std::string &why)
{
    return tl::unexpected<std::string>("cannot " + what + ": " + why);
}

tl::unexpected<std::string> cannot(const std::string &what)
{
    return cannot(what, std::strerror(errno));
}

Opened<ServeFd> listen_port(std::uint16_t port)
{
    const std::string what = "listen on 127.0.0.1, port " + std::to_string(port);
    ServeFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = ::htonl(kLoopback);
    address.sin_port = ::htons(port);
    if (!fd || ::bind(fd.get(), reinterpret_cast<const sockaddr *>(&address), sizeof(address)) != 0 ||
        ::listen(fd.get(), kBacklog) != 0) {
        return cannot(what);
    }
    return fd;
}

using NameOf = int (*)(int, sockaddr *, socklen_t *);

std::optional<sockaddr_in> inet_name(int socket, NameOf which)
{
    sockaddr_in address{};
    socklen_t size = sizeof(address);
    if (which(socket, reinterpret_cast<sockaddr *>(&address), &size) != 0 || address.sin_family != AF_INET) {
        return std::nullopt;
    }
    return address;
}

/// Who owns the other end of a TCP connection on this host, from the kernel's table of sockets.
std::optional<uid_t> owner_of_tcp_peer(int socket)
{
    const auto here = inet_name(socket, ::getsockname);
    const auto there = inet_name(socket, ::getpeername);
    if (!here || !there) {
        return std::nullopt;
    }
    std::ifstream table("/proc/self/net/tcp");
    std::string line;
    std::getline(table, line); // the titles
    while (std::getline(table, line)) {
        std::uint32_t local = 0;
        std::uint32_t remote = 0;
        unsigned local_port = 0;
        unsigned remote_port = 0;
        unsigned uid = 0;
        // NOLINTNEXTLINE(cert-err34-c): the kernel writes the table; every field has a width or is the last
        if (std::sscanf(line.c_str(), " %*u: %8" SCNx32 ":%4x %8" SCNx32 ":%4x %*x %*x:%*x %*x:%*x %*x %u", &local,
                        &local_port, &remote, &remote_port, &uid) == 5 &&
            local == there->sin_addr.s_addr && local_port == ::ntohs(there->sin_port) &&
            remote == here->sin_addr.s_addr && remote_port == ::ntohs(here->sin_port)) {
            return uid;
        }
    }
    return std::nullopt;
}

} // namespace

void ServeFd::reset(int fd)
{
    if (fd_ >= 0) {
        ::close(fd_);
    }
    fd_ = fd;
}

Opened<ServeFd> hold_folder(const std::string &folder)
{
    const std::string what = "use the folder " + folder + " for sockets";
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
        return cannot(what);
    }
    ServeFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    struct stat info {};
    if (!fd || ::fstat(fd.get(), &info) != 0) {
        return cannot(what);
    }
    if (info.st_uid != ::geteuid() || (info.st_mode & 077) != 0) {
        return cannot(what, "others may write or look into it; it must be this user's, mode 0700");
    }
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        return cannot(what, "another server has it");
    }
    return fd;
}

Opened<ServeFd> listen_unix(const std::string &path)
{
    const std::string what = "listen at " + path;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) {
        return cannot(what, "a socket's path has at most " + std::to_string(sizeof(address.sun_path) - 1) + " bytes");
    }
    std::copy(path.begin(), path.end(), address.sun_path);
    struct stat info {};
    if (::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) {
        ::unlink(path.c_str());
    }
    ServeFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const mode_t before = ::umask(0177);
    const bool bound = fd && ::bind(fd.get(), reinterpret_cast<const sockaddr *>(&address), sizeof(address)) == 0;
    const int error = errno;
    ::umask(before);
    if (!bound) {
        return cannot(what, std::strerror(error));
    }
    if (::listen(fd.get(), kBacklog) != 0) {
        return cannot(what);
    }
    return fd;
}

Opened<PortPair> listen_port_pair(std::uint16_t port)
{
    std::string why;
    for (unsigned tries = 0; tries < kPortTries; ++tries) {
        auto first = listen_port(port);
        if (!first) {
            return tl::unexpected<std::string>(first.error());
        }
        const auto name = inet_name(first->get(), ::getsockname);
        const std::uint16_t chosen = name ? ::ntohs(name->sin_port) : 0;
        if (chosen != 0 && chosen != UINT16_MAX) {
            auto second = listen_port(static_cast<std::uint16_t>(chosen + 1));
            if (second) {
                return PortPair{std::move(*first), std::move(*second), chosen};
            }
            why = second.error();
        }
        if (port != 0) {
            break;
        }
    }
    return cannot("find two free ports in a row", why);
}

std::optional<uid_t> peer_of(int socket)
{
    int domain = 0;
    socklen_t size = sizeof(domain);
    if (::getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) {
        return std::nullopt;
    }
    if (domain != AF_UNIX) {
        return owner_of_tcp_peer(socket);
    }
    ucred peer{};
    size = sizeof(peer);
    return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? std::optional(peer.uid) : std::nullopt;
}

bool peer_allowed(std::optional<uid_t> peer)
{
    return peer && (*peer == ::geteuid() || *peer == 0);
}

Received receive_some(int socket, std::span<std::uint8_t> into, bool passing)
{
    constexpr std::size_t kFdsMax = 8;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kFdsMax)> space{};
    iovec part{into.data(), into.size()};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (passing) {
        header.msg_control = space.data();
        header.msg_controllen = space.size();
    }
    Received received;
    const ssize_t got = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got <= 0) {
        received.closed = got == 0 || (errno != EAGAIN && errno != EINTR);
        return received;
    }
    received.size = static_cast<std::size_t>(got);
    for (cmsghdr *one = CMSG_FIRSTHDR(&header); one != nullptr; one = CMSG_NXTHDR(&header, one)) {
        if (one->cmsg_level != SOL_SOCKET || one->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const std::size_t count = (one->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(one) + i * sizeof(int), sizeof(int));
            received.passed.reset(fd);
        }
    }
    return received;
}

bool is_socket(int fd)
{
    struct stat info {};
    return ::fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode);
}

bool set_nonblocking(int fd)
{
    const int flags = ::fcntl(fd, F_GETFL);
    return flags >= 0 && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

} // namespace banyan::vtpm
