"""Arrow arrays as pointers, and back: the one place where kernels of keyed state meet pyarrow."""

import numpy as np
import pyarrow as pa

from libc.stdint cimport int32_t, uint32_t, uint64_t, uintptr_t

from cython_ext.clock cimport enter_kernel, leave_kernel
from cython_ext.planted cimport plant_overread


cdef int check_rows(const int32_t[::1] rows, Py_ssize_t n) except -1:
    """Raise IndexError when a selected row is not one of `n`."""
    cdef Py_ssize_t j
    cdef bint outside = False
    with nogil:
        enter_kernel()
        for j in range(rows.shape[0]):
            outside |= <uint32_t>rows[j] >= <uint64_t>n
        leave_kernel()
    if outside:
        raise IndexError(f"a selected row is not one of {n}")
    return 0


cdef object widen(object array):
    """An array that kernels know: integers, BOOLEAN, DATE and TIMESTAMP as int64, all else as it is."""
    type = array.type
    if type == pa.int64() or pa.types.is_float64(type):
        return array
    if pa.types.is_date32(type):
        return array.cast(pa.int32()).cast(pa.int64())
    if pa.types.is_timestamp(type):
        return array.view(pa.int64())
    if pa.types.is_integer(type) or pa.types.is_boolean(type):
        return array.cast(pa.int64())
    return array


cdef int open_validity(object array, Column* column) except -1:
    """Fill `column` with the rows and the validity of an array of any type; its values are not for reading."""
    column.n = len(array)
    column.offset = array.offset
    column.validity = NULL
    column.values = NULL
    column.offsets = NULL
    if array.null_count:
        validity = array.buffers()[0]
        if validity.size * 8 < column.offset + column.n:
            raise ValueError("the validity buffer is shorter than its array")
        column.validity = <const uint8_t*><uintptr_t>validity.address
    return 0


cdef int open_column(object array, Column* column) except -1:
    """Fill `column` with the buffers of `array`; the caller keeps `array` while it uses them.

    Raises TypeError for types without a kernel, ValueError when a buffer is too short for its rows.
    """
    cdef Py_ssize_t n = len(array)
    cdef Py_ssize_t offset = array.offset
    cdef Py_ssize_t width
    type = array.type
    text = pa.types.is_string(type)
    if not (text or type in (pa.int64(), pa.float64(), pa.bool_()) or pa.types.is_decimal128(type)):
        raise TypeError(f"no kernel reads arrays of type {type}")
    open_validity(array, column)
    if n == 0:
        return 0
    buffers = array.buffers()
    values = buffers[len(buffers) - 1]
    if text:
        if buffers[1].size < (offset + n + 1) * 4:
            raise ValueError("the offsets buffer is shorter than its array")
        column.offsets = <const int32_t*><uintptr_t>buffers[1].address + offset
        if column.offsets[n] > (0 if values is None else values.size):
            raise ValueError("the text buffer is shorter than its offsets say")
        if values is not None:
            column.values = <const uint8_t*><uintptr_t>values.address
            plant_overread(column.values, column.values + column.offsets[n])
        return 0
    width = type.bit_width
    if values.size * 8 < (offset + n) * width:
        raise ValueError("the values buffer is shorter than its array")
    column.values = <const uint8_t*><uintptr_t>values.address
    if width >= 8:
        column.values += offset * (width >> 3)
    return 0


cdef object _bitmap(object valid):
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


cdef object fixed_array(object type, object values, object valid):
    """An Arrow array of `type`; `values` int64 for what `widen` widens, else in memory layout; `valid` bool."""
    if pa.types.is_boolean(type):
        values = np.packbits(values != 0, bitorder="little")
    elif pa.types.is_date32(type) or pa.types.is_integer(type) and type.bit_width < 64:
        values = values.astype(f"i{type.bit_width // 8}")
    return pa.Array.from_buffers(type, len(valid), [_bitmap(valid), pa.py_buffer(values)])


cdef object text_array(object type, object offsets, object data, object valid):
    """An Arrow array of VARCHAR from its offsets (int32, n + 1) and bytes."""
    return pa.Array.from_buffers(type, len(valid), [_bitmap(valid), pa.py_buffer(offsets), pa.py_buffer(data)])
