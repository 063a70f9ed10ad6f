"""A file that one job appends to: how far it has come can be marked, and gone back to."""

from __future__ import annotations

import fcntl
import os
import zlib
from dataclasses import dataclass
from io import FileIO
from typing import Any

from velostream.connectors.base import changed
from velostream.connectors.file.output import Output
from velostream.connectors.file.parts import cannot
from velostream.errors import ConnectorError
from velostream.faults import fault
from velostream.kernels import native

# By so many bytes in front of a mark a file is known again.
TAIL_BYTES = 256
COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a file had been written: its length, and the CRC-32 of its last TAIL_BYTES bytes (or fewer)."""

    length: int
    tail: int

    @classmethod
    def of(cls, length: int, tail: bytes) -> Mark:
        return cls(length, zlib.crc32(tail))

    def check(self, file: FileIO, path: str) -> bytes:
        """The bytes in front of the mark. Raises ConnectorError when they are not those of the mark."""
        size = os.fstat(file.fileno()).st_size
        if size < self.length:
            raise changed(path, f"it has {size} bytes, {self.length} had been committed")
        start = max(0, self.length - TAIL_BYTES)
        tail = os.pread(file.fileno(), self.length - start, start)
        if zlib.crc32(tail) != self.tail:
            raise changed(path, f"the bytes before byte {self.length} are not those that were committed")
        return tail


class AppendedFile(Output):
    """The file at `place`, which no other process may append to at the same time.

    Begins empty; with `keep`, behind what stands there; with `mark`, there: what stands behind the mark is
    taken back. `path` is what errors call it. A `write` that fails leaves the file as it was, so that it can
    be repeated. `sync` may run in another thread meanwhile.
    """

    def __init__(self, path: str, place: str, *, keep: bool = False, mark: Mark | None = None) -> None:
        try:
            super().__init__(path, _open_alone(path, place, create=mark is None))
        except FileNotFoundError as exc:
            if mark is None:
                raise cannot("write", path, exc) from exc
            raise gone(place, mark.length) from exc
        except OSError as exc:
            raise cannot("write", path, exc) from exc
        self.place = place
        self._torn = False
        self._lost: ConnectorError | None = None
        # How much of it is durable, and whether its name is.
        self._synced = 0
        self._named = False
        try:
            size = os.fstat(self._file.fileno()).st_size if keep else 0
            if mark is None:
                start = max(0, size - TAIL_BYTES)
                self._tail = os.pread(self._file.fileno(), size - start, start)
                self.length = size
            else:
                self._tail = mark.check(self._file, place)
                self.length = self._synced = mark.length
            os.ftruncate(self._file.fileno(), self.length)
        except OSError as exc:
            self._file.close()
            raise cannot("write", path, exc) from exc
        except ConnectorError:
            self._file.close()
            raise

    def write(self, data: Any) -> int:
        self.mend()
        try:
            count = super().write(data)
        except ConnectorError:
            self._torn = True
            self.mend()
            raise
        self.length += count
        self._tail = (self._tail + bytes(memoryview(data).cast("B")[-TAIL_BYTES:]))[-TAIL_BYTES:]
        return count

    def mend(self) -> None:
        """Take back what a failed write has left."""
        if not self._torn:
            return
        try:
            os.ftruncate(self._file.fileno(), self.length)
        except OSError as exc:
            raise self._failed("truncate", exc, self.length) from exc
        self._torn = False

    def take_back(self, length: int) -> None:
        """Take back what was written behind the first `length` bytes; nothing is written after that."""
        self._torn, self.length = self._torn or length < self.length, length
        self.mend()

    def mark(self) -> Mark:
        """How far it has come."""
        return Mark.of(self.length, self._tail)

    def sync(self) -> None:
        """Make what has been written durable."""
        if self._lost is not None:
            raise self._lost
        length = self.length
        if self._named and length == self._synced:
            return
        fault("sink.before_fsync")
        try:
            with native:
                os.fsync(self._file.fileno())
                if not self._named:
                    sync_folder(self.place)
        except OSError as exc:
            # The kernel says so once, then takes the lost pages for written: another try would prove nothing.
            failed = self._failed("make durable", exc, length)
            self._lost = ConnectorError(
                failed.message, hint="make room if that is it, and start the job again from its last commit"
            )
            raise self._lost from exc
        fault("sink.after_fsync")
        self._synced, self._named = length, True

    def close(self, complete: bool = True) -> None:
        if not self._file.closed:
            try:
                self.mend()
            finally:
                super().close()


def _open_alone(path: str, place: str, create: bool) -> FileIO:
    """The file at `place`, for reading and appending, locked. Raises OSError, ConnectorError."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags if create else flags & ~os.O_CREAT, 0o666)

    while True:
        file = FileIO(place, "a+", opener=opener)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ConnectorError(
                f"'{path}' is being written by another job",
                hint="wait until that one has ended, or give this one another path",
            ) from None
        except OSError:
            # A file system without locks: nothing tells one job of the other.
            return file
        try:
            if os.path.samestat(os.stat(place), os.fstat(file.fileno())):
                return file
        except FileNotFoundError:
            pass
        # The job that had it has just finished and given it its final name.
        file.close()


def sync_folder(path: str) -> None:
    """Make the names in the folder of `path` durable. Raises OSError."""
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def gone(path: str, length: int) -> ConnectorError:
    """The error of a file that was committed, and is no more."""
    return changed(path, f"it is gone, {length} bytes had been committed")


def copy_bytes(source: str, length: int, target: AppendedFile) -> None:
    """Append the first `length` bytes of the file at `source`. Raises ConnectorError."""
    try:
        with open(source, "rb", buffering=0) as file:
            while length:
                data = file.read(min(length, COPY_BYTES))
                if not data:
                    raise changed(source, f"it ends {length} bytes too early")
                target.write(data)
                length -= len(data)
    except OSError as exc:
        raise cannot("read", source, exc) from exc


def remove(path: str) -> None:
    """Remove a file, if it is there. Raises ConnectorError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        raise cannot("remove", path, exc) from exc
