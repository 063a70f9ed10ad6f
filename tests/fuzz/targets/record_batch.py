"""Kafka's record batches against a reading byte by byte: as fetched, of any bytes as records, and written."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tests.fuzz.draw import Draw, exact
from tests.fuzz.numeric import Misfit
from tests.fuzz.record_oracle import batches_of, messages_of
from tests.record_batches import Message, one_line, parsed, patched, rows_of, written
from velostream.connectors.kafka.codecs import CODECS, decompress
from velostream.kernels import BatchWriter, CorruptBatch, MessageReader, murmur2_partitions, read_headers

STAMPS = (0, -1, 1_700_000_000_000, (1 << 63) - 1, -(1 << 63))
EMPTY = bytes(written([Message(0, 0, None, None)])[:61])
MAX_UNPACKED = 1 << 20


def check(data: bytes) -> None:
    draw = Draw(data)
    draw.choice((fetched, fetched, records, records, records, packed, round_trip))(draw)


def fetched(draw: Draw) -> None:
    """Bytes as a broker may send them; in every other case the checksum of the first batch is right."""
    data = draw.rest()
    if len(data) >= 61 and data[0] & 1:
        size = max(61, 12 + int.from_bytes(data[8:12], "big"))
        data = bytes(patched(data[:size])) + data[size:]
    try:
        expected = batches_of(data)
    except Misfit:
        expected = None
    try:
        headers = read_headers(exact(data))
    except CorruptBatch:
        assert expected is None
        return
    assert expected is not None
    assert [(header.base_offset, header.next_offset, header.records) for header in headers] == [
        (batch.base, batch.base + batch.last_delta + 1, batch.records) for batch in expected
    ]
    assert [data[header.payload] for header in headers] == [batch.body for batch in expected]


def records(draw: Draw) -> None:
    """Any bytes as the records of a batch, behind one that is well."""
    count, skipped = draw.number(6), draw.number(4)
    to_line, attributes = draw.number(2) == 1, 8 * draw.number(2)
    stamps = draw.choice(STAMPS), draw.choice(STAMPS)
    body = draw.rest()
    batch = patched(
        EMPTY + body,
        length=49 + len(body),
        base_offset=1,
        last_delta=7,
        attributes=attributes,
        base_timestamp=stamps[0],
        max_timestamp=stamps[1],
        records=count,
    )
    before = [Message(0, 5, b"k", b"a\nb", (("h", None),))]
    reader = MessageReader(one_line=to_line)
    first = written(before)
    [header] = read_headers(first)
    reader.append(header, first[header.payload])
    [header] = read_headers(exact(bytes(batch)))
    try:
        expected = messages_of(batches_of(bytes(batch))[0])
    except Misfit:
        expected = None
    try:
        reader.append(header, exact(body), skipped)
    except CorruptBatch:
        assert expected is None
        expected = []
    assert expected is not None
    wanted = before + [message for message in expected if message.offset >= skipped]
    assert rows_of(reader.finish()) == (one_line(wanted) if to_line else wanted)


def packed(draw: Draw) -> None:
    """Any bytes as compressed ones: no more comes out than may."""
    codec = draw.number(len(CODECS) + 1)
    [header] = read_headers(patched(EMPTY, length=49, records=0, attributes=codec))
    try:
        assert len(decompress(header, exact(draw.rest()), MAX_UNPACKED)) <= MAX_UNPACKED
    except CorruptBatch:
        return


def round_trip(draw: Draw) -> None:
    """Rows of drawn parts: what is written is read again, by aiokafka too."""
    limit = 62 + 4 * draw.number(256)
    partitions = 1 + draw.number(3)
    parts = draw.rest().split(b"\xff")
    texts = [part.decode(errors="replace") for part in parts]
    messages = [
        Message(
            at,
            STAMPS[len(part) % 3],
            None if at % 4 == 1 else parts[-at],
            None if len(part) % 5 == 4 else part,
            tuple((text, part) for text in texts[: at % 3]),
        )
        for at, part in enumerate(parts)
    ]
    keys = pa.array([message.key for message in messages], pa.binary())
    chosen = np.maximum(murmur2_partitions(keys, partitions), 0)
    headers = pa.array(
        [[{"key": key, "value": value} for key, value in message.headers] for message in messages],
        pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])),
    )
    values = [message.value or b"" for message in messages]
    batches = BatchWriter(limit).build(
        exact(b"\n".join(values)),
        np.cumsum([len(value) + 1 for value in values]) - 1,
        keys,
        chosen,
        np.array([message.timestamp for message in messages]),
        headers,
        nulls=np.array([message.value is None for message in messages]),
    )
    for partition in range(partitions):
        own = [
            message for message, place in zip(messages, chosen.tolist(), strict=True) if place == partition
        ]
        found: list[Message] = []
        for place, batch, count, _ in batches:
            if place == partition:
                assert len(batch) <= limit or count == 1
                assert parsed(batch) == messages_of(batches_of(bytes(batch))[0])
                found += parsed(batch)
        without_offsets = [(row.timestamp, row.key, row.value, row.headers) for row in found]
        assert without_offsets == [(row.timestamp, row.key, row.value, row.headers) for row in own]
