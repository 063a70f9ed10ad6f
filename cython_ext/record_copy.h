/* Copies of the short byte strings that records are made of, 16 bytes at a time.
 *
 * `end` is where the bytes that may be read end; `to` has RECORD_SLACK bytes of room more than `n`. */
#ifndef VELOSTREAM_RECORD_COPY_H
#define VELOSTREAM_RECORD_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define RECORD_SLACK 16

static inline void record_copy(uint8_t *to, const uint8_t *from, size_t n, const uint8_t *end)
{
    if (n > 256 || (size_t)(end - from) < n + RECORD_SLACK) {
        memcpy(to, from, n);
        return;
    }
    for (size_t i = 0; i < n; i += 16)
        memcpy(to + i, from + i, 16);
}

/* The same with carriage returns in place of newlines. */
static inline void record_copy_line(uint8_t *to, const uint8_t *from, size_t n, const uint8_t *end)
{
    size_t wide = (size_t)(end - from) & ~(size_t)15, i = 0;

    for (; i < n && i < wide; i += 16) {
        uint8_t chunk[16];
        memcpy(chunk, from + i, 16);
        /* A loop of this shape is one comparison and one blend where the CPU has them. */
        for (int k = 0; k < 16; k++)
            chunk[k] = chunk[k] == '\n' ? '\r' : chunk[k];
        memcpy(to + i, chunk, 16);
    }
    for (; i < n; i++)
        to[i] = from[i] == '\n' ? '\r' : from[i];
}

#endif
