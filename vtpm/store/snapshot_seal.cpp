// SPDX-License-Identifier: GPL-2.0-or-later
#include "vtpm/store/snapshot_seal.hpp"

#include <algorithm>
#include <memory>
#include <string_view>
#include <sys/random.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

namespace banyan::vtpm {
namespace {

// One key for one purpose: store.key itself keys the store files.
constexpr std::string_view kPurpose = "banyan vTPM snapshot, version 1";

struct ContextFree {
    void operator()(EVP_CIPHER_CTX *context) const { EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, ContextFree>;

} // namespace

SealKey seal_key_of(const StoreKey &key)
{
    SealKey out{};
    unsigned size = 0;
    HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
         reinterpret_cast<const unsigned char *>(kPurpose.data()), kPurpose.size(), out.data(), &size);
    return out;
}

SnapshotText::~SnapshotText()
{
    for (Bytes *bytes : {&interface, &names, &permanent, &volatile_state}) {
        OPENSSL_cleanse(bytes->data(), bytes->size());
    }
}

Result<Bytes> seal_part(const SealKey &key, SnapshotHead head, const SnapshotText &text)
{
    if (text.interface.size() > kSnapshotInterfaceMax || text.names.size() > kSnapshotNamesMax ||
        text.permanent.size() > kSnapshotPermanentMax || text.volatile_state.size() > kSnapshotVolatileMax) {
        return fail(Errc::kBadArgument);
    }
    head.interface_size = static_cast<std::uint32_t>(text.interface.size());
    head.names_size = static_cast<std::uint32_t>(text.names.size());
    head.permanent_size = static_cast<std::uint32_t>(text.permanent.size());
    head.volatile_size = static_cast<std::uint32_t>(text.volatile_state.size());
    if (::getrandom(head.nonce.data(), head.nonce.size(), 0) != static_cast<ssize_t>(head.nonce.size())) {
        return fail(Errc::kIo);
    }
    Bytes part = write_head(head);
    part.resize(SnapshotHead::kSize + head.text_size() + kSnapshotTagSize);
    const Context context(EVP_CIPHER_CTX_new());
    int size = 0;
    if (!context || EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key.data(), head.nonce.data()) != 1 ||
        EVP_EncryptUpdate(context.get(), nullptr, &size, part.data(), SnapshotHead::kSize) != 1) {
        return fail(Errc::kIo);
    }
    std::uint8_t *at = part.data() + SnapshotHead::kSize;
    for (const Bytes *bytes : {&text.interface, &text.names, &text.permanent, &text.volatile_state}) {
        if (!bytes->empty() &&
            EVP_EncryptUpdate(context.get(), at, &size, bytes->data(), static_cast<int>(bytes->size())) != 1) {
            return fail(Errc::kIo);
        }
        at += bytes->size();
    }
    if (EVP_EncryptFinal_ex(context.get(), at, &size) != 1 ||
        EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kSnapshotTagSize, at) != 1) {
        return fail(Errc::kIo);
    }
    return part;
}

Result<OpenedPart> open_part(const SealKey &key, std::span<const std::uint8_t> part)
{
    OpenedPart opened;
    BANYAN_TRY(opened.head, parse_part(part));
    const SnapshotHead &head = opened.head;
    std::array<std::uint8_t, kSnapshotTagSize> tag{};
    std::copy_n(part.end() - kSnapshotTagSize, kSnapshotTagSize, tag.begin());
    const Context context(EVP_CIPHER_CTX_new());
    int size = 0;
    if (!context || EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key.data(), head.nonce.data()) != 1 ||
        EVP_DecryptUpdate(context.get(), nullptr, &size, part.data(), SnapshotHead::kSize) != 1) {
        return fail(Errc::kIo);
    }
    // Nobody sees a byte of it before the tag held: `opened` is wiped when it is not handed out.
    SnapshotText &text = opened.text;
    text.interface.resize(head.interface_size);
    text.names.resize(head.names_size);
    text.permanent.resize(head.permanent_size);
    text.volatile_state.resize(head.volatile_size);
    const std::uint8_t *at = part.data() + SnapshotHead::kSize;
    for (Bytes *bytes : {&text.interface, &text.names, &text.permanent, &text.volatile_state}) {
        if (!bytes->empty() &&
            EVP_DecryptUpdate(context.get(), bytes->data(), &size, at, static_cast<int>(bytes->size())) != 1) {
            return fail(Errc::kIo);
        }
        at += bytes->size();
    }
    std::uint8_t nothing[16];
    if (EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, kSnapshotTagSize, tag.data()) != 1 ||
        EVP_DecryptFinal_ex(context.get(), nothing, &size) != 1) {
        return fail(Errc::kCorrupt);
    }
    return opened;
}

} // namespace banyan::vtpm
