"""Bytes on their way into a file."""

from __future__ import annotations

from io import FileIO
from typing import Any

from velostream.connectors.file.parts import cannot
from velostream.errors import ConnectorError
from velostream.faults import fault
from velostream.kernels import native


class Output:
    """An open file that is written to as it is: a pipe, a terminal, `/dev/null`. `path` is shown in errors.

    Used by one thread at a time. Raises ConnectorError with the path.
    """

    # Whether nothing stands before what is written.
    empty = True

    def __init__(self, path: str, file: FileIO) -> None:
        self.path = path
        self.written = 0
        self._file = file

    @classmethod
    def open(cls, path: str) -> Output:
        """An output to what is no regular file."""
        try:
            return cls(path, open(path, "ab", buffering=0))
        except OSError as exc:
            raise cannot("write", path, exc) from exc

    def write(self, data: Any) -> int:
        """Append bytes (any buffer); gives their count. Nothing is held back: blocks are large."""
        view = memoryview(data).cast("B")
        done = 0
        fault("sink.before_write")
        try:
            while done < len(view):
                with native:
                    done += self._file.write(view[done:])
        except OSError as exc:
            raise self._failed("write", exc, self.written + done) from exc
        self.written += done
        fault("sink.after_write")
        return done

    def _failed(self, verb: str, exc: OSError, written: int) -> ConnectorError:
        error = cannot(verb, self.path, exc)
        return ConnectorError(f"{error.message} (after {written} bytes)")

    def close(self, complete: bool = True) -> None:
        """May be called twice; only the first counts. What was written stays."""
        try:
            self._file.close()
        except OSError as exc:
            raise self._failed("write", exc, self.written) from exc

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
