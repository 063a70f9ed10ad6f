"""Between the tasks of a job: rows and watermarks to the task of their key, through a topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.connectors.base import Task
from velostream.kernels import KeyEncoder
from velostream.operators.aggregate import Keyer
from velostream.runtime.lane import Lane
from velostream.runtime.outlets import Outlet
from velostream.runtime.ticket import Ticket
from velostream.runtime.watermarks import IDLE, Watermarks

Rows = npt.NDArray[np.int32]

# Keys are dealt to tasks by their hash modulo this prime, to lanes modulo `processor.key_groups`: so the keys
# of one task are spread over all of its lanes.
TASK_GROUPS = 16_381


def task_split(keyer: Keyer, tasks: int) -> Callable[[pa.RecordBatch], Sequence[Rows | None]]:
    """What finds, for each task, the rows of its keys (None: no row)."""

    def split(batch: pa.RecordBatch) -> Sequence[Rows | None]:
        parts: Sequence[Rows | None] = keyer.keys(batch).partition(tasks, TASK_GROUPS)
        return parts

    return split


def owns_global(task: Task) -> bool:
    """Whether the rows of a query without keys are that task's."""
    parts = KeyEncoder([]).encode([], 1).partition(task.count, TASK_GROUPS)
    return parts[task.number] is not None


@dataclass(frozen=True, slots=True)
class _Said:
    """A sender's watermark, on its way behind its rows."""

    sender: int
    watermark: int


class Speaker(Protocol):
    """The writer of an exchange."""

    def say(self, watermark: int) -> None:
        """Tell all tasks how far this one's time is, behind the rows written so far."""


class ExchangeOutlet(Outlet):
    """Takes rows to other tasks, and the least of its senders' watermarks."""

    def advance(self, sender: int, watermark: int, lane: Lane, ticket: Ticket) -> None:
        """A sender's watermark (or IDLE or END), behind what it has written."""
        self.write(_Said(sender, watermark), 0, lane, ticket, sender)

    @cached_property
    def watermarks(self) -> Watermarks:
        """Of the senders; how many they are is known before the first one speaks."""
        return Watermarks(self.senders)

    def _append(self, payload: Any, rows: int, now: float) -> None:
        if not isinstance(payload, _Said):
            super()._append(payload, rows, now)
            return
        known = self.watermarks
        was_silent = known.silent
        risen = known.advance(payload.sender, payload.watermark)
        if risen or known.silent != was_silent:
            said = IDLE if known.silent else known.current
            self._strategy.call(self._what, partial(cast(Speaker, self.writer).say, said))
