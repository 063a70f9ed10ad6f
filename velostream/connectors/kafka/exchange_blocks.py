"""Blocks of an exchange: what was fetched of a task's partition, unpacked in the lanes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from velostream.connectors.base import Block, BlockReader, BytesBlock, ExchangedBlock
from velostream.connectors.kafka.exchange_messages import TIMES, UnreadableMessage, read_message
from velostream.connectors.kafka.fetching import Fetched
from velostream.connectors.kafka.queue import Queue
from velostream.connectors.kafka.reader import WAIT_SECONDS, unpack
from velostream.errors import ConnectorError
from velostream.kernels import CorruptBatch


class ExchangeReader(BlockReader):
    """Reads a task's partition, for ever: a block is what lies ready, up to `max_bytes` as fetched.

    `block` makes one of what was fetched; `close_queue` is called once.
    """

    def __init__(
        self,
        block: Callable[[Sequence[Fetched]], ExchangeBlock],
        queue: Queue,
        max_bytes: int,
        offset: int,
        close_queue: Callable[[], None],
    ) -> None:
        self._block = block
        self._queue = queue
        self._max_bytes = max_bytes
        self._offset = offset
        self._close_queue: Callable[[], None] | None = close_queue

    def read(self) -> Block | None:
        pieces = self._queue.take(self._max_bytes, WAIT_SECONDS)
        if not pieces:
            return BytesBlock(b"", self._offset, self._offset)
        block = self._block(pieces)
        self._offset = block.next_offset
        return block

    def close(self) -> None:
        if self._close_queue is not None:
            self._close_queue()
            self._close_queue = None


class ExchangeBlock(ExchangedBlock):
    """Whole messages as they were fetched.

    `heard` are the watermarks in it, as sender and watermark in their order; known after `load`. They count
    from behind the block's rows on.
    """

    __slots__ = ("_partition", "_pieces", "_schema", "_senders")

    def __init__(self, partition: str, senders: int, schema: pa.Schema, pieces: Sequence[Fetched]) -> None:
        super().__init__(pieces[0].offset, pieces[-1].next_offset, sum(piece.size for piece in pieces))
        self._partition = partition
        self._senders = senders
        self._schema = schema
        self._pieces = pieces
        self.heard: list[tuple[int, int]] = []
        self.input_bytes = 0

    def load(self) -> pa.RecordBatch:
        """The rows of all senders, each one's in their order: the columns of the schema, and behind them
        `TIMES` where the senders have such. Raises ConnectorError."""
        try:
            messages = unpack(self._pieces, one_line=False)
        except CorruptBatch as exc:
            raise ConnectorError(
                f"'{self._partition}' has a record batch that cannot be read: {exc}",
                hint="see whether the broker's disk is sound; state=reset begins afresh",
            ) from exc
        # All are as the first one is: a stream has times, or it has none.
        schemas: tuple[pa.Schema, ...] = (self._schema, self._schema.append(TIMES))
        parts: list[pa.RecordBatch] = []
        starts = messages.starts.tolist()
        for number, offset in enumerate(messages.offsets.tolist()):
            value = messages.values[starts[number] : starts[number + 1] - 1]
            try:
                message = read_message(value, self._senders, *schemas)
            except UnreadableMessage as exc:
                raise ConnectorError(
                    f"'{self._partition}' has a message at offset {offset} that cannot be read: {exc}",
                    hint="another program or version has written it: begin afresh with state=reset",
                ) from exc
            if message.rows is None:
                assert message.watermark is not None
                self.heard.append((message.sender, message.watermark))
            else:
                parts.append(message.rows)
                schemas = (message.rows.schema,)
        if not parts:
            return pa.RecordBatch.from_arrays(
                [pa.nulls(0, column.type) for column in self._schema], schema=self._schema
            )
        return parts[0] if len(parts) == 1 else pa.concat_batches(parts)
