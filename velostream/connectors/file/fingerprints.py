"""By what a part is known again when a job goes on in it, as JSON.

Of a bounded part, which must be the same in all: its size, when it was changed, and checksums of both ends;
of a member of a zip the archive's own checksum. Of a followed one, which may have grown: its inode, which a
rotated file has not, and a checksum of its head, as far as there was one.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from io import FileIO
from typing import Any

from velostream.connectors.base import changed
from velostream.connectors.file.parts import Part, cannot
from velostream.connectors.file.streams import ERRORS, open_file

END_BYTES = 4096

_DIFFERENCES = {
    "size": "another size",
    "modified": "another time of change",
    "head": "other first bytes",
    "tail": "other last bytes",
    "crc": "another checksum",
    "inode": "another inode",
}


def fingerprint(part: Part, follow: bool) -> str:
    """The fingerprint of a part as it is now. Raises ConnectorError."""
    try:
        return json.dumps(_of_member(part) if part.codec == "zip" else _of_file(part, follow))
    except ERRORS as exc:
        raise cannot("read", part.name, exc) from exc


def verify(part: Part, offset: int, saved: str) -> None:
    """Raises ConnectorError unless the part is the one with the fingerprint `saved`, or, followed, has become
    of that; a plain one must reach to `offset`."""
    then: dict[str, Any] = json.loads(saved)
    now: dict[str, Any] = json.loads(fingerprint(part, "inode" in then))
    if "inode" in then:
        # As much of the head as there was.
        now["head"] = then["head"] if _head_is(part, *then["head"]) else None
        if now == then and part.size < offset:
            raise changed(part.name, f"it has {part.size} bytes, {offset} had been read")
    for key in then:
        if now.get(key) != then[key]:
            raise changed(part.name, f"it has {_DIFFERENCES[key]}")


def _of_member(part: Part) -> dict[str, Any]:
    assert part.member is not None
    with zipfile.ZipFile(part.path) as archive:
        info = archive.getinfo(part.member)
    return {"size": info.file_size, "crc": info.CRC}


def _of_file(part: Part, follow: bool) -> dict[str, Any]:
    with open_file(part) as file:
        status = os.fstat(file.fileno())
        count = min(status.st_size, END_BYTES)
        head = _crc(file, 0, count)
        if follow:
            return {"inode": status.st_ino, "head": [count, head]}
        tail = _crc(file, status.st_size - count, count)
        return {"size": status.st_size, "modified": status.st_mtime_ns, "head": head, "tail": tail}


def _head_is(part: Part, count: int, crc: int) -> bool:
    try:
        with open_file(part) as file:
            return _crc(file, 0, count) == crc
    except OSError as exc:
        raise cannot("read", part.name, exc) from exc


def _crc(file: FileIO, start: int, count: int) -> int:
    return zlib.crc32(os.pread(file.fileno(), count, start))
