"""The NDJSON decoder against Python's `json`, with every kind of column, in slices and cut anywhere."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

from tests.fuzz.draw import Draw, exact
from tests.fuzz.json_oracle import records_of, row_of
from tests.fuzz.numeric import Misfit, stored
from velostream.formats.base import Decoder, formats
from velostream.sql.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTEGER,
    SMALLINT,
    TIMESTAMP,
    TINYINT,
    VARCHAR,
    Field,
    Schema,
)

NDJSON = formats["ndjson"]
FIELDS = (
    Field("s", VARCHAR),
    Field("i", BIGINT),
    Field("d", DOUBLE),
    Field("n", pa.decimal128(20, 4)),
    Field("b", BOOLEAN),
    Field("t", TIMESTAMP),
    Field("day", DATE),
    Field("tiny", TINYINT),
    Field("small", SMALLINT),
    Field("int", INTEGER),
    Field("wide", pa.decimal128(38, 10)),
    Field("ключ", VARCHAR),
)
DEPTHS = (1, 2, 3, 64)
RECORD_BYTES = (8, 40, 1 << 20)


def check(data: bytes) -> None:
    draw = Draw(data)
    chosen = draw.number(256) | draw.number(256) << 8
    columns = [field for bit, field in enumerate(FIELDS) if chosen >> bit & 1]
    max_rows = draw.choice((1, 2, 7, 1000))
    max_depth = draw.choice(DEPTHS)
    max_record = draw.choice(RECORD_BYTES)
    body = draw.rest()
    options = NDJSON.Options(max_depth=max_depth, max_record_bytes=f"{max_record}B")
    decoder = NDJSON(options).decoder(
        Schema(FIELDS), [field.name for field in columns], NDJSON(options).layout(b"")
    )
    rows, spans, failed = decode_all(decoder, body, max_rows)
    expected: list[list[Any]] = []
    good = []
    bad = []
    for start, end in records_of(body):
        try:
            if end - start > max_record:
                raise Misfit
            expected.append(row_of(body[start:end], columns, max_depth))
            good.append((start, end))
        except (ValueError, Misfit):
            bad.append((start, end))
    assert spans == good, (spans, good)
    assert failed == bad, (failed, bad)
    assert same(rows, expected), (rows, expected)
    # Whole lines in front of a cut are what they are without one.
    cut = body.rfind(b"\n", 0, len(body) // 2) + 1
    again, _, _ = decode_all(decoder, body[:cut], 1000)
    more, _, _ = decode_all(decoder, body[cut:], 1000)
    assert same(again + more, expected), (again, more, expected)


def decode_all(
    decoder: Decoder, data: bytes, max_rows: int
) -> tuple[list[list[Any]], list[tuple[int, int]], list[tuple[int, int]]]:
    """All rows, their spans, and the spans of the records that fail."""
    block = memoryview(exact(data))  # type: ignore[arg-type]
    rows: list[list[Any]] = []
    spans: list[tuple[int, int]] = []
    failed: list[tuple[int, int]] = []
    position = 0
    while position < len(data):
        decoded = decoder.decode(block, position, max_rows)
        assert position < decoded.next <= len(data)
        assert decoded.records == decoded.batch.num_rows + len(decoded.errors) <= max_rows
        decoded.batch.validate(full=True)
        columns = [stored(column) for column in decoded.batch.columns]
        rows += [[column[row] for column in columns] for row in range(decoded.batch.num_rows)]
        spans += zip(decoded.starts.tolist(), decoded.ends.tolist(), strict=True)
        failed += [(error.start, error.end) for error in decoded.errors]
        position = decoded.next
    return rows, spans, failed


def same(rows: list[list[Any]], expected: list[list[Any]]) -> bool:
    """Equal, and zeros of the same sign."""
    return rows == expected and all(
        math.copysign(1, a) == math.copysign(1, b)
        for row, other in zip(rows, expected, strict=True)
        for a, b in zip(row, other, strict=True)
        if isinstance(a, float)
    )
