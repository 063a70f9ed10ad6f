"""Opening the arguments of a function, and the validity and the failures of its result."""

from libc.stdint cimport int32_t, uint8_t, uintptr_t

from cython_ext.arrow_column cimport Column, is_valid, open_column, open_validity
from cython_ext.clock cimport enter_kernel, leave_kernel
from cython_ext.planted cimport plant_overread

import numpy as np
import pyarrow as pa


cdef Py_ssize_t open_values(object array, Py_ssize_t bits, bint text, Column* column) except -1:
    """Point `column` at an array of any type of fixed width, or of text; it must be kept meanwhile.

    `bits` is the width of a value in memory, 32 for text. Returns the size of the text, 0 for other types.
    ValueError when a buffer is shorter than its rows say.
    """
    cdef Py_ssize_t n
    cdef Py_ssize_t offset
    cdef Py_ssize_t size = 0
    open_validity(array, column)
    n = column.n
    offset = column.offset
    if n == 0:
        return 0
    buffers = array.buffers()
    fixed = buffers[1]
    if fixed is None or fixed.size * 8 < (offset + n + text) * bits:
        raise ValueError("a buffer of a column is shorter than its rows say")
    column.values = <const uint8_t*><uintptr_t>fixed.address
    # A bit has no address: rows of BOOLEAN count from the buffer's start.
    if bits >= 8:
        column.values += offset * (bits >> 3)
    if text:
        column.offsets = <const int32_t*>column.values
        column.values = NULL
        data = buffers[2]
        if data is not None:
            size = data.size
            column.values = <const uint8_t*><uintptr_t>data.address
        if column.offsets[0] < 0 or column.offsets[n] > size:
            raise ValueError("the text of a column is shorter than its offsets say")
        if size:
            plant_overread(column.values, column.values + size)
    return size


cdef object open_operand(object value, Operand* operand):
    """Point `operand` at a pyarrow array or scalar; the array returned must be kept while it is used."""
    constant = isinstance(value, pa.Scalar)
    array = pa.repeat(value, 1) if constant else value
    open_column(array, &operand.column)
    operand.step = 0 if constant else 1
    return array


cdef Py_ssize_t rows_of(object values) except -1:
    """The rows of the result of several arguments: the length that all arrays have, 1 without an array."""
    cdef Py_ssize_t n = -1
    for value in values:
        if isinstance(value, pa.Scalar):
            continue
        if n >= 0 and len(value) != n:
            raise ValueError(f"columns of {n} and {len(value)} rows")
        n = len(value)
    return 1 if n < 0 else n


cdef inline uint8_t validity_byte(const Operand* operand, Py_ssize_t i, Py_ssize_t count) noexcept nogil:
    """Whether each of `count` (1 to 8) rows from row `i` is valid, least significant bit first."""
    cdef Py_ssize_t at
    cdef Py_ssize_t shift
    cdef unsigned int bits
    if operand.column.validity == NULL:
        return 0xFF
    if operand.step == 0:
        return 0xFF if is_valid(&operand.column, 0) else 0
    at = operand.column.offset + i
    shift = at & 7
    bits = operand.column.validity[at >> 3] >> shift
    if shift + count > 8:
        bits |= <unsigned int>operand.column.validity[(at >> 3) + 1] << (8 - shift)
    return <uint8_t>bits


cdef object validity_of(const Operand* left, const Operand* right, Py_ssize_t n):
    """The validity buffer of the rows that are valid on both sides; None when all are."""
    cdef uint8_t[::1] out
    cdef Py_ssize_t i
    cdef Py_ssize_t k
    if left.column.validity == NULL and right.column.validity == NULL:
        return None
    bitmap = np.zeros((n + 7) // 8, dtype=np.uint8)
    out = bitmap
    with nogil:
        enter_kernel()
        for k in range((n + 7) // 8):
            i = k * 8
            out[k] = validity_byte(left, i, min(8, n - i)) & validity_byte(right, i, min(8, n - i))
        leave_kernel()
    return pa.py_buffer(bitmap)


cdef object flags_of(uint8_t[::1] flags, const Operand* left, const Operand* right, object owner):
    """`owner`, whose bytes `flags` are, as bool without the rows that are NULL; None when none is left."""
    cdef Py_ssize_t i
    cdef bint found = False
    with nogil:
        enter_kernel()
        for i in range(flags.shape[0]):
            if flags[i]:
                if is_known(left, i) and is_known(right, i):
                    found = True
                else:
                    flags[i] = 0
        leave_kernel()
    return owner.view(np.bool_) if found else None
