"""The file that failed and late records go to: NDJSON, one record per line.

| key | value |
|---|---|
| source, partition, offset | where the record stood |
| code, column, reason | why it is here |
| record | its bytes as text, when they are valid UTF-8 |
| record_base64 | its bytes, when they are not |
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from io import SEEK_END, FileIO
from pathlib import Path
from threading import Lock

from velostream.errors import ConnectorError, FormatError, Where
from velostream.runtime.failures.base import FailedRecord


class DeadLetterFile:
    """Written by lanes, several at a time; made at the first record, so an unused one leaves no file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: FileIO | None = None
        self._lock = Lock()

    def write(self, records: Iterable[FailedRecord]) -> None:
        """Append records, all or none. Raises ConnectorError."""
        lines = [_line(record) for record in records]
        if not lines:
            return
        with self._lock:
            try:
                if self._file is None:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._file = open(self.path, "ab", buffering=0)
                _append(self._file, b"".join(lines))
            except OSError as error:
                raise ConnectorError(
                    f"cannot write failed records to '{self.path}': {error.strerror}",
                    hint="set failure.dlq_path to a place that can be written",
                ) from error
            self.count += len(lines)

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def _append(file: FileIO, data: bytes) -> None:
    """Write all of it, or leave the file as it was. Raises OSError."""
    end = file.seek(0, SEEK_END)
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        file.truncate(end)
        raise


def read_dead_letters(path: Path) -> Iterator[FailedRecord]:
    """The records of such a file in order. Raises ConnectorError, FormatError with file and line."""
    try:
        file = open(path, "rb")
    except OSError as error:
        raise ConnectorError(f"cannot read '{path}': {error.strerror}") from error
    with file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                text = entry.get("record")
                data = base64.b64decode(entry["record_base64"]) if text is None else text.encode()
                yield FailedRecord(
                    entry["source"],
                    entry["partition"],
                    int(entry["offset"]),
                    data,
                    entry["code"],
                    entry["reason"],
                    entry.get("column"),
                )
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise FormatError(
                    f"not a record that failure=send_to_dlq has written: {error}",
                    where=Where(file=str(path), line=number),
                ) from error


def _line(record: FailedRecord) -> bytes:
    entry: dict[str, object] = {
        "source": record.source,
        "partition": record.partition,
        "offset": record.offset,
        "code": record.code,
        "column": record.column,
        "reason": record.detail,
    }
    try:
        entry["record"] = record.data.decode("utf-8")
    except UnicodeDecodeError:
        entry["record_base64"] = base64.b64encode(record.data).decode("ascii")
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"
