// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <bit>
#include <cstdint>

namespace banyan::loader {

inline std::uint32_t big_endian32(const std::uint8_t *p)
{
    std::uint32_t word = 0;
    __builtin_memcpy(&word, p, sizeof(word));
    return __builtin_bswap32(word);
}

inline std::uint64_t big_endian64(const std::uint8_t *p)
{
    std::uint64_t word = 0;
    __builtin_memcpy(&word, p, sizeof(word));
    return __builtin_bswap64(word);
}

} // namespace banyan::loader
