// SPDX-License-Identifier: GPL-2.0-or-later
#include <immintrin.h>

#include "guest/loader/hash/compress.hpp"
#include "guest/loader/hash/digest.hpp"

// Intel SDM volume 2, SHA1RNDS4, SHA256RNDS2 and their neighbours. This file alone is built with vector registers.

namespace banyan::loader {
namespace {

struct Leaf {
    std::uint32_t eax, ebx, ecx, edx;
};

Leaf cpuid(std::uint32_t leaf)
{
    Leaf result{leaf, 0, 0, 0};
    asm volatile("cpuid" : "+a"(result.eax), "=b"(result.ebx), "+c"(result.ecx), "=d"(result.edx));
    return result;
}

__m128i load(const void *from)
{
    return _mm_loadu_si128(static_cast<const __m128i *>(from));
}

void store(void *to, __m128i value)
{
    _mm_storeu_si128(static_cast<__m128i *>(to), value);
}

template <int Kind>
void five_groups(__m128i &abcd, __m128i &e, __m128i (&m)[4])
{
#pragma GCC unroll 5
    for (unsigned i = 5 * Kind; i < 5 * Kind + 5; ++i) {
        const __m128i before = abcd;
        e = i == 0 ? _mm_add_epi32(e, m[0]) : _mm_sha1nexte_epu32(e, m[i % 4]);
        abcd = _mm_sha1rnds4_epu32(abcd, e, Kind);
        e = before;
        if (i < 16) {
            m[i % 4] = _mm_sha1msg2_epu32(_mm_xor_si128(_mm_sha1msg1_epu32(m[i % 4], m[(i + 1) % 4]), m[(i + 2) % 4]),
                                          m[(i + 3) % 4]);
        }
    }
}

} // namespace

bool sha_ni_available()
{
    constexpr std::uint32_t kSse = 1u << 9 | 1u << 19; // leaf 1 ECX: SSSE3, SSE4.1
    constexpr std::uint32_t kSha = 1u << 29;           // leaf 7 EBX
    return cpuid(0).eax >= 7 && (cpuid(1).ecx & kSse) == kSse && (cpuid(7).ebx & kSha) != 0;
}

void sha1_sha_ni(std::uint32_t *state, const std::uint8_t *blocks, std::size_t count)
{
    const __m128i reverse = _mm_set_epi64x(0x0001020304050607, 0x08090A0B0C0D0E0F);
    __m128i abcd = _mm_shuffle_epi32(load(state), 0x1B);
    __m128i e = _mm_set_epi32(static_cast<int>(state[4]), 0, 0, 0);
    for (; count != 0; --count, blocks += Sha1Rules::kBlock) {
        const __m128i abcd_before = abcd;
        const __m128i e_before = e;
        __m128i m[4];
        for (unsigned i = 0; i < 4; ++i) {
            m[i] = _mm_shuffle_epi8(load(blocks + 16 * i), reverse);
        }
        five_groups<0>(abcd, e, m);
        five_groups<1>(abcd, e, m);
        five_groups<2>(abcd, e, m);
        five_groups<3>(abcd, e, m);
        e = _mm_sha1nexte_epu32(e, e_before);
        abcd = _mm_add_epi32(abcd, abcd_before);
    }
    store(state, _mm_shuffle_epi32(abcd, 0x1B));
    state[4] = static_cast<std::uint32_t>(_mm_extract_epi32(e, 3));
}

void sha256_sha_ni(std::uint32_t *state, const std::uint8_t *blocks, std::size_t count)
{
    const __m128i swap = _mm_set_epi64x(0x0C0D0E0F08090A0B, 0x0405060700010203);
    const __m128i cdab = _mm_shuffle_epi32(load(state), 0xB1);
    const __m128i efgh = _mm_shuffle_epi32(load(state + 4), 0x1B);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8);
    __m128i cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
    for (; count != 0; --count, blocks += Sha256Rules::kBlock) {
        const __m128i abef_before = abef;
        const __m128i cdgh_before = cdgh;
        __m128i m[4];
        for (unsigned i = 0; i < 4; ++i) {
            m[i] = _mm_shuffle_epi8(load(blocks + 16 * i), swap);
        }
#pragma GCC unroll 16
        for (unsigned i = 0; i < 16; ++i) {
            const __m128i kw = _mm_add_epi32(m[i % 4], load(kSha256Round + 4 * i));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, kw);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(kw, 0x0E));
            if (i < 12) {
                const __m128i w7 = _mm_alignr_epi8(m[(i + 3) % 4], m[(i + 2) % 4], 4);
                m[i % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(m[i % 4], m[(i + 1) % 4]), w7),
                                                m[(i + 3) % 4]);
            }
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1B);
    const __m128i dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    store(state, _mm_blend_epi16(feba, dchg, 0xF0));
    store(state + 4, _mm_alignr_epi8(dchg, feba, 8));
}

} // namespace banyan::loader
