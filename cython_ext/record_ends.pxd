"""Where a CSV record ends, for the splitter and the decoder alike."""

from libc.stdint cimport uint8_t
from libc.string cimport memchr


cdef inline const uint8_t* find(const uint8_t* at, const uint8_t* end, uint8_t byte) noexcept nogil:
    """The first such byte, or `end`."""
    cdef const uint8_t* found = <const uint8_t*>memchr(at, byte, end - at) if at < end else NULL
    return end if found == NULL else found


cdef inline const uint8_t* pass_quoted(const uint8_t* at, const uint8_t* end, uint8_t quote) noexcept nogil:
    """The byte behind the closing quote of the field whose opening quote is before `at`; `end` without one."""
    while True:
        at = find(at, end, quote)
        if at >= end - 1:
            return end
        if at[1] != quote:
            return at + 1
        at += 2


cdef inline const uint8_t* csv_record(
    const uint8_t* at, const uint8_t* end, uint8_t delimiter, int quote
) noexcept nogil:
    """The byte behind the newline of the record at `at`, or NULL when it does not end."""
    cdef const uint8_t* newline
    cdef const uint8_t* opening
    cdef const uint8_t* field = at
    while True:
        newline = find(field, end, c'\n')
        opening = NULL
        if quote >= 0:
            opening = <const uint8_t*>memchr(field, quote, newline - field) if newline > field else NULL
            while opening != NULL and opening > at and (opening - 1)[0] != delimiter:
                opening = <const uint8_t*>memchr(opening + 1, quote, newline - opening - 1)
        if opening == NULL:
            return NULL if newline == end else newline + 1
        field = pass_quoted(opening + 1, end, <uint8_t>quote)
        if field == end:
            return NULL
