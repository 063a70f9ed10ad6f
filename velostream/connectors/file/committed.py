"""Reads what a job has committed to its files, while it writes them or afterwards.

A file that is being written may end in rows that a restart takes back. How far it has been committed stands
beside it (`sidecar.py`), and that far a committed reader reads.
"""

from __future__ import annotations

import io
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from io import FileIO
from typing import Any, Generic, TypeVar

import pyarrow as pa
from isal.igzip import IGzipFile

from velostream.connectors.base import changed
from velostream.connectors.file.appended import Mark
from velostream.connectors.file.parquet_parts import Names, pattern_of
from velostream.connectors.file.parts import cannot
from velostream.connectors.file.sidecar import read_sidecar
from velostream.errors import ConnectorError

T = TypeVar("T")
POLL_SECONDS = 0.02
CHUNK_BYTES = 8 << 20


def committed(path: str | os.PathLike[str]) -> Committed[Any]:
    """A reader of the committed rows of a file sink: of its `path`, be it a file, a folder or a pattern.

    Text gives bytes, of Parquet come Arrow tables and batches.

    >>> committed("results.ndjson").epoch  # nothing has been committed there
    0
    """
    text = os.fspath(path)
    said = read_sidecar(text)
    pattern = pattern_of(text, "path") if said is None or said["format"] == "parquet" else None
    if pattern is not None or text.lower().endswith(".parquet") or (said or {}).get("format") == "parquet":
        return CommittedParquet(pattern or text)
    return CommittedText(text)


class Committed(ABC, Generic[T]):
    """What has been committed of one sink's output. All methods look anew; they raise ConnectorError."""

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def epoch(self) -> int:
        """The number of commits with rows so far; 0: nothing has been committed."""
        said = read_sidecar(self.path)
        return 0 if said is None else int(said["epoch"])

    @property
    def complete(self) -> bool:
        """Whether the job has come to the end of its input, so that there will be no more."""
        said = read_sidecar(self.path)
        return said is not None and bool(said["complete"])

    @abstractmethod
    def read(self) -> Any:
        """All rows that are committed now; an error where nothing is known to be."""

    def follow(self, timeout: float | None = None) -> Iterator[T]:
        """The rows in pieces, those to come as soon as they are committed; called again, it goes on behind
        the last piece.

        Ends when the job has come to the end of its input, or when for `timeout` seconds nothing was
        committed. Raises ConnectorError when rows that were given are no more: the job has begun afresh.
        """
        heard = time.monotonic()
        while True:
            said = read_sidecar(self.path)
            if said is not None:
                for piece in self._more(said):
                    yield piece
                    heard = time.monotonic()
                if said["complete"]:
                    return
            if timeout is not None and time.monotonic() - heard >= timeout:
                return
            time.sleep(POLL_SECONDS)

    @abstractmethod
    def _more(self, said: dict[str, Any]) -> Iterator[T]:
        """What the sidecar says that there is, and `_more` has not given yet."""

    def _said(self) -> dict[str, Any]:
        said = read_sidecar(self.path)
        if said is None:
            raise ConnectorError(
                f"nothing is known to be committed of '{self.path}'",
                hint="its job commits with delivery=exactly_once or at_least_once",
            )
        return said


class CommittedText(Committed[bytes]):
    """Text, unpacked. A piece ends where a line does."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        # What has been given: all in front of the mark, and so many bytes, unpacked, of what is behind it.
        self._given = Mark.of(0, b"")
        self._beyond = 0

    def read(self) -> bytes:
        return b"".join(CommittedText(self.path)._more(self._said()))

    def lines(self) -> list[bytes]:
        """`read`, by lines and without their ends: for NDJSON a record each."""
        return self.read().split(b"\n")[:-1]

    def _more(self, said: dict[str, Any]) -> Iterator[bytes]:
        with self._open(said) as file:
            if said["length"] < self._given.length:
                raise changed(self.path, f"{said['length']} bytes are committed, {self._given.length} were")
            self._given.check(file, self.path)
            at = 0
            for piece in _lines(file, self._given.length, said["length"], said["compression"]):
                fresh = piece[max(0, self._beyond - at) :]
                at += len(piece)
                if fresh:
                    self._beyond = at
                    yield fresh
        self._given, self._beyond = Mark(said["length"], said["tail"]), 0

    def _open(self, said: dict[str, Any]) -> FileIO:
        """The file that the sidecar tells of, under its hidden name, or the one that it got meanwhile."""
        mark = Mark(said["length"], said["tail"])
        folder, name = os.path.split(os.path.realpath(self.path))
        for place in dict.fromkeys((said["file"], name)):
            try:
                file = FileIO(os.path.join(folder, place))
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise cannot("read", self.path, exc) from exc
            try:
                mark.check(file, self.path)
            except ConnectorError:
                file.close()
                raise
            return file
        raise changed(self.path, f"it is gone, {mark.length} bytes had been committed")


class CommittedParquet(Committed[pa.RecordBatch]):
    """Rows as Arrow has them: those of finished files, and those that wait to become one."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._names = Names(path)
        # Files up to this number have been given, and so many rows of the next one.
        self._number = 0
        self._rows = 0

    def read(self) -> pa.Table:
        said = self._said()
        schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(said["schema"])))
        return pa.Table.from_batches(CommittedParquet(self.path)._more(said), schema=schema)

    def _more(self, said: dict[str, Any]) -> Iterator[pa.RecordBatch]:
        while True:
            try:
                yield from self._given_more(said)
                return
            except FileNotFoundError as exc:
                # What waited has become a file meanwhile.
                now = read_sidecar(self.path)
                if now is None or now == said:
                    raise changed(self.path, f"'{exc.filename}' is gone") from exc
                said = now
            except (OSError, pa.ArrowInvalid) as exc:
                raise cannot("read", self.path, exc) from exc

    def _given_more(self, said: dict[str, Any]) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        if said["parts"] < self._number:
            raise changed(self.path, f"{said['parts']} files are committed, {self._number} were")
        for number in self._names.numbers():
            if self._number < number <= said["parts"]:
                with pq.ParquetFile(self._names.shown(number)) as file:
                    yield from self._behind(file.iter_batches())
                self._number, self._rows = number, 0
        if said["rows"] > self._rows:
            with FileIO(self._names.spool(said["parts"] + 1)) as file:
                Mark(said["length"], said["tail"]).check(file, self.path)
                span = io.BufferedReader(_Span(file, 0, said["length"]))
                yield from self._behind(pa.ipc.open_stream(span))

    def _behind(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Those of a file's rows that have not been given."""
        skip = self._rows
        for batch in batches:
            left = batch.slice(min(skip, batch.num_rows))
            skip -= batch.num_rows - left.num_rows
            if left.num_rows:
                self._rows += left.num_rows
                yield left


class _Span(io.RawIOBase):
    """The bytes `begin` to `end` of a file, as a file."""

    def __init__(self, file: FileIO, begin: int, end: int) -> None:
        self._descriptor = file.fileno()
        self._at = begin
        self._end = end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")[: self._end - self._at]
        count = os.preadv(self._descriptor, [view], self._at) if len(view) else 0
        self._at += count
        return count


def _lines(file: FileIO, begin: int, end: int, compression: str) -> Iterator[bytes]:
    """The text of the bytes `begin` to `end` of a file, which are whole members or frames, in pieces."""
    if begin == end:
        return
    span: Any = io.BufferedReader(_Span(file, begin, end))
    if compression == "gzip":
        span = IGzipFile(fileobj=span, mode="rb")
    elif compression != "none":
        span = pa.CompressedInputStream(span, compression)
    rest = b""
    try:
        while piece := span.read(CHUNK_BYTES):
            rest += piece
            cut = rest.rfind(b"\n") + 1
            if cut:
                yield rest[:cut]
                rest = rest[cut:]
    except (OSError, EOFError) as exc:
        raise cannot("read", file.name, exc) from exc
    if rest:
        yield rest
