"""The places of workers that share a state folder: the lowest free one is taken.

So a worker that starts again finds the place of one that has ended, with what that one kept there.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from velostream.config.paths import shown
from velostream.errors import ConnectorError


class Slot:
    """A place `number`, from 0, in a folder: `worker-NUMBER`, where its worker keeps what is its own.

    It is held by a lock on the file `worker-NUMBER.lock` (flock), which the operating system takes back
    however the process ends.
    """

    def __init__(self, number: int, path: Path, descriptor: int) -> None:
        self.number = number
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, folder: Path) -> Slot:
        """The lowest that is free. Makes the folder. Raises ConnectorError when it cannot be written to."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            number = 0
            while (descriptor := _lock(_file(folder / f"worker-{number}"))) is None:
                number += 1
        except OSError as error:
            raise ConnectorError(
                f"cannot lock a worker's place in '{shown(folder)}': {error.strerror or error}",
                hint="set state.path to a folder that can be written to",
            ) from error
        return cls(number, folder / f"worker-{number}", descriptor)

    def release(self) -> None:
        """Give it up; may be called twice."""
        if self._descriptor < 0:
            return
        with suppress(OSError):
            # While it is held: whoever has opened the file in this moment sees that it is gone (`_lock`).
            _file(self.path).unlink()
        os.close(self._descriptor)
        self._descriptor = -1


def _file(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _lock(file: Path) -> int | None:
    """A locked descriptor of the file that has the name now; None when another one has the lock."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(file), os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
