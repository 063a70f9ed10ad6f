"""Messages to rows, without a broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velostream.connectors.kafka.columns import MessageColumns
from velostream.connectors.kafka.decoder import MessageDecoder, asked
from velostream.connectors.kafka.messages import KafkaMessages, bytes_of
from velostream.errors import VelostreamError
from velostream.formats.base import Layout
from velostream.formats.options import open_format
from velostream.sql.types import BIGINT, VARCHAR, Field, Schema

VALUE = Schema((Field("id", BIGINT), Field("name", VARCHAR)))
FIRST_OFFSET = 100


def messages_of(
    values: Sequence[bytes | None], keys: Sequence[bytes | None] = (), timestamps: Sequence[int] = ()
) -> KafkaMessages:
    """Messages with gaps between their offsets."""
    lines = [(value or b"") + b"\n" for value in values]
    count = len(values)
    return KafkaMessages(
        memoryview(b"".join(lines)),
        np.concatenate([[0], np.cumsum([len(line) for line in lines])]).astype(np.int64),
        FIRST_OFFSET + 3 * np.arange(count, dtype=np.int64),
        np.array(timestamps or [0] * count, dtype=np.int64),
        np.array([value is None for value in values], dtype=np.bool_),
        pa.array(keys or [None] * count, type=pa.binary()),
        None,
    )


def decoder_of(
    format: str, columns: Sequence[str] = ("id", "name"), skip: bool = False, **beside: Mapping[str, str]
) -> tuple[MessageDecoder, list[int]]:
    """A decoder, and what it has skipped."""
    skipped: list[int] = []
    kind = open_format(format, {}, "sources.t")
    others = MessageColumns("sources.t", "json", beside.get("key", {}), {})
    schema = Schema((*VALUE.fields, *others.beside(VALUE.fields)))
    own = [name for name in columns if name in VALUE.names]
    decoder = MessageDecoder(
        kind.decoder(VALUE, own, Layout()),
        kind.splittable,
        asked(schema, columns),
        others.readers("topic", 5, columns),
        skip,
        skipped.append,
    )
    return decoder, skipped


def decode(
    decoder: MessageDecoder, messages: KafkaMessages, max_rows: int = 1 << 20
) -> tuple[list[tuple[object, ...]], list[tuple[int, str]], int]:
    """Rows, errors (offset and code) and the number of records of a block."""
    rows, errors, records, start = [], [], 0, 0
    while start < len(messages):
        decoded = decoder.decode_messages(messages, start, max_rows)
        assert decoded.batch.num_rows == len(decoded.starts) == len(decoded.ends) <= max_rows
        assert decoded.records == decoded.batch.num_rows + len(decoded.errors)
        assert [error.start for error in decoded.errors] == sorted(error.start for error in decoded.errors)
        rows += [tuple(row.values()) for row in decoded.batch.to_pylist()]
        errors += [(messages.position(error.start), error.code) for error in decoded.errors]
        records += decoded.records
        assert decoded.next > start
        start = decoded.next
    return rows, errors, records


def alone(format: str, values: Sequence[bytes | None]) -> tuple[list[object], list[tuple[int, str]]]:
    """The twin: each message decoded in a block of its own."""
    rows: list[object] = []
    errors: list[tuple[int, str]] = []
    for number, value in enumerate(values):
        found, failed, _ = decode(decoder_of(format)[0], messages_of([value]))
        rows += found
        errors += [(FIRST_OFFSET + 3 * number, code) for _, code in failed]
    return rows, errors


PIECES = st.sampled_from(
    [b'"', b",", b"1", b"x", b"\r", b"{", b"}", b":", b'"id"', b" ", b"\\", b"null", b"\xff"]
)
VALUES = st.lists(
    st.one_of(
        st.none(),
        st.sampled_from([b"", b"  ", b"7,seven", b'7,"sev""en"', b'{"id":7,"name":"seven"}']),
        st.lists(PIECES, max_size=12).map(b"".join),
    ),
    max_size=150,
)


@settings(max_examples=150, deadline=None)
@given(values=VALUES, max_rows=st.sampled_from([1, 2, 7, 1 << 20]))
@pytest.mark.parametrize("format", ["ndjson", "csv"])
def test_no_message_changes_what_another_is(format: str, values: list[bytes | None], max_rows: int) -> None:
    messages = messages_of(values)
    rows, errors, records = decode(decoder_of(format)[0], messages, max_rows)
    assert (rows, errors) == alone(format, values)
    assert records >= len(values)


def test_a_block_of_open_quotes_is_decoded_in_time_that_grows_with_it() -> None:
    class Counting(MessageDecoder):
        calls = 0

        def _decode_apart(self, *arguments: object) -> object:  # type: ignore[override]
            Counting.calls += 1
            return super()._decode_apart(*arguments)  # type: ignore[arg-type]

    kind = open_format("csv", {}, "sources.t")
    values = kind.decoder(VALUE, VALUE.names, Layout())
    decoder = Counting(values, False, VALUE, {}, False, lambda count: None)
    messages = messages_of([b'1,"'] * 500)
    assert [code for _, code in decode(decoder, messages)[1]] == ["csv.quote"] * 500
    assert Counting.calls < 1100


def test_records_on_several_lines_of_a_message_have_its_offset() -> None:
    decoder, _ = decoder_of("csv", ("id", "_offset"))
    rows, errors, records = decode(decoder, messages_of([b"1,a\n2,b", b"3,c"]))
    assert (rows, errors, records) == ([(1, 100), (2, 100), (3, 103)], [], 3)


@pytest.mark.parametrize("max_rows", [1, 2, 100])
def test_skipped_tombstones_are_told_and_are_no_records(max_rows: int) -> None:
    decoder, skipped = decoder_of("ndjson", ("id", "_offset"), skip=True)
    values = [None, b'{"id": 1}', None, None, b"", b'{"id": 2}', None]
    rows, errors, records = decode(decoder, messages_of(values), max_rows)
    assert rows == [(1, 103), (2, 115)]
    assert errors == [(112, "kafka.empty_value")]
    assert records == 3
    assert sum(skipped) == 4


def test_columns_of_keys_follow_their_rows() -> None:
    decoder, _ = decoder_of("ndjson", ("day", "id", "_key", "_partition"), key={"day": "BIGINT"})
    values = [b'{"id": 1}', b"{", b'{"id": 3}', b'{"id": 4}', b'{"id": 5}']
    keys = [b'{"day": 10}', b'{"day": 20}', None, b'{"day": "x"}', b'{"day": 50}']
    rows, errors, records = decode(decoder, messages_of(values, keys))
    assert rows == [(10, 1, '{"day": 10}', 5), (None, 3, None, 5), (50, 5, '{"day": 50}', 5)]
    assert errors == [(103, "json.syntax"), (109, "kafka.key")]
    assert records == 5


def test_a_timestamp_may_be_missing_and_must_fit() -> None:
    decoder, _ = decoder_of("ndjson", ("_timestamp",))
    times = [-1, 0, -5, (1 << 63) - 1, -(1 << 63)]
    rows, errors, _ = decode(decoder, messages_of([b"{}"] * 5, timestamps=times))
    assert [value and value.isoformat() for (value,) in rows] == [  # type: ignore[attr-defined]
        None,
        "1970-01-01T00:00:00",
        "1969-12-31T23:59:59.995000",
    ]
    assert errors == [(109, "overflow"), (112, "overflow")]


def test_values_alone_have_null_where_a_message_would_tell() -> None:
    decoder, _ = decoder_of("ndjson", ("_offset", "id", "_key"))
    decoded = decoder.decode(memoryview(b'{"id": 1}\n\n{"id": 2}\n'), 0, 10)
    assert decoded.batch.to_pylist() == [
        {"_offset": None, "id": 1, "_key": None},
        {"_offset": None, "id": 2, "_key": None},
    ]


def test_a_count_of_messages_needs_no_column() -> None:
    decoder, _ = decoder_of("ndjson", ())
    decoded = decoder.decode_messages(messages_of([b"{}", b"{}"]), 0, 10)
    assert (decoded.batch.num_rows, decoded.batch.num_columns) == (2, 0)


def test_a_span_of_messages_is_like_a_block_of_them() -> None:
    values = [b'{"id": %d}' % number for number in range(6)]
    whole = messages_of(values, keys=[b"%d" % number for number in range(6)])
    part = whole.span(2, 5)
    decoder, _ = decoder_of("ndjson", ("id", "_offset", "_key"))
    assert decode(decoder, part)[0] == [(2, 106, "2"), (3, 109, "3"), (4, 112, "4")]
    assert decode(decoder, whole.until(107))[0] == [(0, 100, "0"), (1, 103, "1"), (2, 106, "2")]
    assert whole.until(1000) is whole
    assert whole.until(5).count == 0 and len(whole.until(5)) == 0


def test_the_bytes_of_a_sliced_array_are_those_of_its_values() -> None:
    array = pa.array([b"ab", None, b"", b"cde", b"f"], type=pa.binary())
    data, starts = bytes_of(array.slice(1, 3))
    assert (bytes(data), starts.tolist()) == (b"cde", [0, 0, 0, 3])
    data, starts = bytes_of(pa.array([], type=pa.binary()))
    assert (bytes(data), starts.tolist()) == (b"", [0])


@pytest.mark.parametrize(
    ("key_format", "key_columns", "headers", "said"),
    [
        ("text", {}, {}, "sources.t.key.format: unknown format of keys 'text'; expected one of"),
        ("raw", {"a": "VARCHAR"}, {}, "sources.t.key.columns: raw keys have no columns"),
        ("string", {"a": "VARCHAR", "b": "BIGINT"}, {}, "sources.t.key.columns: a key that is text is one"),
        ("json", {"a": "VARCHA"}, {}, "sources.t.key.columns.a: unknown type 'VARCHA'"),
        (
            "json",
            {"ID": "BIGINT"},
            {},
            "sources.t.key.columns.ID: column 'ID' stands twice in schema and key",
        ),
        (
            "json",
            {"a": "BIGINT"},
            {"A": "VARCHAR"},
            "sources.t.header_columns.A: column 'A' stands twice in key",
        ),
        (
            "json",
            {"a": "BIGINT", "A": "BIGINT"},
            {},
            "sources.t.key.columns.A: column 'A' stands twice in key",
        ),
        ("json", {"_key": "VARCHAR"}, {}, "sources.t.key.columns._key: column '_key' is given with every"),
    ],
)
def test_a_wrong_declaration_is_named(
    key_format: str, key_columns: dict[str, str], headers: dict[str, str], said: str
) -> None:
    with pytest.raises(VelostreamError) as caught:
        MessageColumns("sources.t", key_format, key_columns, headers).beside(VALUE.fields)
    assert caught.value.render().startswith(said)
