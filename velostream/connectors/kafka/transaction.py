"""A job's transactions: the rows of an epoch and its number, committed as one."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.connectors.base import (
    FORGOTTEN,
    NOTHING,
    Assignment,
    Group,
    Sink,
    Source,
    Task,
    Transaction,
)
from velostream.connectors.kafka.settings import ClientSettings
from velostream.connectors.kafka.state_topic import StateTopic
from velostream.errors import ConnectorError
from velostream.loop import submit

if TYPE_CHECKING:
    from velostream.connectors.kafka.membership import Membership
    from velostream.connectors.kafka.producer import TransactionalProducer

logger = logging.getLogger("velostream.kafka")

# How long a coordinator may be away when a job starts.
START_SECONDS = 60.0
RETRY_SECONDS = 0.1
# Of the number that a task commits, the bits of the epoch; those above are of the run.
_EPOCH_BITS = 40
# Of a file of the state: its run, where the job has tasks, and its epoch.
_MANIFEST = re.compile(r"(?:(\d+)/)?(\d{12,})\.manifest")


class KafkaTransaction(Transaction):
    """The transactions of one job at one cluster, by the transactional id `velostream-JOB`; or those of one
    of its tasks, by `velostream-JOB-NUMBER`.

    The number of the last epoch that was committed is the offset that a group of the same name has committed
    for the topic of the job's state, and its mark the offset's metadata, in the same transaction as the rows:
    so the broker knows them, whatever happens here. Who holds the transactions of a whole job is the one
    member of that group; those of a task are its worker's.
    """

    def __init__(self, settings: ClientSettings, job: str) -> None:
        self._settings = settings
        self._job = f"velostream-{job}"
        self._task: Task | None = None
        self._membership: Membership | None = None
        self._mark = ""
        # Files of other runs that are still kept, with their sizes.
        self._stale: dict[str, int] = {}

    def divide(self, task: Task) -> None:
        self._task = task

    @property
    def identity(self) -> Any:
        return sorted(self._settings.values.items())

    @property
    def _id(self) -> str:
        return self._job if self._task is None else f"{self._job}-{self._task.number}"

    @cached_property
    def _state(self) -> StateTopic:
        if self._task is None:
            return StateTopic(self._state_name, self._settings)
        return StateTopic(self._state_name, self._settings, self._task.number, self._task.count)

    @property
    def _state_name(self) -> str:
        return f"{self._job}-state"

    @cached_property
    def producer(self) -> TransactionalProducer:
        """What sinks write by; open between `open` and `close`."""
        from velostream.connectors.kafka.producer import TransactionalProducer

        return TransactionalProducer(self._settings, self._id)

    def group(
        self,
        folder: Path,
        tasks: int,
        reset: bool,
        on_assigned: Callable[[Assignment], None],
        on_lost: Callable[[ConnectorError], None],
    ) -> Group:
        from velostream.connectors.kafka.worker_place import WorkerPlace

        return WorkerPlace(self._settings, self._job, folder, tasks, reset, on_assigned, on_lost)

    def exchange(
        self,
        name: str,
        query: str,
        split: Callable[[pa.RecordBatch], Sequence[npt.NDArray[np.int32] | None]],
        schema: pa.Schema,
        bounded: bool,
    ) -> tuple[Sink, Source]:
        from velostream.connectors.kafka.exchange import ExchangeSink, ExchangeSource

        task = self._task
        assert task is not None, "divide() comes first"
        topic = f"{self._job}-{_in_topic(query)}-{task.run}"
        sink = ExchangeSink(name, topic, self._settings, task, split)
        sink.join(self)
        return sink, ExchangeSource(name, topic, self._settings, task, schema, bounded)

    def open(self, folder: str) -> int | None:
        if self._task is None:
            self._hold(folder)
        try:
            self.producer.open()
            self._state.open()
            committed = submit(self._committed()).result()
            if committed is None:
                # Brokers forget the offsets of a group without members, after a week as they come.
                committed = self._in_state()
            number, self._mark = committed
        except BaseException:
            self.close(complete=False)
            raise
        if self._task is None:
            return number if number > FORGOTTEN else None
        run, epoch = divmod(number, 1 << _EPOCH_BITS)
        if run == self._task.run:
            return epoch
        if run:
            # The first commit has them removed.
            self._note_stale()
        return NOTHING

    def _hold(self, folder: str) -> None:
        from velostream.connectors.kafka.membership import Membership, WorkerName

        membership = Membership(
            self._settings,
            self._id,
            WorkerName.of(folder),
            tasks=1,
            reset=False,
            on_assigned=lambda assignment: None,
            on_lost=self.producer.fail,
        )
        membership.open()
        self._membership = membership

    def _in_state(self) -> tuple[int, str]:
        """The number of the commit that left its manifest in the topic of the state, FORGOTTEN when none has,
        and its mark, the beginning of that file's SHA-256."""
        manifests: dict[int, bytes] = {}
        for name, data in self._state.load():
            if match := _MANIFEST.fullmatch(name):
                number = (int(match[1] or 0) << _EPOCH_BITS) + int(match[2])
                manifests[number] = manifests.get(number, b"") + data
        last = max(manifests, default=FORGOTTEN)
        return last, hashlib.sha256(manifests[last]).hexdigest()[:16] if manifests else ""

    async def _committed(self) -> tuple[int, str] | None:
        from aiokafka.errors import KafkaError

        from velostream.connectors.kafka.client import admin
        from velostream.connectors.kafka.group import committed_offset

        deadline = time.monotonic() + START_SECONDS
        async with admin(self._settings) as client:
            while True:
                try:
                    return await committed_offset(client, self._id, self._state_name, 0)
                except KafkaError as exc:
                    # The coordinator of a broker that has just started is not there yet, or still loading.
                    if not exc.retriable or time.monotonic() > deadline:
                        raise
                await asyncio.sleep(RETRY_SECONDS)

    def begin(self) -> None:
        self.producer.begin()

    @property
    def mark(self) -> str:
        return self._mark

    def commit(self, number: int, mark: str = "") -> None:
        if self._task is not None:
            number += self._task.run << _EPOCH_BITS
        self.producer.send_offsets({(self._state_name, 0): (number, mark)}, self._id)
        self.producer.commit()
        self._stale = {}

    def save(self, written: Mapping[str, bytes], gone: Mapping[str, int]) -> None:
        prefix = self._prefix
        self._state.save(
            self.producer,
            {prefix + name: data for name, data in written.items()},
            {**{prefix + name: size for name, size in gone.items()}, **self._stale},
        )

    @property
    def _prefix(self) -> str:
        """What the names of this run's files begin with."""
        return "" if self._task is None else f"{self._task.run}/"

    def saved(self) -> Iterator[tuple[str, bytes]]:
        size = 0
        for name, data in self._state.load():
            if name.startswith(self._prefix):
                size += len(data)
                yield name.removeprefix(self._prefix), data
        # That a task's state comes with it is no news.
        level = logging.WARNING if self._task is None else logging.INFO
        logger.log(level, "took the state from topic '%s': %d KiB", self._state_name, size >> 10)

    def _note_stale(self) -> None:
        for name, data in self._state.load():
            if not name.startswith(self._prefix):
                self._stale[name] = self._stale.get(name, 0) + len(data)

    def hurry(self, seconds: float) -> None:
        self.producer.hurry(seconds)

    def close(self, complete: bool) -> None:
        try:
            self.producer.close(complete)
        finally:
            membership, self._membership = self._membership, None
            if membership is not None:
                membership.close()


def _in_topic(query: str) -> str:
    """The name of a query as a part of a topic's name, for which Kafka has fewer letters.

    >>> _in_topic("bars"), _in_topic("my bars")
    ('bars', 'my_bars-caf226ee')
    """
    plain = re.sub(r"[^A-Za-z0-9._]", "_", query)
    return plain if plain == query else f"{plain}-{hashlib.sha256(query.encode()).hexdigest()[:8]}"
