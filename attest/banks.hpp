// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <map>
#include <string>

#include "attest/bytes.hpp"

// PCR banks: the three that a Banyan vTPM has.

namespace banyan::attest {

inline constexpr unsigned kPcrCount = 24; // TCG PC Client Platform TPM Profile 1.05, table 4

/// Values are TPM_ALG_ID. TCG Algorithm Registry, table 3.
enum class Bank : std::uint16_t { kSha1 = 0x0004, kSha256 = 0x000B, kSha384 = 0x000C };

inline constexpr std::array kBanks{Bank::kSha1, Bank::kSha256, Bank::kSha384};
inline constexpr std::array kQuotedBanks{Bank::kSha256, Bank::kSha384}; // that evidence must show

constexpr std::size_t digest_size(Bank bank)
{
    switch (bank) {
    case Bank::kSha1:
        return 20;
    case Bank::kSha256:
        return 32;
    case Bank::kSha384:
        return 48;
    }
    return 0;
}

constexpr const char *name_of(Bank bank)
{
    switch (bank) {
    case Bank::kSha1:
        return "sha1";
    case Bank::kSha256:
        return "sha256";
    case Bank::kSha384:
        return "sha384";
    }
    return "?";
}

constexpr bool is_bank(std::uint16_t algorithm)
{
    for (const Bank bank : kBanks) {
        if (static_cast<std::uint16_t>(bank) == algorithm) {
            return true;
        }
    }
    return false;
}

View digest_of(const Digests &digests, Bank bank);
Bytes hash(Bank bank, View bytes);
/// PCR_new = H(PCR_old || digest).
Bytes extend(Bank bank, View pcr, View digest);

using PcrBank = std::array<Bytes, kPcrCount>;
using PcrValues = std::map<Bank, PcrBank>;

} // namespace banyan::attest
