"""The Kafka sink: each row a record of a topic, built into record batches in the lanes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from velostream.config.schema import SinkConfig
from velostream.connectors.base import Sink, SinkWriter, Transaction, sinks
from velostream.connectors.changelog import Changes
from velostream.connectors.kafka.outgoing import EVENT_TIME, MURMUR2, Partitioner, RecordLayout, Rows, joined
from velostream.connectors.kafka.settings import CODECS, ClientSettings, client_settings
from velostream.connectors.kafka.topics import CreateTopic, find_topic
from velostream.connectors.kafka.transaction import KafkaTransaction
from velostream.errors import ConfigError, VelostreamError, Where, raise_all, unknown
from velostream.formats.base import Encoder, Format
from velostream.formats.options import open_format
from velostream.kernels import BatchWriter
from velostream.loop import shared_loop, submit
from velostream.operators.batch import DELETE, Batch

if TYPE_CHECKING:
    from velostream.connectors.kafka.producer import BatchProducer

# Finished record batches, each with its partition, its number of records and its first timestamp.
Built = Sequence[tuple[int, bytearray, int, int]]

# What people call a message that is one JSON object.
FORMAT_NAMES = {"json": "ndjson"}
# Kafka's own for linger.ms; batch.size as librdkafka's, since a batch holds what a lane has for a partition.
LINGER_MS = 5
BATCH_BYTES = 1_000_000
# Output of at least so many bytes is built into record batches where it is encoded; less is gathered first.
LARGE_BYTES = 128 << 10


@dataclass
class KafkaSinkConfig(SinkConfig):
    """A topic of Apache Kafka as a sink."""

    kind: str = "kafka"
    # Hosts and ports of one or more brokers, comma-separated.
    brokers: str = ""
    topic: str = ""
    # Columns that are the record's key; null: those of GROUP BY, as far as the query has them; []: no key.
    key: list[str] | None = None
    # text (of one column), json (an object of the columns), auto: text of one column, json of several.
    key_format: str = "auto"
    # murmur2 (of the key, as Kafka's own clients), round_robin, or a column that has the partition's number.
    partitioner: str = MURMUR2
    # auto (the row's event time, else the clock), clock, or a TIMESTAMP column.
    timestamp: str = EVENT_TIME
    # Header to column.
    headers: dict[str, str] = field(default_factory=dict)
    # Name of the format of values.
    format: str = "ndjson"
    # Options of the format.
    format_options: dict[str, Any] = field(default_factory=dict)
    # none, gzip, snappy, lz4, zstd; empty: as compression.type of the options, else none.
    compression: str = ""
    # Write a first column _op: insert, update or delete. Else a deleted row is a tombstone: its key without a
    # value.
    changelog: bool = False
    # How the topic is made when it is missing; null: that is an error.
    create: CreateTopic | None = None
    # Settings of Kafka's clients by Kafka's own names.
    options: dict[str, Any] = field(default_factory=dict, repr=False)


@sinks.register("kafka")
class KafkaSink(Sink):
    """A topic of Apache Kafka, with keys, headers and timestamps; deleted rows become tombstones."""

    Config: ClassVar[type[SinkConfig]] = KafkaSinkConfig
    config: KafkaSinkConfig

    def __init__(self, name: str, config: KafkaSinkConfig) -> None:
        super().__init__(name, config)
        self._place = f"sinks.{name}"
        self._stream_key: tuple[str, ...] = ()
        self._transaction: KafkaTransaction | None = None
        errors: list[VelostreamError] = []
        for check in (self._check_topic, lambda: self.codec, lambda: self.form):
            try:
                check()
            except VelostreamError as error:
                errors.append(error)
        raise_all(errors)

    def _check_topic(self) -> None:
        if not self.config.topic:
            where = Where(key=f"{self._place}.topic")
            raise ConfigError("no topic is given", where=where, hint="name the topic to write")

    @cached_property
    def settings(self) -> ClientSettings:
        """Raises ConfigError or Problems."""
        return client_settings(self.config.brokers, self.config.options, self._place, "sink")

    @cached_property
    def codec(self) -> str:
        """One of CODECS. Raises ConfigError."""
        option = self.settings.get("compression.type")
        asked = self.config.compression
        if asked and asked not in CODECS:
            message, hint = unknown("compression", asked, CODECS)
            raise ConfigError(message, where=Where(key=f"{self._place}.compression"), hint=hint)
        if asked and option and asked != option:
            raise ConfigError(
                f"compression is {asked}, and compression.type of the options is {option}",
                where=Where(key=f"{self._place}.compression"),
                hint="leave one of them",
            )
        return asked or option or "none"

    @cached_property
    def form(self) -> Format:
        """The format of values. Raises ConfigError or Problems."""
        name = FORMAT_NAMES.get(self.config.format, self.config.format)
        return open_format(name, self.config.format_options, self._place)

    @property
    def layout(self) -> RecordLayout:
        """Which columns become what."""
        config = self.config
        key = self._stream_key if config.key is None else tuple(config.key)
        return RecordLayout(
            self.name, key, config.key_format, config.headers, config.partitioner, config.timestamp
        )

    def bind(self, schema: pa.Schema, key: tuple[str, ...]) -> None:
        """See the base class."""
        self._stream_key = key
        raise_all(self.layout.check(schema, self._place))

    @property
    def delivery(self) -> str:
        """See the base class. What only the leader has acknowledged is gone when the leader is; without
        idempotence a batch that is sent again may be there twice."""
        if self.settings.get("acks", "all") != "all":
            return "best_effort"
        return "exactly_once" if self.settings.get("enable.idempotence", True) else "at_least_once"

    def transaction(self, job: str) -> KafkaTransaction:
        return KafkaTransaction(self.settings, job)

    def join(self, transaction: Transaction) -> None:
        assert isinstance(transaction, KafkaTransaction)
        self._transaction = transaction

    @property
    def shared(self) -> bool:
        return True

    @property
    def in_transaction(self) -> bool:
        return self._transaction is not None

    def open(self, schema: pa.Schema, bounded: bool, resume: Any = None) -> SinkWriter:
        """See the base class. A topic that is missing is made when `create` says how."""
        from velostream.connectors.kafka.producer import BatchProducer

        if self._transaction is not None:
            return self.writer(schema, self._transaction.producer)
        producer = BatchProducer(self.settings)
        producer.open()
        try:
            return self.writer(schema, producer)
        except BaseException:
            producer.close(complete=False)
            raise

    def writer(self, schema: pa.Schema, producer: BatchProducer) -> KafkaSinkWriter:
        """A writer of rows of `schema` by a producer that is open, and that the writer closes unless it is
        that of a transaction.

        Raises ConnectorError, ConfigError.
        """
        raise_all(self.layout.check(schema, self._place))
        partitions = submit(find_topic(self.config.topic, self.config.create, self.settings)).result()
        return KafkaSinkWriter(self, schema, producer, partitions)

    def describe(self) -> dict[str, str]:
        return {
            "kind": "kafka",
            "brokers": self.settings.brokers,
            "topic": self.config.topic,
            "key": ", ".join(self.layout.key_columns) or "none",
            "format": self.config.format,
        }


class KafkaSinkWriter(SinkWriter):
    """Encodes in the lanes, gathers what is small for linger.ms, and hands record batches to the producer.

    `epoch` is that of the rows being written, for a producer of transactions; `cut` ends it.
    """

    def __init__(self, sink: KafkaSink, schema: pa.Schema, producer: BatchProducer, partitions: int) -> None:
        from velostream.connectors.kafka.codecs import compressor

        config, settings = sink.config, sink.settings
        self._sink = sink
        self._topic = config.topic
        self._producer = producer
        self._in_transaction = sink.in_transaction
        self._changes = Changes(sink.name, schema, config.changelog)
        self._layout = sink.layout
        self._keys = self._layout.key_of(schema)
        self._headers = self._layout.headers_of(schema)
        self._partitions = partitions
        self._partitioner = self._layout.partitioner_of(partitions)
        # Encoders take one call at a time each: as many as there are lanes at work, made when needed.
        self._encoders: list[Encoder] = [sink.form.encoder(self._changes.schema)]
        self._batches = BatchWriter(
            settings.get("batch.size", BATCH_BYTES), CODECS.index(sink.codec), compressor(sink.codec)
        )
        self._linger = settings.get("linger.ms", LINGER_MS) / 1000
        self.epoch = producer.epoch + 1
        # Rows that linger. The lock is never held while waiting for the broker: the loop takes it.
        self._lock = threading.Lock()
        self._gathered: list[Rows] = []
        self._gathered_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._written = 0

    @property
    def location(self) -> str:
        return f"topic '{self._topic}' at {self._sink.settings.brokers}"

    @property
    def bytes_written(self) -> int:
        return self._written

    def encode(self, batch: Batch) -> Rows | Built:
        rows = self._rows(batch)
        return self._build(rows) if rows.size >= LARGE_BYTES else rows

    def _rows(self, batch: Batch) -> Rows:
        data = batch.data
        nulls = None
        if not self._sink.config.changelog and batch.ops is not None and self._keys is not None:
            deleted = batch.ops == DELETE
            nulls = deleted if deleted.any() else None
        # Deleted rows that are no tombstones are a matter of the changelog, or an error of it.
        values = data if nulls is not None else self._changes.rows(batch)
        ends = np.empty(data.num_rows, dtype=np.int64)
        try:
            encoder = self._encoders.pop()
        except IndexError:
            encoder = self._sink.form.encoder(self._changes.schema)
        text = encoder.encode(values, ends)
        self._encoders.append(encoder)
        keys = None if self._keys is None else self._keys(data)
        return Rows(
            text,
            ends,
            self._partitioner_now().choose(data, keys),
            self._layout.timestamps(data, batch.times),
            keys,
            None if self._headers is None else self._headers(data),
            nulls,
        )

    def _partitioner_now(self) -> Partitioner:
        """A new one when the topic has got more partitions: other clients use them too."""
        partitions = self._producer.known_partitions(self._topic)
        if partitions > self._partitions:
            self._partitions = partitions
            self._partitioner = self._layout.partitioner_of(partitions)
        return self._partitioner

    def _build(self, rows: Rows) -> Built:
        return self._batches.build(
            rows.values,
            rows.ends,
            rows.keys,
            rows.partitions,
            rows.timestamps,
            rows.headers,
            nulls=rows.nulls,
        )

    def write(self, payload: Rows | Built, rows: int) -> None:
        """See the base class. Waits while more than buffer.memory is on its way to the broker."""
        self._producer.check()
        if isinstance(payload, Rows):
            with self._lock:
                self._gathered.append(payload)
                self._gathered_bytes += payload.size
                if self._linger and self._gathered_bytes < LARGE_BYTES:
                    if len(self._gathered) == 1:
                        shared_loop().call_soon_threadsafe(self._start_timer)
                    return
                built = self._take()
        else:
            with self._lock:
                built = [*self._take(), *payload]
                self._written += sum(len(data) for _, data, _, _ in payload)
        for partition, data, records, _ in built:
            self._producer.send(self._topic, partition, data, records, self.epoch)

    def _take(self) -> Built:
        """What lingers, built; under the lock."""
        if not self._gathered:
            return []
        gathered, self._gathered = self._gathered, []
        self._gathered_bytes = 0
        built = self._build(joined(gathered))
        self._written += sum(len(data) for _, data, _, _ in built)
        return built

    def _offer(self) -> None:
        """Hand over what lingers without waiting for room in the producer; under the lock."""
        for partition, data, records, _ in self._take():
            self._producer.offer(self._topic, partition, data, records, self.epoch)

    def cut(self) -> None:
        """See the base class."""
        with self._lock:
            self._offer()
            self.epoch += 1

    def prepare(self, token: Any) -> None:
        """See the base class: what was written is acknowledged; in a transaction its commit waits for that,
        the state's way to the broker goes beside."""
        if self._in_transaction:
            self._producer.check()
        else:
            self._producer.flush()

    def hurry(self, seconds: float) -> None:
        """See the base class."""
        self._producer.hurry(seconds)

    def close(self, complete: bool) -> None:
        """See the base class. Rows that were written stay, also those of a job that failed, unless they are
        in a transaction: what it has not committed is taken back."""
        try:
            if not self._in_transaction:
                with self._lock:
                    self._offer()
        finally:
            shared_loop().call_soon_threadsafe(self._stop_timer)
            if not self._in_transaction:
                self._producer.close(complete)

    # On the loop.

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._linger, self._lingered)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lingered(self) -> None:
        self._timer = None
        try:
            with self._lock:
                self._offer()
        except Exception as error:  # nobody else would hear of it
            self._producer.fail(error)
