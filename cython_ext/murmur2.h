/* murmur2, 32 bits, as Kafka's clients compute it of a record's key (org.apache.kafka.common.utils.Utils). */
#ifndef VELOSTREAM_MURMUR2_H
#define VELOSTREAM_MURMUR2_H

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "keys are read in little-endian order"
#endif

static inline uint32_t murmur2(const uint8_t *at, uint32_t n)
{
    const uint32_t mix = 0x5bd1e995;
    uint32_t hash = UINT32_C(0x9747b28c) ^ n, word;

    for (; n >= 4; n -= 4, at += 4) {
        memcpy(&word, at, 4);
        word *= mix;
        word ^= word >> 24;
        word *= mix;
        hash = hash * mix ^ word;
    }
    if (n >= 3)
        hash ^= (uint32_t)at[2] << 16;
    if (n >= 2)
        hash ^= (uint32_t)at[1] << 8;
    if (n >= 1)
        hash = (hash ^ at[0]) * mix;
    hash = (hash ^ hash >> 13) * mix;
    return hash ^ hash >> 15;
}

#endif
