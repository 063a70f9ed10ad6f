"""Columns that tell of a message and are no part of its value.

| column | type | |
|---|---|---|
| `_topic` | VARCHAR | |
| `_partition` | BIGINT | |
| `_offset` | BIGINT | |
| `_timestamp` | TIMESTAMP | the producer's or the broker's, as the topic is set; NULL where there is none |
| `_key` | VARCHAR | the text of the key, with `key.format=raw` its bytes in hexadecimal; NULL: no key |
| `_headers` | VARCHAR | all headers as JSON, `[{"key":"a","value":"text"}]` in their order; NULL: none |

Besides, `key.columns` and `header_columns` name columns of their own, taken from the key and from headers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from velostream.connectors.kafka.messages import KafkaMessages, Rows, bytes_of, row_count, taken
from velostream.formats.base import Decoder
from velostream.kernels import JsonEncoder
from velostream.operators.arrays import fixed, mask
from velostream.operators.casts import conversion
from velostream.sql.functions.values import null_where, scalar
from velostream.sql.typenames import type_name
from velostream.sql.types import BIGINT, TIMESTAMP, VARCHAR, Field

Mask = npt.NDArray[np.bool_]

TOPIC = Field("_topic", VARCHAR)
PARTITION = Field("_partition", BIGINT)
OFFSET = Field("_offset", BIGINT)
TIME = Field("_timestamp", TIMESTAMP)
KEY = Field("_key", VARCHAR)
HEADERS = Field("_headers", VARCHAR)
FIELDS = (TOPIC, PARTITION, OFFSET, TIME, KEY, HEADERS)

# The largest magnitude of a timestamp in milliseconds that microseconds can tell.
_LAST_MS = (1 << 63) // 1000 - 1
_HEX = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), dtype=np.uint16)
_OPEN, _CLOSE, _COMMA, _NEWLINE = b"[],\n"


@dataclass(slots=True)
class Read:
    """Columns of some messages, and why they cannot be read of which: detail by row."""

    columns: Sequence[pa.Array]
    code: str = ""
    failed: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, column: pa.Array, failed: Mask | None, code: str, detail: str) -> Read:
        """One column; `failed` tells the rows it cannot be read of, None that there are none."""
        if failed is None:
            return cls((column,))
        return cls((column,), code, {int(row): detail for row in np.flatnonzero(failed)})


class Reader(ABC):
    """Reads one or more columns of messages, without a look at their values."""

    @abstractmethod
    def read(self, messages: KafkaMessages, rows: Rows) -> Read: ...


class Constant(Reader):
    """A column of one value: topic or partition."""

    def __init__(self, value: str | int, type: pa.DataType) -> None:
        self._value = scalar(value, type)

    def read(self, messages: KafkaMessages, rows: Rows) -> Read:
        return Read((pa.repeat(self._value, row_count(rows)),))


class Offset(Reader):
    def read(self, messages: KafkaMessages, rows: Rows) -> Read:
        return Read((fixed(messages.offsets[rows], BIGINT),))


class Timestamp(Reader):
    def read(self, messages: KafkaMessages, rows: Rows) -> Read:
        times = messages.timestamps[rows]
        beyond = (times > _LAST_MS) | (times < -_LAST_MS)
        column = fixed(np.where(beyond, 0, times) * 1000, TIMESTAMP)
        known = times != -1
        if not known.all():
            column = pc.if_else(mask(known), column, scalar(None, TIMESTAMP))
        detail = "the timestamp of the message is out of the range of TIMESTAMP"
        return Read.of(column, beyond if beyond.any() else None, "overflow", detail)


class KeyText(Reader):
    """The key as text, converted to a type as CAST converts."""

    def __init__(self, column: Field = KEY) -> None:
        self._text = _Text(column, "the key")

    def read(self, messages: KafkaMessages, rows: Rows) -> Read:
        return self._text.read(taken(messages.keys, rows), "kafka.key")


class KeyHex(Reader):
    """The bytes of the key in hexadecimal."""

    def read(self, messages: KafkaMessages, rows: Rows) -> Read:
        keys = taken(messages.keys, rows)
        data, starts = bytes_of(keys)
        digits = _HEX[np.frombuffer(data, dtype=np.uint8)]
        present = mask(pc.is_valid(keys).to_numpy(zero_copy_only=False)).buffers()[1]
        buffers = [present, pa.py_buffer(starts * 2), pa.py_buffer(digits)]
        return Read((pa.Array.from_buffers(pa.large_string(), len(keys), buffers).cast(VARCHAR),))


class KeyJson(Reader):
    """The columns of keys that are JSON objects; NULL where there is no key."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def read(self, messages: KafkaMessages, rows: Rows) -> Read:
        keys = taken(messages.keys, rows)
        # A newline in JSON is white space, or as wrong as any other control character.
        lines = pc.replace_substring(keys, b"\n", b"\r")
        lines = pc.binary_join_element_wise(pc.fill_null(lines, b"{}"), b"\n", b"")
        data, starts = bytes_of(lines)
        decoded = self._decoder.decode(data, 0, len(keys) + 1)
        columns = decoded.batch.columns
        if decoded.batch.num_rows == len(keys):
            return Read(columns)
        at = np.full(len(keys), -1, dtype=np.int64)
        at[np.searchsorted(starts, decoded.starts, side="right") - 1] = np.arange(decoded.batch.num_rows)
        failed = {int(row): "the key is empty" for row in np.flatnonzero(at < 0)}
        for error in decoded.errors:
            failed[int(np.searchsorted(starts, error.start, side="right")) - 1] = f"the key: {error.detail}"
        return Read([_take_some(column, at) for column in columns], "kafka.key", failed)


class Header(Reader):
    """The value of the last header of a name as text, converted to a type as CAST converts; NULL: none."""

    def __init__(self, column: Field, header: str) -> None:
        self._header = header
        self._text = _Text(column, f"header '{header}'")

    def read(self, messages: KafkaMessages, rows: Rows) -> Read:
        return self._text.read(self._last(messages, rows), "kafka.header")

    def _last(self, messages: KafkaMessages, rows: Rows) -> pa.Array:
        lists = messages.headers
        if lists is None:
            return pa.nulls(row_count(rows), pa.binary())
        lists = taken(lists, rows)
        flat = lists.flatten()
        named = pc.equal(flat.field("key"), scalar(self._header, VARCHAR))
        hits = np.flatnonzero(named.to_numpy(zero_copy_only=False))
        at = np.full(len(lists), -1, dtype=np.int64)
        # Of several in one message the last one stays.
        at[np.searchsorted(_list_starts(lists), hits, side="right") - 1] = hits
        return _take_some(flat.field("value"), at)


class Headers(Reader):
    """All headers of a message as one JSON array, in their order; NULL: none."""

    def read(self, messages: KafkaMessages, rows: Rows) -> Read:
        if messages.headers is None:
            return Read((pa.nulls(row_count(rows), VARCHAR),))
        lists = taken(messages.headers, rows)
        flat = lists.flatten()
        starts = _list_starts(lists)
        values, bad = as_text(flat.field("value"))
        failed = None
        if bad is not None:
            failed = np.zeros(len(lists), dtype=np.bool_)
            failed[np.searchsorted(starts, np.flatnonzero(bad), side="right") - 1] = True
        objects = pa.RecordBatch.from_arrays([flat.field("key"), values], names=["key", "value"])
        lines = np.frombuffer(memoryview(JsonEncoder(objects.schema).encode(objects)), dtype=np.uint8)
        return Read.of(_arrays_of(lines, starts), failed, "kafka.header", "a header is not UTF-8 text")


def _arrays_of(lines: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64]) -> pa.Array:
    """JSON arrays of lines of JSON: the lines `starts[i]` to `starts[i + 1]` each; NULL for no line."""
    ends = np.flatnonzero(lines == _NEWLINE)
    # Where each line begins, and one behind the last.
    begins = np.append(0, ends + 1)
    some = np.diff(starts) > 0
    text = lines.copy()
    text[ends] = _COMMA
    text[ends[starts[1:][some] - 1]] = _CLOSE
    text = np.insert(text, begins[starts[:-1][some]], _OPEN)
    offsets = begins[starts] + np.append(0, np.cumsum(some))
    buffers = [mask(some).buffers()[1], pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(text)]
    return pa.Array.from_buffers(VARCHAR, len(some), buffers)


class _Text:
    """Bytes as text, converted to a column's type."""

    def __init__(self, column: Field, what: str) -> None:
        self._what = what
        self._type = type_name(column.type)
        self._convert = None if column.type == VARCHAR else conversion(VARCHAR, column.type)

    def read(self, values: pa.Array, code: str) -> Read:
        texts, failed = as_text(values)
        if self._convert is None:
            return Read.of(texts, failed, code, f"{self._what} is not UTF-8 text")
        converted, unfit = self._convert(texts)
        read = Read.of(converted, unfit, code, f"{self._what} is no {self._type}")
        if failed is not None:
            read.failed = {
                **read.failed,
                **Read.of(texts, failed, code, f"{self._what} is not UTF-8 text").failed,
            }
            read.code = code
        return read


def as_text(values: pa.Array) -> tuple[pa.Array, Mask | None]:
    """Binary as text, NULL where it is not UTF-8; and those rows, None when there are none."""
    try:
        return values.cast(VARCHAR), None
    except pa.ArrowInvalid:
        failed = np.zeros(len(values), dtype=np.bool_)
        _find_invalid(values, failed)
        return null_where(values, failed).cast(VARCHAR), failed


def _find_invalid(values: pa.Array, failed: Mask) -> None:
    """Mark values that are not UTF-8, by halves: few of many cost little."""
    try:
        values.cast(VARCHAR)
    except pa.ArrowInvalid:
        if len(values) == 1:
            failed[0] = True
            return
        half = len(values) // 2
        _find_invalid(values.slice(0, half), failed[:half])
        _find_invalid(values.slice(half), failed[half:])


def _list_starts(lists: pa.Array) -> npt.NDArray[np.int64]:
    """Where each list begins in its flattened values (one more: the end)."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    starts = np.zeros(len(lists) + 1, dtype=np.int64)
    np.cumsum(lengths.to_numpy(zero_copy_only=False), out=starts[1:])
    return starts


def _take_some(values: pa.Array, at: npt.NDArray[np.int64]) -> pa.Array:
    """The values at these places; NULL at -1."""
    present = mask(at >= 0).buffers()[1]
    indices = pa.Array.from_buffers(BIGINT, len(at), [present, pa.py_buffer(np.maximum(at, 0))])
    return values.take(indices)
