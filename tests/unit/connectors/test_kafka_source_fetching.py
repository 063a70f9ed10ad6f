"""What velostream changes in aiokafka's consumer, and that it is where it is looked for."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import struct
import time
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, conn
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import TopicPartitionState
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from velostream.connectors.kafka import fetching, pacing
from velostream.connectors.kafka.connection import ResponseBytes, ResponseReader
from velostream.connectors.kafka.fetching import (
    BatchConsumer,
    BatchFetcher,
    FetchedBytes,
    PartitionBatches,
    WatchedClient,
)
from velostream.connectors.kafka.pacing import PacedClient
from velostream.connectors.kafka.prebuilt import PrebuiltProducer

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
        (AIOKafkaProducer.__init__, ("AIOKafkaClient",)),
        (AIOKafkaConsumer.start, ("Fetcher",)),
        (AIOKafkaClient._metadata_update, ("MetadataRequest",)),
        (AIOKafkaClient.bootstrap, ("create_conn",)),
        (AIOKafkaClient._get_conn, ("create_conn",)),
        (conn.create_conn, ("AIOKafkaConnection",)),
        (AIOKafkaConnection.connect, ("asyncio", "StreamReader", "AIOKafkaProtocol")),
        (AIOKafkaConnection._read, ("readexactly",)),
        (AIOKafkaConnection._handle_frame, ("io", "BytesIO")),
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
        (Fetcher, "_proc_fetch_request"),
        (AIOKafkaClient, "force_metadata_update"),
        (TopicPartitionState, "position"),
        (TopicPartitionState, "has_valid_position"),
        (asyncio.StreamReader, "_wait_for_data"),
        (asyncio.StreamReader, "_wakeup_waiter"),
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
    assert PacedClient._ask.__globals__["MetadataRequest"].keywords == {"allow_auto_topic_creation": False}


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


class Paced(BatchFetcher):
    """Fetches so many records each time, and notes when."""

    def __init__(self, *records: int) -> None:
        self.coming = list(records)
        self.asked: list[float] = []
        self._due: dict[Any, float] = {}
        self._records: dict[Any, Any] = {}

    async def _fetch_now(self, assignment: Any, node: Any, request: Any) -> bool:
        self.asked.append(time.monotonic())
        self._records.clear()
        records = self.coming.pop(0)
        if records:
            found = PartitionBatches(PARTITION, FetchedBytes(batch(0, records)), None, 0, None, None, True, 0)
            self._records[PARTITION] = fetcher.FetchResult(
                PARTITION, assignment=assignment, partition_records=found, backoff=0
            )
        return bool(records)


@pytest.mark.parametrize(
    ("records", "waits"),
    [((1, 1, 1), (True, True)), ((10_000, 1, 1), (False, True)), ((0, 1, 0, 1), (False, True, False))],
    ids=["trickle", "load", "silence"],
)
def test_after_a_small_fetch_and_no_other_the_next_one_waits_for_more(
    records: tuple[int, ...], waits: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "GATHER_SECONDS", 0.2)
    request = SimpleNamespace(topics=[(PARTITION.topic, [(PARTITION.partition, 0, 1)])])

    async def fetch() -> list[float]:
        paced = Paced(*records)
        for _ in records:
            await paced._proc_fetch_request(None, 0, request)
        return paced.asked

    asked = asyncio.run(fetch())
    assert tuple(b - a > 0.15 for a, b in itertools.pairwise(asked)) == waits


@pytest.mark.parametrize("kind", [PacedClient, WatchedClient])
def test_metadata_is_not_asked_for_again_at_once(
    kind: type[PacedClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "METADATA_SECONDS", 0.1)
    asked: list[float] = []

    async def answer(client: Any, cluster: Any, topics: Any) -> bool:
        asked.append(time.monotonic())
        return True

    monkeypatch.setattr(PacedClient, "_ask", answer)

    async def ask() -> None:
        client = kind(bootstrap_servers="127.0.0.1:1")
        for _ in range(3):
            assert await client._metadata_update(client.cluster, [])
        # Who has waited for as long does not wait again.
        await asyncio.sleep(0.1)
        await client._metadata_update(client.cluster, [])

    begun = time.monotonic()
    asyncio.run(ask())
    first, *rest = (b - a for a, b in itertools.pairwise([begun, *asked]))
    assert first < 0.1 and all(pause > 0.09 for pause in rest)


def test_the_producer_asks_at_that_pace() -> None:
    async def make() -> None:
        producer = PrebuiltProducer(bootstrap_servers="127.0.0.1:1")
        assert isinstance(producer.client, PacedClient)
        await producer.stop()

    asyncio.run(make())


# --- connections ----------------------------------------------------------------------------------------

RESPONSES = [
    b"",
    b"a",
    b"x" * 300,
    bytes(range(256)) * 400,
    b"y" * 65536,
    b"z" * 65532,
    b"q" * 200_000,
    b"end",
]


async def received(data: bytes, cuts: Iterator[int]) -> list[bytes]:
    """The responses that a reader cuts from data, which arrives in pieces of these sizes."""
    reader = ResponseReader()
    at = 0
    while at < len(data):
        room = reader.room()
        piece = data[at : at + max(1, min(len(room), next(cuts)))]
        room[: len(piece)] = piece
        reader.filled(len(piece))
        at += len(piece)
    reader.feed_eof()
    found = []
    try:
        while True:
            (length,) = struct.unpack(">i", await reader.readexactly(4))
            found.append(bytes(await reader.readexactly(length)))
    except asyncio.IncompleteReadError:
        return found


@pytest.mark.parametrize("size", [1, 3, 7, 4096, 65535, 65536, 1 << 20])
def test_responses_are_cut_wherever_the_socket_cuts_them(size: int) -> None:
    data = b"".join(struct.pack(">i", len(response)) + response for response in RESPONSES)
    if size < 100:
        data = data[:2000]
    whole = RESPONSES if size >= 100 else RESPONSES[:3]
    assert asyncio.run(received(data, itertools.repeat(size))) == whole


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=9), max_size=20), st.lists(st.integers(1, 12), min_size=1, max_size=20))
def test_small_responses_are_cut_by_any_pieces(responses: list[bytes], sizes: list[int]) -> None:
    data = b"".join(struct.pack(">i", len(response)) + response for response in responses)
    assert asyncio.run(received(data, itertools.cycle(sizes))) == responses


def test_a_response_of_a_negative_length_breaks_the_connection() -> None:
    async def read() -> None:
        reader = ResponseReader()
        reader.room()[:4] = struct.pack(">i", -2)
        reader.filled(4)
        await reader.readexactly(4)

    with pytest.raises(ConnectionError, match="a length of -2 bytes"):
        asyncio.run(read())


def test_a_reader_that_waits_gets_what_comes() -> None:
    async def read() -> bytes:
        reader = ResponseReader()
        waiting = asyncio.ensure_future(reader.readexactly(4))
        await asyncio.sleep(0)
        reader.room()[:7] = struct.pack(">i", 3) + b"abc"
        reader.filled(7)
        assert await waiting == struct.pack(">i", 3)
        return bytes(await reader.readexactly(3))

    assert asyncio.run(read()) == b"abc"


def test_small_pieces_of_a_response_are_bytes_and_large_ones_are_views() -> None:
    data = b"name" + b"x" * 100_000
    response = ResponseBytes(data)
    assert response.read(4) == b"name" and isinstance(ResponseBytes(data).read(4), bytes)
    large = response.read(100_000)
    assert isinstance(large, memoryview) and bytes(large) == data[4:]
    assert response.read(1) == b"" and ResponseBytes(data).read() == data
