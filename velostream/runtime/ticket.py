"""What a block in flight holds: its bytes of the budget, and the parts of it still to be done."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock


class Ticket:
    """One admitted block. `number` counts the job's blocks in the order of admission, from 0.

    Whoever queues a part of it holds it, and releases it when the part is done; at the last release
    `done` runs once, in the thread that released.
    """

    __slots__ = ("_done", "_lock", "_parts", "number", "size")

    def __init__(self, number: int, size: int, done: Callable[[Ticket], None]) -> None:
        self.number = number
        self.size = size
        self._parts = 1
        self._lock = Lock()
        self._done = done

    def hold(self, parts: int = 1) -> None:
        with self._lock:
            self._parts += parts

    def release(self) -> None:
        with self._lock:
            self._parts -= 1
            last = self._parts == 0
        if last:
            self._done(self)
