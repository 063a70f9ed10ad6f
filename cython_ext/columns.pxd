"""A fixed-width Arrow column as kernels see it."""

from libc.stdint cimport uint8_t


cdef struct Column:
    # `values` points at row 0 (the array's offset applied), `validity` at the bitmap's first byte or is
    # NULL when no row is null; `bit` is the offset of row 0 in it. `step` is 0 for a constant, else 1.
    const uint8_t* values
    const uint8_t* validity
    Py_ssize_t bit
    Py_ssize_t step
    Py_ssize_t n


cdef Column column_of(object array, Py_ssize_t width) except *
cdef object validity_of(Column* left, Column* right, Py_ssize_t n)


cdef inline bint is_valid(const Column* column, Py_ssize_t i) noexcept nogil:
    """Whether row `i` is not null."""
    cdef Py_ssize_t at
    if column.validity == NULL:
        return True
    at = column.bit + i * column.step
    return (column.validity[at >> 3] >> (at & 7)) & 1
