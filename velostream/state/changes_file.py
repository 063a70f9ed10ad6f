"""A file of changes: what all lanes of stages gave for one epoch, an Arrow IPC stream per table, an index.

    0         the tables, one after another, each an IPC stream of one batch (buffers compressed by LZ4)
    index_at  the index, to the end of the file: JSON, a list of parts
                {"stage", "lane", "lanes", "begins", "ends", "values",
                 "tables": {name: [at, bytes, crc32, rows]}}

Every byte is covered by a checksum: a table's by the index, the index's by the manifest, which also has the
file's size. A file is written once and never changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from isal import isal_zlib

from velostream.config.paths import shown
from velostream.errors import StateError
from velostream.operators.saving import Changes
from velostream.state.durable import disk_error, write_new

# In the thread that commits alone: the others are the lanes'.
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What the manifest says of a file of changes. `session` counts the times that the folder was opened."""

    name: str
    epoch: int
    session: int
    size: int
    index_at: int
    index_crc: int


@dataclass(frozen=True, slots=True)
class SavedTable:
    """Where a table's stream lies in its file."""

    at: int
    size: int
    crc: int
    rows: int


@dataclass(frozen=True, slots=True)
class SavedPart:
    """The changes of one stage in one of `lanes` lanes, but for the rows."""

    stage: str
    lane: int
    lanes: int
    begins: bool
    ends: bool
    values: dict[str, Any]
    tables: dict[str, SavedTable]

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(table.size for table in self.tables.values())


def checksum(data: bytes | memoryview) -> int:
    """CRC-32 (ISO 3309, as gzip and zlib), without the GIL."""
    return isal_zlib.crc32(data)


class ChangesFile:
    """A file of changes whose index has been read. Serves several threads at once."""

    def __init__(self, path: Path, entry: FileEntry, parts: Sequence[SavedPart]) -> None:
        self.path = path
        self.entry = entry
        self.parts = tuple(parts)

    @classmethod
    def write(
        cls, path: Path, epoch: int, session: int, operators: Mapping[str, Sequence[Changes | None]]
    ) -> ChangesFile:
        """Write changes, of stages by lane, down to the disk. Raises StateError, and leaves no file then."""
        parts: list[SavedPart] = []
        tail: list[tuple[int, int]] = []

        def pieces() -> Iterator[memoryview]:
            at = 0
            for stage, lanes in operators.items():
                for lane, changes in enumerate(lanes):
                    if changes is None:
                        continue
                    tables = {}
                    for name, batch in changes.tables.items():
                        stream = memoryview(_to_stream(batch))
                        tables[name] = SavedTable(at, len(stream), checksum(stream), batch.num_rows)
                        at += len(stream)
                        yield stream
                    parts.append(
                        SavedPart(
                            stage, lane, len(lanes), changes.begins, changes.ends, changes.values, tables
                        )
                    )
            index = memoryview(_to_index(parts))
            tail.append((at, checksum(index)))
            yield index

        size = write_new(path, pieces())
        [(index_at, index_crc)] = tail
        return cls(path, FileEntry(path.name, epoch, session, size, index_at, index_crc), parts)

    @classmethod
    def open(cls, path: Path, entry: FileEntry) -> ChangesFile:
        """Read the index. Raises StateError when the file is missing or not the one that was written."""
        try:
            size = path.stat().st_size
            if size != entry.size:
                raise damaged(path, f"it has {size:,} bytes in place of {entry.size:,}")
            index = _read(path, entry.index_at, entry.size - entry.index_at)
        except OSError as error:
            raise disk_error("read", path, error) from error
        if checksum(index) != entry.index_crc:
            raise damaged(path, "its index does not have its checksum")
        return cls(path, entry, _from_index(index))

    def read(self, part: SavedPart) -> Changes:
        """The changes of one of `parts`. Raises StateError."""
        tables = {name: self._table(name, table) for name, table in part.tables.items()}
        return Changes(tables, part.values, part.begins, part.ends)

    def _table(self, name: str, table: SavedTable) -> pa.RecordBatch:
        try:
            stream = _read(self.path, table.at, table.size)
        except OSError as error:
            raise disk_error("read", self.path, error) from error
        if len(stream) != table.size or checksum(stream) != table.crc:
            raise damaged(self.path, f"the table '{name}' does not have its checksum")
        with pa.ipc.open_stream(stream) as reader:
            return reader.read_next_batch()


def damaged(path: Path, how: str) -> StateError:
    """The error of a file that is not what was written."""
    return StateError(
        f"'{shown(path)}' is damaged: {how}",
        hint="start from a savepoint with state=PATH, or afresh with state=reset",
    )


def _to_stream(batch: pa.RecordBatch) -> pa.Buffer:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, batch.schema, options=_OPTIONS) as writer:
        writer.write_batch(batch)
    return out.getvalue()


def _to_index(parts: Sequence[SavedPart]) -> bytes:
    index = [
        {
            "stage": part.stage,
            "lane": part.lane,
            "lanes": part.lanes,
            "begins": part.begins,
            "ends": part.ends,
            "values": part.values,
            "tables": {name: [t.at, t.size, t.crc, t.rows] for name, t in part.tables.items()},
        }
        for part in parts
    ]
    return json.dumps(index, ensure_ascii=False, separators=(",", ":")).encode()


def _from_index(index: bytes) -> list[SavedPart]:
    return [
        SavedPart(**{**part, "tables": {name: SavedTable(*table) for name, table in part["tables"].items()}})
        for part in json.loads(index)
    ]


def _read(path: Path, at: int, size: int) -> bytes:
    """That range of the file, shorter where the file ends."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        pieces = []
        while size and (piece := os.pread(descriptor, size, at)):
            pieces.append(piece)
            at += len(piece)
            size -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)
