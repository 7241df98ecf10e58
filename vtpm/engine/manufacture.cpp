// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/engine/manufacture.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>
#include <tss2/tss2_mu.h>
#include <tss2/tss2_tpm2_types.h>

#include "vtpm/chip/pcr_banks.hpp"
#include "vtpm/chip/tpm_header.hpp"
#include "vtpm/engine/banks.hpp"
#include "vtpm/engine/tpm_life.hpp"

namespace banyan::vtpm {
namespace {

constexpr std::size_t kNvChunk = 1024; // TPM2_PT_NV_BUFFER_MAX of libtpms

// TCG EK Credential Profile 2.5, B.3.3: PolicySecret(TPM_RH_ENDORSEMENT), SHA-256 (templates L-1, L-2)
constexpr std::array<std::uint8_t, 32> kPolicyA256{0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc,
                                                   0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52,
                                                   0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa};
// B.6.5: PolicyB, SHA-384 (template H-3)
constexpr std::array<std::uint8_t, 48> kPolicyB384{
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a,
    0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca,
    0xcb, 0x47, 0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12};

template <auto Free>
struct Releaser {
    template <typename T>
    void operator()(T *what) const
    {
        Free(what);
    }
};

/// A buffer that tss2-mu marshals into.
class Writer {
public:
    template <typename Marshal, typename Value>
    Writer &put(Marshal marshal, const Value &value)
    {
        good_ = good_ && marshal(value, bytes_.data(), bytes_.size(), &used_) == TSS2_RC_SUCCESS;
        return *this;
    }
    Writer &u16(std::uint16_t value) { return put(Tss2_MU_UINT16_Marshal, value); }
    Writer &u32(std::uint32_t value) { return put(Tss2_MU_UINT32_Marshal, value); }
    Writer &raw(std::span<const std::uint8_t> more)
    {
        good_ = good_ && used_ + more.size() <= bytes_.size();
        if (good_) {
            std::copy(more.begin(), more.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(used_));
            used_ += more.size();
        }
        return *this;
    }
    [[nodiscard]] bool good() const { return good_; }
    [[nodiscard]] Bytes take() const { return {bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(used_)}; }

private:
    Bytes bytes_ = Bytes(kTpmBufferSize);
    std::size_t used_ = 0;
    bool good_ = true;
};

class Factory {
public:
    explicit Factory(std::string *why) : why_(why) {}
    Result<Manufactured> make(const Certify &certify, bool ek_p256);

private:
    /// Handles, then one empty-password session for each that needs authorization, then parameters.
    Result<Bytes> command(const char *what, std::uint32_t code, std::span<const std::uint32_t> handles,
                          unsigned sessions, const Bytes &parameters);
    Result<KeyPublic> make_key(const char *what, const TPM2B_PUBLIC &tmpl, std::uint32_t handle);
    Status write_certificate(std::uint32_t index, const Bytes &der);
    Status shut_down();
    tl::unexpected<Errc> complain(const std::string &text, Errc code = Errc::kIo)
    {
        if (why_ != nullptr) {
            *why_ = text;
        }
        return fail(code);
    }

    TpmLife life_;
    std::string *why_;
};

Result<Bytes> Factory::command(const char *what, std::uint32_t code, std::span<const std::uint32_t> handles,
                               unsigned sessions, const Bytes &parameters)
{
    Writer body;
    for (const std::uint32_t handle : handles) {
        body.u32(handle);
    }
    if (sessions != 0) {
        body.u32(9 * sessions);
        for (unsigned i = 0; i < sessions; ++i) {
            body.u32(TPM2_RS_PW).u16(0).raw(std::array<std::uint8_t, 1>{0}).u16(0);
        }
    }
    body.raw(parameters);
    Bytes bytes = plain_command(code, body.take());
    bytes[1] = sessions != 0 ? 0x02 : 0x01;
    const Bytes response = life_.execute(0, bytes);
    if (!body.good() || response_code(response) != 0) {
        char text[96];
        (void)std::snprintf(text, sizeof(text), "%s failed with TPM code 0x%x", what, response_code(response));
        return complain(text);
    }
    return response;
}

TPM2B_PUBLIC ek_rsa_template()
{
    TPM2B_PUBLIC tmpl{};
    TPMT_PUBLIC &area = tmpl.publicArea;
    area.type = TPM2_ALG_RSA;
    area.nameAlg = TPM2_ALG_SHA256;
    area.objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                            TPMA_OBJECT_ADMINWITHPOLICY | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT;
    area.authPolicy.size = kPolicyA256.size();
    std::copy(kPolicyA256.begin(), kPolicyA256.end(), area.authPolicy.buffer);
    area.parameters.rsaDetail.symmetric.algorithm = TPM2_ALG_AES;
    area.parameters.rsaDetail.symmetric.keyBits.aes = 128;
    area.parameters.rsaDetail.symmetric.mode.aes = TPM2_ALG_CFB;
    area.parameters.rsaDetail.scheme.scheme = TPM2_ALG_NULL;
    area.parameters.rsaDetail.keyBits = 2048;
    area.unique.rsa.size = 256;
    return tmpl;
}

/// L-2: as the RSA one, and 32 zero bytes each for x and y.
TPM2B_PUBLIC ek_p256_template()
{
    TPM2B_PUBLIC tmpl{};
    TPMT_PUBLIC &area = tmpl.publicArea;
    area.type = TPM2_ALG_ECC;
    area.nameAlg = TPM2_ALG_SHA256;
    area.objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                            TPMA_OBJECT_ADMINWITHPOLICY | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT;
    area.authPolicy.size = kPolicyA256.size();
    std::copy(kPolicyA256.begin(), kPolicyA256.end(), area.authPolicy.buffer);
    area.parameters.eccDetail.symmetric.algorithm = TPM2_ALG_AES;
    area.parameters.eccDetail.symmetric.keyBits.aes = 128;
    area.parameters.eccDetail.symmetric.mode.aes = TPM2_ALG_CFB;
    area.parameters.eccDetail.scheme.scheme = TPM2_ALG_NULL;
    area.parameters.eccDetail.curveID = TPM2_ECC_NIST_P256;
    area.parameters.eccDetail.kdf.scheme = TPM2_ALG_NULL;
    area.unique.ecc.x.size = 32;
    area.unique.ecc.y.size = 32;
    return tmpl;
}

TPM2B_PUBLIC ek_p384_template()
{
    TPM2B_PUBLIC tmpl{};
    TPMT_PUBLIC &area = tmpl.publicArea;
    area.type = TPM2_ALG_ECC;
    area.nameAlg = TPM2_ALG_SHA384;
    area.objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                            TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_ADMINWITHPOLICY | TPMA_OBJECT_RESTRICTED |
                            TPMA_OBJECT_DECRYPT;
    area.authPolicy.size = kPolicyB384.size();
    std::copy(kPolicyB384.begin(), kPolicyB384.end(), area.authPolicy.buffer);
    area.parameters.eccDetail.symmetric.algorithm = TPM2_ALG_AES;
    area.parameters.eccDetail.symmetric.keyBits.aes = 256;
    area.parameters.eccDetail.symmetric.mode.aes = TPM2_ALG_CFB;
    area.parameters.eccDetail.scheme.scheme = TPM2_ALG_NULL;
    area.parameters.eccDetail.curveID = TPM2_ECC_NIST_P384;
    area.parameters.eccDetail.kdf.scheme = TPM2_ALG_NULL;
    return tmpl;
}

TPM2B_PUBLIC iak_template()
{
    TPM2B_PUBLIC tmpl{};
    TPMT_PUBLIC &area = tmpl.publicArea;
    area.type = TPM2_ALG_ECC;
    area.nameAlg = TPM2_ALG_SHA384;
    area.objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                            TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED |
                            TPMA_OBJECT_SIGN_ENCRYPT;
    area.parameters.eccDetail.symmetric.algorithm = TPM2_ALG_NULL;
    area.parameters.eccDetail.scheme.scheme = TPM2_ALG_ECDSA;
    area.parameters.eccDetail.scheme.details.ecdsa.hashAlg = TPM2_ALG_SHA384;
    area.parameters.eccDetail.curveID = TPM2_ECC_NIST_P384;
    area.parameters.eccDetail.kdf.scheme = TPM2_ALG_NULL;
    return tmpl;
}

std::optional<Bytes> to_spki(const TPMT_PUBLIC &area)
{
    const std::unique_ptr<OSSL_PARAM_BLD, Releaser<OSSL_PARAM_BLD_free>> builder(OSSL_PARAM_BLD_new());
    const bool rsa = area.type == TPM2_ALG_RSA;
    const std::unique_ptr<EVP_PKEY_CTX, Releaser<EVP_PKEY_CTX_free>> context(
        EVP_PKEY_CTX_new_from_name(nullptr, rsa ? "RSA" : "EC", nullptr));
    std::unique_ptr<BIGNUM, Releaser<BN_free>> modulus;
    Bytes point{0x04};
    if (rsa) {
        modulus.reset(BN_bin2bn(area.unique.rsa.buffer, area.unique.rsa.size, nullptr));
        OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus.get());
        OSSL_PARAM_BLD_push_ulong(builder.get(), OSSL_PKEY_PARAM_RSA_E, 65537);
    } else {
        const bool p256 = area.parameters.eccDetail.curveID == TPM2_ECC_NIST_P256;
        const std::size_t coordinate = p256 ? 32 : 48;
        for (const TPM2B_ECC_PARAMETER &half : {area.unique.ecc.x, area.unique.ecc.y}) {
            if (half.size > coordinate) {
                return std::nullopt;
            }
            point.insert(point.end(), coordinate - half.size, 0);
            point.insert(point.end(), half.buffer, half.buffer + half.size);
        }
        OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, p256 ? "P-256" : "P-384", 0);
        OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size());
    }
    const std::unique_ptr<OSSL_PARAM, Releaser<OSSL_PARAM_free>> parameters(OSSL_PARAM_BLD_to_param(builder.get()));
    EVP_PKEY *raw = nullptr;
    if (!context || !parameters || EVP_PKEY_fromdata_init(context.get()) != 1 ||
        EVP_PKEY_fromdata(context.get(), &raw, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1) {
        return std::nullopt;
    }
    const std::unique_ptr<EVP_PKEY, Releaser<EVP_PKEY_free>> key(raw);
    unsigned char *der = nullptr;
    const int size = i2d_PUBKEY(key.get(), &der);
    if (size <= 0) {
        return std::nullopt;
    }
    Bytes spki(der, der + size);
    OPENSSL_free(der);
    return spki;
}

Result<KeyPublic> Factory::make_key(const char *what, const TPM2B_PUBLIC &tmpl, std::uint32_t handle)
{
    const TPM2B_SENSITIVE_CREATE no_secret{};
    const TPML_PCR_SELECTION no_pcrs{};
    Writer parameters;
    parameters.put(Tss2_MU_TPM2B_SENSITIVE_CREATE_Marshal, &no_secret)
        .put(Tss2_MU_TPM2B_PUBLIC_Marshal, &tmpl)
        .u16(0)
        .put(Tss2_MU_TPML_PCR_SELECTION_Marshal, &no_pcrs);
    if (!parameters.good()) {
        return complain(std::string(what) + ": the template does not marshal");
    }
    BANYAN_TRY(const Bytes response, command(what, TPM2_CC_CreatePrimary,
                                             std::array{std::uint32_t{TPM2_RH_ENDORSEMENT}}, 1, parameters.take()));
    std::size_t at = kTpmHeaderSize;
    std::uint32_t object = 0;
    std::uint32_t size = 0;
    TPM2B_PUBLIC area{};
    TPM2B_CREATION_DATA creation{};
    TPM2B_DIGEST digest{};
    TPMT_TK_CREATION ticket{};
    TPM2B_NAME name{};
    const std::uint8_t *data = response.data();
    const std::size_t end = response.size();
    if (Tss2_MU_UINT32_Unmarshal(data, end, &at, &object) != TSS2_RC_SUCCESS ||
        Tss2_MU_UINT32_Unmarshal(data, end, &at, &size) != TSS2_RC_SUCCESS ||
        Tss2_MU_TPM2B_PUBLIC_Unmarshal(data, end, &at, &area) != TSS2_RC_SUCCESS ||
        Tss2_MU_TPM2B_CREATION_DATA_Unmarshal(data, end, &at, &creation) != TSS2_RC_SUCCESS ||
        Tss2_MU_TPM2B_DIGEST_Unmarshal(data, end, &at, &digest) != TSS2_RC_SUCCESS ||
        Tss2_MU_TPMT_TK_CREATION_Unmarshal(data, end, &at, &ticket) != TSS2_RC_SUCCESS ||
        Tss2_MU_TPM2B_NAME_Unmarshal(data, end, &at, &name) != TSS2_RC_SUCCESS) {
        return complain(std::string(what) + ": the TPM's answer does not unmarshal");
    }
    Writer persistent;
    persistent.u32(handle);
    BANYAN_TRY(const Bytes evicted, command("TPM2_EvictControl", TPM2_CC_EvictControl,
                                            std::array{std::uint32_t{TPM2_RH_OWNER}, object}, 1, persistent.take()));
    (void)evicted;
    BANYAN_TRY(const Bytes flushed, command("TPM2_FlushContext", TPM2_CC_FlushContext, std::array{object}, 0, {}));
    (void)flushed;

    KeyPublic key;
    Writer public_area;
    public_area.put(Tss2_MU_TPM2B_PUBLIC_Marshal, &area);
    key.public_area = public_area.take();
    key.name.assign(name.name, name.name + name.size);
    auto spki = to_spki(area.publicArea);
    if (!spki) {
        return complain(std::string(what) + ": the public key does not convert");
    }
    key.spki = std::move(*spki);
    return key;
}

Status Factory::write_certificate(std::uint32_t index, const Bytes &der)
{
    if (der.empty()) {
        return {};
    }
    TPM2B_NV_PUBLIC space{};
    space.nvPublic.nvIndex = index;
    space.nvPublic.nameAlg = TPM2_ALG_SHA256;
    space.nvPublic.attributes = TPMA_NV_PLATFORMCREATE | TPMA_NV_PPREAD | TPMA_NV_OWNERREAD | TPMA_NV_AUTHREAD |
                                TPMA_NV_NO_DA | TPMA_NV_PPWRITE | TPMA_NV_WRITEDEFINE;
    space.nvPublic.dataSize = static_cast<std::uint16_t>(der.size());
    Writer define;
    define.u16(0).put(Tss2_MU_TPM2B_NV_PUBLIC_Marshal, &space);
    const std::array platform{std::uint32_t{TPM2_RH_PLATFORM}};
    BANYAN_TRY(const Bytes defined, command("TPM2_NV_DefineSpace", TPM2_CC_NV_DefineSpace, platform, 1, define.take()));
    (void)defined;
    const std::array target{std::uint32_t{TPM2_RH_PLATFORM}, index};
    for (std::size_t at = 0; at < der.size(); at += kNvChunk) {
        const std::size_t size = std::min(kNvChunk, der.size() - at);
        Writer chunk;
        chunk.u16(static_cast<std::uint16_t>(size)).raw({der.data() + at, size}).u16(static_cast<std::uint16_t>(at));
        BANYAN_TRY(const Bytes written, command("TPM2_NV_Write", TPM2_CC_NV_Write, target, 1, chunk.take()));
        (void)written;
    }
    BANYAN_TRY(const Bytes locked, command("TPM2_NV_WriteLock", TPM2_CC_NV_WriteLock, target, 1, {}));
    (void)locked;
    return {};
}

Status Factory::shut_down()
{
    Writer clear;
    clear.u16(TPM2_SU_CLEAR);
    BANYAN_TRY(const Bytes done, command("TPM2_Shutdown", TPM2_CC_Shutdown, {}, 0, clear.take()));
    (void)done;
    return {};
}

Result<Manufactured> Factory::make(const Certify &certify, bool ek_p256)
{
    if (!life_.begin({}, {}) || !life_.startup_clear()) {
        return complain("libtpms did not start a new TPM");
    }
    if (!allocate_banks(life_, kAllPcrBanks)) {
        return complain("the TPM did not take the PCR banks");
    }
    if (const Status off = shut_down(); !off) {
        return fail(off.error());
    }
    const Bytes blank = life_.permanent(); // the banks count from the next _TPM_Init
    if (!life_.begin(blank, {}) || !life_.startup_clear() || life_.stir() != 0) {
        return complain("libtpms did not start the TPM again");
    }
    Manufactured made;
    BANYAN_TRY(made.publics.ek_rsa, make_key("RSA-2048 EK", ek_rsa_template(), kEkRsaHandle));
    BANYAN_TRY(made.publics.ek_p384, make_key("P-384 EK", ek_p384_template(), kEkP384Handle));
    if (ek_p256) {
        BANYAN_TRY(made.publics.ek_p256, make_key("P-256 EK", ek_p256_template(), kEkP256Handle));
    }
    BANYAN_TRY(made.publics.iak, make_key("IAK", iak_template(), kIakHandle));
    if (certify) {
        auto certificates = certify(made.publics);
        if (!certificates) {
            return complain("the certificates could not be made", certificates.error());
        }
        for (const auto &[index, der] : {std::pair{kEkRsaCertificateIndex, &certificates->ek_rsa},
                                         std::pair{kEkP384CertificateIndex, &certificates->ek_p384},
                                         std::pair{kEkP256CertificateIndex, &certificates->ek_p256},
                                         std::pair{kIakCertificateIndex, &certificates->iak}}) {
            if (const Status written = write_certificate(index, *der); !written) {
                return fail(written.error());
            }
        }
    }
    if (const Status off = shut_down(); !off) {
        return fail(off.error());
    }
    made.permanent = life_.permanent();
    life_.end();
    return made;
}

std::string hex(std::span<const std::uint8_t> bytes)
{
    constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (const std::uint8_t byte : bytes) {
        text += kDigits[byte >> 4];
        text += kDigits[byte & 15];
    }
    return text;
}

} // namespace

Result<Manufactured> manufacture(const Certify &certify, std::string *why, bool ek_p256)
{
    return Factory(why).make(certify, ek_p256);
}

std::string names_json(const Publics &publics)
{
    return names_json(publics.ek_p384.name, publics.iak.name);
}

std::string names_json(std::span<const std::uint8_t> ek, std::span<const std::uint8_t> iak)
{
    return "{\"ek\":\"" + hex(ek) + "\",\"iak\":\"" + hex(iak) + "\"}\n";
}

} // namespace banyan::vtpm
