// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/hash/compress.hpp"
#include "guest/loader/hash/digest.hpp"
#include "guest/loader/hash/words.hpp"

// FIPS 180-4, 6.1.2. Five rounds a step: after five the working variables are back in their places, so none is moved.

namespace banyan::loader {
namespace {

struct Choose {
    static constexpr std::uint32_t kConstant = 0x5A827999;
    static std::uint32_t mix(std::uint32_t b, std::uint32_t c, std::uint32_t d) { return d ^ (b & (c ^ d)); }
};
struct Parity1 {
    static constexpr std::uint32_t kConstant = 0x6ED9EBA1;
    static std::uint32_t mix(std::uint32_t b, std::uint32_t c, std::uint32_t d) { return b ^ c ^ d; }
};
struct Majority {
    static constexpr std::uint32_t kConstant = 0x8F1BBCDC;
    static std::uint32_t mix(std::uint32_t b, std::uint32_t c, std::uint32_t d) { return (b & c) | (d & (b | c)); }
};
struct Parity2 {
    static constexpr std::uint32_t kConstant = 0xCA62C1D6;
    static std::uint32_t mix(std::uint32_t b, std::uint32_t c, std::uint32_t d) { return b ^ c ^ d; }
};

template <typename F>
inline void round(std::uint32_t a, std::uint32_t &b, std::uint32_t c, std::uint32_t d, std::uint32_t &e,
                  std::uint32_t w)
{
    e += std::rotl(a, 5) + F::mix(b, c, d) + F::kConstant + w;
    b = std::rotl(b, 30);
}

template <typename F>
inline void twenty(std::uint32_t *s, const std::uint32_t *w)
{
    std::uint32_t a = s[0], b = s[1], c = s[2], d = s[3], e = s[4];
    for (unsigned t = 0; t < 20; t += 5) {
        round<F>(a, b, c, d, e, w[t]);
        round<F>(e, a, b, c, d, w[t + 1]);
        round<F>(d, e, a, b, c, w[t + 2]);
        round<F>(c, d, e, a, b, w[t + 3]);
        round<F>(b, c, d, e, a, w[t + 4]);
    }
    s[0] = a, s[1] = b, s[2] = c, s[3] = d, s[4] = e;
}

} // namespace

void Sha1Rules::compress(Word *state, const std::uint8_t *blocks, std::size_t count)
{
    (sha_ni_available() ? sha1_sha_ni : sha1_portable)(state, blocks, count);
}

void sha1_portable(std::uint32_t *state, const std::uint8_t *blocks, std::size_t count)
{
    std::uint32_t w[80];
    for (; count != 0; --count, blocks += Sha1Rules::kBlock) {
        for (unsigned t = 0; t < 16; ++t) {
            w[t] = big_endian32(blocks + 4 * t);
        }
        for (unsigned t = 16; t < 80; ++t) {
            w[t] = std::rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
        }
        std::uint32_t s[Sha1Rules::kWords] = {state[0], state[1], state[2], state[3], state[4]};
        twenty<Choose>(s, w);
        twenty<Parity1>(s, w + 20);
        twenty<Majority>(s, w + 40);
        twenty<Parity2>(s, w + 60);
        for (unsigned i = 0; i < Sha1Rules::kWords; ++i) {
            state[i] += s[i];
        }
    }
}

} // namespace banyan::loader
