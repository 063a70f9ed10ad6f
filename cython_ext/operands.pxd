"""Arguments of an expression's function: columns, and constants that stand for a column."""

from libc.stdint cimport uint8_t

from cython_ext.arrow_column cimport Column, is_valid


cdef struct Operand:
    # Row i of the operand is row `i * step` of its column: `step` is 0 for a constant, else 1.
    Column column
    Py_ssize_t step


cdef struct Text:
    # The UTF-8 bytes of one value.
    const uint8_t* at
    Py_ssize_t size


cdef Py_ssize_t open_values(object array, Py_ssize_t bits, bint text, Column* column) except -1
cdef object open_operand(object value, Operand* operand)
cdef Py_ssize_t rows_of(object values) except -1
cdef object validity_of(const Operand* left, const Operand* right, Py_ssize_t n)
cdef object flags_of(uint8_t[::1] flags, const Operand* left, const Operand* right, object owner)


cdef inline bint is_known(const Operand* operand, Py_ssize_t i) noexcept nogil:
    """Whether row `i` is not NULL."""
    return is_valid(&operand.column, i * operand.step)


cdef inline Text text_at(const Operand* operand, Py_ssize_t i) noexcept nogil:
    """The bytes of row `i` of a VARCHAR operand; those of a NULL do not matter."""
    cdef Text text
    i *= operand.step
    text.at = operand.column.values + operand.column.offsets[i]
    text.size = operand.column.offsets[i + 1] - operand.column.offsets[i]
    return text


cdef inline Py_ssize_t character(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """The bytes of the UTF-8 character at `at`, at least 1; needs `at < end`."""
    cdef const uint8_t* next = at + 1
    while next < end and (next[0] & 0xC0) == 0x80:
        next += 1
    return next - at


cdef inline bint starts(const uint8_t* at, const uint8_t* end, Text prefix) noexcept nogil:
    """Whether the bytes from `at` to `end` begin with `prefix`."""
    cdef Py_ssize_t k
    if end - at < prefix.size:
        return False
    for k in range(prefix.size):
        if at[k] != prefix.at[k]:
            return False
    return True
