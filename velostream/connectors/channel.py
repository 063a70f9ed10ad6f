"""Streams inside the process: one job feeds another, a test feeds a job."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from velostream.config.schema import SinkConfig, SourceConfig
from velostream.connectors.base import Block, BlockReader, Limits, Sink, SinkWriter, Source, sinks, sources
from velostream.errors import ConnectorError
from velostream.formats.base import Decoder
from velostream.operators.batch import Batch
from velostream.sql.types import Field, Schema

# Bytes that may wait in a subscription; a publisher waits when there are more.
LIMIT_BYTES = 64 << 20
WAIT_SECONDS = 0.05


class Subscription:
    """What one reader of a channel has still to read. Thread-safe."""

    def __init__(self) -> None:
        self._batches: deque[pa.RecordBatch] = deque()
        self._bytes = 0
        self._ended = False
        self._error: str | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, batch: pa.RecordBatch) -> None:
        """Add rows; waits while too many bytes are unread. A closed or ended subscription drops them."""
        with self._changed:
            while self._bytes > LIMIT_BYTES and not (self._closed or self._ended):
                self._changed.wait()
            if not (self._closed or self._ended):
                self._batches.append(batch)
                self._bytes += batch.nbytes
                self._changed.notify_all()

    def get(self) -> pa.RecordBatch | None:
        """The next rows, waiting shortly for some (a batch without rows then); None at the end.

        Raises ConnectorError when the stream ended before its time.
        """
        with self._changed:
            if not self._batches and not self._ended:
                self._changed.wait(WAIT_SECONDS)
            if self._batches:
                batch = self._batches.popleft()
                self._bytes -= batch.nbytes
                self._changed.notify_all()
                return batch
            if self._error is not None:
                raise ConnectorError(self._error)
            return None if self._ended else pa.RecordBatch.from_pylist([])

    def end(self, error: str | None) -> None:
        """No more rows will come; `error` says why, when they should have."""
        with self._changed:
            self._ended = True
            self._error = error
            self._changed.notify_all()

    def close(self) -> None:
        """The reader is gone."""
        with self._changed:
            self._closed = True
            self._batches.clear()
            self._changed.notify_all()


class Channel:
    """A named stream of this process. Rows go to those who have subscribed by then, in order."""

    def __init__(self, name: str, schema: pa.Schema) -> None:
        self.name = name
        self.schema = schema
        self._subscriptions: list[Subscription] = []
        self._lock = threading.Lock()
        self._ended = False
        self._error: str | None = None

    @property
    def ended(self) -> bool:
        return self._ended

    def subscribe(self) -> Subscription:
        """What is published from now on, for one reader."""
        subscription = Subscription()
        with self._lock:
            self._subscriptions.append(subscription)
            if self._ended:
                subscription.end(self._error)
        return subscription

    def publish(self, batch: pa.RecordBatch) -> None:
        """Send rows to all subscribers; waits for the slowest."""
        with self._lock:
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.put(batch)

    def end(self, error: str | None = None) -> None:
        """The stream has ended, or broken off for the reason `error`; only the first call counts."""
        with self._lock:
            if self._ended:
                return
            self._ended, self._error = True, error
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.end(error)


@dataclass
class ChannelSourceConfig(SourceConfig):
    """Not for YAML: a job server and the test driver make it. `bounded` when the stream is known to end."""

    kind: str = "channel"
    channel: Any = None
    bounded: bool = False


@dataclass
class ChannelSinkConfig(SinkConfig):
    """Not for YAML."""

    kind: str = "channel"
    channel: Any = None


class _ColumnsBlock(Block):
    __slots__ = ("batch",)

    def __init__(self, batch: pa.RecordBatch, offset: int) -> None:
        super().__init__(offset, offset + batch.num_rows, max(1, batch.nbytes) if batch.num_rows else 0)
        self.batch = batch

    def load(self) -> pa.RecordBatch:
        return self.batch


class ChannelReader(BlockReader):
    def __init__(self, subscription: Subscription, limits: Limits) -> None:
        self._subscription = subscription
        self._limits = limits
        self._rest: pa.RecordBatch | None = None
        self._offset = 0

    def read(self) -> Block | None:
        batch = self._rest if self._rest is not None else self._subscription.get()
        self._rest = None
        if batch is None:
            return None
        most = self._limits.records or batch.num_rows
        if batch.num_rows > most:
            batch, self._rest = batch.slice(0, most), batch.slice(most)
        block = _ColumnsBlock(batch, self._offset)
        self._offset = block.next_offset
        return block

    def close(self) -> None:
        self._subscription.close()


@sources.register("channel", yaml=False)
class ChannelSource(Source):
    """Rows that another job of this process, or a test, publishes: those published after `subscribe`."""

    Config = ChannelSourceConfig

    def __init__(self, name: str, config: ChannelSourceConfig) -> None:
        super().__init__(name, config)
        channel: Channel = config.channel
        self._schema = Schema(tuple(Field(field.name, field.type) for field in channel.schema))
        self._channel = channel
        self._subscription: Subscription | None = None

    def subscribe(self) -> None:
        """Keep what is published from now on; whoever calls this closes the source in the end.

        Before it, checking a job leaves nothing behind that a publisher would wait for.
        """
        if self._subscription is None:
            self._subscription = self._channel.subscribe()

    def close(self) -> None:
        """Read no more, so that no publisher waits; may be repeated."""
        if self._subscription is not None:
            self._subscription.close()

    @property
    def bounded(self) -> bool:
        return bool(self.config.bounded)

    @property
    def inferred(self) -> bool:
        return False

    @property
    def schema(self) -> Schema:
        return self._schema

    def partitions(self) -> Sequence[str]:
        return (self.name,)

    @property
    def resumable(self) -> bool:
        """What was published before it subscribed is gone."""
        return False

    def reader(self, partition: int, limits: Limits, offset: int = 0) -> BlockReader:
        self.subscribe()
        assert self._subscription is not None
        return ChannelReader(self._subscription, limits)

    def decoder(self, partition: int, columns: Sequence[str]) -> Decoder | None:
        return None


class ChannelWriter(SinkWriter):
    """Publishes rows. Operations are not passed on: a stream that updates its rows cannot be subscribed to
    (the job server sees to that)."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def write(self, payload: Batch, rows: int) -> None:
        self._channel.publish(payload.data)

    def close(self, complete: bool) -> None:
        """End a complete stream. One that broke off is ended by the server, which knows why."""
        if complete:
            self._channel.end()

    @property
    def location(self) -> str:
        return f"stream {self._channel.name}"


@sinks.register("channel", yaml=False)
class ChannelSink(Sink):
    """A stream that other jobs of this process read by its name."""

    Config = ChannelSinkConfig

    @property
    def delivery(self) -> str:
        """What readers have not taken is lost with the process."""
        return "best_effort"

    def open(self, schema: pa.Schema, bounded: bool, resume: Any = None) -> SinkWriter:
        return ChannelWriter(self.config.channel)
