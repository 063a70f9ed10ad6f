/* The structure of CSV text, 64 bytes at a time.
 *
 * `CsvMasks` has a bit for each of 64 bytes, the first byte's lowest. A way to fill it is chosen once, at import:
 * AVX2 where the CPU has it, SSE2 on any other x86-64, 64-bit words elsewhere. All are built where they can be, so
 * that tests compare them. */
#ifndef VELOSTREAM_SIMD_CSV_MASKS_H
#define VELOSTREAM_SIMD_CSV_MASKS_H

#include <stddef.h>
#include <stdint.h>

#include "scan.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

typedef struct {
    uint64_t delimiters;
    uint64_t newlines;
    uint64_t returns;
    uint64_t quotes;
} CsvMasks;

/* Fills `masks` for `blocks` times 64 bytes; whether any of them is not ASCII. */
typedef int (*csv_masks_way)(const uint8_t *at, size_t blocks, uint8_t delimiter, uint8_t quote, CsvMasks *masks);

/* A bit for each byte of `word` that equals `byte`, exact for all of them. */
static inline uint64_t csv_equal(uint64_t word, uint8_t byte)
{
    uint64_t other = word ^ (SCAN_ONES * byte);
    uint64_t zero = ~(((other & ~SCAN_HIGH) + ~SCAN_HIGH) | other) & SCAN_HIGH;
    /* Gathers the high bits: each product lands on a bit of its own in the top byte. */
    return ((zero >> 7) * 0x0102040810204080u) >> 56;
}

static int csv_masks_scalar(const uint8_t *at, size_t blocks, uint8_t delimiter, uint8_t quote, CsvMasks *masks)
{
    uint64_t high = 0;
    for (; blocks; blocks--, masks++) {
        CsvMasks found = {0, 0, 0, 0};
        for (int shift = 0; shift < 64; shift += 8, at += 8) {
            uint64_t word = scan_load(at);
            high |= word;
            found.delimiters |= csv_equal(word, delimiter) << shift;
            found.newlines |= csv_equal(word, '\n') << shift;
            found.returns |= csv_equal(word, '\r') << shift;
            found.quotes |= csv_equal(word, quote) << shift;
        }
        *masks = found;
    }
    return (high & SCAN_HIGH) != 0;
}

#if defined(__SSE2__)
static inline uint64_t csv_equal_sse2(const __m128i *part, char byte)
{
    __m128i wanted = _mm_set1_epi8(byte);
    uint64_t a = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(part[0], wanted));
    uint64_t b = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(part[1], wanted));
    uint64_t c = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(part[2], wanted));
    uint64_t d = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(part[3], wanted));
    return a | b << 16 | c << 32 | d << 48;
}

static int csv_masks_sse2(const uint8_t *at, size_t blocks, uint8_t delimiter, uint8_t quote, CsvMasks *masks)
{
    __m128i high = _mm_setzero_si128();
    for (; blocks; blocks--, masks++, at += 64) {
        __m128i part[4];
        for (int i = 0; i < 4; i++) {
            part[i] = _mm_loadu_si128((const __m128i *)at + i);
            high = _mm_or_si128(high, part[i]);
        }
        masks->delimiters = csv_equal_sse2(part, (char)delimiter);
        masks->newlines = csv_equal_sse2(part, '\n');
        masks->returns = csv_equal_sse2(part, '\r');
        masks->quotes = csv_equal_sse2(part, (char)quote);
    }
    return _mm_movemask_epi8(high) != 0;
}

__attribute__((target("avx2"))) static inline uint64_t csv_equal_avx2(const __m256i *part, char byte)
{
    __m256i wanted = _mm256_set1_epi8(byte);
    uint64_t a = (unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi8(part[0], wanted));
    uint64_t b = (unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi8(part[1], wanted));
    return a | b << 32;
}

__attribute__((target("avx2"))) static int csv_masks_avx2(const uint8_t *at, size_t blocks, uint8_t delimiter,
                                                          uint8_t quote, CsvMasks *masks)
{
    __m256i high = _mm256_setzero_si256();
    for (; blocks; blocks--, masks++, at += 64) {
        __m256i part[2];
        for (int i = 0; i < 2; i++) {
            part[i] = _mm256_loadu_si256((const __m256i *)at + i);
            high = _mm256_or_si256(high, part[i]);
        }
        masks->delimiters = csv_equal_avx2(part, (char)delimiter);
        masks->newlines = csv_equal_avx2(part, '\n');
        masks->returns = csv_equal_avx2(part, '\r');
        masks->quotes = csv_equal_avx2(part, (char)quote);
    }
    return _mm256_movemask_epi8(high) != 0;
}
#endif

/* The way that every CPU of this kind has. */
static csv_masks_way csv_masks_narrow(void)
{
#if defined(__SSE2__)
    return csv_masks_sse2;
#else
    return csv_masks_scalar;
#endif
}

/* The widest way that this CPU has. */
static csv_masks_way csv_masks_best(void)
{
#if defined(__SSE2__)
    if (__builtin_cpu_supports("avx2"))
        return csv_masks_avx2;
#endif
    return csv_masks_narrow();
}

#endif
