// SPDX-License-Identifier: GPL-2.0-or-later
// The TPM commands of the benches, byte by byte. TPM 2.0 library, parts 2 and 3.
#pragma once

#include "tests/bench/vtpm_load/side.hpp"

namespace banyan::bench {

inline constexpr std::size_t kHeader = 10;

inline std::uint32_t be32(const Bytes &bytes, std::size_t at)
{
    return bytes.size() < at + 4 ? 0xffff'ffff
                                 : std::uint32_t{bytes[at]} << 24 | std::uint32_t{bytes[at + 1]} << 16 |
                                       std::uint32_t{bytes[at + 2]} << 8 | bytes[at + 3];
}
inline std::uint32_t size_of(const Bytes &answer)
{
    return be32(answer, 2);
}
inline std::uint32_t code_of(const Bytes &answer)
{
    return be32(answer, 6);
}

class Command {
public:
    Command(std::uint16_t tag, std::uint32_t code) { u16(tag).u32(0).u32(code); }
    Command &u8(std::uint32_t value)
    {
        bytes_.push_back(static_cast<std::uint8_t>(value));
        return *this;
    }
    Command &u16(std::uint32_t value) { return u8(value >> 8).u8(value); }
    Command &u32(std::uint32_t value) { return u16(value >> 16).u16(value); }
    Command &fill(std::size_t size, std::uint8_t value)
    {
        bytes_.insert(bytes_.end(), size, value);
        return *this;
    }
    Command &password() { return u32(9).u32(0x40000009).u16(0).u8(0).u16(0); }
    [[nodiscard]] Bytes done()
    {
        for (unsigned i = 0; i < 4; ++i) {
            bytes_[2 + i] = static_cast<std::uint8_t>(bytes_.size() >> (24 - 8 * i));
        }
        return bytes_;
    }

private:
    Bytes bytes_;
};

inline Bytes startup_clear()
{
    return Command(0x8001, 0x144).u16(0).done();
}
inline Bytes get_random(unsigned size)
{
    return Command(0x8001, 0x17b).u16(size).done();
}
inline Bytes pcr_extend()
{
    return Command(0x8002, 0x182).u32(16).password().u32(1).u16(0x000b).fill(32, 0x5a).done();
}
inline Bytes read_public(std::uint32_t handle)
{
    return Command(0x8001, 0x173).u32(handle).done();
}
/// A restricted P-256 signing key of the owner, transient.
inline Bytes create_signing_key()
{
    Command command(0x8002, 0x131);
    command.u32(0x40000001).password().u16(4).u32(0);
    command.u16(24).u16(0x0023).u16(0x000b).u32(0x00050472).u16(0); // TPMT_PUBLIC: ECC, SHA-256, attributes, no policy
    command.u16(0x0010).u16(0x0018).u16(0x000b).u16(0x0003).u16(0x0010).u16(0).u16(0);
    return command.u16(0).u32(0).done();
}
/// Of PCR 16, by that key.
inline Bytes quote()
{
    return Command(0x8002, 0x158)
        .u32(0x80000000)
        .password()
        .u16(16)
        .fill(16, 0x11)
        .u16(0x0010)
        .u32(1)
        .u16(0x000b)
        .u8(3)
        .u8(0)
        .u8(0)
        .u8(1)
        .done();
}

} // namespace banyan::bench
