// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/io.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

#include <fmt/format.h>

namespace banyan::tool {

namespace {

namespace fs = std::filesystem;

int milliseconds_to(Clock::time_point until)
{
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    return static_cast<int>(std::clamp<long long>(left + 1, 0, 3'600'000));
}

} // namespace

void Fd::reset()
{
    if (fd_ >= 0) {
        ::close(fd_);
        fd_ = -1;
    }
}

void Loop::turn(Clock::time_point until)
{
    std::vector<pollfd> polled;
    polled.reserve(handlers_.size());
    for (const auto &[fd, handler] : handlers_) {
        polled.push_back({fd, POLLIN, 0});
    }
    if (::poll(polled.data(), polled.size(), milliseconds_to(until)) <= 0) {
        return; // time is up, or a signal, which its own descriptor reports next time
    }
    for (const pollfd &entry : polled) {
        const auto found = handlers_.find(entry.fd);
        if (entry.revents != 0 && found != handlers_.end()) {
            const Handler handler = found->second; // it may unwatch itself
            handler();
        }
    }
}

ReadResult read_some(int fd, std::span<std::uint8_t> buffer)
{
    for (;;) {
        const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (got > 0) {
            return {buffer.first(static_cast<std::size_t>(got)), false};
        }
        if (got == 0) {
            return {{}, true};
        }
        if (errno != EINTR) {
            return {{}, errno != EAGAIN};
        }
    }
}

bool send_all(int fd, std::span<const std::uint8_t> bytes, Clock::time_point until)
{
    while (!bytes.empty()) {
        const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            bytes = bytes.subspan(static_cast<std::size_t>(sent));
        } else if (errno == EAGAIN) {
            pollfd entry{fd, POLLOUT, 0};
            if (::poll(&entry, 1, milliseconds_to(until)) <= 0 && Clock::now() >= until) {
                return false;
            }
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

bool send_all(int fd, std::string_view text, Clock::time_point until)
{
    return send_all(fd, std::span(reinterpret_cast<const std::uint8_t *>(text.data()), text.size()), until);
}

Outcome<Fd> listen_at(const fs::path &path)
{
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.native().size() >= sizeof(address.sun_path)) {
        return failed(Exit::kEnvironment,
                      fmt::format("the socket name {} is too long; set TMPDIR to a shorter path", path.string()));
    }
    path.native().copy(address.sun_path, sizeof(address.sun_path) - 1);
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd || ::bind(fd.get(), reinterpret_cast<const sockaddr *>(&address), sizeof(address)) != 0 ||
        ::listen(fd.get(), 1) != 0) {
        return failed(Exit::kEnvironment,
                      fmt::format("cannot make the socket {}: {}", path.string(), std::strerror(errno)));
    }
    return fd;
}

Outcome<void> write_file(const fs::path &file, std::span<const std::uint8_t> bytes)
{
    errno = 0;
    std::ofstream out(file, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    out.close();
    if (!out) {
        return failed(Exit::kEnvironment,
                      fmt::format("cannot write {}: {}", file.string(), std::strerror(errno != 0 ? errno : EIO)));
    }
    return {};
}

Outcome<void> write_file(const fs::path &file, std::string_view text)
{
    return write_file(file, std::span(reinterpret_cast<const std::uint8_t *>(text.data()), text.size()));
}

std::string last_line(const fs::path &file)
{
    std::ifstream in(file);
    std::string last;
    for (std::string line; std::getline(in, line);) {
        if (line.find_first_not_of(" \t\r") != std::string::npos) {
            last = line;
        }
    }
    return last;
}

Outcome<RunFolder> RunFolder::make()
{
    constexpr std::size_t kRoomForSocketNames = 60; // of sockaddr_un's 108 bytes
    const char *wish = std::getenv("TMPDIR");
    fs::path parent = "/tmp";
    if (wish != nullptr && *wish == '/' && std::strlen(wish) <= kRoomForSocketNames) {
        parent = wish;
    }
    std::string name = (parent / "banyan-run-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
        return failed(Exit::kEnvironment,
                      fmt::format("cannot make a folder in {}: {}", parent.string(), std::strerror(errno)));
    }
    return RunFolder(name);
}

RunFolder::~RunFolder()
{
    if (!path_.empty()) {
        std::error_code ignored; // what stays in TMPDIR harms nobody
        fs::remove_all(path_, ignored);
    }
}

} // namespace banyan::tool
