"""Between the tasks of a job, through a topic with a partition for each: rows and watermarks.

Each task writes to all partitions, in its own transactions, and reads its own partition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from aiokafka import TopicPartition

from velostream.config.schema import SinkConfig, SourceConfig
from velostream.connectors.base import (
    BlockReader,
    Limits,
    Sink,
    SinkWriter,
    Source,
    Task,
    Transaction,
)
from velostream.connectors.kafka.consumer import TopicConsumer
from velostream.connectors.kafka.exchange_blocks import ExchangeBlock, ExchangeReader
from velostream.connectors.kafka.exchange_messages import TIMES, row_messages, watermark_message
from velostream.connectors.kafka.exchange_topic import (
    Trimmer,
    connection_settings,
    delete_before,
    delete_earlier,
    open_topic,
)
from velostream.connectors.kafka.producer import TransactionalProducer
from velostream.connectors.kafka.settings import ClientSettings
from velostream.connectors.kafka.sink import BATCH_BYTES, LARGE_BYTES, Built
from velostream.connectors.kafka.transaction import KafkaTransaction
from velostream.errors import ConnectorError
from velostream.formats.base import Decoder
from velostream.kernels import BatchWriter, take_rows
from velostream.operators.arrays import fixed
from velostream.operators.batch import Batch
from velostream.sql.types import Field, Schema

# For each task its rows of a batch, ascending; None: it has none.
Split = Callable[[pa.RecordBatch], Sequence[npt.NDArray[np.int32] | None]]

KIND = "exchange"
# What a batch takes beside its values: so no more than 128 are gathered for a task.
BATCH_OVERHEAD_BYTES = 1 << 10
# What a message may have before compression, half of what brokers take by default.
MESSAGE_BYTES = 512 << 10
# What a block may have as fetched: unpacked it is a few times as much.
BLOCK_BYTES = 2 << 20


class ExchangeSink(Sink):
    """The rows of one stage, each to the task that `split` says, in the transaction of the sending one."""

    config: SinkConfig

    def __init__(self, name: str, topic: str, settings: ClientSettings, task: Task, split: Split) -> None:
        super().__init__(name, SinkConfig(kind=KIND))
        self.topic = topic
        self.settings = settings
        self.task = task
        self.split = split
        self._transaction: KafkaTransaction | None = None

    @property
    def delivery(self) -> str:
        return "exactly_once"

    def join(self, transaction: Transaction) -> None:
        assert isinstance(transaction, KafkaTransaction)
        self._transaction = transaction

    def open(self, schema: pa.Schema, bounded: bool, resume: Any = None) -> ExchangeWriter:
        """See the base class. The topic is made when it is missing; one of the tasks deletes those of earlier
        runs."""
        assert self._transaction is not None, "join() comes first"
        if self.task.number == 0 and self.task.run > 1:
            delete_earlier(self.topic, connection_settings(self.settings))
        return self.writer(schema, self._transaction.producer)

    def writer(self, schema: pa.Schema, producer: TransactionalProducer) -> ExchangeWriter:
        """A writer by a producer that is open and stays so. Raises ConnectorError."""
        open_topic(self.topic, self.task.count, connection_settings(self.settings))
        return ExchangeWriter(self, schema, producer)

    def describe(self) -> dict[str, str]:
        return {"kind": KIND, "brokers": self.settings.brokers, "topic": self.topic}


class ExchangeWriter(SinkWriter):
    """Splits and packs rows in the lanes, gathers what is small, and hands record batches to the producer, at
    the latest at the `cut`: nobody reads them before the commit.

    `epoch` is that of the rows being written.
    """

    def __init__(self, sink: ExchangeSink, schema: pa.Schema, producer: TransactionalProducer) -> None:
        self._sink = sink
        self._sender = sink.task.number
        self._schema = schema
        self._timed = schema.append(TIMES)
        self._producer = producer
        # Who has a smaller one, because the broker takes no more, has it here too.
        batch_bytes = sink.settings.get("batch.size", BATCH_BYTES)
        self._message_bytes = min(MESSAGE_BYTES, batch_bytes)
        self._batches = BatchWriter(batch_bytes)
        self._gathered: list[list[pa.RecordBatch]] = [[] for _ in range(sink.task.count)]
        self._gathered_bytes = [0] * sink.task.count
        self.epoch = producer.epoch + 1
        # The newest watermark, and the one that the tasks have been told.
        self._watermark: int | None = None
        self._told: int | None = None
        self._written = 0

    @property
    def location(self) -> str:
        return f"topic '{self._sink.topic}' at {self._sink.settings.brokers}"

    @property
    def bytes_written(self) -> int:
        return self._written

    def encode(self, batch: Batch) -> list[tuple[int, pa.RecordBatch | Built]]:
        """For each task that has any its rows; where they are large, record batches of them."""
        assert batch.ops is None, "rows that are exchanged are neither updates nor deletes"
        parts: list[tuple[int, pa.RecordBatch | Built]] = []
        for task, rows in enumerate(self._sink.split(batch.data)):
            if rows is not None and len(rows):
                part = self._part(batch, rows)
                large = part.nbytes >= LARGE_BYTES
                parts.append((task, self._build(self._messages(task, [part])) if large else part))
        return parts

    def _part(self, batch: Batch, rows: npt.NDArray[np.int32]) -> pa.RecordBatch:
        """These rows, with their event times."""
        chosen = rows.astype(np.int64)
        columns = [take_rows(column, chosen) for column in batch.data.columns]
        if batch.times is not None:
            columns.append(fixed(batch.times[chosen], TIMES.type))
        if not columns:
            # Arrays say how many rows there are; without one only a slice keeps the number.
            return batch.data.slice(0, len(rows))
        schema = self._schema if batch.times is None else self._timed
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _messages(self, task: int, parts: Sequence[pa.RecordBatch]) -> list[tuple[int, pa.Buffer]]:
        """Messages to that task, of parts of which the first says whether there are times in all."""
        rows = parts[0] if len(parts) == 1 else pa.concat_batches(parts)
        return [(task, message) for message in row_messages(self._sender, rows, self._message_bytes)]

    def _build(self, messages: Sequence[tuple[int, Any]]) -> Built:
        """Record batches of messages to tasks, those to one task in their order."""
        values = b"".join(piece for _, message in messages for piece in (message, b"\n"))
        ends = np.cumsum([len(message) + 1 for _, message in messages], dtype=np.int64) - 1
        return self._batches.build(values, ends, None, np.array([task for task, _ in messages], np.int32))

    def write(self, payload: list[tuple[int, pa.RecordBatch | Built]], rows: int) -> None:
        """See the base class. Waits while more than buffer.memory is on its way to the broker."""
        self._producer.check()
        for task, part in payload:
            built: list[tuple[int, bytearray, int, int]] = []
            if isinstance(part, pa.RecordBatch):
                self._gathered[task].append(part)
                self._gathered_bytes[task] += part.nbytes + BATCH_OVERHEAD_BYTES
                if self._gathered_bytes[task] >= LARGE_BYTES:
                    built += self._build(self._take(task))
            else:
                if self._gathered[task]:
                    built += self._build(self._take(task))
                built += part
            for partition, data, records, _ in built:
                self._written += len(data)
                self._producer.send(self._sink.topic, partition, data, records, self.epoch)

    def _take(self, task: int) -> list[tuple[int, pa.Buffer]]:
        """Messages of what is gathered for a task that has some."""
        gathered, self._gathered[task] = self._gathered[task], []
        self._gathered_bytes[task] = 0
        return self._messages(task, gathered)

    def say(self, watermark: int) -> None:
        """Tell all tasks this watermark behind the rows of the epoch, unless it is another one by then. For
        any thread, side by side with the other methods."""
        self._watermark = watermark

    def cut(self) -> None:
        """See the base class. All that is gathered leaves, and the watermark behind it."""
        messages: list[tuple[int, Any]] = []
        for task, gathered in enumerate(self._gathered):
            if gathered:
                messages += self._take(task)
        watermark = self._watermark
        if watermark is not None and watermark != self._told:
            said = watermark_message(self._sender, watermark)
            messages += [(task, said) for task in range(self._sink.task.count)]
        for partition, data, records, _ in self._build(messages) if messages else ():
            self._written += len(data)
            self._producer.offer(self._sink.topic, partition, data, records, self.epoch)
        self._told = watermark
        self.epoch += 1

    def prepare(self, token: Any) -> None:
        """See the base class: the transaction's commit waits until what was written is acknowledged."""
        self._producer.check()

    def close(self, complete: bool) -> None:
        """See the base class. The producer is the transaction's, which takes back what is not committed."""


class ExchangeSource(Source):
    """What the tasks of a job, this one too, have sent to `task`: rows of `schema`, and watermarks.

    It is never at its end: `bounded` says that every sender's watermark comes to one.
    """

    config: SourceConfig

    def __init__(
        self, name: str, topic: str, settings: ClientSettings, task: Task, schema: pa.Schema, bounded: bool
    ) -> None:
        super().__init__(name, SourceConfig(kind=KIND))
        self._settings = connection_settings(settings)
        self._task = task
        self._place = TopicPartition(topic, task.number)
        self._columns = schema
        self._bounded = bounded
        self._consumer: TopicConsumer | None = None
        self._trimmer: Trimmer | None = None
        self._lock = Lock()

    @property
    def bounded(self) -> bool:
        return self._bounded

    @cached_property
    def schema(self) -> Schema:
        return Schema(tuple(Field(column.name, column.type) for column in self._columns))

    @property
    def inferred(self) -> bool:
        return False

    def partitions(self) -> Sequence[str]:
        return [f"{self._place.topic}-{self._place.partition}"]

    def total_bytes(self) -> int | None:
        """It is no input of the job."""
        return 0

    def decoder(self, partition: int, columns: Sequence[str]) -> Decoder | None:
        return None

    def reader(self, partition: int, limits: Limits, offset: int = 0) -> BlockReader:
        """See the base class. The topic is made when it is missing."""
        consumer = self._opened(limits)
        self._check_offset(consumer, offset)
        return ExchangeReader(
            partial(ExchangeBlock, self.partitions()[0], self._task.count, self._columns),
            consumer.read_from(self._place, offset),
            min(limits.max_bytes, BLOCK_BYTES),
            offset,
            partial(consumer.read_no_more, self._place),
        )

    def _opened(self, limits: Limits) -> TopicConsumer:
        with self._lock:
            if self._consumer is not None:
                return self._consumer
            open_topic(self._place.topic, self._task.count, self._settings)
            consumer = TopicConsumer(
                self.name,
                self._settings,
                None,
                [self._place],
                min(limits.max_bytes, BLOCK_BYTES),
                # The job's source, or its transaction, says when the brokers are away for too long.
                max_outage=None,
                follows=False,
                matches=None,
            )
            consumer.open()
            self._consumer = consumer
            self._trimmer = Trimmer(
                self.partitions()[0],
                lambda offset: delete_before(self._place, offset, self._settings),
            )
            return consumer

    def _check_offset(self, consumer: TopicConsumer, offset: int) -> None:
        """Raises ConnectorError when the records from there on are not all there."""

        async def look(client: Any) -> tuple[int, int]:
            first = await client.beginning_offsets([self._place])
            last = await client.end_offsets([self._place])
            return first[self._place], last[self._place]

        first, last = consumer.ask(look, f"looking up offsets of topic '{self._place.topic}'")
        if not first <= offset <= last:
            raise ConnectorError(
                f"'{self.partitions()[0]}' at {self._settings.brokers} has offsets from {first} to before "
                f"{last}, and is to be read from {offset}",
                hint="the topic was made anew or the state is an older one: begin afresh with state=reset",
            )

    def committed(self, positions: Mapping[str, int]) -> None:
        trimmer, offset = self._trimmer, positions.get(self.partitions()[0])
        if trimmer is not None and offset is not None:
            trimmer.trim(offset)

    @property
    def outage(self) -> tuple[str, float] | None:
        consumer = self._consumer
        return None if consumer is None else consumer.outage

    def close(self) -> None:
        with self._lock:
            consumer, self._consumer = self._consumer, None
            trimmer, self._trimmer = self._trimmer, None
        if trimmer is not None:
            trimmer.close()
        if consumer is not None:
            consumer.close()

    def describe(self) -> dict[str, str]:
        return {"kind": KIND, "brokers": self._settings.brokers, "topic": self._place.topic}
