"""From a batch's columns to what record batches are built of: values, keys, partitions, times, headers."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from velostream.errors import ConfigError, ConnectorError, Where, unknown
from velostream.kernels import JsonEncoder, murmur2_partitions
from velostream.operators.arrays import fixed, int64s
from velostream.operators.casts import conversion
from velostream.sql.functions.rules import is_integer
from velostream.sql.types import BIGINT, TIMESTAMP, VARCHAR

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
KeyOf = Callable[[pa.RecordBatch], pa.Array]

KEY_FORMATS = ("auto", "text", "json")
MURMUR2, ROUND_ROBIN = "murmur2", "round_robin"
EVENT_TIME, CLOCK = "auto", "clock"
_HEADER = pa.struct([("key", pa.string()), ("value", pa.binary())])


@dataclass(frozen=True, slots=True)
class Rows:
    """Records that are not in a record batch yet: value i ends where the newline at `ends[i]` of `values` is,
    and is null where `nulls` is true."""

    values: Any
    ends: Int64s
    partitions: Int32s
    timestamps: Int64s
    keys: pa.Array | None = None
    headers: pa.Array | None = None
    nulls: npt.NDArray[np.bool_] | None = None

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return len(self.values)


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows one after the other; all have keys or none, and headers or none."""
    if len(parts) == 1:
        return parts[0]
    begins = np.cumsum([0, *(part.size for part in parts[:-1])])
    first = parts[0]
    return Rows(
        b"".join(memoryview(part.values) for part in parts),
        np.concatenate([part.ends + begin for part, begin in zip(parts, begins, strict=True)]),
        np.concatenate([part.partitions for part in parts]),
        np.concatenate([part.timestamps for part in parts]),
        None if first.keys is None else pa.concat_arrays([part.keys for part in parts]),
        None if first.headers is None else pa.concat_arrays([part.headers for part in parts]),
        None
        if all(part.nulls is None for part in parts)
        else np.concatenate(
            [np.zeros(len(part.ends), np.bool_) if part.nulls is None else part.nulls for part in parts]
        ),
    )


class Partitioner(ABC):
    """Chooses partitions; used by all lanes."""

    @abstractmethod
    def choose(self, data: pa.RecordBatch, keys: pa.Array | None) -> Int32s:
        """The partition of each row. Raises ConnectorError."""


class _Murmur2(Partitioner):
    """As Kafka's own clients: by the key's hash. Rows without a key all go to one partition, those of the
    next batch to the next one, so that record batches are few and large."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._next = _Turns(partitions)

    def choose(self, data: pa.RecordBatch, keys: pa.Array | None) -> Int32s:
        if keys is None:
            return np.full(data.num_rows, self._next.take(1), dtype=np.int32)
        chosen: Int32s = murmur2_partitions(keys, self._partitions)
        if keys.null_count:
            chosen[chosen < 0] = self._next.take(1)
        return chosen


class _RoundRobin(Partitioner):
    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._next = _Turns(partitions)

    def choose(self, data: pa.RecordBatch, keys: pa.Array | None) -> Int32s:
        rows = data.num_rows
        return ((self._next.take(rows) + np.arange(rows)) % self._partitions).astype(np.int32)


class _ByColumn(Partitioner):
    """The partition's number is in a column."""

    def __init__(self, partitions: int, column: str, sink: str) -> None:
        self._partitions = partitions
        self._column = column
        self._sink = sink

    def choose(self, data: pa.RecordBatch, keys: pa.Array | None) -> Int32s:
        column = data.column(self._column)
        numbers = int64s(column.cast(BIGINT))
        wrong = (numbers < 0) | (numbers >= self._partitions)
        if column.null_count:
            wrong |= pc.is_null(column).to_numpy(zero_copy_only=False)
        if wrong.any():
            found = column[int(np.argmax(wrong))].as_py()
            raise ConnectorError(
                f"sink '{self._sink}': '{self._column}' is {'NULL' if found is None else found}, "
                f"and the topic has the partitions 0 to {self._partitions - 1}",
                hint="compute a number within them, or set another partitioner",
            )
        return numbers.astype(np.int32)


class _Turns:
    """Whose turn it is, for all lanes."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._at = 0
        self._lock = threading.Lock()

    def take(self, count: int) -> int:
        """The first of the next `count` turns."""
        with self._lock:
            first = self._at
            self._at = (first + count) % self._partitions
            return first


@dataclass(frozen=True, slots=True)
class RecordLayout:
    """Which columns of a stream become what of its records.

    `key_columns` is empty for records without a key. `headers` maps a header's key to its column.
    `partitioner` and `timestamp` are a word of this module or a column.
    """

    sink: str
    key_columns: tuple[str, ...] = ()
    key_format: str = "auto"
    headers: Mapping[str, str] | None = None
    partitioner: str = MURMUR2
    timestamp: str = EVENT_TIME

    def check(self, schema: pa.Schema, place: str) -> list[ConfigError]:
        """What does not fit the stream's columns; `place` is the configuration key of the sink."""
        problems: list[ConfigError] = []

        def column(name: str, option: str, words: Sequence[str] = ()) -> pa.DataType | None:
            if name in schema.names:
                return schema.field(name).type
            message, hint = unknown("column", name, [*schema.names, *words])
            problems.append(ConfigError(message, where=Where(key=f"{place}.{option}"), hint=hint))
            return None

        def wrong(option: str, message: str, hint: str) -> None:
            problems.append(ConfigError(message, where=Where(key=f"{place}.{option}"), hint=hint))

        for name in self.key_columns:
            column(name, "key")
        for header, name in (self.headers or {}).items():
            column(name, f"headers.{header}")
        if self.key_format not in KEY_FORMATS:
            wrong("key_format", *unknown("format of keys", self.key_format, KEY_FORMATS))
        elif self.key_format == "text" and len(self.key_columns) > 1:
            names = ", ".join(self.key_columns)
            wrong("key_format", f"a key of several columns ({names}) is no text", "set key_format: json")
        if self.partitioner not in (MURMUR2, ROUND_ROBIN):
            type = column(self.partitioner, "partitioner", (MURMUR2, ROUND_ROBIN))
            if type is not None and not is_integer(type):
                wrong("partitioner", f"column '{self.partitioner}' is no integer", "name one that is")
        if self.timestamp not in (EVENT_TIME, CLOCK):
            type = column(self.timestamp, "timestamp", (EVENT_TIME, CLOCK))
            if type is not None and type != TIMESTAMP:
                wrong("timestamp", f"column '{self.timestamp}' is no TIMESTAMP", "name one that is")
        return problems

    def key_of(self, schema: pa.Schema) -> KeyOf | None:
        """What makes the keys of a batch; None when records have none."""
        columns = self.key_columns
        if not columns:
            return None
        if self.key_format == "json" or len(columns) > 1:
            encoder = JsonEncoder(pa.schema([schema.field(name) for name in columns]))
            return lambda data: _json(encoder, data.select(columns))
        text = _text_of(schema.field(columns[0]).type)
        return lambda data: text(data.column(columns[0]))

    def headers_of(self, schema: pa.Schema) -> KeyOf | None:
        """What makes the headers of a batch, in the order given; None when there are none."""
        if not self.headers:
            return None
        texts = [(name, _text_of(schema.field(name).type)) for name in self.headers.values()]
        names = pa.array(list(self.headers), pa.string())
        return lambda data: _headers(names, [text(data.column(name)) for name, text in texts])

    def partitioner_of(self, partitions: int) -> Partitioner:
        """What chooses among so many partitions."""
        if self.partitioner == MURMUR2:
            return _Murmur2(partitions)
        if self.partitioner == ROUND_ROBIN:
            return _RoundRobin(partitions)
        return _ByColumn(partitions, self.partitioner, self.sink)

    def timestamps(self, data: pa.RecordBatch, times: Int64s | None) -> Int64s:
        """Milliseconds of each row, `times` being their event times in microseconds; the clock where there is
        no time."""
        now = time.time_ns() // 1_000_000
        if self.timestamp == CLOCK or (self.timestamp == EVENT_TIME and times is None):
            return np.full(data.num_rows, now, dtype=np.int64)
        if self.timestamp == EVENT_TIME:
            assert times is not None
            return times // 1000
        column = data.column(self.timestamp)
        found = int64s(column) // 1000
        if column.null_count:
            found[pc.is_null(column).to_numpy(zero_copy_only=False)] = now
        return found


def _text_of(type: pa.DataType) -> Callable[[pa.Array], pa.Array]:
    """Values as text, as CAST writes them; NULL stays NULL."""
    if type == VARCHAR:
        return lambda column: column
    convert = conversion(type, VARCHAR)
    return lambda column: convert(column)[0]


def _json(encoder: JsonEncoder, columns: pa.RecordBatch) -> pa.Array:
    """A JSON object for each row, as Arrow text."""
    rows = columns.num_rows
    ends = np.empty(rows, dtype=np.int64)
    text = np.frombuffer(memoryview(encoder.encode(columns, ends)), dtype=np.uint8)
    within = np.ones(len(text), dtype=np.bool_)
    # The newlines between them.
    within[ends] = False
    offsets = np.zeros(rows + 1, dtype=np.int32)
    offsets[1:] = ends - np.arange(rows)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(text[within]))


def _headers(names: pa.Array, texts: Sequence[pa.Array]) -> pa.Array:
    """For each row a list of all names with its texts; a NULL is a header whose value is null."""
    rows, count = len(texts[0]), len(names)
    # Row by row: value i of every column.
    places = np.arange(rows * count).reshape(count, rows).T.ravel()
    values = pa.concat_arrays(texts).cast(pa.binary()).take(fixed(places, BIGINT))
    keys = names.take(fixed(np.tile(np.arange(count), rows), BIGINT))
    pairs = pa.StructArray.from_arrays([keys, values], fields=list(_HEADER))
    offsets = fixed(np.arange(0, rows * count + 1, count, dtype=np.int32), pa.int32())
    return pa.ListArray.from_arrays(offsets, pairs)
