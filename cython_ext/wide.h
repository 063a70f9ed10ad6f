/* Integers wider than 64 bits: exact sums, their averages, and decimals of up to 38 digits.
 *
 * Arrow keeps a decimal128 as a signed 16-byte integer in the machine's order; values are read and written
 * by memcpy, so no alignment is asked of a buffer. */
#ifndef VELOSTREAM_WIDE_H
#define VELOSTREAM_WIDE_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef __int128 wide_int;
typedef unsigned __int128 wide_uint;

typedef struct { uint64_t lo; int64_t hi; } Int128;
typedef struct { uint64_t lo, mid; int64_t hi; } Int192;

static inline wide_int wide_load(const void *at)
{
    wide_int value;
    memcpy(&value, at, 16);
    return value;
}

static inline void wide_store(void *at, wide_int value)
{
    memcpy(at, &value, 16);
}

static inline wide_uint wide_power_of_ten(int exponent)
{
    wide_uint power = 1;
    while (exponent-- > 0)
        power *= 10;
    return power;
}

static inline void int128_add(Int128 *sum, int64_t value)
{
    uint64_t lo = sum->lo + (uint64_t)value;
    sum->hi += (value >> 63) + (lo < sum->lo);
    sum->lo = lo;
}

static inline void int128_merge(Int128 *sum, const Int128 *other)
{
    uint64_t lo = sum->lo + other->lo;
    sum->hi += other->hi + (lo < sum->lo);
    sum->lo = lo;
}

/* 1 and *out when the sum fits 64 bits, else 0. */
static inline int int128_to_i64(const Int128 *sum, int64_t *out)
{
    *out = (int64_t)sum->lo;
    return sum->hi == ((int64_t)sum->lo >> 63);
}

static inline int wide_bits(wide_uint value)
{
    uint64_t hi = (uint64_t)(value >> 64), lo = (uint64_t)value;
    return hi ? 128 - __builtin_clzll(hi) : lo ? 64 - __builtin_clzll(lo) : 0;
}

/* The double nearest to sum / count, ties to even; count > 0. */
static inline double int128_average(const Int128 *sum, int64_t count)
{
    const int64_t exact = (int64_t)1 << 53;
    wide_int value = (wide_int)((wide_uint)sum->hi << 64 | sum->lo);
    wide_uint magnitude = value < 0 ? -(wide_uint)value : (wide_uint)value, quotient;
    uint64_t head;
    int shift, drop, inexact;
    double result;

    /* Both operands exact in a double: one IEEE division rounds once. */
    if (magnitude <= (wide_uint)exact && count <= exact)
        return (double)(int64_t)value / (double)count;
    /* Else at least 56 bits of quotient with a sticky last bit, which the conversion to double rounds. */
    shift = 56 + wide_bits((wide_uint)count) - wide_bits(magnitude);
    if (shift < 0)
        shift = 0;
    quotient = (magnitude << shift) / (uint64_t)count;
    inexact = quotient * (uint64_t)count != magnitude << shift;
    drop = wide_bits(quotient) - 64;
    if (drop > 0) {
        inexact |= (quotient & (((wide_uint)1 << drop) - 1)) != 0;
        head = (uint64_t)(quotient >> drop);
    } else {
        drop = 0;
        head = (uint64_t)quotient;
    }
    result = ldexp((double)(head | (uint64_t)inexact), drop - shift);
    return value < 0 ? -result : result;
}

static inline void int192_add(Int192 *sum, const void *decimal)
{
    wide_int value = wide_load(decimal);
    wide_uint before = ((wide_uint)sum->mid << 64) | sum->lo;
    wide_uint after = before + (wide_uint)value;

    sum->hi += (int64_t)(value >> 127) + (after < before);
    sum->lo = (uint64_t)after;
    sum->mid = (uint64_t)(after >> 64);
}

static inline void int192_merge(Int192 *sum, const Int192 *other)
{
    wide_uint before = ((wide_uint)sum->mid << 64) | sum->lo;
    wide_uint after = before + (((wide_uint)other->mid << 64) | other->lo);

    sum->hi += other->hi + (after < before);
    sum->lo = (uint64_t)after;
    sum->mid = (uint64_t)(after >> 64);
}

/* 1 and the sum as a decimal in `out` when it has no more than 38 digits, else 0. */
static inline int int192_to_decimal(const Int192 *sum, void *out)
{
    wide_uint low = ((wide_uint)sum->mid << 64) | sum->lo, bound = wide_power_of_ten(38);
    wide_int value = (wide_int)low;

    if (sum->hi != (int64_t)(value >> 127) || value >= (wide_int)bound || value <= -(wide_int)bound)
        return 0;
    wide_store(out, value);
    return 1;
}

/* 1 and sum / count with `digits` (0 to 6) more digits, rounded half to even, when it has no more than 38
 * digits, else 0; count > 0. */
static inline int int192_average(const Int192 *sum, int64_t count, int digits, void *out)
{
    wide_uint divisor = (wide_uint)count, factor = wide_power_of_ten(digits), bound = wide_power_of_ten(38);
    uint64_t lo = sum->lo, mid = sum->mid, hi = (uint64_t)sum->hi;
    wide_uint part, quotient, rest, result;
    int negative = sum->hi < 0;

    if (negative) {
        lo = ~lo + 1;
        mid = ~mid + (lo == 0);
        hi = ~hi + (lo == 0 && mid == 0);
    }
    /* Long division by 64-bit digits. |sum| < count * 10^38, so the first digit of the quotient is 0. */
    part = ((wide_uint)hi << 64) | mid;
    quotient = part / divisor << 64;
    part = ((part % divisor) << 64) | lo;
    quotient |= part / divisor;
    rest = (part % divisor) * factor;
    if (quotient > bound / factor)
        return 0;
    result = quotient * factor + rest / divisor;
    rest = (rest % divisor) * 2;
    if (rest > divisor || (rest == divisor && (result & 1)))
        result += 1;
    if (result >= bound)
        return 0;
    wide_store(out, negative ? -(wide_int)result : (wide_int)result);
    return 1;
}

static inline int decimal_less(const void *left, const void *right)
{
    return wide_load(left) < wide_load(right);
}

/* The canonical form of a decimal: 16 bytes without trailing zeros after the point, then its scale. */
static inline void decimal_strip(const void *decimal, int scale, uint8_t *out)
{
    wide_int value = wide_load(decimal);

    while (scale > 0 && value == (int64_t)value && (int64_t)value % 10 == 0) {
        if (value == 0) {
            scale = 0;
            break;
        }
        value = (int64_t)value / 10;
        scale--;
    }
    while (scale > 0 && value != (int64_t)value && value % 10 == 0) {
        value /= 10;
        scale--;
        if (value == (int64_t)value) {
            uint8_t narrow[16];
            wide_store(narrow, value);
            decimal_strip(narrow, scale, out);
            return;
        }
    }
    wide_store(out, value);
    out[16] = (uint8_t)scale;
}

/* A stripped decimal back at `scale`, which it had or was widened to. */
static inline void decimal_unstrip(const uint8_t *stripped, int scale, void *out)
{
    wide_store(out, wide_load(stripped) * (wide_int)wide_power_of_ten(scale - stripped[16]));
}

#endif
