"""Bytes of a block that are still in their file."""

from __future__ import annotations

import os
from io import FileIO

from velostream.errors import ConnectorError
from velostream.kernels import native


class FileRange:
    """The `size` bytes of an open file from `offset` on: what a decoder reads by and by, not as a whole.

    A slice of it is read anew each time; that is for records that are looked at again. Owns the file. Used by
    one thread at a time.
    """

    __slots__ = ("_file", "_whole", "descriptor", "offset", "path", "size")

    def __init__(self, file: FileIO, path: str, offset: int, size: int) -> None:
        self._file = file
        self._whole: memoryview | None = None
        self.descriptor = file.fileno()
        self.path = path
        self.offset = offset
        self.size = size

    def close(self) -> None:
        """May be called twice."""
        self._file.close()

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, span: slice) -> memoryview:
        """Raises ConnectorError."""
        start, stop, _ = span.indices(self.size)
        view = memoryview(bytearray(max(0, stop - start)))
        done = 0
        while done < len(view):
            try:
                with native:
                    count = os.preadv(self.descriptor, [view[done:]], self.offset + start + done)
            except OSError as exc:
                raise self.failure(exc) from exc
            if count == 0:
                raise self.failure(EOFError())
            done += count
        return view

    def __bytes__(self) -> bytes:
        return bytes(self.whole())

    def whole(self) -> memoryview:
        """All of it, read once."""
        if self._whole is None:
            self._whole = self[:]
        return self._whole

    def failure(self, exc: OSError | EOFError) -> ConnectorError:
        """What to raise when it cannot be read, or ends before it should."""
        if isinstance(exc, EOFError):
            return shrunk(self.path, self.offset + self.size, os.fstat(self.descriptor).st_size)
        reason = exc.strerror or type(exc).__name__
        return ConnectorError(f"cannot read '{self.path}': {reason[:1].lower()}{reason[1:]}")


def shrunk(path: str, size: int, now: int) -> ConnectorError:
    """The error of a file that had `size` bytes or more and has fewer."""
    return ConnectorError(f"'{path}' had {size} bytes and has shrunk to {now} while it was being read")
