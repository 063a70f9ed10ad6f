"""Groups of rows by key and window, numbered by slots in the order of their first row.

An open-addressed table of 8-byte places leads to an array of groups, whose keys lie in one arena. State of
aggregates is kept outside, in arrays by slot; `compact` renumbers both alike.
"""

import numpy as np
import pyarrow as pa

cimport cython
from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from cython_ext.arrow_column cimport check_rows, fixed_array, text_array
from cython_ext.keys cimport (KEY_DECIMAL, KEY_TEXT, KeyKind, KeyLayout, KeyRows, Keys, KeySpan, key_at, key_same,
                              key_spread)


cdef extern from "wide.h" nogil:
    void decimal_unstrip(const uint8_t* stripped, int scale, void* out)


cdef enum:
    FIRST_BITS = 6
    FIRST_ARENA = 1024


cdef struct Group:
    # The key's bytes are in the arena at `at`; `length` is -1 for the NULL key. `touched` is the number of
    # the last block that touched the group.
    uint64_t hash
    int64_t window
    int64_t at
    int32_t length
    uint32_t touched


cdef struct Place:
    # `slot` is -1 where the place is free; `tag` are bits of the spread hash that the place does not tell.
    uint32_t tag
    int32_t slot


@cython.final
cdef class GroupTable:
    """(key, window) to slot, for keys of the given Arrow types; the window is an int64, 0 where there is none.

    Owned by one lane. `count` slots are in use, 0 to count - 1.
    """

    cdef readonly KeyLayout layout
    cdef readonly Py_ssize_t count
    cdef Group* groups
    cdef Py_ssize_t group_capacity
    cdef uint8_t* arena
    cdef int64_t arena_used
    cdef int64_t arena_capacity
    cdef Place* places
    cdef int bits
    cdef uint32_t block

    def __cinit__(self, types):
        self.layout = KeyLayout(types)
        self.block = 0
        self.group_capacity = 1 << FIRST_BITS
        self.groups = <Group*>malloc(self.group_capacity * sizeof(Group))
        self.arena_capacity = FIRST_ARENA
        self.arena = <uint8_t*>malloc(FIRST_ARENA)
        if self.groups == NULL or self.arena == NULL:
            raise MemoryError()
        self._rebuild(FIRST_BITS)

    def __dealloc__(self):
        free(self.groups)
        free(self.arena)
        free(self.places)

    def assign(self, Keys keys not None, const int32_t[::1] rows=None, const int64_t[::1] windows=None):
        """The slot (int32) of each selected row; a key not seen in its window gets the next slot.

        `rows` selects rows of `keys` by index, None all; `windows` has one entry per selected row. O(n).
        Raises OverflowError at 2^31 groups.
        """
        cdef Py_ssize_t n = keys.n if rows is None else rows.shape[0]
        cdef int32_t[::1] slots
        cdef const int64_t* window = NULL
        cdef const int32_t* row = NULL
        _check(keys, rows, windows)
        out = np.empty(n, dtype=np.int32)
        if n == 0:
            return out
        slots = out
        if windows is not None:
            window = &windows[0]
        if rows is not None:
            row = &rows[0]
        with nogil:
            _assign(self, &keys.rows, row, window, n, &slots[0])
        return out

    def add_new(self, Keys keys not None, const int32_t[::1] rows=None, const int64_t[::1] windows=None):
        """As `assign`, but gives the positions (int32, ascending, in the selection) of rows that made a slot."""
        cdef Py_ssize_t before = self.count
        cdef Py_ssize_t n
        cdef Py_ssize_t k = 0
        cdef Py_ssize_t j
        cdef int32_t[::1] slots
        cdef int32_t[::1] out
        assigned = self.assign(keys, rows, windows)
        n = len(assigned)
        positions = np.empty(self.count - before, dtype=np.int32)
        slots = assigned
        out = positions
        # New slots are numbered in the order of their first rows.
        with nogil:
            for j in range(n):
                if slots[j] == before + k:
                    out[k] = <int32_t>j
                    k += 1
        return positions

    def touched(self, const int32_t[::1] slots not None):
        """The distinct slots (int32) of `slots`, in the order of their first occurrence."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t k = 0
        cdef Py_ssize_t j
        cdef Group* group
        cdef int32_t[::1] out
        distinct = np.empty(min(n, self.count), dtype=np.int32)
        out = distinct
        self.block += 1
        if self.block == 0:  # after 2^32 blocks the marks of old ones must not be taken for this one's
            for j in range(self.count):
                self.groups[j].touched = 0
            self.block = 1
        with nogil:
            for j in range(n):
                group = &self.groups[slots[j]]
                if group.touched != self.block:
                    group.touched = self.block
                    out[k] = slots[j]
                    k += 1
        return distinct[:k]

    @property
    def windows(self):
        """The window (int64) of each slot; a copy."""
        cdef int64_t[::1] out
        cdef Py_ssize_t slot
        values = np.empty(self.count, dtype=np.int64)
        out = values
        for slot in range(self.count):
            out[slot] = self.groups[slot].window
        return values

    @property
    def nbytes(self):
        """Bytes of memory held."""
        return self.group_capacity * sizeof(Group) + self.arena_capacity + (1 << self.bits) * sizeof(Place)

    def keys(self, const int32_t[::1] slots not None):
        """The key columns (pyarrow arrays) of these slots, in that order."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        for j in range(n):
            if not 0 <= slots[j] < self.count:
                raise IndexError(f"there is no slot {slots[j]}")
        return [self._column(slots, column) for column in range(self.layout.columns)]

    def compact(self, const int32_t[::1] keep not None):
        """Keep only these slots (ascending); slot keep[j] becomes slot j. O(count)."""
        cdef Py_ssize_t n = keep.shape[0]
        cdef Py_ssize_t j
        cdef int64_t at = 0
        cdef Group* group
        _check_kept(keep, self.count)
        with nogil:
            for j in range(n):
                group = &self.groups[j]
                group[0] = self.groups[keep[j]]
                if group.length > 0:
                    memmove(self.arena + at, self.arena + group.at, group.length)
                    group.at = at
                    at += group.length
            self.count = n
            self.arena_used = at
            self._shrink()

    def retarget(self, const int32_t[::1] moved not None):
        """Windows that are slots of another table follow its compaction; gives the slots kept here (int32).

        Window w becomes moved[w]; groups whose window becomes -1 are dropped.
        """
        cdef int32_t[::1] out
        cdef Py_ssize_t slot
        cdef Py_ssize_t k = 0
        kept = np.empty(self.count, dtype=np.int32)
        out = kept
        with nogil:
            for slot in range(self.count):
                self.groups[slot].window = moved[self.groups[slot].window]
                if self.groups[slot].window >= 0:
                    out[k] = <int32_t>slot
                    k += 1
        self.compact(kept[:k])
        return kept[:k]

    cdef int _shrink(self) except -1 nogil:
        """Give back memory that is used to less than a quarter, and lead the places to the new slots."""
        cdef int bits = FIRST_BITS
        cdef Group* groups
        cdef uint8_t* arena
        while (1 << bits) < 2 * self.count:
            bits += 1
        if self.group_capacity > 1 << FIRST_BITS and self.group_capacity > 4 * self.count:
            self.group_capacity = max(1 << FIRST_BITS, 2 * self.count)
            groups = <Group*>realloc(self.groups, self.group_capacity * sizeof(Group))
            if groups == NULL:
                with gil:
                    raise MemoryError()
            self.groups = groups
        if self.arena_capacity > FIRST_ARENA and self.arena_capacity > 4 * self.arena_used:
            self.arena_capacity = max(<int64_t>FIRST_ARENA, 2 * self.arena_used)
            arena = <uint8_t*>realloc(self.arena, self.arena_capacity)
            if arena == NULL:
                with gil:
                    raise MemoryError()
            self.arena = arena
        return self._rebuild(bits)

    cdef int _grow_groups(self) except -1 nogil:
        cdef Group* groups
        if self.count >= INT32_MAX:
            with gil:
                raise OverflowError("a lane cannot hold more than 2^31 groups")
        groups = <Group*>realloc(self.groups, 2 * self.group_capacity * sizeof(Group))
        if groups == NULL:
            with gil:
                raise MemoryError()
        self.groups = groups
        self.group_capacity *= 2
        return 0

    cdef int _grow_arena(self, int64_t room) except -1 nogil:
        cdef int64_t capacity = self.arena_capacity
        cdef uint8_t* arena
        while capacity - self.arena_used < room:
            capacity *= 2
        arena = <uint8_t*>realloc(self.arena, capacity)
        if arena == NULL:
            with gil:
                raise MemoryError()
        self.arena = arena
        self.arena_capacity = capacity
        return 0

    cdef int _rebuild(self, int bits) except -1 nogil:
        """Lead 2^bits places to the groups there are."""
        cdef Py_ssize_t size = <Py_ssize_t>1 << bits
        cdef Py_ssize_t slot
        cdef Py_ssize_t place
        cdef uint64_t spread
        cdef Place* places = <Place*>malloc(size * sizeof(Place))
        if places == NULL:
            with gil:
                raise MemoryError()
        free(self.places)
        self.places = places
        self.bits = bits
        memset(places, 0xFF, size * sizeof(Place))
        for slot in range(self.count):
            spread = key_spread(self.groups[slot].hash, self.groups[slot].window)
            place = <Py_ssize_t>(spread >> (64 - bits))
            while places[place].slot >= 0:
                place = (place + 1) & (size - 1)
            places[place].tag = <uint32_t>(spread >> 8)
            places[place].slot = <int32_t>slot
        return 0

    cdef int _append(self, uint64_t hash, int64_t window, KeySpan span, Py_ssize_t place,
                     uint32_t tag) except -1 nogil:
        """A new group at a free place; the places are doubled when half of them are taken."""
        cdef Group* group
        if self.count == self.group_capacity:
            self._grow_groups()
        if span.length > self.arena_capacity - self.arena_used:
            self._grow_arena(span.length)
        group = &self.groups[self.count]
        group.hash = hash
        group.window = window
        group.at = self.arena_used
        group.length = span.length
        group.touched = 0
        if span.length > 0:
            memcpy(self.arena + self.arena_used, span.at, span.length)
            self.arena_used += span.length
        self.places[place].tag = tag
        self.places[place].slot = <int32_t>self.count
        self.count += 1
        if 2 * self.count > 1 << self.bits:
            self._rebuild(self.bits + 1)
        return 0

    cdef inline Py_ssize_t _slot_of(self, uint64_t hash, int64_t window, KeySpan span) except -1 nogil:
        cdef uint64_t spread = key_spread(hash, window)
        cdef uint32_t tag = <uint32_t>(spread >> 8)
        cdef Py_ssize_t mask = (<Py_ssize_t>1 << self.bits) - 1
        cdef Py_ssize_t place = <Py_ssize_t>(spread >> (64 - self.bits))
        cdef Place found
        cdef Group* group
        while True:
            found = self.places[place]
            if found.slot < 0:
                self._append(hash, window, span, place, tag)
                return self.count - 1
            if found.tag == tag:
                group = &self.groups[found.slot]
                if (group.hash == hash and group.window == window and group.length == span.length
                        and key_same(self.arena + group.at, span.at, span.length)):
                    return found.slot
            place = (place + 1) & mask

    cdef const uint8_t* _value_at(self, Py_ssize_t slot, Py_ssize_t column) noexcept nogil:
        """Where the value of a key column is, its 4 bytes of length for a VARCHAR; NULL when it is NULL."""
        cdef Group* group = &self.groups[slot]
        cdef const uint8_t* key = self.arena + group.at
        if group.length < 0 or (self.layout.columns > 1 and key[column >> 3] >> (column & 7) & 1):
            return NULL
        return key

    cdef object _column(self, const int32_t[::1] slots, Py_ssize_t column):
        cdef KeyKind kind = self.layout.kind(column)
        if kind == KEY_TEXT:
            return self._texts(slots, column)
        return self._numbers(slots, column, kind)

    cdef object _numbers(self, const int32_t[::1] slots, Py_ssize_t column, KeyKind kind):
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef Py_ssize_t start = self.layout.start(column)
        cdef Py_ssize_t words = 2 if kind == KEY_DECIMAL else 1
        cdef const uint8_t* at
        cdef int64_t[::1] out
        cdef uint8_t[::1] valid
        cdef int scale
        type = self.layout.types[column]
        scale = type.scale if kind == KEY_DECIMAL else 0
        values = np.zeros(n * words, dtype=np.int64)
        validity = np.ones(n, dtype=np.uint8)
        out = values
        valid = validity
        with nogil:
            for j in range(n):
                at = self._value_at(slots[j], column)
                if at == NULL:
                    valid[j] = 0
                elif kind == KEY_DECIMAL:
                    decimal_unstrip(at + start, scale, &out[2 * j])
                else:
                    memcpy(&out[j], at + start, 8)
        return fixed_array(type, values, validity)

    cdef object _texts(self, const int32_t[::1] slots, Py_ssize_t column):
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef Py_ssize_t c
        cdef int64_t total = 0
        cdef int32_t length
        cdef const uint8_t* at
        cdef int32_t[::1] ends
        cdef uint8_t[::1] out
        cdef uint8_t[::1] valid
        # Texts lie one behind the other: the lengths of the VARCHAR columns before this one lead to its own.
        before = [self.layout.start(c) for c in range(column) if self.layout.kind(c) == KEY_TEXT]
        skipped = np.zeros(n, dtype=np.int64)
        cdef int64_t[::1] skip = skipped
        cdef Py_ssize_t start
        for start in before:
            for j in range(n):
                if self.layout.columns > 1 and self.groups[slots[j]].length >= 0:
                    memcpy(&length, self.arena + self.groups[slots[j]].at + start, 4)
                    skip[j] += length
        offsets = np.zeros(n + 1, dtype=np.int32)
        validity = np.ones(n, dtype=np.uint8)
        ends = offsets
        valid = validity
        start = self.layout.start(column)
        with nogil:
            for j in range(n):
                at = self._value_at(slots[j], column)
                if at == NULL:
                    valid[j] = 0
                elif self.layout.columns == 1:
                    total += self.groups[slots[j]].length
                else:
                    memcpy(&length, at + start, 4)
                    total += length
                if total > INT32_MAX:
                    break
                ends[j + 1] = <int32_t>total
        if total > INT32_MAX:
            raise OverflowError("the key texts of one batch exceed 2 GiB")
        data = np.empty(max(1, total), dtype=np.uint8)
        out = data
        with nogil:
            for j in range(n):
                length = ends[j + 1] - ends[j]
                if length > 0:
                    at = self._value_at(slots[j], column)
                    if self.layout.columns > 1:
                        at += self.layout.fixed_bytes + skip[j]
                    memcpy(&out[ends[j]], at, length)
        return text_array(self.layout.types[column], offsets, data, validity)


cdef int _assign(GroupTable table, const KeyRows* keys, const int32_t* rows, const int64_t* windows,
                 Py_ssize_t n, int32_t* slots) except -1 nogil:
    cdef Py_ssize_t j
    cdef Py_ssize_t i
    for j in range(n):
        i = j if rows == NULL else rows[j]
        slots[j] = <int32_t>table._slot_of(keys.hash[i], 0 if windows == NULL else windows[j], key_at(keys, i))
    return 0


cdef int _check(Keys keys, const int32_t[::1] rows, const int64_t[::1] windows) except -1:
    cdef Py_ssize_t n = keys.n if rows is None else rows.shape[0]
    if windows is not None and windows.shape[0] != n:
        raise ValueError(f"{windows.shape[0]} windows for {n} rows")
    if rows is not None:
        check_rows(rows, keys.n)
    return 0


cdef int _check_kept(const int32_t[::1] keep, Py_ssize_t count) except -1:
    cdef Py_ssize_t j
    cdef int32_t last = -1
    for j in range(keep.shape[0]):
        if keep[j] <= last or keep[j] >= count:
            raise IndexError("slots to keep must ascend and exist")
        last = keep[j]
    return 0
