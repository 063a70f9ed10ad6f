"""CSV by example: headers, quotes, nulls, what is refused with which words, and where a stream is cut."""

from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from velostream.errors import ConfigError, FormatError, Problems
from velostream.formats.base import Decoded, Layout, formats
from velostream.sql.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    TIMESTAMP,
    VARCHAR,
    Field,
    Schema,
)

CSV = formats["csv"]


def decode(data: str | bytes, *fields: Field, timezone: str = "UTC", **options: object) -> Decoded:
    """All records of a whole stream, all columns asked for; positions count from the first record."""
    format = CSV(CSV.Options(**options))
    schema = Schema(fields, timezone)
    data = data.encode() if isinstance(data, str) else data
    layout = format.layout(data)
    body = memoryview(data)[layout.header_bytes :]
    decoded = format.decoder(schema, schema.names, layout).decode(body, 0, 1 << 20)
    assert decoded.next == len(body)
    assert decoded.records == decoded.batch.num_rows + len(decoded.errors)
    return decoded


def rows(decoded: Decoded) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in decoded.batch.to_pylist()]


def test_columns_are_found_by_the_header_in_any_order() -> None:
    decoded = decode("\ufeffa,b,c\r\n1,x,2.5\r\n2,y,3\r\n", Field("c", DOUBLE), Field("a", BIGINT))
    assert rows(decoded) == [(2.5, 1), (3.0, 2)]
    assert decoded.starts.tolist() == [0, 9]
    assert decoded.ends.tolist() == [7, 14]


def test_without_a_header_columns_are_the_schemas() -> None:
    fields = (Field("a", BIGINT), Field("b", VARCHAR))
    assert rows(decode("1,x\n2,y", *fields, header=False)) == [(1, "x"), (2, "y")]
    assert CSV(CSV.Options(header=False)).layout(b"\xef\xbb\xbf1,2\n") == Layout(3, None)


def test_quotes_hold_delimiters_newlines_and_themselves() -> None:
    data = 'a,b\n"x,y","1\r\n2"\n"say ""hi""",""""\nit"s,5" tall\n'
    decoded = decode(data, Field("a", VARCHAR), Field("b", VARCHAR))
    assert rows(decoded) == [("x,y", "1\r\n2"), ('say "hi"', '"'), ('it"s', '5" tall')]


def test_other_delimiters_and_quotes() -> None:
    data = "a\tb\n'x\ty'\t'it''s'\n"
    fields = (Field("a", VARCHAR), Field("b", VARCHAR))
    assert rows(decode(data, *fields, delimiter="\t", quote="'")) == [("x\ty", "it's")]
    assert rows(decode('a\tb\n"x\ty"\n', *fields, delimiter="\t", quote="")) == [('"x', 'y"')]


def test_only_unquoted_fields_are_null() -> None:
    data = 'a,b\n,\nNA,NA\n"","NA"\nNAN, \n'
    decoded = decode(data, Field("a", VARCHAR), Field("b", VARCHAR), nulls=["NA", ""])
    assert rows(decoded) == [(None, None), (None, None), ("", "NA"), ("NAN", " ")]
    assert rows(decode("a,b\n,NA\n", Field("a", VARCHAR), Field("b", VARCHAR), nulls=[])) == [("", "NA")]
    assert rows(decode("a,b\n,NA\n", Field("a", VARCHAR), Field("b", VARCHAR))) == [(None, "NA")]


def test_empty_lines_are_no_records_unless_there_is_one_column() -> None:
    assert rows(decode("a,b\n\n1,2\r\n\r\n\n", Field("a", BIGINT))) == [(1,)]
    assert rows(decode("a\n1\n\n\r\n2", Field("a", BIGINT))) == [(1,), (None,), (None,), (2,)]


@pytest.mark.parametrize(
    ("text", "type", "expected"),
    [
        ("+007", BIGINT, 7),
        ("1e3", BIGINT, 1000),
        ('"12"', BIGINT, 12),
        ('"1""2"', BIGINT, "type.bigint"),
        (" 1", BIGINT, "type.bigint"),
        ("0x1", BIGINT, "type.bigint"),
        ("1.5", BIGINT, "type.bigint"),
        ("9223372036854775808", BIGINT, "overflow"),
        (".5", DOUBLE, 0.5),
        ("5.", DOUBLE, 5.0),
        (".", DOUBLE, "type.double"),
        ("nan", DOUBLE, "type.double"),
        ("inf", DOUBLE, "type.double"),
        ("-1e-7", DOUBLE, -1e-7),
        ("1e309", DOUBLE, "overflow"),
        ("-0.050", pa.decimal128(5, 2), Decimal("-0.05")),
        ("0.055", pa.decimal128(5, 2), "type.decimal"),
        ("1000", pa.decimal128(5, 2), "overflow"),
        ("T", BOOLEAN, True),
        ("False", BOOLEAN, False),
        ("0", BOOLEAN, False),
        ("2", BOOLEAN, "type.boolean"),
        ("2013-01-01T05:00:00Z", TIMESTAMP, datetime(2013, 1, 1, 5)),
        ('"2013-01-01 05:00:00.5"', TIMESTAMP, datetime(2013, 1, 1, 5, 0, 0, 500000)),
        ("1700000000000", TIMESTAMP, datetime(2023, 11, 14, 22, 13, 20)),
        ("2023-02-30", TIMESTAMP, "type.timestamp"),
        ("noon", TIMESTAMP, "type.timestamp"),
        ("2023-02-28", DATE, date(2023, 2, 28)),
        ("2023-02-29", DATE, "type.date"),
        (b"\xc3", VARCHAR, "csv.utf8"),
        (b'"\xc3"""', VARCHAR, "csv.utf8"),
        ("é\0", VARCHAR, "é\0"),
    ],
)
def test_a_text_is_exact_or_refused(text: str | bytes, type: pa.DataType, expected: object) -> None:
    text = text.encode() if isinstance(text, str) else text
    decoded = decode(b"v,w\n" + text + b",1\n", Field("v", type))
    assert (decoded.errors[0].code if decoded.errors else rows(decoded)[0][0]) == expected


def test_formats_and_zones_are_those_of_the_schema() -> None:
    data = "a,b\n03/02/2013,2013-07-01 12:00\n"
    decoded = decode(data, Field("a", DATE, "%d/%m/%Y"), Field("b", TIMESTAMP), timezone="America/New_York")
    assert rows(decoded) == [(date(2013, 2, 3), datetime(2013, 7, 1, 16))]
    assert rows(decode("a,b\n1.5,\n", Field("a", TIMESTAMP, "s"))) == [
        (datetime(1970, 1, 1, 0, 0, 1, 500000),)
    ]


@pytest.mark.parametrize(
    ("record", "code", "detail"),
    [
        ("1", "csv.fields", "the record has 1 fields, expected 2"),
        ("1,2,3", "csv.fields", "the record has 3 fields, expected 2"),
        (
            '"1"2,3',
            "csv.quote",
            "expected a delimiter or a newline behind a closing quote at byte 3 of the record: '2,3'",
        ),
        ("x,2", "type.bigint", "column 'a' takes BIGINT, not 'x'"),
        ('"1""2",3', "type.bigint", "column 'a' takes BIGINT, not '1\"\"2'"),
    ],
)
def test_an_error_names_the_record_and_what_was_expected(record: str, code: str, detail: str) -> None:
    decoded = decode(f"a,b\r\n1,2\r\n{record}\r\n3,4\r\n", Field("a", BIGINT))
    assert rows(decoded) == [(1,), (3,)]
    (error,) = decoded.errors
    assert (error.code, error.start, error.end) == (code, 5, 5 + len(record))
    assert error.detail == detail


def test_a_quote_that_does_not_close_takes_the_rest() -> None:
    decoded = decode('a,b\n1,2\n3,"x\n4,5\n', Field("a", BIGINT))
    assert rows(decoded) == [(1,)]
    assert [(error.code, error.start, error.end) for error in decoded.errors] == [("csv.quote", 4, 13)]


def test_a_record_longer_than_max_record_bytes_fails_up_to_its_own_end() -> None:
    data = 'a,b\n1,2\n"34\n56789,",2\n3,4\n'
    decoded = decode(data, Field("b", BIGINT), max_record_bytes="8")
    assert rows(decoded) == [(2,), (4,)]
    assert [(error.code, error.start, error.end) for error in decoded.errors] == [("record.too_long", 4, 17)]


def test_a_record_of_max_record_bytes_may_end_with_a_carriage_return_and_a_newline() -> None:
    decoded = decode(b"12345678\r\n123456789\r\n", Field("v", VARCHAR), header=False, max_record_bytes="8B")
    assert rows(decoded) == [("12345678",)]
    assert [(error.code, error.start, error.end) for error in decoded.errors] == [("record.too_long", 10, 19)]


def test_a_record_of_more_fields_than_max_columns_fails() -> None:
    decoded = decode("a,b\n1,2\n1,2,3\n1,2,3,4\n3,4\n", Field("a", BIGINT), max_columns=3)
    assert rows(decoded) == [(1,), (3,)]
    assert [(error.code, error.start, error.end) for error in decoded.errors] == [
        ("csv.fields", 4, 9),
        ("record.too_many_columns", 10, 17),
    ]


def test_a_header_or_schema_of_more_columns_than_max_columns_is_refused() -> None:
    format = CSV(CSV.Options(max_columns=2))
    assert format.layout(b"a,b\n").names == ("a", "b")
    with pytest.raises(FormatError, match="the header has 3 columns, above max_columns: 2"):
        format.layout(b"a,b,c\n")
    fields = tuple(Field(name, BIGINT) for name in "abc")
    format = CSV(CSV.Options(max_columns=2, header=False))
    with pytest.raises(FormatError, match="the schema has 3 columns, above max_columns: 2"):
        format.decoder(Schema(fields), ["a"], Layout(0, None))


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_field_written_in_more_bytes_than_max_text_bytes_fails_asked_for_or_not(newline: str) -> None:
    lines = ["a,b", "1,12345", '2,"345"', "3,123456", '4,"3456"', '123456,"5"', "6,7"]
    decoded = decode(newline.join(lines) + newline, Field("b", VARCHAR), max_text_bytes="5")
    assert rows(decoded) == [("12345",), ("345",), ("7",)]
    assert [error.code for error in decoded.errors] == ["csv.text_too_long"] * 3
    assert decoded.errors[0].detail == "text longer than max_text_bytes at byte 2 of the record: '123456'"


@pytest.mark.parametrize("bad", [b"x", b'"1"2', b"1,2", b'5" tall'])
def test_bad_records_anywhere_in_a_block_leave_the_others_as_they_are(bad: bytes) -> None:
    # More than a chunk and a run, with misfits alone, in a row, first and last.
    wrong = {0, 1, 7, 1023, 1024, 1025, 2999, *range(1500, 1540)}
    lines = [
        b"%s,,b" % bad if n in wrong else b"%d,t%d,%s" % (n, n, b"" if n % 3 else b"T") for n in range(3000)
    ]
    fields = (Field("n", BIGINT), Field("s", VARCHAR), Field("b", BOOLEAN))
    decoded = decode(b"n,s,b\n" + b"\r\n".join(lines) + b"\r\n", *fields)
    good = [n for n in range(3000) if n not in wrong]
    assert rows(decoded) == [(n, f"t{n}", None if n % 3 else True) for n in good]
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 2)
    assert decoded.starts.tolist() == [starts[n] for n in good]
    assert decoded.ends.tolist() == [starts[n] + len(lines[n]) for n in good]
    assert [error.start for error in decoded.errors] == [starts[n] for n in sorted(wrong)]
    assert [error.end for error in decoded.errors] == [starts[n] + len(lines[n]) for n in sorted(wrong)]


def test_records_longer_than_a_chunk_are_read_whole() -> None:
    long = "é,\n" * 9000
    decoded = decode(f'a,b\n1,"{long}"\n2,{"x" * 40000}\n3,\n', Field("a", BIGINT), Field("b", VARCHAR))
    assert rows(decoded) == [(1, long), (2, "x" * 40000), (3, None)]


def test_numbers_that_are_null_are_null_before_they_are_numbers() -> None:
    fields = (Field("i", BIGINT), Field("f", DOUBLE), Field("t", TIMESTAMP))
    data = 'i,f,t\n-999,-9.5,0\n"-999","-9.5","0"\n1,2,3\n'
    decoded = decode(data, *fields, nulls=["-999", "-9.5", "0"])
    epoch = datetime(1970, 1, 1)
    assert rows(decoded) == [
        (None, None, None),
        (-999, -9.5, epoch),
        (1, 2.0, datetime(1970, 1, 1, 0, 0, 0, 3000)),
    ]


def test_a_repeated_day_is_no_more_trusted_than_the_first() -> None:
    lines = ["2013-02-28T23:59:59Z", "2013-02-28 00:00:00", "2013-02-29T00:00:00Z", "2013-02-28T24:00:00Z"]
    lines += ["\0" * 10 + "T00:00:00Z", "1970-01-01T00:00:01Z", "2013-02-28T00:00:0/Z"]
    decoded = decode("t\n" + "\n".join(lines) + "\n", Field("t", TIMESTAMP))
    assert rows(decoded) == [
        (datetime(2013, 2, 28, 23, 59, 59),),
        (datetime(2013, 2, 28),),
        (datetime(1970, 1, 1, 0, 0, 1),),
    ]
    assert [error.code for error in decoded.errors] == ["type.timestamp"] * 4


def test_a_header_must_have_every_declared_column_once() -> None:
    format = CSV(CSV.Options())
    schema = Schema((Field("price", DOUBLE), Field("a", BIGINT)))
    with pytest.raises(Problems) as caught:
        format.decoder(schema, ["a"], format.layout(b"prices,a,b,a\n"))
    assert str(caught.value) == (
        "the header has no column 'price'; did you mean 'prices'?\n"
        "the header has column 'a' 2 times; rename one"
    )


@pytest.mark.parametrize("head", [b"", b"\n\r\n", b'"a,b\n', b"\xff,a\n"])
def test_a_head_without_a_header_is_an_error(head: bytes) -> None:
    with pytest.raises(FormatError):
        CSV(CSV.Options()).layout(head)


def test_a_header_alone_needs_no_newline() -> None:
    assert CSV(CSV.Options()).layout(b'a,"b ""c"""') == Layout(11, ("a", 'b "c"'))


def test_a_stream_is_cut_behind_the_last_newline_outside_of_quotes() -> None:
    splitter = CSV(CSV.Options()).splitter()
    data = memoryview(b'1,"a\n""b\n"\n2,c"\n3,"x\ny')
    assert splitter.cut(data, final=False) == 16
    assert splitter.cut(data[:10], final=False) == 0
    assert splitter.cut(data, final=True) == len(data)
    assert [splitter.take(data, n) for n in (1, 2, 3)] == [11, 16, 16]


def test_the_schema_is_inferred_from_texts_that_are_not_null() -> None:
    sample = (
        b"i,f,b,t,d,s,n,,z\n"
        b"1,1,true,2013-01-01T05:00:00Z,2013-01-01,x,NA,1,007\n"
        b"NA,.5,False,2013-01-01,2013-01-02,2013-01-01,NA,2,8\n"
        b"short\n"
        b"9223372036854775808,1,"
    )
    schema = CSV(CSV.Options(nulls=["NA"])).infer(sample, complete=False)
    assert [(field.name, field.type) for field in schema.fields] == [
        ("i", BIGINT),
        ("f", DOUBLE),
        ("b", BOOLEAN),
        ("t", TIMESTAMP),
        ("d", DATE),
        ("s", VARCHAR),
        ("n", VARCHAR),
        ("z", BIGINT),
    ]
    assert CSV(CSV.Options(header=False)).infer(b"1,a\n", complete=True).names == ("column0", "column1")


@pytest.mark.parametrize(
    ("sample", "header", "words"),
    [(b"", True, "no header"), (b"", False, "no record"), (b"a,b,a\n1,2,3\n", True, "2 times")],
)
def test_nothing_to_infer_from_is_an_error(sample: bytes, header: bool, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        CSV(CSV.Options(header=header)).infer(sample, complete=True)


@pytest.mark.parametrize(
    "options",
    [
        {"delimiter": ""},
        {"delimiter": "1"},
        {"delimiter": "||"},
        {"delimiter": "é"},
        {"quote": "\n"},
        {"quote": ","},
        {"max_columns": 0},
        {"max_text_bytes": "0"},
        {"max_text_bytes": "1GiB"},
    ],
)
def test_impossible_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        CSV(CSV.Options(**options))


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_what_the_encoder_writes_is_read_back(delimiter: str) -> None:
    fields = (Field("a", BIGINT), Field("b", VARCHAR), Field("c", TIMESTAMP), Field("d", pa.decimal128(9, 3)))
    table = [
        {"a": 1, "b": 'x,";\t\n', "c": datetime(1969, 12, 31, 23, 59, 59, 999999), "d": Decimal("-0.001")},
        {"a": None, "b": "", "c": None, "d": None},
        {"a": -(2**63), "b": None, "c": datetime(9999, 12, 31), "d": Decimal("123456.789")},
    ]
    schema = Schema(fields)
    format = CSV(CSV.Options(delimiter=delimiter))
    encoder = format.encoder(schema.arrow())
    data = bytes(encoder.header()) + bytes(encoder.encode(pa.RecordBatch.from_pylist(table, schema.arrow())))
    decoded = decode(data, *fields, delimiter=delimiter)
    assert decoded.batch.to_pylist() == table
