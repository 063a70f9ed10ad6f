"""Numbers and times that are short, from words instead of byte by byte.

All of these read a whole field of the usual form, or say that it has another: then `cython_ext.numbers` and
`cython_ext.times` read it. 24 bytes can be read at `at`.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from cython_ext.cursor cimport scan_load
from cython_ext.numbers cimport DOUBLE_POWERS, POWERS
from cython_ext.reasons cimport OK
from cython_ext.times cimport read_date


cdef extern from * nogil:
    int __builtin_ctzll(unsigned long long word)


cdef inline bint all_digits(uint64_t word) noexcept nogil:
    """Whether all bytes are 0 to 9."""
    return (((word & 0x7F7F7F7F7F7F7F7FULL) + 0x7676767676767676ULL) | word) & 0x8080808080808080ULL == 0


cdef inline uint64_t join_digits(uint64_t word) noexcept nogil:
    """The number whose eight digits are the bytes, the first one lowest: pairs, fours and all are joined."""
    word = (word * 2561) >> 8
    word = ((word & 0x00FF00FF00FF00FFULL) * 6553601) >> 16
    return ((word & 0x0000FFFF0000FFFFULL) * 42949672960001ULL) >> 32


cdef inline bint short_integer(const uint8_t* at, Py_ssize_t length, int64_t* out) noexcept nogil:
    """Read 1 to 16 digits, perhaps behind a minus."""
    cdef bint negative = at[0] == c'-'
    cdef uint64_t word
    cdef uint64_t rest
    cdef uint64_t value
    at += negative
    length -= negative
    word = scan_load(at) ^ 0x3030303030303030ULL
    if <uint64_t>(length - 1) < 8:
        # The digits move to the end of the word, behind zeros.
        word <<= 64 - 8 * length
        if not all_digits(word):
            return False
        value = join_digits(word)
    elif <uint64_t>(length - 1) < 16:
        rest = (scan_load(at + 8) ^ 0x3030303030303030ULL) << (128 - 8 * length)
        if not (all_digits(word) and all_digits(rest)):
            return False
        value = join_digits(word) * POWERS[length - 8] + join_digits(rest)
    else:
        return False
    out[0] = -<int64_t>value if negative else <int64_t>value
    return True


cdef inline bint short_double(const uint8_t* at, Py_ssize_t length, double* out) noexcept nogil:
    """Read up to 8 bytes of digits with or without a point, perhaps behind a minus."""
    cdef bint negative = at[0] == c'-'
    cdef uint64_t word
    cdef uint64_t point
    cdef int below
    cdef double value
    at += negative
    length -= negative
    if <uint64_t>(length - 1) >= 8:
        return False
    word = (scan_load(at) ^ 0x3030303030303030ULL) << (64 - 8 * length)
    point = word ^ 0x1E1E1E1E1E1E1E1EULL
    point = (point - 0x0101010101010101ULL) & ~point & 0x8080808080808080ULL
    if point == 0:
        if not all_digits(word):
            return False
        value = <double>join_digits(word)
    else:
        # The digits before the point close up to those behind it.
        below = __builtin_ctzll(point) & 0x38
        word = (word & (<uint64_t>0xFFFFFFFFFFFFFF00ULL << below)) | ((word & ((<uint64_t>1 << below) - 1)) << 8)
        if length == 1 or not all_digits(word):
            return False
        # Both operands are exact, so that IEEE arithmetic rounds once (Clinger, 1990).
        value = <double>join_digits(word) / DOUBLE_POWERS[7 - (below >> 3)]
    out[0] = -value if negative else value
    return True


cdef struct Day:
    # The date that was read last, as its first and last eight bytes, and its days since 1970.
    uint64_t head
    uint64_t tail
    int64_t days


cdef inline bint short_timestamp(
    const uint8_t* at, Py_ssize_t length, Day* day, int64_t* us, bint* naive
) noexcept nogil:
    """Read YYYY-MM-DD hh:mm:ss, with a T for the space and a Z behind it or not."""
    cdef uint64_t head
    cdef uint64_t tail
    cdef uint64_t clock
    cdef int64_t hours
    cdef int64_t minutes
    cdef int64_t seconds
    if length != 19 and (length != 20 or at[19] != c'Z'):
        return False
    if at[10] != c'T' and at[10] != c' ':
        return False
    # Records near each other are often of one day.
    head = scan_load(at)
    tail = scan_load(at + 2)
    if head != day.head or tail != day.tail:
        if read_date(at, at + 10, &day.days) != OK:
            return False
        day.head = head
        day.tail = tail
    clock = scan_load(at + 11) ^ 0x30303A30303A3030ULL
    if not all_digits(clock) or clock & 0x0000FF0000FF0000ULL:
        return False
    # Tens and ones meet in the bytes of the tens; none exceeds a byte.
    clock = clock * 10 + (clock >> 8)
    hours = clock & 0xFF
    minutes = (clock >> 24) & 0xFF
    seconds = (clock >> 48) & 0xFF
    if hours > 23 or minutes > 59 or seconds > 59:
        return False
    us[0] = (day.days * 86_400 + hours * 3600 + minutes * 60 + seconds) * 1_000_000
    naive[0] = length == 19
    return True
