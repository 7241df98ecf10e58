// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <map>
#include <string>
#include <vector>

#include "attest/evidence.hpp"
#include "attest/reference.hpp"
#include "attest/x509.hpp"

// The verifier. What it checks, and in which order: docs/spec/evidence.md, section 3.

namespace banyan::attest {

/// What a verifier trusts, from --trust and nowhere else.
struct TrustAnchors {
    std::vector<Certificate> roots;

    /// Self-signed CA certificates only; a private key in the file is an error.
    static Expected<TrustAnchors> from_pem(View pem);
};

/// The links of the chain, in the order of checking.
enum class Link { kNone, kFiles, kChain, kClass, kAk, kReceipt, kReport, kQuote, kPcr, kEventLog, kSlb };
const char *name_of(Link link); // "pcr"

struct Verdict {
    using Table = std::map<std::string, std::map<unsigned, std::string>>; // bank, PCR: hexadecimal

    std::string name;
    std::uint32_t domain = 0;
    std::string kernel;
    bool attested = false;
    Link broken = Link::kNone;  // the first broken link
    std::string reason;         // one sentence; empty if attested
    Table pcrs;                 // as quoted; empty if it did not come that far
    Table expected;             // as predicted
    std::uint64_t restores = 0; // snapshots that its TPM was brought back from, as the report says
};

Verdict verify_vm(const EvidenceFiles &evidence, const VmReference &reference, const TrustAnchors &anchors,
                  const OwnerRecord &owner);

/// Every VM of the references, from EVIDENCE/<name> and the owner's folder. A file that is not there is a refusal.
std::vector<Verdict> verify_folder(const std::filesystem::path &evidence, const std::filesystem::path &owner,
                                   const std::vector<VmReference> &references, const TrustAnchors &anchors);

} // namespace banyan::attest
