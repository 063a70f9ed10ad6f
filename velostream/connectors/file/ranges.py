"""Cuts a plain file into byte ranges that lanes read side by side."""

from __future__ import annotations

import os

from velostream.connectors.base import Block, BlockReader, Limits
from velostream.connectors.file.buffers import BufferPool
from velostream.connectors.file.parts import Part, cannot
from velostream.connectors.file.streams import open_file
from velostream.errors import ConnectorError
from velostream.kernels import last_line, native

NEWLINE = 10
# Read beyond a range in the same call, for the end of its last record.
LOOK_AHEAD_BYTES = 4096
# A range is what is left, divided by so many times the lanes, within these bounds.
SHARES = 4
LEAST_RANGE_BYTES = 1 << 20


class RangeBlock(Block):
    """The records that begin in the bytes `offset` to `next_offset` of a plain file.

    `load` opens the file anew (10 µs for 4 MiB), so that no descriptor outlives its reader. A record longer
    than `max_record` bytes is given cut to one more than that, which the decoder reports as too long.
    """

    __slots__ = ("_buffers", "_first", "_max_record", "_part")

    def __init__(
        self, part: Part, first: int, max_record: int, offset: int, next_offset: int, buffers: BufferPool
    ) -> None:
        super().__init__(offset, next_offset, next_offset - offset)
        self._part = part
        self._buffers = buffers
        self._first = first
        self._max_record = max_record

    def load(self) -> memoryview:
        """The block's records, the last one whole though it ends beyond the range; empty when none begins
        here."""
        begin = max(self.offset, self._first)
        if begin >= self.next_offset:
            return memoryview(b"")
        # The byte before says whether a record begins exactly at `begin`.
        back = begin - 1 if begin > self._first else begin
        size = min(self.next_offset + LOOK_AHEAD_BYTES, self._part.size) - back
        with open_file(self._part) as file:
            view = self._pread(file.fileno(), back, self._buffers.take(size), 0)
            inside = self.next_offset - back
            start = 0 if back == begin else find_newline(view, 0, inside) + 1
            if back != begin and (start == 0 or start >= inside):
                return memoryview(b"")
            self.origin = back + start
            # A record that ends with the range's last byte needs nothing from beyond it.
            last = start + last_line(view[start : max(start, inside - 1)])
            searched = inside - 1
            while True:
                end = find_newline(view, searched, len(view)) + 1
                if end or back + len(view) >= self._part.size:
                    end = end or len(view)
                    break
                if len(view) - last > self._max_record:
                    end = len(view)
                    break
                searched = len(view)
                size = min(back + 2 * len(view), self._part.size) - back
                longer = self._buffers.take(size)
                longer[:searched] = view
                view = self._pread(file.fileno(), back + searched, longer, searched)
        if end - last > self._max_record + 1:
            end = last + self._max_record + 1
        return view[start:end]

    def _pread(self, descriptor: int, offset: int, view: memoryview, done: int) -> memoryview:
        """Read the file's bytes from `offset` on into `view` from `done` on."""
        while done < len(view):
            try:
                with native:
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
        buffers: BufferPool,
        bytes_behind: int = 0,
    ) -> None:
        self._part = part
        self._first = first
        self._max_record = max_record
        self._limits = limits
        self._offset = offset
        self._buffers = buffers
        self._bytes_behind = bytes_behind

    def read(self) -> Block | None:
        offset, size = self._offset, self._part.size
        if offset >= size:
            return None
        length = self._limits.max_bytes
        if self._limits.lanes > 1:
            share = (size - offset + self._bytes_behind) // (SHARES * self._limits.lanes)
            length = min(length, max(LEAST_RANGE_BYTES, share))
        self._offset = min(offset + length, size)
        return RangeBlock(self._part, self._first, self._max_record, offset, self._offset, self._buffers)
