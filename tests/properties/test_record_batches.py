"""Record batches between aiokafka and velostream, both ways, over any messages."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
from aiokafka.partitioner import murmur2 as their_murmur2
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.record_batches import Message, one_line, parsed, read, rows_of, written
from velostream.connectors.kafka.codecs import CODECS, compressor
from velostream.kernels import BatchWriter, crc32c, crc32c_by_tables, murmur2_partitions

# About where a length or a difference takes one more byte, and where copies of 16 bytes end.
LENGTHS = st.one_of(st.integers(0, 40), st.sampled_from([63, 64, 65, 127, 128, 8_191, 8_192, 8_193]))
BYTES = st.one_of(st.binary(max_size=40), LENGTHS.map(lambda size: b"\n{x}"[size % 4 :] * (size // 3 + 1)))
TIMES = st.one_of(st.integers(-2, 200), st.integers(-(1 << 61), 1 << 61))
# aiokafka takes a first time of -1 for none yet, and writes the differences wrong.
FIRST_TIMES = TIMES.filter(lambda time: time != -1)
HEADERS = st.lists(st.tuples(st.text(max_size=8), st.none() | BYTES), max_size=3).map(tuple)


@st.composite
def messages(draw: st.DrawFn) -> list[Message]:
    offset = draw(st.integers(0, 1 << 40))
    out = []
    for _ in range(draw(st.integers(1, 12))):
        headers = draw(HEADERS) if draw(st.booleans()) else ()
        out.append(
            Message(
                offset,
                draw(TIMES if out else FIRST_TIMES),
                draw(st.none() | BYTES),
                draw(st.none() | BYTES),
                tuple(headers),
            )
        )
        offset += draw(st.sampled_from([1, 1, 1, 2, 63, 64, 65, 8_192, 1 << 20]))
    return out


@given(st.lists(messages(), min_size=1, max_size=3), st.integers(0, 4), st.data())
@settings(max_examples=100, deadline=None)
def test_what_aiokafka_writes_is_read(batches: list[list[Message]], codec: int, data: st.DataObject) -> None:
    base = 0
    expected: list[Message] = []
    fetched = bytearray()
    for batch in batches:
        shift = max(base - batch[0].offset, 0)
        moved = [
            Message(message.offset + shift, message.timestamp, message.key, message.value, message.headers)
            for message in batch
        ]
        base = moved[-1].offset + 1
        expected += moved
        fetched += written(moved, codec)
    first = data.draw(st.sampled_from([0, *(message.offset for message in expected), base]))
    wanted = [message for message in expected if message.offset >= first]
    assert rows_of(read(fetched, first)) == wanted
    assert rows_of(read(fetched, first, one_line=True)) == one_line(wanted)


@given(
    messages(),
    st.lists(st.integers(0, 3), min_size=12, max_size=12),
    st.sampled_from([62, 150, 1 << 20]),
    st.sampled_from(CODECS),
)
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read_by_both(
    rows: list[Message], chosen: list[int], limit: int, codec: str
) -> None:
    values = [message.value or b"" for message in rows]
    headers = [[{"key": key, "value": value} for key, value in message.headers] for message in rows]
    writer = BatchWriter(limit, CODECS.index(codec), compressor(codec))
    batches = writer.build(
        b"\n".join(values),
        np.cumsum([len(value) + 1 for value in values]) - 1,
        pa.array([message.key for message in rows], pa.binary()),
        np.array(chosen[: len(rows)], dtype=np.int32),
        np.array([message.timestamp for message in rows]),
        pa.array(headers, pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
        nulls=np.array([message.value is None for message in rows]),
    )
    found = defaultdict(list)
    for partition, batch, records, first in batches:
        assert len(batch) <= limit or records == 1
        assert parsed(batch) == rows_of(read(batch))
        assert parsed(batch)[0].timestamp == first
        found[partition] += parsed(batch)
    for partition in range(4):
        own = [message for message, place in zip(rows, chosen, strict=False) if place == partition]
        assert [(row.timestamp, row.key, row.value, row.headers) for row in found[partition]] == [
            (row.timestamp, row.key, row.value, row.headers) for row in own
        ]


@given(st.lists(st.none() | st.binary(max_size=30)), st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_keys_go_to_the_partitions_of_aiokafka(keys: list[bytes | None], partitions: int) -> None:
    assert murmur2_partitions(pa.array(keys, pa.binary()), partitions).tolist() == [
        -1 if key is None else (their_murmur2(key) & 0x7FFFFFFF) % partitions for key in keys
    ]


@given(st.binary(max_size=300), st.integers(0, 2_000), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_checksums_do_not_depend_on_the_way(part: bytes, times: int, lead: int) -> None:
    data = (part * (times // (len(part) + 1) + 1))[lead:]
    assert crc32c(data) == crc32c_by_tables(data)
