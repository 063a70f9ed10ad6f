"""Finished record batches in aiokafka's producer, and what it lacks for exactly once.

aiokafka sends any object that behaves as its `BatchBuilder`, so a batch that a kernel has built goes out
without a record passing through Python. Besides: sequence numbers that wrap as the broker's do, and offsets
committed with the member's generation (KIP-447). All that relies on aiokafka's inner parts is in this module;
`tests/unit/connectors/test_kafka_prebuilt.py` notices when they change.

Of a record batch of version 2 (big-endian; https://kafka.apache.org/documentation/#recordbatch):

| byte | |
|---|---|
| 17 | CRC-32C (uint32) of all behind itself |
| 21 | attributes (int16): bit 4 says transactional |
| 43 | producer id (int64), producer epoch (int16), first sequence number (int32) |
"""

from __future__ import annotations

import asyncio
import struct
from collections import defaultdict
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.client import CoordinationType
from aiokafka.errors import IllegalGenerationError, ProducerClosed
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.producer.sender import Sender, SendProduceReqHandler, TxnOffsetCommitHandler
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.types import (
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)
from aiokafka.structs import TopicPartition

from velostream.connectors.kafka.connection import rebound
from velostream.connectors.kafka.pacing import PacedClient
from velostream.kernels import crc32c

HEADER_BYTES = 61
_CRC = struct.Struct(">I")
_CRC_AT, _CHECKED_FROM = 17, 21
_ATTRIBUTES_LOW, _TRANSACTIONAL = 22, 0x10
_PRODUCER = struct.Struct(">qhi")
_PRODUCER_AT = 43

# Offsets of a member that the group does not have, or not any more.
_FENCED_CODES = {
    22: "the group has a newer generation",
    25: "the group does not know this member",
    27: "the group is rebalancing",
    82: "the group has another member of this instance id",
}


class PrebuiltBatch(BatchBuilder):  # type: ignore[misc]
    """A record batch that is finished but for its producer. Takes `data` over; `records` are in it."""

    def __init__(self, data: bytearray, records: int, transactional: bool) -> None:
        if len(data) < HEADER_BYTES:
            raise ValueError(f"{len(data)} bytes are no record batch")
        self._buffer = data
        self._relative_offset = records
        self._closed = True
        self._transactional = transactional

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        """Called once, when the batch is sent for the first time."""
        _PRODUCER.pack_into(self._buffer, _PRODUCER_AT, producer_id, producer_epoch, base_sequence)
        if self._transactional:
            self._buffer[_ATTRIBUTES_LOW] |= _TRANSACTIONAL
        _CRC.pack_into(self._buffer, _CRC_AT, crc32c(memoryview(self._buffer)[_CHECKED_FROM:]))

    def _build(self) -> bytearray:
        return self._buffer

    def size(self) -> int:
        return len(self._buffer)


class _Transactions(TransactionManager):  # type: ignore[misc]
    _txn_consumer_group: str | None

    def increment_sequence_number(self, partition: TopicPartition, increment: int) -> None:
        """Wraps from 2^31 - 1 to 0, as the broker expects it. aiokafka's own goes on below zero, which the
        broker refuses: after 2^31 records to a partition."""
        self._sequence_numbers[partition] = (self._sequence_numbers[partition] + increment) % (1 << 31)

    def error_transaction(self, error: BaseException) -> None:
        """Remembers what the transaction has: aiokafka forgets it, sends no abort for a transaction that it
        takes to be empty, and what was to be aborted is committed with the next one."""
        partitions, group = set(self._txn_partitions), self._txn_consumer_group
        super().error_transaction(error)
        self._txn_partitions |= partitions
        self._txn_consumer_group = group


class _OffsetCommitResponse(Response):  # type: ignore[misc]
    API_KEY = 28
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "errors",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partition_errors",
                    CompactArray(("partition", Int32), ("error_code", Int16), ("tags", TaggedFields)),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _OffsetCommitRequest3(RequestStruct):  # type: ignore[misc]
    API_KEY = 28
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _OffsetCommitResponse
    SCHEMA = Schema(
        ("transactional_id", CompactString("utf-8")),
        ("group_id", CompactString("utf-8")),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation_id", Int32),
        ("member_id", CompactString("utf-8")),
        ("group_instance_id", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _OffsetCommitRequest(Request[_OffsetCommitRequest3]):  # type: ignore[misc]
    """TxnOffsetCommit with a generation, which aiokafka's own (version 0) does not have."""

    API_KEY = 28

    def __init__(self, *fields: Any) -> None:
        self._fields = fields

    def build(self, request_class: type[_OffsetCommitRequest3]) -> _OffsetCommitRequest3:
        return request_class(*self._fields)


class _OffsetCommit(TxnOffsetCommitHandler):  # type: ignore[misc]
    def __init__(
        self,
        sender: Sender,
        offsets: Mapping[TopicPartition, Any],
        group: str,
        generation: int,
        member: str,
    ) -> None:
        super().__init__(sender, offsets, group)
        self._generation = generation
        self._member = member

    def create_request(self) -> _OffsetCommitRequest:
        transactions = self._sender._txn_manager
        topics: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for place, committed in sorted(self._offsets.items()):
            topics[place.topic].append((place.partition, committed.offset, -1, committed.metadata, {}))
        return _OffsetCommitRequest(
            transactions.transactional_id,
            self._group_id,
            transactions.producer_id,
            transactions.producer_epoch,
            self._generation,
            self._member,
            None,
            [(topic, partitions, {}) for topic, partitions in topics.items()],
            {},
        )

    def handle_response(self, response: Any) -> float | None:
        """As aiokafka's, but that who is no longer a member may abort: aiokafka's sender would end."""
        errors = [
            (topic, [(partition, code) for partition, code, _ in partitions])
            for topic, partitions, _ in response.errors
        ]
        for _, partitions in errors:
            for _, code in partitions:
                if code in _FENCED_CODES:
                    self._sender._txn_manager.error_transaction(IllegalGenerationError(_FENCED_CODES[code]))
                    return None
        backoff: float | None = super().handle_response(SimpleNamespace(errors=errors))
        return backoff


class _ProduceRequest(ProduceRequest):  # type: ignore[misc]
    """aiokafka's, but that it copies every batch once and not six times."""

    def build(self, request_class: type[RequestStruct]) -> RequestStruct:
        request = super().build(request_class)
        # Before version 3 there was another format of record batches.
        if request_class.API_VERSION >= 3:
            request.encode = self._encoded
        return request

    def _encoded(self) -> bytes:
        text, count = String("utf-8"), Int32
        pieces = [text.encode(self._transactional_id), Int16.encode(self._required_acks)]
        pieces += [count.encode(self._timeout), count.encode(len(self._topics))]
        for topic, partitions in self._topics:
            pieces += [text.encode(topic), count.encode(len(partitions))]
            for partition, batch in partitions:
                pieces += [count.encode(partition), count.encode(len(batch)), batch]
        return b"".join(pieces)


class _Produce(SendProduceReqHandler):  # type: ignore[misc]
    def create_request(self) -> _ProduceRequest:
        plain = super().create_request()
        return _ProduceRequest(plain._transactional_id, plain._required_acks, plain._timeout, plain._topics)


class _Sender(Sender):  # type: ignore[misc]
    # Generation and member of the group whose offsets are committed; -1 and "" when it is none.
    membership: tuple[int, str] = (-1, "")

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # Of produce requests that are on their way.
        self.requests: set[asyncio.Task[None]] = set()

    async def _send_produce_req(self, node: Any, batches: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.requests.add(task)
        try:
            await _Produce(self, batches).do(node)
        finally:
            self.requests.discard(task)
        self._in_flight.remove(node)
        self._muted_partitions.difference_update(batches)

    async def _do_txn_offset_commit(self, offsets: Mapping[TopicPartition, Any], group: str) -> None:
        node = await self._find_coordinator(CoordinationType.GROUP, group)
        await _OffsetCommit(self, offsets, group, *self.membership).do(node)


class PrebuiltProducer(AIOKafkaProducer):  # type: ignore[misc]
    """aiokafka's producer with the parts of this module. Takes the same arguments."""

    _txn_manager: Any
    _sender: Any

    _init = rebound(AIOKafkaProducer.__init__, AIOKafkaClient=PacedClient)

    def __init__(self, **arguments: Any) -> None:
        self._init(**arguments)
        transactions, plain = self._txn_manager, self._sender
        if transactions is not None:
            transactions = _Transactions(transactions.transactional_id, transactions.transaction_timeout_ms)
            self._txn_manager = self._message_accumulator._txn_manager = transactions
        self._sender = _Sender(
            self.client,
            acks=plain._acks,
            txn_manager=transactions,
            message_accumulator=self._message_accumulator,
            retry_backoff_ms=plain._retry_backoff * 1000,
            request_timeout_ms=plain._request_timeout_ms,
        )

    async def send_prebuilt(self, topic: str, partition: int, batch: PrebuiltBatch) -> Any:
        """Hand a batch over when the one before it is on its way; a future of its acknowledgement."""
        # aiokafka's first look is at all topics, and the next ones only at those that were added: it adds one
        # that it does not know, and forgets those that it knew.
        self.client.add_topic(topic)
        return await self.send_batch(batch, topic, partition=partition)

    async def send_offsets(
        self,
        offsets: Mapping[TopicPartition, int | tuple[int, str]],
        group: str,
        generation: int,
        member: str,
    ) -> None:
        """Commit a group's offsets with the transaction, as this member of that generation."""
        self._sender.membership = (generation, member)
        await self.send_offsets_to_transaction(offsets, group)

    def failure(self) -> BaseException | None:
        """Why no transaction can be committed or aborted any more; None when they can."""
        task: asyncio.Task[None] | None = self._sender.sender_task
        if task is None or not task.done():
            return None
        return (None if task.cancelled() else task.exception()) or ProducerClosed()

    def forget_error(self) -> None:
        """Take the error of a transaction that is aborted as known."""
        waiter = self._txn_manager._transaction_waiter
        if waiter is not None and waiter.done() and not waiter.cancelled():
            waiter.exception()

    async def abandon(self) -> None:
        """Stop at once: batches that are not acknowledged fail. aiokafka's own `stop` waits for them, and for
        answers to what is on its way."""
        self._closed = True
        accumulator = self._message_accumulator
        unsent = [batch for batches in accumulator._batches.values() for batch in batches]
        accumulator.fail_all(ProducerClosed())
        for batch in unsent:
            # Nobody else asks.
            batch._drain_waiter.exception()
        task = self._sender.sender_task
        if task is not None:
            # At the first it waits for its own tasks, at the second it stops doing so.
            for _ in range(2):
                task.cancel()
                for request in self._sender.requests:
                    request.cancel()
                await asyncio.wait([task], timeout=0.1)
        await self.client.close()
