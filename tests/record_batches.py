"""Kafka's record batches as aiokafka writes and reads them, and as velostream's kernels read them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from velostream.connectors.kafka.codecs import decompress
from velostream.kernels import MessageReader, Messages, crc32c, read_headers


@dataclass(frozen=True, slots=True)
class Message:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def written(messages: Sequence[Message], codec: int = 0, **changes: int) -> bytearray:
    """The messages as one batch by aiokafka, which begins at the first one's offset; then as `patched`."""
    builder = DefaultRecordBatchBuilder(
        2,
        codec,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    base = messages[0].offset
    for message in messages:
        header = [*message.headers]
        assert builder.append(message.offset - base, message.timestamp, message.key, message.value, header)
    return patched(builder.build(), **{"base_offset": base, **changes})


def patched(batch: bytes | bytearray, **changes: int) -> bytearray:
    """The batch with fields of its header changed, and the checksum that this makes."""
    out = bytearray(batch)
    places = {
        "base_offset": (0, ">q"),
        "length": (8, ">i"),
        "magic": (16, ">b"),
        "attributes": (21, ">h"),
        "last_delta": (23, ">i"),
        "base_timestamp": (27, ">q"),
        "max_timestamp": (35, ">q"),
        "records": (57, ">i"),
    }
    for name, value in changes.items():
        at, form = places[name]
        struct.pack_into(form, out, at, value)
    struct.pack_into(">I", out, 17, crc32c(memoryview(out)[21:]))
    return out


def read(data: bytes | bytearray, first_offset: int = 0, one_line: bool = False) -> Messages:
    """All messages of the batches, by the kernels."""
    reader = MessageReader(one_line=one_line)
    view = memoryview(data)
    for header in read_headers(view):
        reader.append(header, decompress(header, view[header.payload]), first_offset)
    return reader.finish()


def rows_of(messages: Messages) -> list[Message]:
    """What was read, message by message."""
    messages.keys.validate(full=True)
    count = len(messages.offsets)
    headers: list[Any] = [[]] * count
    if messages.headers is not None:
        messages.headers.validate(full=True)
        headers = messages.headers.to_pylist()
    assert len(messages.starts) == count + 1 and messages.starts[count] == len(messages.values)
    rows = []
    for at, key in enumerate(messages.keys.to_pylist()):
        value = bytes(messages.values[messages.starts[at] : messages.starts[at + 1]])
        assert value.endswith(b"\n")
        assert value == b"\n" or not messages.nulls[at]
        rows.append(
            Message(
                int(messages.offsets[at]),
                int(messages.timestamps[at]),
                key,
                None if messages.nulls[at] else value[:-1],
                tuple((header["key"], header["value"]) for header in headers[at]),
            )
        )
    return rows


def parsed(batch: bytes | bytearray) -> list[Message]:
    """The messages of one batch, by aiokafka."""
    records = DefaultRecordBatch(bytearray(batch))
    assert records.validate_crc()
    return [
        Message(record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
        for record in records
    ]


def one_line(messages: Sequence[Message]) -> list[Message]:
    return [
        replace(message, value=None if message.value is None else message.value.replace(b"\n", b"\r"))
        for message in messages
    ]
