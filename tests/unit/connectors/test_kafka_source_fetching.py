"""What velostream changes in aiokafka's consumer, and that it is where it is looked for."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from packaging.requirements import Requirement

from velostream.connectors.kafka.fetching import (
    BatchConsumer,
    BatchFetcher,
    FetchedBytes,
    PartitionBatches,
    WatchedClient,
)

ROOT = Path(__file__).parents[3]
PARTITION = TopicPartition("trades", 0)


def batch(base_offset: int, records: int) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    for offset in range(records):
        builder.append(offset, 0, None, b"value", [])
    built = bytearray(builder.build())
    built[:8] = base_offset.to_bytes(8, "big")
    return bytes(built)


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (Fetcher._proc_fetch_request, ("MemoryRecords", "PartitionRecords")),
        (AIOKafkaConsumer.__init__, ("AIOKafkaClient",)),
        (AIOKafkaConsumer.start, ("Fetcher",)),
        (AIOKafkaClient._metadata_update, ("MetadataRequest",)),
    ],
)
def test_a_method_of_aiokafka_still_looks_up_what_is_replaced(
    method: Callable[..., Any], names: tuple[str, ...]
) -> None:
    assert set(names) <= set(method.__code__.co_names)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Fetcher, "_create_fetch_waiter"),
        (Fetcher, "error_future"),
        (Fetcher, "fetched_records"),
        (AIOKafkaClient, "force_metadata_update"),
    ],
)
def test_what_the_consumer_calls_of_aiokafka_is_there(owner: type, name: str) -> None:
    assert hasattr(owner, name)


def test_the_replacement_of_partition_records_takes_what_aiokafka_gives() -> None:
    given = list(inspect.signature(fetcher.PartitionRecords.__init__).parameters)
    assert given[:5] == ["self", "tp", "records", "aborted_transactions", "fetch_offset"]
    assert "next_fetch_offset" in inspect.getsource(fetcher.FetchResult)


def test_the_version_of_aiokafka_is_one_that_is_known() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (bounds,) = (text for text in project["dependencies"] if text.startswith("aiokafka"))
    assert version("aiokafka") in Requirement(bounds).specifier


def test_aiokafka_itself_is_left_alone() -> None:
    assert BatchFetcher._proc_fetch_request is not Fetcher._proc_fetch_request
    assert Fetcher._proc_fetch_request.__globals__["PartitionRecords"] is fetcher.PartitionRecords
    assert BatchConsumer.start.__globals__["Fetcher"] is BatchFetcher
    assert AIOKafkaConsumer.start.__globals__["Fetcher"] is Fetcher
    assert WatchedClient._update_metadata.__globals__["MetadataRequest"].keywords == {
        "allow_auto_topic_creation": False
    }


def test_a_fetch_ends_behind_its_last_whole_batch() -> None:
    data = batch(10, 3) + batch(20, 2)
    found = FetchedBytes(data + batch(30, 1)[:-1])
    assert found.has_next()
    assert bytes(found.batches) == data
    assert found.next_offset == 22
    assert found.size_in_bytes() > len(data)


@pytest.mark.parametrize("length", [0, 1, 60, 61])
def test_a_fetch_without_a_whole_batch_has_none(length: int) -> None:
    found = FetchedBytes(batch(10, 3)[:length])
    assert not found.has_next()
    assert found.size_in_bytes() == length


def test_a_batch_that_claims_a_negative_length_does_not_hold_up_the_scan() -> None:
    data = bytearray(batch(10, 3))
    data[8:12] = (-1).to_bytes(4, "big", signed=True)
    assert FetchedBytes(bytes(data)).size_in_bytes() == len(data)


def test_what_was_fetched_is_handed_over_as_one_record() -> None:
    records = PartitionBatches(PARTITION, FetchedBytes(batch(10, 3)), [(7, 10)], 11, None, None, True, 1)
    assert records.next_fetch_offset == 11
    (fetched,) = records
    assert (fetched.offset, fetched.next_offset, list(fetched.aborted)) == (11, 13, [(7, 10)])
    assert bytes(fetched.data) == batch(10, 3)
    assert records.next_fetch_offset == 13


def test_a_fetch_of_what_lies_before_the_offset_does_not_move_back() -> None:
    records = PartitionBatches(PARTITION, FetchedBytes(batch(10, 3)), None, 50, None, None, True, 0)
    assert [fetched.next_offset for fetched in records] == [50]
    assert records.next_fetch_offset == 50
