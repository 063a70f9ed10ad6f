/* Finding the next byte that matters, 16 bytes at a time.
 *
 * Every function takes 16 readable bytes and gives the number of leading bytes that do not stop the scan, 16
 * when none does. SSE2 belongs to every x86-64 and needs no dispatch at run time; elsewhere the twin below
 * works on two 64-bit words. Both are built everywhere, so that tests compare them. */
#ifndef VELOSTREAM_SIMD_SCAN_H
#define VELOSTREAM_SIMD_SCAN_H

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define SCAN_ONES 0x0101010101010101u
#define SCAN_HIGH 0x8080808080808080u

static inline uint64_t scan_load(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, 8);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* The high bit of every byte of `word` that equals `byte`, exact up to the first one. */
static inline uint64_t scan_equal(uint64_t word, uint8_t byte)
{
    uint64_t other = word ^ (SCAN_ONES * byte);
    return (other - SCAN_ONES) & ~other & SCAN_HIGH;
}

static inline uint64_t text_stops(uint64_t word)
{
    /* A byte below 0x20 borrows from its high bit; bytes with the high bit set stop by themselves. */
    uint64_t control = (word - SCAN_ONES * 0x20) & ~word & SCAN_HIGH;
    return control | (word & SCAN_HIGH) | scan_equal(word, '"') | scan_equal(word, '\\');
}

static inline int text_prefix_scalar(const uint8_t *at)
{
    uint64_t stops = text_stops(scan_load(at));
    if (stops)
        return __builtin_ctzll(stops) >> 3;
    stops = text_stops(scan_load(at + 8));
    return stops ? 8 + (__builtin_ctzll(stops) >> 3) : 16;
}

static inline int field_prefix_scalar(const uint8_t *at, uint8_t delimiter)
{
    uint64_t word = scan_load(at);
    uint64_t stops = scan_equal(word, delimiter) | scan_equal(word, '\n');
    if (stops)
        return __builtin_ctzll(stops) >> 3;
    word = scan_load(at + 8);
    stops = scan_equal(word, delimiter) | scan_equal(word, '\n');
    return stops ? 8 + (__builtin_ctzll(stops) >> 3) : 16;
}

static inline int ascii_prefix_scalar(const uint8_t *at)
{
    uint64_t stops = scan_load(at) & SCAN_HIGH;
    if (stops)
        return __builtin_ctzll(stops) >> 3;
    stops = scan_load(at + 8) & SCAN_HIGH;
    return stops ? 8 + (__builtin_ctzll(stops) >> 3) : 16;
}

/* JSON string text: stops at a quote, a backslash, a control character and any byte that is not ASCII. */
static inline int text_prefix(const uint8_t *at)
{
#if defined(__SSE2__)
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    /* A signed comparison: bytes of 0x80 and more are negative, so it finds them too. */
    __m128i stops = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20));
    stops = _mm_or_si128(stops, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')));
    stops = _mm_or_si128(stops, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
    return __builtin_ctz((unsigned)_mm_movemask_epi8(stops) | 0x10000u);
#else
    return text_prefix_scalar(at);
#endif
}

/* An unquoted CSV field: stops at the delimiter and at a newline. */
static inline int field_prefix(const uint8_t *at, uint8_t delimiter)
{
#if defined(__SSE2__)
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    __m128i stops = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8((char)delimiter)),
                                 _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n')));
    return __builtin_ctz((unsigned)_mm_movemask_epi8(stops) | 0x10000u);
#else
    return field_prefix_scalar(at, delimiter);
#endif
}

/* Text of any kind: stops at a byte that is not ASCII. */
static inline int ascii_prefix(const uint8_t *at)
{
#if defined(__SSE2__)
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    return __builtin_ctz((unsigned)_mm_movemask_epi8(bytes) | 0x10000u);
#else
    return ascii_prefix_scalar(at);
#endif
}

#endif
