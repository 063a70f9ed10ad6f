"""What a script reads, declares and creates."""

from __future__ import annotations

import pyarrow as pa
import pytest
import sqlglot.parser

from velostream.errors import BindError, ConfigError, Problems
from velostream.sql.clauses import stream_name
from velostream.sql.parser import parse
from velostream.sql.schemas import schema_of
from velostream.sql.statements import InputRef
from velostream.sql.typenames import parse_type, type_name


def test_inputs_are_what_no_earlier_query_creates() -> None:
    script = parse(
        "CREATE STREAM a AS SELECT x FROM src;\n"
        "CREATE TABLE b AS SELECT x FROM A;\n"
        "CREATE STREAM d (x INT);\n"
        "SELECT x FROM b; SELECT x FROM D; SELECT x FROM d; SELECT x FROM SRC; SELECT x FROM other"
    )
    assert [ref.name for ref in script.inputs] == ["src", "d", "other"]
    assert script.outputs == ("a", "b")
    assert list(script.declared) == ["d"]


def test_path_is_an_input_called_by_its_stem_or_alias() -> None:
    text = "SELECT a FROM 'data/flights.csv'; SELECT a FROM 'x y.json' AS xs"
    assert parse(text).inputs == (
        InputRef("flights", "data/flights.csv", (14, 32)),
        InputRef("xs", "x y.json", (48, 58)),
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("flights.csv", "flights"),
        ("a/b-2013.csv.gz", "b_2013"),
        ("trades/*.ndjson", "trades"),
        ("2013.csv", "_2013"),
        ("*", "input"),
        ("/", "input"),
        (".hidden.csv", "hidden"),
        ("s3://bucket/key.csv", "key"),
        ("день.csv", "день"),
    ],
)
def test_name_of_a_path(path: str, name: str) -> None:
    assert stream_name(path) == name


def test_declared_stream_has_a_schema_and_options() -> None:
    text = (
        'CREATE STREAM t (a INT, "B c" DECIMAL(10, 2), ts TIMESTAMP)'
        " WITH ('format' = 'csv', 'header' = TRUE)"
    )
    stream = parse(text).declared["t"]
    assert stream.schema.arrow() == pa.schema(
        [("a", pa.int32()), ("B c", pa.decimal128(10, 2)), ("ts", pa.timestamp("us"))]
    )
    assert stream.options == {"format": "csv", "header": "true"}
    assert text[slice(*stream.span)] == text


def test_same_path_twice_is_one_input() -> None:
    assert len(parse("SELECT a FROM 'a.csv'; SELECT b FROM 'a.csv'").inputs) == 1


TYPES = [
    ("TINYINT", pa.int8()),
    ("smallint", pa.int16()),
    ("INT", pa.int32()),
    ("INT4", pa.int32()),
    ("BIGINT", pa.int64()),
    ("INT8", pa.int64()),
    ("FLOAT", pa.float64()),
    ("real", pa.float64()),
    ("double  precision", pa.float64()),
    ("DECIMAL", pa.decimal128(18, 3)),
    ("NUMERIC(5)", pa.decimal128(5, 0)),
    ("decimal ( 38 , 38 )", pa.decimal128(38, 38)),
    ("STRING", pa.string()),
    ("TEXT", pa.string()),
    ("BOOL", pa.bool_()),
    ("DATETIME", pa.timestamp("us")),
    (" date ", pa.date32()),
]


@pytest.mark.parametrize(("text", "type"), TYPES)
def test_type_names(text: str, type: pa.DataType) -> None:
    assert parse_type(text) == type
    assert parse_type(type_name(type)) == type


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("BIGNIT", "unknown type 'BIGNIT'", "did you mean 'BIGINT'?"),
        ("strng", "unknown type 'strng'", "did you mean 'STRING'?"),
        ("VARCHAR(10)", "type VARCHAR takes no arguments", "write VARCHAR"),
        ("DECIMAL(39)", "DECIMAL has 1 to 38 digits, not 39", None),
        ("DECIMAL(0)", "DECIMAL has 1 to 38 digits, not 0", None),
        ("DECIMAL(2, 3)", "DECIMAL(2, 3) has more digits behind the point than it has", None),
        ("a-b", "'a-b' is not the name of a type", "write it as in DECIMAL(10, 2)"),
        ("", "'' is not the name of a type", "write it as in DECIMAL(10, 2)"),
    ],
)
def test_text_that_is_no_type(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(BindError) as caught:
        parse_type(text)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_schema_of_columns_with_formats() -> None:
    schema = schema_of({"ts": "TIMESTAMP", "Price": "DOUBLE"}, {"ts": "ms"}, "Europe/Paris")
    assert schema.names == ("ts", "Price")
    assert (schema.field("ts").format, schema.field("Price").format) == ("ms", None)
    assert schema.timezone == "Europe/Paris"


def test_schema_of_reports_every_key_at_once() -> None:
    with pytest.raises(Problems) as caught:
        schema_of({"a": "INTT", "b": "INT", "B": "INT"}, {"b": "ms", "c": "s"}, "Mars/Base")
    assert [(str(error.where), error.message, error.hint) for error in caught.value.errors] == [
        ("schema.a", "unknown type 'INTT'", "did you mean 'INT'?"),
        ("schema.B", "column 'B' differs from 'b' in case only", "rename one of them"),
        (
            "timestamp_formats.b",
            "column 'b' is INTEGER, which takes no format",
            "only TIMESTAMP and DATE columns do",
        ),
        ("timestamp_formats.c", "unknown column 'c'", "expected one of 'B', 'a', 'b'"),
        ("timezone", "unknown time zone 'Mars/Base'", "expected an IANA name such as 'Europe/Paris'"),
    ]


@pytest.mark.parametrize("timezone", ["", "/etc/passwd", "../UTC", "UTC\0"])
def test_time_zone_that_is_no_name(timezone: str) -> None:
    with pytest.raises(ConfigError, match="unknown time zone"):
        schema_of({"a": "INT"}, {}, timezone)


def test_schema_needs_a_column() -> None:
    with pytest.raises(ConfigError, match="a schema needs a column"):
        schema_of({}, {})


def test_compiled_sqlglot_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sqlglot.parser, "__file__", "/site-packages/sqlglot/parser.cpython-311-x86_64-linux-gnu.so"
    )
    with pytest.raises(ConfigError) as caught:
        parse("SELECT a FROM t")
    assert caught.value.message == "sqlglot's compiled modules are installed, and no dialect can extend them"
    assert caught.value.hint == "run 'pip uninstall sqlglotc'; sqlglot itself stays"
