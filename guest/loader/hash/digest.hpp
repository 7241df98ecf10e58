// SPDX-License-Identifier: GPL-2.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

// SHA-1, SHA-256 and SHA-384 (FIPS 180-4), freestanding. Public data only: nothing here hides timing.

namespace banyan::loader {

using Bytes = std::span<const std::uint8_t>;

struct Sha1Rules {
    using Word = std::uint32_t;
    static constexpr std::size_t kBlock = 64;
    static constexpr std::size_t kDigest = 20;
    static constexpr std::size_t kWords = 5;
    static constexpr std::array<Word, kWords> kInitial{0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    static void compress(Word *state, const std::uint8_t *blocks, std::size_t count);
};

struct Sha256Rules {
    using Word = std::uint32_t;
    static constexpr std::size_t kBlock = 64;
    static constexpr std::size_t kDigest = 32;
    static constexpr std::size_t kWords = 8;
    static constexpr std::array<Word, kWords> kInitial{0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                                       0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
    static void compress(Word *state, const std::uint8_t *blocks, std::size_t count);
};

struct Sha384Rules {
    using Word = std::uint64_t;
    static constexpr std::size_t kBlock = 128;
    static constexpr std::size_t kDigest = 48;
    static constexpr std::size_t kWords = 8;
    static constexpr std::array<Word, kWords> kInitial{0xCBBB9D5DC1059ED8, 0x629A292A367CD507, 0x9159015A3070DD17,
                                                       0x152FECD8F70E5939, 0x67332667FFC00B31, 0x8EB44A8768581511,
                                                       0xDB0C2E0D64F98FA7, 0x47B5481DBEFA4FA4};
    static void compress(Word *state, const std::uint8_t *blocks, std::size_t count);
};

/// One running hash. update() any number of times, then finish() once.
template <typename Rules>
class Hash {
public:
    using Digest = std::array<std::uint8_t, Rules::kDigest>;

    void update(Bytes data)
    {
        total_ += data.size();
        if (held_ != 0) {
            while (!data.empty() && held_ != Rules::kBlock) {
                buffer_[held_++] = data.front();
                data = data.subspan(1);
            }
            if (held_ != Rules::kBlock) {
                return;
            }
            Rules::compress(state_.data(), buffer_.data(), 1);
            held_ = 0;
        }
        const std::size_t blocks = data.size() / Rules::kBlock;
        Rules::compress(state_.data(), data.data(), blocks);
        for (const std::uint8_t byte : data.subspan(blocks * Rules::kBlock)) {
            buffer_[held_++] = byte;
        }
    }

    Digest finish()
    {
        constexpr std::size_t kLengthField = 2 * sizeof(typename Rules::Word);
        const std::uint64_t bits = total_ * 8;
        buffer_[held_++] = 0x80;
        if (held_ > Rules::kBlock - kLengthField) {
            pad_to(Rules::kBlock);
            Rules::compress(state_.data(), buffer_.data(), 1);
            held_ = 0;
        }
        pad_to(Rules::kBlock - 8);
        for (unsigned i = 0; i < 8; ++i) {
            buffer_[held_++] = static_cast<std::uint8_t>(bits >> (56 - 8 * i));
        }
        Rules::compress(state_.data(), buffer_.data(), 1);
        Digest digest{};
        for (std::size_t i = 0; i < digest.size(); ++i) {
            constexpr std::size_t kWordSize = sizeof(typename Rules::Word);
            digest[i] = static_cast<std::uint8_t>(state_[i / kWordSize] >> (8 * (kWordSize - 1 - i % kWordSize)));
        }
        return digest;
    }

private:
    void pad_to(std::size_t end)
    {
        while (held_ < end) {
            buffer_[held_++] = 0;
        }
    }

    std::array<typename Rules::Word, Rules::kWords> state_ = Rules::kInitial;
    std::array<std::uint8_t, Rules::kBlock> buffer_{};
    std::size_t held_ = 0;
    std::uint64_t total_ = 0;
};

using Sha1 = Hash<Sha1Rules>;
using Sha256 = Hash<Sha256Rules>;
using Sha384 = Hash<Sha384Rules>;

/// One thing measured, in each bank that the loader extends.
struct Digests {
    Sha1::Digest sha1;
    Sha256::Digest sha256;
    Sha384::Digest sha384;
};

/// Hashes in pieces small enough to stay in a cache between the three passes.
Digests digests_of(Bytes data);

} // namespace banyan::loader
