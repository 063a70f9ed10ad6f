/* Where the fields and records of CSV text begin, from its masks.
 *
 * By RFC 4180 the quotes of a text toggle between outside and inside of quoted fields, a doubled one twice, so
 * that the parity of the quotes before a byte tells which it is. This holds as long as a quote that opens stands
 * where a field begins or doubles the one before it, and a quote that closes is followed by the end of its
 * field. The first byte for which it does not hold stops every walk here, and the caller reads that record byte
 * by byte. */
#ifndef VELOSTREAM_CSV_INDEX_H
#define VELOSTREAM_CSV_INDEX_H

#include "simd/csv_masks.h"

/* What the bytes so far mean for the next 64. */
typedef struct {
    uint64_t inside;   /* all ones within quotes */
    uint64_t begins;   /* 1 where a field begins */
    uint64_t closed;   /* 1 behind a closing quote */
    uint64_t returned; /* 1 behind a carriage return that follows a closing quote */
} CsvState;

static const CsvState CSV_RECORD_BEGINS = {0, 1, 0, 0};

/* The field and record ends of 64 bytes. */
typedef struct {
    uint64_t ends;     /* delimiters and newlines outside of quotes */
    uint64_t newlines; /* of them */
    uint64_t doubled;  /* the second of two quotes that stand for one */
    uint64_t stop;     /* the first byte that breaks the rules above; bits from there on are not to be used */
} CsvEnds;

static inline CsvEnds csv_ends(CsvState *state, const CsvMasks *masks)
{
    CsvEnds found = {masks->delimiters | masks->newlines, masks->newlines, 0, 0};
    uint64_t inside = masks->quotes;
    if (!(masks->quotes | state->inside | state->closed | state->returned)) {
        state->begins = found.ends >> 63;
        return found;
    }
    /* Bit i becomes the parity of bits 0 to i: an opening quote is inside, a closing one outside. */
    inside ^= inside << 1;
    inside ^= inside << 2;
    inside ^= inside << 4;
    inside ^= inside << 8;
    inside ^= inside << 16;
    inside ^= inside << 32;
    inside ^= state->inside;
    found.ends &= ~inside;
    found.newlines &= ~inside;
    uint64_t opening = masks->quotes & inside;
    uint64_t closing = masks->quotes & ~inside;
    uint64_t behind = closing << 1 | state->closed;
    uint64_t returns = behind & masks->returns;
    uint64_t wrong = opening & ~(found.ends << 1 | state->begins | behind);
    wrong |= behind & ~(masks->delimiters | masks->newlines | masks->returns | masks->quotes);
    wrong |= (returns << 1 | state->returned) & ~masks->newlines;
    found.doubled = behind & opening;
    found.stop = wrong & (0 - wrong);
    state->inside = 0 - (inside >> 63);
    state->begins = found.ends >> 63;
    state->closed = closing >> 63;
    state->returned = returns >> 63;
    return found;
}

/* Field k is the bytes from `bounds[k]` to before `bounds[k + 1] - 1`, counted from where the walk began; record
 * r has the fields from `lines[r]` to before `lines[r + 1]`. Both arrays have room for one more than bytes. */
typedef struct {
    uint32_t *bounds;
    uint32_t *lines;
    size_t records;
    int ascii;
    int doubled;
} CsvIndex;

enum { CSV_STEP = 8 };

/* Index the records that begin in the `n` bytes at `at`, where a record begins. 63 bytes more can be read. */
static void csv_index(csv_masks_way fill, const uint8_t *at, size_t n, uint8_t delimiter, int quote,
                      CsvIndex *index)
{
    CsvMasks masks[CSV_STEP];
    CsvState state = CSV_RECORD_BEGINS;
    uint64_t quoting = quote < 0 ? 0 : ~(uint64_t)0;
    uint64_t doubled = 0;
    int high = 0;
    uint32_t *bound = index->bounds;
    uint32_t *line = index->lines;
    *bound = 0;
    *line = 0;
    for (size_t step = 0; step < n; step += CSV_STEP * 64) {
        size_t blocks = n - step < CSV_STEP * 64 ? (n - step + 63) / 64 : CSV_STEP;
        high |= fill(at + step, blocks, delimiter, (uint8_t)quote, masks);
        for (size_t block = 0; block < blocks; block++) {
            size_t start = step + block * 64;
            masks[block].quotes &= quoting;
            CsvEnds found = csv_ends(&state, &masks[block]);
            if (n - start < 64)
                found.ends &= ((uint64_t)1 << (n - start)) - 1;
            if (found.stop)
                found.ends &= found.stop - 1;
            doubled |= found.doubled;
            while (found.ends) {
                int bit = __builtin_ctzll(found.ends);
                found.ends &= found.ends - 1;
                *++bound = (uint32_t)(start + bit + 1);
                /* Written over unless a newline makes it count. */
                line[1] = (uint32_t)(bound - index->bounds);
                line += found.newlines >> bit & 1;
            }
            if (found.stop)
                goto done;
        }
    }
done:
    index->records = (size_t)(line - index->lines);
    index->ascii = !high;
    index->doubled = doubled != 0;
}

/* The end of the last whole record in the `n` bytes at `at`, where a record begins, and whether the rules `hold`
 * for all of them: where they do not, it is the end of the last one before. No byte behind `n` is read. */
static size_t csv_last_end(csv_masks_way fill, const uint8_t *at, size_t n, uint8_t delimiter, uint8_t quote,
                           int *hold)
{
    CsvMasks masks[CSV_STEP];
    uint8_t rest[CSV_STEP * 64];
    CsvState state = CSV_RECORD_BEGINS;
    size_t end = 0;
    *hold = 1;
    for (size_t step = 0; step < n; step += sizeof rest) {
        const uint8_t *bytes = at + step;
        size_t blocks = CSV_STEP;
        /* Newlines of the last 64 bytes that had some, and where those begin. */
        uint64_t newlines = 0;
        size_t begin = 0;
        if (n - step < sizeof rest) {
            blocks = (n - step + 63) / 64;
            memcpy(rest, bytes, n - step);
            memset(rest + (n - step), 0, blocks * 64 - (n - step));
            bytes = rest;
        }
        fill(bytes, blocks, delimiter, quote, masks);
        for (size_t block = 0; block < blocks && *hold; block++) {
            size_t start = step + block * 64;
            CsvEnds found = csv_ends(&state, &masks[block]);
            if (found.stop) {
                found.newlines &= found.stop - 1;
                *hold = start + (size_t)__builtin_ctzll(found.stop) >= n;
            }
            newlines = found.newlines ? found.newlines : newlines;
            begin = found.newlines ? start : begin;
        }
        if (newlines)
            end = begin + 64 - (size_t)__builtin_clzll(newlines);
        if (!*hold)
            break;
    }
    return end;
}

#endif
