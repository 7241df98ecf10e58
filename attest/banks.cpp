// SPDX-License-Identifier: GPL-2.0-or-later
#include "attest/banks.hpp"

namespace banyan::attest {

View digest_of(const Digests &digests, Bank bank)
{
    switch (bank) {
    case Bank::kSha1:
        return digests.sha1;
    case Bank::kSha256:
        return digests.sha256;
    case Bank::kSha384:
        return digests.sha384;
    }
    return {};
}

Bytes hash(Bank bank, View bytes)
{
    const Digests digests = digest_bytes(bytes);
    const View digest = digest_of(digests, bank);
    return {digest.begin(), digest.end()};
}

Bytes extend(Bank bank, View pcr, View digest)
{
    Bytes both(pcr.begin(), pcr.end());
    both.insert(both.end(), digest.begin(), digest.end());
    return hash(bank, both);
}

} // namespace banyan::attest
