"""Reads a part in sequence and cuts it into blocks at record ends."""

from __future__ import annotations

import time
from threading import Condition

from velostream.connectors.base import Block, BlockReader, BytesBlock, Limits
from velostream.connectors.file.buffers import BufferPool
from velostream.connectors.file.ranges import NEWLINE
from velostream.connectors.file.streams import ByteStream, PlainStream
from velostream.errors import ConnectorError, FormatError
from velostream.formats.base import Splitter

# What a reader of exactly n records asks the file for at once.
RECORDS_CHUNK_BYTES = 1 << 18
# The longest that a read waits for something new.
WAIT_SECONDS = 0.05
# A followed file in which lines keep coming is read no more often than this: a block costs half a
# millisecond of CPU however few records it has.
FLOWING_SECONDS = 0.002
SHORTEST_SECONDS = 0.001


def find_newline(view: memoryview, start: int, stop: int) -> int:
    """The index of the first newline in `view[start:stop]`, or -1."""
    step = 256
    while start < stop:
        at = bytes(view[start : min(start + step, stop)]).find(NEWLINE)
        if at >= 0:
            return start + at
        start += step
        step = min(step * 4, 1 << 16)
    return -1


class StreamReader(BlockReader):
    """Reads a stream in order and cuts it where the format's splitter says that a record ends.

    What follows the cut is carried over. A followed stream (`poll_us` not None) never ends: what stands
    behind its last record end waits for the rest, and an empty block says that there is nothing new.

    A record longer than `max_record` bytes: where records end at newlines it is given cut to one byte more
    than that (the decoder reports it as too long) and skipped to its newline; elsewhere its end cannot be
    found without holding all of it, and FormatError names its position.

    `read` may be called again after an error: what was read before it is kept.
    """

    def __init__(
        self,
        stream: ByteStream,
        splitter: Splitter,
        limits: Limits,
        offset: int,
        *,
        splittable: bool,
        max_record: int,
        buffers: BufferPool,
        poll_us: int | None = None,
    ) -> None:
        self._stream = stream
        self._buffers = buffers
        self._splitter = splitter
        self._records = limits.records
        self._chunk = RECORDS_CHUNK_BYTES if limits.records else limits.max_bytes
        self._offset = offset
        self._splittable = splittable
        self._max_record = max_record
        self._poll_seconds = None if poll_us is None else poll_us / 1e6
        # Of a followed stream (time.monotonic): when it may be read again, when it is to be checked again,
        # and when it last had something new.
        self._read_at = self._check_at = self._heard = 0.0
        self._input_position = 0
        self._length = 0
        # Bytes that have been read and not been given out; they begin at a record's start, except while
        # `_oversized` holds the head of a record whose end is still looked for.
        self._rest = memoryview(b"")
        self._oversized: tuple[int, bytes] | None = None
        self._ended = False
        try:
            stream.skip(offset)
        except ConnectorError:
            stream.close()
            raise

    @property
    def exhausted(self) -> bool:
        """Whether the stream has ended and all of it has been given."""
        return self._ended and not self._rest and self._oversized is None

    @property
    def blocks_left(self) -> int:
        """How many more blocks are likely to come: by the size of the last one, and by how much the file's
        bytes have been unpacked to so far."""
        stream = self._stream
        unpacked = stream.position / stream.input_position if stream.position else 1
        left = (stream.part.size - stream.input_position) * unpacked + len(self._rest)
        return int(left / (self._length or self._chunk))

    @property
    def offset(self) -> int:
        """Where the next block begins."""
        return self._offset

    def read(self) -> BytesBlock | None:
        starved = False
        while True:
            block = self._next(starved)
            if block is not None:
                return block
            if self._ended:
                return None
            if starved and not self._grown():
                return BytesBlock(b"", self._offset, self._offset)
            starved = not self._read_more()

    def _next(self, starved: bool) -> BytesBlock | None:
        """A block of what has been read, or None when that takes more."""
        if self._oversized is not None:
            return self._end_oversized(*self._oversized)
        length = self._cut(starved)
        if length:
            return self._give(self._rest[:length], length)
        if self._ended:
            return None
        whole = self._splitter.take(self._rest, self._records) if self._records else 0
        if len(self._rest) - whole <= self._max_record:
            return None
        if whole:
            return self._give(self._rest[:whole], whole)
        if not self._splittable:
            raise FormatError(
                f"the record at byte {self._offset} of '{self._stream.part.name}' "
                f"is longer than {self._max_record} bytes",
                hint="close the quote that was left open, or raise max_record_bytes",
            )
        self._oversized = self._offset, bytes(self._rest[: self._max_record + 1])
        return self._end_oversized(*self._oversized)

    def _cut(self, starved: bool) -> int:
        """The length of the next block within the rest; 0 when more must be read first."""
        rest = self._rest
        if not rest:
            return 0
        if not self._records:
            enough = self._ended or starved or len(rest) >= self._chunk
            return self._splitter.cut(rest, self._ended) if enough else 0
        length = self._splitter.take(rest, self._records)
        # `take` gives fewer records when there are fewer: there are enough when one less is shorter.
        complete = length > (self._splitter.take(rest, self._records - 1) if self._records > 1 else 0)
        if complete or starved:
            return length
        return len(rest) if self._ended else 0

    def _give(self, data: memoryview | bytes, length: int) -> BytesBlock:
        """A block of `data`, which stands for the first `length` bytes of the rest."""
        block = BytesBlock(data, self._offset, self._offset + length)
        position = self._stream.input_position
        block.input_bytes = position - self._input_position
        self._input_position = position
        self._offset += length
        self._length = length
        self._rest = self._rest[length:]
        return block

    def _end_oversized(self, begin: int, head: bytes) -> BytesBlock | None:
        """The block of the record that begins with `head` at byte `begin`, when its end has been read."""
        end = find_newline(self._rest, 0, len(self._rest)) + 1
        if not end and not self._ended:
            # Nothing but its length is needed of the record's middle.
            self._offset += len(self._rest)
            self._rest = memoryview(b"")
            return None
        self._oversized = None
        length = end or len(self._rest)
        block = self._give(head, length)
        block.offset = block.origin = begin
        return block

    def _read_more(self) -> bool:
        """Append to the rest; False when a followed stream has given all that it has at this time."""
        held = len(self._rest)
        # A rest without a record end doubles, so that finding its end costs no more than reading it.
        room = self._chunk - held if held < self._chunk else held
        more = True
        if self._poll_seconds is not None:
            time.sleep(max(0.0, self._read_at - time.monotonic()))
            there = self._followed.available()
            if there == 0:
                return False
            more, room = there > room, min(there, room)
            self._heard = time.monotonic()
            self._read_at = self._heard + min(FLOWING_SECONDS, self._poll_seconds)
        buffer = self._buffers.take(held + room)
        buffer[:held] = self._rest
        begun = self._stream.position
        try:
            self._stream.fill(buffer[held:])
        finally:
            count = self._stream.position - begun
            self._rest = buffer[: held + count]
        self._ended = count < room and self._poll_seconds is None
        return more

    @property
    def _followed(self) -> PlainStream:
        assert isinstance(self._stream, PlainStream)
        return self._stream

    def _grown(self) -> bool:
        """Wait until a followed stream has something new; False when it has not for `WAIT_SECONDS`.

        It is looked at after an eighth of its silence so far, so that waiting adds little to any delay and a
        silent file costs little; at least every `poll_us`.
        """
        assert self._poll_seconds is not None
        now = time.monotonic()
        until = now + WAIT_SECONDS
        if now >= self._check_at:
            self._followed.check_growing()
            self._check_at = now + self._poll_seconds
        while not self._followed.available():
            now = time.monotonic()
            if now >= until:
                return False
            pause = min((now - self._heard) / 8, self._poll_seconds)
            time.sleep(min(max(pause, SHORTEST_SECONDS), until - now))
        return True

    def close(self) -> None:
        self._stream.close()


class StreamBlock(Block):
    """What comes next in a stream, read and cut when it is loaded; `size` is what it may have at most."""

    __slots__ = ("_reader",)

    in_order = True

    def __init__(self, reader: InOrderReader, size: int) -> None:
        super().__init__(0, 0, size)
        self._reader = reader

    def load(self) -> memoryview:
        """The records; empty, and at the stream's end, when that came before. Sets all positions."""
        block = self._reader.next_block()
        self.offset, self.next_offset, self.origin = block.offset, block.next_offset, block.origin
        self.input_bytes = block.input_bytes
        return block.load()


class InOrderReader(BlockReader):
    """Deals out blocks of a bounded stream, which are read and unpacked by whoever loads them.

    So all work on a block's bytes is done in lanes: while one decodes a block, another unpacks the next.
    How many blocks there will be is not known: those dealt beyond the end load empty. Few are, since no more
    are dealt ahead than two a lane, and than are likely to come; `read` waits for loads meanwhile.
    """

    def __init__(self, stream: StreamReader, limits: Limits) -> None:
        self._stream = stream
        self._size = limits.max_bytes
        self._ahead = 2 * limits.lanes
        self._dealt = 0
        self._allowed = 1
        self._ended = False
        self._loaded = Condition()

    def read(self) -> Block | None:
        with self._loaded:
            if not self._loaded.wait_for(lambda: self._ended or self._dealt < self._allowed, WAIT_SECONDS):
                return BytesBlock(b"", 0, 0)
            if self._ended:
                return None
            self._dealt += 1
        return StreamBlock(self, self._size)

    def next_block(self) -> BytesBlock:
        """The next block of the stream; an empty one at its end. One call at a time. After an error the same
        block is still to come."""
        block = self._stream.read() or BytesBlock(b"", self._stream.offset, self._stream.offset)
        with self._loaded:
            self._dealt -= 1
            self._ended = self._stream.exhausted
            self._allowed = min(self._ahead, 1 + self._stream.blocks_left)
            self._loaded.notify()
        return block

    def close(self) -> None:
        self._stream.close()
