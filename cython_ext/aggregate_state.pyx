"""State of aggregates: one array of cells per aggregate, one cell per slot of a `GroupTable`.

Every class here folds values that are not NULL; `select_rows` leaves out the rows that do not count, so that
the loops have no branch for them. `fold` is the loop over many rows, `step` one row of it.
"""

import numpy as np
import pyarrow as pa

cimport cython
from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from cython_ext.arrow_column cimport (Column, bit_at, check_rows, fixed_array, is_valid, open_column,
                                       open_validity, text_array, widen)


cdef extern from "wide.h" nogil:
    ctypedef struct Int128:
        uint64_t lo
        int64_t hi
    ctypedef struct Int192:
        uint64_t lo
        uint64_t mid
        int64_t hi
    void int128_add(Int128* sum, int64_t value)
    bint int128_to_i64(const Int128* sum, int64_t* out)
    double int128_average(const Int128* sum, int64_t count)
    void int192_add(Int192* sum, const void* decimal)
    bint int192_to_decimal(const Int192* sum, void* out)
    bint int192_average(const Int192* sum, int64_t count, int digits, void* out)
    bint decimal_less(const void* left, const void* right)


cdef struct SumInt64Cell:
    Int128 sum
    int64_t count


cdef struct SumDecimalCell:
    Int192 sum
    int64_t count


cdef struct SumDoubleCell:
    double sum
    double lost
    int64_t count


cdef struct Int64Cell:
    int64_t value
    int64_t seen


cdef struct DoubleCell:
    double value
    int64_t seen


cdef struct DecimalCell:
    uint8_t[16] value
    int64_t seen


cdef struct TextCell:
    # The text is in the arena; `length` is one more than its length, 0 when there is none.
    int64_t at
    int64_t length


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
        if filter.type != pa.bool_():
            raise TypeError(f"a filter is BOOLEAN, not {filter.type}")
        open_column(filter, &truth)
    if rows is not None:
        check_rows(rows, n)
    if nullable and value.n != n or filter is not None and truth.n != n:
        raise ValueError(f"expected columns of {n} rows")
    positions = np.empty(m, dtype=np.int32)
    out = positions
    with nogil:
        for j in range(m):
            i = j if rows is None else rows[j]
            if nullable and not is_valid(&value, i):
                continue
            if filter is not None and not (is_valid(&truth, i) and bit_at(&truth, i)):
                continue
            out[k] = <int32_t>j
            k += 1
    return positions[:k]


def change_ops(const int32_t[::1] slots not None, failed, passes, uint8_t[::1] sent not None):
    """Operations (uint8) that tell a reader of a stream of changes of these rows, in order.

    A row of a slot that was not sent is 0 (insert), of one that was 1 (update); one that does not pass is 2
    (delete) when the slot was sent; 255 where nothing is to be sent: the row failed, or neither passes nor
    was sent. `failed` and `passes` (bool) are None for no row and all rows. `sent` (by slot) is updated.
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
        for j in range(n):
            slot = slots[j]
            if bad is not None and bad[j]:
                out[j] = 255
            elif good is None or good[j]:
                out[j] = sent[slot]
                sent[slot] = 1
            else:
                out[j] = 2 if sent[slot] else 255
                sent[slot] = 0
    return ops


cdef class State:
    """Cells by slot. Owned by one lane.

    Call `reserve` before slots are used that were not there before.
    """

    # All bytes 0 is the state of a group without a value, so that growing is a memset.
    cdef uint8_t* cells
    cdef Py_ssize_t width
    cdef Py_ssize_t capacity
    # What `update` reads, and the array that owns it meanwhile.
    cdef Column column
    cdef object held

    def __dealloc__(self):
        free(self.cells)

    @property
    def nbytes(self):
        """Bytes of memory held."""
        return self.capacity * self.width

    def reserve(self, Py_ssize_t count):
        """Make room for slots below `count`; new ones are without a value."""
        cdef Py_ssize_t capacity = max(16, self.capacity)
        cdef uint8_t* cells
        if count <= self.capacity:
            return
        while capacity < count:
            capacity *= 2
        cells = <uint8_t*>realloc(self.cells, capacity * self.width)
        if cells == NULL:
            raise MemoryError()
        memset(cells + self.capacity * self.width, 0, (capacity - self.capacity) * self.width)
        self.cells = cells
        self.capacity = capacity

    def update(self, const int32_t[::1] slots not None, const int32_t[::1] rows=None, values=None):
        """Fold the selected rows of `values` (all when `rows` is None; no NULLs) into their slots. O(n)."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef const int32_t* row = NULL
        if n == 0:
            return
        self._check(slots, rows, values)
        if rows is not None:
            row = &rows[0]
        self.open(values)
        with nogil:
            self.fold(&slots[0], row, n)
        self.held = None

    def trace(self, const int32_t[::1] slots not None, const int32_t[::1] rows=None, values=None,
              const int32_t[::1] positions=None):
        """As `update`, row by row: gives a state whose slot j is that of `slots[j]` after row j.

        `positions` are those that count (see `select_rows`), None all. The result reads as this state does,
        until the next `compact`.
        """
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t m = 0 if positions is None else positions.shape[0]
        cdef Py_ssize_t j
        cdef Py_ssize_t k = 0
        cdef const int32_t* row = NULL
        cdef State after = self.fresh()
        after.reserve(n)
        if n == 0:
            return after
        self._check(slots, rows, values)
        if rows is not None:
            row = &rows[0]
        self.open(values)
        with nogil:
            for j in range(n):
                if positions is None or k < m and positions[k] == j:
                    self.step(slots[j], j if row == NULL else row[j])
                    k += 1
                memcpy(after.cells + j * self.width, self.cells + slots[j] * self.width, self.width)
        self.held = None
        return after

    def compact(self, const int32_t[::1] keep not None):
        """Slot keep[j] becomes slot j (ascending); all others are without a value. O(slots)."""
        cdef Py_ssize_t n = keep.shape[0]
        cdef Py_ssize_t j
        cdef Py_ssize_t capacity = 16
        cdef uint8_t* cells
        while capacity < n:
            capacity *= 2
        cells = <uint8_t*>malloc(capacity * self.width)
        if cells == NULL:
            raise MemoryError()
        with nogil:
            for j in range(n):
                memcpy(cells + j * self.width, self.cells + keep[j] * self.width, self.width)
        memset(cells + n * self.width, 0, (capacity - n) * self.width)
        free(self.cells)
        self.cells = cells
        self.capacity = capacity

    def _check(self, const int32_t[::1] slots, const int32_t[::1] rows, values):
        cdef Py_ssize_t n = slots.shape[0]
        if n != (rows.shape[0] if rows is not None else n if values is None else len(values)):
            raise ValueError("slots and rows differ in number")
        check_rows(slots, self.capacity)
        if rows is not None and values is not None:
            check_rows(rows, len(values))

    cdef State fresh(self):
        """A state of the same kind, without slots."""
        raise NotImplementedError

    cdef int open(self, object values) except -1:
        self.held = widen(values)
        return open_column(self.held, &self.column)

    cdef int fold(self, const int32_t* slots, const int32_t* rows, Py_ssize_t n) except -1 nogil:
        return 0

    cdef int step(self, Py_ssize_t slot, Py_ssize_t i) except -1 nogil:
        return 0


@cython.final
cdef class Count(State):
    """How many rows; takes no values."""

    def __cinit__(self):
        self.width = sizeof(int64_t)

    cdef State fresh(self):
        return Count()

    cdef int open(self, object values) except -1:
        return 0

    cdef int fold(self, const int32_t* slots, const int32_t* rows, Py_ssize_t n) except -1 nogil:
        cdef Py_ssize_t j
        cdef int64_t* cells = <int64_t*>self.cells
        for j in range(n):
            cells[slots[j]] += 1
        return 0

    cdef int step(self, Py_ssize_t slot, Py_ssize_t i) except -1 nogil:
        (<int64_t*>self.cells)[slot] += 1
        return 0

    def count(self, const int32_t[::1] slots not None):
        """(BIGINT counts, None)."""
        cdef Py_ssize_t j
        cdef int64_t[::1] out
        cdef int64_t* cells = <int64_t*>self.cells
        values = np.empty(slots.shape[0], dtype=np.int64)
        out = values
        with nogil:
            for j in range(slots.shape[0]):
                out[j] = cells[slots[j]]
        return pa.array(values), None


@cython.final
cdef class SumInt64(State):
    """Exact sums of integers in 128 bits."""

    def __cinit__(self):
        self.width = sizeof(SumInt64Cell)

    cdef State fresh(self):
        return SumInt64()

    cdef int fold(self, const int32_t* slots, const int32_t* rows, Py_ssize_t n) except -1 nogil:
        cdef Py_ssize_t j
        cdef const int64_t* values = <const int64_t*>self.column.values
        cdef SumInt64Cell* cells = <SumInt64Cell*>self.cells
        cdef SumInt64Cell* cell
        for j in range(n):
            cell = &cells[slots[j]]
            int128_add(&cell.sum, values[j if rows == NULL else rows[j]])
            cell.count += 1
        return 0

    cdef int step(self, Py_ssize_t slot, Py_ssize_t i) except -1 nogil:
        cdef SumInt64Cell* cell = <SumInt64Cell*>self.cells + slot
        int128_add(&cell.sum, (<const int64_t*>self.column.values)[i])
        cell.count += 1
        return 0

    def sum(self, const int32_t[::1] slots not None):
        """(BIGINT sums, mask of those out of its range or None); NULL where nothing was added."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef int64_t[::1] out
        cdef uint8_t[::1] valid
        cdef uint8_t[::1] bad
        cdef SumInt64Cell* cell
        values = np.empty(n, dtype=np.int64)
        validity = np.empty(n, dtype=np.uint8)
        failed = np.zeros(n, dtype=np.bool_)
        out = values
        valid = validity
        bad = failed.view(np.uint8)
        with nogil:
            for j in range(n):
                cell = <SumInt64Cell*>self.cells + slots[j]
                bad[j] = not int128_to_i64(&cell.sum, &out[j])
                valid[j] = cell.count > 0 and not bad[j]
        return fixed_array(pa.int64(), values, validity), failed if failed.any() else None

    def average(self, const int32_t[::1] slots not None):
        """(DOUBLE averages, None): the double nearest to the exact quotient; NULL where nothing was added."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef double[::1] out
        cdef uint8_t[::1] valid
        cdef SumInt64Cell* cell
        values = np.zeros(n, dtype=np.float64)
        validity = np.empty(n, dtype=np.uint8)
        out = values
        valid = validity
        with nogil:
            for j in range(n):
                cell = <SumInt64Cell*>self.cells + slots[j]
                valid[j] = cell.count > 0
                if valid[j]:
                    out[j] = int128_average(&cell.sum, cell.count)
        return fixed_array(pa.float64(), values, validity), None


@cython.final
cdef class SumDouble(State):
    """Compensated sums of doubles: what each addition loses is summed beside it (Knuth's two-sum).

    An infinity or NaN makes the sum what IEEE 754 addition makes it.
    """

    def __cinit__(self):
        self.width = sizeof(SumDoubleCell)

    cdef State fresh(self):
        return SumDouble()

    cdef int fold(self, const int32_t* slots, const int32_t* rows, Py_ssize_t n) except -1 nogil:
        cdef Py_ssize_t j
        cdef const double* values = <const double*>self.column.values
        cdef SumDoubleCell* cells = <SumDoubleCell*>self.cells
        for j in range(n):
            add_compensated(&cells[slots[j]], values[j if rows == NULL else rows[j]])
        return 0

    cdef int step(self, Py_ssize_t slot, Py_ssize_t i) except -1 nogil:
        add_compensated(<SumDoubleCell*>self.cells + slot, (<const double*>self.column.values)[i])
        return 0

    def sum(self, const int32_t[::1] slots not None):
        """(DOUBLE sums, None); NULL where nothing was added."""
        return self._result(slots, False)

    def average(self, const int32_t[::1] slots not None):
        """(DOUBLE averages, None); NULL where nothing was added."""
        return self._result(slots, True)

    cdef object _result(self, const int32_t[::1] slots, bint divide):
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef double[::1] out
        cdef uint8_t[::1] valid
        cdef SumDoubleCell* cell
        values = np.zeros(n, dtype=np.float64)
        validity = np.empty(n, dtype=np.uint8)
        out = values
        valid = validity
        with nogil:
            for j in range(n):
                cell = <SumDoubleCell*>self.cells + slots[j]
                valid[j] = cell.count > 0
                if valid[j]:
                    # Beside an infinite sum the loss is inf - inf, NaN: it says nothing.
                    out[j] = cell.sum if cell.sum - cell.sum != 0 else cell.sum + cell.lost
                    if divide:
                        out[j] /= cell.count
        return fixed_array(pa.float64(), values, validity), None


cdef inline void add_compensated(SumDoubleCell* cell, double value) noexcept nogil:
    cdef double sum = cell.sum + value
    cdef double part = sum - cell.sum
    cell.lost += (cell.sum - (sum - part)) + (value - part)
    cell.sum = sum
    cell.count += 1


@cython.final
cdef class SumDecimal(State):
    """Exact sums of DECIMAL in 192 bits; `type` is that of the values."""

    cdef object type

    def __cinit__(self, type):
        self.width = sizeof(SumDecimalCell)
        self.type = type

    cdef State fresh(self):
        return SumDecimal(self.type)

    cdef int fold(self, const int32_t* slots, const int32_t* rows, Py_ssize_t n) except -1 nogil:
        cdef Py_ssize_t j
        for j in range(n):
            self.step(slots[j], j if rows == NULL else rows[j])
        return 0

    cdef inline int step(self, Py_ssize_t slot, Py_ssize_t i) except -1 nogil:
        cdef SumDecimalCell* cell = <SumDecimalCell*>self.cells + slot
        int192_add(&cell.sum, self.column.values + 16 * i)
        cell.count += 1
        return 0

    def sum(self, const int32_t[::1] slots not None):
        """(DECIMAL(38, s) sums, mask of those with more digits or None); NULL where nothing was added."""
        return self._result(slots, -1, self.type.scale)

    def average(self, const int32_t[::1] slots not None):
        """(DECIMAL(38, max(s, 6)) averages rounded half to even, mask of those with more digits or None)."""
        return self._result(slots, max(0, 6 - self.type.scale), max(6, self.type.scale))

    cdef object _result(self, const int32_t[::1] slots, int digits, int scale):
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef int64_t[::1] out
        cdef uint8_t[::1] valid
        cdef uint8_t[::1] bad
        cdef SumDecimalCell* cell
        values = np.zeros(2 * n, dtype=np.int64)
        validity = np.zeros(n, dtype=np.uint8)
        failed = np.zeros(n, dtype=np.bool_)
        out = values
        valid = validity
        bad = failed.view(np.uint8)
        with nogil:
            for j in range(n):
                cell = <SumDecimalCell*>self.cells + slots[j]
                if cell.count == 0:
                    continue
                if digits < 0:
                    valid[j] = int192_to_decimal(&cell.sum, &out[2 * j])
                else:
                    valid[j] = int192_average(&cell.sum, cell.count, digits, &out[2 * j])
                bad[j] = not valid[j]
        return fixed_array(pa.decimal128(38, scale), values, validity), failed if failed.any() else None


@cython.final
cdef class ExtremeInt64(State):
    """The least or greatest of integers, or of what is one inside: BOOLEAN, DATE, TIMESTAMP."""

    cdef object type
    cdef bint greatest

    def __cinit__(self, type, bint greatest):
        self.width = sizeof(Int64Cell)
        self.type = type
        self.greatest = greatest

    cdef State fresh(self):
        return ExtremeInt64(self.type, self.greatest)

    cdef int fold(self, const int32_t* slots, const int32_t* rows, Py_ssize_t n) except -1 nogil:
        cdef Py_ssize_t j
        cdef const int64_t* values = <const int64_t*>self.column.values
        cdef Int64Cell* cells = <Int64Cell*>self.cells
        cdef int64_t value
        cdef Int64Cell* cell
        if self.greatest:
            for j in range(n):
                cell = &cells[slots[j]]
                value = values[j if rows == NULL else rows[j]]
                if value > cell.value or not cell.seen:
                    cell.value = value
                    cell.seen = 1
        else:
            for j in range(n):
                cell = &cells[slots[j]]
                value = values[j if rows == NULL else rows[j]]
                if value < cell.value or not cell.seen:
                    cell.value = value
                    cell.seen = 1
        return 0

    cdef int step(self, Py_ssize_t slot, Py_ssize_t i) except -1 nogil:
        cdef Int64Cell* cell = <Int64Cell*>self.cells + slot
        cdef int64_t value = (<const int64_t*>self.column.values)[i]
        if not cell.seen or (value > cell.value if self.greatest else value < cell.value):
            cell.value = value
            cell.seen = 1
        return 0

    def value(self, const int32_t[::1] slots not None):
        """(values of the argument's type, None); NULL where there was none."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef int64_t[::1] out
        cdef uint8_t[::1] valid
        cdef Int64Cell* cell
        values = np.empty(n, dtype=np.int64)
        validity = np.empty(n, dtype=np.uint8)
        out = values
        valid = validity
        with nogil:
            for j in range(n):
                cell = <Int64Cell*>self.cells + slots[j]
                out[j] = cell.value
                valid[j] = <uint8_t>cell.seen
        return fixed_array(self.type, values, validity), None


@cython.final
cdef class ExtremeDouble(State):
    """The least or greatest of doubles; NaN is the greatest."""

    cdef bint greatest

    def __cinit__(self, bint greatest):
        self.width = sizeof(DoubleCell)
        self.greatest = greatest

    cdef State fresh(self):
        return ExtremeDouble(self.greatest)

    cdef int fold(self, const int32_t* slots, const int32_t* rows, Py_ssize_t n) except -1 nogil:
        cdef Py_ssize_t j
        cdef const double* values = <const double*>self.column.values
        cdef DoubleCell* cells = <DoubleCell*>self.cells
        cdef bint greatest = self.greatest
        cdef DoubleCell* cell
        cdef double value
        for j in range(n):
            cell = &cells[slots[j]]
            value = values[j if rows == NULL else rows[j]]
            if not cell.seen or (double_less(cell.value, value) if greatest else double_less(value, cell.value)):
                cell.value = value
                cell.seen = 1
        return 0

    cdef int step(self, Py_ssize_t slot, Py_ssize_t i) except -1 nogil:
        cdef DoubleCell* cell = <DoubleCell*>self.cells + slot
        cdef double value = (<const double*>self.column.values)[i]
        if not cell.seen or (double_less(cell.value, value) if self.greatest else double_less(value, cell.value)):
            cell.value = value
            cell.seen = 1
        return 0

    def value(self, const int32_t[::1] slots not None):
        """(DOUBLE values, None); NULL where there was none."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef double[::1] out
        cdef uint8_t[::1] valid
        cdef DoubleCell* cell
        values = np.empty(n, dtype=np.float64)
        validity = np.empty(n, dtype=np.uint8)
        out = values
        valid = validity
        with nogil:
            for j in range(n):
                cell = <DoubleCell*>self.cells + slots[j]
                out[j] = cell.value
                valid[j] = <uint8_t>cell.seen
        return fixed_array(pa.float64(), values, validity), None


cdef inline bint double_less(double left, double right) noexcept nogil:
    return left < right or (right != right and left == left)


@cython.final
cdef class ExtremeDecimal(State):
    """The least or greatest of decimals of one `type`."""

    cdef object type
    cdef bint greatest

    def __cinit__(self, type, bint greatest):
        self.width = sizeof(DecimalCell)
        self.type = type
        self.greatest = greatest

    cdef State fresh(self):
        return ExtremeDecimal(self.type, self.greatest)

    cdef int fold(self, const int32_t* slots, const int32_t* rows, Py_ssize_t n) except -1 nogil:
        cdef Py_ssize_t j
        for j in range(n):
            self.step(slots[j], j if rows == NULL else rows[j])
        return 0

    cdef inline int step(self, Py_ssize_t slot, Py_ssize_t i) except -1 nogil:
        cdef DecimalCell* cell = <DecimalCell*>self.cells + slot
        cdef const uint8_t* value = self.column.values + 16 * i
        if not cell.seen or (decimal_less(cell.value, value) if self.greatest else decimal_less(value, cell.value)):
            memcpy(cell.value, value, 16)
            cell.seen = 1
        return 0

    def value(self, const int32_t[::1] slots not None):
        """(values of the argument's type, None); NULL where there was none."""
        cdef Py_ssize_t n = slots.shape[0]
        cdef Py_ssize_t j
        cdef int64_t[::1] out
        cdef uint8_t[::1] valid
        cdef DecimalCell* cell
        values = np.empty(2 * n, dtype=np.int64)
        validity = np.empty(n, dtype=np.uint8)
        out = values
        valid = validity
        with nogil:
            for j in range(n):
                cell = <DecimalCell*>self.cells + slots[j]
                memcpy(&out[2 * j], cell.value, 16)
                valid[j] = <uint8_t>cell.seen
        return fixed_array(self.type, values, validity), None


@cython.final
cdef class _Arena:
    """Texts one behind the other; only appended to, so that whoever holds it can still read old texts."""

    cdef uint8_t* data
    cdef int64_t used
    cdef int64_t capacity

    def __dealloc__(self):
        free(self.data)

    cdef int64_t append(self, const uint8_t* text, int64_t length) except -1 nogil:
        """Where the copy of `text` is."""
        cdef int64_t capacity = max(self.capacity, <int64_t>256)
        cdef int64_t at = self.used
        cdef uint8_t* data
        while capacity - self.used < length:
            capacity *= 2
        if capacity != self.capacity:
            data = <uint8_t*>realloc(self.data, capacity)
            if data == NULL:
                with gil:
                    raise MemoryError()
            self.data = data
            self.capacity = capacity
        if length:
            memcpy(self.data + at, text, length)
        self.used += length
        return at


@cython.final
cdef class ExtremeText(State):
    """The least or greatest of texts, in the order of their bytes.

    A cell points into an arena that a new extreme is appended to; `update` copies the arena without its dead
    texts when they are the greater part.
    """

    cdef bint greatest
    cdef _Arena arena

    def __cinit__(self, bint greatest):
        self.width = sizeof(TextCell)
        self.greatest = greatest
        self.arena = _Arena()

    cdef State fresh(self):
        cdef ExtremeText other = ExtremeText(self.greatest)
        other.arena = self.arena
        return other

    @property
    def nbytes(self):
        """Bytes of memory held."""
        return self.capacity * self.width + self.arena.capacity

    def update(self, const int32_t[::1] slots not None, const int32_t[::1] rows=None, values=None):
        """Fold the selected rows of `values` (all when `rows` is None; no NULLs) into their slots. O(n)."""
        State.update(self, slots, rows, values)
        self._collect()

    def compact(self, const int32_t[::1] keep not None):
        """Slot keep[j] becomes slot j (ascending); all others are without a value. O(slots)."""
        State.compact(self, keep)
        self._collect()

    cdef int _collect(self) except -1:
        cdef TextCell* cells = <TextCell*>self.cells
        cdef _Arena arena
        cdef Py_ssize_t slot
        cdef int64_t alive = 0
        if self.arena.used < 1 << 16:
            return 0
        for slot in range(self.capacity):
            alive += cells[slot].length
        if 2 * alive > self.arena.used:
            return 0
        arena = _Arena()
        with nogil:
            for slot in range(self.capacity):
                if cells[slot].length:
                    cells[slot].at = arena.append(self.arena.data + cells[slot].at, cells[slot].length - 1)
        self.arena = arena
        return 0

    cdef int fold(self, const int32_t* slots, const int32_t* rows, Py_ssize_t n) except -1 nogil:
        cdef Py_ssize_t j
        for j in range(n):
            self.step(slots[j], j if rows == NULL else rows[j])
        return 0

    cdef inline int step(self, Py_ssize_t slot, Py_ssize_t i) except -1 nogil:
        cdef TextCell* cell = <TextCell*>self.cells + slot
        cdef int64_t length = self.column.offsets[i + 1] - self.column.offsets[i]
        cdef const uint8_t* text = self.column.values + self.column.offsets[i]
        cdef int order
        if cell.length:
            order = compare_bytes(text, length, self.arena.data + cell.at, cell.length - 1)
            if order == 0 or (order > 0) != self.greatest:
                return 0
        cell.at = self.arena.append(text, length)
        cell.length = length + 1
        return 0

    def value(self, const int32_t[::1] slots not None):
        """(VARCHAR values, None); NULL where there was none."""
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
            cell = <TextCell*>self.cells + slots[j]
            valid[j] = cell.length > 0
            total += max(<int64_t>0, cell.length - 1)
            if total > INT32_MAX:
                raise OverflowError("the texts of one batch exceed 2 GiB")
            ends[j + 1] = <int32_t>total
        data = np.empty(max(1, total), dtype=np.uint8)
        out = data
        with nogil:
            for j in range(n):
                cell = <TextCell*>self.cells + slots[j]
                if cell.length > 1:
                    memcpy(&out[ends[j]], self.arena.data + cell.at, cell.length - 1)
        return text_array(pa.string(), offsets, data, validity), None


cdef inline int compare_bytes(const uint8_t* left, int64_t left_length, const uint8_t* right,
                              int64_t right_length) noexcept nogil:
    cdef int64_t common = min(left_length, right_length)
    cdef int order = memcmp(left, right, common) if common else 0
    return order if order else (left_length > right_length) - (left_length < right_length)
