// SPDX-License-Identifier: GPL-2.0-or-later
#include "attest/cbor.hpp"

#include <algorithm>
#include <array>
#include <limits>

#include <cbor.h>

namespace banyan::attest {

namespace {

enum class Kind { kOther, kUnsigned, kNegative, kBytes, kText, kArray, kMap, kTag };

constexpr const char *name_of(Kind kind)
{
    switch (kind) {
    case Kind::kOther:
        return "something else";
    case Kind::kUnsigned:
        return "an unsigned integer";
    case Kind::kNegative:
        return "a negative integer";
    case Kind::kBytes:
        return "a byte string";
    case Kind::kText:
        return "a text string";
    case Kind::kArray:
        return "an array";
    case Kind::kMap:
        return "a map";
    case Kind::kTag:
        return "a tag";
    }
    return "something else";
}

tl::unexpected<std::string> is_not(Kind seen, Kind wanted)
{
    return problem(std::string("CBOR: ") + name_of(seen) + " where " + name_of(wanted) + " must be");
}

} // namespace

struct CborReader::Item {
    Kind kind = Kind::kOther;
    std::uint64_t value = 0; // integer, tag, number of elements
    View string;
};

Expected<CborReader::Item> CborReader::next()
{
    Item item;
    static constexpr auto number = [](void *context, Kind kind, std::uint64_t value) {
        auto *out = static_cast<Item *>(context);
        out->kind = kind;
        out->value = value;
    };
    static constexpr auto string = [](void *context, Kind kind, cbor_data data, std::size_t size) {
        auto *out = static_cast<Item *>(context);
        out->kind = kind;
        out->string = View(data, size);
    };
    struct cbor_callbacks on = cbor_empty_callbacks;
    on.uint8 = [](void *c, std::uint8_t v) { number(c, Kind::kUnsigned, v); };
    on.uint16 = [](void *c, std::uint16_t v) { number(c, Kind::kUnsigned, v); };
    on.uint32 = [](void *c, std::uint32_t v) { number(c, Kind::kUnsigned, v); };
    on.uint64 = [](void *c, std::uint64_t v) { number(c, Kind::kUnsigned, v); };
    on.negint8 = [](void *c, std::uint8_t v) { number(c, Kind::kNegative, v); };
    on.negint16 = [](void *c, std::uint16_t v) { number(c, Kind::kNegative, v); };
    on.negint32 = [](void *c, std::uint32_t v) { number(c, Kind::kNegative, v); };
    on.negint64 = [](void *c, std::uint64_t v) { number(c, Kind::kNegative, v); };
    on.array_start = [](void *c, std::size_t v) { number(c, Kind::kArray, v); };
    on.map_start = [](void *c, std::size_t v) { number(c, Kind::kMap, v); };
    on.tag = [](void *c, std::uint64_t v) { number(c, Kind::kTag, v); };
    on.byte_string = [](void *c, cbor_data d, std::size_t n) { string(c, Kind::kBytes, d, n); };
    on.string = [](void *c, cbor_data d, std::size_t n) { string(c, Kind::kText, d, n); };

    if (input_.empty()) {
        return problem("CBOR: ends too early");
    }
    // libcbor before 0.9 refuses the one-byte tags 6 to 20 as unassigned; COSE_Sign1 is 18.
    constexpr unsigned kTagMajor = 6U << 5;
    constexpr unsigned kOneByte = 24;
    if ((input_[0] & 0xE0U) == kTagMajor && (input_[0] & 0x1FU) < kOneByte) {
        item.kind = Kind::kTag;
        item.value = input_[0] & 0x1FU;
        input_ = input_.subspan(1);
        return item;
    }
    const cbor_decoder_result result = cbor_stream_decode(input_.data(), input_.size(), &on, &item);
    if (result.status != CBOR_DECODER_FINISHED || result.read == 0 || result.read > input_.size()) {
        return problem(result.status == CBOR_DECODER_NEDATA ? "CBOR: ends too early" : "CBOR: malformed");
    }
    input_ = input_.subspan(result.read);
    return item;
}

Expected<std::uint64_t> CborReader::read_unsigned()
{
    ATTEST_TRY(const Item item, next());
    if (item.kind != Kind::kUnsigned) {
        return is_not(item.kind, Kind::kUnsigned);
    }
    return item.value;
}

Expected<std::int64_t> CborReader::read_integer()
{
    ATTEST_TRY(const Item item, next());
    if (item.kind != Kind::kUnsigned && item.kind != Kind::kNegative) {
        return is_not(item.kind, Kind::kUnsigned);
    }
    if (item.value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return problem("CBOR: an integer that is too large");
    }
    const auto value = static_cast<std::int64_t>(item.value);
    return item.kind == Kind::kUnsigned ? value : -1 - value;
}

Expected<View> CborReader::read_bytes()
{
    ATTEST_TRY(const Item item, next());
    if (item.kind != Kind::kBytes) {
        return is_not(item.kind, Kind::kBytes);
    }
    return item.string;
}

Expected<std::string_view> CborReader::read_text()
{
    ATTEST_TRY(const Item item, next());
    if (item.kind != Kind::kText) {
        return is_not(item.kind, Kind::kText);
    }
    if (!std::ranges::all_of(item.string, [](std::uint8_t byte) { return byte >= 0x20 && byte <= 0x7e; })) {
        return problem("CBOR: a text string with other than printable ASCII characters");
    }
    return text_of(item.string);
}

Expected<std::uint64_t> CborReader::read_array()
{
    ATTEST_TRY(const Item item, next());
    if (item.kind != Kind::kArray) {
        return is_not(item.kind, Kind::kArray);
    }
    return item.value;
}

Expected<std::uint64_t> CborReader::read_map()
{
    ATTEST_TRY(const Item item, next());
    if (item.kind != Kind::kMap) {
        return is_not(item.kind, Kind::kMap);
    }
    return item.value;
}

Expected<void> CborReader::read_tag(std::uint64_t tag)
{
    // RFC 8949, 3.1: major type 6. libcbor 0.8 calls the one-byte tags 6 to 20 malformed, and COSE_Sign1 is 18.
    constexpr std::uint8_t kMajorTag = 6 << 5;
    constexpr std::uint8_t kLargestInOneByte = 23;
    std::uint64_t seen = 0;
    if (!input_.empty() && input_[0] >= kMajorTag && input_[0] <= kMajorTag + kLargestInOneByte) {
        seen = input_[0] - kMajorTag;
        input_ = input_.subspan(1);
    } else {
        ATTEST_TRY(const Item item, next());
        if (item.kind != Kind::kTag) {
            return is_not(item.kind, Kind::kTag);
        }
        seen = item.value;
    }
    if (seen != tag) {
        return problem("CBOR: tag " + std::to_string(seen) + " where tag " + std::to_string(tag) + " must be");
    }
    return {};
}

namespace {

template <typename Encode>
void append_head(Bytes &out, Encode encode, std::uint64_t value)
{
    std::array<std::uint8_t, 9> head{};
    const std::size_t size = encode(value, head.data(), head.size());
    out.insert(out.end(), head.begin(), head.begin() + static_cast<std::ptrdiff_t>(size));
}

} // namespace

CborWriter &CborWriter::put_unsigned(std::uint64_t value)
{
    append_head(out_, cbor_encode_uint, value);
    return *this;
}

CborWriter &CborWriter::put_negative(std::uint64_t value)
{
    append_head(out_, cbor_encode_negint, value);
    return *this;
}

CborWriter &CborWriter::put_bytes(View bytes)
{
    append_head(out_, cbor_encode_bytestring_start, bytes.size());
    out_.insert(out_.end(), bytes.begin(), bytes.end());
    return *this;
}

CborWriter &CborWriter::put_text(std::string_view text)
{
    append_head(out_, cbor_encode_string_start, text.size());
    out_.insert(out_.end(), text.begin(), text.end());
    return *this;
}

CborWriter &CborWriter::put_array(std::size_t elements)
{
    append_head(out_, cbor_encode_array_start, elements);
    return *this;
}

CborWriter &CborWriter::put_map(std::size_t pairs)
{
    append_head(out_, cbor_encode_map_start, pairs);
    return *this;
}

CborWriter &CborWriter::put_tag(std::uint64_t tag)
{
    append_head(out_, cbor_encode_tag, tag);
    return *this;
}

} // namespace banyan::attest
