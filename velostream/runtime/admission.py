"""Bounds the bytes in flight: reading waits here, and nowhere else."""

from __future__ import annotations

import asyncio
from collections import deque


class Admission:
    """A budget of bytes. Owned by the event loop: `enter` and `leave` are called there only.

    A block larger than the whole budget is let in alone.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.peak_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._pauses: set[str] = set()

    async def enter(self, size: int) -> None:
        """Wait until `size` bytes fit, in order of arrival."""
        if self._waiting or not self._fits(size):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((size, future))
            await future
        else:
            self._take(size)

    def leave(self, size: int) -> None:
        """Give `size` bytes back."""
        self.used_bytes -= size
        self._admit()

    def pause(self, why: str = "") -> None:
        """Let nothing in until `resume` was called for each reason to pause."""
        self._pauses.add(why)

    def resume(self, why: str = "") -> None:
        self._pauses.discard(why)
        self._admit()

    def _fits(self, size: int) -> bool:
        return not self._pauses and (self.used_bytes == 0 or self.used_bytes + size <= self.limit_bytes)

    def _take(self, size: int) -> None:
        self.used_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)

    def _admit(self) -> None:
        while self._waiting:
            size, future = self._waiting[0]
            if future.done():  # the agent was cancelled meanwhile
                self._waiting.popleft()
                continue
            if not self._fits(size):
                return
            self._waiting.popleft()
            self._take(size)
            future.set_result(None)
