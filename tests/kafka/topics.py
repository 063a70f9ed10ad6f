"""Topics of a test, written and read by librdkafka: a client that shares no code with velostream's."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

Headers = Sequence[tuple[str, bytes | None]]
SECONDS = 30


@dataclass(frozen=True, slots=True)
class Record:
    """A message; `timestamp` in ms. What is None when written is the broker's or the client's to choose."""

    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    timestamp: int | None = None
    headers: Headers = ()
    offset: int | None = None


class Topics:
    """Topics of a broker at `address`, each of its own name, deleted at the end of the context."""

    _numbers = itertools.count()

    def __init__(self, address: str) -> None:
        self.address = address
        self.admin = AdminClient(self._settings())
        self._made: list[str] = []
        self._run = uuid.uuid4().hex[:8]

    def __enter__(self) -> Topics:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._made:
            for future in self.admin.delete_topics(self._made).values():
                try:
                    future.result(SECONDS)
                except KafkaException as error:
                    # The test has deleted it.
                    if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                        raise

    def unused(self, name: str = "topic") -> str:
        """A name that no topic, group or transaction has yet."""
        return f"{name}-{self._run}-{next(self._numbers)}"

    def create(self, partitions: int = 1, name: str = "topic", **config: object) -> str:
        """Make a topic; its name, which begins with `name`. `config` in Kafka's names, `_` for `.`.

        It keeps records of any age, unless `config` says otherwise.
        """
        topic = self.unused(name)
        settings = {"retention.ms": "-1"}
        settings |= {key.replace("_", "."): str(value) for key, value in config.items()}
        new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=settings)
        self.admin.create_topics([new])[topic].result(SECONDS)
        self._made.append(topic)
        self._wait_for(topic, partitions)
        return topic

    def grow(self, topic: str, partitions: int) -> None:
        """Give the topic more partitions, that many in all."""
        self.admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(SECONDS)
        self._wait_for(topic, partitions)

    def delete(self, topic: str) -> None:
        self.admin.delete_topics([topic])[topic].result(SECONDS)

    def produce(
        self, topic: str, records: Iterable[Record | bytes], compression: str = "none", **settings: object
    ) -> None:
        """Write them, acknowledged. Without a partition they go where murmur2 of the key says.

        `settings` are librdkafka's, `_` for `.`.
        """
        defaults = {"partitioner": "murmur2_random", "compression.type": compression, "linger.ms": 5}
        producer = Producer(self._settings(defaults, settings))
        errors: list[KafkaError] = []
        for record in records:
            self._send(producer, topic, record, errors)
        left = producer.flush(SECONDS)
        assert not errors and not left, (errors, left)

    def produce_in_transaction(
        self, topic: str, records: Iterable[Record | bytes], commit: bool = True
    ) -> None:
        """Write them in one transaction of their own, and commit or abort it."""
        defaults = {"partitioner": "murmur2_random", "transactional.id": self.unused("transaction")}
        producer = Producer(self._settings(defaults))
        producer.init_transactions(SECONDS)
        producer.begin_transaction()
        errors: list[KafkaError] = []
        for record in records:
            self._send(producer, topic, record, errors)
        if commit:
            producer.commit_transaction(SECONDS)
        else:
            # Messages that are not in the log yet would never be.
            producer.flush(SECONDS)
            producer.abort_transaction(SECONDS)
        assert not errors, errors

    def consume(
        self, topic: str, count: int | None = None, committed: bool = True, seconds: float = SECONDS
    ) -> list[Record]:
        """All records up to the end, by partition and offset; waits up to `seconds` until there are `count`.

        `committed`: only those of no transaction or of one that was committed. Fails when there are more or
        fewer than `count`.
        """
        deadline = time.monotonic() + seconds
        while True:
            records = self._read(topic, committed, deadline)
            if count is None or len(records) >= count or time.monotonic() > deadline:
                assert count is None or len(records) == count, f"{len(records)} records of {count}"
                return records

    def committed(self, group: str, topic: str) -> list[int]:
        """The group's committed offset of each partition; -1001 where there is none."""
        consumer = Consumer(self._settings({"group.id": group}))
        try:
            partitions = [TopicPartition(topic, k) for k in range(self.partitions(topic))]
            return [place.offset for place in consumer.committed(partitions, SECONDS)]
        finally:
            consumer.close()

    def settled(self, group: str, topic: str) -> int:
        """The group's committed offset of partition 0, whatever transaction is open; -1001 where there is
        none."""
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0)])
        found = self.admin.list_consumer_group_offsets([asked], require_stable=False)[group].result(SECONDS)
        return int(found.topic_partitions[0].offset)

    def names(self, prefix: str) -> list[str]:
        """Of the topics that begin so."""
        return [name for name in self.admin.list_topics(timeout=SECONDS).topics if name.startswith(prefix)]

    def partitions(self, topic: str) -> int:
        return len(self.admin.list_topics(topic, SECONDS).topics[topic].partitions)

    def _settings(self, *more: dict[str, object]) -> dict[str, object]:
        settings: dict[str, object] = {"bootstrap.servers": self.address, "log_level": 2}
        for given in more:
            settings.update((name.replace("_", "."), value) for name, value in given.items())
        return settings

    def _wait_for(self, topic: str, partitions: int) -> None:
        """Until clients are told of all of its partitions: a broker answers before it knows them."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            known = self.admin.list_topics(topic, SECONDS).topics[topic]
            leaders = [place.leader for place in known.partitions.values()]
            if known.error is None and len(leaders) == partitions and -1 not in leaders:
                return
        raise AssertionError(f"{topic} has no {partitions} partitions after {SECONDS} s")

    def _send(self, producer: Producer, topic: str, record: Record | bytes, errors: list[KafkaError]) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                errors.append(error)

        if isinstance(record, bytes):
            record = Record(record)
        choices = {"partition": record.partition, "timestamp": record.timestamp}
        while True:
            try:
                producer.produce(
                    topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    on_delivery=delivered,
                    **{name: choice for name, choice in choices.items() if choice is not None},
                )
                producer.poll(0)
                return
            except BufferError:
                producer.poll(0.1)

    def _read(self, topic: str, committed: bool, deadline: float) -> list[Record]:
        consumer = Consumer(
            self._settings(
                {
                    "group.id": "reads-without-a-group",
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "isolation.level": "read_committed" if committed else "read_uncommitted",
                    "fetch.wait.max.ms": 50,
                }
            )
        )
        try:
            # First: for leaders that it does not know then, librdkafka looks half a second later.
            left = set(consumer.list_topics(topic, SECONDS).topics[topic].partitions)
            consumer.assign([TopicPartition(topic, k, OFFSET_BEGINNING) for k in left])
            records = []
            while left:
                for message in consumer.consume(10_000, timeout=0.02):
                    error = message.error()
                    if error is None:
                        records.append(record_of(message))
                    elif error.code() == KafkaError._PARTITION_EOF:
                        left.discard(message.partition())
                    else:
                        raise KafkaException(error)
                assert time.monotonic() < deadline + SECONDS, f"{topic} has no end: partitions {left}"
            return sorted(records, key=lambda record: (record.partition, record.offset))
        finally:
            consumer.close()


def record_of(message: Message) -> Record:
    kind, timestamp = message.timestamp()
    return Record(
        message.value(),
        message.key(),
        message.partition(),
        None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp,
        tuple(message.headers() or ()),
        message.offset(),
    )
