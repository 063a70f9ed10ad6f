/* An over-read for the fuzzers to find, which proves that they would find a real one.
 *
 * It is in debug builds only, and only when VELOSTREAM_PLANT_OVERREAD is set. Like a decoder that forgets that text
 * may end behind a backslash, it reads the byte behind text that does. */
#ifndef VELOSTREAM_PLANTED_H
#define VELOSTREAM_PLANTED_H

#include <stdint.h>

#ifdef VELOSTREAM_DEBUG
#include <stdlib.h>

static int overread_planted;

__attribute__((constructor)) static void planted_open(void)
{
    overread_planted = getenv("VELOSTREAM_PLANT_OVERREAD") != NULL;
}

static inline void plant_overread(const uint8_t *at, const uint8_t *end)
{
    if (overread_planted && at < end && end[-1] == '\\')
        (void)*(const volatile uint8_t *)end;
}
#else
static inline void plant_overread(const uint8_t *at, const uint8_t *end)
{
    (void)at;
    (void)end;
}
#endif

#endif
