"""Puts the blocks of one source partition back in order after lanes worked on them side by side."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

Result = TypeVar("Result")
Carrier = TypeVar("Carrier")


class Sequencer(Generic[Result, Carrier]):
    """Hands results to `deliver` in the order of their numbers, from 0 on, one at a time.

    Whichever carrier (lane) brings the next one in order delivers it, and all that wait behind it; a
    carrier that comes meanwhile leaves its result and goes on. None ever waits for another.
    """

    def __init__(self, deliver: Callable[[Result, Carrier], None]) -> None:
        self._deliver = deliver
        self._waiting: dict[int, Result] = {}
        self._next = 0
        self._busy = False
        self._lock = Lock()

    def put(self, number: int, result: Result, carrier: Carrier) -> None:
        """Bring the result of that number. An exception of `deliver` is passed on, and nothing follows it."""
        with self._lock:
            self._waiting[number] = result
            if self._busy:
                return
            self._busy = True
        while True:
            with self._lock:
                if self._next not in self._waiting:
                    self._busy = False
                    return
                ready = self._waiting.pop(self._next)
                self._next += 1
            self._deliver(ready, carrier)
