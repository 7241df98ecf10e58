// SPDX-License-Identifier: GPL-2.0-or-later
#include "tool/ustar.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include <fmt/format.h>

namespace banyan::tool {

namespace {

constexpr std::size_t kBlock = 512;

struct Header { // POSIX.1-2017, pax: ustar Interchange Format
    char name[100];
    char mode[8];
    char uid[8];
    char gid[8];
    char size[12];
    char mtime[12];
    char checksum[8];
    char type;
    char linkname[100];
    char magic[6]; // "ustar" and NUL; GNU: "ustar" and a space
    char version[2];
    char uname[32];
    char gname[32];
    char devmajor[8];
    char devminor[8];
    char prefix[155];
    char padding[12];
};
static_assert(sizeof(Header) == kBlock);
static_assert(offsetof(Header, checksum) == 148);
static_assert(offsetof(Header, magic) == 257);

/// Octal digits, then NUL or space to the end of the field.
template <std::size_t N>
std::optional<std::uint64_t> octal(const char (&field)[N])
{
    std::size_t i = 0;
    while (i < N && field[i] == ' ') {
        ++i;
    }
    std::uint64_t value = 0;
    const std::size_t first = i;
    for (; i < N && field[i] >= '0' && field[i] <= '7'; ++i) {
        value = value * 8 + static_cast<std::uint64_t>(field[i] - '0'); // 11 digits at most: no overflow
    }
    const bool digits = i > first;
    for (; i < N; ++i) {
        if (field[i] != '\0' && field[i] != ' ') {
            return std::nullopt;
        }
    }
    return digits ? std::optional(value) : std::nullopt;
}

template <std::size_t N>
std::string_view text_of(const char (&field)[N])
{
    return {field, static_cast<std::size_t>(std::find(field, field + N, '\0') - field)};
}

/// Sum of the header's bytes with the checksum field taken as spaces.
std::uint64_t sum_of(const Header &header)
{
    Header copy = header;
    std::memset(copy.checksum, ' ', sizeof(copy.checksum));
    unsigned char raw[kBlock];
    std::memcpy(raw, &copy, kBlock);
    std::uint64_t sum = 0;
    for (const unsigned char byte : raw) {
        sum += byte;
    }
    return sum;
}

/// Names are shown in messages: nothing but plain characters of them.
std::string shown(std::string_view name)
{
    std::string text;
    for (const char c : name.substr(0, 64)) {
        text += c > 0x20 && c < 0x7F ? c : '?';
    }
    return text;
}

} // namespace

tl::expected<std::map<std::string, std::vector<std::uint8_t>>, std::string>
read_ustar(std::span<const std::uint8_t> archive, const std::set<std::string, std::less<>> &allowed,
           std::size_t max_file)
{
    const auto bad = [](std::string why) { return tl::unexpected<std::string>(std::move(why)); };
    std::map<std::string, std::vector<std::uint8_t>> files;
    std::size_t at = 0;
    while (at < archive.size()) {
        if (archive.size() - at < kBlock) {
            return bad(fmt::format("the archive ends within a header, at byte {}", archive.size()));
        }
        const auto block = archive.subspan(at, kBlock);
        at += kBlock;
        if (std::all_of(block.begin(), block.end(), [](std::uint8_t byte) { return byte == 0; })) {
            break; // the first of the two blocks that end an archive
        }
        Header header{};
        std::memcpy(&header, block.data(), kBlock);
        if (std::memcmp(header.magic, "ustar", 5) != 0) {
            return bad(fmt::format("no ustar header at byte {}", at - kBlock));
        }
        const auto checksum = octal(header.checksum);
        if (!checksum || *checksum != sum_of(header)) {
            return bad(fmt::format("the header at byte {} has a wrong checksum", at - kBlock));
        }
        const auto size = octal(header.size);
        if (!size) {
            return bad(fmt::format("the header at byte {} has no size", at - kBlock));
        }
        std::string_view name = text_of(header.name);
        if (!text_of(header.prefix).empty() && header.magic[5] == '\0') {
            return bad(fmt::format("{}/{} is in a folder", shown(text_of(header.prefix)), shown(name)));
        }
        if (header.type == '5' && (name == "./" || name == ".") && *size == 0) {
            continue;
        }
        if (name.starts_with("./")) {
            name.remove_prefix(2);
        }
        if (header.type != '0' && header.type != '\0') {
            return bad(fmt::format("{} is not a regular file", shown(name)));
        }
        if (allowed.find(name) == allowed.end()) {
            return bad(fmt::format("{} is not a file that belongs in evidence", shown(name)));
        }
        if (*size > max_file) {
            return bad(fmt::format("{} has {} bytes, more than {}", shown(name), *size, max_file));
        }
        const std::size_t padded = (*size + kBlock - 1) / kBlock * kBlock;
        if (archive.size() - at < padded) {
            return bad(fmt::format("the archive ends within {}", shown(name)));
        }
        const auto content = archive.subspan(at, *size);
        if (!files.try_emplace(std::string(name), content.begin(), content.end()).second) {
            return bad(fmt::format("{} is there twice", shown(name)));
        }
        at += padded;
    }
    return files;
}

} // namespace banyan::tool
