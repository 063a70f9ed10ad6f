"""How files of a state are packed into record batches; read back by aiokafka."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords

from velostream.connectors.kafka.settings import client_settings
from velostream.connectors.kafka.state_topic import PART_BYTES, StateTopic


class Producer:
    """Takes what would be sent."""

    epoch = 7

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.flushed: list[int] = []

    def offer(self, topic: str, partition: int, data: bytearray, records: int, epoch: int) -> None:
        assert (topic, partition, epoch) == ("state", 2, 7)
        assert records == len(list(messages_of(data)))
        self.sent.append(bytes(data))

    def flush(self) -> None:
        self.flushed.append(len(self.sent))


def messages_of(data: bytes | bytearray) -> Iterator[tuple[str, bytes | None]]:
    records = MemoryRecords(bytes(data))
    while records.has_next():
        for record in records.next_batch():
            yield record.key.decode(), record.value


def saved(written: dict[str, bytes], gone: dict[str, int]) -> Producer:
    producer: Any = Producer()
    settings = client_settings("nowhere:9092", {}, "sinks.out", "sink")
    StateTopic("state", settings, partition=2, tasks=3).save(producer, written, gone)
    taken: Producer = producer
    return taken


def test_the_small_files_of_a_commit_go_in_one_batch() -> None:
    producer = saved(
        {"000007.manifest": b"mark", "000007.data": b"", "a\nb": b"x\ny\n"}, {"000006.manifest": 9}
    )
    (data,) = producer.sent
    assert list(messages_of(data)) == [
        ("000007.manifest/0", b"mark"),
        ("000007.data/0", b""),
        ("a\nb/0", b"x\ny\n"),
        ("000006.manifest/0", None),
    ]


@pytest.mark.parametrize("size", [PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 40 * PART_BYTES + 17])
def test_a_large_file_goes_in_parts_and_batches_stay_small(size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    producer = saved({"first": b"small", "large": content, "last": b"small"}, {"large": size})
    messages = [message for data in producer.sent for message in messages_of(data)]

    parts = -(-size // PART_BYTES)
    assert [key for key, _ in messages] == [
        "first/0",
        *(f"large/{number}" for number in range(parts)),
        "last/0",
        *(f"large/{number}" for number in range(parts)),
    ]
    assert b"".join(value or b"" for key, value in messages if key.startswith("large")) == content
    assert [value for _, value in messages[-parts:]] == [None] * parts
    assert max(map(len, producer.sent)) < 2 * PART_BYTES
    # What is on its way is bounded.
    assert bool(producer.flushed) == (size > 16 << 20)
    assert len(producer.sent) <= parts + 3
