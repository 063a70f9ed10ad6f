"""Cuts a plain file into byte ranges that lanes read side by side."""

from __future__ import annotations

import os
from contextlib import ExitStack
from io import FileIO

from velostream.connectors.base import Block, BlockReader, Limits
from velostream.connectors.file.parts import Part, cannot
from velostream.connectors.file.streams import open_file
from velostream.formats.file_range import FileRange, shrunk

NEWLINE = 10
# Read at first where the end of a record is looked for.
LOOK_AHEAD_BYTES = 4096
# A range is never in memory as a whole, so it is as long as so many blocks that are.
RANGE_BLOCKS = 4
# A range is what is left, divided by so many times the lanes, within these bounds.
SHARES = 2
LEAST_RANGE_BYTES = 1 << 20


class RangeBlock(Block):
    """The records that begin in the bytes `offset` to `next_offset` of a plain file.

    `load` opens the file anew (10 µs), so that no descriptor outlives the block. A record that goes on for
    more than `max_record` bytes behind the range is cut one byte later: the decoder reports it as too long.
    """

    __slots__ = ("_first", "_max_record", "_part")

    def __init__(self, part: Part, first: int, max_record: int, offset: int, next_offset: int) -> None:
        super().__init__(offset, next_offset, max(1, (next_offset - offset) // RANGE_BLOCKS))
        self.input_bytes = next_offset - offset
        self._part = part
        self._first = first
        self._max_record = max_record

    def load(self) -> memoryview | FileRange:
        """The block's records, the last one whole though it ends beyond the range; empty when none begins
        here."""
        begin = max(self.offset, self._first)
        with ExitStack() as stack:
            file = stack.enter_context(open_file(self._part))
            # A record begins where the one before has ended, if that is in this range.
            if begin > self._first:
                begin = _behind_newline(file, self._part, begin - 1, self.next_offset - 1)
            if begin < 0 or begin >= self.next_offset:
                return memoryview(b"")
            stop = min(self._part.size, self.next_offset + self._max_record + 1)
            end = _behind_newline(file, self._part, self.next_offset - 1, stop)
            stack.pop_all()
        self.origin = begin
        return FileRange(file, self._part.path, begin, (stop if end < 0 else end) - begin)


def record_start(part: Part, offset: int) -> int:
    """Where the first record of a plain file begins that does so at `offset` or behind it.

    `offset` is above the first record's. Raises ConnectorError.
    """
    with open_file(part) as file:
        start = _behind_newline(file, part, offset - 1, part.size)
    return part.size if start < 0 else start


def _behind_newline(file: FileIO, part: Part, start: int, stop: int) -> int:
    """Where the first newline among the bytes `start` to `stop` of the file ends, or -1."""
    step = LOOK_AHEAD_BYTES
    while start < stop:
        try:
            data = os.pread(file.fileno(), min(step, stop - start), start)
        except OSError as exc:
            raise cannot("read", part.path, exc) from exc
        if not data:
            raise shrunk(part.path, part.size, os.fstat(file.fileno()).st_size)
        at = data.find(NEWLINE)
        if at >= 0:
            return start + at + 1
        start += len(data)
        step = min(step * 4, 1 << 20)
    return -1


class RangeReader(BlockReader):
    """Deals out the byte ranges of a plain file whose records end at newlines, reading nothing itself.

    `first` is where the first record begins. The file's size is the one it had when it was found.

    With several lanes the ranges shrink towards the end of the source (guided self-scheduling), so that the
    lanes finish together; `bytes_behind` is what the source has behind this file.
    """

    def __init__(
        self,
        part: Part,
        first: int,
        max_record: int,
        limits: Limits,
        offset: int,
        bytes_behind: int = 0,
    ) -> None:
        self._part = part
        self._first = first
        self._max_record = max_record
        self._limits = limits
        self._offset = offset
        self._bytes_behind = bytes_behind

    def read(self) -> Block | None:
        offset, size = self._offset, self._part.size
        if offset >= size:
            return None
        length = RANGE_BLOCKS * self._limits.max_bytes
        if self._limits.lanes > 1:
            share = (size - offset + self._bytes_behind) // (SHARES * self._limits.lanes)
            length = min(length, max(LEAST_RANGE_BYTES, share))
        self._offset = min(offset + length, size)
        return RangeBlock(self._part, self._first, self._max_record, offset, self._offset)
