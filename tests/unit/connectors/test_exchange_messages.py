"""What tasks send each other: there and back, cut to size, and bytes that are none of it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velostream.connectors.kafka.exchange_messages import (
    UnreadableMessage,
    read_message,
    row_messages,
    watermark_message,
)

LARGE = 1 << 20
HEADER = 16
MICROSECONDS = st.integers(-(1 << 62), 1 << 62)
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-128, 127),
    pa.int16(): st.integers(-(1 << 15), (1 << 15) - 1),
    pa.int32(): st.integers(-(1 << 31), (1 << 31) - 1),
    pa.int64(): st.integers(-(1 << 63), (1 << 63) - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.string(): st.text(max_size=20),
    pa.date32(): st.integers(-(1 << 31), (1 << 31) - 1),
    pa.timestamp("us"): MICROSECONDS,
    pa.decimal128(38, 9): st.decimals(-(10**28), 10**28, allow_nan=False, allow_infinity=False, places=9),
    pa.decimal128(4, 0): st.decimals(-9999, 9999, allow_nan=False, allow_infinity=False, places=0),
}
SCHEMA = pa.schema(
    [("id", pa.int64()), ("text", pa.string()), ("price", pa.decimal128(12, 2)), ("open", pa.bool_())]
)


def some_rows(count: int) -> pa.RecordBatch:
    return pa.record_batch(
        [
            pa.array(range(count), pa.int64()),
            pa.array([None if i % 5 == 0 else f"text {i}" for i in range(count)], pa.string()),
            pa.array([None if i % 7 == 0 else Decimal(i).scaleb(-2) for i in range(count)], SCHEMA.types[2]),
            pa.array([None if i % 3 == 0 else i % 2 == 0 for i in range(count)], pa.bool_()),
        ],
        schema=SCHEMA,
    )


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    """Of any types, with NULLs; now and then a slice, now and then large enough to be packed."""
    types = draw(st.lists(st.sampled_from(list(VALUES)), max_size=5))
    count = draw(st.integers(0, 20))
    copies = draw(st.sampled_from([1, 1, 60]))
    columns = [
        pa.array(
            draw(st.lists(st.none() | VALUES[type], min_size=count, max_size=count)) * copies,
            pa.int64() if pa.types.is_timestamp(type) else pa.int32() if pa.types.is_date(type) else type,
        ).cast(type)
        for type in types
    ]
    schema = pa.schema([(f"c{number}", type) for number, type in enumerate(types)])
    if not columns:
        return some_rows(count).select([])
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    return batch.slice(draw(st.integers(0, 3)))


def read(value: Any, schema: pa.Schema = SCHEMA, senders: int = 8) -> pa.RecordBatch:
    message = read_message(value, senders, schema)
    assert message.rows is not None and message.watermark is None
    return message.rows


@settings(deadline=None)
@given(batches(), st.integers(0, 7))
def test_rows_of_all_types_come_back(rows: pa.RecordBatch, sender: int) -> None:
    [value] = row_messages(sender, rows, LARGE)
    message = read_message(value, 8, rows.schema)
    assert message.sender == sender
    assert message.watermark is None
    assert message.rows is not None
    assert message.rows.equals(rows)
    assert message.rows.num_rows == rows.num_rows


@settings(deadline=None)
@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 7))
def test_watermarks_come_back(watermark: int, sender: int) -> None:
    message = read_message(watermark_message(sender, watermark), 8, SCHEMA)
    assert (message.sender, message.rows, message.watermark) == (sender, None, watermark)


def test_the_format_is_what_its_description_says() -> None:
    assert watermark_message(5, -2) == b"\x01\x01\x00\x00\x05\x00\x00\x00" + struct.pack("<q", -2)
    for count in (3, 3_000):
        [value] = row_messages(258, some_rows(count), LARGE)
        assert bytes(value[:HEADER]) == b"\x01\x00\x00\x00\x02\x01\x00\x00" + bytes(8)
        with pa.ipc.open_stream(value[HEADER:]) as stream:
            assert stream.read_all().combine_chunks().to_batches() == [some_rows(count)]


@pytest.mark.parametrize("count", [0, 1, 10, 50, 100])
def test_a_small_message_is_no_larger_than_one_that_is_not_compressed(count: int) -> None:
    rows = some_rows(count)
    plain = pa.BufferOutputStream()
    with pa.ipc.new_stream(plain, rows.schema) as stream:
        stream.write_batch(rows)
    [value] = row_messages(0, rows, LARGE)
    assert len(value) <= HEADER + len(plain.getvalue())


def test_a_large_message_is_compressed() -> None:
    rows = some_rows(10_000)
    [value] = row_messages(0, rows, LARGE)
    assert len(value) < rows.nbytes / 2


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0, 1, 30, 400, 3_000]), min_size=1, max_size=40),
    st.sampled_from([1, 100, 1_000, 1_000_000]),
)
def test_messages_are_cut_to_size_in_the_order_of_rows(sizes: Sequence[int], max_bytes: int) -> None:
    texts = [f"{number}-" + "x" * size for number, size in enumerate(sizes)]
    whole = pa.record_batch({"text": ["before", *texts]})
    parts = [read(value, whole.schema) for value in row_messages(0, whole.slice(1), max_bytes)]
    assert [text for part in parts for text in part.column("text").to_pylist()] == texts
    assert all(part.num_rows == 1 or part.nbytes <= max_bytes for part in parts)


def test_what_was_read_is_aligned_wherever_the_message_stood() -> None:
    for count in (10, 5_000):
        [value] = row_messages(0, some_rows(count), LARGE)
        for shift in range(8):
            rows = read(memoryview(bytes(shift) + bytes(value))[shift:])
            assert rows.equals(some_rows(count))
            addresses = [buffer.address for column in rows.columns for buffer in column.buffers() if buffer]
            assert all(address % 64 == 0 for address in addresses)


# --- bytes that are no message ------------------------------------------------------------------------


def refusal(value: bytes, schema: pa.Schema = SCHEMA, senders: int = 8) -> str:
    with pytest.raises(UnreadableMessage) as caught:
        read_message(value, senders, schema)
    return str(caught.value)


def of_rows(stream: bytes) -> bytes:
    return bytes(watermark_message(0, 0)[:1]) + bytes(HEADER - 1) + stream


def test_what_is_wrong_with_a_message_is_said() -> None:
    [value] = map(bytes, row_messages(3, some_rows(5), LARGE))
    assert refusal(b"") == "it has 0 bytes, fewer than its header"
    assert refusal(value[:15]) == "it has 15 bytes, fewer than its header"
    assert refusal(b"\x02" + value[1:]) == "it is of version 2 of the format, and this is version 1"
    assert refusal(b"\x01\x09" + value[2:]) == "it is of kind 9, which version 1 of the format has not"
    assert refusal(value, senders=3) == "it is of task 3, and there are 3"
    assert refusal(value[:16]).startswith("its rows are no Arrow IPC stream: ")
    assert refusal(value[:-200]).startswith("its rows are no Arrow IPC stream: ")
    other = pa.schema([("id", pa.int32()), ("text", pa.string())])
    assert refusal(value, other) == (
        "its columns are id int64, text string, price decimal128(12, 2), open bool, "
        "and not id int32, text string"
    )
    assert refusal(value, pa.schema([])).endswith("open bool, and not none")


@pytest.mark.parametrize("count", [0, 2])
def test_a_message_has_one_record_batch(count: int) -> None:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, SCHEMA) as stream:
        for _ in range(count):
            stream.write_batch(some_rows(2))
    assert refusal(of_rows(out.getvalue().to_pybytes())) == f"it has {count} record batches in place of one"


def test_offsets_that_lead_outside_are_no_rows() -> None:
    wrong = pa.StringArray.from_buffers(
        2, pa.py_buffer(struct.pack("<3i", 0, 1 << 20, 2)), pa.py_buffer(b"ab")
    )
    rows = pa.RecordBatch.from_arrays([wrong], ["text"])
    [value] = row_messages(0, rows, LARGE)
    assert "In column 0: " in refusal(bytes(value), rows.schema)


@settings(deadline=None)
@given(st.data(), st.sampled_from([0, 1, 30, 400]))
def test_damaged_bytes_are_refused_or_are_rows_that_are_sound(data: st.DataObject, count: int) -> None:
    [value] = row_messages(1, some_rows(count), LARGE)
    damaged = bytearray(value)
    # Most of what can go wrong is in the header, the schema and the head of the record batch.
    places = st.integers(0, len(damaged) - 1) | st.integers(0, min(1_200, len(damaged)) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(places)] = data.draw(
            st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)
        )
    del damaged[len(damaged) - data.draw(st.sampled_from([0, 0, 0, 1, 8, 100])) :]
    try:
        message = read_message(bytes(damaged), 8, SCHEMA)
    except UnreadableMessage:
        return
    if message.rows is None:
        assert message.watermark is not None
    else:
        message.rows.validate(full=True)
        assert message.rows.schema == SCHEMA
