// SPDX-License-Identifier: GPL-2.0-or-later
#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include "guest/loader/hash/compress.hpp"
#include "guest/loader/hash/digest.hpp"

// OpenSSL is the witness: whatever the length and however the data comes in pieces, the digests are equal.

namespace banyan::loader {
namespace {

std::vector<std::uint8_t> some_bytes(std::size_t count)
{
    std::mt19937 random(static_cast<unsigned>(count));
    std::vector<std::uint8_t> bytes(count);
    for (std::uint8_t &byte : bytes) {
        byte = static_cast<std::uint8_t>(random());
    }
    return bytes;
}

std::vector<std::uint8_t> by_openssl(const EVP_MD *algorithm, Bytes data)
{
    std::vector<std::uint8_t> digest(static_cast<std::size_t>(EVP_MD_get_size(algorithm)));
    EXPECT_EQ(EVP_Digest(data.data(), data.size(), digest.data(), nullptr, algorithm, nullptr), 1);
    return digest;
}

template <typename Array>
std::vector<std::uint8_t> vector_of(const Array &array)
{
    return {array.begin(), array.end()};
}

template <typename H>
std::vector<std::uint8_t> in_pieces(Bytes data, std::size_t piece)
{
    H hash;
    while (!data.empty()) {
        const std::size_t now = std::min(piece, data.size());
        hash.update(data.first(now));
        data = data.subspan(now);
    }
    return vector_of(hash.finish());
}

TEST(LoaderHash, EveryLengthAroundTheBlockSizesIsOpenSsls)
{
    for (std::size_t length = 0; length <= 400; ++length) {
        const auto data = some_bytes(length);
        const Digests digests = digests_of(data);
        ASSERT_EQ(vector_of(digests.sha1), by_openssl(EVP_sha1(), data)) << length;
        ASSERT_EQ(vector_of(digests.sha256), by_openssl(EVP_sha256(), data)) << length;
        ASSERT_EQ(vector_of(digests.sha384), by_openssl(EVP_sha384(), data)) << length;
    }
}

TEST(LoaderHash, AMegabyteAndSomeIsOpenSsls)
{
    const auto data = some_bytes((1 << 20) + 77);
    const Digests digests = digests_of(data);
    EXPECT_EQ(vector_of(digests.sha1), by_openssl(EVP_sha1(), data));
    EXPECT_EQ(vector_of(digests.sha256), by_openssl(EVP_sha256(), data));
    EXPECT_EQ(vector_of(digests.sha384), by_openssl(EVP_sha384(), data));
}

TEST(LoaderHash, PiecesOfAnySizeGiveTheSame)
{
    const auto data = some_bytes(1000);
    for (const std::size_t piece : {1u, 3u, 63u, 64u, 65u, 127u, 128u, 129u, 500u}) {
        ASSERT_EQ(in_pieces<Sha1>(data, piece), by_openssl(EVP_sha1(), data)) << piece;
        ASSERT_EQ(in_pieces<Sha256>(data, piece), by_openssl(EVP_sha256(), data)) << piece;
        ASSERT_EQ(in_pieces<Sha384>(data, piece), by_openssl(EVP_sha384(), data)) << piece;
    }
}

TEST(LoaderHash, TheProcessorsInstructionsAgreeWithThePortableCode)
{
    if (!sha_ni_available()) {
        GTEST_SKIP() << "processor without SHA extensions";
    }
    const auto data = some_bytes(64 * 50);
    for (const std::size_t blocks : {0u, 1u, 2u, 50u}) {
        auto one = Sha1Rules::kInitial;
        auto two = Sha1Rules::kInitial;
        sha1_portable(one.data(), data.data(), blocks);
        sha1_sha_ni(two.data(), data.data(), blocks);
        ASSERT_EQ(one, two) << blocks;
        auto three = Sha256Rules::kInitial;
        auto four = Sha256Rules::kInitial;
        sha256_portable(three.data(), data.data(), blocks);
        sha256_sha_ni(four.data(), data.data(), blocks);
        ASSERT_EQ(three, four) << blocks;
    }
}

TEST(LoaderHash, ThePortableCodeIsOpenSsls) // also where the instructions exist
{
    const auto data = some_bytes(64 * 3);
    auto state = Sha256Rules::kInitial;
    sha256_portable(state.data(), data.data(), 3);
    auto hash = Sha256();
    hash.update(data);
    // One more block of padding leads from the state to the digest.
    std::vector<std::uint8_t> padding(64, 0);
    padding[0] = 0x80;
    padding[62] = 64 * 3 * 8 >> 8;
    padding[63] = static_cast<std::uint8_t>(64 * 3 * 8);
    sha256_portable(state.data(), padding.data(), 1);
    const auto expected = by_openssl(EVP_sha256(), data);
    for (std::size_t i = 0; i < 32; ++i) {
        ASSERT_EQ(static_cast<std::uint8_t>(state[i / 4] >> (24 - 8 * (i % 4))), expected[i]);
    }
}

} // namespace
} // namespace banyan::loader
