"""Canonical key bytes and the key hash.

Equal keys have equal bytes, whatever the columns' types: integers are 64 bits wide, a decimal is stripped of
trailing zeros, -0.0 is 0.0, there is one NaN, and NULL is a value of its own.

The key of one column is the value's bytes alone, and NULL has the length -1: a VARCHAR or 64-bit column is
then used in place. The key of several columns is

    | bytes | what |
    |---|---|
    | (columns + 7) / 8 | bit c is set when column c is NULL; its value is then zeros and no text |
    | 8 | integer, BOOLEAN, DATE, TIMESTAMP or DOUBLE |
    | 17 | DECIMAL: the stripped value (16 bytes) and its scale |
    | 4 | VARCHAR: the length of its text |
    | … | the texts, in the order of their columns |
"""

import numpy as np
import pyarrow as pa

cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset

from cython_ext.arrow_column cimport Column, is_valid, open_column, widen
from cython_ext.clock cimport enter_kernel, leave_kernel


cdef extern from "key_hash.h" nogil:
    void key_copy(uint8_t* to, const uint8_t* source, int32_t length)


cdef extern from "wide.h" nogil:
    void decimal_strip(const void* decimal, int scale, uint8_t* out)


KEY_HASH_VERSION = 1

cdef Py_ssize_t _MAX_KEY_BYTES = 0x7FFFFFFF
cdef Py_ssize_t[4] _WIDTHS
_WIDTHS[:] = [8, 8, 17, 4]


cdef class KeyLayout:
    """Where the columns of a key lie in its canonical bytes; `types` are Arrow types."""

    def __cinit__(self, types):
        cdef Py_ssize_t at
        self.types = tuple(types)
        self.columns = len(self.types)
        self.kinds = [_kind_of(type) for type in self.types]
        self.mask_bytes = (self.columns + 7) // 8 if self.columns > 1 else 0
        self.starts = []
        self.has_text = KEY_TEXT in self.kinds
        at = self.mask_bytes
        for kind in self.kinds:
            self.starts.append(at)
            at += _WIDTHS[<int>kind]
        self.fixed_bytes = at
        self.is_word = self.columns == 1 and self.kinds[0] in (KEY_INT, KEY_DOUBLE)

    cdef KeyKind kind(self, Py_ssize_t column):
        return self.kinds[column]

    cdef Py_ssize_t start(self, Py_ssize_t column):
        return self.starts[column]


cdef _kind_of(type):
    if pa.types.is_string(type):
        return KEY_TEXT
    if pa.types.is_decimal128(type):
        return KEY_DECIMAL
    if pa.types.is_float64(type):
        return KEY_DOUBLE
    if (pa.types.is_integer(type) or pa.types.is_boolean(type) or pa.types.is_date32(type)
            or pa.types.is_timestamp(type)):
        return KEY_INT
    raise TypeError(f"no key has columns of type {type}")


@cython.final
cdef class Keys:
    """Canonical bytes of `n` rows, and their hashes.

    Holds the memory it points to, Arrow's included. Any thread may read it once `hashes` has been asked for,
    which computes them, or never asks.
    """

    @property
    def hashes(self):
        """The hash of each row (uint64); kernels read this array once it is made."""
        cdef uint64_t[::1] out
        if self.computed is None:
            hashes = np.empty(self.n, dtype=np.uint64)
            if self.n:
                out = hashes
                with nogil:
                    enter_kernel()
                    key_rows_hash(&self.rows, self.n, &out[0])
                    leave_kernel()
            self._adopt(hashes)
        return self.computed

    def _adopt(self, hashes):
        self.computed = hashes
        self.rows.hash = <const uint64_t*><uintptr_t>hashes.ctypes.data

    def partition(self, Py_ssize_t lanes, Py_ssize_t key_groups):
        """For each lane its rows (int32, ascending), or None when it has none.

        A row's key group is hash % key_groups, its lane key_group * lanes // key_groups. O(n).
        """
        hashes = self.hashes
        return partition_by_hash(self.rows.hash, self.n, lanes, key_groups)


cdef list partition_by_hash(const uint64_t* hash, Py_ssize_t n, Py_ssize_t lanes, Py_ssize_t key_groups):
    """See `Keys.partition`."""
    cdef Py_ssize_t i
    cdef Py_ssize_t lane
    cdef uint64_t groups
    cdef uint64_t mask
    cdef int32_t[::1] lane_of_group
    cdef int32_t[::1] lane_of_row
    cdef int32_t[::1] order
    cdef int64_t[::1] ends
    if lanes < 1 or key_groups < lanes:
        raise ValueError(f"{lanes} lanes cannot share {key_groups} key groups")
    if n == 0:
        return [None] * lanes
    rows = np.empty(n, dtype=np.int32)
    if lanes == 1:
        rows[:] = np.arange(n, dtype=np.int32)
        return [rows]
    groups = <uint64_t>key_groups
    mask = groups - 1 if groups & (groups - 1) == 0 else 0
    lane_of_group = (np.arange(key_groups, dtype=np.int64) * lanes // key_groups).astype(np.int32)
    lane_of_row = np.empty(n, dtype=np.int32)
    order = rows
    counts = np.zeros(lanes + 1, dtype=np.int64)
    ends = counts
    with nogil:
        enter_kernel()
        for i in range(n):
            lane = lane_of_group[hash[i] & mask if mask else hash[i] % groups]
            lane_of_row[i] = <int32_t>lane
            ends[lane + 1] += 1
        for lane in range(lanes):
            ends[lane + 1] += ends[lane]
        for i in range(n):
            lane = lane_of_row[i]
            order[ends[lane]] = <int32_t>i
            ends[lane] += 1
        leave_kernel()
    starts = [0, *counts[: lanes - 1].tolist()]
    return [rows[a:b] if a < b else None for a, b in zip(starts, counts[:lanes].tolist())]


@cython.final
cdef class KeyEncoder:
    """Makes `Keys` of key columns of the given Arrow types. Holds no state: any thread may use it."""

    cdef readonly KeyLayout layout

    def __cinit__(self, types):
        self.layout = KeyLayout(types)

    def encode(self, columns, rows=None):
        """The keys of `columns` (pyarrow arrays of the encoder's types, all of one length).

        `rows` is the number of rows; only needed without columns, where every row has the one empty key.
        Raises ValueError for columns that do not fit, OverflowError when the keys exceed 2 GiB.
        """
        cdef Keys keys = Keys.__new__(Keys)
        cdef Py_ssize_t n
        if len(columns) != self.layout.columns:
            raise ValueError(f"expected {self.layout.columns} key columns, got {len(columns)}")
        for column, type in zip(columns, self.layout.types):
            if column.type != type:
                raise ValueError(f"expected a key column of type {type}, got {column.type}")
            if len(column) != len(columns[0]):
                raise ValueError("key columns differ in length")
        n = len(columns[0]) if columns else rows
        keys.n = n
        keys.owners = ()
        if n == 0 or self.layout.columns == 0:
            keys._adopt(np.zeros(n, dtype=np.uint64))
        elif self.layout.columns == 1:
            self._encode_one(keys, widen(columns[0]))
        else:
            self._encode_many(keys, [widen(column) for column in columns])
        return keys

    cdef int _encode_one(self, Keys keys, object array) except -1:
        cdef Column column
        cdef KeyKind kind = self.layout.kind(0)
        cdef Py_ssize_t width = _WIDTHS[<int>kind]
        cdef uint8_t[::1] out
        cdef int scale
        open_column(array, &column)
        keys.rows.validity = column.validity
        keys.rows.bit = column.offset
        if kind == KEY_TEXT:
            keys.rows.data = column.values
            keys.rows.offsets = column.offsets
            keys.owners = (array,)
            return 0
        keys.rows.stride = width
        if kind == KEY_INT:
            keys.rows.data = column.values
            keys.owners = (array,)
            return 0
        data = np.empty(column.n * width, dtype=np.uint8)
        out = data
        scale = array.type.scale if kind == KEY_DECIMAL else 0
        with nogil:
            enter_kernel()
            _put_fixed(&column, kind, scale, &out[0], NULL, width)
            leave_kernel()
        keys.rows.data = &out[0]
        keys.owners = (array, data)
        return 0

    cdef int _encode_many(self, Keys keys, list arrays) except -1:
        cdef Py_ssize_t n = keys.n
        cdef Py_ssize_t stride = self.layout.fixed_bytes
        cdef Py_ssize_t c
        cdef Py_ssize_t start
        cdef Column column
        cdef KeyKind kind
        cdef int scale
        cdef uint8_t[::1] out
        cdef int32_t[::1] offsets
        cdef int32_t[::1] cursors
        cdef int32_t* at = NULL
        cdef int32_t* cursor = NULL
        if self.layout.has_text:
            bounds = self._bounds(arrays, n)
            offsets = bounds
            at = &offsets[0]
            tails = bounds[:n] + np.int32(stride)
            cursors = tails
            cursor = &cursors[0]
            data = np.empty(bounds[n], dtype=np.uint8)
            keys.owners = (data, bounds)
        else:
            if n * stride > _MAX_KEY_BYTES:
                raise OverflowError("the keys of one batch exceed 2 GiB")
            data = np.empty(n * stride, dtype=np.uint8)
            keys.owners = (data,)
        out = data
        with nogil:
            enter_kernel()
            _clear_masks(&out[0], at, stride, self.layout.mask_bytes, n)
            leave_kernel()
        for c in range(self.layout.columns):
            open_column(arrays[c], &column)
            kind = self.layout.kind(c)
            start = self.layout.start(c)
            scale = arrays[c].type.scale if kind == KEY_DECIMAL else 0
            with nogil:
                enter_kernel()
                if column.validity != NULL:
                    _mark_nulls(&column, &out[0], at, stride, c)
                if kind == KEY_TEXT:
                    _put_text(&column, &out[0], at, start, cursor)
                else:
                    _put_fixed(&column, kind, scale, &out[start], at, stride)
                leave_kernel()
        keys.rows.data = &out[0]
        keys.rows.offsets = at
        keys.rows.stride = stride
        return 0

    cdef object _bounds(self, list arrays, Py_ssize_t n):
        """Where each row's key begins (int32, n + 1)."""
        cdef Column column
        cdef int32_t[::1] ends
        cdef Py_ssize_t c
        cdef Py_ssize_t i
        cdef int64_t total = n * self.layout.fixed_bytes
        cdef int32_t fixed = <int32_t>self.layout.fixed_bytes
        cdef int32_t end = 0
        bounds = np.zeros(n + 1, dtype=np.int32)
        ends = bounds
        for c in range(self.layout.columns):
            if self.layout.kind(c) != KEY_TEXT:
                continue
            open_column(arrays[c], &column)
            total += column.offsets[n] - column.offsets[0]
            if total > _MAX_KEY_BYTES:
                raise OverflowError("the keys of one batch exceed 2 GiB")
            with nogil:
                enter_kernel()
                for i in range(n):
                    if is_valid(&column, i):
                        ends[i + 1] += column.offsets[i + 1] - column.offsets[i]
                leave_kernel()
        with nogil:
            enter_kernel()
            for i in range(n):
                end += ends[i + 1] + fixed
                ends[i + 1] = end
            leave_kernel()
        return bounds


cdef void _put_fixed(const Column* column, KeyKind kind, int scale, uint8_t* out, const int32_t* at,
                     Py_ssize_t stride) noexcept nogil:
    """The canonical bytes of each value, zeros when it is NULL, to out + at[i], or to out + i * stride."""
    cdef Py_ssize_t i
    cdef uint8_t* to
    cdef int64_t whole
    cdef double number
    cdef Py_ssize_t width = _WIDTHS[<int>kind]
    for i in range(column.n):
        to = out + (i * stride if at == NULL else at[i])
        if not is_valid(column, i):
            memset(to, 0, width)
        elif kind == KEY_INT:
            whole = (<const int64_t*>column.values)[i]
            memcpy(to, &whole, 8)
        elif kind == KEY_DOUBLE:
            number = (<const double*>column.values)[i] + 0.0  # -0.0 + 0.0 is 0.0
            if number != number:
                whole = 0x7FF8000000000000
                memcpy(to, &whole, 8)
            else:
                memcpy(to, &number, 8)
        else:
            decimal_strip(column.values + i * 16, scale, to)


cdef void _put_text(const Column* column, uint8_t* out, const int32_t* at, Py_ssize_t start,
                    int32_t* cursor) noexcept nogil:
    """Length into the fixed part, text behind what `cursor` has already been moved over."""
    cdef Py_ssize_t i
    cdef int32_t length
    for i in range(column.n):
        length = column.offsets[i + 1] - column.offsets[i] if is_valid(column, i) else 0
        memcpy(out + at[i] + start, &length, 4)
        key_copy(out + cursor[i], column.values + column.offsets[i], length)
        cursor[i] += length


cdef void _clear_masks(uint8_t* out, const int32_t* at, Py_ssize_t stride, Py_ssize_t width,
                       Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef Py_ssize_t k
    for i in range(n):
        for k in range(width):
            out[(i * stride if at == NULL else at[i]) + k] = 0


cdef void _mark_nulls(const Column* column, uint8_t* out, const int32_t* at, Py_ssize_t stride,
                      Py_ssize_t c) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(column.n):
        if not is_valid(column, i):
            out[(i * stride if at == NULL else at[i]) + (c >> 3)] |= <uint8_t>(1 << (c & 7))
