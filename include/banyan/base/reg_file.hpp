// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace banyan {

/// True if a register table is in offset order without duplicates; for a static_assert under the table.
template <typename Table>
consteval bool offsets_ascend(const Table &specs)
{
    for (std::size_t i = 1; i < specs.size(); ++i) {
        if (specs[i - 1].reg >= specs[i].reg) {
            return false;
        }
    }
    return true;
}

/// Storage for the registers described by a constexpr table of RegSpec.
///
/// Knows reset values and write masks, and nothing else: what a write *does* is the device's business.
template <const auto &Specs>
class RegFile {
public:
    using Reg = decltype(Specs[0].reg);
    using Word = decltype(Specs[0].reset);

    RegFile() { reset(); }

    void reset()
    {
        for (std::size_t i = 0; i < Specs.size(); ++i) {
            values_[i] = Specs[i].reset;
        }
    }

    [[nodiscard]] Word get(Reg reg) const { return values_[index_of(reg)]; }

    /// The device's own update: may change any bit.
    void set(Reg reg, Word value) { values_[index_of(reg)] = value; }

    /// A guest's write: bits outside the mask keep their value. Returns the bits it turned on.
    Word guest_write(Reg reg, Word value)
    {
        const std::size_t i = index_of(reg);
        const Word old = values_[i];
        const Word mask = Specs[i].guest_writable;
        values_[i] = (old & static_cast<Word>(~mask)) | (value & mask);
        return values_[i] & static_cast<Word>(~old);
    }

private:
    static constexpr std::size_t index_of(Reg reg)
    {
        std::size_t i = 0;
        while (Specs[i].reg != reg) {
            ++i;
        }
        return i;
    }

    std::array<Word, Specs.size()> values_{};
};

} // namespace banyan
