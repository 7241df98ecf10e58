// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>

#include <tl/expected.hpp>

namespace banyan {

/// Why an operation could not be done. Append only: values are part of the C ABI.
enum class Errc : std::int32_t {
    kBadArgument = 1,
    kBadState = 2,
    kNoSpace = 3,
    kNotFound = 4,
    kCorrupt = 5,
    kBusy = 6,
    kIo = 7,
    kUnsupported = 8,
    kRolledBack = 9,
};

template <typename T>
using Result = tl::expected<T, Errc>;
using Status = Result<void>;

[[nodiscard]] constexpr tl::unexpected<Errc> fail(Errc why)
{
    return tl::unexpected<Errc>(why);
}

} // namespace banyan

#define BANYAN_TRY_CAT2(a, b) a##b
#define BANYAN_TRY_CAT(a, b) BANYAN_TRY_CAT2(a, b)
#define BANYAN_TRY_IMPL(tmp, decl, expr)                                                                               \
    auto tmp = (expr);                                                                                                 \
    if (!tmp) {                                                                                                        \
        return ::banyan::fail((tmp).error());                                                                          \
    }                                                                                                                  \
    decl = *static_cast<decltype(tmp) &&>(tmp)

/// BANYAN_TRY(auto header, parse_header(bytes));  binds the value or returns the error.
#define BANYAN_TRY(decl, expr) BANYAN_TRY_IMPL(BANYAN_TRY_CAT(banyan_try_, __LINE__), decl, expr)
