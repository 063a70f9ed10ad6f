"""Numbers from text: exact as integers and decimals, correctly rounded as doubles.

A `Number` is a scan of its text; a conversion looks at the first 19 significant digits and, where those do not
settle the value, at the text again.
"""

from libc.math cimport INFINITY, isinf
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport strtod
from libc.string cimport memcpy

from cython_ext.cursor cimport scan_load
from cython_ext.reasons cimport FRACTION, INFINITE, OK, OVERFLOW, PRECISION, SCALE


cdef extern from "powers.h" nogil:
    ctypedef unsigned long long uint128
    const double[23] DOUBLE_POWERS
    const uint64_t[20] POWERS
    uint128 wide_power(int exponent)


cdef extern from "fives.h" nogil:
    int round_product(uint64_t digits, int64_t exponent, double* out)


cdef extern from * nogil:
    int __builtin_ctzll(unsigned long long word)


cdef enum:
    # A double's value depends on no more digits than this: what follows matters only by being zero or not.
    DOUBLE_DIGITS = 768
    # The largest double is below 10 ** 309, the smallest above 10 ** -324.
    DOUBLE_PLACES = 400


cdef struct Number:
    # The value is `mantissa` * 10 ** `exponent` when `exact`; else the text has more digits.
    const uint8_t* start
    const uint8_t* end
    uint64_t mantissa
    int64_t exponent
    bint negative
    bint exact


cdef struct Decimal:
    # `digits` * 10 ** `exponent`, without trailing zeros; the first 38 digits, `more` when others follow.
    uint128 digits
    int64_t exponent
    int count
    bint more


cdef inline uint64_t digit_stops(uint64_t word) noexcept nogil:
    """The high bit of every byte of `word` (text xor '0') that was no digit."""
    return (((word & 0x7F7F7F7F7F7F7F7FULL) + 0x7676767676767676ULL) | word) & 0x8080808080808080ULL


cdef inline uint64_t join_digits(uint64_t word) noexcept nogil:
    """The number of eight digits (a byte each, the first one lowest): pairs, fours and all eight are joined."""
    word = (word * 2561) >> 8
    word = ((word & 0x00FF00FF00FF00FFULL) * 6553601) >> 16
    return ((word & 0x0000FFFF0000FFFFULL) * 42949672960001ULL) >> 32


cdef inline const uint8_t* read_digits(const uint8_t* at, const uint8_t* end, uint64_t* value) noexcept nogil:
    """Pass decimal digits and append them to `value`, which wraps beyond 19 of them.

    Eight at a time, without a branch on how many there are: lengths vary from record to record and would be
    mispredicted.
    """
    cdef uint64_t word
    cdef uint64_t stops
    cdef unsigned int digit
    cdef int count
    while end - at >= 8:
        word = scan_load(at) ^ 0x3030303030303030ULL
        stops = digit_stops(word)
        count = 8 if stops == 0 else __builtin_ctzll(stops) >> 3
        if count == 0:
            return at
        # The digits move to the end of the word behind zeros.
        value[0] = value[0] * POWERS[count] + join_digits(word << (64 - 8 * count))
        at += count
        if count < 8:
            return at
    while at < end:
        digit = <unsigned int>at[0] - 48
        if digit > 9:
            break
        value[0] = value[0] * 10 + digit
        at += 1
    return at


cdef inline bint goes_on(uint8_t byte) noexcept nogil:
    """Whether a number may go on with the byte behind its digits, a point or an exponent; also for some that
    cannot follow a number, but for no white space, comma or closing brace."""
    return <uint8_t>(byte - c'.') <= c'e' - c'.'


cdef inline const uint8_t* read_short_integer(const uint8_t* at, uint64_t* value) noexcept nogil:
    """Read a JSON integer without a sign, of at most 15 digits, and see that the number ends there; the byte
    behind it, or NULL when it is anything else. 16 bytes can be read."""
    cdef uint64_t word = scan_load(at) ^ 0x3030303030303030ULL
    cdef uint64_t stops = digit_stops(word)
    cdef uint64_t joined
    cdef int count
    # A branch, for once: most columns have short numbers only or long ones only.
    if stops != 0:
        count = __builtin_ctzll(stops) >> 3
        if count == 0 or (at[0] == c'0' and count != 1):
            return NULL
        value[0] = join_digits(word << (64 - 8 * count))
    else:
        if at[0] == c'0':
            return NULL
        joined = join_digits(word)
        word = scan_load(at + 8) ^ 0x3030303030303030ULL
        stops = digit_stops(word)
        if stops == 0:
            return NULL
        count = __builtin_ctzll(stops) >> 3
        # By two shifts, since `count` may be 0.
        value[0] = joined * POWERS[count] + join_digits((word << 8) << (56 - 8 * count))
        count += 8
    at += count
    if goes_on(at[0]):
        return NULL
    return at


cdef inline const uint8_t* read_short_decimal(const uint8_t* at, uint64_t* mantissa, int* places) noexcept nogil:
    """Read a JSON number without sign and exponent, of at most 7 digits before the point and 15 bytes, as `mantissa`
    / 10 ** `places`, and see that it ends there; the byte behind it, or NULL when it is anything else. 16 bytes can
    be read."""
    cdef uint64_t word = scan_load(at) ^ 0x3030303030303030ULL
    cdef uint64_t behind
    cdef uint64_t before
    cdef uint64_t stops = digit_stops(word)
    cdef int count
    cdef int whole
    if stops == 0:
        return NULL
    whole = __builtin_ctzll(stops) >> 3
    if whole == 0 or (at[0] == c'0' and whole != 1):
        return NULL
    places[0] = 0
    if at[whole] != c'.':
        mantissa[0] = join_digits(word << (64 - 8 * whole))
        at += whole
    else:
        # The number's end: in this word, or in the next one.
        behind = scan_load(at + 8) ^ 0x3030303030303030ULL
        stops &= stops - 1
        if stops != 0:
            count = __builtin_ctzll(stops) >> 3
        else:
            stops = digit_stops(behind)
            if stops == 0:
                return NULL
            count = 8 + (__builtin_ctzll(stops) >> 3)
        at += count
        # The digits behind the point move to its place.
        count -= 1
        before = (<uint64_t>1 << (8 * whole)) - 1
        word = (word & before) | (((word >> 8) | (behind << 56)) & ~before)
        places[0] = count - whole
        if count == whole:
            return NULL
        if count <= 8:
            mantissa[0] = join_digits(word << (64 - 8 * count))
        else:
            # `behind` without its first byte; 9 to 14 digits.
            mantissa[0] = join_digits(word) * POWERS[count - 8] + join_digits((behind >> 8) << (128 - 8 * count))
    if goes_on(at[0]):
        return NULL
    return at


cdef inline const uint8_t* read_exponent(const uint8_t* at, const uint8_t* end, int64_t* exponent) noexcept nogil:
    """Pass the sign and digits behind an `e` and add them to `exponent`; NULL when there is no digit.

    It saturates far beyond what the digits of any record could make up for.
    """
    cdef bint negative = False
    cdef int64_t value = 0
    cdef unsigned int digit
    cdef const uint8_t* start
    if at < end and (at[0] == c'+' or at[0] == c'-'):
        negative = at[0] == c'-'
        at += 1
    start = at
    while at < end:
        digit = <unsigned int>at[0] - 48
        if digit > 9:
            break
        if value < 1_000_000_000_000_000LL:
            value = value * 10 + digit
        at += 1
    if at == start:
        return NULL
    exponent[0] += -value if negative else value
    return at


cdef inline bint fits_mantissa(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Whether the number whose digits begin at `at` has at most 19 significant ones."""
    cdef int count = 0
    while at < end and (at[0] == c'0' or at[0] == c'.'):
        at += 1
    while at < end and count < 20:
        if at[0] == c'e' or at[0] == c'E':
            break
        if at[0] != c'.':
            count += 1
        at += 1
    return count < 20


cdef inline const uint8_t* scan_json_number(const uint8_t* at, const uint8_t* end, Number* number) noexcept nogil:
    """Read a number by RFC 8259, section 6; the byte behind it, or NULL when it is malformed."""
    cdef const uint8_t* first
    cdef const uint8_t* fraction
    cdef Py_ssize_t digits
    number.start = at
    number.mantissa = 0
    number.exponent = 0
    number.negative = at < end and at[0] == c'-'
    if number.negative:
        at += 1
    first = at
    at = read_digits(at, end, &number.mantissa)
    digits = at - first
    if digits == 0 or (digits > 1 and first[0] == c'0'):
        return NULL
    if at < end and at[0] == c'.':
        fraction = at + 1
        at = read_digits(fraction, end, &number.mantissa)
        if at == fraction:
            return NULL
        number.exponent = fraction - at
        digits += at - fraction
    number.exact = digits < 20 or fits_mantissa(first, at)
    if at < end and (at[0] == c'e' or at[0] == c'E'):
        at = read_exponent(at + 1, end, &number.exponent)
        if at == NULL:
            return NULL
    number.end = at
    return at


cdef inline bint scan_text_number(
    const uint8_t* at, const uint8_t* end, const uint8_t* limit, Number* number
) noexcept nogil:
    """Read all of a text as a number as people write it: also `+1`, `007`, `.5` and `5.`; False for others.

    The bytes up to `limit` (not before `end`) can be read, and the one at `end`, if it can, is no digit: so short
    numbers are read eight bytes at a time, too.
    """
    cdef const uint8_t* first
    cdef const uint8_t* fraction
    cdef Py_ssize_t digits
    number.start = at
    number.end = end
    number.mantissa = 0
    number.exponent = 0
    number.negative = False
    if at < end and (at[0] == c'-' or at[0] == c'+'):
        number.negative = at[0] == c'-'
        at += 1
    first = at
    at = read_digits(at, limit, &number.mantissa)
    digits = at - first
    if at < end and at[0] == c'.':
        fraction = at + 1
        at = read_digits(fraction, limit, &number.mantissa)
        number.exponent = fraction - at
        digits += at - fraction
    if digits == 0:
        return False
    number.exact = digits < 20 or fits_mantissa(first, at)
    if at < end and (at[0] == c'e' or at[0] == c'E'):
        at = read_exponent(at + 1, end, &number.exponent)
        if at == NULL:
            return False
    return at == end


cdef inline Decimal decimal_of(const Number* number) noexcept nogil:
    """The number's digits, from its text."""
    cdef Decimal decimal
    cdef const uint8_t* at = number.start
    cdef int64_t behind = 0
    decimal.digits = 0
    decimal.count = 0
    decimal.more = False
    # `behind` counts the digits since the last one that was kept. Zeros are kept only when another digit
    # follows them, so that trailing ones never are.
    while at < number.end and at[0] != c'e' and at[0] != c'E':
        if c'0' <= at[0] <= c'9':
            behind += 1
            if at[0] != c'0' and not decimal.more:
                if decimal.count == 0:
                    behind = 1
                if decimal.count + behind > 38:
                    decimal.more = True
                else:
                    decimal.digits = decimal.digits * wide_power(<int>behind) + (at[0] - 48)
                    decimal.count += <int>behind
                    behind = 0
        at += 1
    decimal.exponent = number.exponent + behind
    return decimal


cdef inline Decimal exact_digits(const Number* number) noexcept nogil:
    """The number's digits, from its mantissa when that has all of them; then trailing zeros may remain."""
    cdef Decimal decimal
    if not number.exact:
        return decimal_of(number)
    decimal.digits = number.mantissa
    decimal.exponent = number.exponent
    decimal.count = 20
    decimal.more = False
    return decimal


cdef inline int to_integer(const Number* number, int64_t low, int64_t high, int64_t* out) noexcept nogil:
    """The number as an integer of `low` to `high` (low <= 0); OK, FRACTION or OVERFLOW."""
    cdef uint64_t value = number.mantissa
    cdef int64_t exponent = number.exponent
    cdef Decimal decimal
    if not number.exact:
        decimal = decimal_of(number)
        exponent = decimal.exponent
        if exponent < 0:
            return FRACTION
        if decimal.more or decimal.count > 19:
            return OVERFLOW
        value = <uint64_t>decimal.digits
    if exponent != 0 and value != 0:
        while exponent < 0:
            if value % 10:
                return FRACTION
            value //= 10
            exponent += 1
        if exponent > 18 or value > 0xFFFFFFFFFFFFFFFFULL // POWERS[exponent]:
            return OVERFLOW
        value *= POWERS[exponent]
    if number.negative:
        if value > <uint64_t>0 - <uint64_t>low:
            return OVERFLOW
        out[0] = <int64_t>(<uint64_t>0 - value)
        return OK
    if value > <uint64_t>high:
        return OVERFLOW
    out[0] = <int64_t>value
    return OK


cdef inline int to_decimal(const Number* number, int precision, int scale, uint8_t* out) noexcept nogil:
    """The number as a scaled 128-bit integer, written to `out`; OK, SCALE or PRECISION."""
    cdef Decimal decimal = exact_digits(number)
    cdef int64_t shift = decimal.exponent + scale
    if decimal.digits == 0:
        shift = 0
    while shift < 0:
        if decimal.digits % 10 != 0 or decimal.more:
            return SCALE
        decimal.digits = decimal.digits // 10
        shift += 1
    if decimal.more or shift > precision or decimal.digits >= wide_power(precision - <int>shift):
        return PRECISION
    decimal.digits *= wide_power(<int>shift)
    if number.negative:
        decimal.digits = 0 - decimal.digits
    memcpy(out, &decimal.digits, 16)
    return OK


cdef inline int to_epoch_us(const Number* number, int places, int64_t* out) noexcept nogil:
    """A number of a unit of 10 ** `places` us in whole us, towards minus infinity; OK or OVERFLOW."""
    cdef Decimal decimal
    cdef uint128 value
    cdef uint128 unit
    cdef int64_t shift
    if number.exact and number.exponent == 0 and places >= 0 and number.mantissa < (<uint64_t>1 << 43):
        # The usual case. 2 ** 43 seconds of 10 ** 6 us are less than 2 ** 63.
        out[0] = <int64_t>(number.mantissa * POWERS[places])
        if number.negative:
            out[0] = -out[0]
        return OK
    decimal = exact_digits(number)
    shift = decimal.exponent + places
    value = decimal.digits
    if value == 0:
        out[0] = 0
        return OK
    if shift >= 0:
        if shift > 18 or value > 0x7FFFFFFFFFFFFFFFULL // POWERS[shift]:
            return OVERFLOW
        value *= POWERS[shift]
        # Digits that were left out stand behind the 38th: of a value that fits they are a fraction.
        if decimal.more and number.negative:
            value += 1
    elif shift < -38:
        value = 1 if number.negative else 0
    else:
        unit = wide_power(<int>-shift)
        if number.negative and (decimal.more or value % unit != 0):
            value = value // unit + 1
        else:
            value = value // unit
    if value > 0x7FFFFFFFFFFFFFFFULL:
        return OVERFLOW
    out[0] = -<int64_t>value if number.negative else <int64_t>value
    return OK


cdef inline double round_text(const Number* number) noexcept nogil:
    """The double nearest to the number, ties to even; infinite when it is too large.

    The C library rounds its digits. They are copied without a point, which in C depends on the locale, and cut
    to what can matter: a last digit 1 stands for all that follow.
    """
    cdef char[DOUBLE_DIGITS + 32] text
    cdef const uint8_t* at = number.start
    cdef int64_t exponent = number.exponent
    cdef int count = 0
    cdef bint more = False
    while at < number.end and at[0] != c'e' and at[0] != c'E':
        if c'0' <= at[0] <= c'9' and (count or at[0] != c'0'):
            if count < DOUBLE_DIGITS:
                text[count] = at[0]
                count += 1
            else:
                more = more or at[0] != c'0'
                exponent += 1
        at += 1
    if count == 0 or exponent + count < -DOUBLE_PLACES:
        return 0.0
    if exponent + count > DOUBLE_PLACES:
        return INFINITY
    if more:
        text[count] = c'1'
        count += 1
        exponent -= 1
    snprintf(&text[count], 24, "e%lld", <long long>exponent)
    return strtod(text, NULL)


cdef inline int to_double(const Number* number, double* out) noexcept nogil:
    """The double nearest to the number, ties to even; OK, or INFINITE when it is too large."""
    cdef double value
    if number.exact and number.mantissa <= (<uint64_t>1 << 53) and -22 <= number.exponent <= 22:
        # Both operands are exact, so that IEEE arithmetic rounds once (Clinger, 1990).
        value = <double>number.mantissa
        if number.exponent < 0:
            value /= DOUBLE_POWERS[-number.exponent]
        else:
            value *= DOUBLE_POWERS[number.exponent]
    else:
        if not number.exact:
            value = round_text(number)
        elif number.mantissa == 0:
            value = 0.0
        elif not round_product(number.mantissa, number.exponent, &value):
            value = round_text(number)
        if isinf(value):
            return INFINITE
    out[0] = -value if number.negative else value
    return OK
