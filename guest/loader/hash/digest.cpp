// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/hash/digest.hpp"

#include <algorithm>

namespace banyan::loader {

Digests digests_of(Bytes data)
{
    constexpr std::size_t kPiece = 16 * 1024;
    Sha1 sha1;
    Sha256 sha256;
    Sha384 sha384;
    while (!data.empty()) {
        const Bytes piece = data.first(std::min(kPiece, data.size()));
        sha1.update(piece);
        sha256.update(piece);
        sha384.update(piece);
        data = data.subspan(piece.size());
    }
    return {sha1.finish(), sha256.finish(), sha384.finish()};
}

} // namespace banyan::loader
