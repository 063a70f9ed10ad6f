"""Each limit of a record, in both formats: beyond it the record fails with its own code, the next is read."""

from __future__ import annotations

from typing import Any

import pytest

from velostream.formats.base import Decoded, formats
from velostream.sql.types import BIGINT, VARCHAR, Field, Schema

SCHEMA = Schema((Field("s", VARCHAR), Field("i", BIGINT)))
NEXT = {"ndjson": b'{"s":"next","i":2}', "csv": b"next,2"}
# Format, options, a record at the limit, one beyond it, the code.
LIMITS: list[tuple[str, dict[str, Any], bytes, bytes, str]] = [
    (
        "ndjson",
        {"max_record_bytes": "20B"},
        b'{"s":"12345","i":10}',
        b'{"s":"123456","i":10}',
        "record.too_long",
    ),
    (
        "ndjson",
        {"max_record_bytes": "20B"},
        b'{"s":"12345","i":10}',
        b'{"s":"12345","i":10} ',
        "record.too_long",
    ),
    ("ndjson", {"max_depth": 2}, b'{"x":[1],"i":1}', b'{"x":[[1]],"i":1}', "json.depth"),
    ("ndjson", {"max_depth": 2}, b'{"s":{},"i":1}', b'{"s":{"a":{}},"i":1}', "json.depth"),
    ("ndjson", {"max_columns": 2}, b'{"s":"a","i":1}', b'{"s":"a","i":1,"x":2}', "record.too_many_columns"),
    (
        "ndjson",
        {"max_columns": 2},
        b'{"x":{"a":1,"b":2,"c":3}}',
        b'{"s":"","s":"","s":""}',
        "record.too_many_columns",
    ),
    ("ndjson", {"max_text_bytes": "4B"}, b'{"s":"1234"}', b'{"s":"12345"}', "json.text_too_long"),
    ("ndjson", {"max_text_bytes": "4B"}, b'{"1234":["1234"]}', b'{"1234":["12345"]}', "json.text_too_long"),
    ("ndjson", {"max_text_bytes": "4B"}, b'{"1234":1}', b'{"12345":1}', "json.text_too_long"),
    ("csv", {"max_record_bytes": "8B"}, b"123456,1", b"1234567,1", "record.too_long"),
    ("csv", {"max_record_bytes": "8B"}, b'"1,\n4",1', b'"1,\n45",1', "record.too_long"),
    ("csv", {"max_columns": 2}, b"a,1", b"a,1,2", "record.too_many_columns"),
    ("csv", {"max_columns": 2}, b'"a,,",1', b"a,,,,,,", "record.too_many_columns"),
    ("csv", {"max_text_bytes": "4B"}, b"1234,1", b"12345,1", "csv.text_too_long"),
    ("csv", {"max_text_bytes": "6B"}, b'"1,\n4",1', b'"1,\n45",1', "csv.text_too_long"),
]


def decode(name: str, data: bytes, options: dict[str, Any]) -> list[Decoded]:
    """The slices of the data, first in one piece, then a record at a time."""
    if name == "csv":
        options = {"header": False, **options}
    format = formats[name](formats[name].Options(**options))
    decoder = format.decoder(SCHEMA, SCHEMA.names, format.layout(b""))
    slices = [decoder.decode(memoryview(data), 0, 100)]
    position = 0
    while position < len(data):
        slices.append(decoder.decode(memoryview(data), position, 1))
        position = slices[-1].next
    return slices


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    ("name", "options", "within", "beyond", "code"),
    LIMITS,
    ids=[f"{row[0]}-{row[4]}-{at}" for at, row in enumerate(LIMITS)],
)
def test_beyond_a_limit_only_that_record_fails(
    name: str, options: dict[str, Any], within: bytes, beyond: bytes, code: str, newline: bytes
) -> None:
    lines = [NEXT[name], within, beyond, NEXT[name], beyond, beyond, within, NEXT[name]]
    if options.get("max_record_bytes") or options.get("max_text_bytes"):
        # So short a limit would refuse the others, too.
        lines = [within, beyond, within, beyond, beyond, within]
    data = newline.join(lines) + newline
    whole, *single = decode(name, data, options)
    bad = [at for at, line in enumerate(lines) if line == beyond]
    assert [error.code for error in whole.errors] == [code] * len(bad)
    starts = [sum(len(line) + len(newline) for line in lines[:at]) for at in range(len(lines))]
    assert [error.start for error in whole.errors] == [starts[at] for at in bad]
    assert [error.end for error in whole.errors] == [starts[at] + len(beyond) for at in bad]
    assert whole.starts.tolist() == [start for at, start in enumerate(starts) if at not in bad]
    # Their rows are those of the same lines alone.
    alone = [
        decode(name, line, options)[0].batch.to_pylist() for at, line in enumerate(lines) if at not in bad
    ]
    assert [[row] for row in whole.batch.to_pylist()] == alone
    assert [row for part in single for row in part.batch.to_pylist()] == whole.batch.to_pylist()
    assert [error.code for part in single for error in part.errors] == [code] * len(bad)


def test_the_defaults_of_both_formats_are_the_same() -> None:
    for name in ("ndjson", "csv"):
        options = formats[name].Options()
        assert (options.max_record_bytes, options.max_columns, options.max_text_bytes) == (
            "16MiB",
            10_000,
            "16MiB",
        )
    assert formats["ndjson"].Options().max_depth == 64
