"""Values as text: what JSON, CSV and casts write.

Every `write_*` writes at `out`, which has room for the longest text of its kind (`value_text.pxd`), and
gives the count of bytes. No terminating zero is written.

| type | text |
|---|---|
| integers | decimal digits |
| DOUBLE | the shortest that reads back as the same bits, in Python's notation: `1.0`, `0.1`, `1e+16`, `5e-324` |
| DECIMAL | all digits of the scale: `1.50` |
| DATE | `2013-01-31`; years outside 0000 to 9999 have a sign (ISO 8601, expanded) |
| TIMESTAMP | `2013-01-31T05:00:00Z`; a fraction that is not zero has 3 digits when those say all, else 6 |
"""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy, memmove, memset

cdef extern from *:
    """
    typedef unsigned __int128 velo_u128;
    """
    # The declared size is not used: C knows the type.
    ctypedef unsigned long long u128 "velo_u128"

cdef const char* PAIRS = (
    b"0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
    b"5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899"
)

cdef enum:
    MIN_POWER = -292
    MAX_POWER = 324
    POWERS = MAX_POWER - MIN_POWER + 1

# 10**k for k = MIN_POWER to MAX_POWER as 128-bit fractions with the highest bit set, rounded up.
cdef uint64_t[POWERS] POWER_HIGH
cdef uint64_t[POWERS] POWER_LOW


def _fill_powers():
    cdef int index
    for index in range(POWERS):
        exponent = index + MIN_POWER
        if exponent >= 0:
            bits = (10**exponent).bit_length()
            scaled = 10**exponent << 128 >> bits if bits <= 128 else -(-(10**exponent) >> (bits - 128))
        else:
            divisor = 10**-exponent
            # 2**(bits - 1) < divisor < 2**bits, so that the quotient has 128 bits.
            bits = divisor.bit_length()
            scaled = -((-1 << (127 + bits)) // divisor)
        POWER_HIGH[index] = scaled >> 64
        POWER_LOW[index] = scaled & 0xFFFFFFFFFFFFFFFF


_fill_powers()


cdef inline int count_digits(uint64_t value) noexcept nogil:
    """Decimal digits of `value`; 1 for 0."""
    cdef int count = 1
    while value >= 10000:
        value //= 10000
        count += 4
    if value >= 1000:
        return count + 3
    if value >= 100:
        return count + 2
    return count + 1 if value >= 10 else count


cdef inline void put_digits(uint64_t value, int count, char* out) noexcept nogil:
    """The last `count` digits of `value`, with leading zeros."""
    cdef uint64_t rest
    while count >= 2:
        rest = value // 100
        count -= 2
        memcpy(out + count, PAIRS + 2 * (value - rest * 100), 2)
        value = rest
    if count:
        out[0] = <char>(48 + value % 10)


cdef Py_ssize_t write_int64(int64_t value, char* out) noexcept nogil:
    cdef uint64_t magnitude = <uint64_t>value
    cdef int sign = 0
    cdef int count
    if value < 0:
        out[0] = b"-"
        sign = 1
        magnitude = 0 - magnitude
    count = count_digits(magnitude)
    put_digits(magnitude, count, out + sign)
    return sign + count


cdef inline uint64_t round_to_odd(uint64_t high, uint64_t low, uint64_t factor) noexcept nogil:
    """The upper 64 of 192 bits of a product, its last bit set when any lower one is."""
    cdef u128 product = <u128>high * factor + ((<u128>low * factor) >> 64)
    return <uint64_t>(product >> 64) | (<uint64_t>product > 1)


cdef int shortest(uint64_t fraction, int biased, uint64_t* digits) noexcept nogil:
    """The decimal exponent of a finite positive double, and the shortest digits that read back as it.

    Raffaele Giulietti, "The Schubfach way to render doubles" (2020): of the decimals within the interval
    that rounds to the double, one of the shortest, and of these the nearest.
    """
    cdef uint64_t c
    cdef uint64_t s
    cdef uint64_t tens
    cdef uint64_t low
    cdef uint64_t mid
    cdef uint64_t high
    cdef uint64_t g1
    cdef uint64_t g0
    cdef int q
    cdef int k
    cdef int h
    cdef bint odd
    cdef bint closer = fraction == 0 and biased > 1
    cdef bint under
    cdef bint over
    if biased:
        c = fraction | (<uint64_t>1 << 52)
        q = biased - 1075
    else:
        c = fraction
        q = -1074
    if -53 < q <= 0 and (c & ((<uint64_t>1 << -q) - 1)) == 0:
        # A whole number below 2**53 is its own digits.
        digits[0] = c >> -q
        return 0
    odd = c & 1
    # floor(log10(2**q)), and of 3/4 * 2**q where the interval is narrower below.
    k = (q * 1262611 - (524031 if closer else 0)) >> 22
    # floor(log2(10**-k)) + q + 1
    h = q + ((-k * 1741647) >> 19) + 1
    g1 = POWER_HIGH[-k - MIN_POWER]
    g0 = POWER_LOW[-k - MIN_POWER]
    low = round_to_odd(g1, g0, (4 * c - 2 + closer) << h) + odd
    mid = round_to_odd(g1, g0, (4 * c) << h)
    high = round_to_odd(g1, g0, (4 * c + 2) << h) - odd
    s = mid // 4
    if s >= 10:
        tens = s // 10
        under = low <= 40 * tens
        over = 40 * tens + 40 <= high
        if under != over:
            digits[0] = tens + over
            return k + 1
    under = low <= 4 * s
    over = 4 * s + 4 <= high
    if under != over:
        digits[0] = s + over
        return k
    over = mid > 4 * s + 2 or (mid == 4 * s + 2 and (s & 1) == 1)
    digits[0] = s + over
    return k


cdef Py_ssize_t write_double(double value, char* out) noexcept nogil:
    """NaN is `NaN`, the infinities `Infinity` and `-Infinity`."""
    cdef uint64_t bits
    cdef uint64_t digits
    cdef int biased
    cdef int k
    cdef int count
    cdef int point
    cdef char* at = out
    memcpy(&bits, &value, 8)
    biased = <int>(bits >> 52) & 0x7FF
    if biased == 0x7FF and bits << 12:
        memcpy(out, b"NaN", 3)
        return 3
    if bits >> 63:
        at[0] = b"-"
        at += 1
    if biased == 0x7FF:
        memcpy(at, b"Infinity", 8)
        return at + 8 - out
    if bits << 1 == 0:
        memcpy(at, b"0.0", 3)
        return at + 3 - out
    k = shortest(bits & ((<uint64_t>1 << 52) - 1), biased, &digits)
    if k == 0 and digits < 10000000000000000ULL:
        count = count_digits(digits)
        put_digits(digits, count, at)
        memcpy(at + count, b".0", 2)
        return at + count + 2 - out
    # Trailing zeros: at most 16.
    if digits % 100000000 == 0:
        digits //= 100000000
        k += 8
    if digits % 10000 == 0:
        digits //= 10000
        k += 4
    if digits % 100 == 0:
        digits //= 100
        k += 2
    while digits % 10 == 0:
        digits //= 10
        k += 1
    count = count_digits(digits)
    point = count + k
    if 0 < point <= 16:
        if k < 0:
            put_digits(digits, count, at + 1)
            memmove(at, at + 1, point)
            at[point] = b"."
            return at + count + 1 - out
        put_digits(digits, count, at)
        memset(at + count, 48, k)
        memcpy(at + point, b".0", 2)
        return at + point + 2 - out
    if -4 < point <= 0:
        memcpy(at, b"0.000", 5)
        put_digits(digits, count, at + 2 - point)
        return at + 2 - point + count - out
    put_digits(digits, count, at + 1)
    at[0] = at[1]
    at[1] = b"."
    at += count + 1 if count > 1 else 1
    at[0] = b"e"
    point -= 1
    at[1] = b"-" if point < 0 else b"+"
    point = -point if point < 0 else point
    count = 3 if point >= 100 else 2
    put_digits(point, count, at + 2)
    return at + 2 + count - out


cdef Py_ssize_t write_decimal(uint64_t low, int64_t high, int scale, char* out) noexcept nogil:
    """`high * 2**64 + low` with `scale` (0 to 38) digits behind the point."""
    cdef char[40] digits
    cdef u128 value = (<u128><uint64_t>high << 64) | low
    cdef char* at = out
    cdef u128 rest
    cdef int count
    cdef int whole
    cdef int width = 0
    if high < 0:
        at[0] = b"-"
        at += 1
        value = 0 - value
    if value >> 64 == 0:
        count = count_digits(<uint64_t>value)
        width = count if count > scale + 1 else scale + 1
        memset(digits, 48, width - count)
        put_digits(<uint64_t>value, count, digits + width - count)
    else:
        # 39 digits are 13 three times: each part fits 64 bits.
        rest = value // 10000000000000ULL
        put_digits(<uint64_t>(value - rest * 10000000000000ULL), 13, digits + 26)
        value = rest
        rest = value // 10000000000000ULL
        put_digits(<uint64_t>(value - rest * 10000000000000ULL), 13, digits + 13)
        put_digits(<uint64_t>rest, 13, digits)
        width = 39
        count = 0
        while digits[count] == 48 and width - count > scale + 1:
            count += 1
        width -= count
        memmove(digits, digits + count, width)
    whole = width - scale
    memcpy(at, digits, whole)
    at += whole
    if scale:
        at[0] = b"."
        memcpy(at + 1, digits + whole, scale)
        at += 1 + scale
    return at - out


cdef inline int64_t floor_div(int64_t value, int64_t by) noexcept nogil:
    cdef int64_t quotient = value // by
    return quotient - (quotient * by > value)


cdef Py_ssize_t put_date(int64_t days, char* out) noexcept nogil:
    """A day since 1970-01-01 in the proleptic Gregorian calendar.

    Years begin in March here, so that the leap day is the last of its year; an era has 400 years.
    """
    cdef int64_t shifted = days + 719468
    cdef int64_t era = floor_div(shifted, 146097)
    cdef int day_of_era = <int>(shifted - era * 146097)
    cdef int year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    cdef int day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    cdef int from_march = (5 * day_of_year + 2) // 153
    cdef int month = from_march + 3 if from_march < 10 else from_march - 9
    cdef int64_t year = era * 400 + year_of_era + (month <= 2)
    cdef int width
    cdef char* at = out
    if year < 0 or year > 9999:
        at[0] = b"-" if year < 0 else b"+"
        at += 1
        year = -year if year < 0 else year
    width = count_digits(year)
    width = 4 if width < 4 else width
    put_digits(year, width, at)
    at += width
    at[0] = b"-"
    put_digits(month, 2, at + 1)
    at[3] = b"-"
    put_digits(day_of_year - (153 * from_march + 2) // 5 + 1, 2, at + 4)
    return at + 6 - out


cdef Py_ssize_t write_date(int32_t days, char* out) noexcept nogil:
    return put_date(days, out)


cdef Py_ssize_t write_timestamp(int64_t us, char* out) noexcept nogil:
    cdef int64_t days = floor_div(us, 86400000000LL)
    cdef int64_t of_day = us - days * 86400000000LL
    cdef int seconds = <int>(of_day // 1000000)
    cdef int fraction = <int>(of_day - <int64_t>seconds * 1000000)
    cdef char* at = out + put_date(days, out)
    at[0] = b"T"
    put_digits(seconds // 3600, 2, at + 1)
    at[3] = b":"
    put_digits(seconds // 60 % 60, 2, at + 4)
    at[6] = b":"
    put_digits(seconds % 60, 2, at + 7)
    at += 9
    if fraction:
        at[0] = b"."
        if fraction % 1000 == 0:
            put_digits(fraction // 1000, 3, at + 1)
            at += 4
        else:
            put_digits(fraction, 6, at + 1)
            at += 7
    at[0] = b"Z"
    return at + 1 - out


def double_text(double value) -> str:
    """The text of a DOUBLE.

    >>> double_text(0.1), double_text(1e22)
    ('0.1', '1e+22')
    """
    cdef char[MAX_DOUBLE_TEXT] out
    return out[: write_double(value, out)].decode()


def decimal_text(value: int, int scale) -> str:
    """The text of a DECIMAL of that unscaled value (128 bits, signed).

    >>> decimal_text(-150, 2)
    '-1.50'
    """
    cdef char[MAX_DECIMAL_TEXT] out
    if not 0 <= scale <= 38 or not -(10**38) < value < 10**38:
        raise ValueError(f"DECIMAL has at most 38 digits: {value} with scale {scale}")
    return out[: write_decimal(value & 0xFFFFFFFFFFFFFFFF, value >> 64, scale, out)].decode()


def date_text(int32_t days) -> str:
    """The text of a DATE, days since 1970-01-01.

    >>> date_text(-1)
    '1969-12-31'
    """
    cdef char[MAX_DATE_TEXT] out
    return out[: write_date(days, out)].decode()


def timestamp_text(int64_t us) -> str:
    """The text of a TIMESTAMP, microseconds since 1970-01-01T00:00:00Z.

    >>> timestamp_text(1500)
    '1970-01-01T00:00:00.001500Z'
    """
    cdef char[MAX_TIMESTAMP_TEXT] out
    return out[: write_timestamp(us, out)].decode()
