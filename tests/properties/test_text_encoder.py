"""What the encoders write is what Python's `json` and `csv` read, value for value."""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from velostream.kernels import (
    CsvEncoder,
    JsonEncoder,
    date_text,
    decimal_text,
    double_text,
    plain_bytes,
    timestamp_text,
)

EPOCH = datetime.datetime(1970, 1, 1)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
TYPES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "tiny": (pa.int8(), st.integers(-(2**7), 2**7 - 1)),
    "small": (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "int": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "big": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "double": (pa.float64(), st.floats()),
    "money": (pa.decimal128(38, 9), st.decimals(-(10**28), 10**28, places=9)),
    "flag": (pa.bool_(), st.booleans()),
    "text": (pa.string(), TEXT),
    "at": (pa.timestamp("us"), st.datetimes()),
    "day": (pa.date32(), st.dates()),
}
ROWS = st.lists(st.tuples(*(st.none() | values for _, values in TYPES.values())), max_size=20)
SCHEMA = pa.schema([pa.field(name, type) for name, (type, _) in TYPES.items()])


def batch_of(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(TYPES)
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def iso(value: datetime.datetime) -> str:
    """ISO 8601 as documented: no fraction, three digits, or six."""
    if value.microsecond == 0:
        return value.isoformat() + "Z"
    return value.isoformat(timespec="microseconds" if value.microsecond % 1000 else "milliseconds") + "Z"


@given(ROWS, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_json_lines_read_back_as_the_same_values(rows: list[tuple[Any, ...]], skipped: int) -> None:
    encoded = bytes(JsonEncoder(SCHEMA).encode(batch_of(rows).slice(skipped)))
    lines = encoded.decode().split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(rows[skipped:])
    for line, row in zip(lines, rows[skipped:], strict=True):
        read = json.loads(line, parse_float=str)
        assert list(read) == SCHEMA.names
        for name, value in zip(SCHEMA.names, row, strict=True):
            if name == "double" and value is not None:
                assert (
                    read[name] is None if not math.isfinite(value) else bits(float(read[name])) == bits(value)
                )
            elif name == "money" and value is not None:
                assert Decimal(str(read[name])) == value
                assert str(read[name]) == format(value, "f") or value == 0
            elif name == "at" and value is not None:
                assert read[name] == iso(value)
            elif name == "day" and value is not None:
                assert read[name] == value.isoformat()
            else:
                assert read[name] == value


@given(
    st.lists(st.tuples(st.none() | TEXT, st.none() | st.floats(), st.none() | TEXT), max_size=20),
    st.sampled_from([",", ";", "\t", "|", ".", "-", "1"]),
    st.sampled_from(["", "NA", "\\N"]),
)
@settings(max_examples=100, deadline=None)
def test_csv_reads_back_as_the_same_values(rows: list[tuple[Any, ...]], delimiter: str, null: str) -> None:
    schema = pa.schema([("a", pa.string()), ("x", pa.float64()), ("ü,", pa.string())])
    columns = list(zip(*rows, strict=True)) if rows else [()] * 3
    batch = pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
    encoder = CsvEncoder(schema, delimiter=delimiter, null=null)
    text = (encoder.header() + bytes(encoder.encode(batch))).decode()
    read = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    assert read[0] == schema.names
    assert len(read) == len(rows) + 1
    for (a, x, b), fields in zip(rows, read[1:], strict=True):
        assert fields[0] == (null if a is None else a)
        assert fields[2] == (null if b is None else b)
        if x is None:
            assert fields[1] == null
        else:
            assert math.isnan(float(fields[1])) if math.isnan(x) else bits(float(fields[1])) == bits(x)


@given(st.lists(st.none() | TEXT | st.text('\n\r\0\\",', max_size=300), max_size=20), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_the_ends_of_rows_are_where_their_newlines_are(texts: list[str | None], skipped: int) -> None:
    batch = pa.record_batch({"s": pa.array(texts, pa.string()), "again": pa.array(texts, pa.string())})
    batch = batch.slice(skipped)
    for encoder in (JsonEncoder(batch.schema), CsvEncoder(batch.schema)):
        ends = np.full(batch.num_rows, -1, dtype=np.int64)
        whole = bytes(encoder.encode(batch, ends))
        assert whole == bytes(encoder.encode(batch))
        starts = [0, *(ends + 1)]
        rows = [whole[start : end + 1] for start, end in zip(starts, ends, strict=False)]
        assert starts[-1] == len(whole)
        assert rows == [bytes(encoder.encode(batch.slice(i, 1))) for i in range(batch.num_rows)]
        assert all(row.endswith(b"\n") for row in rows)


def test_room_for_another_number_of_ends_is_refused() -> None:
    batch = pa.record_batch({"s": ["a", "b"]})
    with pytest.raises(ValueError, match="room for the ends of 3 rows, there are 2"):
        JsonEncoder(batch.schema).encode(batch, np.empty(3, dtype=np.int64))


@given(st.integers(0, 2**64 - 1))
@example(0x4330000000000000)  # 2**52, 2**53, 2**54: where whole numbers leave the mantissa
@example(0x4340000000000000)
@example(0x4350000000000000)
@example(0x0000000000000001)
@example(0x0010000000000000)
@example(0x7FEFFFFFFFFFFFFF)
@settings(max_examples=500, deadline=None)
def test_double_text_is_the_shortest_that_reads_back(pattern: int) -> None:
    value = struct.unpack("<d", struct.pack("<Q", pattern))[0]
    if math.isfinite(value):
        assert double_text(value) == repr(value)


@given(
    st.integers(0, 16).flatmap(lambda digits: st.integers(-(10**digits), 10**digits)),
    st.integers(0, 12),
    st.integers(-2, 2),
)
@example(999_999_999_999_999, 6, 0)  # the largest that one division settles, and its neighbours
@example(10**15, 6, 0)
@example(100, 6, 0)  # 0.0001, the smallest without an exponent
@example(99, 6, 0)
@settings(max_examples=1000, deadline=None)
def test_double_text_of_short_decimals_and_of_their_neighbours(digits: int, places: int, steps: int) -> None:
    value = digits / 10**places
    for _ in range(abs(steps)):
        value = math.nextafter(value, math.copysign(math.inf, steps))
    assert double_text(value) == repr(value)
    assert double_text(-value) == repr(-value)


def test_double_text_of_every_power_of_two_and_its_neighbours() -> None:
    for exponent in range(-1074, 1024):
        value = math.ldexp(1.0, exponent)
        for near in (math.nextafter(value, 0), value, math.nextafter(value, math.inf), -value):
            if math.isfinite(near):
                assert double_text(near) == repr(near)


@given(st.integers(-(10**38) + 1, 10**38 - 1), st.integers(0, 38))
@settings(max_examples=200, deadline=None)
def test_decimal_text_has_all_digits_of_the_scale(value: int, scale: int) -> None:
    sign, digits = "-" if value < 0 else "", str(abs(value)).rjust(scale + 1, "0")
    split = len(digits) - scale
    assert decimal_text(value, scale) == sign + digits[:split] + ("." + digits[split:] if scale else "")


@given(st.datetimes())
@settings(max_examples=200, deadline=None)
def test_timestamp_and_date_text_are_iso_8601(value: datetime.datetime) -> None:
    us = (value - EPOCH) // datetime.timedelta(microseconds=1)
    assert timestamp_text(us) == iso(value)
    assert date_text(us // 86_400_000_000) == value.date().isoformat()


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (-(2**63), "-290308-12-21T19:59:05.224192Z"),
        (2**63 - 1, "+294247-01-10T04:00:54.775807Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (1_357_016_400_000_000, "2013-01-01T05:00:00Z"),
        (1_357_016_400_120_000, "2013-01-01T05:00:00.120Z"),
        (-62_167_219_200_000_001, "-0001-12-31T23:59:59.999999Z"),
    ],
)
def test_timestamp_text_beyond_four_digit_years_has_a_sign(us: int, text: str) -> None:
    assert timestamp_text(us) == text


def test_csv_tells_empty_text_and_text_like_null_from_null() -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.string())])
    batch = pa.record_batch([pa.array(["", None, "NA"]), pa.array(["x", 'y"z', None])], schema=schema)
    assert bytes(CsvEncoder(schema, null="NA").encode(batch)) == b'"",x\nNA,"y""z"\n"NA",NA\n'


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 63, 64, 65])
def test_all_null_and_sliced_columns_of_each_length(n: int) -> None:
    nulls = pa.record_batch([pa.nulls(n + 3, field.type) for field in SCHEMA], schema=SCHEMA).slice(3)
    line = b"{" + b",".join(b'"%s":null' % name.encode() for name in SCHEMA.names) + b"}\n"
    assert bytes(JsonEncoder(SCHEMA).encode(nulls)) == line * n
    assert bytes(CsvEncoder(SCHEMA).encode(nulls)) == b",,,,,,,,,\n" * n


def test_every_control_character_at_every_place_of_a_word_is_escaped() -> None:
    values = ["a" * before + chr(code) + "b" * 9 for code in [*range(32), 34, 92, 127] for before in range(9)]
    schema = pa.schema([("s", pa.string())])
    encoded = bytes(JsonEncoder(schema).encode(pa.record_batch([pa.array(values)], schema=schema)))
    assert [json.loads(line)["s"] for line in encoded.decode().split("\n")[:-1]] == values


def test_text_of_escapes_alone_gets_all_the_room_it_needs() -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.int64())])
    values = ["\x01" * size for size in (1, 15, 16, 17, 5000)] * 3
    batch = pa.record_batch([pa.array(values), pa.array(range(len(values)))], schema=schema)
    encoder = JsonEncoder(schema)
    first = encoder.encode(batch)
    lines = bytes(first).decode().split("\n")[:-1]
    assert [json.loads(line) for line in lines] == batch.to_pylist()
    quotes = pa.record_batch([pa.array(['"' * 5000] * 3), pa.array(range(3))], schema=schema)
    text = bytes(CsvEncoder(schema).encode(quotes)).decode()
    assert [row[0] for row in csv.reader(io.StringIO(text))] == ['"' * 5000] * 3


def test_an_output_keeps_its_bytes_while_the_encoder_goes_on() -> None:
    schema = pa.schema([("a", pa.int64())])
    encoder = JsonEncoder(schema)
    outputs = [encoder.encode(pa.record_batch([pa.array([k] * 50)], schema=schema)) for k in range(3)]
    del outputs[1]
    outputs.insert(1, encoder.encode(pa.record_batch([pa.array([7] * 3)], schema=schema)))
    assert [bytes(output) for output in outputs] == [
        b'{"a":0}\n' * 50,
        b'{"a":7}\n' * 3,
        b'{"a":2}\n' * 50,
    ]


@pytest.mark.parametrize("name", ["", "a" * 15, "ü" * 40])
def test_names_of_any_length_and_values_at_the_end_of_their_buffer(name: str) -> None:
    schema = pa.schema([(name, pa.string()), ("n", pa.date32())])
    rows = [{name: "x" * size, "n": datetime.date(2024, 2, 29)} for size in range(40)]
    batch = pa.RecordBatch.from_pylist(rows, schema=schema)
    lines = bytes(JsonEncoder(schema).encode(batch)).decode().split("\n")[:-1]
    assert [json.loads(line) for line in lines] == [{**row, "n": "2024-02-29"} for row in rows]


@given(
    st.lists(st.sampled_from(b'aaaaaaaaaa"\\\n\r,;\x00\x1f\x20\x7f\x80\xff'), min_size=16, max_size=16).map(
        bytes
    )
)
@settings(max_examples=300, deadline=None)
def test_both_scans_for_what_is_escaped_stop_where_a_loop_does(block: bytes) -> None:
    json_end = next((n for n, byte in enumerate(block) if byte in b'"\\' or byte < 32), 16)
    csv_end = next((n for n, byte in enumerate(block) if byte in b';"\r\n'), 16)
    assert plain_bytes(block, b';"') == ((json_end, json_end), (csv_end, csv_end))


def test_an_encoder_refuses_what_it_cannot_write() -> None:
    with pytest.raises(TypeError, match="column 'l' is of type list"):
        JsonEncoder(pa.schema([("l", pa.list_(pa.int64()))]))
    with pytest.raises(TypeError, match="for an encoder of"):
        JsonEncoder(pa.schema([("a", pa.int64())])).encode(pa.record_batch({"a": pa.array(["x"])}))
    with pytest.raises(ValueError, match="one ASCII character"):
        CsvEncoder(pa.schema([("a", pa.int64())]), delimiter="::")
    with pytest.raises(ValueError, match="holds the delimiter"):
        CsvEncoder(pa.schema([("a", pa.int64())]), null="a,b")
