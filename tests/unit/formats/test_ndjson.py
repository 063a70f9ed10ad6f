"""NDJSON by example: what is read, what is refused with which words, and where a stream is cut."""

from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from velostream.errors import ConfigError, FormatError
from velostream.formats.base import Decoded, formats
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


def decode(data: str | bytes, *fields: Field, timezone: str = "UTC", **options: object) -> Decoded:
    """All records of the data, all columns asked for."""
    format = NDJSON(NDJSON.Options(**options))
    schema = Schema(fields, timezone)
    data = data.encode() if isinstance(data, str) else data
    decoded = format.decoder(schema, schema.names, format.layout(b"")).decode(memoryview(data), 0, 1 << 20)
    assert decoded.next == len(data)
    assert decoded.records == decoded.batch.num_rows + len(decoded.errors)
    return decoded


def value_of(text: str, type: pa.DataType, format: str | None = None, timezone: str = "UTC") -> object:
    """The column of that type for one JSON text; the error when it is refused."""
    decoded = decode(f'{{"v": {text}}}', Field("v", type, format), timezone=timezone)
    if decoded.errors:
        return decoded.errors[0].code
    return decoded.batch.to_pylist()[0]["v"]


def test_columns_come_in_the_asked_order_and_missing_keys_are_null() -> None:
    format = NDJSON(NDJSON.Options())
    schema = Schema((Field("a", BIGINT), Field("b", VARCHAR), Field("c", DOUBLE)))
    data = b'{"a":1,"b":"x","c":0.5}\n{"c":2}\n\n \t\r\n{"b":"y","a":null}'
    decoded = format.decoder(schema, ["c", "a"], format.layout(b"")).decode(memoryview(data), 0, 10)
    assert decoded.batch.schema == pa.schema([("c", DOUBLE), ("a", BIGINT)])
    assert decoded.batch.to_pylist() == [{"c": 0.5, "a": 1}, {"c": 2.0, "a": None}, {"c": None, "a": None}]
    assert [data[a:b] for a, b in zip(decoded.starts, decoded.ends, strict=True)] == [
        b'{"a":1,"b":"x","c":0.5}',
        b'{"c":2}',
        b'{"b":"y","a":null}',
    ]
    assert decoded.records == 3


def test_a_batch_without_columns_has_its_rows() -> None:
    decoded = decode('{"a":1}\n{}\n{"b":[1,{"c":null}]}\n')
    assert (decoded.batch.num_columns, decoded.batch.num_rows) == (0, 3)


def test_columns_without_nulls_have_no_validity_even_after_a_failed_record() -> None:
    decoded = decode(
        '{"a":1,"b":"x"}\n{"b":null,"a":}\n{"a":2,"b":"y"}', Field("a", BIGINT), Field("b", VARCHAR)
    )
    assert decoded.batch.to_pylist() == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert [column.buffers()[0] for column in decoded.batch.columns] == [None, None]


def test_more_rows_than_the_first_room_keep_values_texts_and_nulls() -> None:
    lines = [{"a": n, "b": f"text {n}", "c": n % 2 == 0} if n % 3 else {"a": n} for n in range(5000)]
    data = "".join(
        f'{{"a":{n["a"]}}}\n'
        if len(n) == 1
        else f'{{"a":{n["a"]},"b":"{n["b"]}","c":{str(n["c"]).lower()}}}\n'
        for n in lines
    )
    # Records shorter than the decoder expects, so that its columns grow.
    decoded = decode("{}\n" * 3000 + data, Field("a", BIGINT), Field("b", VARCHAR), Field("c", BOOLEAN))
    empty = {"a": None, "b": None, "c": None}
    assert decoded.batch.to_pylist() == [empty] * 3000 + [empty | line for line in lines]


def test_keys_in_another_order_missing_new_and_escaped_are_found() -> None:
    data = """\
{"a":1,"b":2,"c":3}
{"a":4,"c":6}
{"c":9,"b":8,"a":7}
{"a":10,"new":{"a":99},"b":11,"c":12}
{"\\u0061":13,"b":14,"c":15}
{"a" : 16 , "b" :17, "c": 18}
{"a":19,"ab":0,"b":20,"bc":0,"c":21}"""
    decoded = decode(data, Field("a", BIGINT), Field("b", BIGINT), Field("c", BIGINT))
    assert [tuple(row.values()) for row in decoded.batch.to_pylist()] == [
        (1, 2, 3),
        (4, None, 6),
        (7, 8, 9),
        (10, 11, 12),
        (13, 14, 15),
        (16, 17, 18),
        (19, 20, 21),
    ]


def test_more_keys_than_are_remembered_are_still_found() -> None:
    record = "{" + ",".join(f'"key{n}":{n}' for n in range(400)) + "}\n"
    fields = [Field(f"key{n}", BIGINT) for n in (0, 255, 256, 399)]
    decoded = decode(record * 3, *fields)
    assert decoded.batch.to_pylist() == [{"key0": 0, "key255": 255, "key256": 256, "key399": 399}] * 3


def test_records_unlike_the_one_before_are_read_as_if_alone() -> None:
    lines = [
        '{"t":"abc","i":12,"r":1.5,"n":1700000000000}',
        '{"t": "abc" ,"i": 12,"r":1.5,"n":1700000000000}',
        '{"t":"ab\\nc","i":-12,"r":-1.5e3,"n":"2023-11-14T22:13:20Z"}',
        '{"t":null,"i":null,"r":null,"n":null}',
        '{"t":17,"i":1.0,"r":12345678,"n":17}',
        '{"t":"é' + "x" * 40 + '","i":1234567890123456,"r":123456789012345678,"n":1.7e12}',
        '{"i":1234567890123456789,"n":99999999999999,"r":0.1234567890123}',
        '{ "r":1,"t":"' + "y" * 100 + '","i":1}',
        '{"t":"","i":0,"r":0.5,"n":0}\r',
        ',"i":12,"r":1.5,"n":1700000000000}',
        "}",
        '{"t":"abc","i":012,"r":1.5,"n":1700000000000}',
        '{"t":"abc","i":12,"r":1.,"n":1700000000000}',
        '{"t":"abc","i":12,"r":.5,"n":1700000000000}',
        '{"t":"abc","i":12,"r":01.5,"n":1700000000000}',
        '{"t":"abc","i":12,"r":1.5.5,"n":1700000000000}',
        '{"t":"abc","i":12x,"r":1.5,"n":1700000000000}',
        '{"t":"a\tc","i":12,"r":1.5,"n":1700000000000}',
        '{"t":"abc,"i":12,"r":1.5,"n":1700000000000}',
        '{"t":"abc","i":12,"r":1.5,"n":1700000000000}}',
        '{"t":"abc","i":12,"r":1.5,"n":1700000000000},',
        '{"t":"abc","i":12,"r":1.5,"n":1700000000000,}',
        '{"t":"abc","i":12 "r":1.5,"n":1700000000000}',
    ]
    fields = (Field("t", VARCHAR), Field("i", BIGINT), Field("r", DOUBLE), Field("n", TIMESTAMP))
    alone = {line: decode(line, *fields) for line in lines}
    assert [line for line in lines if alone[line].batch.num_rows] == lines[:9]
    for first in lines:
        for second in lines:
            # Twice, and in front of others, so that what is remembered of each meets the other.
            data = "\n".join([first, second, second, first, second, lines[0]]) + "\n" + "{}\n" * 40
            decoded = decode(data, *fields)
            expected = [
                row
                for line in [first, second, second, first, second, lines[0]]
                for row in alone[line].batch.to_pylist()
            ]
            assert decoded.batch.to_pylist()[:-40] == expected
            assert [error.code for error in decoded.errors] == [
                error.code for line in [first, second, second, first, second] for error in alone[line].errors
            ]


def test_text_outgrows_the_room_that_the_records_before_took() -> None:
    format = NDJSON(NDJSON.Options())
    schema = Schema((Field("v", VARCHAR),))
    decoder = format.decoder(schema, ["v"], format.layout(b""))
    for size in (1, 10_000, 3):
        texts = [chr(97 + n % 26) * (size + n) for n in range(100)]
        data = "".join(f'{{"v":"{text}"}}\n' for text in texts).encode()
        assert decoder.decode(memoryview(data), 0, 1000).batch.column(0).to_pylist() == texts


def test_columns_stay_as_they_are_while_the_decoder_reads_on() -> None:
    format = NDJSON(NDJSON.Options())
    schema = Schema((Field("v", BIGINT), Field("t", VARCHAR)))
    decoder = format.decoder(schema, schema.names, format.layout(b""))
    held = []
    for turn in range(6):
        data = b"".join(b'{"v":%d,"t":"%d"}\n' % (turn, turn) for _ in range(100))
        held.append(decoder.decode(memoryview(data), 0, 1000))
        if turn % 2:
            del held[0]
    assert [decoded.batch.to_pylist() for decoded in held] == [
        [{"v": turn, "t": str(turn)}] * 100 for turn in (3, 4, 5)
    ]


def test_of_duplicate_keys_the_last_counts_also_over_one_that_does_not_fit() -> None:
    data = """\
{"a":1,"a":2,"t":"long text","t":"short"}
{"a":"x","a":3,"t":"y","t":null}
{"a":4,"a":"x","t":"z"}
{"a":"x","a":null}"""
    decoded = decode(data, Field("a", BIGINT), Field("t", VARCHAR))
    assert decoded.batch.to_pylist() == [
        {"a": 2, "t": "short"},
        {"a": 3, "t": None},
        {"a": None, "t": None},
    ]
    assert [error.code for error in decoded.errors] == ["type.bigint"]


@pytest.mark.parametrize(
    ("text", "type", "expected"),
    [
        ("1.0", BIGINT, 1),
        ("1e3", BIGINT, 1000),
        ("12e-1", BIGINT, "type.bigint"),
        ("120e-1", BIGINT, 12),
        ("-0", BIGINT, 0),
        ("9223372036854775807", BIGINT, 2**63 - 1),
        ("-9223372036854775808", BIGINT, -(2**63)),
        ("9223372036854775808", BIGINT, "overflow"),
        ("-9223372036854775809", BIGINT, "overflow"),
        ("1" + "0" * 30 + "e-30", BIGINT, 1),
        ("0." + "0" * 30 + "1e31", BIGINT, 1),
        ("1e999999999999999999999", BIGINT, "overflow"),
        ("1e-999999999999999999999", BIGINT, "type.bigint"),
        ("0e999999999999999999999", BIGINT, 0),
        ("127", TINYINT, 127),
        ("128", TINYINT, "overflow"),
        ("-32768", SMALLINT, -32768),
        ("2147483648", INTEGER, "overflow"),
        ('"1"', BIGINT, "type.bigint"),
        ("true", BIGINT, "type.bigint"),
        ("[1]", BIGINT, "type.bigint"),
        ("1e400", DOUBLE, "overflow"),
        ("1e-400", DOUBLE, 0.0),
        ('"NaN"', DOUBLE, "type.double"),
        ("1.25", pa.decimal128(4, 2), Decimal("1.25")),
        ("1.2500", pa.decimal128(4, 2), Decimal("1.25")),
        ("1.255", pa.decimal128(4, 2), "type.decimal"),
        ("-99.99", pa.decimal128(4, 2), Decimal("-99.99")),
        ("100", pa.decimal128(4, 2), "overflow"),
        ("9" * 38, pa.decimal128(38, 0), Decimal("9" * 38)),
        ("1e38", pa.decimal128(38, 0), "overflow"),
        ("1e-1000000", pa.decimal128(38, 38), "type.decimal"),
        ("0e1000000", pa.decimal128(38, 38), Decimal("0E-38")),
        ("1", BOOLEAN, "type.boolean"),
        ("true", BOOLEAN, True),
        ("1.50", VARCHAR, "1.50"),
        ("true", VARCHAR, "true"),
        ('{"a" : [1, "\\u00e9"]}', VARCHAR, '{"a" : [1, "\\u00e9"]}'),
        ('"\\u00e9\\ud83d\\ude00\\n\\/\\u0000"', VARCHAR, "é😀\n/\0"),
        ("null", VARCHAR, None),
    ],
)
def test_a_value_is_exact_or_refused(text: str, type: pa.DataType, expected: object) -> None:
    assert value_of(text, type) == expected


@pytest.mark.parametrize(
    ("text", "format", "expected"),
    [
        ('"2013-01-01T05:00:00Z"', None, datetime(2013, 1, 1, 5)),
        ('"2013-01-01 05:00:00"', None, datetime(2013, 1, 1, 5)),
        ('"2013-01-01t05:00z"', None, datetime(2013, 1, 1, 5)),
        ('"2013-01-01"', None, datetime(2013, 1, 1)),
        ('"2013-01-01T05:00:00.1234569+02:00"', None, datetime(2013, 1, 1, 3, 0, 0, 123456)),
        ('"2013-01-01T05:00:00,5"', None, "type.timestamp"),
        ('"2013-01-01T05:00:00-0230"', None, datetime(2013, 1, 1, 7, 30)),
        ('"2013-01-01T05:00:00+02"', None, datetime(2013, 1, 1, 3)),
        ('"1969-12-31T23:59:59.9999999Z"', None, datetime(1969, 12, 31, 23, 59, 59, 999999)),
        ('"2013\\u002d01-01"', None, datetime(2013, 1, 1)),
        ('"2023-02-30T00:00:00Z"', None, "type.timestamp"),
        ('"2023-02-28T24:00:00Z"', None, "type.timestamp"),
        ('"2023-02-28T00:00:60Z"', None, "type.timestamp"),
        ('"2023-02-28T00:00:00+24:00"', None, "type.timestamp"),
        ('"2023-02-28T00:00:00+01:"', None, "type.timestamp"),
        ('"2023-02-28T00:00:00."', None, "type.timestamp"),
        ('"2023-02-28T"', None, "type.timestamp"),
        ('"0000-01-01"', None, "type.timestamp"),
        ('""', None, "type.timestamp"),
        ("1700000000000", None, datetime(2023, 11, 14, 22, 13, 20)),
        ("1700000000.5", "s", datetime(2023, 11, 14, 22, 13, 20, 500000)),
        ("-0.0000005", "s", datetime(1969, 12, 31, 23, 59, 59, 999999)),
        ("-1e-300", "s", datetime(1969, 12, 31, 23, 59, 59, 999999)),
        ("1700000000000001", "us", datetime(2023, 11, 14, 22, 13, 20, 1)),
        ("1700000000000001999", "ns", datetime(2023, 11, 14, 22, 13, 20, 1)),
        ("-1", "ns", datetime(1969, 12, 31, 23, 59, 59, 999999)),
        ("1e300", "s", "overflow"),
        ("9223372036854776", None, "overflow"),
        ("true", None, "type.timestamp"),
        ('"03/02/2013 04:05"', "%d/%m/%Y %H:%M", datetime(2013, 2, 3, 4, 5)),
        ('"20130203 04 +0100"', "%Y%m%d %H %z", datetime(2013, 2, 3, 3)),
        ("20130203", "%Y%m%d", datetime(2013, 2, 3)),
        ('"31/02/2013 04:05"', "%d/%m/%Y %H:%M", "type.timestamp"),
    ],
)
def test_a_time_is_read_to_the_microsecond_or_refused(
    text: str, format: str | None, expected: object
) -> None:
    assert value_of(text, TIMESTAMP, format) == expected


@pytest.mark.parametrize(
    ("text", "format", "expected"),
    [
        ('"2012-02-29"', None, date(2012, 2, 29)),
        ('"1900-02-29"', None, "type.date"),
        ('"2012-02-29T00:00:00"', None, "type.date"),
        ("-86400000", None, date(1969, 12, 31)),
        ("-86400001", None, date(1969, 12, 30)),
        ("-1", None, date(1969, 12, 31)),
        ("86400", "s", date(1970, 1, 2)),
        ('"29.02.2012"', "%d.%m.%Y", date(2012, 2, 29)),
    ],
)
def test_a_date_exists_or_is_refused(text: str, format: str | None, expected: object) -> None:
    assert value_of(text, DATE, format) == expected


def test_naive_times_are_in_the_zone_of_the_schema_and_others_are_not() -> None:
    data = '{"t":"2023-07-01T12:00:00"}\n{"t":"2023-07-01T12:00:00Z"}\n{"t":0}\n{}\n{"t":"2023-01-01 12:00"}'
    decoded = decode(data, Field("t", TIMESTAMP), timezone="Europe/Paris")
    assert [row["t"] for row in decoded.batch.to_pylist()] == [
        datetime(2023, 7, 1, 10),
        datetime(2023, 7, 1, 12),
        datetime(1970, 1, 1),
        None,
        datetime(2023, 1, 1, 11),
    ]


def test_a_row_that_strptime_refuses_leaves_the_batch_and_keeps_its_place_among_the_errors() -> None:
    data = '{"t":"x"}\n{"t":1}\n{"t":"01/02/2013"}\n{bad\n{"t":"y"}'
    decoded = decode(data, Field("t", DATE, "%d/%m/%Y"))
    assert decoded.batch.to_pylist() == [{"t": date(2013, 2, 1)}]
    assert [(error.start, error.code) for error in decoded.errors] == [
        (0, "type.date"),
        (10, "type.date"),
        (37, "json.syntax"),
        (42, "type.date"),
    ]
    assert (decoded.starts.tolist(), decoded.ends.tolist()) == ([18], [36])


@pytest.mark.parametrize(
    ("record", "code", "detail"),
    [
        ("[1]", "json.syntax", "expected an object in braces at byte 0 of the record: '[1]'"),
        ("{a:1}", "json.syntax", "expected a key in quotes at byte 1 of the record: 'a:1}'"),
        ('{"v" 1}', "json.syntax", "expected ':' behind a key at byte 5 of the record: '1}'"),
        ('{"v":1 2}', "json.syntax", "expected ',' or a closing bracket at byte 7 of the record: '2}'"),
        ('{"v":01}', "json.syntax", "malformed number at byte 5 of the record: '01}'"),
        ('{"w":1.}', "json.syntax", "malformed number at byte 5 of the record: '1.}'"),
        ('{"w":-}', "json.syntax", "malformed number at byte 5 of the record: '-}'"),
        ('{"w":1e+}', "json.syntax", "malformed number at byte 5 of the record: '1e+}'"),
        ('{"w":nul}', "json.syntax", "expected a value at byte 5 of the record: 'nul}'"),
        ('{"w":"\t"}', "json.syntax", "a control character in a string must be escaped at byte 6"),
        ('{"w":"\\x"}', "json.syntax", "unknown escape in a string at byte 8"),
        ('{"w":"\\ud800"}', "json.syntax", "a surrogate without its other half at byte 12"),
        ('{"v":1}}', "json.syntax", "expected a newline behind the object at byte 7 of the record: '}'"),
        (
            '{"v":1',
            "json.syntax",
            "expected ',' or a closing bracket at byte 6 of the record: the end of the record",
        ),
        ('{"v":"a', "json.syntax", "the record is incomplete at byte 7 of the record: the end of the record"),
        ('{"v":1,}', "json.syntax", "expected a key in quotes at byte 7 of the record: '}'"),
        ('{"w":[1,]}', "json.syntax", "expected a value at byte 8 of the record: ']}'"),
        ('{"w":[}}', "json.syntax", "expected a value at byte 6"),
        ('{"w":{"a":1]}', "json.syntax", "expected ',' or a closing bracket at byte 11"),
        (b'{"w":"\xff"}', "json.utf8", "text that is not UTF-8 at byte 6"),
        (b'{"w":"\xed\xa0\x80"}', "json.utf8", "text that is not UTF-8 at byte 6"),
        (b'{"w":"\xc0\x80"}', "json.utf8", "text that is not UTF-8 at byte 6"),
        (b'{"w":1}\0', "json.syntax", "expected a newline behind the object at byte 7"),
        ('{"v":"12"}', "type.bigint", "column 'v' takes BIGINT, not '\"12\"'"),
        ('{"v":1.5}', "type.bigint", "column 'v' takes BIGINT without a fraction, not '1.5'"),
        ('{"v":1e30}', "overflow", "column 'v' takes BIGINT within its range, not '1e30'"),
        ('{"v":"%s"}' % ("x" * 99), "type.bigint", "column 'v' takes BIGINT, not '\"" + "x" * 39 + "…'"),
    ],
)
def test_an_error_names_the_record_and_what_was_expected(record: str | bytes, code: str, detail: str) -> None:
    record = record.encode() if isinstance(record, str) else record
    decoded = decode(b'{"v":1}\r\n' + record + b'\r\n{"v":2}\n', Field("v", BIGINT))
    assert decoded.batch.to_pylist() == [{"v": 1}, {"v": 2}]
    (error,) = decoded.errors
    assert (error.code, error.start, error.end) == (code, 9, 9 + len(record))
    assert error.detail.startswith(detail)
    assert error.column == ("v" if "column" in detail else None)


def test_a_backslash_at_the_end_of_a_line_does_not_take_the_next_record_along() -> None:
    data = '{"v":"\\\n{"v":"2"}\n{"v":"\\u\n{"v":"\\ud800\\\n{"v":"3"}'
    decoded = decode(data, Field("v", VARCHAR))
    assert decoded.batch.to_pylist() == [{"v": "2"}, {"v": "3"}]
    assert [data[error.start : error.end] for error in decoded.errors] == [
        '{"v":"\\',
        '{"v":"\\u',
        '{"v":"\\ud800\\',
    ]


def test_nesting_is_bounded_by_max_depth_the_record_included() -> None:
    def nested(depth: int) -> str:
        return '{"v":' + "[" * (depth - 1) + "]" * (depth - 1) + "}"

    assert decode(nested(64), Field("v", VARCHAR)).batch.num_rows == 1
    assert [error.code for error in decode(nested(65), Field("v", VARCHAR)).errors] == ["json.depth"]
    assert decode(nested(100_000), max_depth=100_000).batch.num_rows == 1
    assert [error.code for error in decode(nested(2), max_depth=1).errors] == ["json.depth"]
    assert [error.code for error in decode("{" * 100_000).errors] == ["json.syntax"]


def test_a_record_longer_than_max_record_bytes_fails_whole_or_cut() -> None:
    short, exact, long = '{"v":1}', '{"v":"234567"}', '{"v":"2345678"}'
    data = f"{short}\n{exact}\n{long}\n{short}\n{exact[:-2]}89xyz"
    decoded = decode(data, Field("v", VARCHAR), max_record_bytes=str(len(exact)))
    assert [row["v"] for row in decoded.batch.to_pylist()] == ["1", "234567", "1"]
    assert [(error.start, error.end, error.code) for error in decoded.errors] == [
        (23, 38, "record.too_long"),
        (47, 64, "record.too_long"),
    ]
    # Readers give no more of such a record than one byte above the limit.
    cut = decode(data[: 47 + len(exact) + 1], Field("v", VARCHAR), max_record_bytes=str(len(exact)))
    assert cut.errors[1].code == "record.too_long"


def test_a_record_has_at_most_max_columns_keys_those_of_nested_objects_not_counted() -> None:
    three, four = '{"a":1,"b":{"x":1,"y":2},"c":3}', '{"a":1,"b":2,"c":3,"d":4}'
    data = f'{three}\n{four}\n{{"c":5}}\n{{"a":1,"c":3,"d":4}}\n{{"a":6,"a":7,"c":8,"c":9}}\n{three}'
    decoded = decode(data, Field("a", BIGINT), Field("c", BIGINT), max_columns=3)
    assert [tuple(row.values()) for row in decoded.batch.to_pylist()] == [(1, 3), (None, 5), (1, 3), (1, 3)]
    assert [(data[error.start : error.end], error.code) for error in decoded.errors] == [
        (four, "record.too_many_columns"),
        ('{"a":6,"a":7,"c":8,"c":9}', "record.too_many_columns"),
    ]
    wide = "{" + ",".join(f'"key{n}":{n}' for n in range(300)) + "}\n"
    assert decode(wide * 3, Field("key299", BIGINT), max_columns=300).batch.num_rows == 3
    assert decode(wide * 3, Field("key299", BIGINT), max_columns=299).batch.num_rows == 0


@pytest.mark.parametrize("length", [5, 20, 200])
def test_a_string_has_at_most_max_text_bytes_as_it_is_written(length: int) -> None:
    fits, long = "x" * length, "x" * (length + 1)
    escaped = "\\n" + "x" * (length - 2)
    good = [f'{{"v":"{fits}"}}', f'{{"v":"{escaped}"}}', f'{{"{fits}":["{fits}"],"v":null}}', '{"v":1}']
    bad = [
        f'{{"v":"{long}"}}',
        f'{{"{long}":1}}',
        f'{{"w":"{long}"}}',
        f'{{"w":[{{"{long}":1}}]}}',
        f'{{"v":"x{escaped}"}}',
    ]
    lines = [line for pair in zip(good, bad[:4], strict=True) for line in pair] + bad[4:] + good
    data = "\n".join(lines) + "\n" + "{}\n" * 200
    decoded = decode(data, Field("v", VARCHAR), max_text_bytes=str(length))
    values = [row["v"] for row in decoded.batch.to_pylist()][: 2 * len(good)]
    assert values == [fits, escaped.replace("\\n", "\n"), None, "1"] * 2
    assert [(data[error.start : error.end], error.code) for error in decoded.errors] == [
        (line, "json.text_too_long") for line in bad
    ]
    assert "longer than max_text_bytes at byte 5 of the record: '\"" in decoded.errors[0].detail


def test_slices_of_any_size_give_the_same_rows_and_end_at_the_block() -> None:
    format = NDJSON(NDJSON.Options())
    schema = Schema((Field("v", BIGINT),))
    data = b"".join(b'{"v":%d}\n' % n if n % 5 else b"\n{bad}\n" for n in range(50)) + b"\n \n"
    for max_rows in (1, 7, 1000):
        decoder = format.decoder(schema, ["v"], format.layout(b""))
        rows = []
        position = 0
        while position < len(data):
            decoded = decoder.decode(memoryview(data), position, max_rows)
            rows += decoded.batch.column(0).to_pylist()
            position = decoded.next
        assert rows == [n for n in range(50) if n % 5]


@pytest.mark.parametrize(
    "options",
    [
        {"max_depth": 0},
        {"max_record_bytes": "0"},
        {"max_record_bytes": "2GiB"},
        {"max_columns": 0},
        {"max_text_bytes": "0"},
    ],
)
def test_options_beyond_their_bounds_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        NDJSON(NDJSON.Options(**options))


def test_a_byte_order_mark_is_the_header() -> None:
    format = NDJSON(NDJSON.Options())
    assert format.layout(b"\xef\xbb\xbf{}").header_bytes == 3
    assert format.layout(b"{}").header_bytes == 0


def test_a_stream_is_cut_behind_its_last_newline() -> None:
    splitter = NDJSON(NDJSON.Options()).splitter()
    data = memoryview(b'{"a":1}\n{"b":2}\n{"c')
    assert splitter.cut(data, final=False) == 16
    assert splitter.cut(data, final=True) == 19
    assert splitter.cut(data[16:], final=False) == 0
    assert splitter.cut(memoryview(b""), final=False) == 0


def test_taking_records_does_not_count_lines_of_white_space() -> None:
    splitter = NDJSON(NDJSON.Options()).splitter()
    data = memoryview(b"\n \t\r\n{}\n\n{}\n{}\n\n{")
    assert splitter.take(data, 1) == 8
    assert splitter.take(data, 2) == 12
    assert splitter.take(data, 9) == 16
    assert splitter.take(data, 0) == 0


def test_the_schema_is_the_union_of_all_keys_with_the_narrowest_types() -> None:
    sample = b"""\xef\xbb\xbf\
{"i":1,"f":1,"b":true,"t":"2013-01-01T05:00:00Z","d":"2013-01-01","s":"x","n":null,"o":{"a":1}}
not json
{"i":null,"f":1.5,"b":false,"t":"2013-01-01","d":"2013-01-02","s":"2013-01-01","l":[1],"big":9223372036854775808}
{"i":2,"bad date":"2023-02-30","mixed":1}
{"mixed":true}
{"cut":"""
    schema = NDJSON(NDJSON.Options()).infer(sample, complete=False)
    assert {field.name: field.type for field in schema.fields} == {
        "i": BIGINT,
        "f": DOUBLE,
        "b": BOOLEAN,
        "t": TIMESTAMP,
        "d": DATE,
        "s": VARCHAR,
        "n": VARCHAR,
        "o": VARCHAR,
        "l": VARCHAR,
        "big": DOUBLE,
        "bad date": VARCHAR,
        "mixed": VARCHAR,
    }


@pytest.mark.parametrize("sample", [b"", b"\n\n", b"[1]\n", b'{"a":1', b"{}\n"])
def test_a_sample_without_an_object_with_keys_is_an_error(sample: bytes) -> None:
    with pytest.raises(FormatError, match="no JSON object with a key"):
        NDJSON(NDJSON.Options()).infer(sample, complete=False)
