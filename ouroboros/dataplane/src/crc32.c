#include "crc32.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define POLYNOMIAL 0xedb88320u
#define SLICES 8

static uint32_t table[SLICES][256];
static bool folding; /* the processor has carry-less multiplication */
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
#endif
}

/* Eight octets at a time; `crc` as it is inside, not inverted. */
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

#define FOLDING __attribute__((target("pclmul,sse4.1")))

/* Multiply both halves of an accumulator with powers of x, and add what is so many octets further on. */
FOLDING static inline __m128i fold(__m128i a, __m128i powers, __m128i next)
{
        __m128i low = _mm_clmulepi64_si128(a, powers, 0x00), high = _mm_clmulepi64_si128(a, powers, 0x11);

        return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

FOLDING static inline __m128i load(const uint8_t *at)
{
        return _mm_loadu_si128((const __m128i *)(const void *)at);
}

/*
 * Folding by carry-less multiplication (V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
 * Instruction", 2009), reflected. At least 64 octets, a multiple of 16.
 */
FOLDING static uint32_t by_folding(uint32_t crc, const uint8_t *at, size_t length)
{
        const __m128i by_64 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
        const __m128i by_16 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
        const __m128i to_64 = _mm_set_epi64x(0, 0x163cd6124);
        const __m128i barrett = _mm_set_epi64x(0x1f7011641, 0x1db710641);
        const __m128i low_32 = _mm_set_epi32(0, 0, 0, -1);
        __m128i a[4], t;

        for (int i = 0; i < 4; i++)
                a[i] = load(at + 16 * i);
        a[0] = _mm_xor_si128(a[0], _mm_cvtsi32_si128((int)crc));
        for (at += 64, length -= 64; length >= 64; at += 64, length -= 64)
                for (int i = 0; i < 4; i++)
                        a[i] = fold(a[i], by_64, load(at + 16 * i));
        for (int i = 1; i < 4; i++)
                a[0] = fold(a[0], by_16, a[i]);
        for (; length >= 16; at += 16, length -= 16)
                a[0] = fold(a[0], by_16, load(at));
        /* 128 bits to 64, to 32 */
        t = _mm_clmulepi64_si128(a[0], by_16, 0x10);
        a[0] = _mm_xor_si128(_mm_srli_si128(a[0], 8), t);
        t = _mm_srli_si128(a[0], 4);
        a[0] = _mm_xor_si128(_mm_clmulepi64_si128(_mm_and_si128(a[0], low_32), to_64, 0x00), t);
        t = _mm_clmulepi64_si128(_mm_and_si128(a[0], low_32), barrett, 0x10);
        t = _mm_clmulepi64_si128(_mm_and_si128(t, low_32), barrett, 0x00);
        return (uint32_t)_mm_extract_epi32(_mm_xor_si128(a[0], t), 1);
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
        if (folding && length >= 64) {
                size_t whole = length & ~(size_t)15;

                crc = by_folding(crc, at, whole);
                at += whole;
                length -= whole;
        }
#endif
        return ~by_tables(crc, at, length);
}
