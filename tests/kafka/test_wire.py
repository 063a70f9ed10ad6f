"""Record batches through a real broker: librdkafka and velostream's kernels read what the other wrote."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.record.memory_records import MemoryRecords

from tests.kafka.topics import Record, Topics
from tests.record_batches import Message, read, rows_of
from velostream.connectors.kafka.codecs import CODECS, compressor
from velostream.connectors.kafka.prebuilt import PrebuiltBatch
from velostream.kernels import BatchWriter, murmur2_partitions, read_headers

HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
NOW = 1_700_000_000_000
RECORDS = [
    Record(
        None if at % 11 == 0 else b'{"at": %d}\n' % at * (at % 5),
        b"key %d" % (at % 37),
        timestamp=NOW + at * at % 1_000,
        headers=(("number", b"%d" % at), ("nothing", None))[: at % 3],
    )
    for at in range(2_000)
]


def fetch(address: str, topic: str, partition: int, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """All record batches of a partition, as the broker sends them."""
    pieces: list[bytes] = []

    def watched(data: bytes) -> MemoryRecords:
        pieces.append(bytes(data))
        return MemoryRecords(data)

    async def consume() -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=address, enable_auto_commit=False)
        place = TopicPartition(topic, partition)
        await consumer.start()
        try:
            end = (await consumer.end_offsets([place]))[place]
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            while await consumer.position(place) < end:
                await consumer.getmany(timeout_ms=100)
        finally:
            await consumer.stop()

    with monkeypatch.context() as patch:
        patch.setattr("aiokafka.consumer.fetcher.MemoryRecords", watched)
        asyncio.run(consume())
    return b"".join(pieces)


def send(address: str, topic: str, batches: Sequence[tuple[int, bytearray, int, int]]) -> None:
    """Send finished batches, as an idempotent producer."""

    async def produce() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True)
        await producer.start()
        try:
            await producer.partitions_for(topic)
            sent = [
                await producer.send_batch(PrebuiltBatch(batch, records, False), topic, partition=partition)
                for partition, batch, records, _ in batches
            ]
            for future in sent:
                await future
        finally:
            await producer.stop()

    asyncio.run(produce())


def messages_of(records: Sequence[Record], partition: int) -> list[Message]:
    return [
        Message(record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
        for record in records
        if record.partition == partition and record.offset is not None and record.timestamp is not None
    ]


def built(records: Sequence[Record], partitions: int, codec: str) -> list[tuple[int, bytearray, int, int]]:
    values = [record.value or b"" for record in records]
    headers = [[{"key": key, "value": value} for key, value in record.headers] for record in records]
    keys = pa.array([record.key for record in records], pa.binary())
    return BatchWriter(16 << 10, CODECS.index(codec), compressor(codec)).build(
        b"\n".join(values),
        np.cumsum([len(value) + 1 for value in values]) - 1,
        keys,
        murmur2_partitions(keys, partitions),
        np.array([record.timestamp for record in records]),
        pa.array(headers, HEADERS),
        nulls=np.array([record.value is None for record in records]),
    )


@pytest.mark.parametrize("codec", CODECS)
def test_what_librdkafka_writes_is_read(
    codec: str, topics: Topics, kafka_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = topics.create(partitions=2)
    topics.produce(topic, RECORDS, codec)
    expected = topics.consume(topic, len(RECORDS))
    for partition in range(2):
        data = fetch(kafka_address, topic, partition, monkeypatch)
        assert {header.codec for header in read_headers(data)} == {CODECS.index(codec)}
        assert rows_of(read(data)) == messages_of(expected, partition)


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_written_is_read_by_librdkafka(
    codec: str, topics: Topics, kafka_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, theirs = topics.create(partitions=3), topics.create(partitions=3)
    send(kafka_address, topic, built(RECORDS, 3, codec))
    topics.produce(theirs, RECORDS)
    # Partition by partition the same records in the same order.
    assert topics.consume(topic, len(RECORDS)) == topics.consume(theirs, len(RECORDS))
    for partition in range(3):
        headers = read_headers(fetch(kafka_address, topic, partition, monkeypatch))
        assert {header.codec for header in headers} == {CODECS.index(codec)}
        assert headers[0].producer_id >= 0


def test_the_brokers_time_is_read_where_a_topic_has_it(
    topics: Topics, kafka_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = topics.create(message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    topics.produce(topic, RECORDS[:100])
    data = fetch(kafka_address, topic, 0, monkeypatch)
    assert all(header.log_append_time for header in read_headers(data))
    assert rows_of(read(data)) == messages_of(topics.consume(topic, 100), 0)
    assert all(before - 1_000 <= row.timestamp <= time.time() * 1000 + 1_000 for row in rows_of(read(data)))


def test_transactions_end_with_control_batches(
    topics: Topics, kafka_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = topics.create()
    topics.produce_in_transaction(topic, RECORDS[:10])
    topics.produce_in_transaction(topic, RECORDS[10:20], commit=False)
    headers = read_headers(fetch(kafka_address, topic, 0, monkeypatch))
    assert [header.control for header in headers] == [False, True, False, True]
    assert all(header.transactional for header in headers)
    assert (
        headers[0].producer_id == headers[1].producer_id != headers[2].producer_id == headers[3].producer_id
    )


def test_what_compaction_left_is_read_at_its_offsets(
    topics: Topics, kafka_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = topics.create(
        cleanup_policy="compact",
        segment_ms=100,
        min_cleanable_dirty_ratio="0.001",
        delete_retention_ms=1,
        max_compaction_lag_ms=100,
    )
    keys = [b"once %d" % at if at % 3 else b"again" for at in range(300)]
    topics.produce(topic, [Record(b"v %d" % at, key) for at, key in enumerate(keys)])
    deadline = time.monotonic() + 60
    while len(topics.consume(topic)) >= 300:
        assert time.monotonic() < deadline, "the topic was not compacted"
        # Only closed segments are compacted, and a new record closes one.
        topics.produce(topic, [Record(b"last", b"again")])
    data = fetch(kafka_address, topic, 0, monkeypatch)
    assert any(header.records < header.next_offset - header.base_offset for header in read_headers(data))
    assert [(row.offset, row.key) for row in rows_of(read(data)) if row.key != b"again"] == [
        (at, key) for at, key in enumerate(keys) if key != b"again"
    ]
