"""Raw bytes with their end: the one way in which decoders read a block.

No function reads at or beyond `end`; nothing is assumed about the bytes behind it.
"""

from libc.stdint cimport uint8_t, uint64_t


cdef struct Cursor:
    const uint8_t* at
    const uint8_t* end


cdef extern from "simd/scan.h" nogil:
    # Eight bytes, the first one lowest.
    uint64_t scan_load(const uint8_t* at)
    # See the header: how many of 16 bytes do not stop the scan.
    int text_prefix(const uint8_t* at)
    int text_prefix_scalar(const uint8_t* at)
    int field_prefix(const uint8_t* at, uint8_t delimiter)
    int field_prefix_scalar(const uint8_t* at, uint8_t delimiter)
    int ascii_prefix(const uint8_t* at)
    int ascii_prefix_scalar(const uint8_t* at)


cdef inline int peek(const Cursor* cursor) noexcept nogil:
    """The next byte, or -1 at the end."""
    return cursor.at[0] if cursor.at < cursor.end else -1


cdef inline void skip_space(Cursor* cursor) noexcept nogil:
    """Pass spaces, tabs and carriage returns: JSON's white space without the newline that ends a record."""
    cdef uint8_t byte
    while cursor.at < cursor.end:
        byte = cursor.at[0]
        if byte > 32 or (byte != 32 and byte != 9 and byte != 13):
            return
        cursor.at += 1


cdef inline int utf8_length(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """The bytes of the well-formed UTF-8 character at `at` (Unicode, table 3-7), 0 when it is none."""
    cdef Py_ssize_t room = end - at
    cdef uint8_t first
    cdef uint8_t second
    if room < 1:
        return 0
    first = at[0]
    if first < 0x80:
        return 1
    if room < 2 or first < 0xC2 or first > 0xF4:
        return 0
    second = at[1]
    if first < 0xE0:
        return 2 if (second & 0xC0) == 0x80 else 0
    if first < 0xF0:
        if room < 3 or (second & 0xC0) != 0x80 or (at[2] & 0xC0) != 0x80:
            return 0
        if (first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F):
            return 0
        return 3
    if room < 4 or (second & 0xC0) != 0x80 or (at[2] & 0xC0) != 0x80 or (at[3] & 0xC0) != 0x80:
        return 0
    if (first == 0xF0 and second < 0x90) or (first == 0xF4 and second > 0x8F):
        return 0
    return 4


cdef inline bint is_utf8(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Whether all of the text is well-formed UTF-8."""
    cdef int length
    while at < end:
        if end - at >= 16:
            length = ascii_prefix(at)
            at += length
            if length == 16:
                continue
        elif end - at >= 8 and scan_load(at) & 0x8080808080808080ULL == 0:
            at += 8
            continue
        if at[0] < 0x80:
            at += 1
            continue
        length = utf8_length(at, end)
        if length == 0:
            return False
        at += length
    return True
