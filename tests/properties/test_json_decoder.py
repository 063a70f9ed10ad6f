"""The NDJSON decoder against Python's `json`, `float` and `decimal`, on records that hypothesis makes up."""

from __future__ import annotations

import json
import math
import struct
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from velostream.formats.base import Decoded, formats
from velostream.sql.types import BIGINT, BOOLEAN, DOUBLE, TINYINT, VARCHAR, Field, Schema

NDJSON = formats["ndjson"]
EXACT = Context(prec=2000, Emin=-10_000_000, Emax=10_000_000)
SCHEMA = Schema(
    (
        Field("text", VARCHAR),
        Field("whole", BIGINT),
        Field("tiny", TINYINT),
        Field("real", DOUBLE),
        Field("exact", pa.decimal128(20, 4)),
        Field("truth", BOOLEAN),
        Field("ключ", VARCHAR),
    )
)


class Number(str):
    """A number's text, told apart from a string's."""


class Misfit(Exception):
    """The value does not fit its column."""


def decode_all(data: bytes, schema: Schema, columns: list[str], max_rows: int = 1 << 20) -> list[Decoded]:
    """All slices of the data as one block, copied so that reading beyond it is outside of the buffer."""
    format = NDJSON(NDJSON.Options())
    decoder = format.decoder(schema, columns, format.layout(b""))
    slices = []
    position = 0
    while position < len(data):
        decoded = decoder.decode(memoryview(data), position, max_rows)
        assert decoded.next > position
        assert decoded.records == decoded.batch.num_rows + len(decoded.errors) <= max_rows
        position = decoded.next
        slices.append(decoded)
    return slices


def rows_of(slices: list[Decoded]) -> list[dict[str, Any]]:
    return [row for decoded in slices for row in decoded.batch.to_pylist()]


def load(text: str) -> Any:
    """The value of a JSON text, its numbers as they are written; ValueError when it is none."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    def keep_last(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # The module takes lone surrogates, also in values that a later key replaces.
        json.dumps(pairs, ensure_ascii=False).encode()
        return dict(pairs)

    value = json.loads(
        text, parse_int=Number, parse_float=Number, parse_constant=refuse, object_pairs_hook=keep_last
    )
    json.dumps(value, ensure_ascii=False).encode()
    return value


def expect(text: str, type: pa.DataType) -> Any:
    """The column's value for a JSON text, or Misfit."""
    value = load(text)
    if value is None:
        return None
    if pa.types.is_string(type):
        return value if isinstance(value, str) and not isinstance(value, Number) else text
    if pa.types.is_boolean(type):
        if not isinstance(value, bool):
            raise Misfit
        return value
    if not isinstance(value, Number):
        raise Misfit
    return expect_number(value, type)


def expect_number(text: str, type: pa.DataType) -> Any:
    if pa.types.is_float64(type):
        if math.isinf(float(text)):
            raise Misfit
        return float(text)
    number = EXACT.create_decimal(text)
    if pa.types.is_decimal(type):
        scaled = number.scaleb(type.scale, EXACT)
        if scaled != scaled.to_integral_value() or abs(scaled) >= 10**type.precision:
            raise Misfit
        return number.quantize(Decimal(1).scaleb(-type.scale), context=EXACT)
    limit = 1 << (type.bit_width - 1)
    if number != number.to_integral_value() or not -limit <= number < limit:
        raise Misfit
    return int(number)


spaces = st.text(" \t\r", max_size=2)
digits = st.text("0123456789", min_size=1, max_size=25)
numbers = st.one_of(
    st.integers(-(1 << 64), 1 << 64).map(str),
    st.integers(-200, 200).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.tuples(
        st.sampled_from(["", "-"]),
        st.one_of(st.just("0"), digits.map(lambda text: text.lstrip("0") or "7")),
        st.one_of(st.just(""), digits.map(lambda text: "." + text)),
        st.one_of(st.just(""), st.integers(-400, 400).map(lambda power: f"e{power}")),
    ).map("".join),
    st.tuples(digits, st.integers(-30, 5)).map(
        lambda pair: (pair[0].lstrip("0") or "0") + ("e" if pair[1] < 0 else "E+") + str(pair[1])
    ),
)
strings = st.one_of(
    st.text(max_size=40).map(json.dumps),
    st.text(max_size=40).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from(
        [
            r'"\ud83d\ude00"',
            r'"\ud83d"',
            r'"\ude00"',
            r'"\ud83dx"',
            r'"\ud83d\n"',
            r'"\/\b\f"',
            r'"\u0000"',
            r'"\x"',
        ]
    ),
)
scalars = st.one_of(numbers, strings, st.sampled_from(["true", "false", "null"]))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[ " + " ,".join(items) + "]"),
        st.lists(st.tuples(strings, inner), max_size=3).map(
            lambda items: "{" + ", ".join(f"{key} :{value}" for key, value in items) + " }"
        ),
    ),
    max_leaves=6,
)
keys = st.one_of(
    st.sampled_from(SCHEMA.names).map(lambda name: json.dumps(name, ensure_ascii=False)),
    st.sampled_from(SCHEMA.names).map(json.dumps),
    st.just(r'"\u0074ext"'),
    st.sampled_from(['"other"', '"textual"', '""', '"' + "long" * 20 + '"']),
)
records = st.lists(st.tuples(keys, values, spaces), max_size=8)


def write(record: list[tuple[str, str, str]]) -> str:
    return "{" + ",".join(f"{gap}{key}{gap}:{gap}{value}{gap}" for key, value, gap in record) + "}"


def expect_row(record: list[tuple[str, str, str]], columns: list[str]) -> dict[str, Any] | None:
    """The record's row, or None when it fails."""
    texts: dict[str, str] = {}
    try:
        for key, value, _ in record:
            load(value)
            texts[load(key)] = value
        return {
            name: expect(texts[name], SCHEMA.field(name).type) if name in texts else None for name in columns
        }
    except (ValueError, Misfit):
        return None


@given(
    st.lists(records, max_size=6),
    st.lists(st.sampled_from(SCHEMA.names), unique=True),
    st.sampled_from([1, 7, 1000]),
    st.sampled_from(["\n", "\r\n", "\n \t\n"]),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_rows_are_those_of_the_json_module(
    documents: list[list[tuple[str, str, str]]], columns: list[str], max_rows: int, newline: str, last: bool
) -> None:
    lines = [write(record) for record in documents]
    data = (newline.join(lines) + (newline if last else "")).encode()
    slices = decode_all(data, SCHEMA, columns, max_rows)
    expected = [expect_row(record, columns) for record in documents]
    assert rows_of(slices) == [row for row in expected if row is not None]
    spans = [(int(a), int(b)) for part in slices for a, b in zip(part.starts, part.ends, strict=True)]
    good = [line for line, row in zip(lines, expected, strict=True) if row is not None]
    assert [data[a:b].decode() for a, b in spans] == good
    bad = [line for line, row in zip(lines, expected, strict=True) if row is None]
    assert [data[e.start : e.end].decode() for part in slices for e in part.errors] == bad


@given(
    records,
    st.integers(0, 10_000),
    st.sampled_from([b"", b"\0", b'"', b"\\", b"\xff", b"\xe2\x82", b"{", b"0"]),
)
@settings(max_examples=300, deadline=None)
def test_damaged_records_are_accepted_exactly_when_the_json_module_does(
    record: list[tuple[str, str, str]], place: int, damage: bytes
) -> None:
    whole = write(record).encode()
    place %= len(whole) + 1
    data = whole[:place] + damage + whole[place + 1 :]
    try:
        accepted = isinstance(load(data.decode()), dict)
    except ValueError:
        accepted = False
    slices = decode_all(data + b'\n{"real": 1}\n', SCHEMA, [])
    assert sum(part.batch.num_rows for part in slices) == accepted + 1


@given(st.lists(records, max_size=3))
@settings(max_examples=30, deadline=None)
def test_a_block_cut_at_any_byte_keeps_the_rows_before_the_cut(
    documents: list[list[tuple[str, str, str]]],
) -> None:
    data = "".join(write(record) + "\n" for record in documents).encode()
    columns = list(SCHEMA.names)
    ends = [at + 1 for at, byte in enumerate(data) if byte == 10]
    expected = [expect_row(record, columns) for record in documents]
    for cut in range(len(data)):
        whole = sum(end <= cut for end in ends)
        rows = rows_of(decode_all(data[:cut], SCHEMA, columns))
        kept = [row for row in expected[:whole] if row is not None]
        assert rows[: len(kept)] == kept
        assert len(rows) <= len(kept) + 1


@given(st.lists(numbers, min_size=1, max_size=20))
@example(
    ["9007199254740993", "1e23", "8.5e-324", "2.4703282292062327e-324", "4.9e-324", "1.7976931348623157e308"]
)
@example(
    ["1.7976931348623159e308", "1e400", "-1e-400", "0.1e-99999999999999999999", "0e99999999999999999999"]
)
@example(
    [
        "2.2250738585072011e-308",
        "9007199254740992.5" + "0" * 900 + "1",
        "1" + "0" * 400 + "e-400",
        "-0",
        "-0.0",
    ]
)
@settings(max_examples=300, deadline=None)
def test_doubles_are_those_of_float_to_the_bit(texts: list[str]) -> None:
    data = "".join(f'{{"real":{text}}}\n' for text in texts).encode()
    slices = decode_all(data, SCHEMA, ["real"])
    found = [struct.pack("<d", row["real"]) for row in rows_of(slices)]
    assert found == [struct.pack("<d", float(text)) for text in texts if not math.isinf(float(text))]


@given(numbers, st.integers(1, 38), st.data())
@settings(max_examples=300, deadline=None)
def test_decimals_are_exact_or_refused(text: str, precision: int, data: st.DataObject) -> None:
    type = pa.decimal128(precision, data.draw(st.integers(0, precision)))
    schema = Schema((Field("d", type),))
    rows = rows_of(decode_all(f'{{"d":{text}}}'.encode(), schema, ["d"]))
    try:
        assert rows == [{"d": expect_number(text, type)}]
    except Misfit:
        assert rows == []
