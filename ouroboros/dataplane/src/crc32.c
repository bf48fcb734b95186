#include "crc32.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define POLYNOMIAL 0xedb88320u
#define SLICES 8

static uint32_t table[SLICES][256];
static bool folding; /* the processor has carry-less multiplication */
static bool wide;    /* four carry-less multiplications in one instruction */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
        for (uint32_t i = 0; i < 256; i++) {
                uint32_t crc = i;

                for (int bit = 0; bit < 8; bit++)
                        crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
                table[0][i] = crc;
        }
        for (uint32_t i = 0; i < 256; i++)
                for (int s = 1; s < SLICES; s++)
                        table[s][i] = table[s - 1][i] >> 8 ^ table[0][table[s - 1][i] & 0xff];
#if defined(__x86_64__)
        folding = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
        wide = folding && __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw");
#endif
}

/* Eight octets at a time; `crc` is the internal value, not inverted. */
static uint32_t by_tables(uint32_t crc, const uint8_t *at, size_t length)
{
        for (; length >= 8; at += 8, length -= 8) {
                uint64_t word;

                memcpy(&word, at, 8);
                word ^= crc;
                crc = 0;
                for (int s = 0; s < SLICES; s++)
                        crc ^= table[SLICES - 1 - s][word >> (8 * s) & 0xff];
        }
        while (length-- > 0)
                crc = crc >> 8 ^ table[0][(crc ^ *at++) & 0xff];
        return crc;
}

#if defined(__x86_64__)
#include <immintrin.h>

/*
 * Folding by carry-less multiplication (V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using
 * PCLMULQDQ Instruction", 2009), reflected. An accumulator of 128 bits holds the octets read so far; multiplying its
 * halves with powers of x moves it to the octets some distance behind. Several accumulators run in parallel.
 */
#define FOLDING __attribute__((target("pclmul,sse4.1")))
#define WIDE __attribute__((target("avx512f,avx512vl,avx512bw,vpclmulqdq,pclmul,sse4.1")))
#define WIDE_LEAST 256u

/* Powers of x for a distance in octets: (x^(8 distance + 32), x^(8 distance - 32)) mod the polynomial. */
#define BY_16 0x1751997d0, 0x0ccaa009e
#define BY_64 0x154442bd4, 0x1c6e41596
#define BY_256 0x11542778a, 0x1322d1430

FOLDING static inline __m128i powers(int64_t low, int64_t high)
{
        return _mm_set_epi64x(high, low);
}

FOLDING static inline __m128i fold(__m128i a, __m128i by, __m128i next)
{
        __m128i low = _mm_clmulepi64_si128(a, by, 0x00), high = _mm_clmulepi64_si128(a, by, 0x11);

        return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

FOLDING static inline __m128i load(const void *at)
{
        return _mm_loadu_si128(at);
}

/*
 * The last octets, fewer than 16: accumulator and octets together are split again, with 16 octets in the last part;
 * zeros in front of the first change nothing.
 */
FOLDING static __m128i fold_rest(__m128i a, const uint8_t *at, size_t length)
{
        static const uint8_t shifts[48] = {
                0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                0,    1,    2,    3,    4,    5,    6,    7,    8,    9,    10,   11,   12,   13,   14,   15,
                0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
        };
        __m128i down = load(shifts + 16 + length), up = load(shifts + length);
        __m128i last = _mm_blendv_epi8(_mm_shuffle_epi8(a, down), load(at + length - 16), down);

        return fold(_mm_shuffle_epi8(a, up), powers(BY_16), last);
}

/* 128 bits to 64, to 32. */
FOLDING static uint32_t reduce(__m128i a)
{
        const __m128i to_64 = _mm_set_epi64x(0, 0x163cd6124);
        const __m128i barrett = _mm_set_epi64x(0x1f7011641, 0x1db710641);
        const __m128i low_32 = _mm_set_epi32(0, 0, 0, -1);
        __m128i t = _mm_clmulepi64_si128(a, powers(BY_16), 0x10);

        a = _mm_xor_si128(_mm_srli_si128(a, 8), t);
        t = _mm_srli_si128(a, 4);
        a = _mm_xor_si128(_mm_clmulepi64_si128(_mm_and_si128(a, low_32), to_64, 0x00), t);
        t = _mm_clmulepi64_si128(_mm_and_si128(a, low_32), barrett, 0x10);
        t = _mm_clmulepi64_si128(_mm_and_si128(t, low_32), barrett, 0x00);
        return (uint32_t)_mm_extract_epi32(_mm_xor_si128(a, t), 1);
}

FOLDING static uint32_t finalize(__m128i a, const uint8_t *at, size_t length)
{
        for (; length >= 16; at += 16, length -= 16)
                a = fold(a, powers(BY_16), load(at));
        return reduce(length > 0 ? fold_rest(a, at, length) : a);
}

/* At least 16 octets. */
FOLDING static uint32_t by_folding(uint32_t crc, const uint8_t *at, size_t length)
{
        __m128i a[4] = {_mm_xor_si128(load(at), _mm_cvtsi32_si128((int)crc))};

        if (length < 64)
                return finalize(a[0], at + 16, length - 16);
        for (int i = 1; i < 4; i++)
                a[i] = load(at + 16 * i);
        for (at += 64, length -= 64; length >= 64; at += 64, length -= 64)
                for (int i = 0; i < 4; i++)
                        a[i] = fold(a[i], powers(BY_64), load(at + 16 * i));
        for (int i = 1; i < 4; i++)
                a[0] = fold(a[0], powers(BY_16), a[i]);
        return finalize(a[0], at, length);
}

WIDE static inline __m512i wide_fold(__m512i a, __m128i by, __m512i next)
{
        __m512i all = _mm512_broadcast_i32x4(by);

        return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(a, all, 0x00), _mm512_clmulepi64_epi128(a, all, 0x11),
                                         next, 0x96);
}

/* At least WIDE_LEAST octets: sixteen accumulators. */
WIDE static uint32_t by_wide_folding(uint32_t crc, const uint8_t *at, size_t length)
{
        __m512i a[4];
        __m128i lane[4];

        for (int i = 0; i < 4; i++)
                a[i] = _mm512_loadu_si512(at + 64 * i);
        a[0] = _mm512_xor_si512(a[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)crc)));
        for (at += 256, length -= 256; length >= 256; at += 256, length -= 256)
                for (int i = 0; i < 4; i++)
                        a[i] = wide_fold(a[i], powers(BY_256), _mm512_loadu_si512(at + 64 * i));
        for (int i = 1; i < 4; i++)
                a[0] = wide_fold(a[0], powers(BY_64), a[i]);
        for (; length >= 64; at += 64, length -= 64)
                a[0] = wide_fold(a[0], powers(BY_64), _mm512_loadu_si512(at));
        _mm512_storeu_si512(lane, a[0]);
        for (int i = 1; i < 4; i++)
                lane[0] = fold(lane[0], powers(BY_16), lane[i]);
        return finalize(lane[0], at, length);
}
#endif

uint32_t crc32_tables(uint32_t crc, const void *data, size_t length)
{
        pthread_once(&once, make_tables);
        return ~by_tables(~crc, data, length);
}

uint32_t crc32_of(uint32_t crc, const void *data, size_t length)
{
        const uint8_t *at = data;

        pthread_once(&once, make_tables);
        crc = ~crc;
#if defined(__x86_64__)
        if (wide && length >= WIDE_LEAST)
                return ~by_wide_folding(crc, at, length);
        if (folding && length >= 16)
                return ~by_folding(crc, at, length);
#endif
        return ~by_tables(crc, at, length);
}
