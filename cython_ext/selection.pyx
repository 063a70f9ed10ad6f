"""Which rows a condition keeps, and the columns of these rows.

A selection is the positions of its rows, ascending: made once per condition, then used for each column that is
still read. Positions are int64, as numpy takes them.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from cython_ext.arrow_column cimport Column
from cython_ext.clock cimport enter_kernel, leave_kernel
from cython_ext.operands cimport open_values

import numpy as np
import pyarrow as pa

cdef extern from *:
    """
    typedef struct { uint64_t low, high; } velo_pair;
    """
    ctypedef struct Pair "velo_pair":
        uint64_t low
        uint64_t high

ctypedef fused Value:
    uint8_t
    short
    int32_t
    int64_t
    Pair

cdef enum:
    # Short texts are copied whole words at a time, up to this behind their end.
    WIDE = 16


cdef inline uint64_t bits_from(const uint8_t* bitmap, Py_ssize_t at, Py_ssize_t count) noexcept nogil:
    """`count` (1 to 64) bits from bit `at`, the first lowest; what lies above them is not zeroed."""
    cdef uint64_t word = 0
    cdef Py_ssize_t shift = at & 7
    cdef Py_ssize_t size = (shift + count + 7) >> 3
    cdef Py_ssize_t k
    bitmap += at >> 3
    for k in range(min(size, <Py_ssize_t>8)):
        word |= <uint64_t>bitmap[k] << (8 * k)
    word >>= shift
    if size > 8:
        word |= <uint64_t>bitmap[8] << (64 - shift)
    return word


cdef Py_ssize_t find_true(const Column* condition, int64_t* rows) noexcept nogil:
    """Write the positions of the rows that are TRUE, one more than there are; gives their count.

    Every position is written, and stays where its bit is set: with conditions that are true now and then, a
    branch per row would be mispredicted.
    """
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t i
    cdef Py_ssize_t k
    cdef Py_ssize_t size
    cdef uint64_t word
    for i in range(0, condition.n, 64):
        size = min(<Py_ssize_t>64, condition.n - i)
        word = bits_from(condition.values, condition.offset + i, size)
        if condition.validity != NULL:
            word &= bits_from(condition.validity, condition.offset + i, size)
        for k in range(size):
            rows[count] = i + k
            count += word & 1
            word >>= 1
    return count


def true_rows(condition):
    """The positions (int64) of the rows where a BOOLEAN array is TRUE, neither FALSE nor NULL; None for all.

    O(n). Raises TypeError for an array of another type.
    """
    cdef Column column
    cdef Py_ssize_t count
    cdef int64_t[::1] out
    if condition.type != pa.bool_():
        raise TypeError(f"a condition is BOOLEAN, not {condition.type}")
    open_values(condition, 1, False, &column)
    rows = np.empty(column.n + 1, dtype=np.int64)
    out = rows
    with nogil:
        enter_kernel()
        count = find_true(&column, &out[0])
        leave_kernel()
    return None if count == column.n else rows[:count]


cdef void gather(Value* out, const Value* values, const int64_t* rows, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        out[j] = values[rows[j]]


cdef void gather_bits(
    uint8_t* out, const uint8_t* bitmap, Py_ssize_t offset, const int64_t* rows, Py_ssize_t n
) noexcept nogil:
    """Bits of the selected rows into zeroed bytes."""
    cdef Py_ssize_t j
    cdef Py_ssize_t bit
    for j in range(n):
        bit = offset + rows[j]
        out[j >> 3] |= ((bitmap[bit >> 3] >> (bit & 7)) & 1) << (j & 7)


cdef Py_ssize_t gather_offsets(
    int32_t* out, const int32_t* offsets, const int64_t* rows, Py_ssize_t n
) noexcept nogil:
    """Where the selected texts begin when they stand one behind the other; gives the bytes of all."""
    cdef Py_ssize_t j
    cdef int32_t at = 0
    out[0] = 0
    for j in range(n):
        at += offsets[rows[j] + 1] - offsets[rows[j]]
        out[j + 1] = at
    return at


cdef void gather_text(
    uint8_t* out,
    const int32_t* out_offsets,
    const uint8_t* text,
    Py_ssize_t text_bytes,
    const int32_t* offsets,
    const int64_t* rows,
    Py_ssize_t n,
) noexcept nogil:
    """The bytes of the selected texts; `out` has WIDE bytes more than they take."""
    cdef Py_ssize_t j
    cdef int32_t begin
    cdef int32_t size
    for j in range(n):
        begin = offsets[rows[j]]
        size = out_offsets[j + 1] - out_offsets[j]
        if size <= WIDE and begin + WIDE <= text_bytes:
            memcpy(out + out_offsets[j], text + begin, WIDE)
        elif size:
            memcpy(out + out_offsets[j], text + begin, size)


cdef object _valid_bits(const Column* column, const int64_t[::1] rows):
    """The validity buffer of the selected rows, None when they have none."""
    cdef uint8_t[::1] out
    if column.validity == NULL:
        return None
    bitmap = np.zeros((rows.shape[0] + 7) // 8, dtype=np.uint8)
    out = bitmap
    with nogil:
        enter_kernel()
        gather_bits(&out[0], column.validity, column.offset, &rows[0], rows.shape[0])
        leave_kernel()
    return pa.py_buffer(bitmap)


def take_rows(array, const int64_t[::1] rows):
    """The selected rows of an array of fixed width or of text, as an array of the same type.

    O(rows and bytes of text). Raises IndexError when a row is not one of the array, TypeError for nested types.
    """
    cdef Column column
    cdef Py_ssize_t n = rows.shape[0]
    cdef Py_ssize_t j
    cdef Py_ssize_t bits
    cdef Py_ssize_t text_bytes
    cdef Py_ssize_t size
    cdef bint outside = False
    cdef uint8_t[::1] out
    cdef int32_t[::1] offsets
    type = array.type
    if n == 0:
        return pa.nulls(0, type)
    if pa.types.is_null(type):
        return pa.nulls(n)
    text = pa.types.is_string(type)
    if not text and not pa.types.is_primitive(type) and not pa.types.is_decimal128(type):
        raise TypeError(f"no kernel takes rows of arrays of type {type}")
    bits = 32 if text else type.bit_width
    text_bytes = open_values(array, bits, text, &column)
    with nogil:
        enter_kernel()
        for j in range(n):
            outside |= <uint64_t>rows[j] >= <uint64_t>column.n
        leave_kernel()
    if outside:
        raise IndexError(f"a selected row is not one of {column.n}")
    if text:
        starts = np.empty(n + 1, dtype=np.int32)
        offsets = starts
        with nogil:
            enter_kernel()
            size = gather_offsets(&offsets[0], column.offsets, &rows[0], n)
            leave_kernel()
        values = np.empty(size + WIDE, dtype=np.uint8)
        out = values
        with nogil:
            enter_kernel()
            gather_text(&out[0], &offsets[0], column.values, text_bytes, column.offsets, &rows[0], n)
            leave_kernel()
        buffers = [_valid_bits(&column, rows), pa.py_buffer(starts), pa.py_buffer(values[:size])]
        return pa.Array.from_buffers(type, n, buffers)
    values = np.zeros((n + 7) // 8, dtype=np.uint8) if bits == 1 else np.empty(n * bits // 8, dtype=np.uint8)
    out = values
    with nogil:
        enter_kernel()
        if bits == 64:
            gather[int64_t](<int64_t*>&out[0], <const int64_t*>column.values, &rows[0], n)
        elif bits == 32:
            gather[int32_t](<int32_t*>&out[0], <const int32_t*>column.values, &rows[0], n)
        elif bits == 128:
            gather[Pair](<Pair*>&out[0], <const Pair*>column.values, &rows[0], n)
        elif bits == 16:
            gather[short](<short*>&out[0], <const short*>column.values, &rows[0], n)
        elif bits == 8:
            gather[uint8_t](<uint8_t*>&out[0], column.values, &rows[0], n)
        else:
            gather_bits(&out[0], column.values, column.offset, &rows[0], n)
        leave_kernel()
    return pa.Array.from_buffers(type, n, [_valid_bits(&column, rows), pa.py_buffer(values)])
