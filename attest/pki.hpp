// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include "attest/x509.hpp"

// The emulator's manufacturer: makes keys, issues certificates. The profile is in docs/spec/platform.md.

namespace banyan::attest {

/// ECC P-384.
Expected<Key> new_signing_key();
/// PKCS #8 PEM, not encrypted: for files of mode 0600.
Expected<std::string> private_key_to_pem(EVP_PKEY *key);
Expected<Key> private_key_from_pem(View pem);

/// Who signs; for a root, certificate is null and the key is its own.
struct Issuer {
    const Certificate *certificate = nullptr;
    EVP_PKEY *key = nullptr;
};

Expected<Certificate> issue(const Subject &subject, Role role, EVP_PKEY *subject_key, const Issuer &issuer);

/// Root, intermediate of one class, platform, all with their keys.
struct Manufacturer {
    Key root_key;
    Certificate root;
    Key intermediate_key;
    Certificate intermediate;
};

Expected<Manufacturer> new_manufacturer(std::string_view platform_class);
/// Another class under the same root: the intermediate becomes that one's, with a key of its own.
Expected<void> add_intermediate(Manufacturer &manufacturer, std::string_view platform_class);

/// ECDSA over the data with this digest; the signature is r and s, each as long as the curve's order (RFC 9053, 2.1).
Expected<Bytes> sign_es384(EVP_PKEY *key, View data);
bool verify_es384(EVP_PKEY *key, View data, View signature);

} // namespace banyan::attest
