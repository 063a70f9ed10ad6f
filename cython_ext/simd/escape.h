/* Finding text that must not be written as it is, 16 bytes at a time; see `scan.h` for the form of these. */
#ifndef VELOSTREAM_SIMD_ESCAPE_H
#define VELOSTREAM_SIMD_ESCAPE_H

#include "simd/scan.h"

/* Control characters, the quote and the backslash: what RFC 8259 has escaped in a string. */
static inline uint64_t json_escapes(uint64_t word)
{
    uint64_t control = (word - SCAN_ONES * 0x20) & ~word & SCAN_HIGH;
    return control | scan_equal(word, '"') | scan_equal(word, '\\');
}

static inline int json_plain_scalar(const uint8_t *at)
{
    uint64_t found = json_escapes(scan_load(at));
    if (found)
        return __builtin_ctzll(found) >> 3;
    found = json_escapes(scan_load(at + 8));
    return found ? 8 + (__builtin_ctzll(found) >> 3) : 16;
}

static inline uint64_t csv_marks(uint64_t word, const uint8_t *marks)
{
    return scan_equal(word, marks[0]) | scan_equal(word, marks[1]) | scan_equal(word, '\n') | scan_equal(word, '\r');
}

static inline int csv_plain_scalar(const uint8_t *at, const uint8_t *marks)
{
    uint64_t found = csv_marks(scan_load(at), marks);
    if (found)
        return __builtin_ctzll(found) >> 3;
    found = csv_marks(scan_load(at + 8), marks);
    return found ? 8 + (__builtin_ctzll(found) >> 3) : 16;
}

/* JSON: stops at a byte that is escaped. */
static inline int json_plain(const uint8_t *at)
{
#if defined(__SSE2__)
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    /* Unsigned: bytes of 0x80 and more, parts of longer characters, are no control characters. */
    __m128i found = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
    found = _mm_or_si128(found, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')));
    found = _mm_or_si128(found, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
    return __builtin_ctz((unsigned)_mm_movemask_epi8(found) | 0x10000u);
#else
    return json_plain_scalar(at);
#endif
}

/* CSV: stops at a line break and at the delimiter and the quote, which are `marks`. */
static inline int csv_plain(const uint8_t *at, const uint8_t *marks)
{
#if defined(__SSE2__)
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    __m128i found = _mm_cmpeq_epi8(bytes, _mm_set1_epi8((char)marks[0]));
    found = _mm_or_si128(found, _mm_cmpeq_epi8(bytes, _mm_set1_epi8((char)marks[1])));
    found = _mm_or_si128(found, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\n')));
    found = _mm_or_si128(found, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\r')));
    return __builtin_ctz((unsigned)_mm_movemask_epi8(found) | 0x10000u);
#else
    return csv_plain_scalar(at, marks);
#endif
}

#endif
