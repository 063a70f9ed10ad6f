"""What velostream relies on of aiokafka's inner parts: fails when a new release has changed it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiokafka.producer.message_accumulator as accumulator_module
import pytest
from aiokafka.errors import IllegalGenerationError, ProducerClosed
from aiokafka.producer.message_accumulator import BatchBuilder, MessageAccumulator
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from velostream.connectors.kafka.prebuilt import (
    PrebuiltBatch,
    PrebuiltProducer,
    _OffsetCommit,
    _ProduceRequest,
    _Transactions,
)

PLACE = TopicPartition("topic", 3)


def record_batch(values: list[bytes]) -> bytearray:
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1, batch_size=1 << 20
    )
    for offset, value in enumerate(values):
        builder.append(offset, 1_000, b"key", value, [])
    return bytearray(builder.build())


def drained(accumulator: MessageAccumulator) -> Any:
    nodes, _ = accumulator.drain_by_nodes(ignore_nodes=())
    return nodes[0][PLACE]


async def sent(manager: Any, *batches: PrebuiltBatch) -> list[DefaultRecordBatch]:
    """What aiokafka would put on the wire for each."""
    cluster = SimpleNamespace(leader_for_partition=lambda place: 0)
    accumulator = MessageAccumulator(cluster, 16_384, 0, 30, txn_manager=manager)
    wire = []
    for batch in batches:
        future = await accumulator.add_batch(batch, PLACE, 1)
        out = drained(accumulator)
        wire.append(DefaultRecordBatch(bytes(out.get_data_buffer())))
        out.done(7)
        assert (await future).offset == 7
    return wire


def manager_of(transactional_id: str | None) -> _Transactions:
    manager = _Transactions(transactional_id, 60_000)
    manager.set_pid_and_epoch(1234, 5)
    if transactional_id:
        manager.begin_transaction()
    return manager


@pytest.mark.parametrize("transactional_id", [None, "job"])
def test_a_prebuilt_batch_gets_its_producer_and_its_checksum(transactional_id: str | None) -> None:
    async def run() -> list[DefaultRecordBatch]:
        batches = [
            PrebuiltBatch(record_batch([b"a", b"b", b"c"]), 3, transactional_id is not None),
            PrebuiltBatch(record_batch([b"d"]), 1, transactional_id is not None),
        ]
        return await sent(manager_of(transactional_id), *batches)

    first, second = asyncio.run(run())

    for batch, sequence in ((first, 0), (second, 3)):
        assert batch.validate_crc()
        assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (1234, 5, sequence)
        assert batch.is_transactional == (transactional_id is not None)
    assert [record.value for record in first] == [b"a", b"b", b"c"]


def test_without_idempotence_a_batch_goes_out_as_it_is() -> None:
    async def run() -> list[DefaultRecordBatch]:
        return await sent(None, PrebuiltBatch(record_batch([b"a"]), 1, False))

    (batch,) = asyncio.run(run())

    assert (batch.validate_crc(), batch.producer_id, batch.base_sequence) == (True, -1, -1)
    assert [record.value for record in batch] == [b"a"]


def test_all_that_the_accumulator_asks_of_a_batch_is_there() -> None:
    source = Path(accumulator_module.__file__).read_text()
    asked = set(re.findall(r"_?builder\.(\w+)\(", source)) - {"build", "set_producer_state"}
    batch = PrebuiltBatch(record_batch([b"a"]), 1, False)

    assert asked == {"_set_producer_state", "_build", "append", "close", "closed", "record_count", "size"}
    assert (batch.closed(), batch.record_count(), batch.size()) == (True, 1, len(record_batch([b"a"])))
    # Nobody may add a record to it.
    assert batch.append(timestamp=None, key=None, value=b"x") is None
    # Those that are inherited use these attributes alone.
    assert set(vars(batch)) - {"_transactional"} < set(vars(BatchBuilder(1, 0)))


def test_bytes_that_are_no_record_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="60 bytes are no record batch"):
        PrebuiltBatch(bytearray(60), 1, False)


def test_sequence_numbers_wrap_to_zero() -> None:
    async def run() -> list[int]:
        manager = manager_of(None)
        manager._sequence_numbers[PLACE] = (1 << 31) - 2
        batches = [PrebuiltBatch(record_batch([b"a", b"b", b"c"]), 3, False) for _ in range(2)]
        return [batch.base_sequence for batch in await sent(manager, *batches)]

    assert asyncio.run(run()) == [(1 << 31) - 2, 1]


def test_a_transaction_that_failed_still_knows_that_it_is_not_empty() -> None:
    async def run(kind: type[TransactionManager]) -> bool:
        manager = kind("job", 60_000)
        manager.set_pid_and_epoch(1, 0)
        manager.begin_transaction()
        manager.maybe_add_partition_to_txn(PLACE)
        manager.partition_added(PLACE)
        manager.error_transaction(IllegalGenerationError())
        manager._transaction_waiter.exception()
        return bool(manager.is_empty_transaction())

    assert asyncio.run(run(_Transactions)) is False
    # When aiokafka's own knows it too, the override is not needed any more.
    assert asyncio.run(run(TransactionManager)) is True


def test_a_producer_uses_our_parts_and_nothing_else_holds_the_old_ones() -> None:
    async def run() -> None:
        for arguments in ({"enable_idempotence": True}, {"transactional_id": "job"}):
            producer = PrebuiltProducer(bootstrap_servers="127.0.0.1:1", retry_backoff_ms=70, **arguments)
            manager, sender = producer._txn_manager, producer._sender
            assert type(manager) is _Transactions
            assert producer._message_accumulator._txn_manager is sender._txn_manager is manager
            assert sender._message_accumulator is producer._message_accumulator
            assert (sender._retry_backoff, sender._acks) == (0.07, -1)
            assert producer.failure() is None
            await producer.stop()

    asyncio.run(run())


def test_offsets_are_committed_with_generation_and_member() -> None:
    async def run() -> tuple[bytes, str, list[Any]]:
        manager = manager_of("job")
        sender = SimpleNamespace(_txn_manager=manager, _retry_backoff=0.1)
        offsets = {PLACE: OffsetAndMetadata(42, "")}
        committed = manager.add_offsets_to_txn(dict(offsets), "group")
        handler = _OffsetCommit(sender, offsets, "group", 7, "me")
        request = handler.create_request().prepare({28: (0, 5)})
        fenced = SimpleNamespace(errors=[("topic", [(3, 22, {})], {})])
        assert handler.handle_response(fenced) is None
        with pytest.raises(IllegalGenerationError):
            await committed
        manager._transaction_waiter.exception()
        return request.encode(), type(request).__name__, request.topics

    wire, name, topics = asyncio.run(run())

    assert name == "_OffsetCommitRequest3"
    assert topics == [("topic", [(3, 42, -1, "", {})], {})]
    # transactional_id, group_id, producer id and epoch, generation, member, no instance id.
    assert wire.startswith(
        b"\x04job\x06group"
        + (1234).to_bytes(8, "big")
        + (5).to_bytes(2, "big")
        + (7).to_bytes(4, "big")
        + b"\x03me\x00"
    )


@pytest.mark.parametrize("transactional_id", [None, "job"])
def test_a_produce_request_is_byte_for_byte_that_of_aiokafka(transactional_id: str | None) -> None:
    topics = [
        ("a", [(3, record_batch([b"x"])), (0, record_batch([b"y", b"z"]))]),
        ("b", [(1, bytearray(b"w"))]),
    ]
    arguments = (transactional_id, -1, 40_000, topics)
    # The versions that brokers have: of Kafka 4, and of its oldest that we speak with.
    for highest in (3, 13):
        plain = ProduceRequest(*arguments).prepare({0: (3, highest)})
        ours = _ProduceRequest(*arguments).prepare({0: (3, highest)})
        assert type(ours) is type(plain)
        assert ours.encode() == plain.encode()


def test_abandoning_fails_all_that_is_not_acknowledged() -> None:
    async def run() -> None:
        producer = PrebuiltProducer(bootstrap_servers="127.0.0.1:1", enable_idempotence=True)
        future = await producer._message_accumulator.add_batch(
            PrebuiltBatch(record_batch([b"a"]), 1, False), PLACE, 1
        )
        await producer.abandon()
        with pytest.raises(ProducerClosed):
            await future

    asyncio.run(run())
