"""Rows of key columns as canonical bytes with a hash each."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t


cdef extern from "group_store.h" nogil:
    # Row i is at data + offsets[i] where there are offsets, else at data + i * stride. `validity` is only
    # set for a single column: a row without its bit (at `bit + i`) is the NULL key, of length -1. `hash` is
    # NULL until someone asks for the hashes.
    ctypedef struct KeyRows:
        const uint64_t* hash
        const uint8_t* data
        const int32_t* offsets
        const uint8_t* validity
        int64_t bit
        int64_t stride
    void key_rows_hash(const KeyRows* rows, int64_t n, uint64_t* out)


cdef enum KeyKind:
    KEY_INT = 0
    KEY_DOUBLE = 1
    KEY_DECIMAL = 2
    KEY_TEXT = 3


cdef class KeyLayout:
    """Where the columns of a key lie in its canonical bytes."""
    cdef readonly tuple types
    cdef readonly Py_ssize_t columns
    cdef readonly Py_ssize_t mask_bytes
    cdef readonly Py_ssize_t fixed_bytes
    cdef readonly bint has_text
    # One column of 8 bytes: a key is a word.
    cdef readonly bint is_word
    cdef list kinds
    cdef list starts
    cdef KeyKind kind(self, Py_ssize_t column)
    cdef Py_ssize_t start(self, Py_ssize_t column)


cdef class Keys:
    cdef readonly Py_ssize_t n
    cdef object computed
    cdef KeyRows rows
    cdef tuple owners


cdef list partition_by_hash(const uint64_t* hash, Py_ssize_t n, Py_ssize_t lanes, Py_ssize_t key_groups)
