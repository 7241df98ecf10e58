// SPDX-License-Identifier: GPL-2.0-or-later
#include "attest/reference.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>

#include <openssl/evp.h>

#include "banyan/arch/boot_info.hpp"

namespace banyan::attest {

namespace {

struct FreeContext {
    void operator()(EVP_MD_CTX *context) const { EVP_MD_CTX_free(context); }
};

/// One running digest per bank.
class Hasher {
public:
    Hasher()
    {
        const std::array<const EVP_MD *, 3> kinds{EVP_sha1(), EVP_sha256(), EVP_sha384()};
        for (std::size_t i = 0; i < kinds.size(); ++i) {
            contexts_[i].reset(EVP_MD_CTX_new());
            ok_ = ok_ && contexts_[i] && EVP_DigestInit_ex(contexts_[i].get(), kinds[i], nullptr) == 1;
        }
    }

    void add(std::span<const std::uint8_t> bytes)
    {
        for (auto &context : contexts_) {
            ok_ = ok_ && EVP_DigestUpdate(context.get(), bytes.data(), bytes.size()) == 1;
        }
    }

    Digests finish()
    {
        Digests digests;
        const std::array<std::uint8_t *, 3> out{digests.sha1.data(), digests.sha256.data(), digests.sha384.data()};
        for (std::size_t i = 0; i < out.size(); ++i) {
            ok_ = ok_ && EVP_DigestFinal_ex(contexts_[i].get(), out[i], nullptr) == 1;
        }
        if (!ok_) {
            throw std::bad_alloc(); // the only way these fail: all three are in the default provider
        }
        return digests;
    }

private:
    std::array<std::unique_ptr<EVP_MD_CTX, FreeContext>, 3> contexts_;
    bool ok_ = true;
};

std::string cannot_read(const std::filesystem::path &path, int error)
{
    return "cannot read " + path.string() + ": " + std::strerror(error);
}

} // namespace

Digests digest_bytes(std::span<const std::uint8_t> bytes)
{
    Hasher hasher;
    hasher.add(bytes);
    return hasher.finish();
}

Expected<Digests> digest_file(const std::filesystem::path &path)
{
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) {
        return problem(cannot_read(path, EISDIR));
    }
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        return problem(cannot_read(path, errno != 0 ? errno : EIO));
    }
    Hasher hasher;
    std::vector<char> piece(std::size_t{1} << 18);
    while (file) {
        file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
        hasher.add({reinterpret_cast<const std::uint8_t *>(piece.data()), static_cast<std::size_t>(file.gcount())});
    }
    if (file.bad()) {
        return problem(cannot_read(path, errno != 0 ? errno : EIO));
    }
    return hasher.finish();
}

Expected<std::vector<std::uint8_t>> read_slb_measured(const std::filesystem::path &path)
{
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        return problem(cannot_read(path, errno != 0 ? errno : EIO));
    }
    std::vector<std::uint8_t> bytes(boot::kSlbSize);
    file.read(reinterpret_cast<char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    bytes.resize(static_cast<std::size_t>(std::max<std::streamsize>(file.gcount(), 0)));
    boot::SlbHeader header{};
    if (bytes.size() >= sizeof(header)) {
        std::memcpy(&header, bytes.data(), sizeof(header));
    }
    if (header.measured < sizeof(header) || header.measured > bytes.size() || header.entry >= header.measured) {
        return problem(path.string() + " is not a secure loader block: its header says entry " +
                       std::to_string(header.entry) + ", measured length " + std::to_string(header.measured) +
                       ", and the file has " + std::to_string(bytes.size()) + " bytes");
    }
    bytes.resize(header.measured);
    return bytes;
}

MeasuredItem item_of_bytes(unsigned pcr, std::uint32_t event_type, std::string_view text, std::string source,
                           std::span<const std::uint8_t> bytes)
{
    return {pcr, event_type, std::string(text), std::move(source), digest_bytes(bytes)};
}

Expected<MeasuredItem> item_of_file(unsigned pcr, std::uint32_t event_type, std::string_view text,
                                    const std::filesystem::path &path)
{
    auto digests = digest_file(path);
    if (!digests) {
        return problem(std::move(digests.error()));
    }
    return MeasuredItem{pcr, event_type, std::string(text), path.string(), *digests};
}

} // namespace banyan::attest
