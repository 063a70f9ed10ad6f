"""One consumer for all partitions of a source, and what it keeps ready for their readers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import aiokafka.errors as kafka_errors
from aiokafka import TopicPartition

from velostream.connectors.kafka.client import client_arguments, connector_error, start
from velostream.connectors.kafka.fetching import BatchConsumer, Fetched, quieten
from velostream.connectors.kafka.queue import Queue
from velostream.connectors.kafka.settings import ClientSettings
from velostream.errors import ConnectorError
from velostream.loop import shared_loop, submit

T = TypeVar("T")
logger = logging.getLogger("velostream.kafka")

# How often the consumer looks whether its brokers answer and its topics are there.
WATCH_SECONDS = 1.0
# A broker that has just started may not know its topics yet.
MISSING_SECONDS = 5.0
# What a fetch is refused for is met again by the next one, unless it is over.
REFUSED_SECONDS = 2.0
# Transactions are short; one that is open for so long may be of a producer that is gone.
HELD_SECONDS = 30.0
CLOSE_SECONDS = 1.0
# A fetch that waits for new messages of silent partitions holds up those that are read again meanwhile.
FETCH_WAIT_MS = 100
# How often topics are looked at for more partitions, and all topics for those that a pattern matches.
MAX_AGE_MS = 30_000
# What a fetch gives at most of a partition, and in all. Records of 90 bytes cost v1 0.19 us by 1 MiB, 0.15 us
# by 2 MiB, and no less by 8.
FETCH_BYTES = 2 << 20
ALL_FETCH_BYTES = 16 << 20
# What may lie ready for all readers together, as long as each may have a fetch.
READY_BYTES = 64 << 20


class TopicConsumer:
    """Fetches the partitions of one source that are being read, ahead of their readers.

    Its coroutines run on the shared loop; its methods are called from other threads. `group` is where
    positions are committed to, None for nowhere. `max_outage` is how many seconds brokers may be away before
    reading fails, None for ever. With `follows`, partitions and topics (those that `matches`) that come to be
    later are found: `on_growth` is told of it on the loop, once; without it reading fails. `counts` has how
    many partitions each topic has when not all of them are read here.
    """

    def __init__(
        self,
        source: str,
        settings: ClientSettings,
        group: str | None,
        partitions: Sequence[TopicPartition],
        block_bytes: int,
        max_outage: float | None,
        follows: bool,
        matches: Callable[[str], bool] | None,
        counts: Mapping[str, int] | None = None,
        on_growth: Callable[[str], None] | None = None,
    ) -> None:
        self._source = source
        self._settings = settings
        self._group = group
        self._partitions = partitions
        self._counts = counts or Counter(tp.topic for tp in partitions)
        self._fetch_bytes = settings.get("max.partition.fetch.bytes", min(block_bytes, FETCH_BYTES))
        self._ready_bytes = max(self._fetch_bytes, min(block_bytes, READY_BYTES // len(partitions)))
        self._max_outage = max_outage
        self._follows = follows
        self._matches = matches
        self._on_growth = on_growth
        self._growth_found = False
        self._max_age = settings.get("metadata.max.age.ms", MAX_AGE_MS) / 1000
        self._queues: dict[TopicPartition, Queue] = {}
        self._consumer: BatchConsumer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._room: asyncio.Future[None] | None = None
        self._to_commit: dict[TopicPartition, int] = {}
        self._commit_wanted: asyncio.Event | None = None
        # When each topic was found missing (time.monotonic).
        self._missing: dict[str, float] = {}
        # When each partition was found held up by an open transaction; infinity: it has been told.
        self._held: dict[TopicPartition, float] = {}
        self._grown: ConnectorError | None = None
        # Unix time.
        self._away_since: float | None = None
        self._looked = 0.0

    # --- from other threads ---------------------------------------------------------------------

    def open(self) -> None:
        """Connect. Raises ConnectorError; may be repeated then."""
        submit(self._open()).result()

    def ask(self, question: Callable[[BatchConsumer], Awaitable[T]], what: str) -> T:
        """The answer of the open consumer. Raises ConnectorError; `what` was done, for its message."""
        return submit(self._ask(question, what)).result()

    def read_from(self, tp: TopicPartition, offset: int) -> Queue:
        """Begin to fetch a partition."""
        return submit(self._read_from(tp, offset)).result()

    def read_no_more(self, tp: TopicPartition) -> None:
        """Fetch a partition no longer; does not wait, so the loop may call it too."""
        shared_loop().call_soon_threadsafe(self._read_no_more, tp)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit to the group, soon: of several that are given meanwhile the last counts."""
        shared_loop().call_soon_threadsafe(self._commit_soon, dict(offsets))

    @property
    def outage(self) -> tuple[str, float] | None:
        """That no broker answers, and since when (Unix time); None while one does."""
        since = self._away_since
        return None if since is None else (f"no broker answers at {self._settings.brokers}", since)

    def close(self) -> None:
        """Commit what is to be committed, and disconnect; may be called twice."""
        submit(self._close()).result()

    # --- on the loop ----------------------------------------------------------------------------

    async def _open(self) -> None:
        quieten()
        arguments = {
            "fetch_max_wait_ms": FETCH_WAIT_MS,
            "metadata_max_age_ms": MAX_AGE_MS,
            "fetch_max_bytes": ALL_FETCH_BYTES,
            "auto_offset_reset": "none",
            # Records of aborted transactions did not happen.
            "isolation_level": "read_committed",
            **client_arguments(self._settings, "consumer"),
            "group_id": self._group,
            "enable_auto_commit": False,
            "max_partition_fetch_bytes": self._fetch_bytes,
        }
        consumer = await start(BatchConsumer(**arguments), self._settings)
        try:
            consumer.assign(list(self._partitions))
            # Nothing is fetched before a reader comes; without a position aiokafka would look for one.
            for tp in self._partitions:
                consumer.seek(tp, 0)
            consumer.pause(*self._partitions)
            await consumer.client.force_metadata_update()
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer
        self._commit_wanted = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._fetch(consumer)),
            asyncio.create_task(self._commit(consumer)),
        ]
        if self._follows and self._matches is not None:
            looking = self._look_for_topics(consumer, self._matches)
            self._tasks.append(asyncio.create_task(looking))

    async def _ask(self, question: Callable[[BatchConsumer], Awaitable[T]], what: str) -> T:
        assert self._consumer is not None
        try:
            return await question(self._consumer)
        except (kafka_errors.KafkaError, TimeoutError) as exc:
            raise connector_error(exc, self._settings, what) from exc

    async def _read_from(self, tp: TopicPartition, offset: int) -> Queue:
        assert self._consumer is not None
        loop = asyncio.get_running_loop()
        queue = Queue(self._ready_bytes, lambda: loop.call_soon_threadsafe(self._wake))
        self._consumer.seek(tp, offset)
        self._consumer.resume(tp)
        queue.fail(self._grown)
        self._queues[tp] = queue
        self._wake()
        return queue

    def _read_no_more(self, tp: TopicPartition) -> None:
        if self._queues.pop(tp, None) is not None and self._consumer is not None:
            self._consumer.pause(tp)

    def _wake(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        if self._to_commit:
            self._commit_soon({})
            await asyncio.wait([self._tasks[1]], timeout=CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        try:
            await asyncio.wait_for(consumer.stop(), CLOSE_SECONDS)
        except (kafka_errors.KafkaError, TimeoutError) as exc:
            logger.warning("source '%s' does not let go of its brokers: %r", self._source, exc)

    # --- fetching -------------------------------------------------------------------------------

    async def _fetch(self, consumer: BatchConsumer) -> None:
        try:
            while True:
                if not await self._take(consumer):
                    await self._wait(consumer)
                self._watch(consumer)
        except asyncio.CancelledError:
            raise
        except Exception as exc:
            # A defect: readers must hear of it, or they would wait for ever.
            logger.exception("source '%s' cannot be read on", self._source)
            self._fail(ConnectorError(f"source '{self._source}': {type(exc).__name__}: {exc}"))

    async def _take(self, consumer: BatchConsumer) -> bool:
        """Queue what aiokafka has fetched of partitions with room; False when there is nothing."""
        hungry = [tp for tp, queue in self._queues.items() if queue.has_room]
        if not hungry or self._grown is not None:
            return False
        try:
            found: Mapping[TopicPartition, list[Fetched]] = await consumer.fetcher.fetched_records(hungry)
        except kafka_errors.KafkaError as exc:
            await self._refused(consumer, exc)
            return False
        for tp, fetched in found.items():
            for piece in fetched:
                self._queues[tp].put(piece)
        return bool(found)

    async def _wait(self, consumer: BatchConsumer) -> None:
        """Until something was fetched, a queue has room again, or it is time to look around."""
        fetched = consumer.fetcher._create_fetch_waiter()
        self._room = asyncio.get_running_loop().create_future()
        waited = (fetched, self._room, consumer.fetcher.error_future)
        await asyncio.wait(waited, timeout=WATCH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if consumer.fetcher.error_future.done():
            await consumer.fetcher.error_future
        if fetched.done():
            fetched.exception()  # the coordinator's; they come again where they matter
        else:
            fetched.cancel()

    async def _refused(self, consumer: BatchConsumer, exc: kafka_errors.KafkaError) -> None:
        """Tell the readers concerned of an error that aiokafka met in fetching."""
        if isinstance(exc, kafka_errors.OffsetOutOfRangeError):
            for tp, offset in exc.args[0].items():
                await self._out_of_range(consumer, tp, offset)
        elif isinstance(exc, kafka_errors.TopicAuthorizationFailedError):
            topic = str(exc.args[0])
            error = connector_error(exc, self._settings, f"reading topic '{topic}'")
            self._fail(error, [tp for tp in self._queues if tp.topic == topic], REFUSED_SECONDS)
        else:
            error = connector_error(exc, self._settings, f"reading source '{self._source}'")
            self._fail(error, seconds=REFUSED_SECONDS)

    async def _out_of_range(self, consumer: BatchConsumer, tp: TopicPartition, offset: int) -> None:
        try:
            first = (await consumer.beginning_offsets([tp]))[tp]
            last = (await consumer.end_offsets([tp]))[tp]
        except kafka_errors.KafkaError as exc:
            error = connector_error(exc, self._settings, f"reading topic '{tp.topic}'")
            self._fail(error, [tp], REFUSED_SECONDS)
            return
        there = (
            f"has offsets {first} to {last - 1}" if first < last else f"is empty, its next offset is {last}"
        )
        self._fail(
            ConnectorError(
                f"'{tp.topic}-{tp.partition}' {there}, and is to be read from offset {offset}",
                hint="what is between is lost; set options.auto.offset.reset to 'earliest' or 'latest' "
                "to go on there",
                final=True,
            ),
            [tp],
            REFUSED_SECONDS,
        )

    def _fail(
        self,
        error: ConnectorError | None,
        partitions: Iterable[TopicPartition] | None = None,
        seconds: float = float("inf"),
    ) -> None:
        for tp in list(self._queues) if partitions is None else partitions:
            if tp in self._queues:
                self._queues[tp].fail(error, seconds)

    # --- looking around -------------------------------------------------------------------------

    def _watch(self, consumer: BatchConsumer) -> None:
        now = time.monotonic()
        if now - self._looked < WATCH_SECONDS:
            return
        self._looked = now
        self._watch_brokers(consumer)
        self._watch_topics(consumer)
        self._watch_transactions(consumer)

    def _watch_brokers(self, consumer: BatchConsumer) -> None:
        since = consumer.client.down_since
        seconds = 0.0 if since is None else time.monotonic() - since
        if since is None and self._away_since is not None:
            self._away_since = None
            logger.warning("source '%s': %s answers again", self._source, self._settings.brokers)
            self._fail(None)
        elif seconds >= WATCH_SECONDS and self._away_since is None:
            self._away_since = time.time() - seconds
            logger.warning(
                "source '%s': no broker answers at %s since %s; reading goes on when one does (%s)",
                self._source,
                self._settings.brokers,
                _clock(seconds),
                consumer.client.error,
            )
        if self._max_outage is not None and seconds > self._max_outage:
            self._fail(
                ConnectorError(
                    f"no broker answers at {self._settings.brokers} since {_clock(seconds)}",
                    hint=f"see that Kafka runs; sources.{self._source}.max_outage is how long to wait for it",
                )
            )

    def _watch_topics(self, consumer: BatchConsumer) -> None:
        cluster = consumer.client.cluster
        now = time.monotonic()
        for topic, count in self._counts.items():
            partitions = cluster.partitions_for_topic(topic)
            if partitions:
                if self._missing.pop(topic, now) + MISSING_SECONDS < now:
                    logger.warning("source '%s': topic '%s' is there again", self._source, topic)
                    self._fail(None, [tp for tp in self._queues if tp.topic == topic])
                if len(partitions) > count and self._follows:
                    self._grow(f"topic '{topic}' has {len(partitions)} partitions now, and {count} are read")
                continue
            if self._away_since is not None:
                continue
            since = self._missing.setdefault(topic, now)
            if topic in cluster.unauthorized_topics:
                problem = kafka_errors.TopicAuthorizationFailedError(topic)
                error = connector_error(problem, self._settings, f"reading topic '{topic}'")
            elif now - since > MISSING_SECONDS:
                error = ConnectorError(
                    f"topic '{topic}' is not there any more at {self._settings.brokers}, "
                    f"since {_clock(now - since)}",
                    hint="it was deleted: what was not read of it is lost",
                )
            else:
                continue
            self._fail(error, [tp for tp in self._queues if tp.topic == topic])

    def _watch_transactions(self, consumer: BatchConsumer) -> None:
        """Tell of partitions whose next record is of a transaction that stays open, or stands behind one."""
        assignment = consumer.assignment_state
        now = time.monotonic()
        for tp in self._queues:
            state = assignment.state_value(tp)
            known = state.has_valid_position and state.lso is not None and state.lso >= 0
            if not known or state.lso > state.position or state.lso == state.highwater:
                self._held.pop(tp, None)
                continue
            since = self._held.setdefault(tp, now)
            if now - since > HELD_SECONDS:
                self._held[tp] = float("inf")
                logger.warning(
                    "source '%s': a transaction that is open since %s or longer holds up '%s-%d' at offset "
                    "%d, and %d offsets from there; isolation.level=read_uncommitted does not wait for it",
                    self._source,
                    _clock(now - since),
                    tp.topic,
                    tp.partition,
                    state.position,
                    state.highwater - state.position,
                )

    async def _look_for_topics(self, consumer: BatchConsumer, matches: Callable[[str], bool]) -> None:
        """Now and then see whether there are more topics that the source means."""
        while True:
            await asyncio.sleep(self._max_age)
            try:
                topics = (await consumer.client.fetch_all_metadata()).topics()
            except kafka_errors.KafkaError:
                continue  # brokers that are away are told of elsewhere
            for topic in sorted(topics):
                if topic not in self._counts and matches(topic):
                    self._grow(f"topic '{topic}' is there now and is to be read too")
                    break

    def _grow(self, how: str) -> None:
        """There is more to read than when the job began: it must not go on as if that were all."""
        if self._on_growth is not None:
            if not self._growth_found:
                self._growth_found = True
                self._on_growth(how)
            return
        hint = "start the job again: it goes on where it is, and reads what is new from its first record"
        self._grown = ConnectorError(how, hint=hint, final=True)
        self._fail(self._grown)

    # --- committing -----------------------------------------------------------------------------

    def _commit_soon(self, offsets: dict[TopicPartition, int]) -> None:
        self._to_commit.update(offsets)
        if self._commit_wanted is not None:
            self._commit_wanted.set()

    async def _commit(self, consumer: BatchConsumer) -> None:
        """Commit positions to the group. Nothing depends on them but `start=committed` and who looks at the
        group's lag, so a failure is told once and the next commit tries again."""
        assert self._commit_wanted is not None
        failed = False
        while True:
            await self._commit_wanted.wait()
            self._commit_wanted.clear()
            offsets = dict(self._to_commit)
            try:
                await consumer.commit(offsets)
                failed = False
            except kafka_errors.KafkaError as exc:
                if not failed:
                    error = connector_error(exc, self._settings, f"committing to group '{self._group}'")
                    logger.warning("source '%s': %s", self._source, error.render())
                failed = True
            else:
                self._to_commit = {tp: at for tp, at in self._to_commit.items() if offsets.get(tp) != at}
            if self._consumer is None and not self._to_commit:
                return


def _clock(seconds_ago: float) -> str:
    """The time of day so long ago."""
    return (datetime.now() - timedelta(seconds=seconds_ago)).strftime("%H:%M:%S")
