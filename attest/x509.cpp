// SPDX-License-Identifier: GPL-2.0-or-later
#include "attest/x509.hpp"

#include <array>
#include <climits>
#include <cstring>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "attest/oids.hpp"

namespace banyan::attest {

namespace {

struct FreeBio {
    void operator()(BIO *bio) const { BIO_free(bio); }
};
using Bio = std::unique_ptr<BIO, FreeBio>;

Bio bio_of(View bytes)
{
    return Bio(BIO_new_mem_buf(bytes.data(), bytes.size() > INT_MAX ? INT_MAX : static_cast<int>(bytes.size())));
}

std::string text_of_bio(BIO *bio)
{
    char *data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    return size > 0 ? std::string(data, static_cast<std::size_t>(size)) : std::string();
}

std::string one_line(const X509_NAME *name)
{
    const Bio bio(BIO_new(BIO_s_mem()));
    X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253 & ~static_cast<unsigned long>(XN_FLAG_DN_REV));
    return text_of_bio(bio.get());
}

Expected<X509Ptr> parse(View der)
{
    const std::uint8_t *at = der.data();
    if (der.empty() || der.size() > LONG_MAX) {
        return problem("not a certificate: no bytes");
    }
    X509Ptr certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
    if (!certificate) {
        return problem("not a DER certificate: " + openssl_errors());
    }
    if (at != der.data() + der.size()) {
        return problem("bytes after the end of the certificate");
    }
    if (X509_get0_pubkey(certificate.get()) == nullptr) {
        return problem("a certificate without a usable public key: " + openssl_errors());
    }
    return certificate;
}

} // namespace

std::string ek_common_name(std::uint32_t instance)
{
    return "vTPM " + std::to_string(instance) + " EK";
}

std::string iak_common_name(std::uint32_t instance)
{
    return "vTPM " + std::to_string(instance) + " IAK";
}

std::string openssl_errors()
{
    std::string text;
    while (const unsigned long code = ERR_get_error()) {
        const char *reason = ERR_reason_error_string(code);
        text += (text.empty() ? "" : ", ") + std::string(reason != nullptr ? reason : "unknown error");
    }
    return text.empty() ? "no reason given" : text;
}

bool holds_private_key(View text)
{
    return text_of(text).find("PRIVATE KEY-----") != std::string_view::npos;
}

Expected<Certificate> Certificate::from_der(View der)
{
    ATTEST_TRY(X509Ptr certificate, parse(der));
    return Certificate(std::move(certificate), Bytes(der.begin(), der.end()));
}

Expected<std::vector<Certificate>> Certificate::list_from_pem(View pem)
{
    if (holds_private_key(pem)) {
        return problem("it holds a private key: only public files belong here");
    }
    constexpr std::size_t kMost = 16;
    std::vector<Certificate> list;
    const Bio bio = bio_of(pem);
    for (;;) {
        char *name = nullptr;
        char *header = nullptr;
        unsigned char *data = nullptr;
        long size = 0;
        if (PEM_read_bio(bio.get(), &name, &header, &data, &size) != 1) {
            const unsigned long last = ERR_peek_last_error();
            const bool ended = ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
            const std::string why = openssl_errors();
            if (!ended) {
                return problem("malformed PEM: " + why);
            }
            break;
        }
        const std::string_view kind = name;
        const bool certificate = kind == PEM_STRING_X509;
        const Bytes der(data, data + size);
        const std::string what = in_quotes(kind);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(data);
        if (!certificate) {
            return problem("a PEM block " + what + " among certificates");
        }
        if (list.size() == kMost) {
            return problem("more than " + std::to_string(kMost) + " certificates");
        }
        ATTEST_TRY(Certificate one, from_der(der));
        list.push_back(std::move(one));
    }
    if (list.empty()) {
        return problem("no certificate in it");
    }
    return list;
}

std::string Certificate::pem() const
{
    const Bio bio(BIO_new(BIO_s_mem()));
    PEM_write_bio_X509(bio.get(), get());
    return text_of_bio(bio.get());
}

std::string Certificate::subject_text() const
{
    return one_line(X509_get_subject_name(get()));
}

std::string Certificate::issuer_text() const
{
    return one_line(X509_get_issuer_name(get()));
}

MachineId Certificate::machine_id() const
{
    return digest_bytes(der_).sha256;
}

Expected<Subject> Certificate::subject() const
{
    const X509_NAME *name = X509_get_subject_name(get());
    Subject subject;
    std::string organization;
    unsigned seen = 0;
    for (int i = 0; i < X509_NAME_entry_count(name); ++i) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        const int attribute = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));
        const ASN1_STRING *data = X509_NAME_ENTRY_get_data(entry);
        const std::string text(reinterpret_cast<const char *>(ASN1_STRING_get0_data(data)),
                               static_cast<std::size_t>(ASN1_STRING_length(data)));
        unsigned bit = 0;
        switch (attribute) {
        case NID_organizationName:
            bit = 1;
            organization = text;
            break;
        case NID_organizationalUnitName:
            bit = 2;
            subject.platform_class = text;
            break;
        case NID_commonName:
            bit = 4;
            subject.common_name = text;
            break;
        case NID_serialNumber: {
            bit = 8;
            const auto id = from_hex(text);
            MachineId machine{};
            if (!id || id->size() != machine.size()) {
                return problem("its serialNumber is " + in_quotes(text) + ", not a machine id");
            }
            std::copy(id->begin(), id->end(), machine.begin());
            subject.machine = machine;
            break;
        }
        default:
            return problem("its subject has an attribute that the profile does not: " + subject_text());
        }
        if ((seen & bit) != 0) {
            return problem("its subject has an attribute twice: " + subject_text());
        }
        seen |= bit;
    }
    if (organization != kOrganization) {
        return problem("its subject's organization is " + in_quotes(organization) + ", expected " +
                       in_quotes(kOrganization));
    }
    return subject;
}

bool Certificate::has_role(Role role) const
{
    const std::uint32_t flags = X509_get_extension_flags(get());
    if ((flags & EXFLAG_INVALID) != 0) {
        return false;
    }
    if (role == Role::kRoot || role == Role::kIntermediate) {
        return (flags & EXFLAG_CA) != 0 && ((flags & EXFLAG_SS) != 0) == (role == Role::kRoot);
    }
    if ((flags & EXFLAG_CA) != 0) {
        return false;
    }
    const char *wanted = role == Role::kPlatform ? oid::kKpPlatformKey : role == Role::kEk ? oid::kKpEk : oid::kKpAik;
    const std::unique_ptr<EXTENDED_KEY_USAGE, decltype(&EXTENDED_KEY_USAGE_free)> usages(
        static_cast<EXTENDED_KEY_USAGE *>(X509_get_ext_d2i(get(), NID_ext_key_usage, nullptr, nullptr)),
        EXTENDED_KEY_USAGE_free);
    if (!usages || sk_ASN1_OBJECT_num(usages.get()) != 1) {
        return false;
    }
    std::array<char, 80> seen{};
    OBJ_obj2txt(seen.data(), static_cast<int>(seen.size()), sk_ASN1_OBJECT_value(usages.get(), 0), 1);
    return std::strcmp(seen.data(), wanted) == 0;
}

Expected<const Certificate *> check_chain(const Certificate &leaf, std::span<const Certificate> intermediates,
                                          std::span<const Certificate> roots)
{
    const std::unique_ptr<X509_STORE, decltype(&X509_STORE_free)> store(X509_STORE_new(), X509_STORE_free);
    const std::unique_ptr<X509_STORE_CTX, decltype(&X509_STORE_CTX_free)> context(X509_STORE_CTX_new(),
                                                                                  X509_STORE_CTX_free);
    const auto free_stack = [](STACK_OF(X509) * stack) { sk_X509_free(stack); };
    const std::unique_ptr<STACK_OF(X509), decltype(free_stack)> untrusted(sk_X509_new_null(), free_stack);
    bool ok = store && context && untrusted;
    for (const Certificate &root : roots) {
        ok = ok && X509_STORE_add_cert(store.get(), root.get()) == 1;
    }
    for (const Certificate &intermediate : intermediates) {
        // Only what says it is an intermediate: an end entity in the list can then not even be tried as an issuer.
        if (intermediate.has_role(Role::kIntermediate)) {
            ok = ok && sk_X509_push(untrusted.get(), intermediate.get()) > 0;
        }
    }
    ok = ok && X509_STORE_set_flags(store.get(), X509_V_FLAG_X509_STRICT) == 1 &&
         X509_STORE_CTX_init(context.get(), store.get(), leaf.get(), untrusted.get()) == 1;
    if (!ok) {
        return problem("OpenSSL could not set up the check of a chain: " + openssl_errors());
    }
    if (X509_verify_cert(context.get()) != 1) {
        const int why = X509_STORE_CTX_get_error(context.get());
        const int depth = X509_STORE_CTX_get_error_depth(context.get());
        X509 *where = X509_STORE_CTX_get_current_cert(context.get());
        std::string text = X509_verify_cert_error_string(why);
        if (where != nullptr) {
            text += " (certificate " + std::to_string(depth) + " of the chain, subject " +
                    one_line(X509_get_subject_name(where)) + ", issuer " + one_line(X509_get_issuer_name(where)) + ")";
        }
        ERR_clear_error();
        return problem(text);
    }
    const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(context.get());
    if (sk_X509_num(chain) != 3) {
        return problem("the chain has " + std::to_string(sk_X509_num(chain)) +
                       " certificates, expected 3: root, intermediate of a class, certificate");
    }
    for (const Certificate &intermediate : intermediates) {
        if (X509_cmp(sk_X509_value(chain, 1), intermediate.get()) == 0) {
            return &intermediate;
        }
    }
    return problem("the issuer is not among the intermediates");
}

Expected<Key> public_key_from_pem(View pem)
{
    if (holds_private_key(pem)) {
        return problem("it holds a private key: only public files belong here");
    }
    const Bio bio = bio_of(pem);
    Key key(PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr));
    if (!key) {
        return problem("not a public key in PEM: " + openssl_errors());
    }
    return key;
}

Expected<Key> public_key_from_der(View der)
{
    const std::uint8_t *at = der.data();
    Key key(der.empty() ? nullptr : d2i_PUBKEY(nullptr, &at, static_cast<long>(der.size())));
    if (!key || at != der.data() + der.size()) {
        return problem("not a public key in DER: " + openssl_errors());
    }
    return key;
}

Expected<std::string> public_key_to_pem(EVP_PKEY *key)
{
    const Bio bio(BIO_new(BIO_s_mem()));
    if (PEM_write_bio_PUBKEY(bio.get(), key) != 1) {
        return problem("cannot write a public key: " + openssl_errors());
    }
    return text_of_bio(bio.get());
}

bool same_key(EVP_PKEY *a, EVP_PKEY *b)
{
    const bool same = EVP_PKEY_eq(a, b) == 1;
    ERR_clear_error();
    return same;
}

} // namespace banyan::attest
