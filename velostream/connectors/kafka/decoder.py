"""Messages to rows: the format's decoder for their values, and columns that tell of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.connectors.kafka.messages import KafkaMessages, Rows, row_count
from velostream.connectors.kafka.metadata import Read, Reader
from velostream.formats.base import Decoded, Decoder
from velostream.formats.messages import Messages
from velostream.operators.arrays import mask
from velostream.operators.batch import RecordError
from velostream.sql.types import Schema

# How many messages are decoded at once behind one whose record does not end.
_FEW = 64


class MessageDecoder(Decoder):
    """The asked columns of messages.

    `values` decodes those of the value. With `separable` a newline ends every record, so that a message holds
    one record or none; else a record that does not end within its message is an error, and the next message
    is decoded as ever. `readers` give the other columns of `schema`, each reader those of its names.

    A message without a value is a record error, unless `skip_tombstones`: then it is no record at all, and
    `on_skipped` is told how many there were. Owned by one thread.
    """

    def __init__(
        self,
        values: Decoder,
        separable: bool,
        schema: Schema,
        readers: Mapping[tuple[str, ...], Reader],
        skip_tombstones: bool,
        on_skipped: Callable[[int], None],
    ) -> None:
        self._values = values
        self._separable = separable
        self._schema = schema.arrow()
        self._readers = readers
        self._skip = skip_tombstones
        self._on_skipped = on_skipped
        self._window = 0

    def decode(self, data: memoryview, start: int, max_rows: int) -> Decoded:
        """Of values alone, as dead letters have them: what would tell of their messages is NULL."""
        decoded = self._values.decode(data, start, max_rows)
        count = decoded.batch.num_rows
        nothing = {
            name: pa.nulls(count, self._schema.field(name).type) for names in self._readers for name in names
        }
        decoded.batch = self._assembled(decoded.batch, nothing, count)
        return decoded

    def decode_messages(self, data: Messages, start: int, max_rows: int) -> Decoded:
        assert isinstance(data, KafkaMessages)
        first = data.message_at(start)
        if self._separable:
            decoded = self._values.decode(data.values, start, max_rows)
        else:
            decoded = self._decode_apart(data, first, max_rows)
        end = int(np.searchsorted(data.starts, decoded.next))
        rows: Rows
        if self._separable and decoded.records == end - first and not decoded.errors:
            rows = slice(first, end)
        else:
            rows = self._account(data, decoded, first, end)
        return self._with_readers(data, decoded, rows) if self._readers else decoded

    # --- values ---------------------------------------------------------------------------------

    def _decode_apart(self, data: KafkaMessages, first: int, max_rows: int) -> Decoded:
        """As `decode` from message `first` on, up to a message whose record goes on in the next one: that one
        is decoded by itself in the next call, and fails there."""
        window = self._window or data.count
        stop = int(data.starts[min(data.count, first + window)])
        start = int(data.starts[first])
        decoded = self._values.decode(data.values[:stop], start, max_rows)
        open_at = self._first_open(data, decoded)
        if open_at < 0:
            self._window = 0 if self._window >= data.count else 2 * self._window
            return decoded
        self._window = 1
        if open_at == first:
            return self._decode_apart(data, first, max_rows)
        cut = int(data.starts[open_at])
        good = int(np.searchsorted(decoded.starts, cut))
        errors = [error for error in decoded.errors if error.start < cut]
        return Decoded(
            decoded.batch.slice(0, good),
            decoded.starts[:good],
            decoded.ends[:good],
            errors,
            cut,
            good + len(errors),
        )

    def _first_open(self, data: KafkaMessages, decoded: Decoded) -> int:
        """The first message with a record that does not end within it; -1 when there is none."""
        found = [
            message
            for error in decoded.errors
            if error.end > data.starts[(message := data.message_at(error.start)) + 1]
        ]
        messages = _messages_at(data, decoded.starts)
        crossing = np.flatnonzero(decoded.ends > data.starts[messages + 1])
        if len(crossing):
            found.append(int(messages[crossing[0]]))
        return min(found, default=-1)

    # --- messages without a record -----------------------------------------------------------------

    def _account(self, data: KafkaMessages, decoded: Decoded, first: int, end: int) -> npt.NDArray[np.int64]:
        """The message of each row. Messages without a record become errors of `decoded`."""
        rows = _messages_at(data, decoded.starts)
        bare = np.ones(end - first, dtype=np.bool_)
        bare[rows - first] = False
        for error in decoded.errors:
            bare[data.message_at(error.start) - first] = False
        if not bare.any():
            return rows
        if self._skip:
            tombstones = bare & data.nulls[first:end]
            bare &= ~tombstones
            if tombstones.any():
                self._on_skipped(int(tombstones.sum()))
        fresh = [_bare(data, int(message)) for message in np.flatnonzero(bare) + first]
        decoded.errors = sorted([*decoded.errors, *fresh], key=lambda error: error.start)
        decoded.records += len(fresh)
        return rows

    # --- other columns -------------------------------------------------------------------------------

    def _with_readers(self, data: KafkaMessages, decoded: Decoded, rows: Rows) -> Decoded:
        columns: dict[str, pa.Array] = {}
        reads: list[tuple[str, Read]] = []
        for names, reader in self._readers.items():
            read = reader.read(data, rows)
            columns.update(zip(names, read.columns, strict=True))
            reads += [(names[0], read)] if read.failed else []
        batch = self._assembled(decoded.batch, columns, row_count(rows))
        if not reads:
            decoded.batch = batch
            return decoded
        starts, ends = decoded.starts, decoded.ends
        keep = np.ones(len(starts), dtype=np.bool_)
        errors = list(decoded.errors)
        for name, read in reads:
            for row, detail in read.failed.items():
                if keep[row]:
                    keep[row] = False
                    errors.append(RecordError(int(starts[row]), int(ends[row]), read.code, detail, name))
        errors.sort(key=lambda error: error.start)
        return Decoded(
            batch.filter(mask(keep)), starts[keep], ends[keep], errors, decoded.next, decoded.records
        )

    def _assembled(self, batch: pa.RecordBatch, columns: Mapping[str, pa.Array], rows: int) -> pa.RecordBatch:
        """The columns of the value and the others in the asked order."""
        if not columns:
            return batch
        found = {**dict(zip(batch.schema.names, batch.columns, strict=True)), **columns}
        return pa.RecordBatch.from_arrays([found[name] for name in self._schema.names], schema=self._schema)


def _messages_at(data: KafkaMessages, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The message that each row belongs to."""
    return np.searchsorted(data.starts, starts, side="right") - 1


def _bare(data: KafkaMessages, message: int) -> RecordError:
    """The error of a message without a record."""
    start, end = int(data.starts[message]), int(data.starts[message + 1]) - 1
    if data.nulls[message]:
        detail = "the message has no value: a tombstone; tombstones=skip leaves such messages out"
        return RecordError(start, end, "kafka.null_value", detail)
    return RecordError(start, end, "kafka.empty_value", "the value of the message is empty")


def asked(schema: Schema, columns: Sequence[str]) -> Schema:
    """The asked columns of a schema, in the asked order."""
    return Schema(tuple(schema.field(name) for name in columns), schema.timezone)
