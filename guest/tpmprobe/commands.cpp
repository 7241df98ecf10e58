// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/tpmprobe/commands.hpp"

namespace banyan::tpmprobe {
namespace {

constexpr std::uint16_t kStNoSessions = 0x8001;
constexpr std::uint16_t kStSessions = 0x8002;
constexpr std::size_t kHeaderSize = 10;
constexpr std::uint32_t kRsPassword = 0x4000'0009;
constexpr std::uint32_t kRhOwner = 0x4000'0001;
constexpr std::uint16_t kAlgRsa = 0x0001;
constexpr std::uint16_t kAlgAes = 0x0006;
constexpr std::uint16_t kAlgSha256 = 0x000b;
constexpr std::uint16_t kAlgNull = 0x0010;
constexpr std::uint16_t kAlgCfb = 0x0043;

class Writer {
public:
    Writer(std::uint16_t tag, std::uint32_t code)
    {
        put16(tag);
        put32(0);
        put32(code);
    }
    void put8(std::uint32_t value) { bytes_.push_back(static_cast<std::uint8_t>(value)); }
    void put16(std::uint32_t value)
    {
        put8(value >> 8);
        put8(value);
    }
    void put32(std::uint32_t value)
    {
        put16(value >> 16);
        put16(value);
    }
    void put(std::span<const std::uint8_t> data) { bytes_.insert(bytes_.end(), data.begin(), data.end()); }
    void put_empty_password()
    {
        put32(9);
        put32(kRsPassword);
        put16(0); // nonce
        put8(0);  // attributes
        put16(0); // password
    }
    [[nodiscard]] Bytes done()
    {
        const auto size = static_cast<std::uint32_t>(bytes_.size());
        for (unsigned i = 0; i < 4; ++i) {
            bytes_[2 + i] = static_cast<std::uint8_t>(size >> (24 - 8 * i));
        }
        return bytes_;
    }

private:
    Bytes bytes_;
};

std::uint32_t word_at(std::span<const std::uint8_t> bytes, std::size_t at)
{
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i) {
        value = value << 8 | bytes[at + i];
    }
    return value;
}

} // namespace

Bytes pcr_extend(std::uint32_t pcr, std::span<const std::uint8_t, kSha256Size> digest)
{
    Writer out(kStSessions, 0x182);
    out.put32(pcr);
    out.put_empty_password();
    out.put32(1);
    out.put16(kAlgSha256);
    out.put(digest);
    return out.done();
}

Bytes pcr_read(std::uint32_t pcr)
{
    Writer out(kStNoSessions, 0x17e);
    out.put32(1);
    out.put16(kAlgSha256);
    out.put8(3);
    for (std::uint32_t i = 0; i < 3; ++i) {
        out.put8(pcr / 8 == i ? 1U << (pcr % 8) : 0);
    }
    return out.done();
}

Bytes get_random(std::uint16_t size)
{
    Writer out(kStNoSessions, 0x17b);
    out.put16(size);
    return out.done();
}

Bytes create_primary_rsa()
{
    Writer out(kStSessions, 0x131);
    out.put32(kRhOwner);
    out.put_empty_password();
    out.put16(4); // inSensitive: no password, no data
    out.put32(0);
    out.put16(26); // inPublic
    out.put16(kAlgRsa);
    out.put16(kAlgSha256);
    out.put32(0x0003'0072); // fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, decrypt
    out.put16(0);           // no policy
    out.put16(kAlgAes);
    out.put16(128);
    out.put16(kAlgCfb);
    out.put16(kAlgNull);
    out.put16(2048);
    out.put32(0); // exponent
    out.put16(0); // unique
    out.put16(0); // outsideInfo
    out.put32(0); // creationPCR
    return out.done();
}

Bytes flush(std::uint32_t handle)
{
    Writer out(kStNoSessions, 0x165);
    out.put32(handle);
    return out.done();
}

std::uint32_t result_of(std::span<const std::uint8_t> response)
{
    return response.size() < kHeaderSize ? 0xffff'ffff : word_at(response, 6);
}

std::span<const std::uint8_t> digest_of(std::span<const std::uint8_t> response)
{
    // header, pcrUpdateCounter 4, one selection 4 + 6, one digest 4 + 2
    constexpr std::size_t kAt = kHeaderSize + 4 + 10 + 6;
    if (result_of(response) != 0 || response.size() != kAt + kSha256Size) {
        return {};
    }
    return response.subspan(kAt);
}

std::span<const std::uint8_t> random_of(std::span<const std::uint8_t> response)
{
    constexpr std::size_t kAt = kHeaderSize + 2; // header, size
    return result_of(response) != 0 || response.size() < kAt ? std::span<const std::uint8_t>{} : response.subspan(kAt);
}

std::uint32_t handle_of(std::span<const std::uint8_t> response)
{
    return result_of(response) != 0 || response.size() < kHeaderSize + 4 ? 0 : word_at(response, kHeaderSize);
}

} // namespace banyan::tpmprobe
