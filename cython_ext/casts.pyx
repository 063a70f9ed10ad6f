"""CAST between text, BIGINT, DOUBLE, DECIMAL and TIMESTAMP.

Functions take pyarrow arrays and return `(result, flags)`: `result` is NULL where the argument is, `flags` is
a numpy bool array, True for rows whose value has no counterpart in the type wanted (the value there is
unspecified and the caller makes it NULL), None when there is none. Rounding is half away from zero, except
from DOUBLE to BIGINT, which is half to even.

Text of a number is, between blanks: an optional sign, digits with at most one point, and an optional exponent
(`e`, an optional sign, digits); at least one digit stands before the exponent.
"""

from libc.math cimport INFINITY, NAN, fabs, rint, round as round_half_away
from libc.stdint cimport INT32_MAX, INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint64_t, uintptr_t
from libc.stdio cimport snprintf
from libc.stdlib cimport strtod
from libc.string cimport memcpy

from cython_ext.clock cimport enter_kernel, leave_kernel
from cython_ext.operands cimport Operand, Text, flags_of, is_known, open_operand, text_at, validity_of

from cython_ext.times cimport days_in, days_of

import numpy as np
import pyarrow as pa

cdef extern from *:
    """
    /* Arrow promises an alignment of 8 bytes, not the 16 of a plain __int128. */
    typedef __int128 int128 __attribute__((aligned(8)));
    static inline int times_ten_overflows(int128* value, int digit) {
        __int128 wide;
        int bad = __builtin_mul_overflow((__int128)*value, (__int128)10, &wide);
        bad |= __builtin_add_overflow(wide, (__int128)digit, &wide);
        *value = wide;
        return bad;
    }
    """
    ctypedef long long int128
    int times_ten_overflows(int128* value, int digit) noexcept nogil


cdef enum:
    DECIMAL_WIDTH = 41  # a sign, 38 digits, a point, and a zero before it
    DOUBLE_WIDTH = 26  # a sign, 17 digits, a point, an exponent of five characters
    MAX_DIGITS = 800  # a DOUBLE is decided by its first 768 significant digits, and whether others follow


# Every integer up to it is a double.
cdef int64_t EXACT = 1 << 53


cdef struct Number:
    # The scanned text of a number: `digits` holds digits and at most one point, `whole` digits stand before
    # the point of the `count` in all, and the value is that times ten to the power of `exponent`.
    const uint8_t* digits
    const uint8_t* end
    Py_ssize_t whole
    Py_ssize_t count
    int64_t exponent
    bint negative


cdef inline bint is_blank(uint8_t byte) noexcept nogil:
    return byte == c" " or (9 <= byte <= 13)


cdef Text trim(Text text) noexcept nogil:
    while text.size and is_blank(text.at[0]):
        text.at += 1
        text.size -= 1
    while text.size and is_blank(text.at[text.size - 1]):
        text.size -= 1
    return text


cdef bint scan_number(Text text, Number* number) noexcept nogil:
    """Whether the trimmed text is a number."""
    cdef const uint8_t* at = text.at
    cdef const uint8_t* end = text.at + text.size
    cdef bint negative_exponent = False
    cdef bint point = False
    number.negative = False
    number.exponent = 0
    number.count = 0
    number.whole = 0
    if at < end and (at[0] == c"-" or at[0] == c"+"):
        number.negative = at[0] == c"-"
        at += 1
    number.digits = at
    while at < end:
        if at[0] == c"." and not point:
            point = True
            number.whole = number.count
        elif c"0" <= at[0] <= c"9":
            number.count += 1
        else:
            break
        at += 1
    number.end = at
    if not point:
        number.whole = number.count
    if number.count == 0:
        return False
    if at == end:
        return True
    if at[0] != c"e" and at[0] != c"E":
        return False
    at += 1
    if at < end and (at[0] == c"-" or at[0] == c"+"):
        negative_exponent = at[0] == c"-"
        at += 1
    if at == end:
        return False
    while at < end:
        if not c"0" <= at[0] <= c"9":
            return False
        # Beyond a billion no text is long enough to make up for it.
        if number.exponent < 1000000000:
            number.exponent = number.exponent * 10 + (at[0] - c"0")
        at += 1
    if negative_exponent:
        number.exponent = -number.exponent
    return True


cdef bint exact_value(Number* number, int scale, int128* out) noexcept nogil:
    """The number times ten to the power of `scale`, rounded half away from zero; False when out of 128 bits."""
    cdef const uint8_t* at = number.digits
    cdef int64_t keep = number.whole + number.exponent + scale
    cdef int64_t taken = 0
    cdef int128 value = 0
    cdef bint rounds_up = False
    if keep < 0:
        out[0] = 0
        return True
    while at < number.end:
        if at[0] != c".":
            if taken == keep:
                rounds_up = at[0] >= c"5"
                break
            if times_ten_overflows(&value, at[0] - c"0"):
                return False
            taken += 1
        at += 1
    if value != 0:
        while taken < keep:
            if times_ten_overflows(&value, 0):
                return False
            taken += 1
    if rounds_up:
        value = value + 1
        if value < 0:
            return False
    out[0] = -value if number.negative else value
    return True


cdef int128 power_of_ten(int exponent) noexcept nogil:
    """10 to the power of `exponent`, 0 to 38."""
    cdef int128 power = 1
    cdef int i
    for i in range(exponent):
        power = power * 10
    return power


cdef double exact_power_of_ten(int exponent) noexcept nogil:
    """10 to the power of `exponent`, 0 to 22, which a double holds exactly."""
    cdef double power = 1
    cdef int i
    for i in range(exponent):
        power = power * 10
    return power


cdef double rounded_value(Number* number) noexcept nogil:
    """The nearest double, ties to even; infinite when out of range."""
    cdef const uint8_t* at = number.digits
    cdef char digits[MAX_DIGITS + 32]
    cdef int64_t exponent = number.exponent - (number.count - number.whole)
    cdef int count = 0
    cdef uint64_t mantissa = 0
    cdef bint more = False
    cdef double value
    while at < number.end:
        if at[0] != c"." and (count or at[0] != c"0"):
            if count < MAX_DIGITS:
                digits[count] = at[0]
                count += 1
                if count <= 19:
                    mantissa = mantissa * 10 + (at[0] - c"0")
            else:
                exponent += 1
                more |= at[0] != c"0"
        at += 1
    if count == 0:
        return -0.0 if number.negative else 0.0
    if count <= 19 and mantissa <= <uint64_t>EXACT and -22 <= exponent <= 22:
        value = <double>mantissa
        if exponent < 0:
            value = value / exact_power_of_ten(<int>-exponent)
        else:
            value = value * exact_power_of_ten(<int>exponent)
        return -value if number.negative else value
    if more:
        digits[count] = c"1"
        count += 1
        exponent -= 1
    # No point in it, so that the locale's does not matter.
    snprintf(digits + count, 24, "e%lld", <long long>exponent)
    value = strtod(digits, NULL)
    return -value if number.negative else value


cdef bint is_word(Text text, const char* word, Py_ssize_t size) noexcept nogil:
    """Whether the text is the lower-case `word` in any case."""
    cdef Py_ssize_t k
    if text.size != size:
        return False
    for k in range(size):
        if (text.at[k] | 0x20) != <uint8_t>word[k]:
            return False
    return True


cdef bint scan_special(Text text, double* out) noexcept nogil:
    """Whether the trimmed text is `nan`, `inf` or `infinity`, in any case and with a sign."""
    cdef double sign = 1
    if text.size and (text.at[0] == c"-" or text.at[0] == c"+"):
        sign = -1 if text.at[0] == c"-" else 1
        text.at += 1
        text.size -= 1
    if is_word(text, "inf", 3) or is_word(text, "infinity", 8):
        out[0] = sign * INFINITY
        return True
    if is_word(text, "nan", 3):
        out[0] = NAN
        return True
    return False


def parse_i64(texts):
    """Text as BIGINT; a fraction is rounded."""
    cdef Operand text
    cdef Py_ssize_t n, i
    cdef int64_t[::1] out
    cdef uint8_t[::1] flags
    cdef Number number
    cdef int128 value
    cdef bint any_flag = False
    open_operand(texts, &text)
    n = text.column.n
    values = np.zeros(n, dtype=np.int64)
    owner = np.zeros(n, dtype=np.uint8)
    out = values
    flags = owner
    with nogil:
        enter_kernel()
        for i in range(n):
            if not is_known(&text, i):
                continue
            value = 0
            if (scan_number(trim(text_at(&text, i)), &number) and exact_value(&number, 0, &value)
                    and INT64_MIN <= value <= INT64_MAX):
                out[i] = <int64_t>value
            else:
                flags[i] = 1
                any_flag = True
        leave_kernel()
    result = pa.Array.from_buffers(pa.int64(), n, [validity_of(&text, &text, n), pa.py_buffer(values)])
    return result, owner.view(np.bool_) if any_flag else None


def parse_decimal(texts, result_type):
    """Text as the decimal type `result_type`; further digits are rounded."""
    cdef Operand text
    cdef Py_ssize_t n, i
    cdef int128* out
    cdef uint8_t[::1] flags
    cdef Number number
    cdef int128 value, limit
    cdef bint any_flag = False
    cdef int scale = result_type.scale
    open_operand(texts, &text)
    n = text.column.n
    limit = power_of_ten(result_type.precision)
    values = np.zeros(2 * n, dtype=np.int64)
    owner = np.zeros(n, dtype=np.uint8)
    out = <int128*><uintptr_t>values.ctypes.data
    flags = owner
    with nogil:
        enter_kernel()
        for i in range(n):
            if not is_known(&text, i):
                continue
            value = 0
            if (scan_number(trim(text_at(&text, i)), &number) and exact_value(&number, scale, &value)
                    and -limit < value < limit):
                out[i] = value
            else:
                flags[i] = 1
                any_flag = True
        leave_kernel()
    result = pa.Array.from_buffers(result_type, n, [validity_of(&text, &text, n), pa.py_buffer(values)])
    return result, owner.view(np.bool_) if any_flag else None


def parse_f64(texts):
    """Text as DOUBLE, correctly rounded; too large a number is infinite. Also `nan`, `inf`, `infinity`."""
    cdef Operand text
    cdef Py_ssize_t n, i
    cdef double[::1] out
    cdef uint8_t[::1] flags
    cdef Number number
    cdef Text trimmed
    cdef bint any_flag = False
    open_operand(texts, &text)
    n = text.column.n
    values = np.zeros(n, dtype=np.float64)
    owner = np.zeros(n, dtype=np.uint8)
    out = values
    flags = owner
    with nogil:
        enter_kernel()
        for i in range(n):
            if not is_known(&text, i):
                continue
            trimmed = trim(text_at(&text, i))
            if scan_number(trimmed, &number):
                out[i] = rounded_value(&number)
            elif not scan_special(trimmed, &out[i]):
                flags[i] = 1
                any_flag = True
        leave_kernel()
    result = pa.Array.from_buffers(pa.float64(), n, [validity_of(&text, &text, n), pa.py_buffer(values)])
    return result, owner.view(np.bool_) if any_flag else None


cdef bint take_number(const uint8_t** at, const uint8_t* end, int least, int most, int* out) noexcept nogil:
    """Read `least` to `most` digits and step over them."""
    cdef int count = 0
    out[0] = 0
    while at[0] < end and count < most and c"0" <= at[0][0] <= c"9":
        out[0] = out[0] * 10 + (at[0][0] - c"0")
        at[0] += 1
        count += 1
    return count >= least


cdef inline bint take_byte(const uint8_t** at, const uint8_t* end, uint8_t byte) noexcept nogil:
    if at[0] < end and at[0][0] == byte:
        at[0] += 1
        return True
    return False


cdef bint scan_timestamp(Text text, int64_t* out) noexcept nogil:
    """Whether the text is an ISO 8601 date, or date and time; microseconds UTC to `out`.

    `YYYY-MM-DD[(T| )HH:MM[:SS[.digits]][ ][Z|+HH[[:]MM]|-HH[[:]MM]]]`, the day 24:00 being the next one's
    start. Digits after the sixth are cut off.
    """
    cdef const uint8_t* at = text.at
    cdef const uint8_t* end = text.at + text.size
    cdef int year, month, day
    cdef int hour = 0
    cdef int minute = 0
    cdef int second = 0
    cdef int micros = 0
    cdef int offset = 0
    cdef int sign, offset_hour
    cdef int offset_minute = 0
    cdef int weight = 100000
    if not (take_number(&at, end, 4, 4, &year) and take_byte(&at, end, c"-")
            and take_number(&at, end, 1, 2, &month) and take_byte(&at, end, c"-")
            and take_number(&at, end, 1, 2, &day)):
        return False
    if not (year >= 1 and 1 <= month <= 12 and 1 <= day <= days_in(year, month)):
        return False
    if at < end:
        if not (take_byte(&at, end, c"T") or take_byte(&at, end, c" ")):
            return False
        if not (take_number(&at, end, 1, 2, &hour) and take_byte(&at, end, c":")
                and take_number(&at, end, 2, 2, &minute)):
            return False
        if take_byte(&at, end, c":"):
            if not take_number(&at, end, 2, 2, &second):
                return False
            if take_byte(&at, end, c"."):
                if at == end or not c"0" <= at[0] <= c"9":
                    return False
                while at < end and c"0" <= at[0] <= c"9":
                    micros += weight * (at[0] - c"0")
                    weight = weight / 10
                    at += 1
        if minute > 59 or second > 59 or hour > 24 or (hour == 24 and (minute or second or micros)):
            return False
        take_byte(&at, end, c" ")
        if at < end and (at[0] == c"+" or at[0] == c"-"):
            sign = -1 if at[0] == c"-" else 1
            at += 1
            if not take_number(&at, end, 2, 2, &offset_hour):
                return False
            if at < end:
                take_byte(&at, end, c":")
                if not take_number(&at, end, 2, 2, &offset_minute):
                    return False
            if offset_hour > 15 or offset_minute > 59:
                return False
            offset = sign * (offset_hour * 3600 + offset_minute * 60)
        elif not take_byte(&at, end, c"Z") and at < end:
            return False
        if at < end:
            return False
    out[0] = ((days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset) * 1000000
              + micros)
    return True


def parse_timestamp(texts):
    """ISO 8601 text as TIMESTAMP; without a zone it is UTC. Years are 1 to 9999."""
    cdef Operand text
    cdef Py_ssize_t n, i
    cdef int64_t[::1] out
    cdef uint8_t[::1] flags
    cdef bint any_flag = False
    open_operand(texts, &text)
    n = text.column.n
    values = np.zeros(n, dtype=np.int64)
    owner = np.zeros(n, dtype=np.uint8)
    out = values
    flags = owner
    with nogil:
        enter_kernel()
        for i in range(n):
            if is_known(&text, i) and not scan_timestamp(trim(text_at(&text, i)), &out[i]):
                flags[i] = 1
                any_flag = True
        leave_kernel()
    result = pa.Array.from_buffers(pa.timestamp("us"), n, [validity_of(&text, &text, n), pa.py_buffer(values)])
    return result, owner.view(np.bool_) if any_flag else None


def decimal_to_i64(decimals):
    """DECIMAL without a scale as BIGINT."""
    cdef Operand operand
    cdef Py_ssize_t n, i
    cdef const int128* values
    cdef int64_t[::1] out
    cdef uint8_t[::1] flags
    cdef bint any_flag = False
    open_operand(decimals, &operand)
    n = operand.column.n
    values = <const int128*>operand.column.values
    results = np.empty(n, dtype=np.int64)
    owner = np.zeros(n, dtype=np.uint8)
    out = results
    flags = owner
    with nogil:
        enter_kernel()
        for i in range(n):
            out[i] = <int64_t>values[i]
            flags[i] = not INT64_MIN <= values[i] <= INT64_MAX
            any_flag |= flags[i]
        leave_kernel()
    result = pa.Array.from_buffers(pa.int64(), n, [validity_of(&operand, &operand, n), pa.py_buffer(results)])
    return result, flags_of(flags, &operand, &operand, owner) if any_flag else None


cdef int write_digits(int128 value, char* out) noexcept nogil:
    """The decimal digits of a value that is not negative; how many."""
    cdef char reverse[40]
    cdef int count = 0
    cdef int k
    while value or count == 0:
        reverse[count] = c"0" + <char>(value % 10)
        value = value / 10
        count += 1
    for k in range(count):
        out[k] = reverse[count - 1 - k]
    return count


def decimal_to_f64(decimals):
    """DECIMAL as the nearest DOUBLE."""
    cdef Operand operand
    cdef Py_ssize_t n, i
    cdef const int128* values
    cdef int128 value
    cdef double[::1] out
    cdef int scale = decimals.type.scale
    cdef double divisor = exact_power_of_ten(scale if scale <= 22 else 0)
    cdef char digits[64]
    cdef int count
    open_operand(decimals, &operand)
    n = operand.column.n
    values = <const int128*>operand.column.values
    results = np.zeros(n, dtype=np.float64)
    out = results
    with nogil:
        enter_kernel()
        for i in range(n):
            value = values[i]
            if scale <= 22 and -EXACT <= value <= EXACT:
                out[i] = <double>value / divisor
            elif is_known(&operand, i):
                count = write_digits(-value if value < 0 else value, digits)
                snprintf(digits + count, 16, "e%d", -scale)
                out[i] = strtod(digits, NULL)
                if value < 0:
                    out[i] = -out[i]
        leave_kernel()
    return pa.Array.from_buffers(pa.float64(), n, [validity_of(&operand, &operand, n), pa.py_buffer(results)])


def f64_to_i64(doubles):
    """DOUBLE as BIGINT, rounded half to even."""
    cdef Operand operand
    cdef Py_ssize_t n, i
    cdef const double* values
    cdef double value
    cdef int64_t[::1] out
    cdef uint8_t[::1] flags
    cdef bint any_flag = False
    open_operand(doubles, &operand)
    n = operand.column.n
    values = <const double*>operand.column.values
    results = np.zeros(n, dtype=np.int64)
    owner = np.zeros(n, dtype=np.uint8)
    out = results
    flags = owner
    with nogil:
        enter_kernel()
        for i in range(n):
            value = rint(values[i])
            if -9223372036854775808.0 <= value < 9223372036854775808.0:
                out[i] = <int64_t>value
            else:
                flags[i] = 1
                any_flag = True
        leave_kernel()
    result = pa.Array.from_buffers(pa.int64(), n, [validity_of(&operand, &operand, n), pa.py_buffer(results)])
    return result, flags_of(flags, &operand, &operand, owner) if any_flag else None


def f64_to_decimal(doubles, result_type):
    """DOUBLE as the decimal type `result_type`: its product with the power of ten, rounded."""
    cdef Operand operand
    cdef Py_ssize_t n, i
    cdef const double* values
    cdef double value
    cdef double factor = float(10 ** result_type.scale)
    cdef double limit = float(10 ** result_type.precision)
    cdef int128* out
    cdef int128 exact_limit = power_of_ten(result_type.precision)
    cdef uint8_t[::1] flags
    cdef bint any_flag = False
    open_operand(doubles, &operand)
    n = operand.column.n
    values = <const double*>operand.column.values
    results = np.zeros(2 * n, dtype=np.int64)
    owner = np.zeros(n, dtype=np.uint8)
    out = <int128*><uintptr_t>results.ctypes.data
    flags = owner
    with nogil:
        enter_kernel()
        for i in range(n):
            value = round_half_away(values[i] * factor)
            # The limit as a double may be a little above the exact one.
            if fabs(value) <= limit and -exact_limit < <int128>value < exact_limit:
                out[i] = <int128>value
            else:
                flags[i] = 1
                any_flag = True
        leave_kernel()
    result = pa.Array.from_buffers(result_type, n, [validity_of(&operand, &operand, n), pa.py_buffer(results)])
    return result, flags_of(flags, &operand, &operand, owner) if any_flag else None


def format_decimal(decimals):
    """DECIMAL as text: digits with all decimal places, never an exponent."""
    cdef Operand operand
    cdef Py_ssize_t n, i
    cdef const int128* values
    cdef int128 value
    cdef int32_t[::1] offsets
    cdef uint8_t[::1] data
    cdef int scale = decimals.type.scale
    cdef char digits[48]
    cdef int count, zeros, k
    cdef Py_ssize_t at = 0
    open_operand(decimals, &operand)
    n = operand.column.n
    if n * DECIMAL_WIDTH > INT32_MAX:
        raise OverflowError("the text of one batch exceeds 2 GiB")
    values = <const int128*>operand.column.values
    sizes = np.zeros(n + 1, dtype=np.int32)
    block = np.empty(n * DECIMAL_WIDTH + 1, dtype=np.uint8)
    offsets = sizes
    data = block
    with nogil:
        enter_kernel()
        for i in range(n):
            if is_known(&operand, i):
                value = values[i]
                if value < 0:
                    data[at] = c"-"
                    at += 1
                    value = -value
                count = write_digits(value, digits)
                zeros = max(0, scale + 1 - count)
                for k in range(zeros + count):
                    if k == zeros + count - scale:
                        data[at] = c"."
                        at += 1
                    data[at] = <uint8_t>c"0" if k < zeros else <uint8_t>digits[k - zeros]
                    at += 1
            offsets[i + 1] = <int32_t>at
        leave_kernel()
    return pa.Array.from_buffers(pa.string(), n, [validity_of(&operand, &operand, n), pa.py_buffer(sizes),
                                                  pa.py_buffer(block[:at].copy())])


cdef Py_ssize_t write_double(Text shortest, uint8_t* out) noexcept nogil:
    """Spell the shortest digits of a double anew: `1.0`, `1e+16`, `1e-05`; the bytes written.

    Positional from 0.0001 to below 1e16, else one digit, the rest behind a point, and an exponent of at least
    two digits.
    """
    cdef const uint8_t* at = shortest.at
    cdef const uint8_t* end = shortest.at + shortest.size
    cdef uint8_t digits[32]
    cdef uint8_t byte
    cdef int count = 0
    cdef int point = 0
    cdef int exponent = 0
    cdef int sign = 1
    cdef bint seen_point = False
    cdef Py_ssize_t size = 0
    if at < end and at[0] == c"-":
        out[size] = c"-"
        size += 1
        at += 1
    if at < end and not c"0" <= at[0] <= c"9":
        memcpy(out + size, at, end - at)  # nan, inf
        return size + (end - at)
    while at < end and at[0] != c"e":
        byte = at[0]
        at += 1
        if byte == c".":
            seen_point = True
            continue
        # `point` is where the point stands in the digits without leading zeros.
        if count or byte != c"0":
            if count < 32:
                digits[count] = byte
                count += 1
            point += not seen_point
        elif seen_point:
            point -= 1
    if at < end:
        at += 1
        if at < end and (at[0] == c"-" or at[0] == c"+"):
            sign = -1 if at[0] == c"-" else 1
            at += 1
        while at < end:
            exponent = exponent * 10 + (at[0] - c"0")
            at += 1
        point += sign * exponent
    while count and digits[count - 1] == c"0":
        count -= 1
    if count == 0:
        memcpy(out + size, "0.0", 3)
        return size + 3
    if -3 <= point <= 16:
        return size + write_positional(digits, count, point, out + size)
    return size + write_scientific(digits, count, point - 1, out + size)


cdef Py_ssize_t write_positional(const uint8_t* digits, int count, int point, uint8_t* out) noexcept nogil:
    cdef Py_ssize_t size = 0
    cdef int k
    if point <= 0:
        memcpy(out, "0.", 2)
        size = 2
        for k in range(-point):
            out[size] = c"0"
            size += 1
        memcpy(out + size, digits, count)
        return size + count
    for k in range(point):
        out[size] = digits[k] if k < count else <uint8_t>c"0"
        size += 1
    out[size] = c"."
    size += 1
    if count <= point:
        out[size] = c"0"
        return size + 1
    memcpy(out + size, digits + point, count - point)
    return size + count - point


cdef Py_ssize_t write_scientific(const uint8_t* digits, int count, int exponent, uint8_t* out) noexcept nogil:
    cdef Py_ssize_t size = 1
    out[0] = digits[0]
    if count > 1:
        out[1] = c"."
        memcpy(out + 2, digits + 1, count - 1)
        size = count + 1
    out[size] = c"e"
    out[size + 1] = c"-" if exponent < 0 else c"+"
    size += 2
    if exponent < 0:
        exponent = -exponent
    if exponent >= 100:
        out[size] = c"0" + <uint8_t>(exponent / 100)
        size += 1
    out[size] = c"0" + <uint8_t>(exponent / 10 % 10)
    out[size + 1] = c"0" + <uint8_t>(exponent % 10)
    return size + 2


def spell_f64(shortest):
    """Text of DOUBLE from its shortest digits as Arrow's cast writes them (`1`, `1e+15`, `0.00001`)."""
    cdef Operand text
    cdef Py_ssize_t n, i
    cdef Py_ssize_t at = 0
    cdef int32_t[::1] offsets
    cdef uint8_t[::1] data
    open_operand(shortest, &text)
    n = text.column.n
    if n * DOUBLE_WIDTH > INT32_MAX:
        raise OverflowError("the text of one batch exceeds 2 GiB")
    sizes = np.zeros(n + 1, dtype=np.int32)
    block = np.empty(n * DOUBLE_WIDTH + 1, dtype=np.uint8)
    offsets = sizes
    data = block
    with nogil:
        enter_kernel()
        for i in range(n):
            if is_known(&text, i):
                at += write_double(text_at(&text, i), &data[at])
            offsets[i + 1] = <int32_t>at
        leave_kernel()
    return pa.Array.from_buffers(pa.string(), n, [validity_of(&text, &text, n), pa.py_buffer(sizes),
                                                  pa.py_buffer(block[:at].copy())])
