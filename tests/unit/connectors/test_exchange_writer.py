"""What an exchange sends when, and to whom. No broker."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from aiokafka.record.default_records import DefaultRecordBatch

from velostream.connectors.base import Task
from velostream.connectors.kafka.exchange import ExchangeSink, ExchangeSource, ExchangeWriter
from velostream.connectors.kafka.exchange_messages import TIMES, Message, read_message
from velostream.connectors.kafka.settings import client_settings
from velostream.connectors.kafka.sink import LARGE_BYTES
from velostream.errors import ConnectorError
from velostream.operators.batch import Batch
from velostream.sql.types import BIGINT, VARCHAR, Field

TASKS = 3
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])
TIMED = SCHEMA.append(TIMES)
Rows = npt.NDArray[np.int32]


def split(batch: pa.RecordBatch) -> Sequence[Rows | None]:
    """Each row to the task that its id modulo their number is."""
    to = batch.column("id").to_numpy() % TASKS
    found = [np.flatnonzero(to == task).astype(np.int32) for task in range(TASKS)]
    return [rows if len(rows) else None for rows in found]


def rows_of(ids: Sequence[int], text: str = "") -> Batch:
    return Batch(pa.record_batch([pa.array(ids, pa.int64()), pa.array([text] * len(ids))], schema=SCHEMA))


class Producer:
    """Takes what a writer sends."""

    def __init__(self) -> None:
        self.epoch = 4
        # Epoch, partition and record batch; those that must not be waited for have their own list too.
        self.sent: list[tuple[int, int, bytes]] = []
        self.offered: list[bytes] = []
        self.error: Exception | None = None

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    flush = check

    def send(self, topic: str, partition: int, data: bytearray, records: int, epoch: int) -> None:
        assert topic == "exchange"
        batch = DefaultRecordBatch(bytes(data))
        assert batch.validate_crc()
        assert len(list(batch)) == records
        self.sent.append((epoch, partition, bytes(data)))

    def offer(self, topic: str, partition: int, data: bytearray, records: int, epoch: int) -> None:
        self.offered.append(bytes(data))
        self.send(topic, partition, data, records, epoch)


class Sending:
    """A writer of task 1, and what its producer has taken."""

    def __init__(self, schema: pa.Schema = SCHEMA, **options: object) -> None:
        self.producer = Producer()
        dotted = {name.replace("_", "."): value for name, value in options.items()}
        settings = client_settings("nowhere:9092", dotted, "sinks.out", "sink")
        self.sink = ExchangeSink("totals", "exchange", settings, Task(1, TASKS, 1), split)
        self.schema = schema
        self.writer = ExchangeWriter(self.sink, schema, self.producer)  # type: ignore[arg-type]

    def write(self, batch: Batch) -> None:
        self.writer.write(self.writer.encode(batch), batch.rows)

    def messages(self, task: int) -> list[tuple[int, Message]]:
        """What was sent to it, each with its epoch."""
        return [
            (epoch, read_message(record.value, TASKS, self.schema, self.schema.append(TIMES)))
            for epoch, partition, data in self.producer.sent
            if partition == task
            for record in DefaultRecordBatch(data)
        ]

    def ids(self, task: int) -> list[int]:
        return [
            id
            for _, message in self.messages(task)
            if message.rows is not None
            for id in message.rows.column("id").to_pylist()
        ]


def test_small_parts_are_one_message_a_task_at_the_cut() -> None:
    sending = Sending()
    for first in range(0, 90, 9):
        sending.write(rows_of(range(first, first + 9)))
    assert sending.producer.sent == []
    sending.writer.cut()
    for task in range(TASKS):
        [(epoch, message)] = sending.messages(task)
        assert (epoch, message.sender) == (5, 1)
        assert sending.ids(task) == list(range(task, 90, TASKS))
    # A cut waits for nothing.
    assert len(sending.producer.offered) == TASKS == len(sending.producer.sent)
    assert sending.writer.bytes_written == sum(len(data) for _, _, data in sending.producer.sent)


def test_rows_behind_a_cut_are_of_the_next_epoch() -> None:
    sending = Sending()
    sending.write(rows_of([0]))
    sending.writer.cut()
    sending.write(rows_of([3], "x" * LARGE_BYTES))
    sending.write(rows_of([6]))
    sending.writer.cut()
    sending.writer.cut()
    assert [(epoch, message.rows.num_rows) for epoch, message in sending.messages(0) if message.rows] == [
        (5, 1),
        (6, 1),
        (6, 1),
    ]
    assert sending.ids(0) == [0, 3, 6]
    assert sending.messages(1) == sending.messages(2) == []


def test_a_large_part_is_packed_by_its_lane_and_stays_behind_what_was_gathered() -> None:
    sending = Sending()
    sending.write(rows_of([0, 1]))
    payload = sending.writer.encode(rows_of([3, 4, 4], "x" * (LARGE_BYTES // 2)))
    assert [(task, isinstance(part, pa.RecordBatch)) for task, part in payload] == [(0, True), (1, False)]
    sending.writer.write(payload, 3)
    # The other task has nothing large yet.
    assert (sending.ids(0), sending.ids(1)) == ([], [1, 4, 4])
    sending.write(rows_of([6], "x" * (LARGE_BYTES // 2)))
    assert sending.ids(0) == [0, 3, 6]
    sending.writer.cut()
    assert (sending.ids(0), sending.ids(1)) == ([0, 3, 6], [1, 4, 4])


def test_many_small_parts_leave_before_they_take_much_memory() -> None:
    sending = Sending()
    for id in range(0, 3 * 1_000, 3):
        sending.write(rows_of([id]))
    sent = sending.ids(0)
    assert sent == list(range(0, 3 * len(sent), 3))
    assert 1_000 - len(sent) <= 128
    assert len(sending.messages(0)) < 12


def test_event_times_go_along() -> None:
    sending = Sending()
    batch = rows_of([2, 0, 5])
    batch.times = np.array([20, -1, 50], dtype=np.int64)
    sending.write(batch)
    sending.writer.cut()
    [(_, message)] = sending.messages(2)
    assert message.rows is not None and message.rows.schema == TIMED
    assert message.rows.column("_times").to_pylist() == [20, 50]


def test_rows_without_columns_keep_their_number() -> None:
    sending = Sending(pa.schema([]))
    sending.sink.split = lambda batch: [None, np.arange(batch.num_rows, dtype=np.int32), None]
    for count in (3, 4):
        sending.write(Batch(rows_of(range(count)).data.select([])))
    sending.writer.cut()
    [(_, message)] = sending.messages(1)
    assert message.rows is not None and message.rows.num_rows == 7


def test_a_watermark_is_told_once_to_all_behind_the_rows() -> None:
    sending = Sending()
    sending.writer.say(7)
    sending.writer.say(8)
    sending.write(rows_of([0]))
    sending.writer.cut()
    sending.write(rows_of([3]))
    sending.writer.cut()
    sending.writer.say(9)
    sending.writer.say(8)
    sending.writer.cut()
    sending.writer.say(6)
    sending.writer.cut()
    said = [(epoch, message.watermark) for epoch, message in sending.messages(0)]
    assert said == [(5, None), (5, 8), (6, None), (8, 6)]
    for task in (1, 2):
        assert [(epoch, message.watermark) for epoch, message in sending.messages(task)] == [(5, 8), (8, 6)]


def test_lanes_encode_side_by_side() -> None:
    sending = Sending()
    batches = [rows_of(range(base, base + 3_000), "some text" * 20) for base in range(0, 24_000, 3_000)]
    payloads: dict[int, object] = {}
    start = threading.Barrier(len(batches))

    def encode(number: int) -> None:
        start.wait()
        payloads[number] = sending.writer.encode(batches[number])

    lanes = [threading.Thread(target=encode, args=(number,)) for number in range(len(batches))]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    for number in range(len(batches)):
        sending.writer.write(payloads[number], 3_000)  # type: ignore[arg-type]
    sending.writer.cut()
    for task in range(TASKS):
        assert sending.ids(task) == list(range(task, 24_000, TASKS))


def test_a_record_batch_is_no_larger_than_brokers_take() -> None:
    random = np.random.default_rng(1)
    # Of bytes that do not compress.
    texts = [random.integers(32, 127, 20_000, dtype=np.uint8).tobytes().decode() for _ in range(200)]
    batch = Batch(pa.record_batch([pa.array([0] * 200, pa.int64()), pa.array(texts)], schema=SCHEMA))
    for options, limit in (({}, 1 << 20), ({"batch_size": 100_000}, 100_000)):
        sending = Sending(**options)
        sending.write(batch)
        assert sending.ids(0) == [0] * 200
        assert max(len(data) for _, _, data in sending.producer.sent) <= limit
        assert len(sending.producer.sent) <= 2 * 4_000_000 // limit + 8


def test_an_error_of_the_producer_is_the_writers() -> None:
    sending = Sending()
    payload = sending.writer.encode(rows_of([0]))
    sending.producer.error = ConnectorError("lost")
    with pytest.raises(ConnectorError, match="lost"):
        sending.writer.write(payload, 1)
    with pytest.raises(ConnectorError, match="lost"):
        sending.writer.prepare(None)
    sending.producer.error = None
    sending.writer.write(payload, 1)
    sending.writer.cut()
    sending.writer.prepare(None)
    # Written once, though it was tried twice.
    assert sending.ids(0) == [0]


def test_a_source_says_what_it_is_without_a_broker() -> None:
    settings = client_settings("nowhere:9092", {}, "sinks.out", "sink")
    for bounded in (True, False):
        source = ExchangeSource("totals", "exchange", settings, Task(2, TASKS, 1), SCHEMA, bounded)
        assert source.bounded is bounded
        assert source.partitions() == ["exchange-2"]
        assert source.schema.fields == (Field("id", BIGINT), Field("text", VARCHAR))
        assert source.decoder(0, ["id"]) is None
        assert (source.total_bytes(), source.inferred, source.outage) == (0, False, None)
        source.verify(0, 17, source.fingerprint(0))
        # Before anything is read there is nothing to trim.
        source.committed({"exchange-2": 5})
        source.close()
