"""Record batches that velostream writes, read by aiokafka and by velostream; Kafka's partitioner."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.partitioner import murmur2 as their_murmur2

from tests.record_batches import Message, parsed, read, rows_of, written
from velostream.connectors.kafka.codecs import CODECS, compressor
from velostream.kernels import BatchWriter, murmur2_partitions, read_headers

HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
MESSAGES = [
    Message(0, 1_700_000_000_000, b"key", b'{"a": 1}', (("name", b"text"), ("nothing", None), ("", b""))),
    Message(0, 1_699_999_999_999, None, b"x" * 300, ()),
    Message(0, 1_700_000_000_500, b"", None, (("\N{SNOWMAN}", b"\xff\xfe"),)),
    Message(0, -1, b"k" * 70, b"", ()),
    Message(0, 1 << 62, None, b"two\nlines", ()),
]


def built(
    messages: Sequence[Message], partitions: Sequence[int] | None = None, writer: BatchWriter | None = None
) -> list[tuple[int, bytearray, int, int]]:
    """Batches of the messages: all columns that they can have, each a slice of a longer one."""
    values = b"".join((message.value or b"") + b"\n" for message in messages)
    ends = np.cumsum([len(message.value or b"") + 1 for message in messages], dtype=np.int64) - 1
    keys = pa.array([b"before", *(message.key for message in messages)], pa.binary())[1:]
    headers: list[Any] = [[{"key": "before", "value": b"-"}]]
    headers += [[{"key": key, "value": value} for key, value in message.headers] for message in messages]
    return (writer or BatchWriter(1 << 20)).build(
        values,
        ends,
        keys,
        np.array(partitions if partitions is not None else [0] * len(messages), dtype=np.int32),
        np.array([message.timestamp for message in messages], dtype=np.int64),
        pa.array(headers, HEADERS)[1:],
        nulls=np.array([message.value is None for message in messages]),
    )


def numbered(messages: Sequence[Message]) -> list[Message]:
    return [
        Message(at, message.timestamp, message.key, message.value, message.headers)
        for at, message in enumerate(messages)
    ]


def test_a_batch_is_read_by_both_clients_as_it_was_written() -> None:
    [(partition, batch, records, first)] = built(MESSAGES)
    assert (partition, records, first) == (0, 5, 1_700_000_000_000)
    assert parsed(batch) == rows_of(read(batch)) == numbered(MESSAGES)
    [header] = read_headers(batch)
    assert (header.base_offset, header.next_offset, header.records) == (0, 5, 5)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (-1, -1, -1)
    assert (header.leader_epoch, header.codec, header.transactional, header.control) == (-1, 0, False, False)
    assert (header.base_timestamp, header.max_timestamp) == (1_700_000_000_000, 1 << 62)


@pytest.mark.parametrize("codec", CODECS)
def test_compressed_batches_are_read_by_both_clients(codec: str) -> None:
    messages = [Message(0, at, b"%d" % (at % 7), b"value %d" % at * 5) for at in range(2_000)]
    writer = BatchWriter(1 << 20, CODECS.index(codec), compressor(codec))
    [(_, batch, records, _)] = built(messages, writer=writer)
    assert records == 2_000
    assert read_headers(batch)[0].codec == CODECS.index(codec)
    assert (len(batch) < 60_000) == (codec != "none")
    assert parsed(batch) == rows_of(read(batch)) == numbered(messages)


def test_a_batch_that_compression_makes_larger_goes_out_plain() -> None:
    writer = BatchWriter(1 << 20, CODECS.index("gzip"), compressor("gzip"))
    [(_, batch, _, _)] = built(MESSAGES[:1], writer=writer)
    assert read_headers(batch)[0].codec == 0
    assert parsed(batch) == numbered(MESSAGES[:1])


def test_rows_go_to_their_partitions_in_their_order() -> None:
    messages = [Message(0, at, None, b"%d" % at) for at in range(1_000)]
    partitions = [at * at % 5 * 3 for at in range(1_000)]
    batches = built(messages, partitions)
    assert [partition for partition, *_ in batches] == list(dict.fromkeys(partitions))
    for partition, batch, records, first in batches:
        own = [message for message, chosen in zip(messages, partitions, strict=True) if chosen == partition]
        assert (records, first) == (len(own), own[0].timestamp)
        assert parsed(batch) == numbered(own)


@pytest.mark.parametrize("limit", [62, 100, 500, 501, 502, 503, 504, 505, 506, 507, 508, 4_000])
def test_a_batch_keeps_to_its_limit_unless_one_record_is_larger(limit: int) -> None:
    sizes = [at * 37 % 90 + (600 if at % 50 == 9 else 0) for at in range(400)]
    messages = [Message(0, 1_000 * at, b"key", b"v" * size) for at, size in enumerate(sizes)]
    batches = built(messages, [at % 2 for at in range(400)], BatchWriter(limit))
    for _, batch, records, _ in batches:
        assert len(batch) <= limit or records == 1
        assert read_headers(batch)[0].records == records
    for partition in (0, 1):
        own = [batch for chosen, batch, _, _ in batches if chosen == partition]
        values = [message.value for batch in own for message in parsed(batch)]
        assert values == [message.value for message in messages[partition::2]]
        # None could have taken the first record of the next.
        for batch, following in pairwise(own):
            first = replace(parsed(following)[0], offset=len(parsed(batch)))
            assert len(written([*parsed(batch), first])) > limit


def test_rows_without_times_have_that_of_the_call() -> None:
    before = time.time_ns() // 1_000_000
    writer = BatchWriter(1 << 20)
    [(_, batch, _, _)] = writer.build(b"a\nb\n", np.array([1, 3]), None, np.zeros(2, dtype=np.int32))
    assert [(message.key, message.value, message.headers) for message in parsed(batch)] == [
        (None, b"a", ()),
        (None, b"b", ()),
    ]
    [at] = {message.timestamp for message in parsed(batch)}
    assert before <= at <= time.time_ns() // 1_000_000


def test_times_may_lie_any_distance_apart() -> None:
    times = [0, (1 << 63) - 1, -(1 << 63), -1, 1]
    [(_, batch, _, _)] = built([Message(0, at, None, b"v") for at in times])
    assert [message.timestamp for message in rows_of(read(batch))] == times


def test_text_is_a_key_and_null_lists_are_no_headers() -> None:
    headers = pa.array([None, [{"key": "h", "value": None}]], HEADERS)
    [(_, batch, _, _)] = BatchWriter(1 << 20).build(
        b"a\nb",
        np.array([1, 3]),
        pa.array(["x", None]),
        np.zeros(2, dtype=np.int32),
        np.zeros(2, int),
        headers,
    )
    assert parsed(batch) == [Message(0, 0, b"x", b"a"), Message(1, 0, None, b"b", (("h", None),))]


def test_no_rows_are_no_batches() -> None:
    assert built([]) == []


NO_PARTITIONS = np.zeros(2, dtype=np.int32)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((b"a\nb\n", np.array([1, 5]), None, NO_PARTITIONS), "value 1 ends at byte 5 of 4"),
        ((b"a\nb\n", np.array([3, 3]), None, NO_PARTITIONS), "value 1 ends at byte 3 of 4"),
        ((b"a\nb\n", np.array([-1, 3]), None, NO_PARTITIONS), "value 0 ends at byte -1 of 4"),
        ((b"a\nb\n", np.array([1]), None, NO_PARTITIONS), "2 partitions for 1 values"),
        ((b"a\nb\n", np.array([1, 3]), pa.array([b"k"]), NO_PARTITIONS), "1 keys for 2 values"),
        ((b"a\nb\n", np.array([1, 3]), None, NO_PARTITIONS - 1), "a partition below 0"),
        ((b"a\nb\n", np.array([1, 3]), None, NO_PARTITIONS, np.zeros(3, int)), "3 timestamps for 2 values"),
        (
            (b"a\nb\n", np.array([1, 3]), None, NO_PARTITIONS, None, pa.array([[], []], pa.list_(pa.int8()))),
            "headers are list<struct<key: string, value: binary>>, not list",
        ),
        (
            (
                b"a\nb\n",
                np.array([1, 3]),
                None,
                NO_PARTITIONS,
                None,
                pa.array([[], [{"key": None}]], HEADERS),
            ),
            "a header's key is NULL",
        ),
        ((b"a\nb\n", np.array([1, 3]), pa.array([1, 2]), NO_PARTITIONS), "are binary or string, not int64"),
    ],
)
def test_columns_that_do_not_fit_are_refused(arguments: tuple[Any, ...], reason: str) -> None:
    with pytest.raises((TypeError, ValueError), match=reason):
        BatchWriter(1 << 20).build(*arguments)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((61,), "from 62 bytes to 1 GiB, not 61"),
        (((1 << 30) + 1,), "from 62 bytes to 1 GiB"),
        ((100, 1), "do not go together"),
        ((100, 0, bytes), "do not go together"),
        ((100, 8, bytes), "do not go together"),
    ],
)
def test_a_writer_that_cannot_be_is_refused(arguments: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        BatchWriter(*arguments)


def test_a_failing_compression_is_raised() -> None:
    def fail(data: memoryview) -> bytes:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        built(MESSAGES, writer=BatchWriter(1 << 20, 1, fail))


# Of Kafka's own tests (org.apache.kafka.common.utils.UtilsTest.testMurmur2).
PUBLISHED = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def test_keys_hash_as_kafka_publishes() -> None:
    chosen = murmur2_partitions(pa.array(list(PUBLISHED)), (1 << 31) - 1)
    assert chosen.tolist() == [hash & 0x7FFFFFFF for hash in PUBLISHED.values()]


def test_keys_go_where_aiokafka_sends_them() -> None:
    keys = [bytes((at * k) % 256 for k in range(at % 23)) for at in range(1_000)]
    chosen = murmur2_partitions(pa.array([b"before", *keys])[1:], 7)
    assert chosen.tolist() == [(their_murmur2(key) & 0x7FFFFFFF) % 7 for key in keys]


def test_rows_without_a_key_have_no_partition_yet() -> None:
    assert murmur2_partitions(pa.array([None, "21", None]), 3).tolist() == [
        -1,
        (-973932308 & 0x7FFFFFFF) % 3,
        -1,
    ]
    assert murmur2_partitions(pa.nulls(2, pa.binary()), 3).tolist() == [-1, -1]
    assert murmur2_partitions(pa.array([], pa.binary()), 3).tolist() == []
    with pytest.raises(ValueError, match="a topic has partitions, not 0"):
        murmur2_partitions(pa.array([b"k"]), 0)
