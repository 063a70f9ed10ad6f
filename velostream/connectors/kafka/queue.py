"""What was fetched of a partition and is not read yet."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from velostream.connectors.kafka.fetching import Fetched
from velostream.errors import ConnectorError


class Queue:
    """Filled on the loop, emptied by the partition's reader.

    It has room below `limit_bytes`, and takes what is put anyway; `on_room` is called by the reader that has
    made room in a full one.
    """

    def __init__(self, limit_bytes: int, on_room: Callable[[], object]) -> None:
        self._limit = limit_bytes
        self._on_room = on_room
        self._fetched: deque[Fetched] = deque()
        self._bytes = 0
        self._error: ConnectorError | None = None
        self._error_until = 0.0
        self._changed = threading.Condition()

    @property
    def has_room(self) -> bool:
        return self._bytes < self._limit

    @property
    def held_bytes(self) -> int:
        return self._bytes

    def put(self, fetched: Fetched) -> None:
        with self._changed:
            self._fetched.append(fetched)
            self._bytes += fetched.size
            self._error = None
            self._changed.notify()

    def fail(self, error: ConnectorError | None, seconds: float = float("inf")) -> None:
        """What `take` raises once what was fetched before is read, until more is fetched or for so many
        seconds; None: it can be read again."""
        with self._changed:
            self._error = error
            self._error_until = time.monotonic() + seconds
            self._changed.notify()

    def take(self, max_bytes: int, seconds: float) -> list[Fetched]:
        """What is there, up to `max_bytes` but for the first; waits for some. Raises ConnectorError."""
        with self._changed:
            if self._error is not None and time.monotonic() > self._error_until:
                self._error = None
            if not self._fetched and self._error is None:
                self._changed.wait(seconds)
            if not self._fetched and self._error is not None:
                raise self._error
            full = not self.has_room
            taken: list[Fetched] = []
            size = 0
            while self._fetched and (not taken or _goes_with(taken[-1], self._fetched[0], max_bytes - size)):
                taken.append(self._fetched.popleft())
                size += taken[-1].size
            self._bytes -= size
            room = full and self.has_room
        if room:
            self._on_room()
        return taken


def _goes_with(last: Fetched, coming: Fetched, room: int) -> bool:
    """Whether a block goes on with what comes: not when offsets were reset between."""
    return coming.size <= room and coming.offset == last.next_offset
