"""One process at a time: the lock on a state folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from velostream.config.paths import shown
from velostream.errors import StateError
from velostream.state.durable import disk_error, make_folder

LOCK = "lock"


class FolderLock:
    """Held by a process until it ends, however it ends: the operating system takes it back (flock).

    Taking it makes the folder; raises StateError that says who has it. Two locks of one process on one
    folder exclude each other, too.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / LOCK
        self._descriptor = _lock(self._file)
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(owner).encode(), 0)
        except OSError as error:
            self.release()
            raise disk_error("write", self._file, error) from error

    def release(self) -> None:
        """Give it up, and leave neither its file nor an empty folder; may be called twice."""
        if self._descriptor < 0:
            return
        with suppress(OSError):
            # While it is held: whoever has opened the file in this moment sees that it is gone (`_lock`).
            self._file.unlink()
        os.close(self._descriptor)
        self._descriptor = -1
        with suppress(OSError):
            self._file.parent.rmdir()


def _lock(file: Path) -> int:
    """A locked descriptor of the file that has the name now."""
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            make_folder(file.parent)
            continue
        except OSError as error:
            raise disk_error("lock", file, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(file, descriptor):
                return descriptor
            os.close(descriptor)
        except BlockingIOError:
            owner = _owner(os.pread(descriptor, 4096, 0))
            os.close(descriptor)
            raise StateError(
                f"the state in '{shown(file.parent)}' is used by {owner}",
                hint="stop it first, or give each job a folder of its own (state.path)",
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise disk_error("lock", file, error) from error


def _is(file: Path, descriptor: int) -> bool:
    """Whether the descriptor's file still has the name."""
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def holder(folder: Path) -> str | None:
    """Who has the folder, `process 123 on host since 2026-11-24 11:40:00 UTC`; None when nobody has."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        # A shared lock, given back at once: it is refused while somebody has the folder, and only then.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _owner(os.pread(descriptor, 4096, 0))
    finally:
        os.close(descriptor)


def _owner(content: bytes) -> str:
    try:
        owner = json.loads(content)
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(owner["since"]))
        return f"process {owner['pid']} on {owner['host']} since {since}"
    except (ValueError, KeyError, TypeError):
        # Locked, and not written yet.
        return "another process"
