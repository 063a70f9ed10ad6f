"""A look at the first messages of a topic, to infer a schema from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import aiokafka.errors as kafka_errors
from aiokafka import TopicPartition

from velostream.connectors.kafka.client import client_arguments, connector_error, start
from velostream.connectors.kafka.fetching import BatchConsumer, quieten
from velostream.connectors.kafka.reader import unpack
from velostream.connectors.kafka.settings import ClientSettings


async def first_values(
    settings: ClientSettings, partitions: Sequence[TopicPartition], max_bytes: int, seconds: float
) -> bytes:
    """Values of the first messages, each ended by a newline: up to about so many bytes, or what comes in the
    time; empty when there are none. Raises ConnectorError."""
    quieten()
    arguments = {
        **client_arguments(settings, "consumer"),
        "group_id": None,
        "enable_auto_commit": False,
        "max_partition_fetch_bytes": max(1, max_bytes // len(partitions)),
    }
    consumer = await start(BatchConsumer(**arguments), settings)
    try:
        return await _read(consumer, partitions, max_bytes, seconds)
    except (kafka_errors.KafkaError, TimeoutError) as exc:
        raise connector_error(exc, settings, f"reading topic '{partitions[0].topic}'") from exc
    finally:
        await consumer.stop()


async def _read(
    consumer: BatchConsumer, partitions: Sequence[TopicPartition], max_bytes: int, seconds: float
) -> bytes:
    begins = await consumer.beginning_offsets(list(partitions))
    ends = await consumer.end_offsets(list(partitions))
    left = {tp: ends[tp] for tp in partitions if begins[tp] < ends[tp]}
    if not left:
        return b""
    consumer.assign(list(left))
    for tp in left:
        consumer.seek(tp, begins[tp])
    values = bytearray()
    deadline = time.monotonic() + seconds
    while left and len(values) < max_bytes and time.monotonic() < deadline:
        fetched = await consumer.getmany(*left, timeout_ms=100)
        for tp, pieces in fetched.items():
            values += (await asyncio.to_thread(unpack, pieces, True)).values
            if pieces[-1].next_offset >= left[tp]:
                del left[tp]
    return bytes(values)
