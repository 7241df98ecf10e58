// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <string>
#include <vector>

#include "attest/x509.hpp"

// Domain report and receipt: COSE_Sign1 over a CBOR map. Specification: docs/spec/evidence.md, section 2.

namespace banyan::attest {

enum class ReportKind : std::uint8_t { kDomain = 0, kReceipt = 1 };

struct Report {
    ReportKind kind = ReportKind::kDomain;
    MachineId machine{};
    std::string platform_class;
    std::uint64_t domain = 0;
    std::string name;
    std::uint64_t instance = 0;
    std::uint64_t start = 0;
    std::uint64_t launch = 0;
    Sha384 descriptor{};
    Sha384 hypervisor{};
    std::uint64_t flags = 0;
    std::vector<std::string> insecure;
    Bytes ek; // TPM names
    Bytes iak;
    Bytes nonce;
    std::uint64_t restores = 0; // optional: snapshots that the TPM was brought back from; never 0 when it is there

    friend bool operator==(const Report &, const Report &) = default;
};

/// The payload of a COSE_Sign1, before and after.
Bytes encode_report(const Report &report);
Expected<Report> parse_report(View payload);

struct Sign1 {
    Bytes to_be_signed; // Sig_structure, RFC 9052, 4.4
    Bytes payload;
    Bytes signature;
};

Expected<Sign1> parse_sign1(View message);
Expected<Bytes> sign1(View payload, EVP_PKEY *key);
bool verify_sign1(const Sign1 &message, EVP_PKEY *key);

} // namespace banyan::attest
