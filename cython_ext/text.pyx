"""Functions of UTF-8 text whose arguments may be columns: parts, positions, replacement.

Positions count characters (code points) from 1. Results are NULL where an argument is. Every function takes
pyarrow string arrays (or scalars) and int64 arrays (or scalars), of the same number of rows.
"""

from libc.stdint cimport INT32_MAX, INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset

from cython_ext.clock cimport enter_kernel, leave_kernel
from cython_ext.operands cimport (
    Operand,
    Text,
    character,
    is_known,
    open_operand,
    rows_of,
    starts,
    text_at,
    validity_of,
)

import numpy as np
import pyarrow as pa


cdef enum Part:
    SUBSTRING
    LEFT
    RIGHT


cdef inline int64_t clamp(int64_t value, int64_t low, int64_t high) noexcept nogil:
    return low if value < low else high if value > high else value


cdef inline int64_t saturating_sum(int64_t a, int64_t b) noexcept nogil:
    if a > 0 and b > INT64_MAX - a:
        return INT64_MAX
    if a < 0 and b < INT64_MIN - a:
        return INT64_MIN
    return a + b


cdef Py_ssize_t count_characters(Text text) noexcept nogil:
    cdef Py_ssize_t k
    cdef Py_ssize_t count = 0
    for k in range(text.size):
        count += (text.at[k] & 0xC0) != 0x80
    return count


cdef Text slice_characters(Text text, int64_t begin, int64_t end) noexcept nogil:
    """The characters `begin` to `end` (from 0, exclusive, within the text)."""
    cdef const uint8_t* at = text.at
    cdef const uint8_t* stop = text.at + text.size
    cdef Text part
    cdef int64_t k
    for k in range(begin):
        if at >= stop:
            break
        at += character(at, stop)
    part.at = at
    for k in range(end - begin):
        if at >= stop:
            break
        at += character(at, stop)
    part.size = at - part.at
    return part


cdef Text part_of(Part kind, Text text, int64_t first, int64_t count) noexcept nogil:
    """The part that SUBSTRING(text, first, count), LEFT(text, first) or RIGHT(text, first) is."""
    cdef int64_t length = count_characters(text)
    cdef int64_t begin
    cdef int64_t end
    if kind == LEFT:
        begin = 0
        end = first if first >= 0 else length + first
    elif kind == RIGHT:
        begin = length - first if first >= 0 else length if first < -length else -first
        end = length
    else:
        # A negative position counts from the end; a negative count takes what stands before the position.
        begin = first - 1 if first >= 0 else length + first
        end = saturating_sum(begin, count)
        if count < 0:
            begin, end = end, begin
    begin = clamp(begin, 0, length)
    return slice_characters(text, begin, clamp(end, begin, length))


cdef object _parts(Part kind, object texts, object firsts, object counts):
    cdef Operand text, first, count
    cdef Py_ssize_t n, i
    cdef int64_t total = 0
    cdef Text part
    cdef const int64_t* first_values
    cdef const int64_t* count_values
    cdef int32_t[::1] offsets
    cdef uint8_t[::1] data
    text_array = open_operand(texts, &text)
    first_array = open_operand(firsts, &first)
    count_array = open_operand(counts, &count)
    n = rows_of((texts, firsts, counts))
    first_values = <const int64_t*>first.column.values
    count_values = <const int64_t*>count.column.values
    sizes = np.zeros(n + 1, dtype=np.int32)
    offsets = sizes
    with nogil:
        enter_kernel()
        for i in range(n):
            if is_known(&text, i) and is_known(&first, i) and is_known(&count, i):
                part = part_of(kind, text_at(&text, i), first_values[i * first.step],
                               count_values[i * count.step])
                total += part.size
                if total > INT32_MAX:
                    break
            offsets[i + 1] = <int32_t>total
        leave_kernel()
    if total > INT32_MAX:
        raise OverflowError("the text of one batch exceeds 2 GiB")
    block = np.empty(max(total, 1), dtype=np.uint8)
    data = block
    with nogil:
        enter_kernel()
        for i in range(n):
            if offsets[i + 1] > offsets[i]:
                part = part_of(kind, text_at(&text, i), first_values[i * first.step],
                               count_values[i * count.step])
                memcpy(&data[offsets[i]], part.at, part.size)
        leave_kernel()
    return pa.Array.from_buffers(pa.string(), n, [_validity(&text, &first, &count, n), pa.py_buffer(sizes),
                                                  pa.py_buffer(block)])


cdef object _validity(const Operand* first, const Operand* second, const Operand* third, Py_ssize_t n):
    """The validity buffer of the rows that are valid in all three; None when all are."""
    cdef uint8_t[::1] out
    cdef Py_ssize_t i
    if third.column.validity == NULL:
        return validity_of(first, second, n)
    known = np.zeros(n, dtype=np.uint8)
    out = known
    with nogil:
        enter_kernel()
        for i in range(n):
            out[i] = is_known(first, i) and is_known(second, i) and is_known(third, i)
        leave_kernel()
    return pa.py_buffer(np.packbits(known, bitorder="little"))


def substring(texts, firsts, counts):
    """`counts` characters from position `firsts`.

    A negative position counts from the end (-1 is the last character), 0 stands before the first; a negative
    count takes the characters before the position. O(bytes).
    """
    return _parts(SUBSTRING, texts, firsts, counts)


def left(texts, counts):
    """The first characters; all but the last `-counts` when that is negative. O(bytes)."""
    return _parts(LEFT, texts, counts, pa.scalar(0, pa.int64()))


def right(texts, counts):
    """The last characters; all but the first `-counts` when that is negative. O(bytes)."""
    return _parts(RIGHT, texts, counts, pa.scalar(0, pa.int64()))


cdef const uint8_t* search(const uint8_t* at, const uint8_t* end, Text part) noexcept nogil:
    """The first occurrence of `part`, or NULL; an empty one occurs nowhere."""
    while part.size and end - at >= part.size:
        at = <const uint8_t*>memchr(at, part.at[0], end - at - part.size + 1)
        if at == NULL:
            return NULL
        if starts(at, end, part):
            return at
        at += 1
    return NULL


def find_text(texts, parts):
    """The position of the first occurrence of `parts`, 0 without one, 1 for the empty text. int64."""
    cdef Operand text, part
    cdef Py_ssize_t n, i
    cdef int64_t[::1] out
    cdef Text whole, wanted
    cdef const uint8_t* found
    text_array = open_operand(texts, &text)
    part_array = open_operand(parts, &part)
    n = rows_of((texts, parts))
    values = np.zeros(n, dtype=np.int64)
    out = values
    with nogil:
        enter_kernel()
        for i in range(n):
            if not (is_known(&text, i) and is_known(&part, i)):
                continue
            whole = text_at(&text, i)
            wanted = text_at(&part, i)
            found = whole.at if wanted.size == 0 else search(whole.at, whole.at + whole.size, wanted)
            if wanted.size == 0:
                out[i] = 1
            elif found != NULL:
                whole.size = found - whole.at
                out[i] = count_characters(whole) + 1
        leave_kernel()
    return pa.Array.from_buffers(pa.int64(), n, [validity_of(&text, &part, n), pa.py_buffer(values)])


cdef void find_equal(const Operand* texts, Py_ssize_t n, Text wanted, uint8_t* bits) noexcept nogil:
    """Write a bit per row, set where the text is `wanted`.

    Up to 8 bytes are compared as one word: a call of memcmp per row takes three times as long.
    """
    cdef Py_ssize_t i
    cdef Py_ssize_t size = min(wanted.size, <Py_ssize_t>8)
    cdef int k
    cdef Text text
    cdef uint64_t word = 0
    cdef uint64_t wanted_word = 0
    # In memory order, which is the order of the bytes on any machine.
    cdef uint64_t mask = 0
    cdef uint8_t byte
    cdef bint same
    cdef const uint8_t* end = texts.column.values + texts.column.offsets[n]
    if size:
        memcpy(&wanted_word, wanted.at, size)
        memset(&mask, 0xFF, size)
    for i in range(0, n, 8):
        byte = 0
        for k in range(<int>min(n - i, <Py_ssize_t>8)):
            text = text_at(texts, i + k)
            if wanted.size <= 8 <= end - text.at:
                memcpy(&word, text.at, 8)
                same = (text.size == wanted.size) & (word & mask == wanted_word)
            else:
                same = text.size == wanted.size and (
                    text.size == 0 or memcmp(text.at, wanted.at, wanted.size) == 0
                )
            byte |= <uint8_t>(same << k)
        bits[i >> 3] = byte


def equal_text(texts, wanted):
    """Which texts, an array, equal the scalar `wanted` byte by byte; NULL where one of them is. O(bytes)."""
    cdef Operand left, right
    cdef uint8_t[::1] out
    cdef Py_ssize_t n = len(texts)
    text_array = open_operand(texts, &left)
    wanted_array = open_operand(wanted, &right)
    bits = np.empty((n + 7) // 8, dtype=np.uint8)
    if n:
        out = bits
        with nogil:
            enter_kernel()
            find_equal(&left, n, text_at(&right, 0), &out[0])
            leave_kernel()
    return pa.Array.from_buffers(pa.bool_(), n, [validity_of(&left, &right, n), pa.py_buffer(bits)])


def starts_with(texts, prefixes):
    """Whether the texts begin with `prefixes`. bool."""
    return _affix(texts, prefixes, False)


def ends_with(texts, suffixes):
    """Whether the texts end with `suffixes`. bool."""
    return _affix(texts, suffixes, True)


cdef object _affix(object texts, object affixes, bint at_end):
    cdef Operand text, affix
    cdef Py_ssize_t n, i
    cdef uint8_t[::1] out
    cdef Text whole, wanted
    text_array = open_operand(texts, &text)
    affix_array = open_operand(affixes, &affix)
    n = rows_of((texts, affixes))
    bits = np.zeros(n, dtype=np.uint8)
    out = bits
    with nogil:
        enter_kernel()
        for i in range(n):
            if not (is_known(&text, i) and is_known(&affix, i)):
                continue
            whole = text_at(&text, i)
            wanted = text_at(&affix, i)
            if wanted.size <= whole.size:
                out[i] = starts(whole.at + (whole.size - wanted.size if at_end else 0),
                                whole.at + whole.size, wanted)
        leave_kernel()
    packed = pa.py_buffer(np.packbits(bits, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), n, [validity_of(&text, &affix, n), packed])


cdef int64_t replace_into(uint8_t* out, Text text, Text old, Text new) noexcept nogil:
    """Write the text with each `old` replaced, from left to right; the bytes written.

    With `out` NULL only counts them. An empty `old` replaces nothing.
    """
    cdef const uint8_t* at = text.at
    cdef const uint8_t* end = text.at + text.size
    cdef const uint8_t* found
    cdef int64_t size = 0
    while True:
        found = search(at, end, old)
        if found == NULL:
            found = end
        if out != NULL:
            memcpy(out + size, at, found - at)
        size += found - at
        if found == end:
            return size
        if out != NULL:
            memcpy(out + size, new.at, new.size)
        size += new.size
        at = found + old.size


def replace(texts, olds, news):
    """The texts with every `olds` replaced by `news`. O(bytes)."""
    cdef Operand text, old, new
    cdef Py_ssize_t n, i
    cdef int64_t total = 0
    cdef int32_t[::1] offsets
    cdef uint8_t[::1] data
    text_array = open_operand(texts, &text)
    old_array = open_operand(olds, &old)
    new_array = open_operand(news, &new)
    n = rows_of((texts, olds, news))
    sizes = np.zeros(n + 1, dtype=np.int32)
    offsets = sizes
    with nogil:
        enter_kernel()
        for i in range(n):
            if is_known(&text, i) and is_known(&old, i) and is_known(&new, i):
                total += replace_into(NULL, text_at(&text, i), text_at(&old, i), text_at(&new, i))
                if total > INT32_MAX:
                    break
            offsets[i + 1] = <int32_t>total
        leave_kernel()
    if total > INT32_MAX:
        raise OverflowError("the text of one batch exceeds 2 GiB")
    block = np.empty(max(total, 1), dtype=np.uint8)
    data = block
    with nogil:
        enter_kernel()
        for i in range(n):
            if offsets[i + 1] > offsets[i]:
                replace_into(&data[offsets[i]], text_at(&text, i), text_at(&old, i), text_at(&new, i))
        leave_kernel()
    return pa.Array.from_buffers(pa.string(), n, [_validity(&text, &old, &new, n), pa.py_buffer(sizes),
                                                  pa.py_buffer(block)])
