/* Folding values into cells: one pass over a column for all that is kept of it.
 *
 * A row of cells per slot holds the state of every aggregate side by side, so that a slot costs one cache
 * line, not one per aggregate. A `Fold` tells where in the row the cells of one argument are, and which rows
 * of it count. Bytes that are all 0 are the state of a group without a value. */
#ifndef VELOSTREAM_FOLD_H
#define VELOSTREAM_FOLD_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wide.h"

typedef struct { uint8_t *data; int64_t used, capacity; } TextArena;

/* The text is in the arena; `length` is one more than its length, 0 when there is none. */
typedef struct { int64_t at, length; } TextCell;

typedef struct Fold Fold;
typedef int (*FoldRows)(const Fold *fold, uint8_t *cells, int64_t stride, const int32_t *slots,
                        const int32_t *rows, int64_t first, int64_t n);
typedef int (*FoldMerge)(const Fold *fold, uint8_t *cell, const Fold *other, const uint8_t *from);

struct Fold {
    /* Where in a row of cells: `count` (how many values counted) always, the others -1 when not kept. */
    int32_t count, sum, least, greatest;
    FoldRows rows;
    FoldMerge merge;
    TextArena *arena;
    /* The argument's column; `validity`, `truth` and `mask` are NULL when they exclude no row. `truth` is the
     * FILTER's, `mask` has a byte per position in the selection of rows. */
    const uint8_t *values;
    const int32_t *offsets;
    const uint8_t *validity, *truth, *truth_validity, *mask;
    int64_t bit, truth_bit;
};

#define FOLD_INLINE static inline __attribute__((always_inline))

FOLD_INLINE int fold_bit(const uint8_t *bits, int64_t at)
{
    return (bits[at >> 3] >> (at & 7)) & 1;
}

FOLD_INLINE int fold_plain(const Fold *fold)
{
    return fold->validity == NULL && fold->truth == NULL && fold->mask == NULL;
}

/* Whether row i, at position j of the selection, counts. */
FOLD_INLINE int fold_takes(const Fold *fold, int64_t j, int64_t i)
{
    if (fold->mask != NULL && !fold->mask[j])
        return 0;
    if (fold->validity != NULL && !fold_bit(fold->validity, fold->bit + i))
        return 0;
    if (fold->truth == NULL)
        return 1;
    return fold_bit(fold->truth, fold->truth_bit + i)
        && (fold->truth_validity == NULL || fold_bit(fold->truth_validity, fold->truth_bit + i));
}

static inline int64_t *fold_i64(uint8_t *row, int32_t at)
{
    return (int64_t *)(row + at);
}

/* How many values counted so far; counts one more. */
FOLD_INLINE int64_t fold_count(const Fold *fold, uint8_t *row)
{
    return (*fold_i64(row, fold->count))++;
}

static int fold_rows_count(const Fold *fold, uint8_t *cells, int64_t stride, const int32_t *slots,
                           const int32_t *rows, int64_t first, int64_t n)
{
    int64_t j;

    if (fold_plain(fold)) {
        for (j = 0; j < n; j++)
            fold_count(fold, cells + slots[j] * stride);
        return 0;
    }
    for (j = 0; j < n; j++)
        if (fold_takes(fold, first + j, rows != NULL ? rows[j] : first + j))
            fold_count(fold, cells + slots[j] * stride);
    return 0;
}

static int fold_merge_count(const Fold *fold, uint8_t *cell, const Fold *other, const uint8_t *from)
{
    *fold_i64(cell, fold->count) += *(const int64_t *)(from + other->count);
    return 0;
}

/* What is kept is constant where this is inlined; `positions` counts from the beginning of the selection. */
FOLD_INLINE void fold_int64(const Fold *fold, uint8_t *cells, int64_t stride, const int32_t *slots,
                            const int32_t *rows, int64_t first, int64_t n, int plain, int sum, int least,
                            int greatest)
{
    const int64_t *values = (const int64_t *)fold->values;
    int64_t j;

    for (j = 0; j < n; j++) {
        int64_t i = rows != NULL ? rows[j] : first + j, value, seen;
        uint8_t *row = cells + slots[j] * stride;
        if (!plain && !fold_takes(fold, first + j, i))
            continue;
        value = values[i];
        seen = fold_count(fold, row);
        if (sum)
            int128_add((Int128 *)(row + fold->sum), value);
        if (least && (value < *fold_i64(row, fold->least) || seen == 0))
            *fold_i64(row, fold->least) = value;
        if (greatest && (value > *fold_i64(row, fold->greatest) || seen == 0))
            *fold_i64(row, fold->greatest) = value;
    }
}

/* NaN is the greatest. */
static inline int fold_double_less(double left, double right)
{
    return left < right || (right != right && left == left);
}

/* Compensated: what each addition loses is summed beside it (Knuth's two-sum). */
FOLD_INLINE void fold_add_double(double *sum, double value)
{
    double total = sum[0] + value, part = total - sum[0];
    sum[1] += (sum[0] - (total - part)) + (value - part);
    sum[0] = total;
}

FOLD_INLINE void fold_double(const Fold *fold, uint8_t *cells, int64_t stride, const int32_t *slots,
                             const int32_t *rows, int64_t first, int64_t n, int plain, int sum, int least,
                             int greatest)
{
    const double *values = (const double *)fold->values;
    int64_t j;

    for (j = 0; j < n; j++) {
        int64_t i = rows != NULL ? rows[j] : first + j, seen;
        uint8_t *row = cells + slots[j] * stride;
        double value;
        if (!plain && !fold_takes(fold, first + j, i))
            continue;
        value = values[i];
        seen = fold_count(fold, row);
        if (sum)
            fold_add_double((double *)(row + fold->sum), value);
        /* The first test is false for all but new extremes, first values and NaNs. */
        if (least) {
            double *cell = (double *)(row + fold->least);
            if (!(value >= *cell && seen != 0) && (seen == 0 || fold_double_less(value, *cell)))
                *cell = value;
        }
        if (greatest) {
            double *cell = (double *)(row + fold->greatest);
            if (!(value <= *cell && seen != 0) && (seen == 0 || fold_double_less(*cell, value)))
                *cell = value;
        }
    }
}

/* One loop for each choice of what is kept: 1.4x over testing it row by row. */
#define FOLD_DISPATCH(NAME)                                                                                   \
    static int fold_rows_##NAME(const Fold *fold, uint8_t *cells, int64_t stride, const int32_t *slots,       \
                                const int32_t *rows, int64_t first, int64_t n)                               \
    {                                                                                                         \
        int kept = (fold->sum >= 0) | (fold->least >= 0) << 1 | (fold->greatest >= 0) << 2;                    \
        if (!fold_plain(fold)) {                                                                              \
            fold_##NAME(fold, cells, stride, slots, rows, first, n, 0, kept & 1, kept & 2, kept & 4);          \
            return 0;                                                                                         \
        }                                                                                                     \
        switch (kept) {                                                                                       \
        case 1: fold_##NAME(fold, cells, stride, slots, rows, first, n, 1, 1, 0, 0); break;                    \
        case 2: fold_##NAME(fold, cells, stride, slots, rows, first, n, 1, 0, 1, 0); break;                    \
        case 3: fold_##NAME(fold, cells, stride, slots, rows, first, n, 1, 1, 1, 0); break;                    \
        case 4: fold_##NAME(fold, cells, stride, slots, rows, first, n, 1, 0, 0, 1); break;                    \
        case 5: fold_##NAME(fold, cells, stride, slots, rows, first, n, 1, 1, 0, 1); break;                    \
        case 6: fold_##NAME(fold, cells, stride, slots, rows, first, n, 1, 0, 1, 1); break;                    \
        default: fold_##NAME(fold, cells, stride, slots, rows, first, n, 1, 1, 1, 1); break;                   \
        }                                                                                                     \
        return 0;                                                                                             \
    }

FOLD_DISPATCH(int64)
FOLD_DISPATCH(double)

static int fold_merge_int64(const Fold *fold, uint8_t *cell, const Fold *other, const uint8_t *from)
{
    int64_t count = *(const int64_t *)(from + other->count), seen = *fold_i64(cell, fold->count);

    if (count == 0)
        return 0;
    *fold_i64(cell, fold->count) += count;
    if (fold->sum >= 0)
        int128_merge((Int128 *)(cell + fold->sum), (const Int128 *)(from + other->sum));
    if (fold->least >= 0) {
        int64_t value = *(const int64_t *)(from + other->least);
        if (seen == 0 || value < *fold_i64(cell, fold->least))
            *fold_i64(cell, fold->least) = value;
    }
    if (fold->greatest >= 0) {
        int64_t value = *(const int64_t *)(from + other->greatest);
        if (seen == 0 || value > *fold_i64(cell, fold->greatest))
            *fold_i64(cell, fold->greatest) = value;
    }
    return 0;
}

static int fold_merge_double(const Fold *fold, uint8_t *cell, const Fold *other, const uint8_t *from)
{
    int64_t count = *(const int64_t *)(from + other->count), seen = *fold_i64(cell, fold->count);

    if (count == 0)
        return 0;
    *fold_i64(cell, fold->count) += count;
    if (fold->sum >= 0) {
        const double *sum = (const double *)(from + other->sum);
        fold_add_double((double *)(cell + fold->sum), sum[0]);
        ((double *)(cell + fold->sum))[1] += sum[1];
    }
    if (fold->least >= 0) {
        double value = *(const double *)(from + other->least), *least = (double *)(cell + fold->least);
        if (seen == 0 || fold_double_less(value, *least))
            *least = value;
    }
    if (fold->greatest >= 0) {
        double value = *(const double *)(from + other->greatest), *greatest = (double *)(cell + fold->greatest);
        if (seen == 0 || fold_double_less(*greatest, value))
            *greatest = value;
    }
    return 0;
}

static int fold_rows_decimal(const Fold *fold, uint8_t *cells, int64_t stride, const int32_t *slots,
                             const int32_t *rows, int64_t first, int64_t n)
{
    int plain = fold_plain(fold);
    int64_t j;

    for (j = 0; j < n; j++) {
        int64_t i = rows != NULL ? rows[j] : first + j, seen;
        uint8_t *row = cells + slots[j] * stride;
        const uint8_t *value = fold->values + 16 * i;
        if (!plain && !fold_takes(fold, first + j, i))
            continue;
        seen = fold_count(fold, row);
        if (fold->sum >= 0)
            int192_add((Int192 *)(row + fold->sum), value);
        if (fold->least >= 0 && (seen == 0 || decimal_less(value, row + fold->least)))
            memcpy(row + fold->least, value, 16);
        if (fold->greatest >= 0 && (seen == 0 || decimal_less(row + fold->greatest, value)))
            memcpy(row + fold->greatest, value, 16);
    }
    return 0;
}

static int fold_merge_decimal(const Fold *fold, uint8_t *cell, const Fold *other, const uint8_t *from)
{
    int64_t count = *(const int64_t *)(from + other->count), seen = *fold_i64(cell, fold->count);

    if (count == 0)
        return 0;
    *fold_i64(cell, fold->count) += count;
    if (fold->sum >= 0)
        int192_merge((Int192 *)(cell + fold->sum), (const Int192 *)(from + other->sum));
    if (fold->least >= 0 && (seen == 0 || decimal_less(from + other->least, cell + fold->least)))
        memcpy(cell + fold->least, from + other->least, 16);
    if (fold->greatest >= 0 && (seen == 0 || decimal_less(cell + fold->greatest, from + other->greatest)))
        memcpy(cell + fold->greatest, from + other->greatest, 16);
    return 0;
}

/* Where the copy of a text is, -1 when there is no memory. Texts are only appended, so that whoever holds the
 * arena can still read old ones. */
static inline int64_t text_arena_keep(TextArena *arena, const uint8_t *text, int64_t length)
{
    int64_t capacity = arena->capacity > 256 ? arena->capacity : 256, at = arena->used;

    while (capacity - arena->used < length)
        capacity *= 2;
    if (capacity != arena->capacity) {
        uint8_t *data = (uint8_t *)realloc(arena->data, (size_t)capacity);
        if (data == NULL)
            return -1;
        arena->data = data;
        arena->capacity = capacity;
    }
    if (length)
        memcpy(arena->data + at, text, (size_t)length);
    arena->used += length;
    return at;
}

/* Put the text where it is the first one or beyond the one there is; -1 when there is no memory. */
static inline int fold_text(TextArena *arena, TextCell *cell, const uint8_t *text, int64_t length, int greatest)
{
    int64_t at;

    if (cell->length) {
        int64_t known = cell->length - 1, common = length < known ? length : known;
        int order = common ? memcmp(text, arena->data + cell->at, (size_t)common) : 0;
        if (order == 0)
            order = (length > known) - (length < known);
        if (order == 0 || (order > 0) != greatest)
            return 0;
    }
    at = text_arena_keep(arena, text, length);
    if (at < 0)
        return -1;
    cell->at = at;
    cell->length = length + 1;
    return 0;
}

static int fold_rows_text(const Fold *fold, uint8_t *cells, int64_t stride, const int32_t *slots,
                          const int32_t *rows, int64_t first, int64_t n)
{
    int plain = fold_plain(fold);
    int64_t j;

    for (j = 0; j < n; j++) {
        int64_t i = rows != NULL ? rows[j] : first + j, length;
        uint8_t *row = cells + slots[j] * stride;
        const uint8_t *text;
        if (!plain && !fold_takes(fold, first + j, i))
            continue;
        text = fold->values + fold->offsets[i];
        length = fold->offsets[i + 1] - fold->offsets[i];
        fold_count(fold, row);
        if (fold->least >= 0 && fold_text(fold->arena, (TextCell *)(row + fold->least), text, length, 0) < 0)
            return -1;
        if (fold->greatest >= 0 && fold_text(fold->arena, (TextCell *)(row + fold->greatest), text, length, 1) < 0)
            return -1;
    }
    return 0;
}

static inline int fold_merge_one_text(TextArena *arena, TextCell *cell, const TextArena *texts, const TextCell *from,
                                      int greatest)
{
    return from->length == 0 ? 0 : fold_text(arena, cell, texts->data + from->at, from->length - 1, greatest);
}

static int fold_merge_text(const Fold *fold, uint8_t *cell, const Fold *other, const uint8_t *from)
{
    fold_merge_count(fold, cell, other, from);
    if (fold->least >= 0
        && fold_merge_one_text(fold->arena, (TextCell *)(cell + fold->least), other->arena,
                               (const TextCell *)(from + other->least), 0) < 0)
        return -1;
    if (fold->greatest >= 0
        && fold_merge_one_text(fold->arena, (TextCell *)(cell + fold->greatest), other->arena,
                               (const TextCell *)(from + other->greatest), 1) < 0)
        return -1;
    return 0;
}

#endif
