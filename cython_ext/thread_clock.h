/* Time that the calling thread spends outside of Python, in nanoseconds. Included by clock.pyx alone: every
 * extension module has thread-local variables of its own. */
#ifndef VELOSTREAM_THREAD_CLOCK_H
#define VELOSTREAM_THREAD_CLOCK_H

#include <stdint.h>
#include <time.h>

static _Thread_local int clock_depth;
static _Thread_local uint64_t clock_begun;
static _Thread_local uint64_t clock_total;

static inline uint64_t clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void clock_enter(void)
{
    if (clock_depth++ == 0)
        clock_begun = clock_now();
}

static inline void clock_leave(void)
{
    if (--clock_depth == 0)
        clock_total += clock_now() - clock_begun;
}

static inline uint64_t clock_read(void)
{
    return clock_total;
}

#endif
