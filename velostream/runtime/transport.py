"""The embedded block transport of Faust: a topic is a source, a message is a block of records.

Faust gives each block to the agent of its partition, tracks acknowledgements and commits. Its offset is
the block's number within the partition, so that acknowledged blocks are consecutive numbers: with byte
positions Faust's bookkeeping of gaps costs milliseconds per event.

What Faust expects of a consumer and does not say (found by reading it, 0.15):
- a ConsumerMessage without the app's generation id is dropped without a word;
- `subscribe` runs inside the conductor, so the rebalance must be a task of its own, or recovery never begins;
- with every partition's buffer full, `_wait_next_records` sleeps a second: we wait for `on_buffer_drop`;
- `_drain_messages` makes four tasks a message, to notice when the flow is suspended: a third of its time.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from faust.serializers import codecs
from faust.tables.manager import TableManager as FaustTableManager
from faust.transport import base
from faust.transport.consumer import Consumer as FaustConsumer
from faust.transport.consumer import Fetcher
from faust.transport.drivers import TRANSPORTS
from faust.transport.producer import Producer as FaustProducer
from faust.types import TP, ConsumerMessage, Message
from faust.types.tuples import RecordMetadata

from velostream.connectors.base import Block, BlockReader, Limits, Source

SCHEME = "velostream"
CODEC = "velostream_block"
GENERATION = 1
# How long the consumer waits for a block before it looks whether it is to stop.
WAIT_SECONDS = 0.2


class BlockCodec(codecs.Codec):  # type: ignore[misc]
    """Passes blocks through: Faust decodes every value by some codec."""

    def _loads(self, s: Any) -> Any:
        return s

    def _dumps(self, s: Any) -> Any:
        return s


@dataclass(frozen=True, slots=True)
class EndOfPartition:
    """The last message of a bounded partition."""


@dataclass(frozen=True, slots=True)
class IdlePartition:
    """A partition that has been silent for its source's idle time-out; said once, until it speaks again."""


@dataclass(frozen=True, slots=True)
class ReadFailed:
    """A partition that cannot be read on; its last message."""

    error: Exception


Content: TypeAlias = Block | EndOfPartition | IdlePartition | ReadFailed


@dataclass(slots=True)
class Inputs:
    """What the transport of one app reads: sources by topic, and how much per block.

    `open_partitions` bounds how many partitions are read at the same time of a source that is not read side
    by side.
    `positions` has where to read on, by source and partition; the others are read from their start.
    `idle_timeouts_us` has the unbounded sources whose silent partitions are to be noticed; `timer` gives
    microseconds. `call` makes an external call by the rules of the job's failure strategy.
    """

    sources: Mapping[str, Source]
    limits: Limits
    open_partitions: int
    positions: Mapping[tuple[str, int], int]
    idle_timeouts_us: Mapping[str, int]
    timer: Callable[[], int]
    call: Callable[[str, Callable[[], Any]], Any]


class TableManager(FaustTableManager):  # type: ignore[misc]
    """Without the second that Faust's own sleeps at start, in case tables are still being declared."""

    async def on_start(self) -> None:
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()


class Consumer(FaustConsumer):  # type: ignore[misc]
    """Reads the partitions of the app's sources in a thread pool, one read at a time per partition."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._inputs: Inputs = self.app.inputs
        self._assigned: set[TP] = set()
        self._readers: dict[TP, BlockReader] = {}
        self._reading: set[TP] = set()
        self._contents: deque[tuple[TP, Content]] = deque()
        self._numbers: dict[TP, int] = {}
        self._ended: set[TP] = set()
        # How many messages of a partition are done, and the topics whose history is.
        self._acknowledged: Counter[TP] = Counter()
        self._live: set[str] = set()
        self._waiter: asyncio.Future[None] | None = None
        self._spoke: dict[TP, int] = {}
        self._silent: set[TP] = set()
        # Any reader may wait - for data, or for what it has dealt out to be read - so each has a thread.
        threads = sum(
            len(source.partitions())
            if source.side_by_side
            else min(len(source.partitions()), self._inputs.open_partitions)
            for source in self._inputs.sources.values()
        )
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"{self.app.conf.id}/read")

    async def subscribe(self, topics: Iterable[str]) -> None:
        wanted = {
            TP(topic, number)
            for topic in topics
            if topic in self._inputs.sources
            for number in range(self.topic_partitions(topic))
        }
        if wanted != self._assigned:
            self.add_future(self._assign(wanted))

    async def _assign(self, wanted: set[TP]) -> None:
        self.app.on_rebalance_start()
        await self.on_partitions_revoked(self._assigned)
        self._assigned = wanted
        self.app.consumer_generation_id = GENERATION
        await self.on_partitions_assigned(wanted, GENERATION)
        self._wake()

    async def _drain_messages(self, fetcher: Any) -> None:
        # Until then Faust resumes the flow more than once, and empties its streams' buffers each time.
        await self.app.tables.recovery.completed.wait()
        while not (self.should_stop or fetcher.should_stop):
            async for _, message in self.getmany(WAIT_SECONDS):
                await self.callback(message)

    def on_buffer_drop(self, tp: TP) -> None:
        super().on_buffer_drop(tp)
        self._wake()

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109 (Faust's signature)
        while self.flow_active and not self.should_stop and not self._get_active_partitions():
            await self._woken(timeout)
        return await super()._wait_next_records(timeout)

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 (Faust's signature)
    ) -> dict[TP, list[Any]]:
        for tp in self._readable(active_partitions or set()):
            self._reading.add(tp)
            self._pool.submit(self._read, tp)
        if not self._contents:
            await self._woken(timeout)
        records: dict[TP, list[Any]] = {}
        while self._contents:
            tp, content = self._contents.popleft()
            self._reading.discard(tp)
            if isinstance(content, Block) and content.size == 0:
                if not self._falls_silent(tp):
                    continue
                content = IdlePartition()
            elif isinstance(content, Block):
                self._spoke[tp] = self._inputs.timer()
                self._silent.discard(tp)
            else:
                self._ended.add(tp)
            records[tp] = [(self._numbers[tp], content)]
            self._numbers[tp] += 1
        return records

    def _wake(self) -> None:
        """There is something to do for `_getmany`: a partition can be read from, or has been."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _woken(self, seconds: float) -> None:
        """Wait for `_wake`, at most for `seconds`. A future and a timer: `wait_for` would make a task."""
        self._waiter = asyncio.get_running_loop().create_future()
        timer = self._waiter.get_loop().call_later(seconds, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _falls_silent(self, tp: TP) -> bool:
        """Whether a partition that has nothing to say is silent for long enough, and not known to be."""
        limit = self._inputs.idle_timeouts_us.get(tp.topic)
        now = self._inputs.timer()
        if limit is None or tp in self._silent or now - self._spoke.setdefault(tp, now) < limit:
            return False
        self._silent.add(tp)
        return True

    def _readable(self, active: set[TP]) -> list[TP]:
        """Active partitions to read from now; of a history, and of a source that is not read side by side, at
        most `open_partitions`, in order."""
        ready = []
        for topic, source in self._inputs.sources.items():
            partitions = sorted(tp for tp in self._assigned if tp.topic == topic and tp not in self._ended)
            history = self._in_history(topic, source.history_partitions)
            if history:
                partitions = [tp for tp in partitions if tp.partition < source.history_partitions]
            if history or not source.side_by_side:
                partitions = partitions[: self._inputs.open_partitions]
            ready += [tp for tp in partitions if tp in active and tp not in self._reading]
        return ready

    def _in_history(self, topic: str, count: int) -> bool:
        """Whether anything of the topic's first `count` partitions is still to be read, or under way."""
        if topic in self._live:
            return False
        for tp in (TP(topic, number) for number in range(count)):
            if tp not in self._ended or self._acknowledged[tp] < self._numbers[tp]:
                return True
        self._live.add(topic)
        return False

    def ack(self, message: Message) -> bool:
        acknowledged: bool = super().ack(message)
        if acknowledged:
            self._acknowledged[message.tp] += 1
            if message.tp in self._ended:
                self._wake()  # it may have been the last one of a history
        return acknowledged

    def _read(self, tp: TP) -> None:
        """In a thread of the pool."""
        content = self._read_now(tp)
        self.loop.call_soon_threadsafe(self._take, tp, content)

    def _take(self, tp: TP, content: Content) -> None:
        self._contents.append((tp, content))
        self._wake()

    def _read_now(self, tp: TP) -> Content:
        try:
            what = f"source '{tp.topic}'"
            reader = self._readers.get(tp)
            if reader is None:
                self._numbers[tp] = 0
                open_reader = partial(
                    self._inputs.sources[tp.topic].reader, tp.partition, self._inputs.limits
                )
                position = self._inputs.positions.get((tp.topic, tp.partition))
                if position is not None:
                    open_reader = partial(open_reader, position)
                reader = self._readers[tp] = self._inputs.call(what, open_reader)
            block: Block | None = self._inputs.call(what, reader.read)
            if block is not None:
                return block
            reader.close()
            return EndOfPartition()
        except Exception as error:  # a defect of a reader too: else the partition would fall silent
            return ReadFailed(error)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        number, content = record
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            number,
            0.0,
            0,
            [],
            None,
            content,
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def on_stop(self) -> None:
        await super().on_stop()
        # A read may take its time; the loop is shared with other jobs.
        await asyncio.to_thread(partial(self._pool.shutdown, cancel_futures=True))
        for reader in self._readers.values():
            reader.close()

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        # Positions are committed with the epochs.
        return True

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    async def create_topic(self, *args: Any, **kwargs: Any) -> None:
        pass

    def topic_partitions(self, topic: str) -> int:
        source = self._inputs.sources.get(topic)
        return len(source.partitions()) if source is not None else 1

    def key_partition(self, topic: str, key: bytes, partition: int | None = None) -> int | None:
        return 0

    def assignment(self) -> set[TP]:
        return self._assigned

    def highwater(self, tp: TP) -> int:
        return self._numbers.get(tp, 0)

    async def highwaters(self, *partitions: TP) -> dict[TP, int]:
        return {tp: self.highwater(tp) for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, 0)

    async def position(self, tp: TP) -> int | None:
        return self._numbers.get(tp)

    async def seek_to_committed(self) -> dict[TP, Any]:
        # Called when a rebalance begins; blocks are numbered from the start of each run.
        return dict.fromkeys(self._assigned)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        pass

    async def _seek(self, partition: TP, offset: int) -> None:
        pass


class Producer(FaustProducer):  # type: ignore[misc]
    """Faust wants one; output goes through sinks, so it is never sent to."""

    async def send(self, topic: str, *args: Any, **kwargs: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        future.set_result(RecordMetadata(topic=topic, partition=0, topic_partition=TP(topic, 0), offset=0))
        return future

    async def flush(self) -> None:
        pass

    def key_partition(self, topic: str, key: bytes) -> TP:
        return TP(topic, 0)


class Transport(base.Transport):  # type: ignore[misc]
    Consumer = Consumer
    Producer = Producer
    Fetcher = Fetcher
    driver_version = "velostream"
    default_port = 0


def register() -> None:
    """Make the transport and the codec known to Faust; may be called again."""
    TRANSPORTS.aliases[SCHEME] = f"{__name__}:Transport"
    codecs.register(CODEC, BlockCodec())
