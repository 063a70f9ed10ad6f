"""Commit epochs: markers follow the blocks through the job, and what they have passed is committed together.

A marker enters every source partition between two blocks. A keyed stage that has a marker from some of its
senders holds back what comes from these until the others' have come: then its state is what all records
before the markers made of it, and none behind them. So do the outlets with their rows. The lanes go on
meanwhile; what was gathered is made durable in a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock
from typing import Any, Protocol

from velostream.connectors.base import Source, Transaction
from velostream.faults import fault
from velostream.operators.saving import Changes
from velostream.runtime.failures.base import FailureStrategy
from velostream.runtime.outlets import Outlet
from velostream.state.manifest import Epoch
from velostream.state.store import StateStore


class Gathering:
    """What an epoch's markers have passed. Filled by lanes; `on_complete` is called by the last of them.

    `expected` is how many parts there are: source partitions, keyed stages times lanes, outlets. `saves`:
    the operators' state is asked for.
    """

    def __init__(self, epoch: Epoch, expected: int, saves: bool, on_complete: Callable[[], None]) -> None:
        self.epoch = epoch
        self.saves = saves
        self._missing = expected
        self._on_complete = on_complete
        self._lock = Lock()

    def partition(self, source: str, name: str, position: int | None, state: dict[str, Any]) -> None:
        """`position` is where to read on, None: nothing was read yet."""
        if position is not None:
            self.epoch.positions.setdefault(source, {})[name] = position
        self.epoch.partitions.setdefault(source, {})[name] = state
        self._one()

    def operator(self, stage: str, lane: int, changes: Changes | None, watermark: int) -> None:
        self.epoch.operators[stage][lane] = changes
        self.epoch.watermarks[stage][lane] = watermark
        self._one()

    def sink(self, name: str, token: Any) -> None:
        self.epoch.sinks[name] = token
        self._one()

    def _one(self) -> None:
        with self._lock:
            self._missing -= 1
            complete = self._missing == 0
        if complete:
            self._on_complete()


class Marks(Protocol):
    """Whoever sends markers into the partitions: the intake."""

    @property
    def turns(self) -> int:
        """How much has been taken in so far, in whatever unit: it changes when there is something new."""

    def mark(self, gathering: Gathering) -> None: ...


class Epochs:
    """Commits a job's epochs, one at a time. Owned by the event loop.

    `stages` has the keyed stages' names; `description` is what a later run is compared with. Where there is a
    `transaction`, it decides whether an epoch is committed. Without a `store` nothing is saved: epochs only
    show readers the rows of sinks that show them by commits.
    """

    def __init__(
        self,
        store: StateStore | None,
        transaction: Transaction | None,
        interval_us: int,
        intake: Marks,
        sources: Mapping[str, Source],
        partitions: int,
        stages: list[str],
        lanes: int,
        outlets: Mapping[str, Outlet],
        description: dict[str, Any],
        output_dir: str,
        strategy: FailureStrategy,
        on_error: Callable[[BaseException], None],
        committed: int,
    ) -> None:
        self._store = store
        self._transaction = transaction
        self._seconds = interval_us / 1e6
        self._intake = intake
        self._sources = sources
        self._stages = stages
        self._lanes = lanes
        self._outlets = outlets
        self._description = description
        self._output_dir = output_dir
        self._strategy = strategy
        self._on_error = on_error
        self._expected = partitions + len(stages) * lanes + len(outlets)
        self._turns = intake.turns
        self._task: asyncio.Task[None] | None = None
        self._busy = asyncio.Lock()
        self._gathered: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        # The number of the last epoch that was committed, and how many were.
        self.committed = committed
        self.commits = 0

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._seconds
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = max(due + self._seconds, loop.time())
            if self._intake.turns != self._turns:
                try:
                    await self.commit()
                except Exception as error:  # the job fails, or its state would grow old unseen
                    self._on_error(error)
                    return

    async def commit(self, complete: bool = False) -> None:
        """Commit all that has been taken in so far; `complete`: it is the whole input of a bounded job.

        Raises ConnectorError, StateError, or whatever the job has failed by: then nothing is committed any
        more, since the changes of an epoch that was lost are taken from the operators, and no later one has
        them.
        """
        async with self._busy:
            if self._error is not None:
                raise self._error
            loop = asyncio.get_running_loop()
            gathered = self._gathered = loop.create_future()
            fault("epoch.begin")
            epoch = Epoch(
                number=self.committed + 1,
                positions={},
                partitions={},
                operators={name: [None] * self._lanes for name in self._stages},
                watermarks={name: [0] * self._lanes for name in self._stages},
                sinks={},
                description=self._description,
                complete=complete,
                output_dir=self._output_dir,
            )
            self._turns = self._intake.turns

            def on_complete() -> None:
                loop.call_soon_threadsafe(_set, gathered)

            self._intake.mark(Gathering(epoch, self._expected, self._store is not None, on_complete))
            try:
                await gathered
                await asyncio.to_thread(self._commit, epoch)
            except Exception as error:
                self.fail(error)
                raise
            self.committed = epoch.number
            self.commits += 1

    def _commit(self, epoch: Epoch) -> None:
        """In a thread of its own."""
        fault("epoch.gathered")
        for name, outlet in self._outlets.items():
            outlet.prepare(epoch.sinks[name])
        fault("epoch.prepared")
        if self._store is not None and self._transaction is not None:
            self._strategy.call("the state", partial(self._store.prepare, epoch))
            replica = self._store.replica()
            # Not repeated: after an error only the next run can know whether it was committed.
            decide = partial(_decide, self._transaction, *replica, epoch.number, self._store.mark)
            self._strategy.call("the transaction", decide, repeat=False)
            fault("epoch.decided")
            self._strategy.call("the state", self._store.settle)
            self._transaction.begin()
        elif self._store is not None:
            self._strategy.call("the state", partial(self._store.commit, epoch))
        fault("epoch.committed")
        for name, outlet in self._outlets.items():
            outlet.publish(epoch.sinks[name])
        for name, positions in epoch.positions.items():
            self._sources[name].committed(positions)
        fault("epoch.published")

    async def stop(self) -> None:
        """End the periodic commits; one that is being written is finished first."""
        async with self._busy:
            if self._task is not None:
                self._task.cancel()

    def fail(self, error: BaseException) -> None:
        """Commit nothing more: the job has failed. An epoch that is being written is finished: what made the
        job fail comes behind it.

        A lane that fails has this called before any part that it gathers later can complete an epoch: both
        come to the loop in that order.
        """
        if self._error is None:
            self._error = error
        if self._gathered is not None and not self._gathered.done():
            self._gathered.set_exception(self._error)


def _decide(
    transaction: Transaction, written: Mapping[str, bytes], gone: Mapping[str, int], number: int, mark: str
) -> None:
    transaction.save(written, gone)
    transaction.commit(number, mark)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
