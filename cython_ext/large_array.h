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
#define HUGE_PAGE_BYTES ((int64_t)2 << 20)

#if defined(__linux__) && defined(MADV_HUGEPAGE) && defined(MREMAP_FIXED)

/* Arrays from LARGE_ARRAY_BYTES on are mappings of whole huge pages, smaller ones are malloc's. */
static inline int large_array_mapped(int64_t bytes)
{
    return bytes >= LARGE_ARRAY_BYTES;
}

static inline size_t large_array_whole(int64_t bytes)
{
    return (size_t)((bytes + HUGE_PAGE_BYTES - 1) & -HUGE_PAGE_BYTES);
}

/* Whole huge pages of zeros, aligned to them, or NULL. */
static inline void *large_array_map(int64_t bytes)
{
    size_t size = large_array_whole(bytes), room = size + (size_t)HUGE_PAGE_BYTES, before, after;
    uint8_t *at = (uint8_t *)mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                                  -1, 0);
    if (at == (uint8_t *)MAP_FAILED)
        return NULL;
    before = (size_t)(-(intptr_t)at & (HUGE_PAGE_BYTES - 1));
    after = room - size - before;
    if (before != 0)
        munmap(at, before);
    if (after != 0)
        munmap(at + before + size, after);
    (void)madvise(at + before, size, MADV_HUGEPAGE); /* a hint: nothing depends on it */
    return at + before;
}

static inline void large_array_free(void *array, int64_t bytes)
{
    if (array != NULL && large_array_mapped(bytes))
        munmap(array, large_array_whole(bytes));
    else
        free(array);
}

/* Where one of the two sizes is that of a mapping. */
static inline void *large_array_resize(void *array, int64_t before, int64_t after)
{
    int64_t kept = before < after ? before : after;
    uint8_t *resized = (uint8_t *)(large_array_mapped(after) ? large_array_map(after) : malloc((size_t)after));

    if (resized == NULL)
        return NULL;
    /* Pages are moved, not copied: the array never takes its memory twice. */
    if (array != NULL && large_array_mapped(before) && large_array_mapped(after)) {
        size_t whole = large_array_whole(kept);
        if (mremap(array, whole, whole, MREMAP_MAYMOVE | MREMAP_FIXED, resized) == MAP_FAILED) {
            large_array_free(resized, after);
            return NULL;
        }
        if (large_array_whole(before) > whole)
            munmap((uint8_t *)array + whole, large_array_whole(before) - whole);
        /* What a shrunk array had behind its end must not come back. */
        memset(resized + kept, 0, whole - (size_t)kept);
        return resized;
    }
    if (array != NULL)
        memcpy(resized, array, (size_t)kept);
    large_array_free(array, before);
    return resized;
}

#else

static inline int large_array_mapped(int64_t bytes)
{
    (void)bytes;
    return 0;
}

static inline void large_array_free(void *array, int64_t bytes)
{
    (void)bytes;
    free(array);
}

static inline void *large_array_resize(void *array, int64_t before, int64_t after)
{
    (void)before;
    return realloc(array, (size_t)after);
}

#endif

/* `array` (NULL when `before` is 0) of `before` bytes resized to `after` (at least 1), new bytes 0; NULL when
 * there is no memory: `array` is then as it was. Free it by `large_array_free` with its size. */
static inline void *large_array_grow(void *array, int64_t before, int64_t after)
{
    uint8_t *grown;

    if (large_array_mapped(before) || large_array_mapped(after))
        return large_array_resize(array, before, after);
    grown = (uint8_t *)realloc(array, (size_t)after);
    if (grown != NULL && after > before)
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
