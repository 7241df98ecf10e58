// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/store/store_key.hpp"

#include <vector>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

namespace banyan::vtpm {

bool store_mac(const StoreKey &key, std::initializer_list<std::span<const std::uint8_t>> parts, StoreMac &out)
{
    std::vector<std::uint8_t> text;
    for (const auto &part : parts) {
        text.insert(text.end(), part.begin(), part.end());
    }
    unsigned size = 0;
    const bool done = HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), text.data(), text.size(), out.data(),
                           &size) != nullptr &&
                      size == kStoreMacSize;
    OPENSSL_cleanse(text.data(), text.size());
    return done;
}

bool same_mac(std::span<const std::uint8_t, kStoreMacSize> one, const StoreMac &other)
{
    return CRYPTO_memcmp(one.data(), other.data(), kStoreMacSize) == 0;
}

void wipe_key(StoreKey &key)
{
    OPENSSL_cleanse(key.data(), key.size());
}

} // namespace banyan::vtpm
