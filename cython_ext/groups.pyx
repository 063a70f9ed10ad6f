"""Groups of rows by key and window, numbered by slots in the order of their first row.

State of aggregates is kept outside, in rows of cells by slot; `compact` renumbers both alike.
"""

import numpy as np
import pyarrow as pa

cimport cython
from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from cython_ext.arrow_column cimport check_rows, fixed_array, text_array
from cython_ext.clock cimport enter_kernel, leave_kernel
from cython_ext.keys cimport KEY_DECIMAL, KEY_TEXT, KeyKind, KeyLayout, Keys, partition_by_hash


cdef extern from "wide.h" nogil:
    void decimal_unstrip(const uint8_t* stripped, int scale, void* out)


cdef extern from "large_array.h" nogil:
    void* large_array_grow(void* array, int64_t before, int64_t after)
    void large_array_free(void* array, int64_t bytes)


@cython.final
cdef class GroupTable:
    """(key, window) to slot, for keys of the given Arrow types; the window is an int64, 0 where there is none.

    Owned by one lane. `count` slots are in use, 0 to count - 1.
    """

    def __cinit__(self, types):
        self.layout = KeyLayout(types)
        self.block = 0
        if group_init(&self.store, self.layout.is_word, self.layout.columns == 0) < 0:
            raise MemoryError()

    def __dealloc__(self):
        group_free(&self.store)
        large_array_free(self.marks, self.marked * 4)

    @property
    def count(self):
        """How many groups there are."""
        return self.store.count

    def assign(self, Keys keys not None, const int32_t[::1] rows=None, const int64_t[::1] windows=None):
        """The slot (int32) of each selected row; a key not seen in its window gets the next slot.

        `rows` selects rows of `keys` by index, None all; `windows` has one entry per selected row. O(n).
        Raises OverflowError at 2^31 groups.
        """
        cdef Py_ssize_t n = keys.n if rows is None else rows.shape[0]
        cdef int32_t[::1] slots
        cdef const int64_t* window = NULL
        cdef const int32_t* row = NULL
        cdef int error
        check_selection(keys, rows, windows)
        out = np.empty(n, dtype=np.int32)
        if n == 0:
            return out
        slots = out
        if windows is not None:
            window = &windows[0]
        if rows is not None:
            row = &rows[0]
        with nogil:
            enter_kernel()
            error = group_assign(&self.store, &keys.rows, row, 0, window, n, &slots[0])
            leave_kernel()
        raise_group_error(error)
        return out

    def add_new(self, Keys keys not None, const int32_t[::1] rows=None, const int64_t[::1] windows=None):
        """As `assign`, but gives the positions (int32, ascending, in the selection) of rows that made a slot."""
        cdef int64_t before = self.store.count
        cdef Py_ssize_t n
        cdef Py_ssize_t k = 0
        cdef Py_ssize_t j
        cdef int32_t[::1] slots
        cdef int32_t[::1] out
        assigned = self.assign(keys, rows, windows)
        n = len(assigned)
        positions = np.empty(self.store.count - before, dtype=np.int32)
        slots = assigned
        out = positions
        # New slots are numbered in the order of their first rows.
        with nogil:
            enter_kernel()
            for j in range(n):
                if slots[j] == before + k:
                    out[k] = <int32_t>j
                    k += 1
            leave_kernel()
        return positions

    def adopt(self, GroupTable other not None, const int32_t[::1] slots not None):
        """The slots here (int32) of these groups of another table of the same types; new ones where needed."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef int32_t[::1] out
        cdef int error
        if other.layout.types != self.layout.types:
            raise ValueError(f"a table of keys {self.layout.types} cannot adopt keys {other.layout.types}")
        check_rows(slots, other.store.count)
        adopted = np.empty(n, dtype=np.int32)
        if n:
            out = adopted
            with nogil:
                enter_kernel()
                error = group_adopt(&self.store, &other.store, &slots[0], n, &out[0])
                leave_kernel()
            raise_group_error(error)
        return adopted

    def partition(self, Py_ssize_t lanes, Py_ssize_t key_groups):
        """For each lane the slots of its keys (int32, ascending), or None; as `Keys.partition` does with rows."""
        cdef Py_ssize_t n = self.store.count
        cdef Py_ssize_t slot
        cdef uint64_t[::1] out
        hashes = np.empty(max(1, n), dtype=np.uint64)
        out = hashes
        with nogil:
            enter_kernel()
            for slot in range(n):
                out[slot] = group_hash(&self.store, slot)
            leave_kernel()
        return partition_by_hash(&out[0], n, lanes, key_groups)

    def touched(self, const int32_t[::1] slots not None):
        """The distinct slots (int32) of `slots`, in the order of their first occurrence."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t k = 0
        cdef Py_ssize_t j
        cdef int32_t[::1] out
        check_rows(slots, self.store.count)
        distinct = np.empty(min(n, self.store.count), dtype=np.int32)
        out = distinct
        self._begin_block()
        with nogil:
            enter_kernel()
            for j in range(n):
                if self.marks[slots[j]] != self.block:
                    self.marks[slots[j]] = self.block
                    out[k] = slots[j]
                    k += 1
            leave_kernel()
        return distinct[:k]

    @property
    def tracks(self):
        """Whether it notes which groups change."""
        return self.store.changed != NULL

    @property
    def changed(self):
        """How many groups have changed since `take_changed`; ValueError before `track`. O(count), 1 byte each."""
        cdef int64_t changed
        self._check_tracked()
        with nogil:
            enter_kernel()
            changed = group_changed(&self.store)
            leave_kernel()
        return changed

    def track(self, bint changed):
        """Note from now on which groups change: whoever is given a slot for a key is about to change its group.

        All groups that there are count as changed, or none does.
        """
        raise_group_error(group_track(&self.store, changed))

    def mark(self, const int32_t[::1] slots not None):
        """Note that these groups change; nothing before `track`."""
        check_rows(slots, self.store.count)
        if slots.shape[0]:
            group_mark(&self.store, &slots[0], slots.shape[0])

    def take_changed(self, Py_ssize_t first, Py_ssize_t stop):
        """Slots (int32, ascending) of the groups that have changed, and of those from `first` to `stop`.

        None counts as changed afterwards.
        """
        cdef int32_t[::1] out
        cdef int64_t taken
        if not 0 <= first <= stop <= self.store.count:
            raise IndexError(f"slots {first} to {stop} are not slots of {self.store.count}")
        slots = np.empty(self.changed + stop - first + 1, dtype=np.int32)
        out = slots
        with nogil:
            enter_kernel()
            taken = group_take_changed(&self.store, first, stop, &out[0])
            leave_kernel()
        return slots[:taken]

    cdef int _check_tracked(self) except -1:
        if self.store.changed == NULL:
            raise ValueError("the table does not note which groups change")
        return 0

    cdef int _begin_block(self) except -1:
        cdef void* grown
        if self.marked < self.store.capacity:
            grown = large_array_grow(self.marks, self.marked * 4, self.store.capacity * 4)
            if grown == NULL:
                raise MemoryError()
            self.marks = <uint32_t*>grown
            self.marked = self.store.capacity
        self.block += 1
        if self.block == 0:  # after 2^32 blocks the marks of old ones must not be taken for this one's
            memset(self.marks, 0, self.marked * 4)
            self.block = 1
        return 0

    @property
    def windows(self):
        """The window (int64) of each slot; a copy."""
        values = np.zeros(self.store.count, dtype=np.int64)
        cdef int64_t[::1] out = values
        if self.store.windows != NULL and self.store.count:
            memcpy(&out[0], self.store.windows, self.store.count * 8)
        return values

    def windows_of(self, const int32_t[::1] slots not None):
        """The window (int64) of these slots."""
        cdef Py_ssize_t j
        cdef int64_t[::1] out
        check_rows(slots, self.store.count)
        values = np.empty(slots.shape[0], dtype=np.int64)
        out = values
        with nogil:
            enter_kernel()
            for j in range(slots.shape[0]):
                out[j] = group_window(&self.store, slots[j])
            leave_kernel()
        return values

    @property
    def nbytes(self):
        """Bytes of memory held."""
        return group_bytes(&self.store) + 4 * self.marked

    def keys(self, const int32_t[::1] slots not None):
        """The key columns (pyarrow arrays) of these slots, in that order."""
        cdef Py_ssize_t j
        for j in range(slots.shape[0]):
            if not 0 <= slots[j] < self.store.count:
                raise IndexError(f"there is no slot {slots[j]}")
        return [self._column(slots, column) for column in range(self.layout.columns)]

    def compact(self, const int32_t[::1] keep not None):
        """Keep only these slots (ascending); slot keep[j] becomes slot j. O(count)."""
        cdef Py_ssize_t n = keep.shape[0]
        cdef const int32_t* kept = NULL
        cdef int error
        _check_kept(keep, self.store.count)
        if n:
            kept = &keep[0]
        with nogil:
            enter_kernel()
            error = group_compact(&self.store, kept, n)
            leave_kernel()
        raise_group_error(error)
        large_array_free(self.marks, self.marked * 4)
        self.marks = NULL
        self.marked = 0

    def retarget(self, const int32_t[::1] moved not None):
        """Windows that are slots of another table follow its compaction; gives the slots kept here (int32).

        Window w becomes moved[w]; groups whose window becomes -1 are dropped.
        """
        cdef int32_t[::1] out
        cdef Py_ssize_t slot
        cdef Py_ssize_t k = 0
        cdef int32_t window
        kept = np.empty(self.store.count, dtype=np.int32)
        out = kept
        with nogil:
            enter_kernel()
            for slot in range(self.store.count):
                window = moved[group_window(&self.store, slot)]
                if window >= 0:
                    out[k] = <int32_t>slot
                    k += 1
                if self.store.windows != NULL:
                    self.store.windows[slot] = window
            leave_kernel()
        self.compact(kept[:k])
        return kept[:k]

    cdef object _column(self, const int32_t[::1] slots, Py_ssize_t column):
        cdef KeyKind kind = self.layout.kind(column)
        if kind == KEY_TEXT:
            return self._texts(slots, column)
        if self.layout.is_word:
            return self._words(slots)
        return self._numbers(slots, column, kind)

    cdef object _words(self, const int32_t[::1] slots):
        cdef Py_ssize_t j
        cdef uint64_t[::1] out
        cdef uint8_t[::1] valid
        values = np.empty(slots.shape[0], dtype=np.int64)
        validity = np.ones(slots.shape[0], dtype=np.uint8)
        out = values.view(np.uint64)
        valid = validity
        with nogil:
            enter_kernel()
            for j in range(slots.shape[0]):
                out[j] = self.store.words[slots[j]]
                if self.store.nulls != NULL:
                    valid[j] = not self.store.nulls[slots[j]]
            leave_kernel()
        return fixed_array(self.layout.types[0], values, validity)

    cdef const uint8_t* _value_at(self, Py_ssize_t slot, Py_ssize_t column, uint8_t* buffer) noexcept nogil:
        """The canonical bytes of a key whose value in that column is not NULL, else NULL.

        Short keys are put into `buffer` (16 bytes).
        """
        cdef const uint8_t* key = group_key_bytes(&self.store, slot, buffer)
        if key == NULL or (self.layout.columns > 1 and key[column >> 3] >> (column & 7) & 1):
            return NULL
        return key

    cdef object _numbers(self, const int32_t[::1] slots, Py_ssize_t column, KeyKind kind):
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef Py_ssize_t start = self.layout.start(column)
        cdef Py_ssize_t words = 2 if kind == KEY_DECIMAL else 1
        cdef const uint8_t* at
        cdef uint8_t[16] buffer
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
            enter_kernel()
            for j in range(n):
                at = self._value_at(slots[j], column, buffer)
                if at == NULL:
                    valid[j] = 0
                elif kind == KEY_DECIMAL:
                    decimal_unstrip(at + start, scale, &out[2 * j])
                else:
                    memcpy(&out[j], at + start, 8)
            leave_kernel()
        return fixed_array(type, values, validity)

    cdef object _texts(self, const int32_t[::1] slots, Py_ssize_t column):
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef Py_ssize_t c
        cdef int64_t total = 0
        cdef int32_t length
        cdef const uint8_t* at
        cdef uint8_t[16] buffer
        cdef int32_t[::1] ends
        cdef uint8_t[::1] out
        cdef uint8_t[::1] valid
        # Texts lie one behind the other: the lengths of the VARCHAR columns before this one lead to its own.
        before = [self.layout.start(c) for c in range(column) if self.layout.kind(c) == KEY_TEXT]
        skipped = np.zeros(n if self.layout.columns > 1 else 0, dtype=np.int64)
        cdef int64_t[::1] skip = skipped
        cdef Py_ssize_t start
        for start in before:
            with nogil:
                enter_kernel()
                for j in range(n):
                    at = group_key_bytes(&self.store, slots[j], buffer)
                    memcpy(&length, at + start, 4)
                    skip[j] += length
                leave_kernel()
        offsets = np.zeros(n + 1, dtype=np.int32)
        validity = np.ones(n, dtype=np.uint8)
        ends = offsets
        valid = validity
        start = self.layout.start(column)
        with nogil:
            enter_kernel()
            for j in range(n):
                at = self._value_at(slots[j], column, buffer)
                if at == NULL:
                    valid[j] = 0
                elif self.layout.columns == 1:
                    total += self.store.keys[slots[j]].length
                else:
                    memcpy(&length, at + start, 4)
                    total += length
                if total > INT32_MAX:
                    break
                ends[j + 1] = <int32_t>total
            leave_kernel()
        if total > INT32_MAX:
            raise OverflowError("the key texts of one batch exceed 2 GiB")
        data = np.empty(max(1, total), dtype=np.uint8)
        out = data
        with nogil:
            enter_kernel()
            for j in range(n):
                length = ends[j + 1] - ends[j]
                if length > 0:
                    at = self._value_at(slots[j], column, buffer)
                    if self.layout.columns > 1:
                        at += self.layout.fixed_bytes + skip[j]
                    memcpy(&out[ends[j]], at, length)
            leave_kernel()
        return text_array(self.layout.types[column], offsets, data, validity)


cdef int raise_group_error(int error) except -1:
    if error == GROUP_NO_MEMORY:
        raise MemoryError()
    if error == GROUP_TOO_MANY:
        raise OverflowError("a lane cannot hold more than 2^31 groups")
    return 0


cdef int check_selection(Keys keys, const int32_t[::1] rows, const int64_t[::1] windows) except -1:
    """Raise ValueError or IndexError when these are not rows of the keys, each with its window."""
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
