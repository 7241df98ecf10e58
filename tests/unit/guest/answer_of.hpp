// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace banyan::loader {

using Buffer = std::vector<std::uint8_t>;

/// A response of that many bytes: a header that says so, then anything.
inline Buffer answer_of(std::size_t size)
{
    Buffer answer(size, 0x5A);
    answer[0] = 0x80;
    answer[1] = 0x01;
    for (unsigned i = 0; i < 4; ++i) {
        answer[2 + i] = static_cast<std::uint8_t>(size >> (24 - 8 * i));
    }
    return answer;
}

} // namespace banyan::loader
