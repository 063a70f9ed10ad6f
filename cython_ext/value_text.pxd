"""Values as text: what JSON, CSV and casts write."""

from libc.stdint cimport int32_t, int64_t, uint64_t

cdef enum:
    # The longest text of each kind, in bytes.
    MAX_INT64_TEXT = 20
    MAX_DOUBLE_TEXT = 24
    MAX_DECIMAL_TEXT = 41
    MAX_DATE_TEXT = 16
    MAX_TIMESTAMP_TEXT = 36

cdef Py_ssize_t write_int64(int64_t value, char* out) noexcept nogil
cdef Py_ssize_t write_double(double value, char* out) noexcept nogil
cdef Py_ssize_t write_decimal(uint64_t low, int64_t high, int scale, char* out) noexcept nogil
cdef Py_ssize_t write_date(int32_t days, char* out) noexcept nogil
cdef Py_ssize_t write_timestamp(int64_t us, char* out) noexcept nogil
