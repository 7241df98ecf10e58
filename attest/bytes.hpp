// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "attest/reference.hpp"

namespace banyan::attest {

using Bytes = std::vector<std::uint8_t>;
using View = std::span<const std::uint8_t>;

std::string to_hex(View bytes);
Expected<Bytes> from_hex(std::string_view text); // lower or upper case, nothing between

inline View view_of(std::string_view text)
{
    return {reinterpret_cast<const std::uint8_t *>(text.data()), text.size()};
}
inline std::string_view text_of(View bytes)
{
    return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

/// Quoted for a message, with everything but printable ASCII as \xNN: the text may come from a VM.
std::string in_quotes(std::string_view text);

enum class Links { kFollow, kRefuse };

/// A regular file of at most `limit` bytes. Never blocks: a FIFO or a device in the way is an error.
Expected<Bytes> read_file(const std::filesystem::path &path, std::size_t limit, Links links = Links::kFollow);

/// Makes a new file with these permissions; fails if the path exists. Durable on success.
Expected<void> write_new_file(const std::filesystem::path &path, View bytes, unsigned mode);

/// Public values only: not constant-time.
inline bool same(View a, View b)
{
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin());
}

} // namespace banyan::attest

#define ATTEST_TRY_CAT2(a, b) a##b
#define ATTEST_TRY_CAT(a, b) ATTEST_TRY_CAT2(a, b)
#define ATTEST_TRY_IMPL(tmp, decl, expr)                                                                               \
    auto tmp = (expr);                                                                                                 \
    if (!tmp) {                                                                                                        \
        return ::banyan::attest::problem(std::move(tmp).error());                                                      \
    }                                                                                                                  \
    decl = *std::move(tmp)

/// ATTEST_TRY(auto header, parse_header(bytes));  binds the value or returns the error.
#define ATTEST_TRY(decl, expr) ATTEST_TRY_IMPL(ATTEST_TRY_CAT(attest_try_, __LINE__), decl, expr)

/// The same for Expected<void>.
#define ATTEST_CHECK(expr)                                                                                             \
    do {                                                                                                               \
        if (auto attest_checked = (expr); !attest_checked) {                                                           \
            return ::banyan::attest::problem(std::move(attest_checked).error());                                       \
        }                                                                                                              \
    } while (false)
