// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/agent/ustar.hpp"

#include <array>
#include <cstdio>
#include <cstring>
#include <utility>

namespace banyan::agent {
namespace {

constexpr std::size_t kBlock = 512;
constexpr std::size_t kNameSize = 100;

void put(std::array<char, kBlock> &header, std::size_t at, std::string_view text)
{
    std::memcpy(header.data() + at, text.data(), text.size());
}

} // namespace

void Ustar::add(std::string_view name, std::string_view content)
{
    std::array<char, kBlock> header{};
    std::array<char, 12> size{};
    std::snprintf(size.data(), size.size(), "%011zo", content.size());
    put(header, 0, name.substr(0, kNameSize - 1));
    put(header, 100, "0000644"); // mode
    put(header, 108, "0000000"); // uid
    put(header, 116, "0000000"); // gid
    put(header, 124, std::string_view(size.data(), 11));
    put(header, 136, "00000000000"); // mtime
    put(header, 148, "        ");    // checksum: as spaces while it is being summed up
    header[156] = '0';               // a regular file
    put(header, 257, "ustar");
    put(header, 263, "00");
    unsigned sum = 0;
    for (const char c : header) {
        sum += static_cast<unsigned char>(c);
    }
    std::array<char, 8> checksum{};
    std::snprintf(checksum.data(), checksum.size(), "%06o", sum);
    put(header, 148, std::string_view(checksum.data(), 7));

    archive_.append(header.data(), header.size());
    archive_.append(content);
    archive_.append((kBlock - content.size() % kBlock) % kBlock, '\0');
}

std::string Ustar::finish()
{
    archive_.append(2 * kBlock, '\0');
    return std::move(archive_);
}

} // namespace banyan::agent
