"""The bytes of one part from the start on, unpacked.

ISA-L's gzip and Arrow's zstd streams read several members or frames in a row, verify checksums and notice a
stream that breaks off (`zstandard`'s reader takes the end of the file for the end of the stream).
"""

from __future__ import annotations

import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from io import FileIO
from typing import Any, ClassVar, cast

import pyarrow as pa
from isal.igzip import IGzipFile
from isal.isal_zlib import IsalError

from velostream.connectors.base import changed
from velostream.connectors.file.parts import Identity, Part, cannot
from velostream.errors import ConnectorError
from velostream.kernels import native

# RuntimeError: an encrypted member; NotImplementedError, a kind of it: a compression that zipfile lacks.
ERRORS: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    cast(type[Exception], IsalError),  # its stub has an instance
)
UNPACK_BYTES = 1 << 18


class ByteStream(ABC):
    """A part's bytes in order. Owned by one reader.

    `position` counts the bytes given so far. All methods raise ConnectorError with file and position.
    """

    # Whether reading may be tried again after an error; an unpacker would go on with wrong bytes.
    resumable: ClassVar[bool] = False

    def __init__(self, part: Part) -> None:
        self.part = part
        self.position = 0
        self._broken: ConnectorError | None = None

    def fill(self, view: memoryview) -> int:
        """Fill `view`; the count is lower only where the stream ends (or has nothing more at this time)."""
        if self._broken is not None:
            raise self._broken
        done = 0
        while done < len(view):
            try:
                with native:
                    count = self._readinto(view[done:])
            except ERRORS as exc:
                error = self._failed(exc)
                if not self.resumable:
                    self._broken = error
                raise error from exc
            if count == 0:
                break
            done += count
            self.position += count
        return done

    def skip(self, count: int) -> None:
        """Go on by `count` bytes; a shorter stream is an error."""
        scratch = memoryview(bytearray(min(count, 1 << 20)))
        while count:
            step = min(count, len(scratch))
            done = self.fill(scratch[:step])
            if done < step:
                end = self.position
                raise changed(self.part.name, f"it ends at byte {end}, {end + count - done} had been read")
            count -= step

    def _failed(self, exc: BaseException) -> ConnectorError:
        error = cannot("read", self.part.name, exc)
        return ConnectorError(f"{error.message} (after byte {self.position})")

    @property
    def input_position(self) -> int:
        """How much of `Part.size` has been read."""
        return self.position

    @abstractmethod
    def _readinto(self, view: memoryview) -> int: ...

    @abstractmethod
    def close(self) -> None: ...


class PlainStream(ByteStream):
    """An uncompressed file. Only the first `Part.size` bytes unless it is followed."""

    resumable = True

    def __init__(self, part: Part, follow: bool = False) -> None:
        super().__init__(part)
        self._follow = follow
        self._file = open_file(part)

    def _readinto(self, view: memoryview) -> int:
        if self._follow:
            return int(self._file.readinto(view) or 0)
        left = self.part.size - self.position
        count = int(self._file.readinto(view[:left]) or 0) if left else 0
        if count == 0 and left:
            raise EOFError(f"the file had {self.part.size} bytes and has shrunk")
        return count

    def skip(self, count: int) -> None:
        if count > os.fstat(self._file.fileno()).st_size:
            return super().skip(count)  # which says where the file ends
        self._file.seek(count, os.SEEK_CUR)
        self.position += count

    def available(self) -> int:
        """How many bytes a followed file has beyond those read."""
        return max(0, os.fstat(self._file.fileno()).st_size - self.position)

    def check_growing(self) -> None:
        """Raises ConnectorError when the followed file was truncated, replaced or removed."""
        try:
            status = os.stat(self.part.path)
        except OSError as exc:
            raise self._failed(exc) from exc
        if Identity.of(status) != self.part.identity:
            raise replaced(self.part)
        if status.st_size < self.position:
            raise ConnectorError(
                f"'{self.part.path}' was truncated to {status.st_size} bytes, {self.position} had been read",
                hint="a followed file may only grow",
            )

    def close(self) -> None:
        self._file.close()


class UnpackedStream(ByteStream):
    """A gzip or zstd file: all its members or frames, one after the other."""

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        if part.size == 0:
            raise ConnectorError(f"'{part.path}' is empty, which is not a {part.codec} file")
        self._file = open_file(part)
        # ISA-L unpacks 2.0 GB/s where zlib, and so Arrow, does 0.75.
        self._stream: Any = (
            IGzipFile(fileobj=self._file, mode="rb")
            if part.codec == "gzip"
            else pa.CompressedInputStream(self._file, part.codec)
        )

    def _readinto(self, view: memoryview) -> int:
        # What is unpacked at once stays in the cache until it is copied.
        return int(self._stream.readinto(view[:UNPACK_BYTES]))

    @property
    def input_position(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._stream.close()
        self._file.close()


class MemberStream(ByteStream):
    """A member of a zip archive; its checksum is verified at its end."""

    def __init__(self, part: Part) -> None:
        super().__init__(part)
        assert part.member is not None
        try:
            self._archive = zipfile.ZipFile(part.path)
        except ERRORS as exc:
            raise self._failed(exc) from exc
        try:
            self._file: Any = self._archive.open(part.member)
        except ERRORS as exc:
            self._archive.close()
            raise self._failed(exc) from exc

    def _readinto(self, view: memoryview) -> int:
        return int(self._file.readinto(view))

    def close(self) -> None:
        self._file.close()
        self._archive.close()


def open_stream(part: Part, follow: bool = False) -> ByteStream:
    """The bytes of `part`; `follow` reads past the size that it had."""
    if part.codec == "none":
        return PlainStream(part, follow)
    return MemberStream(part) if part.codec == "zip" else UnpackedStream(part)


def open_file(part: Part) -> FileIO:
    """The part's file, unbuffered; ConnectorError when it is gone or another has taken its place."""
    try:
        file = open(part.path, "rb", buffering=0)
    except OSError as exc:
        raise cannot("read", part.path, exc) from exc
    if Identity.of(os.fstat(file.fileno())) != part.identity:
        file.close()
        raise replaced(part)
    return file


def replaced(part: Part) -> ConnectorError:
    return ConnectorError(f"'{part.path}' was replaced by another file while it was being read")
