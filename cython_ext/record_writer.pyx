"""Writing Kafka's record batches, each for one partition; `record_format.pxd` has the format.

Two passes over the rows: the first finds the batch that each belongs to and how long its record becomes, so that
every batch is written by the second into memory of its size.
"""

import time

import numpy as np
import pyarrow as pa

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_Resize
from libc.stdint cimport INT32_MAX, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memset

from cython_ext.arrow_column cimport Column, is_valid, open_column, open_validity
from cython_ext.clock cimport enter_kernel, leave_kernel
from cython_ext.crc32c cimport crc32c_of
from cython_ext.record_format cimport (
    AT_ATTRIBUTES, AT_BASE_SEQUENCE, AT_BASE_TIMESTAMP, AT_COUNT, AT_CRC, AT_LAST_DELTA, AT_LEADER_EPOCH, AT_LENGTH,
    AT_MAGIC, AT_MAX_TIMESTAMP, AT_PRODUCER_EPOCH, AT_PRODUCER_ID, AT_RECORDS, CODEC_BITS, MAGIC, RECORD_SLACK,
    record_copy, store_big16, store_big32, store_big64, write_zigzag, zigzag_size,
)


cdef extern from "murmur2.h" nogil:
    uint32_t murmur2(const uint8_t* at, uint32_t n)


cdef object open_bytes(object array, Column* column):
    """Open an array of binary or text; gives what must be kept while `column` is used."""
    if not pa.types.is_binary(array.type) and not pa.types.is_string(array.type):
        raise TypeError(f"bytes of Kafka's are binary or string, not {array.type}")
    # To kernels both are bytes between offsets.
    array = pa.Array.from_buffers(pa.string(), len(array), array.buffers(), array.null_count, array.offset)
    open_column(array, column)
    return array


cdef void choose_partitions(const Column* keys, uint32_t partitions, int32_t* out) noexcept nogil:
    """Of each key; -1 of a NULL."""
    cdef Py_ssize_t i
    cdef uint32_t hash
    for i in range(keys.n):
        if is_valid(keys, i):
            hash = murmur2(keys.values + keys.offsets[i], <uint32_t>(keys.offsets[i + 1] - keys.offsets[i]))
            out[i] = <int32_t>((hash & 0x7FFFFFFF) % partitions)
        else:
            out[i] = -1


def murmur2_partitions(keys, int partitions):
    """The partition (int32) of each key as Kafka's default partitioner chooses it; -1 where the key is NULL.

    `keys` is an Arrow array of binary or string. O(bytes). Raises ValueError unless there is a partition.
    """
    cdef Column column
    cdef int32_t[::1] out
    if partitions < 1:
        raise ValueError(f"a topic has partitions, not {partitions}")
    kept = open_bytes(keys, &column)
    chosen = np.empty(column.n, dtype=np.int32)
    if column.n:
        out = chosen
        with nogil:
            enter_kernel()
            choose_partitions(&column, <uint32_t>partitions, &out[0])
            leave_kernel()
    return chosen


cdef struct Rows:
    # What the records are made of; NULL where there is nothing of it.
    Py_ssize_t n
    const uint8_t* values
    Py_ssize_t value_bytes
    const int64_t* ends
    const uint8_t* nulls
    const int32_t* partitions
    const int64_t* timestamps
    int64_t now
    const Column* keys
    const Column* headers
    const int32_t* header_starts
    const Column* names
    const Column* contents


cdef struct Batch:
    int32_t partition
    int32_t records
    int64_t base_timestamp
    int64_t max_timestamp
    int64_t size
    uint8_t* at


cdef enum Status:
    DONE
    NO_MEMORY
    BAD_END
    TOO_LARGE


cdef struct Plan:
    Batch* batches
    Py_ssize_t count
    Py_ssize_t capacity
    # Of each partition the batch that is open, or -1; of each row its batch, and the length of its record.
    int32_t* open
    int32_t* batch_of
    int32_t* length_of


cdef inline int64_t length_at(const Column* column, Py_ssize_t i) noexcept nogil:
    """-1: NULL."""
    return column.offsets[i + 1] - column.offsets[i] if is_valid(column, i) else -1


cdef inline int64_t field_size(int64_t length) noexcept nogil:
    """The bytes of a key or value behind its length; -1: null."""
    return zigzag_size(length) + (length if length > 0 else 0)


cdef inline int64_t timestamp_at(const Rows* rows, Py_ssize_t i) noexcept nogil:
    return rows.now if rows.timestamps == NULL else rows.timestamps[i]


cdef inline int64_t value_length(const Rows* rows, Py_ssize_t i, int64_t start) noexcept nogil:
    return -1 if rows.nulls != NULL and rows.nulls[i] else rows.ends[i] - start


cdef inline int32_t headers_at(const Rows* rows, Py_ssize_t i, int32_t* first) noexcept nogil:
    """How many headers row i has, and the first of them."""
    first[0] = 0
    if rows.headers == NULL or not is_valid(rows.headers, i):
        return 0
    first[0] = rows.header_starts[i]
    return rows.header_starts[i + 1] - rows.header_starts[i]


cdef inline int64_t rest_size(const Rows* rows, Py_ssize_t i, int64_t start) noexcept nogil:
    """The bytes of a record that do not depend on its batch: key, value and headers."""
    cdef int64_t size
    cdef int32_t first
    cdef int32_t count = headers_at(rows, i, &first)
    cdef int32_t k
    size = field_size(value_length(rows, i, start)) + zigzag_size(count)
    size += 1 if rows.keys == NULL else field_size(length_at(rows.keys, i))
    for k in range(first, first + count):
        size += field_size(length_at(rows.names, k)) + field_size(length_at(rows.contents, k))
    return size


cdef inline int64_t elapsed(const Batch* batch, int64_t timestamp) noexcept nogil:
    """Since the batch's base timestamp; wraps, as the sum of readers does."""
    return <int64_t>(<uint64_t>timestamp - <uint64_t>batch.base_timestamp)


cdef inline int64_t record_length(const Batch* batch, int64_t timestamp, int64_t rest) noexcept nogil:
    """The length of the batch's next record; one byte of it are the attributes."""
    return 1 + zigzag_size(elapsed(batch, timestamp)) + zigzag_size(batch.records) + rest


cdef Batch* begin_batch(Plan* plan, int32_t partition, int64_t timestamp) noexcept nogil:
    """An empty batch, the partition's open one; NULL without memory."""
    cdef Batch* batch
    cdef Batch* grown
    cdef Py_ssize_t capacity
    if plan.count == plan.capacity:
        capacity = 2 * plan.capacity + 64
        grown = <Batch*>realloc(plan.batches, capacity * sizeof(Batch))
        if grown == NULL:
            return NULL
        plan.batches = grown
        plan.capacity = capacity
    batch = &plan.batches[plan.count]
    memset(batch, 0, sizeof(Batch))
    batch.partition = partition
    batch.base_timestamp = timestamp
    batch.max_timestamp = timestamp
    batch.size = AT_RECORDS
    plan.open[partition] = <int32_t>plan.count
    plan.count += 1
    return batch


cdef Status plan_batches(const Rows* rows, Plan* plan, int64_t max_bytes, Py_ssize_t* row) noexcept nogil:
    """Find every row's batch and length; `row` is the one that a failure is about."""
    cdef int64_t start = 0
    cdef int64_t timestamp
    cdef int64_t rest
    cdef int64_t length
    cdef int64_t size
    cdef int32_t partition
    cdef int32_t index
    cdef Batch* batch
    cdef Py_ssize_t i
    for i in range(rows.n):
        row[0] = i
        if rows.ends[i] < start or rows.ends[i] > rows.value_bytes:
            return BAD_END
        rest = rest_size(rows, i, start)
        if rest > INT32_MAX - 64 - AT_RECORDS:
            return TOO_LARGE
        start = rows.ends[i] + 1
        timestamp = timestamp_at(rows, i)
        partition = rows.partitions[i]
        index = plan.open[partition]
        batch = &plan.batches[index] if index >= 0 else begin_batch(plan, partition, timestamp)
        if batch == NULL:
            return NO_MEMORY
        length = record_length(batch, timestamp, rest)
        size = zigzag_size(length) + length
        if batch.records and batch.size + size > max_bytes:
            batch = begin_batch(plan, partition, timestamp)
            if batch == NULL:
                return NO_MEMORY
            length = record_length(batch, timestamp, rest)
            size = zigzag_size(length) + length
        batch.size += size
        batch.records += 1
        if timestamp > batch.max_timestamp:
            batch.max_timestamp = timestamp
        plan.batch_of[i] = <int32_t>(batch - plan.batches)
        plan.length_of[i] = <int32_t>length
    return DONE


cdef inline uint8_t* write_bytes(uint8_t* to, const uint8_t* at, int64_t length, const uint8_t* end) noexcept nogil:
    """A field behind its length; `end` is where its source ends."""
    to = write_zigzag(to, length)
    if length > 0:
        record_copy(to, at, length, end)
        to += length
    return to


cdef inline uint8_t* write_field(uint8_t* to, const Column* column, Py_ssize_t i) noexcept nogil:
    cdef const uint8_t* at = column.values + column.offsets[i]
    return write_bytes(to, at, length_at(column, i), column.values + column.offsets[column.n])


cdef void write_records(const Rows* rows, Plan* plan) noexcept nogil:
    """Write every row behind those before it in its batch, whose `records` count up again."""
    cdef int64_t start = 0
    cdef uint8_t* to
    cdef Batch* batch
    cdef int32_t first
    cdef int32_t count
    cdef int32_t k
    cdef Py_ssize_t i
    for i in range(rows.n):
        batch = &plan.batches[plan.batch_of[i]]
        to = write_zigzag(batch.at, plan.length_of[i])
        to[0] = 0
        to = write_zigzag(to + 1, elapsed(batch, timestamp_at(rows, i)))
        to = write_zigzag(to, batch.records)
        if rows.keys == NULL:
            to = write_zigzag(to, -1)
        else:
            to = write_field(to, rows.keys, i)
        to = write_bytes(to, rows.values + start, value_length(rows, i, start), rows.values + rows.value_bytes)
        count = headers_at(rows, i, &first)
        to = write_zigzag(to, count)
        for k in range(first, first + count):
            to = write_field(to, rows.names, k)
            to = write_field(to, rows.contents, k)
        start = rows.ends[i] + 1
        batch.at = to
        batch.records += 1


cdef void write_header(uint8_t* at, const Batch* batch, int64_t size, int codec) noexcept nogil:
    """The header of a batch of `size` bytes, whose records are in place."""
    store_big64(at, 0)
    store_big32(at + AT_LENGTH, <int32_t>(size - AT_LENGTH - 4))
    store_big32(at + AT_LEADER_EPOCH, -1)
    at[AT_MAGIC] = MAGIC
    store_big16(at + AT_ATTRIBUTES, <int16_t>codec)
    store_big32(at + AT_LAST_DELTA, batch.records - 1)
    store_big64(at + AT_BASE_TIMESTAMP, batch.base_timestamp)
    store_big64(at + AT_MAX_TIMESTAMP, batch.max_timestamp)
    store_big64(at + AT_PRODUCER_ID, -1)
    store_big16(at + AT_PRODUCER_EPOCH, -1)
    store_big32(at + AT_BASE_SEQUENCE, -1)
    store_big32(at + AT_COUNT, batch.records)
    store_big32(at + AT_CRC, <int32_t>crc32c_of(at + AT_ATTRIBUTES, size - AT_ATTRIBUTES))


cdef int check_length(object array, Py_ssize_t n, str name) except -1:
    if array is not None and len(array) != n:
        raise ValueError(f"{len(array)} {name} for {n} values")
    return 0


@cython.final
cdef class BatchWriter:
    """Makes finished record batches of rows.

    A batch has at most `max_batch_bytes` before compression, unless it is one larger record alone. `codec` is the
    number that Kafka has for a compression (1 gzip, 2 snappy, 3 lz4, 4 zstd), `compress` the function that does it,
    bytes to bytes; a batch that it does not make smaller goes out plain. Any number of threads may use a writer.
    """

    cdef int64_t max_batch_bytes
    cdef int codec
    cdef object compress

    def __init__(self, max_batch_bytes, codec=0, compress=None):
        if not AT_RECORDS < max_batch_bytes <= 1 << 30:
            raise ValueError(f"a record batch may have from {AT_RECORDS + 1} bytes to 1 GiB, not {max_batch_bytes}")
        if not 0 <= codec <= CODEC_BITS or (codec == 0) != (compress is None):
            raise ValueError(f"codec {codec} and its function do not go together")
        self.max_batch_bytes = max_batch_bytes
        self.codec = codec
        self.compress = compress

    def build(self, const uint8_t[::1] values, const int64_t[::1] ends, keys, const int32_t[::1] partitions,
              const int64_t[::1] timestamps=None, headers=None, *, nulls=None):
        """Batches of the rows, as (partition, batch, records, first timestamp), those of a partition in their order.

        Value i are the bytes of `values` from one behind `ends[i - 1]` (0 for the first) to before `ends[i]`, where
        a newline stands that is no part of it; where the bool array `nulls` is true it is null. `keys` is an Arrow
        array of binary or string, or None: no row has one. `timestamps` are in ms; None: that of this call.
        `headers` is an Arrow array of list<struct<key: string, value: binary>>, or None.

        A batch is a bytearray with base offset 0 and no producer; its checksum is right. O(bytes). Raises
        ValueError for arrays of other lengths, ends that do not rise, partitions below 0; OverflowError for a
        record beyond 2 GiB.
        """
        cdef Rows rows
        cdef Plan plan
        cdef Column key_column, header_column, name_column, content_column
        cdef const uint8_t[::1] null_bytes
        cdef const int32_t[::1] starts
        cdef Py_ssize_t n = ends.shape[0]
        cdef Py_ssize_t row = 0
        cdef Py_ssize_t k
        cdef Status status
        cdef int64_t size
        for array, name in ((keys, "keys"), (partitions, "partitions"), (timestamps, "timestamps"),
                            (headers, "lists of headers"), (nulls, "marks of nulls")):
            check_length(array, n, name)
        if n == 0:
            return []
        if n > INT32_MAX:
            raise ValueError(f"{n} rows are more than batches can have")
        memset(&rows, 0, sizeof(Rows))
        memset(&plan, 0, sizeof(Plan))
        rows.n = n
        rows.value_bytes = values.shape[0]
        rows.values = &values[0] if rows.value_bytes else NULL
        rows.ends = &ends[0]
        rows.partitions = &partitions[0]
        if timestamps is None:
            rows.now = time.time_ns() // 1_000_000
        else:
            rows.timestamps = &timestamps[0]
        if nulls is not None:
            null_bytes = np.ascontiguousarray(nulls, dtype=np.bool_).view(np.uint8)
            rows.nulls = &null_bytes[0]
        if keys is not None:
            kept_keys = open_bytes(keys, &key_column)
            rows.keys = &key_column
        if headers is not None:
            starts = header_starts(headers)
            open_validity(headers, &header_column)
            kept_names = open_bytes(headers.values.field("key"), &name_column)
            kept_contents = open_bytes(headers.values.field("value"), &content_column)
            if starts[n] > name_column.n:
                raise ValueError("lists of headers go on behind their headers")
            rows.headers = &header_column
            rows.header_starts = &starts[0]
            rows.names = &name_column
            rows.contents = &content_column
        highest = int(np.max(partitions))
        if np.min(partitions) < 0:
            raise ValueError("a partition below 0")
        open_batches = np.full(highest + 1, -1, dtype=np.int32)
        cdef int32_t[::1] open_view = open_batches
        cdef int32_t[::1] batch_of = np.empty(n, dtype=np.int32)
        cdef int32_t[::1] length_of = np.empty(n, dtype=np.int32)
        plan.open = &open_view[0]
        plan.batch_of = &batch_of[0]
        plan.length_of = &length_of[0]
        try:
            with nogil:
                enter_kernel()
                status = plan_batches(&rows, &plan, self.max_batch_bytes, &row)
                leave_kernel()
            if status == NO_MEMORY:
                raise MemoryError
            if status == BAD_END:
                raise ValueError(f"value {row} ends at byte {ends[row]} of {values.shape[0]}, not behind the one before")
            if status == TOO_LARGE:
                raise OverflowError(f"record {row} has more than 2 GiB")
            batches = []
            for k in range(plan.count):
                size = plan.batches[k].size
                data = PyByteArray_FromStringAndSize(NULL, size + RECORD_SLACK)
                plan.batches[k].at = <uint8_t*>PyByteArray_AS_STRING(data) + AT_RECORDS
                plan.batches[k].records = 0
                batches.append(data)
            with nogil:
                enter_kernel()
                write_records(&rows, &plan)
                leave_kernel()
            return [self._finished(&plan.batches[k], batches[k]) for k in range(plan.count)]
        finally:
            free(plan.batches)

    cdef tuple _finished(self, Batch* batch, object data):
        """The batch whose records stand in `data`, with its header."""
        cdef int64_t size = batch.size
        cdef int codec = 0
        cdef uint8_t* at
        assert batch.at - <uint8_t*>PyByteArray_AS_STRING(data) == size
        if self.compress is not None:
            with memoryview(data) as whole, whole[AT_RECORDS:size] as records:
                packed = memoryview(self.compress(records))
                if packed.nbytes < size - AT_RECORDS:
                    codec = self.codec
        if codec:
            size = AT_RECORDS + packed.nbytes
            data = bytearray(AT_RECORDS) + packed
        else:
            PyByteArray_Resize(data, size)
        at = <uint8_t*>PyByteArray_AS_STRING(data)
        with nogil:
            enter_kernel()
            write_header(at, batch, size, codec)
            leave_kernel()
        return batch.partition, data, batch.records, batch.base_timestamp


cdef object header_starts(headers):
    """Where the headers of each row begin among all (int32, n + 1). Raises TypeError for another type."""
    type = headers.type
    if type != pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])):
        raise TypeError(f"headers are list<struct<key: string, value: binary>>, not {type}")
    if headers.values.field("key").null_count:
        raise ValueError("a header's key is NULL")
    n = len(headers)
    offsets = np.frombuffer(headers.buffers()[1], dtype=np.int32, count=headers.offset + n + 1)
    return offsets[headers.offset:]
