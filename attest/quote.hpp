// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <vector>

#include "attest/banks.hpp"
#include "attest/x509.hpp"

// What tpm2_quote writes. TPM 2.0 Library part 2, 10.12 (TPMS_ATTEST) and 11.3.4 (TPMT_SIGNATURE), read by tss2-mu.

namespace banyan::attest {

/// Which PCRs, in the order in which their values enter the quote's digest.
struct PcrSelection {
    Bank bank = Bank::kSha256;
    std::uint32_t mask = 0; // bit i: PCR i

    friend bool operator==(const PcrSelection &, const PcrSelection &) = default;
};
using PcrSelections = std::vector<PcrSelection>;

std::string describe(const PcrSelections &selections);

struct Quote {
    Bytes extra_data; // the caller's nonce
    std::uint32_t reset_count = 0;
    std::uint32_t restart_count = 0;
    bool safe = false;
    std::uint64_t firmware_version = 0;
    PcrSelections selections;
    Bytes pcr_digest;
};

/// Magic and type are checked; bytes after the end are refused.
Expected<Quote> parse_quote(View message);

/// ECDSA with SHA-384, as r and s of 48 bytes each; any other algorithm is refused.
Expected<Bytes> parse_signature(View signature);

struct PcrFile {
    PcrSelections selections;
    PcrValues values; // of the selected PCRs; the others are empty

    /// The bytes that enter the quote's digest.
    [[nodiscard]] Bytes concatenated() const;
};

/// The format `serialized` of tpm2-tools 5.x: C structures of its machine, integers little-endian.
Expected<PcrFile> parse_pcr_file(View bytes);
Bytes encode_pcr_file(const PcrFile &file); // for tests

/// TPM names of keys made by the templates of docs/spec/platform.md: from the public key alone.
Expected<Bytes> ek_name(EVP_PKEY *key);  // ECC P-384, template H-3
Expected<Bytes> iak_name(EVP_PKEY *key); // ECC P-384

} // namespace banyan::attest
