// SPDX-License-Identifier: GPL-2.0-or-later
#include "guest/loader/hash/compress.hpp"
#include "guest/loader/hash/digest.hpp"
#include "guest/loader/hash/words.hpp"

// FIPS 180-4, 6.2.2. Eight rounds a step: after eight the working variables are back in their places, so none is moved.

namespace banyan::loader {
namespace {

using Word = std::uint32_t;

inline void round(Word a, Word b, Word c, Word &d, Word e, Word f, Word g, Word &h, Word kw)
{
    h += (std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25)) + (g ^ (e & (f ^ g))) + kw;
    d += h;
    h += (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) | (c & (a | b)));
}

inline Word schedule(const Word *w)
{
    const Word w15 = w[-15];
    const Word w2 = w[-2];
    return (std::rotr(w2, 17) ^ std::rotr(w2, 19) ^ (w2 >> 10)) + w[-7] +
           (std::rotr(w15, 7) ^ std::rotr(w15, 18) ^ (w15 >> 3)) + w[-16];
}

} // namespace

void Sha256Rules::compress(Word *state, const std::uint8_t *blocks, std::size_t count)
{
    (sha_ni_available() ? sha256_sha_ni : sha256_portable)(state, blocks, count);
}

void sha256_portable(Word *state, const std::uint8_t *blocks, std::size_t count)
{
    Word w[64];
    for (; count != 0; --count, blocks += Sha256Rules::kBlock) {
        for (unsigned t = 0; t < 16; ++t) {
            w[t] = big_endian32(blocks + sizeof(Word) * t);
        }
        for (unsigned t = 16; t < 64; ++t) {
            w[t] = schedule(w + t);
        }
        Word a = state[0], b = state[1], c = state[2], d = state[3];
        Word e = state[4], f = state[5], g = state[6], h = state[7];
        for (unsigned t = 0; t < 64; t += 8) {
            round(a, b, c, d, e, f, g, h, kSha256Round[t] + w[t]);
            round(h, a, b, c, d, e, f, g, kSha256Round[t + 1] + w[t + 1]);
            round(g, h, a, b, c, d, e, f, kSha256Round[t + 2] + w[t + 2]);
            round(f, g, h, a, b, c, d, e, kSha256Round[t + 3] + w[t + 3]);
            round(e, f, g, h, a, b, c, d, kSha256Round[t + 4] + w[t + 4]);
            round(d, e, f, g, h, a, b, c, kSha256Round[t + 5] + w[t + 5]);
            round(c, d, e, f, g, h, a, b, kSha256Round[t + 6] + w[t + 6]);
            round(b, c, d, e, f, g, h, a, kSha256Round[t + 7] + w[t + 7]);
        }
        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
        state[4] += e;
        state[5] += f;
        state[6] += g;
        state[7] += h;
    }
}

} // namespace banyan::loader
