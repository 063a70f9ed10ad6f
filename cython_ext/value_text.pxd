"""Values as text: what JSON, CSV and casts write. The writers are in `value_text.h`."""

from libc.stdint cimport int32_t, int64_t, uint64_t

cdef extern from "value_text.h" nogil:
    enum:
        MAX_INT64_TEXT
        MAX_DOUBLE_TEXT
        MAX_DECIMAL_TEXT
        MAX_BOOLEAN_TEXT
        MAX_DATE_TEXT
        MAX_TIMESTAMP_TEXT
        VALUE_ROOM
        MIN_POWER
        POWER_COUNT

    ctypedef struct Power:
        uint64_t high
        uint64_t low

    ctypedef struct Day:
        pass

    char* put_int64(char* out, int64_t value)
    char* put_boolean(char* out, int value)
    char* put_double(char* out, double value, const Power* powers)
    char* put_decimal(char* out, uint64_t low, int64_t high, int scale)
    void set_day(Day* day, int64_t days)
    char* put_date(char* out, int32_t days, Day* day)
    char* put_timestamp(char* out, int64_t us, Day* day)

cdef const Power* powers_of_ten() noexcept nogil
