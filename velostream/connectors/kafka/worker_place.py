"""A worker among those that share a job of several tasks: its place on this machine and its membership."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from velostream.connectors.base import Assignment
from velostream.connectors.kafka.membership import Membership, WorkerName
from velostream.connectors.kafka.settings import ClientSettings
from velostream.connectors.kafka.slots import Slot
from velostream.errors import ConnectorError


class WorkerPlace:
    """The Group of a job at a cluster: it takes a place in the state folder `folder`, and joins the consumer
    group `group` as that place's worker. A job of one task has one worker, which is in no other's way and
    needs no place. See `Membership` for the rest."""

    def __init__(
        self,
        settings: ClientSettings,
        group: str,
        folder: Path,
        tasks: int,
        reset: bool,
        on_assigned: Callable[[Assignment], None],
        on_lost: Callable[[ConnectorError], None],
    ) -> None:
        self._settings = settings
        self._group = group
        self._folder = folder
        self._tasks = tasks
        self._reset = reset
        self._on_assigned = on_assigned
        self._on_lost = on_lost
        self._slot: Slot | None = None
        self._membership: Membership | None = None

    @property
    def folder(self) -> Path:
        """Where this worker keeps what is its own; known from `open` on."""
        return self._folder if self._slot is None else self._slot.path

    def open(self) -> Assignment:
        if self._tasks > 1:
            self._slot = Slot.take(self._folder)
        self._membership = Membership(
            self._settings,
            self._group,
            WorkerName.of(str(self._folder), 0 if self._slot is None else self._slot.number),
            self._tasks,
            self._reset,
            self._on_assigned,
            self._on_lost,
        )
        try:
            return self._membership.open()
        except BaseException:
            self.close()
            raise

    def update(self, holds: frozenset[int], complete: frozenset[int]) -> None:
        assert self._membership is not None, "open() comes first"
        self._membership.update(holds, complete)

    def confirm(self) -> bool:
        assert self._membership is not None, "open() comes first"
        return self._membership.confirm()

    def close(self) -> None:
        if self._membership is not None:
            self._membership.close()
        if self._slot is not None:
            self._slot.release()
