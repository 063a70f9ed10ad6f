"""Finished record batches to Kafka, from threads: bounded in memory, acknowledged, in transactions.

Lanes call `send`, which hands the batch to the loop's side and waits while too much is on its way. There, a
partition has a queue, out of which one task feeds aiokafka in order.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import time
from collections import deque
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from threading import Condition
from typing import Any, TypeVar

import aiokafka.errors as kafka_errors
from aiokafka.structs import TopicPartition

from velostream.connectors.kafka.client import client_arguments, connector_error, start
from velostream.connectors.kafka.prebuilt import PrebuiltBatch, PrebuiltProducer
from velostream.connectors.kafka.settings import ClientSettings
from velostream.errors import ConfigError, ConnectorError, InternalError, NoAnswerError
from velostream.faults import fault
from velostream.kernels import native
from velostream.loop import shared_loop, submit

logger = logging.getLogger("velostream.kafka")
T = TypeVar("T")
Place = tuple[str, int]

BUFFER_BYTES = 32 << 20
DELIVERY_TIMEOUT_MS = 120_000
# Without an acknowledgement for so long a person is told.
LONG_SECONDS = 5.0
# How long closing waits for acknowledgements when the job has failed or was interrupted.
CLOSE_SECONDS = 1.0
# And how long for the broker to take a transaction back: else the next `open` or its time-out does.
ABORT_SECONDS = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class _Outgoing:
    topic: str
    partition: int
    batch: PrebuiltBatch
    epoch: int
    # time.monotonic of `send`.
    since: float

    @property
    def size(self) -> int:
        return int(self.batch.size())


class BatchProducer:
    """Sends finished record batches, idempotently unless the settings say otherwise, in order per partition.

    `open` comes first, `close` last; in between any thread may call the others. The first error stays: every
    later call raises it. What was sent then may or may not have arrived.
    """

    def __init__(self, settings: ClientSettings, transactional_id: str | None = None) -> None:
        self.settings = settings
        self._memory = settings.get("buffer.memory", BUFFER_BYTES)
        self._max_request = settings.get("max.request.size")
        self._timeout = settings.get("delivery.timeout.ms", DELIVERY_TIMEOUT_MS) / 1000
        # How long nothing at all may be acknowledged while something is to be, and how long a step of a
        # transaction may take besides.
        self._patience = float("inf")
        self._transactional_id = transactional_id
        self._client: PrebuiltProducer | None = None
        # Shared by threads, under the lock of `_changed`.
        self._changed = Condition()
        self._unacknowledged = 0
        self._buffered = 0
        self._error: ConnectorError | None = None
        self._fresh: list[_Outgoing] = []
        # The loop's own: batches that aiokafka has not taken yet, and all that are not acknowledged.
        self._queues: dict[Place, deque[_Outgoing]] = {}
        self._feeding: set[asyncio.Task[None]] = set()
        self._waiting: dict[_Outgoing, None] = {}
        self._watch: asyncio.TimerHandle | None = None
        self._waits_long = False
        # When something was acknowledged last (time.monotonic).
        self._answered = 0.0
        # The topics that have acknowledged something, and when each was found missing (time.monotonic).
        self._found: set[str] = set()
        self._missing: dict[str, float] = {}
        # The last epoch that was begun, where there are transactions.
        self.epoch = 0

    def open(self) -> None:
        """Connect. Raises ConnectorError, ConfigError."""
        arguments = {
            "enable_idempotence": True,
            "acks": "all",
            **client_arguments(self.settings, "producer"),
        }
        if self._transactional_id is not None and not arguments["enable_idempotence"]:
            raise ConfigError(
                "there are no transactions without enable.idempotence",
                where=self.settings.where("enable.idempotence"),
                hint="leave it out, or set delivery=at_least_once",
            )
        if arguments["acks"] != "all" and arguments["enable_idempotence"]:
            raise ConfigError(
                f"acks {arguments['acks']} does not go with enable.idempotence",
                where=self.settings.where("acks"),
                hint="leave acks out, or set enable.idempotence: false",
            )
        if self._transactional_id is not None:
            arguments["transactional_id"] = self._transactional_id
        else:
            arguments.pop("transaction_timeout_ms", None)
        self._run(self._start(arguments), "")

    async def _start(self, arguments: Mapping[str, Any]) -> None:
        client = PrebuiltProducer(**arguments)
        self._client = await asyncio.wait_for(start(client, self.settings), self._timeout)
        self._watch = asyncio.get_running_loop().call_later(1, self._look)

    @property
    def client(self) -> PrebuiltProducer:
        """aiokafka's producer; its coroutines are for the loop."""
        assert self._client is not None, "open() comes first"
        return self._client

    def known_partitions(self, topic: str) -> int:
        """How many partitions the topic has, as told at the last look (each metadata.max.age.ms); 0 before
        anything was sent to it."""
        return len(self.client.client.cluster.partitions_for_topic(topic) or ())

    def send(self, topic: str, partition: int, data: bytearray, records: int, epoch: int = 0) -> None:
        """Send a finished record batch, which is taken over; returns before it is acknowledged.

        Waits while more than buffer.memory is on its way. `epoch` is for transactions. Raises ConnectorError.
        """
        self._admit(self._outgoing(topic, partition, data, records, epoch), wait=True)

    def offer(self, topic: str, partition: int, data: bytearray, records: int, epoch: int = 0) -> None:
        """As `send`, without ever waiting: for the loop itself."""
        self._admit(self._outgoing(topic, partition, data, records, epoch), wait=False)

    def _outgoing(self, topic: str, partition: int, data: bytearray, records: int, epoch: int) -> _Outgoing:
        if self._max_request is not None and len(data) > self._max_request:
            raise ConnectorError(
                f"topic '{topic}': a record batch of {len(data)} bytes is above max.request.size",
                hint="raise max.request.size, or lower batch.size",
                final=True,
            )
        batch = PrebuiltBatch(data, records, self._transactional_id is not None)
        return _Outgoing(topic, partition, batch, epoch, time.monotonic())

    def _admit(self, outgoing: _Outgoing, wait: bool) -> None:
        size = outgoing.size
        with native:
            self._changed.acquire()
        try:
            while wait and self._error is None and 0 < self._buffered > self._memory - size:
                with native:
                    self._changed.wait()
            self._raise_error()
            self._route(outgoing)
            self._buffered += size
        finally:
            self._changed.release()

    def _route(self, outgoing: _Outgoing) -> None:
        self._hand_over([outgoing])

    def _hand_over(self, batches: list[_Outgoing]) -> None:
        """Give batches to the loop, under the lock."""
        self._unacknowledged += len(batches)
        if batches and not self._fresh:
            shared_loop().call_soon_threadsafe(self._take)
        self._fresh += batches

    def check(self) -> None:
        """Raise the first error, if there was one."""
        with self._changed:
            self._raise_error()

    def fail(self, error: Exception) -> None:
        """Make this the error of every later call, unless there is one."""
        self._fail(connector_error(error, self.settings))

    def hurry(self, seconds: float) -> None:
        """Wait no longer than so long for brokers that answer nothing: who waits then, and every later call,
        raises NoAnswerError. For any thread, while others wait."""
        self._patience = seconds

    def flush(self) -> None:
        """Wait until all that was sent is acknowledged. Raises ConnectorError."""
        self._wait(None)
        self.check()

    def _wait(self, seconds: float | None) -> bool:
        """Wait until all is acknowledged or something has failed; False: neither was within `seconds`."""
        with native, self._changed:
            settled = self._changed.wait_for(
                lambda: not self._unacknowledged or self._error is not None, seconds
            )
        return settled

    def close(self, complete: bool = True) -> None:
        """Wait for acknowledgements, not long when not `complete`, and disconnect. May be called twice.

        Raises ConnectorError when `complete` and not all that was sent has arrived.
        """
        if self._client is None:
            return
        try:
            if complete:
                self.flush()
            else:
                self._wait(CLOSE_SECONDS)
        finally:
            client, self._client = self._client, None
            submit(self._stop(client)).result()

    async def _stop(self, client: PrebuiltProducer) -> None:
        if self._watch is not None:
            self._watch.cancel()
        for task in self._feeding:
            task.cancel()
        if self._waiting or self._error is not None or client.failure() is not None:
            await client.abandon()
        else:
            await client.stop()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self, coroutine: Coroutine[Any, Any, T], what: str) -> T:
        """The result of a coroutine on the loop; its errors as ConnectorError."""
        running = submit(coroutine)
        try:
            with native:
                concurrent.futures.wait([running])
            return running.result()
        except (kafka_errors.KafkaError, OSError, AssertionError) as exc:
            raise connector_error(exc, self.settings, what) from exc

    # What follows runs on the loop.

    def _take(self) -> None:
        with self._changed:
            fresh, self._fresh = self._fresh, []
        for outgoing in fresh:
            self._waiting[outgoing] = None
            place = (outgoing.topic, outgoing.partition)
            queue = self._queues.get(place)
            if queue is not None:
                queue.append(outgoing)
                continue
            self._queues[place] = deque([outgoing])
            task = asyncio.ensure_future(self._feed(place))
            self._feeding.add(task)
            task.add_done_callback(self._feeding.discard)

    async def _feed(self, place: Place) -> None:
        """Pass a partition's batches to aiokafka, which takes one at a time. One task a partition keeps their
        order: callers who wait side by side in `send_batch` may overtake each other."""
        queue = self._queues[place]
        topic, partition = place
        try:
            while queue and self._error is None and (client := self._client) is not None:
                try:
                    acknowledged = await client.send_prebuilt(topic, partition, queue[0].batch)
                except kafka_errors.KafkaTimeoutError:
                    # The batch before it is not on its way yet. `_look` says when that takes too long.
                    continue
                except kafka_errors.UnknownTopicOrPartitionError:
                    # Of a topic that nothing was sent to yet, also when no broker answers.
                    answered = await client.client.force_metadata_update()
                    if answered and not client.client.cluster.partitions_for_topic(topic):
                        raise
                    continue
                acknowledged.add_done_callback(partial(self._settled, queue.popleft()))
        except Exception as exc:  # whatever it is, what was to be sent is not
            self._fail(connector_error(exc, self.settings, f"topic '{topic}'"))
        finally:
            del self._queues[place]

    def _settled(self, outgoing: _Outgoing, acknowledged: asyncio.Future[Any]) -> None:
        del self._waiting[outgoing]
        if acknowledged.cancelled():
            return
        error = acknowledged.exception()
        if error is not None:
            self._fail(connector_error(error, self.settings, f"topic '{outgoing.topic}'"))
            return
        self._found.add(outgoing.topic)
        self._answered = time.monotonic()
        with self._changed:
            self._unacknowledged -= 1
            self._buffered -= outgoing.size
            self._changed.notify_all()

    def _fail(self, error: ConnectorError) -> None:
        # It stays.
        error.final = True
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _look(self) -> None:
        """Say when the oldest batch has waited long, fail when it has waited too long."""
        oldest = next(iter(self._waiting), None)
        now = time.monotonic()
        waited = 0.0 if oldest is None else now - oldest.since
        silent = min(waited, now - self._answered)
        if waited > LONG_SECONDS and not self._waits_long:
            logger.warning("%s acknowledges nothing for %.0f s: writing waits", self.settings.brokers, waited)
        self._waits_long = waited > LONG_SECONDS
        if self._waits_long:
            # aiokafka looks at topics again when metadata.max.age.ms is over.
            self.client.client.force_metadata_update()
        if oldest is None:
            # What was missing once is not missing since then.
            self._missing.clear()
        elif self._is_gone(oldest.topic):
            self._fail(
                ConnectorError(
                    f"topic '{oldest.topic}' is not there any more at {self.settings.brokers}",
                    hint="it was deleted, and its rows with it: create it, and begin afresh with state=reset",
                )
            )
        if oldest is not None and (waited > self._timeout or silent > self._patience):
            self._fail(
                NoAnswerError(
                    f"topic '{oldest.topic}' at {self.settings.brokers}: "
                    f"nothing was acknowledged for {min(self._timeout, self._patience):g} s",
                    hint="see that its brokers run, or raise delivery.timeout.ms",
                )
            )
        self._watch = asyncio.get_running_loop().call_later(min(1, self._timeout), self._look)

    def _is_gone(self, topic: str) -> bool:
        """Whether a topic was there and is missing for some time: a broker that has just started may not know
        its topics yet."""
        now = time.monotonic()
        if self.known_partitions(topic):
            self._missing.pop(topic, None)
        elif topic in self._found:
            return now - self._missing.setdefault(topic, now) > LONG_SECONDS
        return False


class TransactionalProducer(BatchProducer):
    """Sends the batches of each epoch in a transaction of its own, numbered from 1.

    Opening it fences every other producer of the same `transactional_id`, and aborts what that one had open.
    Batches of a later epoch may be sent at any time: they are held, counted by buffer.memory, until `begin`
    opens theirs. So nobody waits for a commit. `begin`, `commit` and `abort` are called by one thread.

    After an error a transaction can only be aborted, and the producer closed. FencedError says that another
    producer has taken over.
    """

    def __init__(self, settings: ClientSettings, transactional_id: str) -> None:
        super().__init__(settings, transactional_id)
        self._in_transaction = False
        self._held: dict[int, list[_Outgoing]] = {}
        # That of the step under way. The loop's own.
        self._limit: asyncio.Timeout | None = None

    def begin(self) -> int:
        """Open the transaction of the next epoch; its number. Asks nothing of the broker."""
        self._transact(self.client.begin_transaction())
        with self._changed:
            self.epoch += 1
            self._in_transaction = True
            self._hand_over(self._held.pop(self.epoch, []))
        return self.epoch

    def send_offsets(
        self,
        offsets: Mapping[tuple[str, int], int | tuple[int, str]],
        group: str,
        generation: int = -1,
        member: str = "",
    ) -> None:
        """Commit the group's next offsets, by topic and partition, with the open transaction; with metadata
        where these are given too.

        `generation` and `member` are those of the consumer that read the records: when the group has moved
        on, its partitions are another member's, and this raises FencedError (KIP-447). Without them nobody
        checks.
        """
        fault("kafka.before_offsets")
        self.check()
        places = {TopicPartition(*place): offset for place, offset in offsets.items()}
        self._transact(self.client.send_offsets(places, group, generation, member))

    def commit(self) -> None:
        """Wait until all batches of the open epoch are acknowledged, and commit them and their offsets.

        After a ConnectorError it is known only by the next producer's `open` whether it was committed: it
        waits for a commit that has begun.
        """
        fault("kafka.before_flush")
        self.flush()
        fault("kafka.before_commit")
        self._transact(self.client.commit_transaction())
        self._in_transaction = False
        fault("kafka.after_commit")

    def abort(self, seconds: float | None = None) -> None:
        """Take back the open transaction, and drop what is held for later epochs. Raises ConnectorError, also
        when the broker has not done it after so many seconds (None: delivery.timeout.ms)."""
        with self._changed:
            dropped = [outgoing for held in self._held.values() for outgoing in held]
            self._held.clear()
            self._buffered -= sum(outgoing.size for outgoing in dropped)
            self._changed.notify_all()
        if not self._in_transaction:
            return
        self._in_transaction = False
        # Batches that are not in the log yet would be part of the next transaction.
        if not self._wait(seconds):
            raise NoAnswerError(f"{self.settings.brokers}: nothing was acknowledged for {seconds:g} s")
        if isinstance(self._error, NoAnswerError):
            seconds = CLOSE_SECONDS
        if self.client.failure() is None:
            self.client.forget_error()
            self._transact(self.client.abort_transaction(), seconds)

    def close(self, complete: bool = True) -> None:
        """As of the base class; a transaction that is open is aborted, so that readers need not wait for its
        time-out."""
        if self._client is None:
            return
        try:
            self.abort(None if complete else ABORT_SECONDS)
        except ConnectorError:
            if complete:
                raise
        finally:
            super().close(complete=False)

    def _route(self, outgoing: _Outgoing) -> None:
        if outgoing.epoch > self.epoch:
            self._held.setdefault(outgoing.epoch, []).append(outgoing)
        elif outgoing.epoch == self.epoch and self._in_transaction:
            self._hand_over([outgoing])
        else:
            raise InternalError(f"a batch of epoch {outgoing.epoch} behind the end of its transaction")

    def hurry(self, seconds: float) -> None:
        """As of the base class; also of the step of a transaction that is under way."""
        super().hurry(seconds)
        shared_loop().call_soon_threadsafe(self._shorten, seconds)

    def _shorten(self, seconds: float) -> None:
        if self._limit is not None and not self._limit.expired():
            end = asyncio.get_running_loop().time() + seconds
            self._limit.reschedule(min(end, self._limit.when() or end))

    def _transact(self, coroutine: Coroutine[Any, Any, Any], seconds: float | None = None) -> None:
        """Run a step of a transaction. The broker may be away for `seconds`, or as long as batches may."""

        async def step() -> None:
            failure = self.client.failure()
            if failure is not None:
                coroutine.close()
                raise failure
            try:
                async with asyncio.timeout(min(seconds or self._timeout, self._patience)) as self._limit:
                    await coroutine
            finally:
                self._limit = None

        try:
            self._run(step(), f"transactional.id '{self._transactional_id}'")
        except ConnectorError as error:
            # Who waits for room waits for a commit that does not come.
            self._fail(error)
            self.check()

    def _fail(self, error: ConnectorError) -> None:
        """As of the base class; the step that is under way then ends: it may wait for what will never be."""
        first, step = self._error is None, self._limit
        super()._fail(error)
        if first and step is not None:
            shared_loop().call_soon_threadsafe(self._cut, step)

    def _cut(self, step: asyncio.Timeout) -> None:
        if self._limit is step and not step.expired():
            step.reschedule(asyncio.get_running_loop().time())
