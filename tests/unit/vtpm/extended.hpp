// SPDX-License-Identifier: GPL-2.0-or-later
// What a SHA-256 PCR becomes.
#pragma once

#include <utility>

#include <openssl/sha.h>

#include "tests/unit/vtpm/vtpm_machine.hpp"

namespace banyan::vtpm::testing {

inline Bytes sha256(const Bytes &data)
{
    Bytes digest(SHA256_DIGEST_LENGTH);
    SHA256(data.data(), data.size(), digest.data());
    return digest;
}

inline Bytes extended(Bytes pcr, const Bytes &digest)
{
    pcr.insert(pcr.end(), digest.begin(), digest.end());
    return sha256(pcr);
}
inline Bytes extended(Bytes pcr, std::uint8_t fill)
{
    return extended(std::move(pcr), Bytes(32, fill));
}
/// PCR 17 after a launch of this block.
inline Bytes launched(const Bytes &block)
{
    return extended(Bytes(32, 0), sha256(block));
}

} // namespace banyan::vtpm::testing
