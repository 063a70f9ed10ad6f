"""Exact arithmetic on BIGINT and DECIMAL columns: a result that does not fit is flagged, never wrapped.

Every function takes pyarrow arrays (a constant as an array of length 1 with `n` given by the other side,
or a `pa.Scalar`) and returns `(result, flags)`. `result` is a pyarrow array, NULL where an argument is.
`flags` is a numpy bool array, one per row, True for rows whose value is not in the result's type (the value
there is unspecified and the caller makes it NULL); None when there is none. Rows with a NULL are not flagged.

A first pass computes and only notes *whether* a row is out of range, so that the compiler can use wide
instructions; flags are made by a second pass when there is one.
"""

from libc.math cimport fmod, isfinite, pow, round as round_half_away
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t, uintptr_t

from cython_ext.clock cimport enter_kernel, leave_kernel
from cython_ext.operands cimport Operand, flags_of, open_operand, rows_of, validity_of

import numpy as np
import pyarrow as pa

cdef extern from *:
    """
    /* Arrow promises an alignment of 8 bytes, not the 16 of a plain __int128. */
    typedef __int128 int128 __attribute__((aligned(8)));

    static inline int add_overflows(int64_t a, int64_t b, int64_t* r) {
        /* Written out, since compilers make wide instructions of this and not of the built-in. */
        uint64_t s = (uint64_t)a + (uint64_t)b;
        *r = (int64_t)s;
        return (int)((((uint64_t)a ^ s) & ((uint64_t)b ^ s)) >> 63);
    }
    static inline int subtract_overflows(int64_t a, int64_t b, int64_t* r) {
        uint64_t s = (uint64_t)a - (uint64_t)b;
        *r = (int64_t)s;
        return (int)((((uint64_t)a ^ (uint64_t)b) & ((uint64_t)a ^ s)) >> 63);
    }
    static inline int multiply_overflows(int64_t a, int64_t b, int64_t* r) {
        return __builtin_mul_overflow(a, b, r);
    }
    static inline int modulo_by_zero(int64_t a, int64_t b, int64_t* r) {
        if (b == 0) { *r = 0; return 1; }
        *r = b == -1 ? 0 : a % b;   /* INT64_MIN % -1 traps on x86 */
        return 0;
    }

    #define ROWS(PRIMITIVE, A, B) do {                                    \\
        if (flags == NULL) for (i = 0; i < n; i++) any |= PRIMITIVE(A, B, out + i);  \\
        else for (i = 0; i < n; i++) any |= flags[i] = (uint8_t)PRIMITIVE(A, B, out + i); \\
    } while (0)
    #define LOOP(NAME, PRIMITIVE)                                          \\
    static int NAME(const int64_t* a, Py_ssize_t a_step, const int64_t* b, Py_ssize_t b_step,  \\
                    Py_ssize_t n, int64_t* out, uint8_t* flags) {          \\
        int any = 0;                                                       \\
        Py_ssize_t i;                                                      \\
        if (n == 0) return 0;                                              \\
        if (a_step && b_step) ROWS(PRIMITIVE, a[i], b[i]);                 \\
        else if (a_step) { const int64_t c = *b; ROWS(PRIMITIVE, a[i], c); }   \\
        else { const int64_t c = *a; ROWS(PRIMITIVE, c, b[i * b_step]); }      \\
        return any;                                                        \\
    }
    LOOP(add_rows, add_overflows)
    LOOP(subtract_rows, subtract_overflows)
    LOOP(multiply_rows, multiply_overflows)
    LOOP(modulo_rows, modulo_by_zero)

    static inline int multiply_i128(int128 a, int128 b, int128* r) {
        __int128 wide;
        int bad = __builtin_mul_overflow((__int128)a, (__int128)b, &wide);
        *r = wide;
        return bad;
    }
    static inline int add_i128(int128 a, int128 b, int128* r) {
        __int128 wide;
        int bad = __builtin_add_overflow((__int128)a, (__int128)b, &wide);
        *r = wide;
        return bad;
    }
    static inline int subtract_i128(int128 a, int128 b, int128* r) {
        __int128 wide;
        int bad = __builtin_sub_overflow((__int128)a, (__int128)b, &wide);
        *r = wide;
        return bad;
    }
    """
    ctypedef long long int128
    int add_rows(const int64_t*, Py_ssize_t, const int64_t*, Py_ssize_t, Py_ssize_t, int64_t*,
                 uint8_t*) noexcept nogil
    int subtract_rows(const int64_t*, Py_ssize_t, const int64_t*, Py_ssize_t, Py_ssize_t, int64_t*,
                      uint8_t*) noexcept nogil
    int multiply_rows(const int64_t*, Py_ssize_t, const int64_t*, Py_ssize_t, Py_ssize_t, int64_t*,
                      uint8_t*) noexcept nogil
    int modulo_rows(const int64_t*, Py_ssize_t, const int64_t*, Py_ssize_t, Py_ssize_t, int64_t*,
                    uint8_t*) noexcept nogil
    int multiply_i128(int128 a, int128 b, int128* r) noexcept nogil
    int add_i128(int128 a, int128 b, int128* r) noexcept nogil
    int subtract_i128(int128 a, int128 b, int128* r) noexcept nogil


ctypedef int (*Loop)(const int64_t*, Py_ssize_t, const int64_t*, Py_ssize_t, Py_ssize_t, int64_t*,
                     uint8_t*) noexcept nogil


cdef enum Operation:
    ADD
    SUBTRACT
    MULTIPLY
    MODULO


cdef object _binary_i64(Loop loop, object first, object second):
    cdef Operand left, right
    cdef Py_ssize_t n
    cdef int64_t[::1] out
    cdef uint8_t[::1] flags
    cdef int64_t* to = NULL
    cdef bint any_flag
    left_array = open_operand(first, &left)
    right_array = open_operand(second, &right)
    n = rows_of((first, second))
    values = np.empty(n, dtype=np.int64)
    if n:
        out = values
        to = &out[0]
    with nogil:
        enter_kernel()
        any_flag = loop(<const int64_t*>left.column.values, left.step, <const int64_t*>right.column.values, right.step,
                        n, to, NULL)
        leave_kernel()
    result = pa.Array.from_buffers(pa.int64(), n, [validity_of(&left, &right, n), pa.py_buffer(values)])
    if not any_flag:
        return result, None
    owner = np.zeros(n, dtype=np.uint8)
    flags = owner
    with nogil:
        enter_kernel()
        loop(<const int64_t*>left.column.values, left.step, <const int64_t*>right.column.values, right.step,
             n, to, &flags[0])
        leave_kernel()
    return result, flags_of(flags, &left, &right, owner)


def add_i64(left, right):
    """`left + right`; flags overflows. O(n)."""
    return _binary_i64(add_rows, left, right)


def subtract_i64(left, right):
    """`left - right`; flags overflows. O(n)."""
    return _binary_i64(subtract_rows, left, right)


def multiply_i64(left, right):
    """`left * right`; flags overflows. O(n)."""
    return _binary_i64(multiply_rows, left, right)


def modulo_i64(left, right):
    """The remainder with the sign of `left`; flags zero divisors. O(n)."""
    return _binary_i64(modulo_rows, left, right)


def modulo_f64(left, right):
    """The remainder with the sign of `left`; flags zero divisors. O(n)."""
    return _divide_f64(left, right, True)


def divide_f64(left, right):
    """The quotient; flags zero divisors. O(n)."""
    return _divide_f64(left, right, False)


cdef object _divide_f64(object first, object second, bint remainder):
    cdef Operand left, right
    cdef Py_ssize_t n, i
    cdef double[::1] out
    cdef uint8_t[::1] flags
    cdef const double* a
    cdef const double* b
    cdef double divisor
    cdef bint any_zero = False
    left_array = open_operand(first, &left)
    right_array = open_operand(second, &right)
    n = rows_of((first, second))
    values = np.empty(n, dtype=np.float64)
    out = values
    a = <const double*>left.column.values
    b = <const double*>right.column.values
    with nogil:
        enter_kernel()
        if remainder:
            for i in range(n):
                divisor = b[i * right.step]
                any_zero |= divisor == 0
                out[i] = fmod(a[i * left.step], divisor)
        else:
            for i in range(n):
                divisor = b[i * right.step]
                any_zero |= divisor == 0
                out[i] = a[i * left.step] / divisor
        leave_kernel()
    result = pa.Array.from_buffers(pa.float64(), n, [validity_of(&left, &right, n), pa.py_buffer(values)])
    if not any_zero:
        return result, None
    owner = np.zeros(n, dtype=np.uint8)
    flags = owner
    with nogil:
        enter_kernel()
        for i in range(n):
            flags[i] = b[i * right.step] == 0
        leave_kernel()
    return result, flags_of(flags, &left, &right, owner)


cdef int128 power_of_ten(int exponent) noexcept nogil:
    """10 to the power of `exponent`, 0 to 38."""
    cdef int128 power = 1
    cdef int i
    for i in range(exponent):
        power = power * 10
    return power


cdef inline bint _decimal(Operation operation, int128 a, int128 b, int128* out) noexcept nogil:
    if operation == ADD:
        return add_i128(a, b, out)
    if operation == SUBTRACT:
        return subtract_i128(a, b, out)
    if operation == MULTIPLY:
        return multiply_i128(a, b, out)
    if b == 0:
        out[0] = 0
        return False
    out[0] = 0 if b == -1 else a % b
    return False


cdef object _binary_decimal(Operation operation, object first, object second, object result_type):
    cdef Operand left, right
    cdef Py_ssize_t n, i
    cdef int128 a, b, value, limit, left_factor, right_factor
    cdef const int128* left_values
    cdef const int128* right_values
    cdef int128* out
    cdef uint8_t[::1] flags
    cdef bint bad
    cdef bint any_flag = False
    cdef int scale = result_type.scale
    left_array = open_operand(first, &left)
    right_array = open_operand(second, &right)
    n = rows_of((first, second))
    # A product needs no common scale: its own is the sum of the two.
    left_factor = 1 if operation == MULTIPLY else power_of_ten(scale - left_array.type.scale)
    right_factor = 1 if operation == MULTIPLY else power_of_ten(scale - right_array.type.scale)
    limit = power_of_ten(result_type.precision)
    values = np.empty(2 * n, dtype=np.int64)
    owner = np.zeros(n, dtype=np.uint8)
    flags = owner
    out = <int128*><uintptr_t>values.ctypes.data
    left_values = <const int128*>left.column.values
    right_values = <const int128*>right.column.values
    with nogil:
        enter_kernel()
        for i in range(n):
            bad = multiply_i128(left_values[i * left.step], left_factor, &a)
            bad |= multiply_i128(right_values[i * right.step], right_factor, &b)
            bad |= _decimal(operation, a, b, &value)
            bad |= value >= limit or value <= -limit
            out[i] = value
            flags[i] = bad
            any_flag |= bad
        leave_kernel()
    result = pa.Array.from_buffers(result_type, n, [validity_of(&left, &right, n), pa.py_buffer(values)])
    return result, flags_of(flags, &left, &right, owner) if any_flag else None


def add_decimal(left, right, result_type):
    """`left + right` as `result_type`, whose scale is the larger of the two; flags overflows. O(n)."""
    return _binary_decimal(ADD, left, right, result_type)


def subtract_decimal(left, right, result_type):
    """`left - right` as `result_type`, whose scale is the larger of the two; flags overflows. O(n)."""
    return _binary_decimal(SUBTRACT, left, right, result_type)


def multiply_decimal(left, right, result_type):
    """`left * right` as `result_type`, whose scale is the sum of the two; flags overflows. O(n)."""
    return _binary_decimal(MULTIPLY, left, right, result_type)


def modulo_decimal(left, right, result_type):
    """The remainder with the sign of `left`; a zero divisor gives 0, which the caller makes NULL.

    Flags rows whose arguments do not fit 128 bits at the common scale. O(n).
    """
    return _binary_decimal(MODULO, left, right, result_type)


def rescale_decimal(decimals, result_type):
    """`decimals` as the decimal type `result_type`, rounded half away from zero; flags overflows. O(n)."""
    cdef Operand operand
    cdef Py_ssize_t n, i
    cdef int128 value, rest, factor, half, limit
    cdef const int128* values
    cdef int128* out
    cdef uint8_t[::1] flags
    cdef bint bad
    cdef bint any_flag = False
    cdef int shift = result_type.scale - decimals.type.scale
    open_operand(decimals, &operand)
    n = operand.column.n
    factor = power_of_ten(shift if shift > 0 else -shift)
    half = factor / 2
    limit = power_of_ten(result_type.precision)
    out_values = np.empty(2 * n, dtype=np.int64)
    owner = np.zeros(n, dtype=np.uint8)
    flags = owner
    out = <int128*><uintptr_t>out_values.ctypes.data
    values = <const int128*>operand.column.values
    with nogil:
        enter_kernel()
        for i in range(n):
            if shift >= 0:
                bad = multiply_i128(values[i], factor, &value)
            else:
                bad = False
                value = values[i] / factor
                rest = values[i] % factor
                if rest >= half:
                    value = value + 1
                elif rest <= -half:
                    value = value - 1
            bad |= value >= limit or value <= -limit
            out[i] = value
            flags[i] = bad
            any_flag |= bad
        leave_kernel()
    result = pa.Array.from_buffers(result_type, n, [validity_of(&operand, &operand, n), pa.py_buffer(out_values)])
    return result, flags_of(flags, &operand, &operand, owner) if any_flag else None


def round_f64(doubles, digits):
    """`doubles` rounded half away from zero to `digits` (int64) decimal places, negative ones before the point.

    The product with the power of ten is rounded, so 1.005 to two places is 1.0 (it is a little below 1.005).
    A value for which there is no such product is given as it is, or as 0 when `digits` is negative. O(n).
    """
    cdef Operand left, right
    cdef Py_ssize_t n, i
    cdef double[::1] out
    cdef const double* values
    cdef const int64_t* places
    cdef double value, factor, rounded
    cdef int64_t place
    left_array = open_operand(doubles, &left)
    right_array = open_operand(digits, &right)
    n = rows_of((doubles, digits))
    results = np.empty(n, dtype=np.float64)
    out = results
    values = <const double*>left.column.values
    places = <const int64_t*>right.column.values
    with nogil:
        enter_kernel()
        for i in range(n):
            value = values[i * left.step]
            place = places[i * right.step]
            if place < 0:
                factor = pow(10.0, -<double>place)
                rounded = round_half_away(value / factor) * factor
                out[i] = rounded if isfinite(rounded) else 0.0
            else:
                factor = pow(10.0, <double>place)
                rounded = round_half_away(value * factor) / factor
                out[i] = rounded if isfinite(rounded) else value
        leave_kernel()
    return pa.Array.from_buffers(pa.float64(), n, [validity_of(&left, &right, n), pa.py_buffer(results)])


cdef inline bint round_i128(int128 value, int64_t dropped, int128* out) noexcept nogil:
    """The value with its last `dropped` digits rounded away, half away from zero; True when out of 128 bits."""
    cdef int128 unit, whole, rest
    if dropped <= 0:
        out[0] = value
        return False
    if dropped > 38:
        out[0] = 0
        return False
    unit = power_of_ten(<int>dropped)
    whole = value / unit
    rest = value % unit
    if rest >= unit / 2:
        whole = whole + 1
    elif rest <= -(unit / 2):
        whole = whole - 1
    return multiply_i128(whole, unit, out)


def round_i64(integers, digits):
    """BIGINT rounded half away from zero to -`digits` (int64) places before the point; flags overflows. O(n)."""
    cdef Operand left, right
    cdef Py_ssize_t n, i
    cdef int64_t[::1] out
    cdef uint8_t[::1] flags
    cdef const int64_t* values
    cdef const int64_t* places
    cdef int128 value
    cdef bint any_flag = False
    left_array = open_operand(integers, &left)
    right_array = open_operand(digits, &right)
    n = rows_of((integers, digits))
    results = np.empty(n, dtype=np.int64)
    owner = np.zeros(n, dtype=np.uint8)
    out = results
    flags = owner
    values = <const int64_t*>left.column.values
    places = <const int64_t*>right.column.values
    with nogil:
        enter_kernel()
        for i in range(n):
            # Digits beyond a few dozen all mean the same, and their negation must not overflow.
            round_i128(values[i * left.step], -max(places[i * right.step], <int64_t>-64), &value)
            out[i] = <int64_t>value
            flags[i] = not INT64_MIN <= value <= INT64_MAX
            any_flag |= flags[i]
        leave_kernel()
    result = pa.Array.from_buffers(pa.int64(), n, [validity_of(&left, &right, n), pa.py_buffer(results)])
    return result, flags_of(flags, &left, &right, owner) if any_flag else None


def round_decimal(decimals, digits, result_type):
    """DECIMAL rounded half away from zero to `digits` (int64) decimal places, as `result_type` of its scale.

    Flags overflows. O(n).
    """
    cdef Operand left, right
    cdef Py_ssize_t n, i
    cdef int128* out
    cdef uint8_t[::1] flags
    cdef const int128* values
    cdef const int64_t* places
    cdef int128 value
    cdef int128 limit = power_of_ten(result_type.precision)
    cdef int64_t scale = result_type.scale
    cdef bint any_flag = False
    left_array = open_operand(decimals, &left)
    right_array = open_operand(digits, &right)
    n = rows_of((decimals, digits))
    results = np.empty(2 * n, dtype=np.int64)
    owner = np.zeros(n, dtype=np.uint8)
    out = <int128*><uintptr_t>results.ctypes.data
    flags = owner
    values = <const int128*>left.column.values
    places = <const int64_t*>right.column.values
    with nogil:
        enter_kernel()
        for i in range(n):
            flags[i] = round_i128(values[i * left.step], scale - min(max(places[i * right.step], <int64_t>-64),
                                                                     <int64_t>64), &value)
            flags[i] |= value >= limit or value <= -limit
            out[i] = value
            any_flag |= flags[i]
        leave_kernel()
    result = pa.Array.from_buffers(result_type, n, [validity_of(&left, &right, n), pa.py_buffer(results)])
    return result, flags_of(flags, &left, &right, owner) if any_flag else None
