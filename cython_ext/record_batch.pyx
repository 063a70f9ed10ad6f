"""Reading Kafka's record batches: their headers, and their records as columns. `record_format.pxd` has the format.

Hostile bytes raise CorruptBatch: no field is trusted further than the bytes that are there.
"""

from collections import namedtuple

import numpy as np
import pyarrow as pa

cimport cython
from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t

from cython_ext.clock cimport enter_kernel, leave_kernel
from cython_ext.crc32c cimport crc32c_of
from cython_ext.cursor cimport Cursor, is_utf8
from cython_ext.planted cimport plant_overread
from cython_ext.record_format cimport (
    AT_ATTRIBUTES, AT_BASE_SEQUENCE, AT_BASE_TIMESTAMP, AT_COUNT, AT_CRC, AT_LAST_DELTA, AT_LEADER_EPOCH, AT_LENGTH,
    AT_MAGIC, AT_MAX_TIMESTAMP, AT_PRODUCER_EPOCH, AT_PRODUCER_ID, AT_RECORDS, CODEC_BITS, CONTROL, LEAST_HEADER,
    LEAST_RECORD, LOG_APPEND_TIME, MAGIC, RECORD_SLACK, TRANSACTIONAL,
    load_big16, load_big32, load_big64, read_zigzag, record_copy, record_copy_line,
)


class CorruptBatch(ValueError):
    """Bytes that are no record batch; `offset` is the base offset that they claim, or that of the batch."""

    def __init__(self, offset, reason):
        super().__init__(f"the record batch at offset {offset} {reason}")
        self.offset = offset


Messages = namedtuple("Messages", "values starts offsets timestamps nulls keys headers")
Messages.__doc__ = """Messages of one partition, as columns.

`values` (memoryview) has each value ended by a newline; `starts` (int64, one more than there are messages) is
where each begins in it. `offsets` and `timestamps` (ms) are int64, `nulls` (bool) tells which values are null.
`keys` is an Arrow array of binary, `headers` one of list<struct<key: string, value: binary>>, or None when no
message has any.
"""


@cython.final
cdef class BatchHeader:
    """What a batch says of itself.

    `payload` is the slice of the fetched bytes that holds its records, by `codec` (0 none, 1 gzip, 2 snappy, 3
    lz4, 4 zstd). `next_offset` is the offset behind the batch, which may have lost records to compaction; a
    control batch holds no messages but the end of a transaction. Timestamps in ms, -1: none.
    """

    cdef readonly int64_t base_offset
    cdef readonly int64_t next_offset
    cdef readonly int leader_epoch
    cdef readonly int codec
    cdef readonly bint log_append_time
    cdef readonly bint transactional
    cdef readonly bint control
    cdef readonly int64_t base_timestamp
    cdef readonly int64_t max_timestamp
    cdef readonly int64_t producer_id
    cdef readonly int producer_epoch
    cdef readonly int base_sequence
    cdef readonly int records
    cdef readonly slice payload

    def __repr__(self):
        kind = "control" if self.control else "transactional" if self.transactional else "plain"
        return f"<BatchHeader {self.base_offset} to {self.next_offset - 1}, {kind}, {self.records} records>"


def read_headers(const uint8_t[::1] data, Py_ssize_t offset=0):
    """The headers of the whole batches in fetched bytes from byte `offset` on, in a list.

    A batch that is cut off at the end is left out, as Kafka asks of its clients. Raises CorruptBatch for one whose
    checksum or whose header is wrong, and when the first one is cut off.
    """
    cdef const uint8_t* start
    cdef const uint8_t* end
    cdef const uint8_t* at
    cdef Py_ssize_t size
    if not 0 <= offset <= data.shape[0]:
        raise ValueError(f"byte {offset} is not one of {data.shape[0]}")
    headers = []
    if offset == data.shape[0]:
        return headers
    start = &data[0]
    end = start + data.shape[0]
    plant_overread(start, end)
    at = start + offset
    while end - at > AT_MAGIC:
        if at[AT_MAGIC] != MAGIC:
            raise CorruptBatch(
                load_big64(at),
                f"has format version {at[AT_MAGIC]}; only version {MAGIC} can be read, which Kafka writes since 0.11",
            )
        size = AT_LENGTH + 4 + <Py_ssize_t>load_big32(at + AT_LENGTH)
        if size < AT_RECORDS:
            raise CorruptBatch(load_big64(at), f"claims a size of {size} bytes")
        if size > end - at:
            break
        headers.append(header_of(at, size, at - start))
        at += size
    if not headers:
        claimed = load_big64(at) if end - at >= AT_LENGTH else 0
        raise CorruptBatch(claimed, f"is cut off after {end - at} bytes")
    return headers


cdef BatchHeader header_of(const uint8_t* at, Py_ssize_t size, Py_ssize_t place):
    """The header of the `size` bytes of a batch at `at`, `place` within what was fetched."""
    cdef BatchHeader header = BatchHeader.__new__(BatchHeader)
    cdef int attributes = load_big16(at + AT_ATTRIBUTES)
    cdef int64_t last_delta = load_big32(at + AT_LAST_DELTA)
    cdef uint32_t claimed = <uint32_t>load_big32(at + AT_CRC)
    cdef uint32_t found
    with nogil:
        enter_kernel()
        found = crc32c_of(at + AT_ATTRIBUTES, size - AT_ATTRIBUTES)
        leave_kernel()
    header.base_offset = load_big64(at)
    if found != claimed:
        raise CorruptBatch(header.base_offset, f"has the checksum {found:#010x}, not {claimed:#010x} as it claims")
    header.records = load_big32(at + AT_COUNT)
    if last_delta < 0 or not 0 <= header.records <= last_delta + 1:
        raise CorruptBatch(header.base_offset, f"claims {header.records} records up to its offset {last_delta}")
    if header.base_offset < 0 or header.base_offset >= (<int64_t>1 << 62):
        raise CorruptBatch(header.base_offset, "is at no offset")
    header.next_offset = header.base_offset + last_delta + 1
    header.leader_epoch = load_big32(at + AT_LEADER_EPOCH)
    header.codec = attributes & CODEC_BITS
    header.log_append_time = attributes & LOG_APPEND_TIME != 0
    header.transactional = attributes & TRANSACTIONAL != 0
    header.control = attributes & CONTROL != 0
    header.base_timestamp = load_big64(at + AT_BASE_TIMESTAMP)
    header.max_timestamp = load_big64(at + AT_MAX_TIMESTAMP)
    header.producer_id = load_big64(at + AT_PRODUCER_ID)
    header.producer_epoch = load_big16(at + AT_PRODUCER_EPOCH)
    header.base_sequence = load_big32(at + AT_BASE_SEQUENCE)
    header.payload = slice(place + AT_RECORDS, place + size)
    return header


cdef enum Status:
    DONE
    # Room for a record's headers is needed; reading goes on afterwards.
    HEADERS_NEED_ROOM
    ENDS_EARLY
    BAD_NUMBER
    BAD_LENGTH
    BAD_OFFSET
    BAD_HEADER_KEY
    NOT_FILLED


_REASONS = {
    ENDS_EARLY: "goes on behind the end of its batch",
    BAD_NUMBER: "has a number that is cut off or has too many bits",
    BAD_LENGTH: "has a length that does not fit into it",
    BAD_OFFSET: "has an offset that does not rise within its batch",
    BAD_HEADER_KEY: "has a header whose key is not UTF-8",
    NOT_FILLED: "is longer than its fields",
}


cdef struct Reading:
    # The batch: what its records count from, and where they end.
    int64_t base_offset
    int64_t last_offset
    int64_t base_timestamp
    int64_t append_timestamp
    bint log_append_time
    int64_t first_offset
    int64_t previous
    bint one_line
    Py_ssize_t left
    # Columns, of which `rows` rows are filled.
    Py_ssize_t rows
    int64_t* starts
    int64_t* offsets
    int64_t* timestamps
    uint8_t* nulls
    uint8_t* values
    Py_ssize_t value_bytes
    uint8_t* key_valid
    int32_t* key_ends
    uint8_t* keys
    Py_ssize_t key_bytes
    # Headers of all rows, one after the other, with room for `headers_room` of them and so many bytes of each.
    int32_t* header_ends
    Py_ssize_t headers
    Py_ssize_t headers_room
    int32_t* name_ends
    uint8_t* names
    Py_ssize_t name_bytes
    uint8_t* content_valid
    int32_t* content_ends
    uint8_t* contents
    Py_ssize_t content_bytes
    Py_ssize_t header_bytes_room


cdef inline Status read_length(Cursor* body, int64_t least, int64_t* length) noexcept nogil:
    """A length that fits into what is left of the record; -1 stands for null where `least` is -1."""
    if not read_zigzag(body, 32, length):
        return BAD_NUMBER
    if length[0] < least or length[0] > body.end - body.at:
        return BAD_LENGTH
    return DONE


cdef Status read_record_headers(Reading* into, Cursor* body, int64_t count) noexcept nogil:
    """The headers of a record, behind those of the rows before; there is room."""
    cdef Py_ssize_t at = into.headers
    cdef Py_ssize_t name_bytes = into.name_bytes
    cdef Py_ssize_t content_bytes = into.content_bytes
    cdef int64_t length
    cdef Status status
    cdef int64_t k
    for k in range(count):
        status = read_length(body, 0, &length)
        if status != DONE:
            return status
        if not is_utf8(body.at, body.at + length):
            return BAD_HEADER_KEY
        record_copy(into.names + name_bytes, body.at, length, body.end)
        body.at += length
        name_bytes += length
        into.name_ends[at + 1] = <int32_t>name_bytes
        status = read_length(body, -1, &length)
        if status != DONE:
            return status
        into.content_valid[at] = length >= 0
        if length > 0:
            record_copy(into.contents + content_bytes, body.at, length, body.end)
            body.at += length
            content_bytes += length
        into.content_ends[at + 1] = <int32_t>content_bytes
        at += 1
    into.header_ends[into.rows + 1] = <int32_t>at
    return DONE


cdef Status read_records(Reading* into, Cursor* payload) noexcept nogil:
    """Read the records that are left, from `payload`, which stands at the record that a failure is about.

    Each is written to the row `rows`, which counts unless the record is one before `first_offset`.
    """
    cdef Cursor body
    cdef Cursor rest = payload[0]
    cdef int64_t length
    cdef int64_t timestamp
    cdef int64_t delta
    cdef int64_t offset
    cdef Py_ssize_t key_bytes
    cdef Py_ssize_t value_bytes
    cdef Py_ssize_t row
    cdef Status status
    while into.left > 0:
        payload[0] = rest
        if not read_zigzag(&rest, 32, &length):
            return BAD_NUMBER if rest.at < rest.end else ENDS_EARLY
        if length < 0:
            return BAD_LENGTH
        if length > rest.end - rest.at:
            return ENDS_EARLY
        body.at = rest.at
        body.end = rest.at + length
        rest.at = body.end
        if body.at == body.end:
            return BAD_LENGTH
        # Attributes: none is defined.
        body.at += 1
        if not read_zigzag(&body, 64, &timestamp) or not read_zigzag(&body, 32, &delta):
            return BAD_NUMBER
        offset = into.base_offset + delta
        if offset <= into.previous or offset > into.last_offset:
            return BAD_OFFSET
        row = into.rows
        into.offsets[row] = offset
        if into.log_append_time:
            into.timestamps[row] = into.append_timestamp
        else:
            # Wraps as Kafka's own sum does.
            into.timestamps[row] = <int64_t>(<uint64_t>into.base_timestamp + <uint64_t>timestamp)

        status = read_length(&body, -1, &length)
        if status != DONE:
            return status
        into.key_valid[row] = length >= 0
        key_bytes = into.key_bytes
        if length > 0:
            record_copy(into.keys + key_bytes, body.at, length, rest.end)
            body.at += length
            key_bytes += length
        into.key_ends[row + 1] = <int32_t>key_bytes

        status = read_length(&body, -1, &length)
        if status != DONE:
            return status
        into.starts[row] = into.value_bytes
        into.nulls[row] = length < 0
        value_bytes = into.value_bytes
        if length > 0:
            if into.one_line:
                record_copy_line(into.values + value_bytes, body.at, length, rest.end)
            else:
                record_copy(into.values + value_bytes, body.at, length, rest.end)
            body.at += length
            value_bytes += length
        into.values[value_bytes] = c'\n'
        value_bytes += 1

        if not read_zigzag(&body, 32, &length):
            return BAD_NUMBER
        if length < 0 or length > (body.end - body.at) // LEAST_HEADER:
            return BAD_LENGTH
        if length > 0:
            if into.headers + length > into.headers_room or (
                max(into.name_bytes, into.content_bytes) + (body.end - body.at) > into.header_bytes_room
            ):
                return HEADERS_NEED_ROOM
            status = read_record_headers(into, &body, length)
            if status != DONE:
                return status
        else:
            into.header_ends[row + 1] = <int32_t>into.headers
        if body.at != body.end:
            return NOT_FILLED

        into.previous = offset
        into.left -= 1
        if offset >= into.first_offset:
            into.rows += 1
            into.key_bytes = key_bytes
            into.value_bytes = value_bytes
            if length > 0:
                into.headers += length
                into.name_bytes = into.name_ends[into.headers]
                into.content_bytes = into.content_ends[into.headers]
    payload[0] = rest
    return DONE


@cython.final
cdef class Column:
    """Memory of Arrow's that grows."""

    cdef object buffer
    cdef Py_ssize_t capacity
    cdef uint8_t* data

    cdef int reserve(self, Py_ssize_t size) except -1:
        """Make room for so many bytes; what is there stays."""
        if size <= self.capacity:
            return 0
        size = max(size, self.capacity + self.capacity // 2)
        if self.buffer is None:
            self.buffer = pa.allocate_buffer(size, resizable=True)
        else:
            self.buffer.resize(size)
        self.data = <uint8_t*><uintptr_t>self.buffer.address
        self.capacity = size
        return 0

    cdef object array(self, type, Py_ssize_t n):
        """The first n elements as a numpy array of that type, without a copy."""
        return np.frombuffer(self.buffer, dtype=type, count=n)

    cdef object valid_bits(self, Py_ssize_t n):
        """The first n bytes as a bitmap of Arrow's; None when all of them are 1."""
        valid = self.array(np.bool_, n)
        return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


@cython.final
cdef class MessageReader:
    """Puts the records of batches into columns: `append` each batch in order, then `finish`, once.

    `payload_bytes` and `records` say how much room to make at first. With `one_line`, newlines within values
    become carriage returns, which mean the same to a format that takes both for white space: then a newline ends
    a value wherever it stands. Used by one thread at a time; appending holds no GIL.
    """

    cdef Reading reading
    cdef bint finished
    cdef Column starts, offsets, timestamps, nulls, values, key_valid, key_ends, keys
    cdef Column header_ends, name_ends, names, content_valid, content_ends, contents

    def __cinit__(self, *, bint one_line=False, Py_ssize_t payload_bytes=0, Py_ssize_t records=0):
        self.starts, self.offsets, self.timestamps = Column(), Column(), Column()
        self.nulls, self.values = Column(), Column()
        self.key_valid, self.key_ends, self.keys = Column(), Column(), Column()
        self.header_ends, self.name_ends, self.names = Column(), Column(), Column()
        self.content_valid, self.content_ends, self.contents = Column(), Column(), Column()
        self.reading.one_line = one_line
        self.reading.previous = -1
        self._reserve(max(payload_bytes, 0), max(records, 0))
        self._reserve_headers(0, 0)

    def __len__(self):
        """The messages so far."""
        return self.reading.rows

    @property
    def value_bytes(self):
        """The length of all values so far, with a newline each."""
        return self.reading.value_bytes

    cdef int _reserve(self, Py_ssize_t payload_bytes, Py_ssize_t records) except -1:
        """Make room for the records of a payload. A value and its newline are shorter than their record."""
        cdef Reading* into = &self.reading
        cdef Py_ssize_t rows = into.rows + records + 1
        if into.key_bytes + payload_bytes > INT32_MAX or rows > INT32_MAX:
            raise OverflowError("the messages of one block take more than 2 GiB: read smaller blocks")
        self.starts.reserve(8 * rows)
        self.offsets.reserve(8 * rows)
        self.timestamps.reserve(8 * rows)
        self.nulls.reserve(rows)
        self.key_valid.reserve(rows)
        self.key_ends.reserve(4 * rows)
        self.header_ends.reserve(4 * rows)
        self.values.reserve(into.value_bytes + payload_bytes + RECORD_SLACK)
        self.keys.reserve(into.key_bytes + payload_bytes + RECORD_SLACK)
        into.starts = <int64_t*>self.starts.data
        into.offsets = <int64_t*>self.offsets.data
        into.timestamps = <int64_t*>self.timestamps.data
        into.nulls = self.nulls.data
        into.values = self.values.data
        into.key_valid = self.key_valid.data
        into.key_ends = <int32_t*>self.key_ends.data
        into.keys = self.keys.data
        into.header_ends = <int32_t*>self.header_ends.data
        into.key_ends[0] = 0
        into.header_ends[0] = 0
        return 0

    cdef int _reserve_headers(self, Py_ssize_t headers, Py_ssize_t size) except -1:
        """Make room for so many more headers with so many bytes of keys, and of values, at most."""
        cdef Reading* into = &self.reading
        cdef Py_ssize_t count = into.headers + headers
        cdef Py_ssize_t room = max(into.name_bytes, into.content_bytes) + size
        if room > INT32_MAX:
            raise OverflowError("the headers of one block take more than 2 GiB: read smaller blocks")
        self.name_ends.reserve(4 * (count + 1))
        self.content_ends.reserve(4 * (count + 1))
        self.content_valid.reserve(count + 1)
        self.names.reserve(room + RECORD_SLACK)
        self.contents.reserve(room + RECORD_SLACK)
        into.name_ends = <int32_t*>self.name_ends.data
        into.names = self.names.data
        into.content_valid = self.content_valid.data
        into.content_ends = <int32_t*>self.content_ends.data
        into.contents = self.contents.data
        into.name_ends[0] = 0
        into.content_ends[0] = 0
        into.headers_room = self.content_valid.capacity - 1
        into.header_bytes_room = min(self.names.capacity, self.contents.capacity) - RECORD_SLACK
        return 0

    def append(self, BatchHeader header not None, const uint8_t[::1] payload, int64_t first_offset=0):
        """Add the messages of a batch from `first_offset` on; `payload` holds its records, no longer compressed.

        O(bytes). Raises CorruptBatch, and then adds none of them; ValueError for a control batch, which holds no
        messages; OverflowError when the block grows beyond 2 GiB.
        """
        cdef Reading before = self.reading
        cdef Reading* into = &self.reading
        cdef Py_ssize_t size = payload.shape[0]
        cdef Cursor cursor
        cdef Status status
        if self.finished:
            raise ValueError("the reader has finished: make another")
        if header.control:
            raise ValueError(f"the batch at offset {header.base_offset} is a control batch: it holds no messages")
        if header.base_offset <= into.previous:
            raise CorruptBatch(header.base_offset, f"comes behind one that ends at offset {into.previous}")
        if header.records > size // LEAST_RECORD:
            raise CorruptBatch(header.base_offset, f"claims {header.records} records in {size} bytes")
        if header.records == 0:
            if size:
                raise CorruptBatch(header.base_offset, f"has {size} bytes and no records")
            into.previous = header.next_offset - 1
            return
        self._reserve(size, header.records)
        into.base_offset = header.base_offset
        into.last_offset = header.next_offset - 1
        into.base_timestamp = header.base_timestamp
        into.append_timestamp = header.max_timestamp
        into.log_append_time = header.log_append_time
        into.first_offset = first_offset
        into.previous = header.base_offset - 1
        into.left = header.records
        cursor.at = &payload[0]
        cursor.end = cursor.at + size
        plant_overread(cursor.at, cursor.end)
        while True:
            with nogil:
                enter_kernel()
                status = read_records(into, &cursor)
                leave_kernel()
            if status != HEADERS_NEED_ROOM:
                break
            # Enough for the rest of the batch.
            self._reserve_headers((cursor.end - cursor.at) // LEAST_HEADER, cursor.end - cursor.at)
        if status == DONE and cursor.at == cursor.end:
            into.previous = into.last_offset
            return
        # Of what was added, only the room stays.
        number = header.records - into.left
        into.rows = before.rows
        into.value_bytes = before.value_bytes
        into.key_bytes = before.key_bytes
        into.headers = before.headers
        into.name_bytes = before.name_bytes
        into.content_bytes = before.content_bytes
        into.previous = before.previous
        if status == DONE:
            raise CorruptBatch(header.base_offset, f"has {cursor.end - cursor.at} bytes behind its last record")
        raise CorruptBatch(header.base_offset, f"is corrupt: its record {number} {_REASONS[status]}")

    def finish(self):
        """The messages, as `Messages`; the reader is of no more use."""
        cdef Py_ssize_t n = self.reading.rows
        cdef Py_ssize_t size = self.reading.value_bytes
        self.finished = True
        self.reading.starts[n] = size
        return Messages(
            memoryview(self.values.array(np.uint8, size)),
            self.starts.array(np.int64, n + 1),
            self.offsets.array(np.int64, n),
            self.timestamps.array(np.int64, n),
            self.nulls.array(np.bool_, n),
            pa.Array.from_buffers(
                pa.binary(), n, [self.key_valid.valid_bits(n), self.key_ends.buffer, self.keys.buffer]
            ),
            self._headers() if self.reading.headers else None,
        )

    cdef object _headers(self):
        cdef Py_ssize_t count = self.reading.headers
        names = pa.Array.from_buffers(pa.string(), count, [None, self.name_ends.buffer, self.names.buffer])
        contents = pa.Array.from_buffers(
            pa.binary(), count,
            [self.content_valid.valid_bits(count), self.content_ends.buffer, self.contents.buffer],
        )
        pairs = pa.StructArray.from_arrays([names, contents], names=["key", "value"])
        return pa.Array.from_buffers(
            pa.list_(pairs.type), self.reading.rows, [None, self.header_ends.buffer], children=[pairs]
        )
