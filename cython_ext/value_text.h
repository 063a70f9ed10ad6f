/* Values as text: what JSON, CSV and casts write (`value_text.pyx` says how each looks).
 *
 * Every `put_` writes at `out` and gives the place behind the text. It stores whole words, so `out` must have
 * room for VALUE_ROOM bytes; what lies behind the text is no matter. Nothing is ended with a zero.
 *
 * Digits are made eight at a time: a word that holds one digit per byte, the first in the lowest byte, so that
 * leading and trailing zeros are counted with one instruction instead of a loop that is mispredicted. */
#ifndef VELOSTREAM_VALUE_TEXT_H
#define VELOSTREAM_VALUE_TEXT_H

#include <stdint.h>
#include <string.h>

#include "powers.h"

enum {
    /* The longest text of each kind, in bytes. */
    MAX_INT64_TEXT = 20,
    MAX_DOUBLE_TEXT = 24,
    MAX_DECIMAL_TEXT = 41,
    MAX_BOOLEAN_TEXT = 5,
    MAX_DATE_TEXT = 14,
    MAX_TIMESTAMP_TEXT = 30,
    VALUE_ROOM = 64,
    /* The powers of ten that doubles need. */
    MIN_POWER = -292,
    MAX_POWER = 324,
    POWER_COUNT = MAX_POWER - MIN_POWER + 1,
};

#define ZEROS 0x3030303030303030u
#define DAY_US 86400000000u

/* 10**k as a 128-bit fraction with the highest bit set, rounded up. */
typedef struct { uint64_t high, low; } Power;

/* A day, and its date as text with a `T` behind it: most rows of a block have the same. */
typedef struct {
    int64_t days;      /* since 1970-01-01 */
    uint64_t start_us; /* of the day, modulo 2**64 */
    int size;          /* of the text without the `T` */
    char text[16];
} Day;

static inline void put_word(char *out, uint64_t word)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    memcpy(out, &word, 8);
}

/* The eight digits of value < 10**8: 0 to 9 per byte. Fours, pairs and single digits are split side by side;
 * 10486 / 2**20 and 103 / 2**10 divide by 100 and by 10 exactly for all that occurs. */
static inline uint64_t eight_digits(uint32_t value)
{
    uint64_t high = value / 10000;
    uint64_t fours = high | (uint64_t)(value - (uint32_t)high * 10000) << 32;
    uint64_t hundreds = (fours * 10486 >> 20) & 0x0000007F0000007Fu;
    uint64_t pairs = hundreds | (fours - hundreds * 100) << 16;
    uint64_t tens = (pairs * 103 >> 10) & 0x000F000F000F000Fu;
    return tens | (pairs - tens * 10) << 8;
}

/* Zeros at the end of eight digits: 8 when there is no other digit. */
static inline int trailing_zeros(uint64_t digits)
{
    return digits ? __builtin_clzll(digits) >> 3 : 8;
}

/* Decimal digits of a value up to 2**63; 1 for 0. 1233 / 2**12 is a little more than log10(2). */
static inline int count_digits(uint64_t value)
{
    int guess = (64 - __builtin_clzll(value | 1)) * 1233 >> 12;
    return guess + (value >= POWERS[guess] || guess == 0);
}

/* The same of value < 10**4, in half the steps. */
static inline uint32_t four_digits(uint32_t value)
{
    uint32_t hundreds = value * 10486 >> 20;
    uint32_t pairs = hundreds | (value - hundreds * 100) << 16;
    uint32_t tens = (pairs * 103 >> 10) & 0x000F000Fu;
    return tens | (pairs - tens * 10) << 8;
}

static inline char *put_below_1e8(char *out, uint32_t value)
{
    if (value < 10000) {
        uint32_t few = four_digits(value);
        int none = __builtin_ctz(few | (uint32_t)1 << 24) >> 3;
        put_word(out, (uint64_t)((few | (uint32_t)ZEROS) >> (8 * none)));
        return out + 4 - none;
    }
    uint64_t digits = eight_digits(value);
    /* The last digit stays, be it a zero. */
    int zeros = __builtin_ctzll(digits | (uint64_t)1 << 56) >> 3;
    put_word(out, (digits | ZEROS) >> (8 * zeros));
    return out + 8 - zeros;
}

static inline char *put_eight(char *out, uint32_t value)
{
    put_word(out, eight_digits(value) | ZEROS);
    return out + 8;
}

static inline char *put_uint64(char *out, uint64_t value)
{
    if (value < 100000000u)
        return put_below_1e8(out, (uint32_t)value);
    if (value < POWERS[16]) {
        out = put_below_1e8(out, (uint32_t)(value / 100000000u));
    } else {
        uint64_t rest = value % POWERS[16];
        out = put_below_1e8(out, (uint32_t)(value / POWERS[16]));
        out = put_eight(out, (uint32_t)(rest / 100000000u));
    }
    return put_eight(out, (uint32_t)(value % 100000000u));
}

static inline char *put_int64(char *out, int64_t value)
{
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    *out = '-';
    return put_uint64(out + (value < 0), magnitude);
}

static inline char *put_boolean(char *out, int value)
{
    memcpy(out, value ? "true\0" : "false", 5);
    return out + 5 - (value != 0);
}

/* The upper 64 of 192 bits of a product, its last bit set when any lower one is. */
static inline uint64_t round_to_odd(Power power, uint64_t factor)
{
    uint128 product = (uint128)power.high * factor + (uint64_t)((uint128)power.low * factor >> 64);
    return (uint64_t)(product >> 64) | ((uint64_t)product > 1);
}

/* The decimal exponent of a finite positive double, and the shortest digits that read back as it.
 *
 * Raffaele Giulietti, "The Schubfach way to render doubles" (2020): of the decimals within the interval that
 * rounds to the double, one of the shortest, and of these the nearest. `powers` begins at MIN_POWER. */
static inline int shortest_digits(uint64_t fraction, int biased, const Power *powers, uint64_t *digits)
{
    int closer = fraction == 0 && biased > 1; /* the interval is narrower below a power of two */
    uint64_t c = biased ? fraction | (uint64_t)1 << 52 : fraction;
    int q = biased ? biased - 1075 : -1074;
    if (-53 < q && q <= 0 && (c & (((uint64_t)1 << -q) - 1)) == 0) {
        /* A whole number below 2**53 is its own digits. */
        *digits = c >> -q;
        return 0;
    }
    /* floor(log10(2**q)), and of 3/4 * 2**q where the interval is narrower. */
    int k = (q * 1262611 - (closer ? 524031 : 0)) >> 22;
    /* floor(log2(10**-k)) + q + 1 */
    int h = q + ((-k * 1741647) >> 19) + 1;
    Power power = powers[-k - MIN_POWER];
    uint64_t odd = c & 1;
    uint64_t low = round_to_odd(power, (4 * c - 2 + closer) << h) + odd;
    uint64_t mid = round_to_odd(power, (4 * c) << h);
    uint64_t high = round_to_odd(power, (4 * c + 2) << h) - odd;
    uint64_t s = mid / 4, tens = s / 10;
    int under = low <= 40 * tens, over = 40 * tens + 40 <= high;
    if (s >= 10 && under != over) {
        *digits = tens + over;
        return k + 1;
    }
    under = low <= 4 * s;
    over = 4 * s + 4 <= high;
    int nearest = mid > 4 * s + 2 || (mid == 4 * s + 2 && (s & 1));
    *digits = s + (under != over ? over : nearest);
    return k;
}

/* `digits` (1 to 17 of them) times 10**k, in Python's notation. */
static inline char *put_scientific(char *out, uint64_t digits, int k)
{
    int count = count_digits(digits);
    int point = count + k; /* digits before the decimal point, of the 17 that follow */
    uint64_t aligned = digits * POWERS[17 - count];
    char first = (char)('0' + aligned / POWERS[16]);
    uint64_t rest = aligned % POWERS[16];
    uint64_t upper = eight_digits((uint32_t)(rest / 100000000u));
    uint64_t lower = eight_digits((uint32_t)(rest % 100000000u));
    int size = 17 - (lower ? trailing_zeros(lower) : 8 + trailing_zeros(upper));
    upper |= ZEROS;
    lower |= ZEROS;
    if (0 < point && point <= 16) {
        out[0] = first;
        put_word(out + 1, upper);
        put_word(out + 9, lower);
        if (size <= point) {
            memcpy(out + point, ".0", 2);
            return out + point + 2;
        }
        uint128 behind = ((uint128)lower << 64 | upper) >> (8 * (point - 1));
        put_word(out + point + 1, (uint64_t)behind);
        put_word(out + point + 9, (uint64_t)(behind >> 64));
        out[point] = '.';
        return out + size + 1;
    }
    if (-4 < point && point <= 0) {
        memcpy(out, "0.000", 5);
        out += 2 - point;
        out[0] = first;
        put_word(out + 1, upper);
        put_word(out + 9, lower);
        return out + size;
    }
    out[0] = first;
    out[1] = '.';
    put_word(out + 2, upper);
    put_word(out + 10, lower);
    out += size > 1 ? size + 1 : 1;
    point -= 1;
    out[0] = 'e';
    out[1] = point < 0 ? '-' : '+';
    point = point < 0 ? -point : point;
    out += 2;
    if (point < 10)
        *out++ = '0';
    return put_below_1e8(out, (uint32_t)point);
}

/* The shortest text that reads back as the same bits; NaN is `NaN`, the infinities `Infinity`, `-Infinity`.
 *
 * Most doubles of most inputs are short decimals, and for these one division settles it. Let n be an integer
 * below 10**15 with n / 10**6 == value. Both are exact as doubles, so the quotient is correctly rounded: the
 * decimal n * 10**-6 reads back as the value. It has at most 15 significant digits, and two decimals of at
 * most 15 digits never read back as the same double; so it is the only one of so few digits, and without its
 * trailing zeros the shortest. From 0.0001 to 10**9 Python writes no exponent. */
static inline char *put_double(char *out, double value, const Power *powers)
{
    uint64_t bits, digits;
    memcpy(&bits, &value, 8);
    double magnitude = __builtin_fabs(value);
    *out = '-';
    if (magnitude < 1e9) {
        uint64_t n = (uint64_t)(int64_t)(magnitude * 1e6 + 0.5);
        if ((double)(int64_t)n / 1e6 == magnitude && (n >= 100 || n == 0)) {
            uint64_t whole = n / 1000000u;
            uint64_t behind = eight_digits((uint32_t)(n - whole * 1000000u) * 100);
            out = put_uint64(out + (bits >> 63), whole);
            *out = '.';
            put_word(out + 1, behind | ZEROS);
            /* One digit at least. */
            return out + 9 - (__builtin_clzll(behind | 1) >> 3);
        }
    }
    int biased = (int)(bits >> 52) & 0x7FF;
    if (biased == 0x7FF) {
        if (bits << 12) {
            memcpy(out, "NaN", 3);
            return out + 3;
        }
        out += bits >> 63;
        memcpy(out, "Infinity", 8);
        return out + 8;
    }
    int k = shortest_digits(bits & (((uint64_t)1 << 52) - 1), biased, powers, &digits);
    return put_scientific(out + (bits >> 63), digits, k);
}

/* `high * 2**64 + low` with `scale` (0 to 38) digits behind the point. */
static inline char *put_decimal(char *out, uint64_t low, int64_t high, int scale)
{
    uint128 value = (uint128)(uint64_t)high << 64 | low;
    *out = '-';
    out += high < 0;
    value = high < 0 ? 0 - value : value;
    if (value >> 64 == 0 && scale <= 16) {
        uint64_t whole = (uint64_t)value / POWERS[scale];
        uint64_t behind = ((uint64_t)value - whole * POWERS[scale]) * POWERS[16 - scale];
        out = put_uint64(out, whole);
        *out = '.';
        put_eight(out + 1, (uint32_t)(behind / 100000000u));
        put_eight(out + 9, (uint32_t)(behind % 100000000u));
        return out + (scale ? scale + 1 : 0);
    }
    /* 40 digits are 16, 16 and 8. */
    char digits[40];
    uint128 upper = value / POWERS[16];
    uint64_t parts[3] = {(uint64_t)(upper / POWERS[16]), (uint64_t)(upper % POWERS[16]),
                         (uint64_t)(value % POWERS[16])};
    put_eight(digits, (uint32_t)parts[0]);
    for (int k = 1; k < 3; k++) {
        put_eight(digits + 16 * k - 8, (uint32_t)(parts[k] / 100000000u));
        put_eight(digits + 16 * k, (uint32_t)(parts[k] % 100000000u));
    }
    int zeros = 0;
    while (digits[zeros] == '0' && zeros < 39 - scale)
        zeros++;
    int whole = 40 - zeros - scale;
    memcpy(out, digits + zeros, whole);
    out += whole;
    if (scale == 0)
        return out;
    *out = '.';
    memcpy(out + 1, digits + 40 - scale, scale);
    return out + 1 + scale;
}

static inline int64_t floor_div(int64_t value, int64_t by)
{
    int64_t quotient = value / by;
    return quotient - (quotient * by > value);
}

/* Make `day` the day so many days after 1970-01-01 in the proleptic Gregorian calendar; days of 32 bits.
 *
 * Years begin in March here, so that the leap day is the last of its year; an era has 400 years. */
static inline void set_day(Day *day, int64_t days)
{
    int64_t shifted = days + 719468;
    int64_t era = floor_div(shifted, 146097);
    int of_era = (int)(shifted - era * 146097);
    int year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int from_march = (5 * of_year + 2) / 153;
    int month = from_march + (from_march < 10 ? 3 : -9);
    int64_t year = era * 400 + year_of_era + (month <= 2);
    char text[VALUE_ROOM] = {0}, *at = text;
    if (year < 0 || year > 9999) {
        *at++ = year < 0 ? '-' : '+';
        year = year < 0 ? -year : year;
    }
    uint64_t digits = eight_digits((uint32_t)year);
    int zeros = __builtin_ctzll(digits | (uint64_t)1 << 56) >> 3;
    /* Four digits at least. */
    zeros = zeros < 4 ? zeros : 4;
    put_word(at, (digits | ZEROS) >> (8 * zeros));
    at += 8 - zeros;
    /* -mm-ddT, each number where its two digits go. */
    uint64_t parts = (uint64_t)month << 8 | (uint64_t)(of_year - (153 * from_march + 2) / 5 + 1) << 32;
    uint64_t tens = (parts * 103 >> 10) & 0x0000000F00000F00u;
    put_word(at, (tens | (parts - tens * 10) << 8) + 0x005430302D30302Du);
    at += 6;
    day->days = days;
    day->start_us = (uint64_t)days * DAY_US;
    day->size = (int)(at - text);
    memcpy(day->text, text, 16);
}

static inline char *put_date(char *out, int32_t days, Day *day)
{
    if (days != day->days)
        set_day(day, days);
    memcpy(out, day->text, 16);
    return out + day->size;
}

static inline char *put_timestamp(char *out, int64_t us, Day *day)
{
    uint64_t of_day = (uint64_t)us - day->start_us;
    if (of_day >= DAY_US) {
        set_day(day, floor_div(us, DAY_US));
        of_day = (uint64_t)us - day->start_us;
    }
    memcpy(out, day->text, 16);
    out += day->size + 1;
    uint32_t second = (uint32_t)(of_day / 1000000u);
    uint32_t fraction = (uint32_t)(of_day - (uint64_t)second * 1000000u);
    uint32_t minute = second / 60, hour = second / 3600;
    /* hh:mm:ss, each number where its two digits go. */
    uint64_t parts = hour | (uint64_t)(minute - hour * 60) << 24 | (uint64_t)(second - minute * 60) << 48;
    uint64_t tens = (parts * 103 >> 10) & 0x000F00000F00000Fu;
    put_word(out, (tens | (parts - tens * 10) << 8) + 0x30303A30303A3030u);
    uint64_t digits = eight_digits(fraction * 100);
    out[8] = '.';
    put_word(out + 9, digits | ZEROS);
    out += 8 + (fraction == 0 ? 0 : digits >> 24 ? 7 : 4);
    *out = 'Z';
    return out + 1;
}

#endif
