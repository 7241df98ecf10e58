// SPDX-License-Identifier: GPL-2.0-or-later
#include "attest/pki.hpp"

#include <ctime>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "attest/oids.hpp"

namespace banyan::attest {

namespace {

template <typename T, void (*Free)(T *)>
struct FreeWith {
    void operator()(T *object) const { Free(object); }
};
template <typename T, void (*Free)(T *)>
using Owned = std::unique_ptr<T, FreeWith<T, Free>>;

using Extension = Owned<X509_EXTENSION, X509_EXTENSION_free>;
using Name = Owned<X509_NAME, X509_NAME_free>;

constexpr const char *kNeverExpires = "99991231235959Z"; // RFC 5280, 4.1.2.5
constexpr std::size_t kOrderBytes = 48;                  // P-384

Expected<void> add_attribute(X509_NAME *name, const char *attribute, std::string_view value)
{
    const Owned<ASN1_OBJECT, ASN1_OBJECT_free> object(OBJ_txt2obj(attribute, 0));
    if (!object || X509_NAME_add_entry_by_OBJ(name, object.get(), MBSTRING_UTF8,
                                              reinterpret_cast<const unsigned char *>(value.data()),
                                              static_cast<int>(value.size()), -1, 0) != 1) {
        return problem("cannot put " + std::string(attribute) + " into a name: " + openssl_errors());
    }
    return {};
}

Expected<void> fill_subject(X509_NAME *name, const Subject &subject)
{
    ATTEST_CHECK(add_attribute(name, "O", kOrganization));
    if (!subject.platform_class.empty()) {
        ATTEST_CHECK(add_attribute(name, "OU", subject.platform_class));
    }
    if (subject.machine) {
        ATTEST_CHECK(add_attribute(name, "serialNumber", to_hex(*subject.machine)));
    }
    return add_attribute(name, "CN", subject.common_name);
}

Expected<void> add_extension(X509 *certificate, X509V3_CTX *context, int kind, const char *value)
{
    const Extension extension(X509V3_EXT_conf_nid(nullptr, context, kind, value));
    if (!extension || X509_add_ext(certificate, extension.get(), -1) != 1) {
        return problem(std::string("cannot add the extension ") + OBJ_nid2sn(kind) + ": " + openssl_errors());
    }
    return {};
}

/// TCG EK Credential Profile 3.2.9: subjectAltName with manufacturer, model and version of the TPM.
Expected<void> add_tpm_alternative_name(X509 *certificate)
{
    Name name(X509_NAME_new());
    ATTEST_CHECK(add_attribute(name.get(), oid::kTpmManufacturer, "id:42594E00")); // "BYN", in no vendor registry
    ATTEST_CHECK(add_attribute(name.get(), oid::kTpmModel, "Banyan emulated vTPM"));
    ATTEST_CHECK(add_attribute(name.get(), oid::kTpmVersion, "id:00010000"));
    const Owned<GENERAL_NAMES, GENERAL_NAMES_free> names(GENERAL_NAMES_new());
    Owned<GENERAL_NAME, GENERAL_NAME_free> directory(GENERAL_NAME_new());
    GENERAL_NAME_set0_value(directory.get(), GEN_DIRNAME, name.release());
    if (sk_GENERAL_NAME_push(names.get(), directory.get()) <= 0) {
        return problem("out of memory");
    }
    static_cast<void>(directory.release());
    if (X509_add1_ext_i2d(certificate, NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) != 1) {
        return problem("cannot add the alternative name: " + openssl_errors());
    }
    return {};
}

Expected<void> add_extensions(X509 *certificate, X509 *issuer, Role role)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    const auto add = [&](int kind, const char *value) { return add_extension(certificate, &context, kind, value); };
    switch (role) {
    case Role::kRoot:
        ATTEST_CHECK(add(NID_basic_constraints, "critical,CA:TRUE,pathlen:1"));
        ATTEST_CHECK(add(NID_key_usage, "critical,keyCertSign,cRLSign"));
        break;
    case Role::kIntermediate:
        ATTEST_CHECK(add(NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
        ATTEST_CHECK(add(NID_key_usage, "critical,keyCertSign,cRLSign"));
        break;
    case Role::kPlatform:
        ATTEST_CHECK(add(NID_basic_constraints, "critical,CA:FALSE"));
        ATTEST_CHECK(add(NID_key_usage, "critical,digitalSignature"));
        ATTEST_CHECK(add(NID_ext_key_usage, oid::kKpPlatformKey));
        break;
    case Role::kEk: {
        const bool rsa = EVP_PKEY_is_a(X509_get0_pubkey(certificate), "RSA") == 1;
        ATTEST_CHECK(add(NID_basic_constraints, "critical,CA:FALSE"));
        ATTEST_CHECK(add(NID_key_usage, rsa ? "critical,keyEncipherment" : "critical,keyAgreement"));
        ATTEST_CHECK(add(NID_ext_key_usage, oid::kKpEk));
        ATTEST_CHECK(add_tpm_alternative_name(certificate));
        break;
    }
    case Role::kIak:
        ATTEST_CHECK(add(NID_basic_constraints, "critical,CA:FALSE"));
        ATTEST_CHECK(add(NID_key_usage, "critical,digitalSignature"));
        ATTEST_CHECK(add(NID_ext_key_usage, oid::kKpAik));
        ATTEST_CHECK(add_tpm_alternative_name(certificate));
        break;
    }
    ATTEST_CHECK(add(NID_subject_key_identifier, "hash"));
    return add(NID_authority_key_identifier, "keyid:always");
}

} // namespace

Expected<Key> new_signing_key()
{
    Key key(EVP_EC_gen("P-384"));
    if (!key) {
        return problem("cannot make a P-384 key: " + openssl_errors());
    }
    return key;
}

Expected<std::string> private_key_to_pem(EVP_PKEY *key)
{
    const Owned<BIO, BIO_free_all> bio(BIO_new(BIO_s_mem()));
    if (PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
        return problem("cannot write a private key: " + openssl_errors());
    }
    char *data = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &data);
    return std::string(data, static_cast<std::size_t>(size));
}

Expected<Key> private_key_from_pem(View pem)
{
    const Owned<BIO, BIO_free_all> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    // An empty pass phrase instead of a question on the terminal.
    Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, const_cast<char *>("")));
    if (!key) {
        return problem("not a private key in PEM: " + openssl_errors());
    }
    return key;
}

Expected<Certificate> issue(const Subject &subject, Role role, EVP_PKEY *subject_key, const Issuer &issuer)
{
    X509Ptr certificate(X509_new());
    X509 *raw = certificate.get();
    std::array<unsigned char, 16> serial{};
    if (RAND_bytes(serial.data(), static_cast<int>(serial.size())) != 1) {
        return problem("no random numbers for a serial number: " + openssl_errors());
    }
    serial[0] = static_cast<unsigned char>((serial[0] & 0x7f) | 0x40); // positive, and always as long
    const Owned<BIGNUM, BN_free> number(BN_bin2bn(serial.data(), static_cast<int>(serial.size()), nullptr));
    bool ok = X509_set_version(raw, X509_VERSION_3) == 1 &&
              BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(raw)) != nullptr &&
              X509_gmtime_adj(X509_getm_notBefore(raw), -60L * 60 * 24) != nullptr && // clocks differ
              ASN1_TIME_set_string_X509(X509_getm_notAfter(raw), kNeverExpires) == 1 &&
              X509_set_pubkey(raw, subject_key) == 1;
    ATTEST_CHECK(fill_subject(X509_get_subject_name(raw), subject));
    X509 *parent = issuer.certificate != nullptr ? issuer.certificate->get() : raw;
    ok = ok && X509_set_issuer_name(raw, X509_get_subject_name(parent)) == 1;
    if (!ok) {
        return problem("cannot make a certificate: " + openssl_errors());
    }
    ATTEST_CHECK(add_extensions(raw, parent, role));
    if (X509_sign(raw, issuer.key, EVP_sha384()) == 0) {
        return problem("cannot sign a certificate: " + openssl_errors());
    }
    unsigned char *der = nullptr;
    const int size = i2d_X509(raw, &der);
    if (size <= 0) {
        return problem("cannot write a certificate: " + openssl_errors());
    }
    const Bytes bytes(der, der + size);
    OPENSSL_free(der);
    return Certificate::from_der(bytes);
}

namespace {

Expected<std::pair<Key, Certificate>> new_intermediate(const Certificate &root, EVP_PKEY *root_key,
                                                       const std::string &platform_class)
{
    ATTEST_TRY(Key key, new_signing_key());
    ATTEST_TRY(Certificate intermediate, issue({"Banyan emulator CA, class " + platform_class, platform_class, {}},
                                               Role::kIntermediate, key.get(), {&root, root_key}));
    return std::pair(std::move(key), std::move(intermediate));
}

} // namespace

Expected<Manufacturer> new_manufacturer(std::string_view platform_class)
{
    const std::string cls(platform_class);
    ATTEST_TRY(Key root_key, new_signing_key());
    ATTEST_TRY(Certificate root, issue({"Banyan emulator root: keys lie in files, not in hardware", "", {}},
                                       Role::kRoot, root_key.get(), {nullptr, root_key.get()}));
    ATTEST_TRY(auto authority, new_intermediate(root, root_key.get(), cls));
    return Manufacturer{std::move(root_key), std::move(root), std::move(authority.first), std::move(authority.second)};
}

Expected<void> add_intermediate(Manufacturer &manufacturer, std::string_view platform_class)
{
    ATTEST_TRY(auto authority,
               new_intermediate(manufacturer.root, manufacturer.root_key.get(), std::string(platform_class)));
    manufacturer.intermediate_key = std::move(authority.first);
    manufacturer.intermediate = std::move(authority.second);
    return {};
}

Expected<Bytes> sign_es384(EVP_PKEY *key, View data)
{
    const Owned<EVP_MD_CTX, EVP_MD_CTX_free> context(EVP_MD_CTX_new());
    std::size_t size = 0;
    Bytes der;
    bool ok = context && EVP_DigestSignInit(context.get(), nullptr, EVP_sha384(), nullptr, key) == 1 &&
              EVP_DigestSign(context.get(), nullptr, &size, data.data(), data.size()) == 1;
    der.resize(size);
    ok = ok && EVP_DigestSign(context.get(), der.data(), &size, data.data(), data.size()) == 1;
    const unsigned char *at = der.data();
    const Owned<ECDSA_SIG, ECDSA_SIG_free> parts(ok ? d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size)) : nullptr);
    Bytes signature(2 * kOrderBytes);
    if (!parts || BN_bn2binpad(ECDSA_SIG_get0_r(parts.get()), signature.data(), kOrderBytes) < 0 ||
        BN_bn2binpad(ECDSA_SIG_get0_s(parts.get()), signature.data() + kOrderBytes, kOrderBytes) < 0) {
        return problem("cannot sign: " + openssl_errors());
    }
    return signature;
}

bool verify_es384(EVP_PKEY *key, View data, View signature)
{
    bool good = false;
    std::array<char, 32> group{};
    if (signature.size() == 2 * kOrderBytes && EVP_PKEY_is_a(key, "EC") == 1 &&
        EVP_PKEY_get_group_name(key, group.data(), group.size(), nullptr) == 1 &&
        std::string_view(group.data()) == "secp384r1") {
        const Owned<ECDSA_SIG, ECDSA_SIG_free> parts(ECDSA_SIG_new());
        ECDSA_SIG_set0(parts.get(), BN_bin2bn(signature.data(), kOrderBytes, nullptr),
                       BN_bin2bn(signature.data() + kOrderBytes, kOrderBytes, nullptr));
        unsigned char *der = nullptr;
        const int size = i2d_ECDSA_SIG(parts.get(), &der);
        const Owned<EVP_MD_CTX, EVP_MD_CTX_free> context(EVP_MD_CTX_new());
        good = size > 0 && context && EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha384(), nullptr, key) == 1 &&
               EVP_DigestVerify(context.get(), der, static_cast<std::size_t>(size), data.data(), data.size()) == 1;
        OPENSSL_free(der);
    }
    ERR_clear_error();
    return good;
}

} // namespace banyan::attest
