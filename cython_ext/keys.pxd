"""Rows of key columns as canonical bytes with a hash each."""

from libc.stdint cimport int32_t, uint8_t, uint64_t


cdef extern from "key_hash.h" nogil:
    uint64_t key_hash(const uint8_t* at, int32_t length)
    uint64_t key_spread(uint64_t hash, long long window)
    void key_copy(uint8_t* to, const uint8_t* source, int32_t length)
    bint key_same(const uint8_t* left, const uint8_t* right, int32_t length)


cdef enum KeyKind:
    KEY_INT = 0
    KEY_DOUBLE = 1
    KEY_DECIMAL = 2
    KEY_TEXT = 3


cdef struct KeyRows:
    # Row i is at data + offsets[i] where there are offsets, else at data + i * stride. `validity` is only
    # set for a single column: a row without its bit (at `bit + i`) is the NULL key, of length -1.
    const uint64_t* hash
    const uint8_t* data
    const int32_t* offsets
    const uint8_t* validity
    Py_ssize_t bit
    Py_ssize_t stride


cdef struct KeySpan:
    const uint8_t* at
    int32_t length


cdef inline KeySpan key_at(const KeyRows* rows, Py_ssize_t i) noexcept nogil:
    cdef KeySpan span
    cdef Py_ssize_t bit
    if rows.offsets != NULL:
        span.at = rows.data + rows.offsets[i]
        span.length = rows.offsets[i + 1] - rows.offsets[i]
    else:
        span.at = rows.data + i * rows.stride
        span.length = <int32_t>rows.stride
    if rows.validity != NULL:
        bit = rows.bit + i
        if not (rows.validity[bit >> 3] >> (bit & 7)) & 1:
            span.length = -1
    return span


cdef class KeyLayout:
    """Where the columns of a key lie in its canonical bytes."""
    cdef readonly tuple types
    cdef readonly Py_ssize_t columns
    cdef readonly Py_ssize_t mask_bytes
    cdef readonly Py_ssize_t fixed_bytes
    cdef readonly bint has_text
    cdef list kinds
    cdef list starts
    cdef KeyKind kind(self, Py_ssize_t column)
    cdef Py_ssize_t start(self, Py_ssize_t column)


cdef class Keys:
    cdef readonly Py_ssize_t n
    cdef readonly object hashes
    cdef KeyRows rows
    cdef tuple owners
