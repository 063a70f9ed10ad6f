"""Columns in Arrow layout, filled record by record, and the records that failed.

A record is written to the row `table.rows`, field by field; `commit` makes it count, and without that the next
record writes over it. `record` numbers the records of one call from 1: a column whose `filled` differs from it
has no value (yet) and is NULL at the commit.
"""

cimport cython
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t

from cython_ext.numbers cimport Number, to_decimal, to_double, to_epoch_us, to_integer
from cython_ext.reasons cimport BAD_TIME, OK
from cython_ext.times cimport read_date, read_timestamp


cdef enum Kind:
    TEXT
    INTEGER
    REAL
    EXACT
    TRUTH
    INSTANT
    DAY


cdef struct Slot:
    Kind kind
    # Of an INTEGER: bytes, smallest and largest value. Of an EXACT (decimal): precision and scale. Of an INSTANT
    # or DAY: the unit of numbers is 10 ** places us; `zoned` when times without an offset are not UTC.
    int width
    int64_t low
    int64_t high
    int precision
    int scale
    int places
    bint zoned
    # Buffers. `validity` is NULL while no row is null, `naive` (a byte a row) unless `zoned`. Copies of 16 bytes
    # may be written to `text` up to `text_limit`; `text_expected` bytes are asked for at first.
    uint8_t* values
    int32_t* offsets
    uint8_t* text
    uint8_t* text_limit
    Py_ssize_t text_expected
    uint8_t* validity
    uint8_t* naive
    # The record that gave the column its value; the one whose value did not fit, why, and that value.
    int64_t filled
    int64_t failed
    int reason
    const uint8_t* value
    const uint8_t* value_end


cdef struct Failure:
    int64_t start
    int64_t end
    int reason
    int column
    # The bytes that the error is about, and two counts for FIELD_COUNT.
    int64_t value
    int64_t value_end


cdef struct Table:
    Slot* slots
    int columns
    Py_ssize_t rows
    Py_ssize_t capacity
    # The bytes of each row within the block that begins at `block`.
    const uint8_t* block
    int64_t* starts
    int64_t* ends
    int64_t record
    # How many columns the current record has filled.
    int filled
    Failure* failures
    Py_ssize_t failed
    Py_ssize_t failures_capacity


cdef struct Buffer:
    # The head of a buffer in memory; its bytes begin 64 behind it.
    Buffer* next
    Py_ssize_t capacity


@cython.final
cdef class Pool:
    cdef Buffer* first
    cdef int count
    cdef int keep

    cdef void* take(self, Py_ssize_t size) noexcept
    cdef void give(self, void* bytes) noexcept


cdef class BatchBuilder:
    cdef Table table
    cdef list types
    cdef Pool pool

    cdef void _release(self) noexcept
    cdef int begin(self, const uint8_t* block, Py_ssize_t rows, Py_ssize_t text_bytes) except -1
    cdef tuple finish(self)


cdef int hold_validity(Table* table, Slot* slot) noexcept nogil
cdef int commit_with_nulls(Table* table) noexcept nogil
cdef int grow(Table* table) noexcept nogil
cdef int grow_text(Table* table, Slot* slot, Py_ssize_t size) noexcept nogil
cdef int add_failure(
    Table* table, const uint8_t* start, const uint8_t* end, int reason, int column, int64_t value, int64_t value_end
) noexcept nogil


cdef inline void mark_filled(Table* table, Slot* slot) noexcept nogil:
    """The column has a value in this record."""
    if slot.filled != table.record:
        slot.filled = table.record
        table.filled += 1


cdef inline void mark_null(Table* table, Slot* slot) noexcept nogil:
    """The column is NULL in this record, whatever it was before."""
    slot.failed = 0
    if slot.filled == table.record:
        slot.filled = 0
        table.filled -= 1


cdef inline void mark_failed(
    Table* table, Slot* slot, int reason, const uint8_t* value, const uint8_t* value_end
) noexcept nogil:
    """The column's value does not fit; the record fails unless a later value of the same column does."""
    mark_null(table, slot)
    slot.failed = table.record
    slot.reason = reason
    slot.value = value
    slot.value_end = value_end


cdef inline int reserve_text(Table* table, Slot* slot, Py_ssize_t size) noexcept nogil:
    """Make room for `size` bytes of text in the current row; OK or NO_MEMORY."""
    if slot.text_limit - slot.text - slot.offsets[table.rows] >= size:
        return OK
    return grow_text(table, slot, size)


cdef inline uint8_t* text_place(Table* table, Slot* slot) noexcept nogil:
    """Where the text of the current row goes."""
    return slot.text + slot.offsets[table.rows]


cdef inline void end_text(Table* table, Slot* slot, const uint8_t* end) noexcept nogil:
    slot.offsets[table.rows + 1] = <int32_t>(end - slot.text)
    mark_filled(table, slot)


cdef inline int put_truth(Table* table, Slot* slot, bint value) noexcept nogil:
    cdef uint8_t bit = <uint8_t>(1 << (table.rows & 7))
    cdef uint8_t* at = slot.values + (table.rows >> 3)
    at[0] = at[0] | bit if value else at[0] & ~bit
    mark_filled(table, slot)
    return OK


cdef inline int put_integer(Table* table, Slot* slot, int64_t value) noexcept nogil:
    if slot.width == 8:
        (<int64_t*>slot.values)[table.rows] = value
    elif slot.width == 4:
        (<int32_t*>slot.values)[table.rows] = <int32_t>value
    elif slot.width == 2:
        (<int16_t*>slot.values)[table.rows] = <int16_t>value
    else:
        (<int8_t*>slot.values)[table.rows] = <int8_t>value
    mark_filled(table, slot)
    return OK


cdef inline int put_instant(Table* table, Slot* slot, int64_t us, bint naive) noexcept nogil:
    (<int64_t*>slot.values)[table.rows] = us
    if slot.zoned:
        slot.naive[table.rows] = naive
    mark_filled(table, slot)
    return OK


cdef inline int put_number(Table* table, Slot* slot, const Number* number) noexcept nogil:
    """Store a number in a column of any kind but TEXT and TRUTH; OK or why it does not fit."""
    cdef int64_t value = 0
    cdef int reason
    if slot.kind == INTEGER:
        reason = to_integer(number, slot.low, slot.high, &value)
        return put_integer(table, slot, value) if reason == OK else reason
    if slot.kind == REAL:
        reason = to_double(number, &(<double*>slot.values)[table.rows])
        if reason == OK:
            mark_filled(table, slot)
        return reason
    if slot.kind == EXACT:
        reason = to_decimal(number, slot.precision, slot.scale, slot.values + 16 * table.rows)
        if reason == OK:
            mark_filled(table, slot)
        return reason
    reason = to_epoch_us(number, slot.places, &value)
    if reason != OK:
        return reason
    if slot.kind == INSTANT:
        return put_instant(table, slot, value, False)
    # Division towards minus infinity: the day that holds the time.
    (<int32_t*>slot.values)[table.rows] = <int32_t>(
        value // 86_400_000_000LL - (value % 86_400_000_000LL < 0)
    )
    mark_filled(table, slot)
    return OK


cdef inline int put_time(Table* table, Slot* slot, const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Store ISO 8601 text in an INSTANT or DAY column; OK or BAD_TIME."""
    cdef int64_t value = 0
    cdef bint naive = False
    if slot.kind == INSTANT:
        if read_timestamp(at, end, &value, &naive) != OK:
            return BAD_TIME
        return put_instant(table, slot, value, naive)
    if end - at != 10 or read_date(at, end, &value) != OK:
        return BAD_TIME
    (<int32_t*>slot.values)[table.rows] = <int32_t>value
    mark_filled(table, slot)
    return OK


cdef inline int commit(Table* table, const uint8_t* start, const uint8_t* end) noexcept nogil:
    """Make the current record a row with these bytes, its other columns NULL.

    OK; NO_MEMORY; or -1 when a value did not fit: the record is then noted as failed.
    """
    cdef int status
    table.starts[table.rows] = start - table.block
    table.ends[table.rows] = end - table.block
    if table.filled != table.columns:
        status = commit_with_nulls(table)
        if status != OK:
            return status
    table.rows += 1
    if table.rows == table.capacity:
        return grow(table)
    return OK
