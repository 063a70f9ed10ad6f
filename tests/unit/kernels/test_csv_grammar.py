"""What the CSV decoder accepts, and why it refuses the rest: RFC 4180, rule by rule, and Python's `csv`.

Every record is read alone in a buffer of its size, behind others, and in front of others; the answers agree.
"""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.fuzz.csv_oracle import records_of, value_of
from tests.fuzz.draw import exact
from tests.fuzz.numeric import Misfit
from velostream.formats.base import formats
from velostream.kernels import CsvDecoder, Reason
from velostream.sql.types import BIGINT, DOUBLE, TIMESTAMP, VARCHAR, Field, Schema

TYPES = [VARCHAR, BIGINT, DOUBLE]
MODEL = b"m,0,0\n"
Answer = list[Any] | Reason


def answers(
    data: bytes,
    types: list[Any] = TYPES,
    delimiter: bytes = b",",
    quote: bytes = b'"',
    nulls: tuple[str, ...] = ("",),
) -> list[Answer]:
    """For each record of the data its row, or why it is refused."""
    kernel = CsvDecoder(
        list(types),
        [3] * len(types),
        False,
        list(range(len(types))),
        delimiter[0],
        quote[0] if quote else -1,
        list(nulls),
        1 << 24,
        100,
        1 << 24,
    )
    arrays, _, starts, _, failures, end, records = kernel.decode(exact(data), 0, 1 << 20)
    assert end == len(data)
    rows = zip(*(array.to_pylist() for array in arrays), strict=True)
    found: dict[int, Answer] = dict(zip(starts.tolist(), map(list, rows), strict=True))
    found |= {failure[0]: Reason(failure[2]) for failure in failures}
    assert len(found) == records
    return [found[start] for start in sorted(found)]


def read(record: bytes) -> Answer:
    """The answer for one record of three fields, which is the same wherever it stands."""
    alone = answers(record)
    behind = answers(MODEL * 3 + record)[3:]
    between = answers(MODEL * 2 + record + b"\n" + MODEL)[2:-1]
    windows = answers(MODEL + record + b"\r\n" + MODEL)[1:-1]
    assert alone == behind == between == windows, record
    assert len(alone) == 1, record
    return alone[0]


ROWS = [
    (b"a,1,0.5", ["a", 1, 0.5]),
    (b'"a",1,0.5', ["a", 1, 0.5]),
    (b'"a","1","0.5"', ["a", 1, 0.5]),
    (b",,", [None, None, None]),
    # A quoted empty field is the empty text.
    (b'"",,', ["", None, None]),
    # Fields are not trimmed (2.4: "spaces are considered part of a field").
    (b" a ,1,0.5", [" a ", 1, 0.5]),
    (b'" a ",1,0.5', [" a ", 1, 0.5]),
    # 2.6 and 2.7: delimiters, newlines and quotes inside of quotes.
    (b'"a,b",1,0.5', ["a,b", 1, 0.5]),
    (b'"a\nb",1,0.5', ["a\nb", 1, 0.5]),
    (b'"a\r\nb",1,0.5', ["a\r\nb", 1, 0.5]),
    (b'"a""b",1,0.5', ['a"b', 1, 0.5]),
    (b'"""",1,0.5', ['"', 1, 0.5]),
    (b'"""a""",1,0.5', ['"a"', 1, 0.5]),
    (b'",""\n"",",1,0.5', [',"\n",', 1, 0.5]),
    # Elsewhere a quote is a character like others.
    (b'a"b,1,0.5', ['a"b', 1, 0.5]),
    (b'a"",1,0.5', ['a""', 1, 0.5]),
    (b' "a",1,0.5', [' "a"', 1, 0.5]),
    (b"a\rb,1,0.5", ["a\rb", 1, 0.5]),
    (b"a\0b,1,0.5", ["a\0b", 1, 0.5]),
    ("é😀,1,0.5".encode(), ["é😀", 1, 0.5]),
    # Numbers as people write them.
    (b"x,+1,.5", ["x", 1, 0.5]),
    (b"x,007,5.", ["x", 7, 5.0]),
    (b"x,1e3,-1E-2", ["x", 1000, -0.01]),
    (b"x,1.0,0", ["x", 1, 0.0]),
]


@pytest.mark.parametrize(("record", "row"), ROWS)
def test_a_record_becomes_its_row(record: bytes, row: list[Any]) -> None:
    assert read(record) == row


REFUSED = [
    (b"a,1", Reason.FIELD_COUNT),
    (b"a,1,2,3", Reason.FIELD_COUNT),
    (b"a", Reason.FIELD_COUNT),
    (b",,,", Reason.FIELD_COUNT),
    (b'"a"b,1,0.5', Reason.TEXT_AFTER_QUOTE),
    (b'"a" ,1,0.5', Reason.TEXT_AFTER_QUOTE),
    (b'"a"\r,1,0.5', Reason.TEXT_AFTER_QUOTE),
    (b'""a"",1,0.5', Reason.TEXT_AFTER_QUOTE),
    (b'a,1,"0.5"x', Reason.TEXT_AFTER_QUOTE),
    (b"\xff,1,0.5", Reason.NOT_UTF8),
    (b'"\xc3",1,0.5', Reason.NOT_UTF8),
    (b"\xed\xa0\x80,1,0.5", Reason.NOT_UTF8),
    (b"a,one,0.5", Reason.WRONG_TYPE),
    (b"a, 1,0.5", Reason.WRONG_TYPE),
    (b"a,1 ,0.5", Reason.WRONG_TYPE),
    (b"a,1_0,0.5", Reason.WRONG_TYPE),
    (b"a,0x1,0.5", Reason.WRONG_TYPE),
    (b"a,-,0.5", Reason.WRONG_TYPE),
    (b"a,1,.", Reason.WRONG_TYPE),
    (b"a,1,1e", Reason.WRONG_TYPE),
    (b"a,1,nan", Reason.WRONG_TYPE),
    (b"a,1,inf", Reason.WRONG_TYPE),
    (b'a,"",0.5', Reason.WRONG_TYPE),
    (b"a,9223372036854775808,0.5", Reason.OVERFLOW),
    (b"a,1.5,0.5", Reason.FRACTION),
    (b"a,1,1e400", Reason.INFINITE),
]


@pytest.mark.parametrize(("record", "reason"), REFUSED)
def test_what_is_no_record_of_the_columns_is_refused_with_its_reason(record: bytes, reason: Reason) -> None:
    assert read(record) == reason


def test_a_quote_that_does_not_close_takes_what_follows() -> None:
    for record in (b'"', b'"a', b'"a,1,0.5', b'a,1,"', b'"a""', b'"a\n' + MODEL):
        assert answers(MODEL + record) == [["m", 0, 0.0], Reason.OPEN_QUOTE], record


def test_empty_lines_are_no_records_unless_there_is_one_column() -> None:
    assert answers(b"\n\r\na,1,0.5\n\n\r\n") == [["a", 1, 0.5]]
    assert answers(b'\na\r\n\r\n""\n', types=[VARCHAR]) == [[None], ["a"], [None], [""]]
    assert answers(b"\n", types=[VARCHAR], nulls=()) == [[""]]


def test_a_carriage_return_belongs_to_the_newline_behind_it_only() -> None:
    assert answers(b'a\r\nb\r\r\n"c"\r\nd\re', types=[VARCHAR]) == [["a"], ["b\r"], ["c"], ["d\re"]]


def test_nulls_are_unquoted_fields_of_their_text() -> None:
    data = b'NULL,1,0.5\n"NULL",1,0.5\nnull,1,0.5\nx,NULL,\\N\n'
    assert answers(data, nulls=("NULL", "\\N")) == [
        [None, 1, 0.5],
        ["NULL", 1, 0.5],
        ["null", 1, 0.5],
        ["x", None, None],
    ]


@pytest.mark.parametrize("delimiter", [b",", b";", b"\t", b"|", b" ", b":"])
@pytest.mark.parametrize("quote", [b'"', b"'", b"~", b""])
def test_any_delimiter_and_quote_have_the_same_grammar(delimiter: bytes, quote: bytes) -> None:
    data = b"a,1,0.5\n".replace(b",", delimiter)
    if quote:
        data += b'"a,""\n",1,0.5\n'.replace(b",", delimiter).replace(b'"', quote)
        text = 'a,"\n'.replace(",", delimiter.decode()).replace('"', quote.decode())
        assert answers(data, delimiter=delimiter, quote=quote) == [["a", 1, 0.5], [text, 1, 0.5]]
    else:
        assert answers(data, delimiter=delimiter, quote=quote) == [["a", 1, 0.5]]
        assert answers(b'"a\n', types=[VARCHAR], delimiter=delimiter, quote=quote) == [['"a']]


TRUNCATED = b'"a""\nb",-12,"1.5e3"\r\n'


def test_a_record_truncated_at_any_byte_has_the_answer_of_what_is_left() -> None:
    for size in range(1, len(TRUNCATED) + 1):
        prefix = TRUNCATED[:size]
        (record,) = records_of(prefix, 0x2C, 0x22)
        answer = answers(MODEL + prefix)[1:]
        try:
            if record.bad or len(record.fields) != 3:
                raise Misfit
            expected: Any = [
                value_of(*text, type, ("",)) for text, type in zip(record.fields, TYPES, strict=True)
            ]
        except Misfit:
            expected = None
        assert [None if isinstance(found, Reason) else found for found in answer] == [expected], prefix


@pytest.mark.parametrize("template", [b"a,1,0.5\nb,2,0.25\n", b'"a,""",1,"0.5"\r\n"b\nc",,\r\n'])
def test_every_byte_at_every_place_is_read_as_by_the_rules(template: bytes) -> None:
    for place in range(len(template) + 1):
        for byte in range(256):
            for data in (
                template[:place] + bytes([byte]) + template[place:],
                template[:place] + bytes([byte]) + template[place + 1 :],
            ):
                expected: list[Any] = []
                for record in records_of(data, 0x2C, 0x22):
                    if record.start == record.end and len(record.fields) == 1:
                        continue
                    try:
                        if record.bad or len(record.fields) != 3:
                            raise Misfit
                        fields = zip(record.fields, TYPES, strict=True)
                        expected.append([value_of(*text, type, ("",)) for text, type in fields])
                    except Misfit:
                        expected.append(None)
                found = [None if isinstance(answer, Reason) else answer for answer in answers(data)]
                assert found == expected, data


@pytest.mark.parametrize("size", [0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1 << 20])
def test_fields_of_any_length_end_at_their_delimiter(size: int) -> None:
    text = ("abcdefg" * (size // 7 + 1))[:size]
    assert answers(f'"{text}",1,0.5\n{text}é,2,0.5\n"{text}""",3,"0.5"'.encode()) == [
        [text, 1, 0.5],
        [text + "é", 2, 0.5],
        [text + '"', 3, 0.5],
    ]


def test_a_byte_order_mark_is_passed_at_the_start_of_a_stream_only() -> None:
    format = formats["csv"](formats["csv"].Options())
    data = b"\xef\xbb\xbfa,b\n1,2\n\xef\xbb\xbf3,4\n"
    layout = format.layout(data)
    assert layout.names == ("a", "b")
    schema = Schema((Field("a", BIGINT), Field("b", BIGINT)))
    decoded = format.decoder(schema, ["a", "b"], layout).decode(memoryview(data), layout.header_bytes, 10)
    assert decoded.batch.to_pylist() == [{"a": 1, "b": 2}]
    assert [error.code for error in decoded.errors] == ["type.bigint"]


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.text('a",;\n\r \t', max_size=8)


@given(
    st.lists(st.lists(texts, min_size=2, max_size=4), max_size=8),
    st.sampled_from([",", ";", "\t"]),
    # Written with "\n", the module leaves a carriage return unquoted, and reads it as a newline itself.
    st.sampled_from([("\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL)]),
)
@settings(max_examples=150, deadline=None)
def test_what_the_csv_module_writes_is_read_again(
    rows: list[list[str]], delimiter: str, style: tuple[str, Any]
) -> None:
    newline, quoting = style
    # Python's writer leaves a carriage return unquoted where it is no part of its line end.
    assume(quoting == csv.QUOTE_ALL or not any("\r" in field for row in rows for field in row))
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=newline, quoting=quoting).writerows(rows)
    data = out.getvalue().encode()
    found = answers(data, types=[VARCHAR] * 2, delimiter=delimiter.encode(), nulls=())
    # Python's reader has records of any number of fields, and agrees on what was written.
    reread = list(csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter))
    assert reread == rows
    assert found == [row if len(row) == 2 else Reason.FIELD_COUNT for row in rows]


def test_a_decoder_refuses_what_it_cannot_keep_to() -> None:
    good = ([VARCHAR], [3], False, [0], 0x2C, 0x22, [""], 100, 10, 100)
    CsvDecoder(*good)
    for place, wrong, words in (
        (3, [1], "targets"),
        (3, [], "field"),
        (3, [0] + [-1] * 10, "max_columns"),
        (7, 0, "max_record"),
        (7, 1 << 30, "max_record"),
        (9, 0, "max_text"),
    ):
        with pytest.raises(ValueError, match=words):
            CsvDecoder(*good[:place], wrong, *good[place + 1 :])
    for start, max_rows in ((-1, 1), (4, 1), (0, 0)):
        with pytest.raises(ValueError, match="start"):
            CsvDecoder(*good).decode(exact(b"abc"), start, max_rows)


def test_only_times_without_an_offset_are_told_to_be_naive() -> None:
    kernel = CsvDecoder([TIMESTAMP], [3], True, [0, -1], 0x2C, 0x22, [""], 100, 10, 100)
    data = b"2024-02-29,\n2024-02-29T00:00Z,\n,\n1700000000000,\n2024-02-29 00:00:00.5,\n"
    arrays, naive, *_ = kernel.decode(exact(data), 0, 10)
    assert naive[0].tolist() == [True, False, False, False, True]
    assert arrays[0].is_null().to_pylist() == [False, False, True, False, False]
