"""A job's saved state in a topic, written with its transactions: so that it can be had on another machine.

A file is a row of messages of one partition, that of the task: the key is `NAME/PART`, parts numbered from 0,
the value its bytes. The topic is compacted, and a file that is gone has tombstones.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from velostream.connectors.kafka.settings import ClientSettings
from velostream.connectors.kafka.topics import CreateTopic, find_topic
from velostream.errors import ConnectorError, Where
from velostream.kernels import BatchWriter
from velostream.loop import submit

if TYPE_CHECKING:
    from velostream.connectors.kafka.producer import TransactionalProducer

PART_BYTES = 512 << 10
# Of so much the acknowledgement is waited for before more is sent.
WINDOW_BYTES = 16 << 20
# How often a person is told how far reading has come.
TOLD_SECONDS = 2.0

# Its key, and its value: None for a tombstone.
Message = tuple[str, bytes | None]

logger = logging.getLogger("velostream.kafka")


class StateTopic:
    """Partition `partition` of the topic `NAME` at a cluster, made by `open` when it is missing, with one for
    each of `tasks`. Raises ConnectorError."""

    def __init__(self, name: str, settings: ClientSettings, partition: int = 0, tasks: int = 1) -> None:
        self._name = name
        self._settings = settings
        self._partition = partition
        self._tasks = tasks

    def open(self) -> None:
        """Before anything is read: the first commit must not wait for a topic."""
        made = CreateTopic(partitions=self._tasks, config={"cleanup.policy": "compact"})
        there = submit(find_topic(self._name, made, self._settings)).result()
        if there != self._tasks:
            raise ConnectorError(
                f"topic '{self._name}' has the state of a job of {there} tasks, not {self._tasks}",
                where=Where(key="processor.tasks"),
                hint=f"set it to {there}, or delete the job's topics ('velostream-JOB-…') to begin afresh",
            )

    def save(
        self, producer: TransactionalProducer, written: Mapping[str, bytes], gone: Mapping[str, int]
    ) -> None:
        """Send the files, and tombstones for those that are gone (by their sizes), in the transaction."""
        sent = 0
        for messages in _gathered(self._messages(written, gone)):
            for _, data, records, _ in self._batch(messages):
                producer.offer(self._name, self._partition, data, records, producer.epoch)
                sent += len(data)
            if sent > WINDOW_BYTES:
                producer.flush()
                sent = 0

    def _messages(self, written: Mapping[str, bytes], gone: Mapping[str, int]) -> Iterator[Message]:
        for name, data in written.items():
            for number, start in enumerate(range(0, max(1, len(data)), PART_BYTES)):
                yield f"{name}/{number}", data[start : start + PART_BYTES]
        for name, size in gone.items():
            for number in range(-(-max(1, size) // PART_BYTES)):
                yield f"{name}/{number}", None

    def _batch(self, messages: Sequence[Message]) -> list[tuple[int, bytearray, int, int]]:
        count = len(messages)
        keys, values = zip(*((key.encode(), part or b"") for key, part in messages), strict=True)
        # `pa.array` would import pandas where that is installed, which takes longer than all else here.
        ends = pa.py_buffer(np.cumsum([0, *map(len, keys)], dtype=np.int32))
        return BatchWriter(2 * PART_BYTES).build(
            b"\n".join([*values, b""]),
            np.cumsum([len(value) + 1 for value in values], dtype=np.int64) - 1,
            pa.Array.from_buffers(pa.binary(), count, [None, ends, pa.py_buffer(b"".join(keys))]),
            np.zeros(count, dtype=np.int32),
            np.full(count, time.time_ns() // 1_000_000, dtype=np.int64),
            nulls=np.array([part is None for _, part in messages]),
        )

    def load(self) -> Iterator[tuple[str, bytes]]:
        """All files that are there: names and bytes, those of one name in order."""
        parts = submit(self._read()).result()
        logger.info("read the state in topic '%s': %d KiB", self._name, sum(map(len, parts.values())) >> 10)
        by_place = {}
        for key, data in parts.items():
            name, _, number = key.decode().rpartition("/")
            by_place[name, int(number)] = data
        for place in sorted(by_place):
            yield place[0], by_place[place]

    async def _read(self) -> dict[bytes, bytes]:
        from aiokafka import AIOKafkaConsumer
        from aiokafka.structs import TopicPartition

        from velostream.connectors.kafka.client import client_arguments, start

        arguments = {
            **client_arguments(self._settings, "admin"),
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
        }
        consumer = await start(AIOKafkaConsumer(**arguments), self._settings)
        parts: dict[bytes, bytes] = {}
        try:
            place = TopicPartition(self._name, self._partition)
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            end = (await consumer.end_offsets([place]))[place]
            size, told = 0, time.monotonic()
            while await consumer.position(place) < end:
                for messages in (await consumer.getmany(timeout_ms=200)).values():
                    for message in messages:
                        size += len(message.value or b"")
                        if message.value is None:
                            parts.pop(message.key, None)
                        else:
                            parts[message.key] = message.value
                if time.monotonic() - told > TOLD_SECONDS:
                    told = time.monotonic()
                    logger.warning("reading the state in topic '%s': %d MiB so far", self._name, size >> 20)
                await asyncio.sleep(0)
        finally:
            await consumer.stop()
        return parts


def _gathered(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """Those that go into one record batch: batches of a partition leave one after the other, each when the
    one before is acknowledged."""
    gathered: list[Message] = []
    room = PART_BYTES
    for key, part in messages:
        size = len(key) + len(part or b"")
        if gathered and size > room:
            yield gathered
            gathered, room = [], PART_BYTES
        gathered.append((key, part))
        room -= size
    if gathered:
        yield gathered
