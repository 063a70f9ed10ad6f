"""State of aggregates: a row of cells per slot of a `GroupTable`, with everything that one operator keeps.

A `State` keeps what is asked of one argument (how many values, and any of sum, least, greatest) and is read
by slot; `Cells` lays several states side by side and folds rows into all of them. NULLs, and rows that a
filter leaves out, are folded by none.
"""

import numpy as np
import pyarrow as pa

cimport cython
from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint8_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from cython_ext.arrow_column cimport (Column, check_rows, fixed_array, is_valid, open_column, open_validity,
                                       text_array, widen)
from cython_ext.clock cimport enter_kernel, leave_kernel
from cython_ext.groups cimport (GROUP_FAR_COUNT, GROUP_NO_MEMORY, GroupStore, GroupTable, check_selection,
                                group_assign, raise_group_error)
from cython_ext.keys cimport KeyRows, Keys


cdef extern from "fold.h" nogil:
    ctypedef struct TextArena:
        uint8_t* data
        int64_t used
        int64_t capacity
    ctypedef struct TextCell:
        int64_t at
        int64_t length
    ctypedef struct Fold
    ctypedef int (*FoldRows)(const Fold*, uint8_t*, int64_t, const int32_t*, const int32_t*, int64_t,
                             int64_t) noexcept nogil
    ctypedef int (*FoldMerge)(const Fold*, uint8_t*, const Fold*, const uint8_t*) noexcept nogil
    ctypedef struct Fold:
        int32_t count
        int32_t sum
        int32_t least
        int32_t greatest
        FoldRows rows
        FoldMerge merge
        TextArena* arena
        const uint8_t* values
        const int32_t* offsets
        const uint8_t* validity
        const uint8_t* truth
        const uint8_t* truth_validity
        const uint8_t* mask
        int64_t bit
        int64_t truth_bit
    FoldRows fold_rows_count
    FoldRows fold_rows_int64
    FoldRows fold_rows_double
    FoldRows fold_rows_decimal
    FoldRows fold_rows_text
    FoldMerge fold_merge_count
    FoldMerge fold_merge_int64
    FoldMerge fold_merge_double
    FoldMerge fold_merge_decimal
    FoldMerge fold_merge_text
    int64_t text_arena_keep(TextArena* arena, const uint8_t* text, int64_t length)


cdef extern from "wide.h" nogil:
    ctypedef struct Int128:
        pass
    ctypedef struct Int192:
        pass
    bint int128_to_i64(const Int128* sum, int64_t* out)
    double int128_average(const Int128* sum, int64_t count)
    bint int192_to_decimal(const Int192* sum, void* out)
    bint int192_average(const Int192* sum, int64_t count, int digits, void* out)


cdef extern from "large_array.h" nogil:
    void* large_array_grow(void* array, int64_t before, int64_t after)
    void large_array_free(void* array, int64_t bytes)
    int64_t large_array_capacity(int64_t capacity, int64_t needed, int64_t least)
    void prefetch_row "large_array_prefetch"(const void* at, int64_t bytes)


cdef enum:
    FIRST_SLOTS = 16
    # Rows whose slots are found, then folded, before the next ones: their cells are then still near.
    BATCH = 512
    # Dead texts are looked for from here on.
    LARGE_ARENA = 65536

PARTS = ("sum", "least", "greatest")


def select_rows(Py_ssize_t n, const int32_t[::1] rows=None, values=None, filter=None):
    """Positions (int32, ascending) in a selection of rows that count; None when all do.

    The selection is `rows` (indices), or all `n` rows. A row counts when `values` is not NULL there and
    `filter` (BOOLEAN) is TRUE.
    """
    cdef Column value
    cdef Column truth
    cdef bint nullable = values is not None and values.null_count > 0
    cdef Py_ssize_t m = n if rows is None else rows.shape[0]
    cdef Py_ssize_t j
    cdef Py_ssize_t i
    cdef Py_ssize_t k = 0
    cdef int32_t[::1] out
    if not nullable and filter is None:
        return None
    if nullable:
        open_validity(values, &value)
    if filter is not None:
        _open_filter(filter, &truth)
    if rows is not None:
        check_rows(rows, n)
    if nullable and value.n != n or filter is not None and truth.n != n:
        raise ValueError(f"expected columns of {n} rows")
    positions = np.empty(m, dtype=np.int32)
    out = positions
    with nogil:
        enter_kernel()
        for j in range(m):
            i = j if rows is None else rows[j]
            if nullable and not is_valid(&value, i):
                continue
            if filter is not None and not (is_valid(&truth, i) and _bit(truth.values, truth.offset + i)):
                continue
            out[k] = <int32_t>j
            k += 1
        leave_kernel()
    return positions[:k]


cdef inline bint _bit(const uint8_t* bits, Py_ssize_t at) noexcept nogil:
    return (bits[at >> 3] >> (at & 7)) & 1


cdef int _open_filter(object filter, Column* truth) except -1:
    if filter.type != pa.bool_():
        raise TypeError(f"a filter is BOOLEAN, not {filter.type}")
    return open_column(filter, truth)


def change_ops(const int32_t[::1] slots not None, failed, passes, uint8_t[::1] sent):
    """Operations (uint8) that tell a reader of a stream of changes of these rows, in order.

    A row of a slot that was not sent is 0 (insert), of one that was 1 (update); one that does not pass is 2
    (delete) when the slot was sent; 255 where nothing is to be sent: the row failed, or neither passes nor
    was sent. `failed` and `passes` (bool) are None for no row and all rows. `sent` (by slot) is updated; None
    says that each group is sent once.
    """
    cdef const uint8_t[::1] bad = None if failed is None else failed.view(np.uint8)
    cdef const uint8_t[::1] good = None if passes is None else passes.view(np.uint8)
    cdef Py_ssize_t n = slots.shape[0]
    cdef Py_ssize_t j
    cdef int32_t slot
    cdef uint8_t[::1] out
    ops = np.empty(n, dtype=np.uint8)
    out = ops
    with nogil:
        enter_kernel()
        for j in range(n):
            slot = slots[j]
            if bad is not None and bad[j]:
                out[j] = 255
            elif sent is None:
                out[j] = 0 if good is None or good[j] else 255
            elif good is None or good[j]:
                out[j] = sent[slot]
                sent[slot] = 1
            else:
                out[j] = 2 if sent[slot] else 255
                sent[slot] = 0
        leave_kernel()
    return ops


cdef inline const int32_t* _from(const int32_t* rows, Py_ssize_t at) noexcept nogil:
    """Selected rows from position `at` on; NULL, all rows, stays NULL."""
    if rows == NULL:
        return NULL
    return rows + at


@cython.final
cdef class Cells:
    """Rows of cells by slot, with those of all `states` side by side. Owned by one lane.

    What takes `arguments` gets one entry per state: None leaves the state out, else `(values, filter, taken)`,
    the argument's array (None for COUNT(*)), the BOOLEAN array of a FILTER or None, and the positions (int32)
    in the selection that alone count, or None.
    """

    cdef readonly tuple states
    cdef uint8_t* cells
    cdef Py_ssize_t stride
    cdef Py_ssize_t capacity
    # One by state, copied from it while it is open.
    cdef Fold* folds

    def __cinit__(self, states):
        cdef State state
        self.states = tuple(states)
        self.stride = 0
        for state in self.states:
            self.stride = state.place(self.stride)
        self.folds = <Fold*>calloc(max(1, len(self.states)), sizeof(Fold))
        if self.folds == NULL:
            raise MemoryError()

    def __dealloc__(self):
        large_array_free(self.cells, self.capacity * self.stride)
        free(self.folds)

    def fresh(self):
        """Cells for the same states, without slots."""
        cdef State state
        return Cells([state.fresh(False) for state in self.states])

    @property
    def nbytes(self):
        """Bytes of memory held."""
        cdef State state
        return self.capacity * self.stride + sum([state.more_bytes() for state in self.states])

    def reserve(self, Py_ssize_t count):
        """Make room for slots below `count`; new ones are without a value."""
        if self._grow(count) < 0:
            raise MemoryError()

    def update(self, const int32_t[::1] slots not None, arguments, const int32_t[::1] rows=None):
        """Fold the selected rows of the arguments (all when `rows` is None) into their slots. O(n)."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t at
        cdef Py_ssize_t opened
        cdef const int32_t* row = NULL
        cdef int error = 0
        if n == 0:
            return
        check_rows(slots, self.capacity)
        if rows is not None:
            row = &rows[0]
            if rows.shape[0] != n:
                raise ValueError("slots and rows differ in number")
        opened = self._open(arguments, n, rows)
        with nogil:
            enter_kernel()
            at = 0
            while at < n and error == 0:
                error = self._fold(&slots[at], _from(row, at), at, min(<Py_ssize_t>BATCH, n - at), opened)
                at += BATCH
            leave_kernel()
        self._close()
        raise_group_error(error)

    def group(self, GroupTable table not None, Keys keys not None, arguments, const int32_t[::1] rows=None,
              const int64_t[::1] windows=None, bint give_slots=False):
        """Find the groups of the selected rows (see `GroupTable.assign`) and fold the rows into them.

        Gives their slots (int32) when asked, else None. O(n).
        """
        cdef Py_ssize_t n = keys.n if rows is None else rows.shape[0]
        cdef Py_ssize_t opened
        cdef const int32_t* row = NULL
        cdef const int64_t* window = NULL
        cdef int32_t* slot = NULL
        cdef int32_t[::1] out
        cdef int error
        check_selection(keys, rows, windows)
        found = np.empty(n, dtype=np.int32) if give_slots else None
        if n == 0:
            return found
        if give_slots:
            out = found
            slot = &out[0]
        if rows is not None:
            row = &rows[0]
        if windows is not None:
            window = &windows[0]
        opened = self._open(arguments, keys.n, rows)
        with nogil:
            enter_kernel()
            error = self._group(&table.store, &keys.rows, row, window, n, slot, opened)
            leave_kernel()
        self._close()
        raise_group_error(error)
        return found

    def trace(self, const int32_t[::1] slots not None, arguments, const int32_t[::1] rows=None):
        """As `update`, row by row: gives cells whose slot j is that of `slots[j]` after row j.

        They read as these do, until the next `compact`.
        """
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef Py_ssize_t opened
        cdef const int32_t* row = NULL
        cdef State state
        cdef int error = 0
        cdef Cells after = Cells([state.fresh(True) for state in self.states])
        after.reserve(n)
        if n == 0:
            return after
        check_rows(slots, self.capacity)
        if rows is not None:
            row = &rows[0]
            if rows.shape[0] != n:
                raise ValueError("slots and rows differ in number")
        opened = self._open(arguments, n, rows)
        with nogil:
            enter_kernel()
            for j in range(n):
                error = self._fold(&slots[j], _from(row, j), j, 1, opened)
                if error < 0:
                    break
                memcpy(after.cells + j * self.stride, self.cells + slots[j] * self.stride, self.stride)
            leave_kernel()
        self._close()
        raise_group_error(error)
        return after

    def merge(self, const int32_t[::1] slots not None, Cells other not None, const int32_t[::1] others not None):
        """Fold the cells of slots `others` of other cells into `slots` here.

        The first states of `other` are like those here; more of them are left alone. Exact, but for DOUBLE
        sums: those are added with what each has lost, see `DoubleState`.
        """
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t states = len(self.states)
        cdef Py_ssize_t j
        cdef Py_ssize_t s
        cdef State state
        cdef State from_
        cdef int error = 0
        if others.shape[0] != n:
            raise ValueError(f"{others.shape[0]} slots cannot be merged into {n}")
        check_rows(slots, self.capacity)
        check_rows(others, other.capacity)
        for s in range(states):
            state = self.states[s]
            from_ = other.states[s]
            if type(state) is not type(from_) or state.parts != from_.parts:
                raise ValueError("only like states can be merged")
            self.folds[s] = state.fold
            other.folds[s] = from_.fold
        with nogil:
            enter_kernel()
            for j in range(n):
                for s in range(states):
                    error |= self.folds[s].merge(&self.folds[s], self.cells + slots[j] * self.stride,
                                                 &other.folds[s], other.cells + others[j] * other.stride)
            leave_kernel()
        if error:
            raise MemoryError()
        self._close()

    def compact(self, const int32_t[::1] keep not None):
        """Slot keep[j] becomes slot j (ascending); all others are without a value. O(slots)."""
        cdef Py_ssize_t n = keep.shape[0]
        cdef Py_ssize_t j
        cdef Py_ssize_t capacity = large_array_capacity(0, n, FIRST_SLOTS)
        cdef uint8_t* cells
        check_rows(keep, self.capacity)
        cells = <uint8_t*>large_array_grow(NULL, 0, max(<Py_ssize_t>1, capacity * self.stride))
        if cells == NULL:
            raise MemoryError()
        with nogil:
            enter_kernel()
            for j in range(n):
                memcpy(cells + j * self.stride, self.cells + keep[j] * self.stride, self.stride)
            leave_kernel()
        large_array_free(self.cells, self.capacity * self.stride)
        self.cells = cells
        self.capacity = capacity
        self._collect()

    @property
    def fields(self):
        """The columns (pyarrow fields) of `take`: by state its cells as they are, then its texts.

        Cells are named by their state's number, texts by that and their part: "0", "0.least".
        """
        cdef State state
        return [
            pa.field(f"{number}{suffix}", type)
            for number, state in enumerate(self.states)
            for suffix, type in state.saved_columns()
        ]

    def take(self, const int32_t[::1] slots not None):
        """The cells of these slots as columns (pyarrow arrays, see `fields`) that own their memory. O(n)."""
        cdef State state
        check_rows(slots, self.capacity)
        columns = []
        for state in self.states:
            columns += state.take(self, slots)
        return columns

    def put(self, const int32_t[::1] slots not None, columns, const int32_t[::1] rows=None):
        """Set the cells of slots to what `take` gave: slot slots[j] to row rows[j], or to row j.

        Raises ValueError for columns that are not such; cells of some states may be set then. O(n).
        """
        cdef Py_ssize_t n
        cdef State state
        if [column.type for column in columns] != [field.type for field in self.fields]:
            raise ValueError(f"expected columns of {self.fields}")
        check_rows(slots, self.capacity)
        n = slots.shape[0]
        if rows is not None and rows.shape[0] != n:
            raise ValueError("slots and rows differ in number")
        for column in columns:
            if rows is not None:
                check_rows(rows, len(column))
            elif len(column) != n:
                raise ValueError("slots and rows differ in number")
        left = list(columns)
        for state in self.states:
            at = len(state.saved_columns())
            state.put(self, slots, left[:at], rows)
            left = left[at:]
        self._collect()

    cdef int _grow(self, Py_ssize_t count) noexcept nogil:
        cdef Py_ssize_t capacity
        cdef uint8_t* cells
        if count <= self.capacity or self.stride == 0:
            self.capacity = max(self.capacity, count)
            return 0
        capacity = large_array_capacity(self.capacity, count, FIRST_SLOTS)
        cells = <uint8_t*>large_array_grow(self.cells, self.capacity * self.stride, capacity * self.stride)
        if cells == NULL:
            return GROUP_NO_MEMORY
        self.cells = cells
        self.capacity = capacity
        return 0

    cdef Py_ssize_t _open(self, arguments, Py_ssize_t n, const int32_t[::1] rows) except -1:
        """Point the folds at the arguments' columns of `n` rows (more when `rows` selects); how many there are.

        Those that are left out are not among them.
        """
        cdef Py_ssize_t opened = 0
        cdef Py_ssize_t selected = n if rows is None else rows.shape[0]
        cdef State state
        if len(arguments) != len(self.states):
            raise ValueError(f"{len(arguments)} arguments for {len(self.states)} states")
        try:
            for state, argument in zip(self.states, arguments):
                if argument is None:
                    continue
                state.open(argument[0], argument[1], argument[2], n, selected, rows)
                self.folds[opened] = state.fold
                opened += 1
        except BaseException:
            self._close()
            raise
        return opened

    cdef int _close(self) except -1:
        cdef State state
        for state in self.states:
            state.held = None
        return self._collect()

    cdef int _collect(self) except -1:
        cdef State state
        for state in self.states:
            if state.collects:
                state.collect(self.cells, self.stride, self.capacity)
        return 0

    cdef int _fold(self, const int32_t* slots, const int32_t* rows, Py_ssize_t first, Py_ssize_t n,
                   Py_ssize_t opened) noexcept nogil:
        cdef Py_ssize_t s
        cdef Fold* fold
        for s in range(opened):
            fold = &self.folds[s]
            if fold.rows(fold, self.cells, self.stride, slots, rows, first, n) < 0:
                return GROUP_NO_MEMORY
        return 0

    cdef int _group(self, GroupStore* store, const KeyRows* keys, const int32_t* rows, const int64_t* windows,
                    Py_ssize_t n, int32_t* slots, Py_ssize_t opened) noexcept nogil:
        cdef int32_t[BATCH] scratch
        cdef int32_t* found
        cdef const int32_t* row
        cdef const int64_t* window
        cdef Py_ssize_t at
        cdef Py_ssize_t m
        cdef Py_ssize_t j
        cdef int error
        at = 0
        while at < n:
            m = min(<Py_ssize_t>BATCH, n - at)
            found = &scratch[0]
            if slots != NULL:
                found = slots + at
            window = NULL
            if windows != NULL:
                window = windows + at
            row = _from(rows, at)
            error = group_assign(store, keys, row, at, window, m, found)
            if error < 0:
                return error
            if self._grow(store.count) < 0:
                return GROUP_NO_MEMORY
            if store.count >= GROUP_FAR_COUNT:
                for j in range(m):
                    prefetch_row(self.cells + found[j] * self.stride, self.stride)
            error = self._fold(found, row, at, m, opened)
            if error < 0:
                return error
            at += BATCH
        return 0


cdef class State:
    """What is kept of one argument: how many values counted, and of `parts` (names of PARTS) each one.

    `type` is the argument's. It reads the rows of the `Cells` that it was given to.
    """

    cdef readonly object type
    cdef readonly frozenset parts
    cdef Fold fold
    # What the fold's pointers belong to while it is open.
    cdef object held
    cdef bint collects
    cdef bint placed
    # So many bytes of its cells, the first ones, are saved as they are.
    cdef Py_ssize_t saved

    def __cinit__(self, type=None, parts=()):
        self.type = type
        self.parts = frozenset(parts)
        if not self.parts <= self.known_parts():
            raise ValueError(f"{self.__class__.__name__} keeps no {', '.join(sorted(self.parts - self.known_parts()))}")

    def known_parts(self):
        """The parts that this kind of state can keep."""
        return frozenset(PARTS)

    cdef Py_ssize_t place(self, Py_ssize_t at) except -1:
        """Take the cells from byte `at` of a row on; where the next may begin."""
        cdef Py_ssize_t sum = 0
        cdef Py_ssize_t extreme = 0
        if self.placed:
            raise ValueError("a state belongs to one Cells")
        self.placed = True
        self.widths(&sum, &extreme)
        self.fold.count = <int32_t>at
        at += 8
        self.fold.sum = self.fold.least = self.fold.greatest = -1
        if "sum" in self.parts:
            self.fold.sum = <int32_t>at
            at += sum
        if "least" in self.parts:
            self.fold.least = <int32_t>at
            at += extreme
        if "greatest" in self.parts:
            self.fold.greatest = <int32_t>at
            at += extreme
        # Extremes in an arena are saved as texts.
        self.saved = sizeof(int64_t) if self.collects else at - self.fold.count
        return at

    cdef int widths(self, Py_ssize_t* sum, Py_ssize_t* extreme) except -1:
        """The bytes of a sum and of an extreme, multiples of 8."""
        return 0

    cdef State fresh(self, bint share):
        """A state of the same kind and parts; `share` lets it read cells copied from this one's."""
        return self.__class__(self.type, self.parts)

    cdef int open(self, object values, object filter, object taken, Py_ssize_t n, Py_ssize_t selected,
                  const int32_t[::1] rows) except -1:
        cdef Column column
        cdef Column truth
        cdef uint8_t[::1] flags
        self.fold.values = NULL
        self.fold.offsets = NULL
        self.fold.validity = self.fold.truth = self.fold.truth_validity = self.fold.mask = NULL
        widened = None
        if values is not None:
            widened = self.open_values(values, &column)
            self._check_rows(column.n, n, rows)
            self.fold.values = column.values
            self.fold.offsets = column.offsets
            self.fold.validity = column.validity
            self.fold.bit = column.offset
        if filter is not None:
            _open_filter(filter, &truth)
            self._check_rows(truth.n, n, rows)
            self.fold.truth = truth.values
            self.fold.truth_validity = truth.validity
            self.fold.truth_bit = truth.offset
        mask = None
        if taken is not None:
            mask = np.zeros(max(1, selected), dtype=np.uint8)
            mask[taken] = 1
            flags = mask
            self.fold.mask = &flags[0]
        self.held = (widened, filter, mask)
        return 0

    cdef int _check_rows(self, Py_ssize_t length, Py_ssize_t n, const int32_t[::1] rows) except -1:
        if rows is not None:
            check_rows(rows, length)
        elif length != n:
            raise ValueError("slots and rows differ in number")
        return 0

    cdef object open_values(self, object values, Column* column):
        """Fill `column`; the array that owns what it points to."""
        widened = widen(values)
        open_column(widened, column)
        return widened

    cdef int64_t more_bytes(self) except -1:
        """Bytes held beside the cells."""
        return 0

    def form(self):
        """Name and version of what `Cells.take` gives for this kind of state; each form is read by its own name."""
        raise NotImplementedError

    cdef list saved_columns(self):
        """Suffix and type of each column that is saved."""
        return [("", pa.binary(self.saved))]

    cdef list take(self, Cells cells, const int32_t[::1] slots):
        """What is saved of these slots, as `saved_columns` tells."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t words = self.saved >> 3
        cdef Py_ssize_t j
        cdef Py_ssize_t w
        cdef const int64_t* cell
        cdef int64_t[::1] out
        values = np.empty(n * words, dtype=np.int64)
        out = values
        with nogil:
            enter_kernel()
            for j in range(n):
                cell = <const int64_t*>self.cell(cells, slots[j], self.fold.count)
                for w in range(words):
                    out[j * words + w] = cell[w]
            leave_kernel()
        return [pa.Array.from_buffers(pa.binary(self.saved), n, [None, pa.py_buffer(values)])]

    cdef int put(self, Cells cells, const int32_t[::1] slots, list columns, const int32_t[::1] rows) except -1:
        """Set the cells of slots to rows of what `take` gave."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef Py_ssize_t at
        cdef const uint8_t* values
        cdef const uint8_t* row
        cdef int64_t count
        cdef bint negative = False
        column = columns[0]
        if column.null_count:
            raise ValueError("cells cannot be NULL")
        if n == 0:
            return 0
        buffer = column.buffers()[1]
        if buffer.size < (column.offset + len(column)) * self.saved:
            raise ValueError("the cells' buffer is shorter than its array")
        at = column.offset * self.saved
        values = <const uint8_t*><uintptr_t>buffer.address + at
        with nogil:
            enter_kernel()
            for j in range(n):
                row = values + (j if rows is None else rows[j]) * self.saved
                memcpy(&count, row, 8)
                negative |= count < 0
                memcpy(self.cell(cells, slots[j], self.fold.count), row, self.saved)
            leave_kernel()
        if negative:
            raise ValueError("a negative number of values")
        return 0

    cdef int collect(self, uint8_t* cells, Py_ssize_t stride, Py_ssize_t slots) except -1:
        return 0

    def count(self, Cells cells not None, const int32_t[::1] slots not None):
        """(BIGINT number of values that counted, None)."""
        cdef Py_ssize_t j
        cdef int64_t[::1] out
        check_rows(slots, cells.capacity)
        values = np.empty(slots.shape[0], dtype=np.int64)
        out = values
        with nogil:
            enter_kernel()
            for j in range(slots.shape[0]):
                out[j] = self.counted(cells, slots[j])
            leave_kernel()
        return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)]), None

    cdef inline uint8_t* cell(self, Cells cells, Py_ssize_t slot, int32_t at) noexcept nogil:
        return cells.cells + slot * cells.stride + at

    cdef inline int64_t counted(self, Cells cells, Py_ssize_t slot) noexcept nogil:
        return (<int64_t*>(cells.cells + slot * cells.stride + self.fold.count))[0]

    cdef int32_t kept(self, Cells cells, str part, const int32_t[::1] slots) except -1:
        """Where the part is in a row; ValueError when it is not kept, IndexError for slots without a row."""
        if part not in self.parts:
            raise ValueError(f"this state keeps no {part}")
        check_rows(slots, cells.capacity)
        return (self.fold.sum if part == "sum" else
                self.fold.least if part == "least" else self.fold.greatest)

    def least(self, Cells cells not None, const int32_t[::1] slots not None):
        """(least values, of the argument's type, None); NULL where there was none."""
        return self.extremes(cells, slots, self.kept(cells, "least", slots))

    def greatest(self, Cells cells not None, const int32_t[::1] slots not None):
        """(greatest values, of the argument's type, None); NULL where there was none."""
        return self.extremes(cells, slots, self.kept(cells, "greatest", slots))

    cdef object extremes(self, Cells cells, const int32_t[::1] slots, int32_t at):
        """Those of fixed width, 8 bytes but for DECIMAL."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef Py_ssize_t words = 2 if pa.types.is_decimal128(self.type) else 1
        cdef int64_t[::1] out
        cdef uint8_t[::1] valid
        values = np.empty(words * n, dtype=np.int64)
        validity = np.empty(n, dtype=np.uint8)
        out = values
        valid = validity
        with nogil:
            enter_kernel()
            for j in range(n):
                memcpy(&out[words * j], self.cell(cells, slots[j], at), 8 * words)
                valid[j] = self.counted(cells, slots[j]) > 0
            leave_kernel()
        return fixed_array(self.type, values, validity), None


@cython.final
cdef class CountState(State):
    """How many rows, or values of any type."""

    def __cinit__(self, type=None, parts=()):
        self.fold.rows = fold_rows_count
        self.fold.merge = fold_merge_count

    def known_parts(self):
        """None: it only counts."""
        return frozenset()

    def form(self):
        """The count (int64)."""
        return "count", 1

    cdef object open_values(self, object values, Column* column):
        open_validity(values, column)
        return values


@cython.final
cdef class Int64State(State):
    """Integers, and what is one inside: BOOLEAN, DATE, TIMESTAMP. Sums are exact, in 128 bits."""

    def __cinit__(self, type=None, parts=()):
        self.fold.rows = fold_rows_int64
        self.fold.merge = fold_merge_int64

    cdef int widths(self, Py_ssize_t* sum, Py_ssize_t* extreme) except -1:
        sum[0] = 16
        extreme[0] = 8
        return 0

    def form(self):
        """The count, the sum (128 bits in two's complement, low word first), the extremes (int64)."""
        return "int64", 1

    def sum(self, Cells cells not None, const int32_t[::1] slots not None):
        """(BIGINT sums, mask of those out of its range or None); NULL where nothing was added."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef int32_t at = self.kept(cells, "sum", slots)
        cdef int64_t[::1] out
        cdef uint8_t[::1] valid
        cdef uint8_t[::1] bad
        values = np.empty(n, dtype=np.int64)
        validity = np.empty(n, dtype=np.uint8)
        failed = np.zeros(n, dtype=np.bool_)
        out = values
        valid = validity
        bad = failed.view(np.uint8)
        with nogil:
            enter_kernel()
            for j in range(n):
                bad[j] = not int128_to_i64(<const Int128*>self.cell(cells, slots[j], at), &out[j])
                valid[j] = self.counted(cells, slots[j]) > 0 and not bad[j]
            leave_kernel()
        return fixed_array(pa.int64(), values, validity), failed if failed.any() else None

    def average(self, Cells cells not None, const int32_t[::1] slots not None):
        """(DOUBLE averages, None): the double nearest to the exact quotient; NULL where nothing was added."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef int32_t at = self.kept(cells, "sum", slots)
        cdef int64_t count
        cdef double[::1] out
        cdef uint8_t[::1] valid
        values = np.zeros(n, dtype=np.float64)
        validity = np.empty(n, dtype=np.uint8)
        out = values
        valid = validity
        with nogil:
            enter_kernel()
            for j in range(n):
                count = self.counted(cells, slots[j])
                valid[j] = count > 0
                if valid[j]:
                    out[j] = int128_average(<const Int128*>self.cell(cells, slots[j], at), count)
            leave_kernel()
        return fixed_array(pa.float64(), values, validity), None


@cython.final
cdef class DoubleState(State):
    """DOUBLE. NaN is the greatest value.

    Sums are compensated: what each addition loses is summed beside it (Knuth's two-sum), and added when the
    sum is read. With unit roundoff u, n values and S the sum of their magnitudes the error is below
    u * |sum| + 2 n^2 u^2 S (Ogita, Rump and Oishi, Accurate Sum and Dot Product, 2005: Sum2), in whatever
    order and parts they were added. An infinity or NaN makes the sum what IEEE 754 addition makes it.
    """

    def __cinit__(self, type=None, parts=()):
        self.fold.rows = fold_rows_double
        self.fold.merge = fold_merge_double

    cdef int widths(self, Py_ssize_t* sum, Py_ssize_t* extreme) except -1:
        sum[0] = 16
        extreme[0] = 8
        return 0

    def form(self):
        """The count, the sum and what it lost (doubles), the extremes (doubles)."""
        return "double", 1

    def sum(self, Cells cells not None, const int32_t[::1] slots not None):
        """(DOUBLE sums, None); NULL where nothing was added."""
        return self._sums(cells, slots, False)

    def average(self, Cells cells not None, const int32_t[::1] slots not None):
        """(DOUBLE averages, None); NULL where nothing was added."""
        return self._sums(cells, slots, True)

    cdef object _sums(self, Cells cells, const int32_t[::1] slots, bint divide):
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef int32_t at = self.kept(cells, "sum", slots)
        cdef int64_t count
        cdef double[::1] out
        cdef uint8_t[::1] valid
        cdef const double* sum
        values = np.zeros(n, dtype=np.float64)
        validity = np.empty(n, dtype=np.uint8)
        out = values
        valid = validity
        with nogil:
            enter_kernel()
            for j in range(n):
                count = self.counted(cells, slots[j])
                valid[j] = count > 0
                if valid[j]:
                    sum = <const double*>self.cell(cells, slots[j], at)
                    # Beside an infinite sum the loss is inf - inf, NaN: it says nothing.
                    out[j] = sum[0] if sum[0] - sum[0] != 0 else sum[0] + sum[1]
                    if divide:
                        out[j] /= count
            leave_kernel()
        return fixed_array(pa.float64(), values, validity), None


@cython.final
cdef class DecimalState(State):
    """DECIMAL; sums are exact, in 192 bits."""

    def __cinit__(self, type=None, parts=()):
        self.fold.rows = fold_rows_decimal
        self.fold.merge = fold_merge_decimal

    cdef int widths(self, Py_ssize_t* sum, Py_ssize_t* extreme) except -1:
        sum[0] = 24
        extreme[0] = 16
        return 0

    def form(self):
        """The count, the sum (192 bits in two's complement, low word first), the extremes (128 bits)."""
        return "decimal", 1

    def sum(self, Cells cells not None, const int32_t[::1] slots not None):
        """(DECIMAL(38, s) sums, mask of those with more digits or None); NULL where nothing was added."""
        return self._sums(cells, slots, -1, self.type.scale)

    def average(self, Cells cells not None, const int32_t[::1] slots not None):
        """(DECIMAL(38, max(s, 6)) averages rounded half to even, mask of those with more digits or None)."""
        return self._sums(cells, slots, max(0, 6 - self.type.scale), max(6, self.type.scale))

    cdef object _sums(self, Cells cells, const int32_t[::1] slots, int digits, int scale):
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef int32_t at = self.kept(cells, "sum", slots)
        cdef int64_t count
        cdef int64_t[::1] out
        cdef uint8_t[::1] valid
        cdef uint8_t[::1] bad
        cdef const Int192* sum
        values = np.zeros(2 * n, dtype=np.int64)
        validity = np.zeros(n, dtype=np.uint8)
        failed = np.zeros(n, dtype=np.bool_)
        out = values
        valid = validity
        bad = failed.view(np.uint8)
        with nogil:
            enter_kernel()
            for j in range(n):
                count = self.counted(cells, slots[j])
                if count == 0:
                    continue
                sum = <const Int192*>self.cell(cells, slots[j], at)
                if digits < 0:
                    valid[j] = int192_to_decimal(sum, &out[2 * j])
                else:
                    valid[j] = int192_average(sum, count, digits, &out[2 * j])
                bad[j] = not valid[j]
            leave_kernel()
        return fixed_array(pa.decimal128(38, scale), values, validity), failed if failed.any() else None


@cython.final
cdef class _Texts:
    """An arena of texts, shared by a state and its traces."""

    cdef TextArena arena

    def __dealloc__(self):
        free(self.arena.data)


@cython.final
cdef class TextState(State):
    """VARCHAR, in the order of its bytes.

    Cells point into an arena that a new extreme is appended to; it is copied without its dead texts when it
    has doubled since, and they are the greater part.
    """

    cdef _Texts texts
    cdef int64_t collect_at

    def __cinit__(self, type=None, parts=()):
        self.fold.rows = fold_rows_text
        self.fold.merge = fold_merge_text
        self.collects = True
        self.collect_at = LARGE_ARENA
        self._use(_Texts())

    def known_parts(self):
        """Texts have no sum."""
        return frozenset(("least", "greatest"))

    cdef int _use(self, _Texts texts) except -1:
        self.texts = texts
        self.fold.arena = &texts.arena
        return 0

    cdef int widths(self, Py_ssize_t* sum, Py_ssize_t* extreme) except -1:
        extreme[0] = sizeof(TextCell)
        return 0

    def form(self):
        """The count; the extremes as texts."""
        return "text", 1

    cdef list saved_columns(self):
        texts = [(f".{part}", pa.string()) for part in PARTS if part in self.parts]
        return [*State.saved_columns(self), *texts]

    cdef list take(self, Cells cells, const int32_t[::1] slots):
        texts = [
            self.extremes(cells, slots, self.kept(cells, part, slots))[0] for part in PARTS if part in self.parts
        ]
        return [*State.take(self, cells, slots), *texts]

    cdef int put(self, Cells cells, const int32_t[::1] slots, list columns, const int32_t[::1] rows) except -1:
        State.put(self, cells, slots, columns[:1], rows)
        for part, texts in zip([part for part in PARTS if part in self.parts], columns[1:]):
            self._put_texts(cells, slots, texts, rows, self.kept(cells, part, slots))
        return 0

    cdef int _put_texts(self, Cells cells, const int32_t[::1] slots, object texts, const int32_t[::1] rows,
                        int32_t at) except -1:
        cdef Column column
        cdef Py_ssize_t j
        cdef Py_ssize_t i
        cdef int64_t kept = 0
        cdef int32_t begin
        cdef int32_t end
        cdef TextCell* cell
        cdef bint outside = False
        open_column(texts, &column)
        with nogil:
            enter_kernel()
            for j in range(slots.shape[0]):
                i = j if rows is None else rows[j]
                cell = <TextCell*>self.cell(cells, slots[j], at)
                cell.at = cell.length = 0
                if not is_valid(&column, i):
                    continue
                begin = column.offsets[i]
                end = column.offsets[i + 1]
                outside = begin < 0 or end < begin or end > column.offsets[column.n]
                if outside:
                    break
                kept = text_arena_keep(self.fold.arena, column.values + begin, end - begin)
                if kept < 0:
                    break
                cell.at = kept
                cell.length = <int64_t>(end - begin) + 1
            leave_kernel()
        if outside:
            raise ValueError("a text's offsets are not in order")
        if kept < 0:
            raise MemoryError()
        return 0

    cdef State fresh(self, bint share):
        cdef TextState other = TextState(self.type, self.parts)
        if share:
            other._use(self.texts)
        return other

    cdef int64_t more_bytes(self) except -1:
        return self.texts.arena.capacity

    cdef int collect(self, uint8_t* cells, Py_ssize_t stride, Py_ssize_t slots) except -1:
        cdef int32_t[2] places = [self.fold.least, self.fold.greatest]
        cdef Py_ssize_t slot
        cdef int64_t alive = 0
        cdef int64_t at
        cdef int p
        cdef TextCell* cell
        cdef _Texts texts
        if self.texts.arena.used < self.collect_at:
            return 0
        with nogil:
            enter_kernel()
            for slot in range(slots):
                for p in range(2):
                    if places[p] >= 0:
                        alive += (<TextCell*>(cells + slot * stride + places[p])).length
            leave_kernel()
        self.collect_at = max(<int64_t>LARGE_ARENA, 2 * self.texts.arena.used)
        if 2 * alive > self.texts.arena.used:
            return 0
        texts = _Texts()
        for slot in range(slots):
            for p in range(2):
                cell = <TextCell*>(cells + slot * stride + places[p])
                if places[p] < 0 or cell.length == 0:
                    continue
                at = text_arena_keep(&texts.arena, self.texts.arena.data + cell.at, cell.length - 1)
                if at < 0:
                    raise MemoryError()
                cell.at = at
        self._use(texts)
        self.collect_at = max(<int64_t>LARGE_ARENA, 2 * texts.arena.used)
        return 0

    cdef object extremes(self, Cells cells, const int32_t[::1] slots, int32_t at):
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef int64_t total = 0
        cdef int32_t[::1] ends
        cdef uint8_t[::1] out
        cdef uint8_t[::1] valid
        cdef TextCell* cell
        offsets = np.zeros(n + 1, dtype=np.int32)
        validity = np.empty(n, dtype=np.uint8)
        ends = offsets
        valid = validity
        for j in range(n):
            cell = <TextCell*>self.cell(cells, slots[j], at)
            valid[j] = cell.length > 0
            total += max(<int64_t>0, cell.length - 1)
            if total > INT32_MAX:
                raise OverflowError("the texts of one batch exceed 2 GiB")
            ends[j + 1] = <int32_t>total
        data = np.empty(max(1, total), dtype=np.uint8)
        out = data
        with nogil:
            enter_kernel()
            for j in range(n):
                cell = <TextCell*>self.cell(cells, slots[j], at)
                if cell.length > 1:
                    memcpy(&out[ends[j]], self.texts.arena.data + cell.at, cell.length - 1)
            leave_kernel()
        return text_array(pa.string(), offsets, data, validity), None
