// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/progress.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

namespace banyan::tool {

namespace {

constexpr const char *kEraseLine = "\r\x1b[K";

std::size_t columns(int fd)
{
    winsize size{};
    return ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

} // namespace

Progress::Progress(int fd, bool terminal) : fd_(fd), terminal_(terminal), start_(std::chrono::steady_clock::now()) {}

Progress::~Progress()
{
    clear();
}

void Progress::write(const std::string &text) const
{
    [[maybe_unused]] const ssize_t written = ::write(fd_, text.data(), text.size()); // nobody to tell if it fails
}

void Progress::step(const std::string &text)
{
    const std::chrono::duration<double> since = std::chrono::steady_clock::now() - start_;
    std::string line = fmt::format("[{:6.1f} s] {}", since.count(), text);
    if (!terminal_) {
        write(line + "\n");
        return;
    }
    if (const std::size_t most = columns(fd_) - 1; line.size() > most) {
        line.resize(most);
    }
    write(kEraseLine + line);
    shown_ = true;
}

void Progress::clear()
{
    if (shown_) {
        write(kEraseLine);
        shown_ = false;
    }
}

} // namespace banyan::tool
