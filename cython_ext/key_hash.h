/* The key hash, version 1: 64 bits over the canonical bytes of a key, by 64x64->128-bit multiplications
 * folded onto themselves. State that is saved by key group depends on it: a change here is a new version.
 * Bytes are read in little-endian order, the order of every machine that velostream is built for. */
#ifndef VELOSTREAM_KEY_HASH_H
#define VELOSTREAM_KEY_HASH_H

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "keys are hashed and compared in little-endian order"
#endif

#define KEY_MIX_A UINT64_C(0x9e3779b97f4a7c15)
#define KEY_MIX_B UINT64_C(0xd1b54a32d192ed03)
#define KEY_MIX_C UINT64_C(0xaef17502108ef2d9)

static inline uint64_t key_read64(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

static inline uint64_t key_read32(const uint8_t *at)
{
    uint32_t word;
    memcpy(&word, at, 4);
    return word;
}

static inline uint64_t key_fold(uint64_t left, uint64_t right)
{
    unsigned __int128 product = (unsigned __int128)left * right;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Words that together hold all of 0 to 16 bytes; the length tells apart what overlaps. */
static inline void key_words(const uint8_t *at, int32_t length, uint64_t *first, uint64_t *last)
{
    if (length >= 8) {
        *first = key_read64(at);
        *last = key_read64(at + length - 8);
    } else if (length >= 4) {
        *first = key_read32(at);
        *last = key_read32(at + length - 4);
    } else if (length > 0) {
        *first = at[0] | (uint64_t)at[length >> 1] << 8;
        *last = at[length - 1];
    } else {
        *first = *last = 0;
    }
}

/* The bytes that `key_words` made words of. */
static inline void key_bytes(uint64_t first, uint64_t last, int32_t length, uint8_t *to)
{
    if (length >= 8) {
        memcpy(to, &first, 8);
        memcpy(to + length - 8, &last, 8);
    } else if (length >= 4) {
        memcpy(to, &first, 4);
        memcpy(to + length - 4, &last, 4);
    } else if (length > 0) {
        to[0] = (uint8_t)first;
        to[length >> 1] = (uint8_t)(first >> 8);
        to[length - 1] = (uint8_t)last;
    }
}

static inline uint64_t key_end(uint64_t state, uint64_t first, uint64_t last, int32_t length)
{
    return key_fold(key_fold(first ^ KEY_MIX_A, last ^ state), KEY_MIX_B ^ (uint64_t)(uint32_t)length);
}

/* `length` is -1 for a NULL that is a key of its own. */
static inline uint64_t key_hash(const uint8_t *at, int32_t length)
{
    uint64_t state = KEY_MIX_C, first, last;

    while (length > 16) {
        state = key_fold(key_read64(at) ^ KEY_MIX_A, key_read64(at + 8) ^ state);
        at += 16;
        length -= 16;
        state += KEY_MIX_B;
    }
    key_words(at, length, &first, &last);
    return key_end(state, first, last, length);
}

/* Of a key of at most 16 bytes, or NULL (-1), from what `key_words` gives. */
static inline uint64_t key_hash_words(uint64_t first, uint64_t last, int32_t length)
{
    return key_end(KEY_MIX_C, first, last, length);
}

/* memcpy without a call for the short texts that most keys are made of. */
static inline void key_copy(uint8_t *to, const uint8_t *from, int32_t length)
{
    if (length > 16) {
        memcpy(to, from, (size_t)length);
    } else if (length >= 8) {
        uint64_t first, last;
        memcpy(&first, from, 8);
        memcpy(&last, from + length - 8, 8);
        memcpy(to, &first, 8);
        memcpy(to + length - 8, &last, 8);
    } else if (length >= 4) {
        uint32_t first, last;
        memcpy(&first, from, 4);
        memcpy(&last, from + length - 4, 4);
        memcpy(to, &first, 4);
        memcpy(to + length - 4, &last, 4);
    } else if (length > 0) {
        uint8_t first = from[0], middle = from[length >> 1], last = from[length - 1];
        to[0] = first;
        to[length >> 1] = middle;
        to[length - 1] = last;
    }
}

/* Where a key of a window goes in a table: the high bits depend on all bits of both. */
static inline uint64_t key_spread(uint64_t hash, int64_t window)
{
    return (hash ^ ((uint64_t)window * KEY_MIX_A)) * KEY_MIX_B;
}

#endif
