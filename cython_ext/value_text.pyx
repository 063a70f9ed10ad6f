"""Values as text: what JSON, CSV and casts write.

| type | text |
|---|---|
| integers | decimal digits |
| DOUBLE | the shortest that reads back as the same bits, in Python's notation: `1.0`, `0.1`, `1e+16`, `5e-324` |
| DECIMAL | all digits of the scale: `1.50` |
| DATE | `2013-01-31`; years outside 0000 to 9999 have a sign (ISO 8601, expanded) |
| TIMESTAMP | `2013-01-31T05:00:00Z`; a fraction that is not zero has 3 digits when those say all, else 6 |

`value_text.h` has the writers, which kernels call a value at a time.
"""

from libc.stdint cimport int32_t, int64_t

cdef Power[POWER_COUNT] POWERS


def _fill_powers():
    cdef int index
    for index in range(POWER_COUNT):
        exponent = index + MIN_POWER
        if exponent >= 0:
            bits = (10**exponent).bit_length()
            scaled = 10**exponent << 128 >> bits if bits <= 128 else -(-(10**exponent) >> (bits - 128))
        else:
            divisor = 10**-exponent
            # 2**(bits - 1) < divisor < 2**bits, so that the quotient has 128 bits.
            bits = divisor.bit_length()
            scaled = -((-1 << (127 + bits)) // divisor)
        POWERS[index].high = scaled >> 64
        POWERS[index].low = scaled & 0xFFFFFFFFFFFFFFFF


_fill_powers()


cdef const Power* powers_of_ten() noexcept nogil:
    """What `put_double` takes: the powers from MIN_POWER on. They live as long as the process."""
    return POWERS


def double_text(double value) -> str:
    """The text of a DOUBLE.

    >>> double_text(0.1), double_text(1e22)
    ('0.1', '1e+22')
    """
    cdef char[VALUE_ROOM] out
    return out[: put_double(out, value, POWERS) - out].decode()


def decimal_text(value: int, int scale) -> str:
    """The text of a DECIMAL of that unscaled value (128 bits, signed).

    >>> decimal_text(-150, 2)
    '-1.50'
    """
    cdef char[VALUE_ROOM] out
    if not 0 <= scale <= 38 or not -(10**38) < value < 10**38:
        raise ValueError(f"DECIMAL has at most 38 digits: {value} with scale {scale}")
    return out[: put_decimal(out, value & 0xFFFFFFFFFFFFFFFF, value >> 64, scale) - out].decode()


def date_text(int32_t days) -> str:
    """The text of a DATE, days since 1970-01-01.

    >>> date_text(-1)
    '1969-12-31'
    """
    cdef char[VALUE_ROOM] out
    cdef Day day
    set_day(&day, days)
    return out[: put_date(out, days, &day) - out].decode()


def timestamp_text(int64_t us) -> str:
    """The text of a TIMESTAMP, microseconds since 1970-01-01T00:00:00Z.

    >>> timestamp_text(1500)
    '1970-01-01T00:00:00.001500Z'
    """
    cdef char[VALUE_ROOM] out
    cdef Day day
    set_day(&day, 0)
    return out[: put_timestamp(out, us, &day) - out].decode()
