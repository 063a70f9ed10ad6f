"""Memory for blocks, used again: fresh memory costs a page fault for every 4 KiB of a block."""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
import numpy.typing as npt


class BufferPool:
    """Buffers of at most `size` bytes. What is taken comes back by itself when its last view is gone.

    It holds as many as were in use at one time. Used by any thread.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: deque[npt.NDArray[np.uint8]] = deque()

    def take(self, size: int) -> memoryview:
        """A writable view of `size` bytes whose content is undefined; a larger one than the pool's size is
        made for this once."""
        if size > self.size:
            return np.empty(size, dtype=np.uint8).data
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(self.size, dtype=np.uint8)
        # Every view of this slice, and every view of those, keeps it alive.
        lease = memory[:size]
        weakref.finalize(lease, self._free.append, memory).atexit = False
        return lease.data
