"""Files that are on the disk when the call returns, and folders that know them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from velostream.config.paths import shown
from velostream.errors import StateError

# One call of write takes no more than that.
_MOST = 1 << 30
_HINTS = {
    errno.ENOSPC: "free some space, or set state.path to a folder on another disk",
    errno.EDQUOT: "free some space, or set state.path to a folder on another disk",
    errno.EACCES: "let this user write there, or set state.path to another folder",
    errno.EPERM: "let this user write there, or set state.path to another folder",
    errno.EROFS: "set state.path to a folder that can be written to",
}


def disk_error(what: str, path: Path, error: OSError) -> StateError:
    """An error of the operating system as a StateError that says what to do."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    hint = _HINTS.get(error.errno or 0)
    return StateError(f"cannot {what} '{shown(path)}': {reason}", hint=hint)


def write_new(file: Path, pieces: Iterable[memoryview]) -> int:
    """Write a file that is not there yet, down to the disk; gives its size in bytes.

    Its name is not on the disk before `sync_folder`. Raises StateError, and leaves no file then.
    """
    size = 0
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            for piece in pieces:
                _write(descriptor, piece)
                size += len(piece)
            os.fsync(descriptor)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise disk_error("write", file, error) from error
    return size


def _write(descriptor: int, piece: memoryview) -> None:
    while len(piece):
        piece = piece[os.write(descriptor, piece[:_MOST]) :]


def append(file: Path, data: bytes) -> None:
    """Add bytes to a file, down to the disk; its name needs `sync_folder`. Raises StateError."""
    try:
        with open(file, "ab", buffering=0) as out:
            _write(out.fileno(), memoryview(data))
            os.fsync(out.fileno())
    except OSError as error:
        raise disk_error("write", file, error) from error


def read(file: Path) -> bytes:
    """The whole of a file. Raises StateError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise disk_error("read", file, error) from error


def rename(old: Path, new: Path) -> None:
    """Give a file its name in place of the file that has it, and bring the name to the disk."""
    try:
        os.replace(old, new)
    except OSError as error:
        raise disk_error("write", new, error) from error
    sync_folder(new.parent)


def remove(file: Path) -> None:
    """Remove a file, if it is there."""
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error("remove", file, error) from error


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise disk_error("write", folder, error) from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, their names down to the disk."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error("make", folder, error) from error
    for path in missing:
        sync_folder(path.parent)
