"""aiokafka's consumer, made to hand over record batches as they were fetched: the one place that changes it.

Its classes look up their helpers by global names, so each method that has to use another one is the same code
with that name bound anew (`rebound`), in a subclass: what the application does with aiokafka besides is left
alone. Its names are private: `tests/unit/connectors/test_kafka_source_fetching.py` fails when they are not
where they were, and the version of aiokafka is bounded in `pyproject.toml`.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher, FetchResult
from aiokafka.errors import KafkaError

from velostream.connectors.kafka.connection import create_connection, rebound
from velostream.connectors.kafka.pacing import PacedClient

# A record batch: base offset (8 bytes), length of what follows (4), leader epoch (4), format (1), checksum
# (4), attributes (2), last offset less the base offset (4), …
# (https://kafka.apache.org/documentation/#recordbatch)
_BATCH_HEAD = struct.Struct(">qiibIhi")
_PREFIX_BYTES = 12
_LENGTH = struct.Struct(">i")
_LENGTH_OFFSET = 8
_FORMAT = 2

# A fetch that gave less is followed by the next one so much later. Brokers answer with the first new record:
# at 10,000 records/s, written one by one, that would be hundreds of blocks a second of a few records each.
TRICKLE_BYTES = 64 << 10
GATHER_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one fetch gave for one partition: whole record batches, unchecked and not unpacked.

    `offset` is the first one asked for (the first batch may begin before it), `next_offset` the one behind
    the last batch. `aborted` has the producer and the first offset of each transaction in it that was aborted
    (read_committed only).
    """

    data: memoryview
    offset: int
    next_offset: int
    aborted: Sequence[tuple[int, int]]

    @property
    def size(self) -> int:
        return len(self.data)


class FetchedBytes:
    """In place of aiokafka's MemoryRecords: finds where the last whole batch ends, and no more."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = data
        end, last = 0, -1
        size = len(data)
        length_at = _LENGTH.unpack_from
        while size - end >= _BATCH_HEAD.size:
            (length,) = length_at(data, end + _LENGTH_OFFSET)
            stop = end + _PREFIX_BYTES + max(0, length)
            if stop > size:
                break
            last, end = end, stop
        self._end = end
        self.next_offset = -1
        if last >= 0:
            base, _, _, format, _, _, delta = _BATCH_HEAD.unpack_from(data, last)
            # Of an older format it is not known; what reads the batch refuses it.
            self.next_offset = base + (delta if format == _FORMAT else 0) + 1

    def has_next(self) -> bool:
        return self._end > 0

    def size_in_bytes(self) -> int:
        """Of all, a batch that was cut off included."""
        return len(self._data)

    @property
    def batches(self) -> memoryview:
        return memoryview(self._data)[: self._end]


class PartitionBatches:
    """In place of aiokafka's PartitionRecords: all that was fetched is one record."""

    def __init__(
        self, tp: Any, records: FetchedBytes, aborted: Any, fetch_offset: int, *unpacking: Any
    ) -> None:
        self.next_fetch_offset = fetch_offset
        next_offset = max(records.next_offset, fetch_offset)
        self._fetched: Fetched | None = Fetched(
            records.batches,
            fetch_offset,
            next_offset,
            [(producer, first) for producer, first in aborted or ()],
        )

    @property
    def size(self) -> int:
        """Bytes that are not read yet."""
        return 0 if self._fetched is None else self._fetched.size

    def __iter__(self) -> PartitionBatches:
        return self

    def __next__(self) -> Fetched:
        fetched, self._fetched = self._fetched, None
        if fetched is None:
            raise StopIteration
        self.next_fetch_offset = fetched.next_offset
        return fetched


class BatchFetcher(Fetcher):  # type: ignore[misc]
    """Keeps what it has fetched as `Fetched`, and lets a trickle gather at the broker."""

    _fetch_now = rebound(
        Fetcher._proc_fetch_request, MemoryRecords=FetchedBytes, PartitionRecords=PartitionBatches
    )

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # By node: when it may be asked again (time.monotonic).
        self._due: dict[Any, float] = {}

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> bool:
        pause = self._due.get(node_id, 0.0) - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        fetched = bool(await self._fetch_now(assignment, node_id, request))
        trickles = fetched and self._fetched_bytes(request) < TRICKLE_BYTES
        self._due[node_id] = time.monotonic() + GATHER_SECONDS if trickles else 0.0
        return fetched

    def _fetched_bytes(self, request: Any) -> int:
        """What the fetch gave for the partitions it asked for."""
        size = 0
        for topic, partitions in request.topics:
            for partition, *_ in partitions:
                found = self._records.get(TopicPartition(topic, partition))
                if isinstance(found, FetchResult) and found._partition_records is not None:
                    size += found._partition_records.size
        return size

    async def close(self) -> None:
        """aiokafka's own gives up, and leaves connections open, at a request that waits to be tried again."""
        self._closed = True
        tasks = [self._fetch_task, *self._pending_tasks]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()
        for waiter in list(self._fetch_waiters):
            self._notify(waiter)


class WatchedClient(PacedClient):
    """Knows since when no broker answers.

    `down_since` is of time.monotonic, None while brokers answer; `error` is what was met last.
    """

    down_since: float | None = None
    error: BaseException | None = None

    bootstrap = rebound(AIOKafkaClient.bootstrap, create_conn=create_connection)
    _get_conn = rebound(AIOKafkaClient._get_conn, create_conn=create_connection)

    async def _metadata_update(self, cluster_metadata: Any, topics: Any) -> bool:
        updated = await super()._metadata_update(cluster_metadata, topics)
        self._note(None if updated else self.error or KafkaError("no broker gives metadata"))
        return updated

    async def send(self, node_id: Any, request: Any, **options: Any) -> Any:
        try:
            response = await super().send(node_id, request, **options)
        except KafkaError as exc:
            self._note(exc)
            raise
        self._note(None)
        return response

    def _note(self, error: BaseException | None) -> None:
        self.error = error
        if error is None:
            self.down_since = None
        elif self.down_since is None:
            self.down_since = time.monotonic()


class BatchConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """A consumer whose records are `Fetched`."""

    __init__ = rebound(AIOKafkaConsumer.__init__, AIOKafkaClient=WatchedClient)
    start = rebound(AIOKafkaConsumer.start, Fetcher=BatchFetcher)

    @property
    def client(self) -> WatchedClient:
        return cast(WatchedClient, self._client)

    @property
    def assignment_state(self) -> Any:
        """aiokafka's state of each partition: `state_value(tp)` has its position and the ends of the log."""
        return self._subscription.subscription.assignment

    @property
    def fetcher(self) -> BatchFetcher:
        """There is one once the consumer has started."""
        return cast(BatchFetcher, self._fetcher)


class _Seldom(logging.Filter):
    """Lets a message through once a minute, since aiokafka repeats them at every attempt; and none about
    brokers that are away, which the source tells of."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg.startswith("Failed fetch"):
            return False
        now = time.monotonic()
        fresh = now - self._seen.get(record.msg, -60.0) >= 60.0
        if fresh:
            self._seen[record.msg] = now
        return fresh


def quieten() -> None:
    """Keep of aiokafka's log what the source does not tell of by itself; unless a level was set."""
    library = logging.getLogger("aiokafka.consumer.fetcher")
    if library.level == logging.NOTSET:
        library.setLevel(logging.WARNING)
        library.addFilter(_Seldom())
