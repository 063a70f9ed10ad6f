"""Arrow arrays as pointers, for kernels that walk them without the GIL."""

from libc.stdint cimport int32_t, uint8_t


cdef struct Column:
    # `validity` is NULL when no value is null, `offsets` NULL for types of fixed width. The bit of row i is
    # at `offset + i`; `values` and `offsets` already point at row 0. The array must outlive the struct.
    const uint8_t* validity
    const uint8_t* values
    const int32_t* offsets
    Py_ssize_t offset
    Py_ssize_t n


cdef inline bint is_valid(const Column* column, Py_ssize_t i) noexcept nogil:
    cdef Py_ssize_t bit = column.offset + i
    return column.validity == NULL or (column.validity[bit >> 3] >> (bit & 7)) & 1


cdef inline bint bit_at(const Column* column, Py_ssize_t i) noexcept nogil:
    """The value of row i of a BOOLEAN column, whether it is null or not."""
    cdef Py_ssize_t bit = column.offset + i
    return (column.values[bit >> 3] >> (bit & 7)) & 1


cdef int check_rows(const int32_t[::1] rows, Py_ssize_t n) except -1
cdef object widen(object array)
cdef int open_validity(object array, Column* column) except -1
cdef int open_column(object array, Column* column) except -1
cdef object fixed_array(object type, object values, object valid)
cdef object text_array(object type, object offsets, object data, object valid)
