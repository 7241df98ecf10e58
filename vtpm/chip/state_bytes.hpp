// SPDX-License-Identifier: GPL-2.0-or-later
// Little-endian fields one after another: how state is written into a snapshot, and read back from hands that may be
// hostile. A reader that was asked for more than there is gives zeros and is not ok() any more.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace banyan::vtpm {

class StateWriter {
public:
    void put8(std::uint8_t value) { bytes_.push_back(value); }
    void put32(std::uint32_t value) { put(value, 4); }
    void put64(std::uint64_t value) { put(value, 8); }
    void put_bytes(std::span<const std::uint8_t> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }

    [[nodiscard]] const std::vector<std::uint8_t> &bytes() const { return bytes_; }

private:
    void put(std::uint64_t value, unsigned size)
    {
        for (unsigned i = 0; i < size; ++i) {
            bytes_.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
        }
    }

    std::vector<std::uint8_t> bytes_;
};

class StateReader {
public:
    explicit StateReader(std::span<const std::uint8_t> bytes) : left_(bytes) {}

    [[nodiscard]] std::uint8_t get8() { return static_cast<std::uint8_t>(get(1)); }
    [[nodiscard]] std::uint32_t get32() { return static_cast<std::uint32_t>(get(4)); }
    [[nodiscard]] std::uint64_t get64() { return get(8); }
    [[nodiscard]] std::span<const std::uint8_t> get_bytes(std::size_t size)
    {
        if (size > left_.size()) {
            left_ = {};
            ok_ = false;
            return {};
        }
        const auto taken = left_.first(size);
        left_ = left_.subspan(size);
        return taken;
    }
    template <std::size_t N>
    [[nodiscard]] std::array<std::uint8_t, N> get_array()
    {
        std::array<std::uint8_t, N> out{};
        const auto taken = get_bytes(N);
        std::copy(taken.begin(), taken.end(), out.begin());
        return out;
    }

    [[nodiscard]] bool ok() const { return ok_; }
    [[nodiscard]] bool at_end() const { return ok_ && left_.empty(); }

private:
    std::uint64_t get(unsigned size)
    {
        std::uint64_t value = 0;
        const auto taken = get_bytes(size);
        for (std::size_t i = 0; i < taken.size(); ++i) {
            value |= std::uint64_t{taken[i]} << (8 * i);
        }
        return value;
    }

    std::span<const std::uint8_t> left_;
    bool ok_ = true;
};

} // namespace banyan::vtpm
