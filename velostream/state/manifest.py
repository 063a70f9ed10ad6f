"""The manifest: the one file that says what the last commit was. A new one takes its place by a rename.

    {"format":1,"crc32":"0f3a66b1","manifest":{…}}\n

The checksum is that of the text of the inner object; the text around it has just this form.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from velostream.config.paths import shown
from velostream.errors import StateError
from velostream.operators.saving import Changes
from velostream.state.changes_file import FileEntry, checksum, damaged
from velostream.state.durable import disk_error

MANIFEST = "manifest.json"
EPOCHS = "epochs"
_FORMAT = 1
_FRAME = re.compile(rb'\{"format":(\d+),"crc32":"([0-9a-f]{8})","manifest":(.*)\}\n', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Epoch:
    """What a commit makes lasting, all of it or nothing. All but `operators` is JSON."""

    # Greater than the last one's.
    number: int
    # Source, partition by name, the next offset to read.
    positions: dict[str, dict[str, int]]
    # Source, partition by name: what its lateness has seen, whether it has ended, …
    partitions: dict[str, dict[str, Any]]
    # Stage by its query's name, then by lane; None where nothing has changed.
    operators: dict[str, list[Changes | None]]
    # By stage and lane.
    watermarks: dict[str, Any]
    # Sink, the token of its `cut`.
    sinks: dict[str, Any]
    # What the job is, for `compatibility.py`.
    description: dict[str, Any] = field(default_factory=dict)
    # Whether all input of a bounded job has been read: nothing is left but to finish its output.
    complete: bool = False
    # Where the run that commits puts its results; empty: nowhere.
    output_dir: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The last commit: an `Epoch`, its changes in files. `time` is Unix time; `session` as in FileEntry."""

    job: str
    number: int
    time: float
    session: int
    positions: dict[str, dict[str, int]]
    partitions: dict[str, dict[str, Any]]
    watermarks: dict[str, Any]
    sinks: dict[str, Any]
    description: dict[str, Any]
    complete: bool
    output_dir: str
    files: tuple[FileEntry, ...]

    @classmethod
    def of(cls, job: str, epoch: Epoch, session: int, files: Sequence[FileEntry]) -> Manifest:
        return cls(
            job,
            epoch.number,
            time.time(),
            session,
            epoch.positions,
            epoch.partitions,
            epoch.watermarks,
            epoch.sinks,
            epoch.description,
            epoch.complete,
            epoch.output_dir,
            tuple(files),
        )

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(entry.size for entry in self.files)

    @property
    def mark(self) -> str:
        """Tells it from any other manifest, also of the same number: of two processes that have prepared one
        each only one has committed it."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]

    def to_bytes(self) -> bytes:
        manifest = {name: getattr(self, name) for name in self.__slots__}
        manifest["files"] = [
            [file.name, file.epoch, file.session, file.size, file.index_at, file.index_crc]
            for file in self.files
        ]
        text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":")).encode()
        return b'{"format":%d,"crc32":"%08x","manifest":%s}\n' % (_FORMAT, checksum(text), text)


def read_manifest(folder: Path, name: str = MANIFEST) -> Manifest | None:
    """The last commit in a state folder or savepoint; None when there is none. Raises StateError."""
    path = folder / name
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk_error("read", path, error) from error
    frame = _FRAME.fullmatch(content)
    if frame is None:
        raise damaged(path, "it does not have the form of a manifest")
    form, crc, text = frame.groups()
    if checksum(text) != int(crc, 16):
        raise damaged(path, "it does not have its checksum")
    if int(form) != _FORMAT:
        raise StateError(
            f"'{shown(path)}' has the format {int(form)}, and this velostream reads {_FORMAT}",
            hint="use the velostream that has written it, or start afresh with state=reset",
        )
    manifest = json.loads(text)
    return Manifest(**{**manifest, "files": tuple(FileEntry(*entry) for entry in manifest["files"])})
