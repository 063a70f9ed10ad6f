"""Fixed-width Arrow arrays as pointers, and the validity of what is computed from them."""

from libc.stdint cimport uint8_t, uintptr_t

import numpy as np
import pyarrow as pa


cdef Column column_of(object array, Py_ssize_t width) except *:
    """The column of a pyarrow array of `width`-byte values; an array of length 1 is used as it is.

    The caller keeps `array` alive as long as the column is used.
    """
    cdef Column column
    cdef object validity
    cdef object values
    cdef Py_ssize_t offset = array.offset
    validity, values = array.buffers()
    column.n = len(array)
    column.step = 1
    column.bit = offset
    column.validity = NULL
    column.values = NULL
    if validity is not None and array.null_count:
        column.validity = <const uint8_t*><uintptr_t>validity.address
    if column.n:
        if values.size < (offset + column.n) * width:
            raise ValueError(f"an array of {column.n} rows of {width} bytes in {values.size} bytes")
        column.values = <const uint8_t*><uintptr_t>values.address + offset * width
    return column


cdef inline uint8_t byte_of(const Column* column, Py_ssize_t i, Py_ssize_t count) noexcept nogil:
    """The validity of `count` (1 to 8) rows from row `i`, least significant bit first."""
    cdef Py_ssize_t at
    cdef Py_ssize_t shift
    cdef unsigned int bits
    if column.validity == NULL:
        return 0xFF
    if column.step == 0:
        return 0xFF if is_valid(column, 0) else 0
    at = column.bit + i
    shift = at & 7
    bits = column.validity[at >> 3] >> shift
    if shift + count > 8:
        bits |= <unsigned int>column.validity[(at >> 3) + 1] << (8 - shift)
    return <uint8_t>bits


cdef object validity_of(Column* left, Column* right, Py_ssize_t n):
    """A pyarrow buffer with the rows of `n` that are valid on both sides; None when all are."""
    cdef uint8_t[::1] out
    cdef Py_ssize_t i
    cdef Py_ssize_t k
    if left.validity == NULL and right.validity == NULL:
        return None
    bitmap = np.zeros((n + 7) // 8, dtype=np.uint8)
    out = bitmap
    with nogil:
        for k in range((n + 7) // 8):
            i = k * 8
            out[k] = byte_of(left, i, min(8, n - i)) & byte_of(right, i, min(8, n - i))
    return pa.py_buffer(bitmap)
