"""LIKE on UTF-8 text.

Arrow's `match_like` is not used: its escape character is always a backslash, where SQL has none unless ESCAPE
names one, and its pattern must be a constant.
"""

from libc.stdint cimport uint8_t

from cython_ext.clock cimport enter_kernel, leave_kernel
from cython_ext.operands cimport (
    Operand,
    Text,
    character,
    flags_of,
    open_operand,
    rows_of,
    starts,
    text_at,
    validity_of,
)

import numpy as np
import pyarrow as pa


cdef enum Match:
    NO = 0
    YES = 1
    BAD_PATTERN = 2


cdef Match matches(Text text, Text pattern, Text escape) noexcept nogil:
    """Whether all of `text` matches: `%` any characters, `_` one, the character after `escape` itself.

    Greedy with one point to return to: after the last `%`, since an earlier one need never take more.
    O(text x pattern) at worst, O(text + pattern) for patterns without a repeated beginning.
    """
    cdef const uint8_t* t = text.at
    cdef const uint8_t* t_end = t + text.size
    cdef const uint8_t* p = pattern.at
    cdef const uint8_t* p_end = p + pattern.size
    cdef const uint8_t* retry_p = NULL
    cdef const uint8_t* retry_t = NULL
    cdef Py_ssize_t size
    cdef Py_ssize_t k
    cdef bint same
    cdef bint escaped
    while True:
        escaped = escape.size > 0 and starts(p, p_end, escape)
        if escaped:
            if p + escape.size >= p_end:
                return BAD_PATTERN
        elif p < p_end and p[0] == c"%":
            p += 1
            retry_p = p
            retry_t = t
            continue
        if t >= t_end and p >= p_end:
            return YES
        if t < t_end and p < p_end:
            if not escaped and p[0] == c"_":
                t += character(t, t_end)
                p += 1
                continue
            if escaped:
                p += escape.size
            size = character(p, p_end)
            same = size <= t_end - t
            if same:
                for k in range(size):
                    if t[k] != p[k]:
                        same = False
                        break
            if same:
                t += size
                p += size
                continue
        if retry_p == NULL or retry_t >= t_end:
            return NO
        retry_t += character(retry_t, t_end)
        t = retry_t
        p = retry_p


cdef bint ends_in_escape(Text pattern, Text escape) noexcept nogil:
    """Whether the last character of the pattern is an escape with nothing behind it."""
    cdef const uint8_t* at = pattern.at
    cdef const uint8_t* end = at + pattern.size
    if escape.size == 0:
        return False
    while at < end:
        if starts(at, end, escape):
            at += escape.size
            if at >= end:
                return True
        at += character(at, end)
    return False


def match_like(texts, patterns, escape):
    """Which texts match their pattern.

    `texts` and `patterns` are string arrays of n rows or scalars, `escape` the bytes of one character or b"".
    Returns a bool array, NULL where an argument is, and flags: rows whose pattern ends in the escape
    character, None when there is none.
    """
    cdef Operand text, pattern
    cdef Text mark
    cdef Py_ssize_t n, i
    cdef uint8_t[::1] out
    cdef uint8_t[::1] flags
    cdef const uint8_t[::1] escape_view = escape
    cdef bint any_flag = False
    cdef Text current
    text_array = open_operand(texts, &text)
    pattern_array = open_operand(patterns, &pattern)
    n = rows_of((texts, patterns))
    mark.size = len(escape)
    mark.at = &escape_view[0] if mark.size else NULL
    bits = np.zeros(n, dtype=np.uint8)
    owner = np.zeros(n, dtype=np.uint8)
    out = bits
    flags = owner
    with nogil:
        enter_kernel()
        for i in range(n):
            current = text_at(&pattern, i)
            if ends_in_escape(current, mark):
                flags[i] = 1
                any_flag = True
            else:
                out[i] = matches(text_at(&text, i), current, mark) == YES
        leave_kernel()
    packed = pa.py_buffer(np.packbits(bits, bitorder="little"))
    result = pa.Array.from_buffers(pa.bool_(), n, [validity_of(&text, &pattern, n), packed])
    return result, flags_of(flags, &text, &pattern, owner) if any_flag else None
