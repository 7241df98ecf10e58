// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "attest/bytes.hpp"

// CBOR (RFC 8949) item by item, on libcbor's streaming interface: nothing is allocated on an input's word.

namespace banyan::attest {

/// Reads the items a caller asks for, in order; anything else is an error. Views point into the input.
class CborReader {
public:
    explicit CborReader(View input) : input_(input) {}

    Expected<std::uint64_t> read_unsigned();
    Expected<std::int64_t> read_integer(); // of either sign, if it fits
    Expected<View> read_bytes();
    Expected<std::string_view> read_text(); // of printable ASCII
    Expected<std::uint64_t> read_array();   // number of elements
    Expected<std::uint64_t> read_map();     // number of pairs
    Expected<void> read_tag(std::uint64_t tag);
    [[nodiscard]] bool at_end() const { return input_.empty(); }

private:
    struct Item;
    Expected<Item> next();
    View input_;
};

class CborWriter {
public:
    CborWriter &put_unsigned(std::uint64_t value);
    CborWriter &put_negative(std::uint64_t value); // -1 - value
    CborWriter &put_bytes(View bytes);
    CborWriter &put_text(std::string_view text);
    CborWriter &put_array(std::size_t elements);
    CborWriter &put_map(std::size_t pairs);
    CborWriter &put_tag(std::uint64_t tag);
    [[nodiscard]] const Bytes &bytes() const { return out_; }

private:
    Bytes out_;
};

} // namespace banyan::attest
