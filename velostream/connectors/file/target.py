"""A file that is being written: under another name until it is complete, or appended to."""

from __future__ import annotations

import os
import secrets
import stat
from typing import Any

from velostream.connectors.file.parts import cannot
from velostream.errors import ConnectorError
from velostream.kernels import native


class Target:
    """The file at `path`, its folders made when missing. Used by one thread at a time.

    Without `append` the bytes go to a hidden file beside it, which takes its name in `close(True)` and
    goes away in `close(False)`: a reader finds the former file, or none, or all of the new one. What is not
    a regular file (a pipe, `/dev/stdout`) is written to directly. Raises ConnectorError with the path.
    """

    def __init__(self, path: str, append: bool) -> None:
        self.path = path
        self.written = 0
        # Through symbolic links, so that they are not replaced themselves.
        self._final = os.path.realpath(path)
        self._part: str | None = None
        try:
            os.makedirs(os.path.dirname(self._final), exist_ok=True)
            special = os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode)
            if append or special:
                self._file = open(path, "ab", buffering=0)
            else:
                folder, name = os.path.split(self._final)
                self._part = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.part")
                self._file = open(self._part, "xb", buffering=0)
            self.empty = special or os.fstat(self._file.fileno()).st_size == 0
        except OSError as exc:
            raise cannot("write", path, exc) from exc

    def write(self, data: Any) -> int:
        """Append bytes (any buffer); gives their count. Nothing is held back: blocks are large."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view):
                with native:
                    count = self._file.write(view[done:])
                done += count
                self.written += count
        except OSError as exc:
            raise self._failed(exc) from exc
        return done

    def close(self, complete: bool) -> None:
        """May be called twice; only the first counts."""
        if self._file.closed:
            return
        try:
            self._file.close()
        except OSError as exc:
            self._discard()
            raise self._failed(exc) from exc
        if self._part is None:
            return
        if not complete:
            self._discard()
            return
        try:
            os.replace(self._part, self._final)
        except OSError as exc:
            self._discard()
            raise self._failed(exc) from exc

    def _discard(self) -> None:
        if self._part is not None:
            try:
                os.unlink(self._part)
            except OSError as exc:
                raise cannot("remove", self._part, exc) from exc

    def _failed(self, exc: OSError) -> ConnectorError:
        error = cannot("write", self.path, exc)
        return ConnectorError(f"{error.message} (after {self.written} bytes)")

    # What pyarrow asks of a file that it writes to.

    @property
    def closed(self) -> bool:
        return self._file.closed

    def tell(self) -> int:
        return self.written

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False
