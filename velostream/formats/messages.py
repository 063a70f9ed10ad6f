"""Bytes of a block whose records are messages of a queue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(slots=True, eq=False)
class Messages:
    """The values of messages as one run of bytes: what a decoder of a source of messages reads.

    `values` has each value ended by a newline. `starts` (int64, one more than there are messages) is where
    each begins in it; the last one is its length. `offsets` (int64) is each message's position in its
    partition, rising.
    """

    values: memoryview
    starts: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Bytes, as of every content."""
        return len(self.values)

    def __getitem__(self, span: slice) -> memoryview:
        return self.values[span]

    @property
    def count(self) -> int:
        return len(self.offsets)

    def message_at(self, byte: int) -> int:
        """The number of the message that the byte belongs to; there must be one."""
        return int(np.searchsorted(self.starts, byte, side="right")) - 1

    def position(self, byte: int) -> int:
        """The offset of the message that the byte belongs to."""
        return int(self.offsets[self.message_at(byte)])
