// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <concepts>
#include <limits>

namespace banyan {

/// One named bit range of a register word: bits Lsb..Msb, inclusive, read as T.
///
/// A Field is a type, never an object, so a register map costs nothing at run
/// time and a wrong range is a compile error.
template <std::unsigned_integral Word, unsigned Lsb, unsigned Msb, typename T = Word>
struct Field {
    static_assert(Lsb <= Msb, "bit range is reversed");
    static_assert(Msb < std::numeric_limits<Word>::digits, "bit range leaves the word");

    static constexpr unsigned kWidth = Msb - Lsb + 1;
    static constexpr Word kLow =
        static_cast<Word>(std::numeric_limits<Word>::max() >> (std::numeric_limits<Word>::digits - kWidth));
    static constexpr Word kMask = static_cast<Word>(kLow << Lsb);

    [[nodiscard]] static constexpr T get(Word word) { return static_cast<T>(static_cast<Word>(word >> Lsb) & kLow); }

    [[nodiscard]] static constexpr Word with(Word word, T value)
    {
        const auto bits = static_cast<Word>(static_cast<Word>(value) & kLow);
        return static_cast<Word>((word & static_cast<Word>(~kMask)) | static_cast<Word>(bits << Lsb));
    }
};

} // namespace banyan
