"""Rows and watermarks between the tasks of a job, through a topic of a real broker."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from aiokafka import TopicPartition as KafkaPartition
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import ConfigResource, ResourceType

from tests.kafka.topics import SECONDS, Record, Topics
from velostream.connectors.base import BlockReader, Limits, Task
from velostream.connectors.kafka.exchange import ExchangeSink, ExchangeSource, ExchangeWriter
from velostream.connectors.kafka.exchange_blocks import ExchangeBlock
from velostream.connectors.kafka.exchange_messages import watermark_message
from velostream.connectors.kafka.exchange_topic import delete_before
from velostream.connectors.kafka.producer import TransactionalProducer
from velostream.connectors.kafka.settings import ClientSettings, client_settings
from velostream.errors import ConnectorError
from velostream.loop import submit
from velostream.operators.batch import Batch

TASKS = 3
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])
Rows = npt.NDArray[np.int32]


def split(batch: pa.RecordBatch) -> Sequence[Rows | None]:
    """Row by row to the task that its id modulo their number is."""
    to = batch.column("id").to_numpy() % TASKS
    return [
        np.flatnonzero(to == task).astype(np.int32) if (to == task).any() else None for task in range(TASKS)
    ]


def batch_of(ids: Sequence[int], text: str = "", times: bool = False) -> Batch:
    data = pa.record_batch(
        [pa.array(ids, pa.int64()), pa.array([f"{text}{id}" for id in ids])], schema=SCHEMA
    )
    return Batch(data, None, np.array(ids, dtype=np.int64) * 1000 if times else None)


class Sending:
    """A task that writes its epochs to the exchange."""

    def __init__(self, topics: Topics, topic: str, number: int, **options: object) -> None:
        self.settings = settings_of(topics, **options)
        self.producer = TransactionalProducer(self.settings, f"{topic}-{number}")
        self.producer.open()
        sink = ExchangeSink("totals", topic, self.settings, Task(number, TASKS, 1), split)
        self.writer: ExchangeWriter = sink.writer(SCHEMA, self.producer)

    def write(self, batch: Batch) -> None:
        self.writer.write(self.writer.encode(batch), batch.rows)

    def commit(self) -> None:
        self.producer.begin()
        self.writer.cut()
        self.writer.prepare(None)
        self.producer.commit()

    def abort(self) -> None:
        self.producer.begin()
        self.writer.cut()
        self.writer.prepare(None)
        self.producer.abort()


def settings_of(topics: Topics, **options: object) -> ClientSettings:
    dotted = {name.replace("_", "."): value for name, value in options.items()}
    return client_settings(topics.address, dotted, "sinks.out", "sink")


@contextmanager
def receiving(
    topics: Topics, topic: str, number: int, offset: int = 0, max_bytes: int = 1 << 20
) -> Iterator[BlockReader]:
    source = ExchangeSource("totals", topic, settings_of(topics), Task(number, TASKS, 1), SCHEMA, True)
    try:
        reader = source.reader(0, Limits(max_bytes), offset)
        yield reader
        reader.close()
    finally:
        source.close()


def blocks(reader: BlockReader, rows: int, heard: int) -> list[tuple[ExchangeBlock, pa.RecordBatch]]:
    """The blocks up to the one with which there are so many rows and watermarks in all."""
    found: list[tuple[ExchangeBlock, pa.RecordBatch]] = []
    deadline = time.monotonic() + SECONDS
    while rows > sum(batch.num_rows for _, batch in found) or heard > sum(
        len(block.heard) for block, _ in found
    ):
        block = reader.read()
        assert block is not None, "an exchange has no end"
        if block.size:
            assert isinstance(block, ExchangeBlock)
            assert block.input_bytes == 0
            found.append((block, block.load()))
        assert time.monotonic() < deadline, found
    return found


def ids(found: Sequence[tuple[ExchangeBlock, pa.RecordBatch]]) -> list[int]:
    return [id for _, batch in found for id in batch.column("id").to_pylist()]


def heard(found: Sequence[tuple[ExchangeBlock, pa.RecordBatch]]) -> list[tuple[int, int]]:
    return [said for block, _ in found for said in block.heard]


@pytest.fixture
def topic(topics: Topics) -> Iterator[str]:
    """A name of which no topic is there yet; whoever comes first makes it."""
    name = topics.unused("exchange")
    yield name
    topics.delete(name)


@contextmanager
def sending(topics: Topics, topic: str, *numbers: int, **options: object) -> Iterator[list[Sending]]:
    with ExitStack() as stack:
        tasks = []
        for number in numbers:
            task = Sending(topics, topic, number, **options)
            stack.callback(task.producer.close, complete=False)
            tasks.append(task)
        yield tasks


def test_each_task_reads_what_all_have_committed_for_it(topics: Topics, topic: str) -> None:
    with sending(topics, topic, 0, 1) as (first, second):
        first.write(batch_of(range(0, 12), "a", times=True))
        second.write(batch_of(range(100, 112), "b", times=True))
        first.writer.say(10)
        second.writer.say(20)
        first.commit()
        second.commit()
        first.write(batch_of(range(12, 24), "a", times=True))
        first.writer.say(30)
        first.commit()

        assert topics.partitions(topic) == TASKS
        for task in range(TASKS):
            with receiving(topics, topic, task) as reader:
                found = blocks(reader, rows=12, heard=3)
            mine = [id for id in [*range(0, 12), *range(100, 112), *range(12, 24)] if id % TASKS == task]
            assert ids(found) == mine
            assert heard(found) == [(0, 10), (1, 20), (0, 30)]
            rows = pa.Table.from_batches([batch for _, batch in found]).to_pylist()
            assert rows == [
                {"id": id, "text": f"{'b' if id >= 100 else 'a'}{id}", "_times": id * 1000} for id in mine
            ]


def test_a_reader_may_come_first_and_sees_an_epoch_as_a_whole(topics: Topics, topic: str) -> None:
    with receiving(topics, topic, 0) as reader, sending(topics, topic, 1) as (task,):
        task.producer.begin()
        task.write(batch_of([0, 3]))
        task.writer.cut()
        task.writer.prepare(None)
        block = reader.read()
        assert block is not None and block.size == 0
        task.producer.commit()
        assert ids(blocks(reader, rows=2, heard=0)) == [0, 3]


def test_what_was_aborted_is_neither_seen_nor_heard(topics: Topics, topic: str) -> None:
    with sending(topics, topic, 0, 1) as (first, second):
        first.write(batch_of([0, 3, 6]))
        first.writer.say(1)
        first.abort()
        second.write(batch_of([9]))
        second.commit()
        # Its next owner says again what nobody has heard.
        with sending(topics, topic, 0) as (again,):
            again.write(batch_of([12]))
            again.writer.say(2)
            again.commit()
            with receiving(topics, topic, 0) as reader:
                found = blocks(reader, rows=2, heard=1)
                assert (ids(found), heard(found)) == ([9, 12], [(0, 2)])


def test_a_watermark_is_told_when_it_has_changed_and_behind_the_rows(topics: Topics, topic: str) -> None:
    with sending(topics, topic, 2) as (task,):
        task.writer.say(5)
        task.write(batch_of([1]))
        task.commit()
        task.write(batch_of([4]))
        task.commit()
        task.writer.say(6)
        task.writer.say(7)
        task.commit()
        with receiving(topics, topic, 1) as reader:
            found = blocks(reader, rows=2, heard=2)
        assert (ids(found), heard(found)) == ([1, 4], [(2, 5), (2, 7)])
        # Of the others nothing but what it says.
        records = [record for record in topics.consume(topic) if record.partition == 0]
        assert len(records) == 2


def test_a_reader_goes_on_behind_any_block(topics: Topics, topic: str) -> None:
    with sending(topics, topic, 0, 1) as (first, second):
        for epoch in range(4):
            for task, base in ((first, 0), (second, 1000)):
                task.write(batch_of(range(base + 30 * epoch, base + 30 * epoch + 30)))
                task.writer.say(epoch)
                if epoch == 1 and task is first:
                    task.abort()
                else:
                    task.commit()
        # As little as can be at a time.
        with receiving(topics, topic, 0, max_bytes=1) as reader:
            found = blocks(reader, rows=70, heard=7)
    assert sorted(ids(found)) == [*range(0, 30, 3), *range(60, 120, 3), *range(1002, 1120, 3)]
    assert len(found) >= 7
    for number, (block, _) in enumerate(found):
        rest = found[number + 1 :]
        with receiving(topics, topic, 0, block.next_offset) as reader:
            again = blocks(reader, len(ids(rest)), len(heard(rest)))
        assert (ids(again), heard(again)) == (ids(rest), heard(rest))


def test_much_is_cut_into_messages_that_the_broker_takes(topics: Topics, topic: str) -> None:
    random = np.random.default_rng(1)
    texts = [random.integers(32, 127, 9_000, dtype=np.uint8).tobytes().decode() for _ in range(900)]
    data = pa.record_batch([pa.array(range(900), pa.int64()), pa.array(texts)], schema=SCHEMA)
    with sending(topics, topic, 0) as (task,), receiving(topics, topic, 2) as reader:
        task.write(Batch(data))
        task.commit()
        found = blocks(reader, rows=300, heard=0)
    assert ids(found) == list(range(2, 900, 3))
    assert [text for _, batch in found for text in batch.column("text").to_pylist()] == texts[2::3]
    sizes = [len(record.value or b"") for record in topics.consume(topic) if record.partition == 2]
    assert 5 <= len(sizes) <= 12 and max(sizes) < 600_000


def test_a_row_that_the_broker_does_not_take_is_an_error_that_says_what_to_raise(
    topics: Topics, topic: str
) -> None:
    random = np.random.default_rng(1)
    with sending(topics, topic, 0) as (task,), receiving(topics, topic, 0) as reader:
        # What is larger only before compression passes.
        task.write(batch_of([0], "x" * 3_000_000))
        task.commit()
        [(_, rows)] = blocks(reader, rows=1, heard=0)
        assert rows.column("text").to_pylist() == ["x" * 3_000_000 + "0"]
        task.write(batch_of([3], random.integers(32, 127, 3_000_000, dtype=np.uint8).tobytes().decode()))
        with pytest.raises(ConnectorError) as caught:
            task.commit()
    assert caught.value.message.startswith(
        f"topic '{topic}' at {topics.address}: a record batch is larger than the broker takes"
    )
    assert caught.value.hint == "raise max.message.bytes of the topic, or lower batch.size"


def first_offset(topics: Topics, topic: str, partition: int) -> int:
    consumer = Consumer({"bootstrap.servers": topics.address, "group.id": "looks-at-offsets"})
    try:
        first, _ = consumer.get_watermark_offsets(TopicPartition(topic, partition), SECONDS)
        return int(first)
    finally:
        consumer.close()


def test_what_has_been_committed_is_deleted(topics: Topics, topic: str) -> None:
    with sending(topics, topic, 0, 1) as (first, second):
        for task in (first, second):
            task.write(batch_of(range(9)))
            task.commit()
        source = ExchangeSource("totals", topic, settings_of(topics), Task(1, TASKS, 1), SCHEMA, False)
        try:
            reader = source.reader(0, Limits(max_bytes=1))
            (block, _), *rest = blocks(reader, rows=6, heard=0)
            assert rest
            source.committed({f"{topic}-1": block.next_offset, f"{topic}-2": 100})
            deadline = time.monotonic() + SECONDS
            while first_offset(topics, topic, 1) != block.next_offset:
                assert time.monotonic() < deadline
            # Who reads on is not disturbed, nor is a partition of another task.
            first.write(batch_of([10]))
            first.commit()
            assert ids(blocks(reader, rows=1, heard=0)) == [10]
            assert (first_offset(topics, topic, 0), first_offset(topics, topic, 2)) == (0, 0)
        finally:
            source.close()
        with receiving(topics, topic, 1, block.next_offset) as reader:
            assert ids(blocks(reader, rows=4, heard=0)) == [*ids(rest), 10]


def test_offsets_that_are_not_there_any_more_are_an_error(topics: Topics, topic: str) -> None:
    with sending(topics, topic, 0) as (task,):
        for _ in range(2):
            task.write(batch_of([0]))
            task.commit()
    submit(delete_before(KafkaPartition(topic, 0), 2, settings_of(topics))).result(SECONDS)
    for offset in (0, 5):
        with pytest.raises(ConnectorError) as caught, receiving(topics, topic, 0, offset):
            pass
        assert caught.value.message == (
            f"'{topic}-0' at {topics.address} has offsets from 2 to before 4, and is to be read from {offset}"
        )
        assert caught.value.hint is not None and "state=reset" in caught.value.hint


def test_deleting_from_a_topic_that_is_gone_is_an_error(topics: Topics) -> None:
    place = KafkaPartition(topics.unused(), 0)
    with pytest.raises(ConnectorError, match="a partition has no leader"):
        submit(delete_before(place, 2, settings_of(topics))).result(SECONDS)


def test_a_topic_of_another_number_of_tasks_is_refused(topics: Topics) -> None:
    topic = topics.create(partitions=2)
    for begin in (
        lambda: Sending(topics, topic, 0),
        lambda: ExchangeSource("totals", topic, settings_of(topics), Task(0, TASKS, 1), SCHEMA, True).reader(
            0, Limits()
        ),
    ):
        with pytest.raises(ConnectorError) as caught:
            begin()
        assert caught.value.message == (
            f"topic '{topic}' at {topics.address} has 2 partitions, and the job has 3 tasks"
        )
        assert caught.value.hint == "set processor.tasks=2, or begin afresh with state=reset"


def test_what_another_program_has_written_is_an_error_that_names_its_place(topics: Topics) -> None:
    topic = topics.create(partitions=TASKS)
    topics.produce(topic, [Record(watermark_message(1, 5), partition=1), Record(b"{}", partition=1)])
    with receiving(topics, topic, 1) as reader:
        with pytest.raises(ConnectorError) as caught:
            blocks(reader, rows=1, heard=0)
    assert caught.value.message == (
        f"'{topic}-1' has a message at offset 1 that cannot be read: it has 2 bytes, fewer than its header"
    )


def test_rows_stay_in_the_topic_until_they_are_committed(topics: Topics, topic: str) -> None:
    with sending(topics, topic, 0):
        [future] = topics.admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    config = {name: entry.value for name, entry in future.result(SECONDS).items()}
    names = ("cleanup.policy", "retention.ms", "retention.bytes")
    assert [config[name] for name in names] == ["delete", "-1", "-1"]
