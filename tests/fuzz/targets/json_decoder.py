"""The NDJSON decoder against Python's `json`, with every kind of column, in slices and cut anywhere."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import pyarrow as pa

from tests.fuzz.draw import Draw, exact
from tests.fuzz.json_oracle import Limits, records_of, row_of
from tests.fuzz.numeric import Misfit, stored
from velostream.formats import decoding
from velostream.formats.base import Decoded, Decoder, formats
from velostream.formats.file_range import FileRange
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
COLUMNS = (10_000, 1, 2, 5)
TEXT_BYTES = (1 << 24, 1, 9, 20)
PIECE_BYTES = (1 << 19, 1, 7, 50)


def check(data: bytes) -> None:
    draw = Draw(data)
    chosen = draw.number(256) | draw.number(256) << 8
    columns = [field for bit, field in enumerate(FIELDS) if chosen >> bit & 1]
    max_rows, piece_bytes = draw.two((1, 2, 7, 1000), PIECE_BYTES)
    max_depth, max_columns = draw.two(DEPTHS, COLUMNS)
    max_record, max_text = draw.two(RECORD_BYTES, TEXT_BYTES)
    body = draw.rest()
    options = NDJSON.Options(
        max_depth=max_depth,
        max_record_bytes=f"{max_record}B",
        max_columns=max_columns,
        max_text_bytes=f"{max_text}B",
    )
    limits = Limits(max_depth, max_columns, max_text)
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
            expected.append(row_of(body[start:end], columns, limits))
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
    with in_file(body) as file, patch.object(decoding, "PIECE_BYTES", piece_bytes):
        again, spans, failed = decode_all(decoder, file, max_rows)
    assert (spans, failed) == (good, bad), (spans, good, failed, bad)
    assert same(again, expected), (again, expected)


@contextmanager
def in_file(data: bytes) -> Iterator[FileRange]:
    """The bytes in a file in memory, behind three others."""
    with open(os.memfd_create("records"), "w+b", buffering=0) as file:
        file.write(b"{}\n" + data)
        yield FileRange(file, "records", 3, len(data))


def decode_all(
    decoder: Decoder, data: bytes | FileRange, max_rows: int
) -> tuple[list[list[Any]], list[tuple[int, int]], list[tuple[int, int]]]:
    """All rows, their spans, and the spans of the records that fail."""
    decode: Callable[[int, int], Decoded]
    if isinstance(data, FileRange):
        decode = partial(decoder.decode_file, data)
    else:
        decode = partial(decoder.decode, memoryview(exact(data)))  # type: ignore[arg-type]
    rows: list[list[Any]] = []
    spans: list[tuple[int, int]] = []
    failed: list[tuple[int, int]] = []
    position = 0
    while position < len(data):
        decoded = decode(position, max_rows)
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
