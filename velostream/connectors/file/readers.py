"""Cuts a part into blocks: by byte ranges that lanes read side by side, or in sequence at record ends."""

from __future__ import annotations

import os
import time

import numpy as np

from velostream.connectors.base import Block, BlockReader, BytesBlock, Limits
from velostream.connectors.file.parts import Part, cannot
from velostream.connectors.file.streams import ByteStream, PlainStream, open_file
from velostream.errors import ConnectorError, FormatError
from velostream.formats.base import Splitter

NEWLINE = 10
# Read beyond a range in the same call, for the end of its last record.
LOOK_AHEAD_BYTES = 4096
# What a reader of exactly n records asks the file for at once.
RECORDS_CHUNK_BYTES = 1 << 18
WAIT_SECONDS = 0.05


class RangeBlock(Block):
    """The records that begin in the bytes `offset` to `next_offset` of a plain file.

    `load` opens the file anew (10 µs for 4 MiB), so that no descriptor outlives its reader. A record longer
    than `max_record` bytes is given cut to one more than that, which the decoder reports as too long.
    """

    __slots__ = ("_first", "_max_record", "_part")

    def __init__(self, part: Part, first: int, max_record: int, offset: int, next_offset: int) -> None:
        super().__init__(offset, next_offset, next_offset - offset)
        self._part = part
        self._first = first
        self._max_record = max_record

    def load(self) -> memoryview:
        """The block's records, the last one whole though it ends beyond the range; empty when none begins
        here. Uses `np.empty`, which unlike bytearray does not clear the memory first."""
        begin = max(self.offset, self._first)
        if begin >= self.next_offset:
            return memoryview(b"")
        # The byte before says whether a record begins exactly at `begin`.
        back = begin - 1 if begin > self._first else begin
        size = min(self.next_offset + LOOK_AHEAD_BYTES, self._part.size) - back
        with open_file(self._part) as file:
            view = self._pread(file.fileno(), back, np.empty(size, dtype=np.uint8).data, 0)
            inside = self.next_offset - back
            start = 0 if back == begin else _find(view, 0, inside) + 1
            if back != begin and (start == 0 or start >= inside):
                return memoryview(b"")
            self.origin = back + start
            # A record that ends with the range's last byte needs nothing from beyond it.
            last = max(start, _rfind(view, start, inside - 1) + 1)
            searched = inside - 1
            while True:
                end = _find(view, searched, len(view)) + 1
                if end or back + len(view) >= self._part.size:
                    end = end or len(view)
                    break
                if len(view) - last > self._max_record:
                    end = len(view)
                    break
                searched = len(view)
                size = min(back + 2 * len(view), self._part.size) - back
                longer = np.empty(size, dtype=np.uint8).data
                longer[:searched] = view
                view = self._pread(file.fileno(), back + searched, longer, searched)
        if end - last > self._max_record + 1:
            end = last + self._max_record + 1
        return view[start:end]

    def _pread(self, descriptor: int, offset: int, view: memoryview, done: int) -> memoryview:
        """Read the file's bytes from `offset` on into `view` from `done` on."""
        while done < len(view):
            try:
                count = os.preadv(descriptor, [view[done:]], offset)
            except OSError as exc:
                raise cannot("read", self._part.path, exc) from exc
            if count == 0:
                raise ConnectorError(
                    f"'{self._part.path}' had {self._part.size} bytes and has shrunk to {offset} "
                    "while it was being read"
                )
            done += count
            offset += count
        return view


def _find(view: memoryview, start: int, stop: int) -> int:
    """The index of the first newline in `view[start:stop]`, or -1."""
    step = 256
    while start < stop:
        at = bytes(view[start : min(start + step, stop)]).find(NEWLINE)
        if at >= 0:
            return start + at
        start += step
        step = min(step * 4, 1 << 16)
    return -1


def _rfind(view: memoryview, start: int, stop: int) -> int:
    """The index of the last newline in `view[start:stop]`, or -1."""
    step = 256
    while start < stop:
        begin = max(start, stop - step)
        at = bytes(view[begin:stop]).rfind(NEWLINE)
        if at >= 0:
            return begin + at
        stop = begin
        step = min(step * 4, 1 << 16)
    return -1


class RangeReader(BlockReader):
    """Deals out the byte ranges of a plain file whose records end at newlines, reading nothing itself.

    `first` is where the first record begins. The file's size is the one it had when it was found.
    """

    def __init__(self, part: Part, first: int, max_record: int, limits: Limits, offset: int) -> None:
        self._part = part
        self._first = first
        self._max_record = max_record
        self._max_bytes = limits.max_bytes
        self._offset = offset

    def read(self) -> Block | None:
        offset = self._offset
        if offset >= self._part.size:
            return None
        self._offset = min(offset + self._max_bytes, self._part.size)
        return RangeBlock(self._part, self._first, self._max_record, offset, self._offset)


class StreamReader(BlockReader):
    """Reads a stream in order and cuts it where the format's splitter says that a record ends.

    What follows the cut is carried over. A followed stream (`poll_us` not None) never ends: what stands
    behind its last record end waits for the rest, and an empty block says that there is nothing new.

    A record longer than `max_record` bytes: where records end at newlines it is given cut to one byte more
    than that (the decoder reports it as too long) and skipped to its newline; elsewhere its end cannot be
    found without holding all of it, and FormatError names its position.
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
        poll_us: int | None = None,
    ) -> None:
        self._stream = stream
        self._splitter = splitter
        self._records = limits.records
        self._chunk = RECORDS_CHUNK_BYTES if limits.records else limits.max_bytes
        self._offset = offset
        self._splittable = splittable
        self._max_record = max_record
        self._poll_us = poll_us
        self._poll_at = 0.0
        self._input_position = 0
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

    def read(self) -> Block | None:
        starved = False
        while True:
            block = self._next(starved)
            if block is not None:
                return block
            if self._ended:
                return None
            if starved or time.monotonic() < self._poll_at:
                return self._wait(starved)
            starved = not self._read_more() and self._poll_us is not None

    def _next(self, starved: bool) -> Block | None:
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

    def _give(self, data: memoryview | bytes, length: int) -> Block:
        """A block of `data`, which stands for the first `length` bytes of the rest."""
        block = BytesBlock(data, self._offset, self._offset + length)
        position = self._stream.input_position
        block.input_bytes = position - self._input_position
        self._input_position = position
        self._offset += length
        self._rest = self._rest[length:]
        return block

    def _end_oversized(self, begin: int, head: bytes) -> Block | None:
        """The block of the record that begins with `head` at byte `begin`, when its end has been read."""
        end = _find(self._rest, 0, len(self._rest)) + 1
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
        """Append to the rest; False when the stream gave less than was asked."""
        held = len(self._rest)
        # A rest without a record end doubles, so that finding its end costs no more than reading it.
        room = self._chunk - held if held < self._chunk else held
        buffer = np.empty(held + room, dtype=np.uint8).data
        buffer[:held] = self._rest
        count = self._stream.fill(buffer[held:])
        self._rest = buffer[: held + count]
        self._ended = count < room and self._poll_us is None
        return count == room

    def _wait(self, starved: bool) -> Block:
        """An empty block after a short sleep, for a followed stream with nothing new."""
        assert self._poll_us is not None and isinstance(self._stream, PlainStream)
        if starved:
            self._stream.check_growing()
            self._poll_at = time.monotonic() + self._poll_us / 1e6
        time.sleep(min(WAIT_SECONDS, max(0.0, self._poll_at - time.monotonic())))
        return BytesBlock(b"", self._offset, self._offset)

    def close(self) -> None:
        self._stream.close()
