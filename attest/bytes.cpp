// SPDX-License-Identifier: GPL-2.0-or-later
#include "attest/bytes.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace banyan::attest {

namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";

class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor()
    {
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }
    Descriptor(const Descriptor &) = delete;
    Descriptor &operator=(const Descriptor &) = delete;
    [[nodiscard]] int get() const { return fd_; }

private:
    int fd_;
};

tl::unexpected<std::string> cannot(const char *what, const std::filesystem::path &path, std::string_view why)
{
    return problem(std::string("cannot ") + what + " " + path.string() + ": " + std::string(why));
}

int nibble(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

} // namespace

std::string to_hex(View bytes)
{
    std::string text;
    text.reserve(bytes.size() * 2);
    for (const std::uint8_t byte : bytes) {
        text += kHexDigits[byte >> 4];
        text += kHexDigits[byte & 15];
    }
    return text;
}

Expected<Bytes> from_hex(std::string_view text)
{
    Bytes bytes;
    bytes.reserve(text.size() / 2);
    if (text.size() % 2 != 0) {
        return problem("an odd number of hexadecimal digits");
    }
    for (std::size_t i = 0; i < text.size(); i += 2) {
        const int high = nibble(text[i]);
        const int low = nibble(text[i + 1]);
        if (high < 0 || low < 0) {
            return problem("not hexadecimal: " + in_quotes(text.substr(i, 2)));
        }
        bytes.push_back(static_cast<std::uint8_t>(high * 16 + low));
    }
    return bytes;
}

std::string in_quotes(std::string_view text)
{
    constexpr std::size_t kLongest = 200;
    std::string out = "\"";
    for (const char c : text.substr(0, kLongest)) {
        const auto byte = static_cast<std::uint8_t>(c);
        if (byte < 0x20 || byte > 0x7e || c == '"' || c == '\\') {
            out += "\\x";
            out += kHexDigits[byte >> 4];
            out += kHexDigits[byte & 15];
        } else {
            out += c;
        }
    }
    return out + (text.size() > kLongest ? "…\"" : "\"");
}

Expected<Bytes> read_file(const std::filesystem::path &path, std::size_t limit, Links links)
{
    const int no_links = links == Links::kRefuse ? O_NOFOLLOW : 0;
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | no_links));
    if (file.get() < 0) {
        return cannot("read", path, errno == ELOOP && no_links != 0 ? "it is a symbolic link" : std::strerror(errno));
    }
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) {
        return cannot("read", path, std::strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) {
        return cannot("read", path, "it is not a regular file");
    }
    Bytes bytes(limit + 1); // one more, to see whether there is more
    std::size_t have = 0;
    while (have < bytes.size()) {
        const ssize_t got = ::read(file.get(), bytes.data() + have, bytes.size() - have);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return cannot("read", path, std::strerror(errno));
        }
        if (got == 0) {
            break;
        }
        have += static_cast<std::size_t>(got);
    }
    if (have > limit) {
        return cannot("read", path, "it is larger than " + std::to_string(limit) + " bytes");
    }
    bytes.resize(have);
    return bytes;
}

Expected<void> write_new_file(const std::filesystem::path &path, View bytes, unsigned mode)
{
    const Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
    if (file.get() < 0) {
        return cannot("make", path, std::strerror(errno));
    }
    while (!bytes.empty()) {
        const ssize_t put = ::write(file.get(), bytes.data(), bytes.size());
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return cannot("write", path, std::strerror(errno));
        }
        bytes = bytes.subspan(static_cast<std::size_t>(put));
    }
    if (::fsync(file.get()) != 0) {
        return cannot("write", path, std::strerror(errno));
    }
    return {};
}

} // namespace banyan::attest
