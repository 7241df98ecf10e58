// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <filesystem>
#include <optional>

#include "attest/bytes.hpp"

// The folder that a verifier reads. Specification: docs/spec/evidence.md, section 1.

namespace banyan::attest {

/// What came from one VM: claims, none of them checked.
struct EvidenceFiles {
    std::string folder; // for messages
    Bytes ak_pem;
    Bytes quote_msg;
    Bytes quote_sig;
    Bytes pcrs;
    Bytes nonce;
    Bytes event_log;
    Bytes ek_crt;
    Bytes ek_rsa_crt;
    Bytes iak_crt;
    Bytes report;
    std::optional<Bytes> ima_log;
    std::optional<Bytes> slb;
};

/// What the owner's side recorded about one VM.
struct OwnerRecord {
    std::string folder; // of the VM, for messages
    Bytes chain_pem;    // intermediates and the platform's certificate: no anchors
    Bytes nonce;
    Bytes receipt;
};

inline constexpr const char *kOwnerFolder = "owner";
inline constexpr std::size_t kNonceMin = 16;

Expected<EvidenceFiles> load_evidence(const std::filesystem::path &folder);
/// `owner` is the folder with chain.pem.
Expected<OwnerRecord> load_owner_record(const std::filesystem::path &owner, const std::string &vm);

/// The private folder of a platform that this path is in, or is; a verifier must not read there.
std::optional<std::filesystem::path> private_folder_around(const std::filesystem::path &path);

} // namespace banyan::attest
