/* Coverage of the kernels for libFuzzer, from gcc.
 *
 * libFuzzer looks at one 8-bit counter for each edge, which clang's -fsanitize=fuzzer makes at compile time. gcc has
 * -fsanitize-coverage=trace-pc, a call at each edge: here the place of the call is given the next free counter of its
 * extension when it first comes, without collisions. So a C compiler is all that fuzzing needs. Comparisons
 * (trace-cmp) go to libFuzzer itself. Included in front of every extension of a debug build. */
#ifndef VELOSTREAM_EDGES_H
#define VELOSTREAM_EDGES_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define EDGES 16384

static uint8_t edge_counters[EDGES];
/* libFuzzer wants a place and flags beside each counter, and counts them only. */
static uintptr_t edge_places[EDGES][2];
/* By the distance of the call from the start of the extension. */
static uint16_t *edge_ids;
static uint16_t edge_count;

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));

/* Of libFuzzer; absent when tests run. */
void __sanitizer_cov_8bit_counters_init(uint8_t *start, uint8_t *stop) __attribute__((weak));
void __sanitizer_cov_pcs_init(const uintptr_t *start, const uintptr_t *stop) __attribute__((weak));

#define NOT_INSTRUMENTED __attribute__((no_sanitize_address, no_sanitize_undefined, no_sanitize_coverage))

NOT_INSTRUMENTED __attribute__((constructor(101))) static void edges_open(void)
{
    edge_ids = calloc((size_t)(etext - __ehdr_start), sizeof *edge_ids);
    if (edge_ids == NULL)
        abort();
    if (__sanitizer_cov_8bit_counters_init != NULL && __sanitizer_cov_pcs_init != NULL) {
        __sanitizer_cov_8bit_counters_init(edge_counters, edge_counters + EDGES);
        __sanitizer_cov_pcs_init(edge_places[0], edge_places[EDGES]);
    }
}

NOT_INSTRUMENTED __attribute__((visibility("hidden"))) void __sanitizer_cov_trace_pc(void)
{
    uint16_t *id;

    /* The sanitizer's own constructor is instrumented, and runs first. */
    if (edge_ids == NULL)
        return;
    id = &edge_ids[(const char *)__builtin_return_address(0) - __ehdr_start];
    if (*id == 0 && edge_count < EDGES - 1)
        *id = ++edge_count;
    edge_counters[*id]++;
}

/* Comparisons of floating-point numbers, which libFuzzer does not take. */
__attribute__((visibility("hidden"))) void __sanitizer_cov_trace_cmpf(float a, float b)
{
    (void)a;
    (void)b;
}

__attribute__((visibility("hidden"))) void __sanitizer_cov_trace_cmpd(double a, double b)
{
    (void)a;
    (void)b;
}

#endif
