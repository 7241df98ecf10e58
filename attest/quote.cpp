// SPDX-License-Identifier: GPL-2.0-or-later
#include "attest/quote.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <limits>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <tss2/tss2_mu.h>

#include "attest/templates.hpp"

namespace banyan::attest {

namespace {

static_assert(std::endian::native == std::endian::little, "the PCR file is little-endian");

constexpr std::size_t kCoordinate = 48; // P-384

/// tss2-mu prints a line on standard error for each input that it refuses; the caller says it better.
void keep_tss2_quiet()
{
    static const int done = ::setenv("TSS2_LOG", "all+NONE", 0); // read once, at its first line
    static_cast<void>(done);
}

Expected<PcrSelections> selections_of(const TPML_PCR_SELECTION &list)
{
    PcrSelections out;
    if (list.count > TPM2_NUM_PCR_BANKS) {
        return problem("it selects " + std::to_string(list.count) + " banks");
    }
    for (std::uint32_t i = 0; i < list.count; ++i) {
        const TPMS_PCR_SELECTION &one = list.pcrSelections[i];
        if (!is_bank(one.hash) || one.sizeofSelect > TPM2_PCR_SELECT_MAX) {
            return problem("it selects a bank that there is not: algorithm " + std::to_string(one.hash));
        }
        PcrSelection selection{static_cast<Bank>(one.hash), 0};
        for (unsigned byte = 0; byte < one.sizeofSelect; ++byte) {
            selection.mask |= static_cast<std::uint32_t>(one.pcrSelect[byte]) << (8 * byte);
        }
        if ((selection.mask >> kPcrCount) != 0) {
            return problem("it selects a PCR above 23");
        }
        const auto same = [&](const PcrSelection &other) { return other.bank == selection.bank; };
        if (std::ranges::any_of(out, same)) {
            return problem(std::string("it selects the bank ") + name_of(selection.bank) + " twice");
        }
        out.push_back(selection);
    }
    return out;
}

Bytes bytes_of(const std::uint8_t *data, std::size_t size)
{
    return {data, data + size};
}

/// Name of an ECC P-384 key: nameAlg || H(TPMT_PUBLIC). Part 1, 16.
Expected<Bytes> name_by_template(EVP_PKEY *key, const KeyTemplate &shape)
{
    std::array<char, 32> group{};
    BIGNUM *x = nullptr;
    BIGNUM *y = nullptr;
    TPMT_PUBLIC area{};
    area.type = TPM2_ALG_ECC;
    area.nameAlg = TPM2_ALG_SHA384;
    area.objectAttributes = shape.attributes;
    area.authPolicy.size = static_cast<std::uint16_t>(shape.policy.size());
    std::copy(shape.policy.begin(), shape.policy.end(), area.authPolicy.buffer);
    TPMS_ECC_PARMS &parameters = area.parameters.eccDetail;
    parameters.symmetric.algorithm = TPM2_ALG_NULL;
    parameters.scheme.scheme = TPM2_ALG_NULL;
    if (shape.signs) {
        parameters.scheme.scheme = TPM2_ALG_ECDSA;
        parameters.scheme.details.ecdsa.hashAlg = TPM2_ALG_SHA384;
    } else {
        parameters.symmetric.algorithm = TPM2_ALG_AES;
        parameters.symmetric.keyBits.aes = 256;
        parameters.symmetric.mode.aes = TPM2_ALG_CFB;
    }
    parameters.curveID = TPM2_ECC_NIST_P384;
    parameters.kdf.scheme = TPM2_ALG_NULL;
    area.unique.ecc.x.size = kCoordinate;
    area.unique.ecc.y.size = kCoordinate;
    const bool point = EVP_PKEY_get_group_name(key, group.data(), group.size(), nullptr) == 1 &&
                       std::string_view(group.data()) == "secp384r1" &&
                       EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_PUB_X, &x) == 1 &&
                       EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_EC_PUB_Y, &y) == 1 &&
                       BN_bn2binpad(x, area.unique.ecc.x.buffer, kCoordinate) > 0 &&
                       BN_bn2binpad(y, area.unique.ecc.y.buffer, kCoordinate) > 0;
    BN_free(x);
    BN_free(y);
    if (!point) {
        static_cast<void>(openssl_errors());
        return problem("the key is not of ECC P-384");
    }
    std::array<std::uint8_t, sizeof(TPMT_PUBLIC)> marshalled{};
    std::size_t size = 0;
    if (Tss2_MU_TPMT_PUBLIC_Marshal(&area, marshalled.data(), marshalled.size(), &size) != TSS2_RC_SUCCESS) {
        return problem("cannot marshal the public area of the key");
    }
    const Bytes digest = hash(Bank::kSha384, View(marshalled).first(size));
    Bytes name{static_cast<std::uint8_t>(TPM2_ALG_SHA384 >> 8), static_cast<std::uint8_t>(TPM2_ALG_SHA384 & 0xff)};
    name.insert(name.end(), digest.begin(), digest.end());
    return name;
}

} // namespace

std::string describe(const PcrSelections &selections)
{
    std::string text;
    for (const PcrSelection &selection : selections) {
        const std::uint32_t mask = selection.mask;
        const std::array<std::uint8_t, 3> bytes{static_cast<std::uint8_t>(mask >> 16),
                                                static_cast<std::uint8_t>(mask >> 8), static_cast<std::uint8_t>(mask)};
        text += std::string(text.empty() ? "" : ", ") + name_of(selection.bank) + ":0x" + to_hex(bytes);
    }
    return text.empty() ? "nothing" : text;
}

Expected<Quote> parse_quote(View message)
{
    keep_tss2_quiet();
    TPMS_ATTEST attest{};
    std::size_t offset = 0;
    if (message.empty() ||
        Tss2_MU_TPMS_ATTEST_Unmarshal(message.data(), message.size(), &offset, &attest) != TSS2_RC_SUCCESS) {
        return problem("not a TPMS_ATTEST");
    }
    if (offset != message.size()) {
        return problem("bytes after the end of the TPMS_ATTEST");
    }
    if (attest.magic != TPM2_GENERATED_VALUE) {
        return problem("its magic is not TPM_GENERATED_VALUE: a TPM did not make it");
    }
    if (attest.type != TPM2_ST_ATTEST_QUOTE) {
        return problem("its type is " + std::to_string(attest.type) + ", not TPM_ST_ATTEST_QUOTE");
    }
    const TPMS_QUOTE_INFO &info = attest.attested.quote;
    Quote quote;
    quote.extra_data = bytes_of(attest.extraData.buffer, attest.extraData.size);
    quote.reset_count = attest.clockInfo.resetCount;
    quote.restart_count = attest.clockInfo.restartCount;
    quote.safe = attest.clockInfo.safe == TPM2_YES;
    quote.firmware_version = attest.firmwareVersion;
    ATTEST_TRY(quote.selections, selections_of(info.pcrSelect));
    quote.pcr_digest = bytes_of(info.pcrDigest.buffer, info.pcrDigest.size);
    return quote;
}

Expected<Bytes> parse_signature(View signature)
{
    keep_tss2_quiet();
    TPMT_SIGNATURE parsed{};
    std::size_t offset = 0;
    if (signature.empty() ||
        Tss2_MU_TPMT_SIGNATURE_Unmarshal(signature.data(), signature.size(), &offset, &parsed) != TSS2_RC_SUCCESS) {
        return problem("not a TPMT_SIGNATURE");
    }
    if (offset != signature.size()) {
        return problem("bytes after the end of the TPMT_SIGNATURE");
    }
    const TPMS_SIGNATURE_ECC &ecdsa = parsed.signature.ecdsa;
    if (parsed.sigAlg != TPM2_ALG_ECDSA || ecdsa.hash != TPM2_ALG_SHA384) {
        return problem("its algorithm is " + std::to_string(parsed.sigAlg) + ", expected ECDSA with SHA-384");
    }
    if (ecdsa.signatureR.size > kCoordinate || ecdsa.signatureS.size > kCoordinate) {
        return problem("its numbers are longer than those of P-384");
    }
    Bytes both(2 * kCoordinate);
    std::memcpy(both.data() + kCoordinate - ecdsa.signatureR.size, ecdsa.signatureR.buffer, ecdsa.signatureR.size);
    std::memcpy(both.data() + 2 * kCoordinate - ecdsa.signatureS.size, ecdsa.signatureS.buffer, ecdsa.signatureS.size);
    return both;
}

Bytes PcrFile::concatenated() const
{
    Bytes all;
    for (const PcrSelection &selection : selections) {
        for (unsigned pcr = 0; pcr < kPcrCount; ++pcr) {
            if ((selection.mask >> pcr & 1) != 0) {
                const Bytes &value = values.at(selection.bank).at(pcr);
                all.insert(all.end(), value.begin(), value.end());
            }
        }
    }
    return all;
}

// tpm2-tools 5.4, lib/pcr.c, pcr_fwrite_serialized(): TPML_PCR_SELECTION as it lies in memory, the number of digest
// lists, then each TPML_DIGEST as it lies in memory; integers little-endian.
static_assert(sizeof(TPML_PCR_SELECTION) == 132);
static_assert(sizeof(TPML_DIGEST) == 532);

Expected<PcrFile> parse_pcr_file(View bytes)
{
    PcrFile file;
    TPML_PCR_SELECTION list{};
    std::uint32_t count = 0;
    constexpr std::size_t kHead = sizeof(list) + sizeof(count);
    constexpr std::size_t kListsMax = 16;
    if (bytes.size() < kHead) {
        return problem("it is too short for PCR values as tpm2_quote writes them");
    }
    std::memcpy(&list, bytes.data(), sizeof(list));
    std::memcpy(&count, bytes.data() + sizeof(list), sizeof(count));
    if (count > kListsMax || bytes.size() != kHead + count * sizeof(TPML_DIGEST)) {
        return problem("it has " + std::to_string(bytes.size()) + " bytes for " + std::to_string(count) +
                       " lists of digests");
    }
    ATTEST_TRY(file.selections, selections_of(list));

    std::vector<Bytes> digests;
    for (std::uint32_t i = 0; i < count; ++i) {
        TPML_DIGEST one{};
        std::memcpy(&one, bytes.data() + kHead + i * sizeof(one), sizeof(one));
        if (one.count > std::size(one.digests)) {
            return problem("a list of " + std::to_string(one.count) + " digests");
        }
        for (std::uint32_t k = 0; k < one.count; ++k) {
            const TPM2B_DIGEST &digest = one.digests[k];
            if (digest.size > sizeof(digest.buffer)) {
                return problem("a digest of " + std::to_string(digest.size) + " bytes");
            }
            digests.push_back(bytes_of(digest.buffer, digest.size));
        }
    }
    std::size_t next = 0;
    for (const PcrSelection &selection : file.selections) {
        PcrBank &bank = file.values[selection.bank];
        for (unsigned pcr = 0; pcr < kPcrCount; ++pcr) {
            if ((selection.mask >> pcr & 1) == 0) {
                continue;
            }
            if (next == digests.size() || digests[next].size() != digest_size(selection.bank)) {
                return problem(std::string("it has no value of the right length for PCR ") + std::to_string(pcr) +
                               " of " + name_of(selection.bank));
            }
            bank.at(pcr) = std::move(digests[next++]);
        }
    }
    if (next != digests.size()) {
        return problem("it has more values than its selection");
    }
    return file;
}

Bytes encode_pcr_file(const PcrFile &file)
{
    TPML_PCR_SELECTION list{};
    std::vector<TPML_DIGEST> lists;
    list.count = static_cast<std::uint32_t>(file.selections.size());
    for (std::size_t i = 0; i < file.selections.size(); ++i) {
        const PcrSelection &selection = file.selections[i];
        list.pcrSelections[i].hash = static_cast<std::uint16_t>(selection.bank);
        list.pcrSelections[i].sizeofSelect = 3;
        std::memcpy(list.pcrSelections[i].pcrSelect, &selection.mask, 3);
        for (unsigned pcr = 0; pcr < kPcrCount; ++pcr) {
            if ((selection.mask >> pcr & 1) == 0) {
                continue;
            }
            if (lists.empty() || lists.back().count == std::size(lists.back().digests)) {
                lists.emplace_back();
            }
            const Bytes &value = file.values.at(selection.bank).at(pcr);
            TPM2B_DIGEST &digest = lists.back().digests[lists.back().count++];
            digest.size = static_cast<std::uint16_t>(value.size());
            std::copy(value.begin(), value.end(), digest.buffer);
        }
    }
    const auto count = static_cast<std::uint32_t>(lists.size());
    Bytes out(sizeof(list) + sizeof(count) + lists.size() * sizeof(TPML_DIGEST));
    std::memcpy(out.data(), &list, sizeof(list));
    std::memcpy(out.data() + sizeof(list), &count, sizeof(count));
    if (!lists.empty()) {
        std::memcpy(out.data() + sizeof(list) + sizeof(count), lists.data(), lists.size() * sizeof(TPML_DIGEST));
    }
    return out;
}

Expected<Bytes> ek_name(EVP_PKEY *key)
{
    return name_by_template(key, kEkP384Template);
}

Expected<Bytes> iak_name(EVP_PKEY *key)
{
    return name_by_template(key, kIakTemplate);
}

} // namespace banyan::attest
