"""Columns in Arrow layout, filled record by record by the decoders, and handed to pyarrow without a copy."""

cimport cython
import numpy as np
import pyarrow as pa

from libc.stdint cimport INT64_MAX, uintptr_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from cython_ext.reasons cimport NO_MEMORY


cdef enum:
    # Written beyond the end of a text by copies of 16 bytes.
    PADDING = 16


cdef inline Buffer* _head_of(void* bytes) noexcept nogil:
    return <Buffer*>bytes - 1


cdef void _free(void* bytes) noexcept nogil:
    if bytes != NULL:
        free(_head_of(bytes))


cdef int _resize(void** bytes, Py_ssize_t size) noexcept nogil:
    """Make a buffer (or none, NULL) at least `size` bytes long; OK or NO_MEMORY, it stays valid either way."""
    cdef Buffer* head = NULL if bytes[0] == NULL else _head_of(bytes[0])
    if head != NULL and head.capacity >= size:
        return OK
    head = <Buffer*>realloc(head, sizeof(Buffer) + size)
    if head == NULL:
        return NO_MEMORY
    head.capacity = size
    bytes[0] = head + 1
    return OK


@cython.final
cdef class Pool:
    """Buffers that no array uses any more, for the next call: the system would map, zero and unmap fresh ones each
    time. At most `keep` of them. Used with the GIL held."""

    def __dealloc__(self):
        cdef Buffer* head
        while self.first != NULL:
            head = self.first
            self.first = head.next
            free(head)

    cdef void* take(self, Py_ssize_t size) noexcept:
        """A buffer of at least `size` bytes; NULL when there is no memory."""
        cdef Buffer** link = &self.first
        cdef Buffer* head
        cdef void* bytes = NULL
        while link[0] != NULL:
            head = link[0]
            if size <= head.capacity <= 2 * size + 4096:
                link[0] = head.next
                self.count -= 1
                return head + 1
            link = &head.next
        _resize(&bytes, size)
        return bytes

    cdef void give(self, void* bytes) noexcept:
        """Keep a buffer, and let the oldest go when there are enough."""
        cdef Buffer** link = &self.first
        cdef Buffer* head = _head_of(bytes)
        if self.keep == 0:
            free(head)
            return
        head.next = self.first
        self.first = head
        if self.count < self.keep:
            self.count += 1
            return
        while link[0].next != NULL:
            link = &link[0].next
        free(link[0])
        link[0] = NULL


@cython.final
@cython.no_gc
cdef class Memory:
    """A buffer that arrays use, given back by the last of them."""

    cdef void* bytes
    cdef Pool pool

    def __dealloc__(self):
        self.pool.give(self.bytes)


cdef object _hand_over(Pool pool, void** bytes, Py_ssize_t size):
    """The buffer's first `size` bytes as a pyarrow Buffer that owns it; `bytes` becomes NULL."""
    cdef Memory memory = Memory.__new__(Memory)
    memory.pool = pool
    memory.bytes = bytes[0]
    bytes[0] = NULL
    return pa.foreign_buffer(<uintptr_t>memory.bytes, size, memory)


cdef Py_ssize_t _bytes_of(const Slot* slot, Py_ssize_t rows) noexcept nogil:
    """The size of the values of so many rows."""
    if slot.kind == TRUTH:
        return (rows + 7) >> 3
    return rows * slot.width


cdef int _reserve(Table* table, Py_ssize_t capacity) noexcept nogil:
    """Make room for `capacity` rows; OK or NO_MEMORY."""
    cdef Slot* slot
    cdef Py_ssize_t held
    cdef int i
    cdef int status = _resize(<void**>&table.starts, capacity * 8) | _resize(<void**>&table.ends, capacity * 8)
    for i in range(table.columns):
        slot = &table.slots[i]
        if slot.kind == TEXT:
            status |= _resize(<void**>&slot.offsets, (capacity + 1) * 4)
        else:
            status |= _resize(<void**>&slot.values, _bytes_of(slot, capacity))
        if slot.zoned:
            status |= _resize(<void**>&slot.naive, capacity)
        if slot.validity != NULL:
            held = (table.capacity + 7) >> 3
            status |= _resize(<void**>&slot.validity, (capacity + 7) >> 3)
            if status == OK:
                memset(slot.validity + held, 0xFF, ((capacity + 7) >> 3) - held)
    if status != OK:
        return NO_MEMORY
    table.capacity = capacity
    return OK


cdef int grow(Table* table) noexcept nogil:
    """Double the room for rows; OK or NO_MEMORY."""
    return _reserve(table, table.capacity * 2)


cdef int grow_text(Table* table, Slot* slot, Py_ssize_t size) noexcept nogil:
    """Make room for `size` bytes of text in the current row; OK or NO_MEMORY."""
    cdef Py_ssize_t held = slot.text_limit - slot.text
    cdef Py_ssize_t needed = max(slot.offsets[table.rows] + size, 2 * held)
    if _resize(<void**>&slot.text, needed + PADDING) != OK:
        return NO_MEMORY
    slot.text_limit = slot.text + needed
    return OK


cdef int hold_validity(Table* table, Slot* slot) noexcept nogil:
    """Give a column validity bits, all of them set; OK or NO_MEMORY."""
    if _resize(<void**>&slot.validity, (table.capacity + 7) >> 3) != OK:
        return NO_MEMORY
    memset(slot.validity, 0xFF, (table.capacity + 7) >> 3)
    return OK


cdef int commit_with_nulls(Table* table) noexcept nogil:
    """The part of `commit` for a record that lacks columns."""
    cdef Py_ssize_t row = table.rows
    cdef Slot* slot
    cdef int status
    cdef int i
    for i in range(table.columns):
        slot = &table.slots[i]
        if slot.filled != table.record and slot.failed == table.record:
            add_failure(
                table,
                table.block + table.starts[row],
                table.block + table.ends[row],
                slot.reason,
                i,
                slot.value - table.block,
                slot.value_end - table.block,
            )
            return -1
    for i in range(table.columns):
        slot = &table.slots[i]
        if slot.filled == table.record:
            continue
        if slot.validity == NULL:
            status = hold_validity(table, slot)
            if status != OK:
                return status
        slot.validity[row >> 3] &= ~<uint8_t>(1 << (row & 7))
        if slot.kind == TEXT:
            slot.offsets[row + 1] = slot.offsets[row]
        elif slot.kind == TRUTH:
            slot.values[row >> 3] &= ~<uint8_t>(1 << (row & 7))
        else:
            memset(slot.values + row * slot.width, 0, slot.width)
        if slot.zoned:
            slot.naive[row] = False
    return OK


cdef int add_failure(
    Table* table, const uint8_t* start, const uint8_t* end, int reason, int column, int64_t value, int64_t value_end
) noexcept nogil:
    """Note the record of these bytes as failed; OK or NO_MEMORY."""
    cdef Failure* failure
    cdef Py_ssize_t capacity
    if table.failed == table.failures_capacity:
        capacity = max(64, table.failures_capacity * 2)
        if _resize(<void**>&table.failures, capacity * sizeof(Failure)) != OK:
            return NO_MEMORY
        table.failures_capacity = capacity
    failure = &table.failures[table.failed]
    failure.start = start - table.block
    failure.end = end - table.block
    failure.reason = reason
    failure.column = column
    failure.value = value
    failure.value_end = value_end
    table.failed += 1
    return OK


cdef class BatchBuilder:
    """Base of the decoders: owns the buffers between `begin` and `finish`.

    `types` are the Arrow types of the columns; `places` for each the unit of epoch numbers, 10 ** places us;
    `zoned` whether times without an offset are to be told apart from UTC. Raises TypeError for a type that no
    decoder fills.
    """

    def __cinit__(self, list types, list places, bint zoned, *args):
        cdef Slot* slot
        cdef int i
        self.table.columns = len(types)
        self.table.slots = <Slot*>calloc(max(1, len(types)), sizeof(Slot))
        if self.table.slots == NULL:
            raise MemoryError
        for i, type in enumerate(types):
            slot = &self.table.slots[i]
            slot.places = places[i]
            slot.width = 0 if pa.types.is_string(type) or pa.types.is_boolean(type) else type.bit_width // 8
            if pa.types.is_string(type):
                slot.kind = TEXT
            elif pa.types.is_signed_integer(type):
                slot.kind = INTEGER
                slot.high = INT64_MAX >> (64 - 8 * slot.width)
                slot.low = -slot.high - 1
            elif pa.types.is_float64(type):
                slot.kind = REAL
            elif pa.types.is_decimal128(type):
                slot.kind = EXACT
                slot.precision = type.precision
                slot.scale = type.scale
            elif pa.types.is_boolean(type):
                slot.kind = TRUTH
            elif type == pa.timestamp("us"):
                slot.kind = INSTANT
                slot.zoned = zoned
            elif pa.types.is_date32(type):
                slot.kind = DAY
            else:
                raise TypeError(f"no decoder fills columns of type {type}")

    def __init__(self, list types, list places, bint zoned, *args):
        self.types = types
        self.pool = Pool()

    def __dealloc__(self):
        if self.table.slots != NULL:
            self._release()
            free(self.table.slots)

    cdef void _release(self) noexcept:
        """Free what a call has left behind that raised."""
        cdef Slot* slot
        cdef int i
        for i in range(self.table.columns):
            slot = &self.table.slots[i]
            _free(slot.values)
            _free(slot.offsets)
            _free(slot.text)
            _free(slot.validity)
            _free(slot.naive)
            slot.values = slot.text = slot.validity = slot.naive = NULL
            slot.offsets = NULL
        _free(self.table.starts)
        _free(self.table.ends)
        _free(self.table.failures)
        self.table.starts = self.table.ends = NULL
        self.table.failures = NULL

    cdef int begin(self, const uint8_t* block, Py_ssize_t rows, Py_ssize_t text_bytes) except -1:
        """Start an empty table with room for `rows` rows, and in each column for `text_bytes` bytes of text, or as
        much as the last call had, if that is more."""
        cdef Slot* slot
        cdef Py_ssize_t size
        cdef int i
        self._release()
        rows = max(rows, 1)
        self.table.block = block
        self.table.rows = self.table.failed = self.table.failures_capacity = self.table.record = 0
        self.table.capacity = 0
        self.table.starts = <int64_t*>self.pool.take(rows * 8)
        self.table.ends = <int64_t*>self.pool.take(rows * 8)
        for i in range(self.table.columns):
            slot = &self.table.slots[i]
            slot.filled = slot.failed = 0
            if slot.kind == TEXT:
                size = max(text_bytes, slot.text_expected)
                slot.text = <uint8_t*>self.pool.take(size + PADDING)
                if slot.text == NULL:
                    raise MemoryError
                slot.text_limit = slot.text + size
                slot.offsets = <int32_t*>self.pool.take((rows + 1) * 4)
            else:
                slot.values = <uint8_t*>self.pool.take(_bytes_of(slot, rows))
            if slot.zoned:
                slot.naive = <uint8_t*>self.pool.take(rows)
        if _reserve(&self.table, rows) != OK:
            raise MemoryError
        for i in range(self.table.columns):
            slot = &self.table.slots[i]
            if slot.kind == TEXT:
                slot.offsets[0] = 0
        return 0

    cdef tuple finish(self):
        """The table, which is then given up: columns as pyarrow arrays, per column which rows have a time
        without an offset (uint8, or None), starts, ends (int64), and the failures as tuples."""
        cdef Table* table = &self.table
        cdef Py_ssize_t n = table.rows
        cdef Slot* slot
        cdef Failure* failure
        cdef Py_ssize_t k
        cdef int i
        cdef Pool pool = self.pool
        arrays = []
        naive = []
        # What one call uses, so that the next one finds it while another is still in use.
        pool.keep = 2 * (2 + 3 * table.columns)
        for i in range(table.columns):
            slot = &table.slots[i]
            buffers = [None if slot.validity == NULL else _hand_over(pool, <void**>&slot.validity, (n + 7) >> 3)]
            if slot.kind == TEXT:
                k = slot.offsets[n]
                slot.text_expected = k + (k >> 3)
                buffers.append(_hand_over(pool, <void**>&slot.offsets, (n + 1) * 4))
                buffers.append(_hand_over(pool, <void**>&slot.text, k))
            else:
                buffers.append(_hand_over(pool, <void**>&slot.values, _bytes_of(slot, n)))
            arrays.append(pa.Array.from_buffers(self.types[i], n, buffers))
            naive.append(
                np.frombuffer(_hand_over(pool, <void**>&slot.naive, n), dtype=np.uint8) if slot.zoned else None
            )
        starts = np.frombuffer(_hand_over(pool, <void**>&table.starts, n * 8), dtype=np.int64)
        ends = np.frombuffer(_hand_over(pool, <void**>&table.ends, n * 8), dtype=np.int64)
        failures = []
        for k in range(table.failed):
            failure = &table.failures[k]
            failures.append(
                (failure.start, failure.end, failure.reason, failure.column, failure.value, failure.value_end)
            )
        self._release()
        return arrays, naive, starts, ends, failures
