"""Messages of one partition as columns: values as bytes, offsets, timestamps, keys, headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.formats.messages import Messages
from velostream.operators.arrays import fixed


@dataclass(slots=True, eq=False)
class KafkaMessages(Messages):
    """Messages as a block of Kafka's holds them, in the order of their offsets.

    `timestamps` are milliseconds UTC (int64; -1: none), `nulls` tells values that are null (bool), `keys` is
    an Arrow array of binary (NULL: no key), `headers` one of list<struct<key: string, value: binary>>, or
    None when no message has any.
    """

    timestamps: npt.NDArray[np.int64]
    nulls: npt.NDArray[np.bool_]
    keys: pa.Array
    headers: pa.Array | None

    def span(self, first: int, end: int) -> KafkaMessages:
        """The messages from number `first` to `end`, without a copy."""
        begin, stop = int(self.starts[first]), int(self.starts[end])
        return KafkaMessages(
            self.values[begin:stop],
            self.starts[first : end + 1] - begin,
            self.offsets[first:end],
            self.timestamps[first:end],
            self.nulls[first:end],
            self.keys.slice(first, end - first),
            None if self.headers is None else self.headers.slice(first, end - first),
        )

    def until(self, offset: int) -> KafkaMessages:
        """Those before that offset."""
        count = int(np.searchsorted(self.offsets, offset))
        return self if count == self.count else self.span(0, count)


# Numbers of messages of a block: those of the rows that a decoder has made.
Rows = slice | npt.NDArray[np.int64]


def row_count(rows: Rows) -> int:
    """How many rows these are; a slice has a begin and an end."""
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def taken(values: pa.Array, rows: Rows) -> pa.Array:
    """The values at these rows."""
    if isinstance(rows, slice):
        return values.slice(rows.start, row_count(rows))
    return values.take(fixed(rows, pa.int64()))


def bytes_of(array: pa.Array) -> tuple[memoryview, npt.NDArray[np.int64]]:
    """The bytes of an array of binary or text one after the other, and where each begins (one more: the end).

    What stands at NULLs has no bytes, as Arrow's own kernels write them.
    """
    _, offsets, data = array.buffers()
    wide = pa.types.is_large_binary(array.type) or pa.types.is_large_string(array.type)
    kind: Any = np.int64 if wide else np.int32
    ends = np.frombuffer(offsets, dtype=kind, count=array.offset + len(array) + 1)[array.offset :]
    starts = ends.astype(np.int64) - int(ends[0])
    whole = memoryview(data).cast("B") if data is not None else memoryview(b"")
    return whole[int(ends[0]) : int(ends[-1])], starts
