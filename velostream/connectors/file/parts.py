"""From the text of `path` to the parts that are read: files, and members of zip archives."""

from __future__ import annotations

import glob
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from velostream.errors import ConnectorError, Where, did_you_mean

CODECS = ("none", "gzip", "zstd", "zip")
_BY_EXTENSION = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd", ".zip": "zip"}


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file a path led to, to notice that another has taken its place."""

    device: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(status.st_dev, status.st_ino)


@dataclass(frozen=True, slots=True)
class Part:
    """One partition: a file, or a member of a zip.

    `size` is in bytes: of a file as it lies on the disk, of a member unpacked; fixed when it was found.
    """

    path: str
    codec: str
    size: int
    identity: Identity
    member: str | None = None

    @property
    def name(self) -> str:
        return self.path if self.member is None else f"{self.path}:{self.member}"


def codec_of(path: str, declared: str) -> str:
    """The codec of a file: `declared`, or what its extension says when that is "auto"."""
    if declared != "auto":
        return declared
    return _BY_EXTENSION.get(os.path.splitext(path)[1].lower(), "none")


def inner_name(path: str, codec: str) -> str:
    """The name without what says how it is compressed: `trades.csv` for `a/trades.csv.gz`."""
    name = os.path.basename(path)
    stem, extension = os.path.splitext(name)
    return stem if extension.lower() in _BY_EXTENSION and codec != "none" else name


def find_parts(path: str, compression: str, key: str) -> list[Part]:
    """The parts of a file, a folder or a glob pattern, sorted by name (numbers by value).

    A folder gives its files that are not hidden, and no subfolders. Raises ConnectorError when there is
    nothing to read; `key` is the configuration key that named the path.
    """
    parts: list[Part] = []
    for file in _files(path, key):
        codec = codec_of(file, compression)
        try:
            status = os.stat(file)
        except OSError as exc:
            raise cannot("read", file, exc, key) from exc
        if codec == "zip":
            parts.extend(_members(file, Identity.of(status), key))
        else:
            parts.append(Part(file, codec, status.st_size, Identity.of(status)))
    return parts


def _files(path: str, key: str) -> list[str]:
    where = Where(key=key)
    if not path:
        raise ConnectorError("no path is given", where=where, hint="name a file, a folder or a glob")
    if os.path.isdir(path):
        try:
            with os.scandir(path) as entries:
                files = [entry.path for entry in entries if entry.is_file() and entry.name[0] != "."]
        except OSError as exc:
            raise cannot("read", path, exc, key) from exc
        if not files:
            raise ConnectorError(f"folder '{path}' has no files", where=where)
    elif os.path.exists(path):
        files = [path]
    else:
        files = [file for file in glob.glob(path, recursive=True) if os.path.isfile(file)]
        if not files:
            raise ConnectorError(f"no file '{path}'", where=where, hint=_nearest(path))
    return sorted(files, key=_natural)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts `part-10` behind `part-9`."""
    pieces = re.split(r"([0-9]+)", name)
    return [(0, int(piece), piece) if piece.isdecimal() else (1, 0, piece) for piece in pieces]


def _nearest(path: str) -> str:
    """What to do about a path that leads nowhere: the nearest name in the deepest folder that exists."""
    missing = Path(path)
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    folder = missing.parent
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError:
        names = []
    return did_you_mean(missing.name, names) or f"looked in '{folder.absolute()}'"


def _members(file: str, identity: Identity, key: str) -> list[Part]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as exc:
        raise cannot("read", file, exc, key) from exc
    if not infos:
        raise ConnectorError(f"zip '{file}' holds no file", where=Where(key=key))
    return [Part(file, "zip", info.file_size, identity, info.filename) for info in infos]


def cannot(verb: str, path: str, exc: BaseException, key: str | None = None) -> ConnectorError:
    """The error of a file that cannot be read or written, without the path twice."""
    reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    reason = (reason or type(exc).__name__)[:1].lower() + (reason or type(exc).__name__)[1:]
    return ConnectorError(f"cannot {verb} '{path}': {reason}", where=None if key is None else Where(key=key))
