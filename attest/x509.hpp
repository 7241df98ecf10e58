// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "attest/bytes.hpp"

// Certificates of an emulator's manufacturer, and how a verifier reads them. Profile: docs/spec/platform.md.

namespace banyan::attest {

using MachineId = std::array<std::uint8_t, 32>; // SHA-256 of the platform certificate's DER

namespace detail {
struct FreeKey {
    void operator()(EVP_PKEY *key) const { EVP_PKEY_free(key); }
};
struct FreeX509 {
    void operator()(X509 *certificate) const { X509_free(certificate); }
};
} // namespace detail

using Key = std::unique_ptr<EVP_PKEY, detail::FreeKey>;
using X509Ptr = std::unique_ptr<X509, detail::FreeX509>;

/// What a certificate is for; an extended key usage tells them apart.
enum class Role { kRoot, kIntermediate, kPlatform, kEk, kIak };

inline constexpr std::string_view kOrganization = "Banyan emulated hardware";
inline constexpr std::string_view kClassMachine = "machine";
inline constexpr std::string_view kClassServed = "served";

/// The subject that a certificate of this role has.
struct Subject {
    std::string common_name;
    std::string platform_class;       // OU; empty for the root
    std::optional<MachineId> machine; // serialNumber attribute, hexadecimal; EK and IAK only

    friend bool operator==(const Subject &, const Subject &) = default;
};

std::string ek_common_name(std::uint32_t instance);  // "vTPM 3 EK", for both EKs
std::string iak_common_name(std::uint32_t instance); // "vTPM 3 IAK"
inline constexpr std::string_view kPlatformCommonName = "Platform";

class Certificate {
public:
    /// Exactly one certificate and nothing after it.
    static Expected<Certificate> from_der(View der);
    /// One or more, in PEM; a private key among them is an error.
    static Expected<std::vector<Certificate>> list_from_pem(View pem);

    Certificate(X509Ptr certificate, Bytes der) : certificate_(std::move(certificate)), der_(std::move(der)) {}

    [[nodiscard]] X509 *get() const { return certificate_.get(); }
    [[nodiscard]] const Bytes &der() const { return der_; }
    [[nodiscard]] EVP_PKEY *key() const { return X509_get0_pubkey(certificate_.get()); }
    [[nodiscard]] std::string pem() const;
    [[nodiscard]] std::string subject_text() const; // one line, for messages
    [[nodiscard]] std::string issuer_text() const;
    [[nodiscard]] MachineId machine_id() const; // of a platform certificate
    /// Each attribute at most once, in the form above, nothing else.
    [[nodiscard]] Expected<Subject> subject() const;
    [[nodiscard]] bool has_role(Role role) const;

private:
    X509Ptr certificate_;
    Bytes der_;
};

/// True if the text holds a PEM block of a private key.
bool holds_private_key(View text);

/// The issuer of `leaf`: an intermediate out of `intermediates` that leads to one of `roots`, every signature, date,
/// constraint and length checked. An error says what OpenSSL found, and in which certificate.
Expected<const Certificate *> check_chain(const Certificate &leaf, std::span<const Certificate> intermediates,
                                          std::span<const Certificate> roots);

/// SubjectPublicKeyInfo.
Expected<Key> public_key_from_pem(View pem);
Expected<Key> public_key_from_der(View der);
Expected<std::string> public_key_to_pem(EVP_PKEY *key);
bool same_key(EVP_PKEY *a, EVP_PKEY *b);

/// The last errors of OpenSSL, taken from its queue, as text.
std::string openssl_errors();

} // namespace banyan::attest
