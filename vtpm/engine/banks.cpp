// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/banks.hpp"

#include <array>
#include <cstddef>

#include "vtpm/chip/pcr_banks.hpp"
#include "vtpm/chip/tpm_header.hpp"

namespace banyan::vtpm {
namespace {

// TPM 2.0 library, part 2: table 12 (TPM_CC), 23 (TPM_CAP), 28 (TPM_RH); part 3: 25.5, 30.2
constexpr std::uint32_t kCcPcrAllocate = 0x012b;
constexpr std::uint32_t kCcGetCapability = 0x017a;
constexpr std::uint32_t kCapPcrs = 5;
constexpr std::uint32_t kRhPlatform = 0x4000000c;
constexpr std::uint32_t kRsPassword = 0x40000009;
constexpr std::uint8_t kSelectSize = 3; // 24 PCRs
constexpr std::uint32_t kOtherBank = 1U << 31;

void put16(Bytes &out, std::uint32_t value)
{
    out.push_back(static_cast<std::uint8_t>(value >> 8));
    out.push_back(static_cast<std::uint8_t>(value));
}

void put32(Bytes &out, std::uint32_t value)
{
    put16(out, value >> 16);
    put16(out, value);
}

void put_selection(Bytes &out, std::uint16_t algorithm, bool all)
{
    put16(out, algorithm);
    out.push_back(kSelectSize);
    out.insert(out.end(), kSelectSize, all ? 0xff : 0);
}

std::uint32_t bit_of(std::uint16_t algorithm)
{
    for (const PcrBank &bank : kPcrBanks) {
        if (bank.algorithm == algorithm) {
            return bank.bit;
        }
    }
    return kOtherBank;
}

} // namespace

Result<std::uint32_t> allocated_banks(TpmLife &life)
{
    Bytes body;
    put32(body, kCapPcrs);
    put32(body, 0);
    put32(body, 1);
    const Bytes response = life.execute(0, plain_command(kCcGetCapability, body));
    std::size_t at = kTpmHeaderSize + 1 + 4; // moreData, capability
    if (response_code(response) != 0 || response.size() < at + 4) {
        return fail(Errc::kIo);
    }
    std::uint32_t banks = 0;
    std::uint32_t count = load_be32(response, at);
    for (at += 4; count > 0; --count) {
        if (response.size() < at + 3 || response.size() < at + 3 + response[at + 2]) {
            return fail(Errc::kIo);
        }
        const std::size_t size = response[at + 2];
        for (std::size_t i = 0; i < size; ++i) {
            banks |= response[at + 3 + i] != 0 ? bit_of(load_be16(response, at)) : 0;
        }
        at += 3 + size;
    }
    return banks;
}

Status allocate_banks(TpmLife &life, std::uint32_t banks)
{
    Bytes body;
    put32(body, kRhPlatform);
    put32(body, 9); // one password session, empty
    put32(body, kRsPassword);
    put16(body, 0);
    body.push_back(0);
    put16(body, 0);
    put32(body, kPcrBanks.size() + 1);
    for (const PcrBank &bank : kPcrBanks) {
        put_selection(body, bank.algorithm, (banks & bank.bit) != 0);
    }
    put_selection(body, kAlgorithmSha512, false);
    Bytes command = plain_command(kCcPcrAllocate, body);
    command[1] = kTpmStSessions & 0xff;
    const Bytes response = life.execute(0, command);
    // parameterSize(4), allocationSuccess(1)
    if (response_code(response) != 0 || response.size() < kTpmHeaderSize + 5 || response[kTpmHeaderSize + 4] != 1) {
        return fail(Errc::kIo);
    }
    return {};
}

} // namespace banyan::vtpm
