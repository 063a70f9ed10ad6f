"""Blocks of a partition: record batches as they were fetched, unpacked in the lanes."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from velostream.connectors.base import Block, BlockReader, BytesBlock, Limits
from velostream.connectors.kafka.codecs import decompress
from velostream.connectors.kafka.fetching import Fetched
from velostream.connectors.kafka.messages import KafkaMessages
from velostream.connectors.kafka.queue import Queue
from velostream.errors import ConnectorError
from velostream.kernels import BatchHeader, CorruptBatch, MessageReader, read_headers

logger = logging.getLogger("velostream.kafka")

# The longest that a read waits for something new.
WAIT_SECONDS = 0.05


def unpack(pieces: Sequence[Fetched], one_line: bool) -> KafkaMessages:
    """The messages of what was fetched: checksums verified, decompressed, without those of aborted
    transactions and the broker's own marks. Raises CorruptBatch.

    `one_line`: newlines within values become carriage returns, for formats to which both are white space.
    """
    batches = [
        (header, piece) for piece in pieces for header in _visible(read_headers(piece.data), piece.aborted)
    ]
    reader = MessageReader(
        one_line=one_line,
        payload_bytes=sum(piece.size for piece in pieces),
        records=sum(header.records for header, _ in batches),
    )
    for header, piece in batches:
        reader.append(header, decompress(header, piece.data[header.payload]), piece.offset)
    return KafkaMessages(*reader.finish())


def _visible(headers: Sequence[BatchHeader], aborted: Sequence[tuple[int, int]]) -> Iterator[BatchHeader]:
    """The batches that have records to be read.

    `aborted` has producer and first offset of transactions that were aborted: from there on the producer's
    transactional batches are no records, until the mark that ends the transaction.
    """
    coming = deque(sorted(aborted, key=lambda transaction: transaction[1]))
    producers: set[int] = set()
    for header in headers:
        while coming and coming[0][1] <= header.base_offset:
            producers.add(coming.popleft()[0])
        if header.control:
            # Whatever it says, it ends its producer's transaction.
            producers.discard(header.producer_id)
        elif not (header.transactional and header.producer_id in producers):
            yield header


class KafkaBlock(Block):
    """What one or more fetches of a partition gave; `until` is the offset to stop before, or None."""

    __slots__ = ("_one_line", "_partition", "_pieces", "_until")

    def __init__(self, partition: str, pieces: Sequence[Fetched], until: int | None, one_line: bool) -> None:
        end = pieces[-1].next_offset
        size = sum(piece.size for piece in pieces)
        super().__init__(pieces[0].offset, end if until is None else min(end, until), size)
        self._partition = partition
        self._pieces = pieces
        self._until = until
        self._one_line = one_line

    def load(self) -> KafkaMessages:
        try:
            messages = unpack(self._pieces, self._one_line)
        except CorruptBatch as exc:
            raise ConnectorError(
                f"'{self._partition}' has a record batch that cannot be read: {exc}",
                hint="see whether the broker's disk is sound; start=offsets reads on behind it",
                final=True,
            ) from exc
        return messages if self._until is None else messages.until(self._until)


class MessagesBlock(Block):
    """Messages that are unpacked already."""

    __slots__ = ("_messages",)

    def __init__(self, messages: KafkaMessages, offset: int, next_offset: int) -> None:
        super().__init__(offset, next_offset, len(messages))
        self._messages = messages

    def load(self) -> KafkaMessages:
        return self._messages


class KafkaReader(BlockReader):
    """Reads one partition from `offset` to before `until` (None: for ever).

    A block is what lies ready, up to `limits.max_bytes` as fetched. With `limits.records` it is unpacked
    here, and cut; there are fewer where a fetch ends. `close_queue` is called once.
    """

    def __init__(
        self,
        partition: str,
        queue: Queue,
        offset: int,
        until: int | None,
        limits: Limits,
        one_line: bool,
        close_queue: Callable[[], None],
    ) -> None:
        self._partition = partition
        self._queue = queue
        self._offset = offset
        self._until = until
        self._limits = limits
        self._one_line = one_line
        self._close_queue: Callable[[], None] | None = close_queue
        self._cut: deque[Block] = deque()

    def read(self) -> Block | None:
        if self._cut:
            return self._cut.popleft()
        if self._until is not None and self._offset >= self._until:
            return None
        pieces = self._queue.take(self._limits.max_bytes, WAIT_SECONDS)
        if not pieces:
            return BytesBlock(b"", self._offset, self._offset)
        if pieces[0].offset != self._offset:
            logger.warning(
                "'%s': offset %d is gone; by auto.offset.reset reading goes on at %d",
                self._partition,
                self._offset,
                pieces[0].offset,
            )
        block = KafkaBlock(self._partition, pieces, self._until, self._one_line)
        self._offset = block.next_offset
        if not self._limits.records:
            return block
        self._cut.extend(_cut(block, self._limits.records))
        return self._cut.popleft()

    def close(self) -> None:
        if self._close_queue is not None:
            self._close_queue()
            self._close_queue = None


def _cut(block: KafkaBlock, records: int) -> Iterator[Block]:
    """Blocks of so many records; at least one, since a block moves the position also without records."""
    messages = block.load()
    offset = block.offset
    for first in range(0, max(1, messages.count), records):
        end = min(first + records, messages.count)
        next_offset = int(messages.offsets[end]) if end < messages.count else block.next_offset
        piece = MessagesBlock(messages.span(first, end), offset, next_offset)
        piece.size = max(1, piece.size)
        yield piece
        offset = next_offset
