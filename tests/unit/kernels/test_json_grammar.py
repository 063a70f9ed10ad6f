"""What the NDJSON decoder accepts, and why it refuses the rest: RFC 8259, rule by rule.

Every record is read alone in a buffer of its size, behind records of the same keys, and in front of others
(the decoder has a way of its own for each); the answers must agree. Section numbers are those of the RFC.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.draw import exact
from tests.fuzz.json_oracle import Limits, row_of
from tests.fuzz.numeric import Misfit
from velostream.formats.base import formats
from velostream.kernels import JsonDecoder, Reason
from velostream.sql.types import BIGINT, DOUBLE, VARCHAR, Field, Schema

FIELDS = (Field("s", VARCHAR), Field("i", BIGINT), Field("d", DOUBLE))
MODEL = b'{"s":"","i":0,"d":0,"x":0}\n'
Answer = list[Any] | Reason

LIMITS = Limits(depth=64, columns=100, text_bytes=1 << 24)


def decoder(
    max_depth: int = 64, max_record: int = 1 << 24, max_columns: int = 100, max_text: int = 1 << 24
) -> JsonDecoder:
    types = [field.type for field in FIELDS]
    names = [field.name for field in FIELDS]
    return JsonDecoder(types, [3] * 3, False, names, max_depth, max_record, max_columns, max_text)


def answers(data: bytes, **limits: int) -> list[Answer]:
    """For each record of the data its row, or why it is refused."""
    kernel = decoder(**limits)
    arrays, _, starts, _, failures, end, records = kernel.decode(exact(data), 0, 1 << 20)
    assert end == len(data)
    rows = zip(*(array.to_pylist() for array in arrays), strict=True)
    found: dict[int, Answer] = dict(zip(starts.tolist(), map(list, rows), strict=True))
    found |= {failure[0]: Reason(failure[2]) for failure in failures}
    assert len(found) == records
    return [found[start] for start in sorted(found)]


def read(record: bytes, **limits: int) -> Answer:
    """The answer for one record, which is the same wherever it stands."""
    alone = answers(record, **limits)
    behind = answers(MODEL * 3 + record, **limits)[3:]
    between = answers(MODEL * 2 + record + b"\n" + MODEL, **limits)[2:-1]
    assert alone == behind == between, record
    assert len(alone) == 1, record
    return alone[0]


def read_value(text: bytes) -> dict[str, Answer]:
    """The answers for a value of a VARCHAR column, of one that was not asked for, and inside of one."""
    return {
        "asked": read(b'{"s":' + text + b"}"),
        "passed": read(b'{"x":' + text + b"}"),
        "nested": read(b'{"x":[' + text + b"]}"),
        "kept": read(b'{"s":{"k":' + text + b"}}"),
    }


def refusals(text: bytes) -> set[Reason]:
    """Why a value is refused at each place; fails when it is accepted at one."""
    found = read_value(text)
    assert all(isinstance(answer, Reason) for answer in found.values()), found
    return {answer for answer in found.values() if isinstance(answer, Reason)}


ROWS = [
    (b"{}", [None, None, None]),
    (b'{"s":"a","i":1,"d":0.5}', ["a", 1, 0.5]),
    (b'{"d":0.5,"s":"a","i":1}', ["a", 1, 0.5]),
    (b'{"i":null,"s":null,"d":null}', [None, None, None]),
    (b'{"i":1,"other":[{"i":2}],"":3}', [None, 1, None]),
    (b'{"\\u0073":"a","\\u0069":7}', ["a", 7, None]),
    # The last of duplicate keys counts, whatever the others hold (4: "names should be unique").
    (b'{"s":"a","s":"b"}', ["b", None, None]),
    (b'{"i":"no number","i":2}', [None, 2, None]),
    (b'{"i":1,"i":null}', [None, None, None]),
    (b'{"s":"a","\\u0073":"b"}', ["b", None, None]),
    # VARCHAR keeps other values as they are written.
    (b'{"s":[1, 2]}', ["[1, 2]", None, None]),
    (b'{"s":{"a" : 1.50}}', ['{"a" : 1.50}', None, None]),
    (b'{"s":true}', ["true", None, None]),
    (b'{"s":-0.0e+00}', ["-0.0e+00", None, None]),
    # Numbers of whole value are integers however they are written.
    (b'{"i":1.0}', [None, 1, None]),
    (b'{"i":12e2}', [None, 1200, None]),
    (b'{"i":-9223372036854775808}', [None, -(1 << 63), None]),
    (b'{"d":1e23}', [None, None, 1e23]),
    (b'{"d":9007199254740993}', [None, None, 9007199254740992.0]),
    (b'{"d":5e-324}', [None, None, 5e-324]),
    (b'{"d":1e-400}', [None, None, 0.0]),
]


@pytest.mark.parametrize(("record", "row"), ROWS)
def test_an_object_becomes_its_row(record: bytes, row: list[Any]) -> None:
    assert read(record) == row


REFUSED = [
    (b"[]", Reason.NOT_OBJECT),
    (b"1", Reason.NOT_OBJECT),
    (b'"text"', Reason.NOT_OBJECT),
    (b"null", Reason.NOT_OBJECT),
    (b"\0", Reason.NOT_OBJECT),
    (b"\xef\xbb\xbf{}", Reason.NOT_OBJECT),
    (b"}", Reason.NOT_OBJECT),
    (b"{", Reason.KEY_EXPECTED),
    (b"{,}", Reason.KEY_EXPECTED),
    (b"{1:1}", Reason.KEY_EXPECTED),
    (b"{a:1}", Reason.KEY_EXPECTED),
    (b"{'a':1}", Reason.KEY_EXPECTED),
    (b"{null:1}", Reason.KEY_EXPECTED),
    (b'{"s":1,}', Reason.KEY_EXPECTED),
    (b'{"s":1,,"i":1}', Reason.KEY_EXPECTED),
    (b'{"s"}', Reason.COLON_EXPECTED),
    (b'{"s" 1}', Reason.COLON_EXPECTED),
    (b'{"s"=1}', Reason.COLON_EXPECTED),
    (b'{"s",1}', Reason.COLON_EXPECTED),
    (b'{"s"::1}', Reason.VALUE_EXPECTED),
    (b'{"s":}', Reason.VALUE_EXPECTED),
    (b'{"s":,"i":1}', Reason.VALUE_EXPECTED),
    (b'{"s":1 "i":1}', Reason.COMMA_EXPECTED),
    (b'{"s":"a""i":1}', Reason.COMMA_EXPECTED),
    (b'{"s":1;"i":1}', Reason.COMMA_EXPECTED),
    (b'{"s":1', Reason.COMMA_EXPECTED),
    (b'{"s":1]', Reason.COMMA_EXPECTED),
    (b"{]", Reason.KEY_EXPECTED),
    (b'{"x":[1,]}', Reason.VALUE_EXPECTED),
    (b'{"x":[,1]}', Reason.VALUE_EXPECTED),
    (b'{"x":[1 2]}', Reason.COMMA_EXPECTED),
    (b'{"x":[1}', Reason.COMMA_EXPECTED),
    (b'{"x":{"a":1]}', Reason.COMMA_EXPECTED),
    (b'{"x":{"a":1,}}', Reason.KEY_EXPECTED),
    (b'{"x":{"a"}}', Reason.COLON_EXPECTED),
    (b'{"x":{1:1}}', Reason.KEY_EXPECTED),
    (b'{"s":1}}', Reason.TRAILING),
    (b'{"s":1}{"s":2}', Reason.TRAILING),
    (b"{} {}", Reason.TRAILING),
    (b"{},", Reason.TRAILING),
    (b"{}\0", Reason.TRAILING),
    (b"{}//", Reason.TRAILING),
    (b'{"s":1 /* two */}', Reason.COMMA_EXPECTED),
    (b'{"i":9223372036854775808}', Reason.OVERFLOW),
    (b'{"i":1.5}', Reason.FRACTION),
    (b'{"i":true}', Reason.WRONG_TYPE),
    (b'{"i":"1"}', Reason.WRONG_TYPE),
    (b'{"i":[1]}', Reason.WRONG_TYPE),
    (b'{"d":1e400}', Reason.INFINITE),
    (b'{"d":{}}', Reason.WRONG_TYPE),
]


@pytest.mark.parametrize(("record", "reason"), REFUSED)
def test_what_is_no_object_of_the_columns_is_refused_with_its_reason(record: bytes, reason: Reason) -> None:
    assert read(record) == reason


NUMBERS = ["0", "-0", "7", "-7", "10", "0.0", "-0.5", "1.25", "100.001", "0e0", "1e5", "1E5", "1e+5", "1E-5"]
NUMBERS += ["-1.5e-3", "0.1e1", "123456789012345678901234567890", "0.00000000000000000000000001", "1e0000001"]


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_of_section_6_is_read_exactly(text: str) -> None:
    encoded = text.encode()
    kept = '{"k":' + text + "}"
    assert read_value(encoded) == {
        "asked": [text, None, None],
        "passed": [None, None, None],
        "nested": [None, None, None],
        "kept": [kept, None, None],
    }
    found = read(b'{"d":' + encoded + b"}")
    assert isinstance(found, list)
    assert (found[2], str(found[2])) == (float(text), str(float(text)))


NO_NUMBERS = {
    Reason.BAD_NUMBER: "- -- -a -.5 1. 1.e5 -1. 1e 1e+ 1E- 1e1.5 00 01 -01 007 1.5e 0.e1 -Infinity -NaN -+1",
    Reason.VALUE_EXPECTED: "+1 .5 . e5 NaN Infinity nan inf 'a' a ) undefined",
    Reason.COMMA_EXPECTED: "0x10 1_0 1f 1.5.5 0b1 1+1 1-1 5% 1e5e5 1a 1n",
}


@pytest.mark.parametrize(
    ("text", "reason"), [(text, reason) for reason, texts in NO_NUMBERS.items() for text in texts.split()]
)
def test_what_is_no_number_is_refused(text: str, reason: Reason) -> None:
    allowed = {reason, Reason.COMMA_EXPECTED} if reason == Reason.BAD_NUMBER and text == "1e1.5" else {reason}
    assert refusals(text.encode()) <= allowed
    assert read(b'{"d":' + text.encode() + b"}") in allowed


@pytest.mark.parametrize("word", ["true", "false", "null"])
def test_a_literal_is_lower_case_and_whole(word: str) -> None:
    assert read_value(word.encode())["passed"] == [None, None, None]
    for size in range(1, len(word)):
        assert refusals(word[:size].encode()) == {Reason.VALUE_EXPECTED}
    for wrong in (word.upper(), word.capitalize(), word[:-1] + word[-1].upper(), word[:-1] + "x"):
        assert refusals(wrong.encode()) == {Reason.VALUE_EXPECTED}
    assert refusals(word.encode() + b"x") == {Reason.COMMA_EXPECTED}


def test_only_the_escapes_of_section_7_exist() -> None:
    known = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
    for byte in range(256):
        if byte == 0x0A:
            # The newline ends the record within its string.
            continue
        text = b'"a\\' + bytes([byte]) + b'"'
        if byte < 128 and chr(byte) in known:
            assert read_value(text)["asked"] == ["a" + known[chr(byte)], None, None]
            assert read_value(text)["nested"] == [None, None, None]
        else:
            assert refusals(text) == {Reason.BAD_ESCAPE}, byte


@pytest.mark.parametrize(
    "code", ["0041", "00e9", "00E9", "07ff", "0800", "2028", "d7ff", "e000", "fffd", "ffff", "0000"]
)
def test_four_hexadecimal_digits_are_a_character(code: str) -> None:
    assert read_value(b'"<\\u' + code.encode() + b'>"')["asked"] == [f"<{chr(int(code, 16))}>", None, None]


@pytest.mark.parametrize(
    "code", ["", "0", "00", "004", "004g", "g041", "00 1", "+041", "-041", "0x41", "00é1"]
)
def test_fewer_or_other_digits_are_not(code: str) -> None:
    assert refusals(b'"\\u' + code.encode() + b'"') == {Reason.BAD_ESCAPE}


@pytest.mark.parametrize(
    ("escapes", "text"),
    [("\\ud83d\\ude00", "😀"), ("\\uD800\\uDC00", "\U00010000"), ("\\udbff\\udfff", "\U0010ffff")],
)
def test_surrogates_in_a_pair_are_one_character(escapes: str, text: str) -> None:
    assert read_value(f'"{escapes}"'.encode())["asked"] == [text, None, None]


LONE = [
    "\\ud83d",
    "\\ude00",
    "\\ude00\\ud83d",
    "\\ud83dx",
    "\\ud83d\\n",
    "\\ud83d\\u0041",
    "\\ud83d\\ud83d\\ude00",
]


@pytest.mark.parametrize("escapes", LONE)
def test_a_surrogate_without_its_other_half_is_refused(escapes: str) -> None:
    assert refusals(f'"{escapes}"'.encode()) == {Reason.SURROGATE}
    assert read(f'{{"{escapes}":1}}'.encode()) == Reason.SURROGATE


def test_control_characters_in_strings_are_refused_and_delete_is_not() -> None:
    for byte in (*range(0x0A), *range(0x0B, 0x20)):
        assert refusals(b'"a' + bytes([byte]) + b'b"') == {Reason.CONTROL}, byte
        assert read(b'{"a' + bytes([byte]) + b'":1}') == Reason.CONTROL
        assert refusals(b'"sixteen bytes of text, then' + bytes([byte]) + b' and more of it"') == {
            Reason.CONTROL
        }
    assert read_value(b'"\x7f"')["asked"] == ["\x7f", None, None]
    # A newline ends the record, whatever it is in.
    assert answers(b'{"s":"a\nb"}') == [Reason.INCOMPLETE, Reason.NOT_OBJECT]


BAD_UTF8 = {
    "lone continuation": [b"\x80", b"\xbf", b"a\x80b"],
    "no lead byte": [b"\xc0", b"\xc1", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xff"],
    "overlong": [
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x80\x80",
        b"\xe0\x9f\xbf",
        b"\xf0\x80\x80\x80",
        b"\xf0\x8f\xbf\xbf",
    ],
    "surrogate": [b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80"],
    "above U+10FFFF": [b"\xf4\x90\x80\x80", b"\xf4\xbf\xbf\xbf", b"\xf7\xbf\xbf\xbf"],
    "truncated": [
        b"\xc3",
        b"\xe2\x82",
        b"\xe2",
        b"\xf0\x9f\x98",
        b"\xf0\x9f",
        b"\xf0",
        b"\xe2\x82a",
        b"\xf0\x9f\x98a",
    ],
}


@pytest.mark.parametrize("text", [text for texts in BAD_UTF8.values() for text in texts])
def test_text_that_is_not_utf8_is_refused(text: bytes) -> None:
    for filler in (b"", b"a", b"fifteen bytes..", b"thirty-two bytes of plain text.."):
        for quoted in (filler + text, filler + text + filler, text + filler):
            assert refusals(b'"' + quoted + b'"') == {Reason.NOT_UTF8}, quoted
            assert read(b'{"' + quoted + b'":1}') == Reason.NOT_UTF8


@pytest.mark.parametrize("filler", [b"", b"sixteen bytes..."])
def test_every_pair_of_bytes_is_utf8_exactly_when_python_says_so(filler: bytes) -> None:
    texts = [
        bytes(pair) + tail
        for pair in itertools.product(range(0x80, 0x100), range(0x20, 0x100))
        if pair[1] not in b'"\\'
        for tail in (b"", b"\x80", b"\x80\x80", b"\xbf\xbf")
    ]
    expected: list[Answer] = []
    for text in texts:
        try:
            expected.append([(filler + text).decode(), None, None])
        except UnicodeDecodeError:
            expected.append(Reason.NOT_UTF8)
    lines = b"\n".join(b'{"s":"' + filler + text + b'"}' for text in texts)
    assert answers(lines) == expected


def test_white_space_is_four_characters_of_which_a_newline_ends_the_record() -> None:
    parts = [b"{", b'"s"', b":", b'"a"', b",", b'"x"', b":", b"[", b"1", b",", b"{", b"}", b"]", b"}"]
    for place in range(len(parts) + 1):
        for space in (b" ", b"\t", b"\r", b" \t\r ", b" " * 70):
            record = b"".join(parts[:place]) + space + b"".join(parts[place:])
            assert read(record) == ["a", None, None], record
        for other in ("\f", "\v", "\0", "\x1f", "\x7f", "\x85", "\xa0", "\u2003", "\ufeff"):
            record = b"".join(parts[:place]) + other.encode() + b"".join(parts[place:])
            assert isinstance(read(record), Reason), record
        record = b"".join(parts[:place]) + b"\n" + b"".join(parts[place:])
        if 0 < place < len(parts):
            assert all(isinstance(answer, Reason) for answer in answers(record)), record
        else:
            assert answers(record) == [["a", None, None]]


def test_lines_of_white_space_are_no_records_and_a_carriage_return_belongs_to_its_newline() -> None:
    data = b'\n\r\n \t \n{"i":1}\r\n\n{"i":2}\r\r\n{"i":3} \t\r\n{"i":4}\r'
    assert answers(data) == [[None, i, None] for i in (1, 2, 3, 4)]
    _, _, starts, ends, _, _, _ = decoder().decode(exact(data), 0, 100)
    spans = [data[start:end] for start, end in zip(starts, ends, strict=True)]
    assert spans == [b'{"i":1}', b'{"i":2}\r', b'{"i":3} \t', b'{"i":4}']


TRUNCATED = b'{"s":"\xc3\xa9\\u00e9","x":[1,true,{"a":null}],"d":-1.5e3}'


def test_a_record_truncated_at_any_byte_is_refused() -> None:
    assert read(TRUNCATED) == ["éé", None, -1500.0]
    for size in range(1, len(TRUNCATED)):
        prefix = TRUNCATED[:size]
        answer = read(prefix)
        assert isinstance(answer, Reason), prefix
        assert answer not in (Reason.OK, Reason.TRAILING, Reason.NO_MEMORY, Reason.WRONG_TYPE), prefix
        # The newline that is then missing does not take the next record with it.
        assert answers(prefix + b"\n" + MODEL) == [answer, ["", 0, 0.0]], prefix


def test_a_prefix_is_refused_for_what_is_missing_first() -> None:
    missing = {
        b"{": Reason.KEY_EXPECTED,
        b'{"': Reason.INCOMPLETE,
        b'{"s': Reason.INCOMPLETE,
        b'{"s"': Reason.COLON_EXPECTED,
        b'{"s":': Reason.VALUE_EXPECTED,
        b'{"s":"': Reason.INCOMPLETE,
        b'{"s":"\xc3': Reason.NOT_UTF8,
        b'{"s":"a\\': Reason.INCOMPLETE,
        b'{"s":"a\\u': Reason.BAD_ESCAPE,
        b'{"s":"a\\u00e': Reason.BAD_ESCAPE,
        b'{"s":"a\\ud83d': Reason.SURROGATE,
        b'{"s":"a"': Reason.COMMA_EXPECTED,
        b'{"s":"a",': Reason.KEY_EXPECTED,
        b'{"x":[': Reason.VALUE_EXPECTED,
        b'{"x":[1': Reason.COMMA_EXPECTED,
        b'{"x":[1,': Reason.VALUE_EXPECTED,
        b'{"x":{': Reason.KEY_EXPECTED,
        b'{"x":{"a"': Reason.COLON_EXPECTED,
        b'{"x":{"a":': Reason.VALUE_EXPECTED,
        b'{"x":[]': Reason.COMMA_EXPECTED,
        b'{"d":-': Reason.BAD_NUMBER,
        b'{"d":-1.': Reason.BAD_NUMBER,
        b'{"d":-1.5e': Reason.BAD_NUMBER,
        b'{"d":-1.5e3': Reason.COMMA_EXPECTED,
        b'{"d":nul': Reason.VALUE_EXPECTED,
    }
    assert {prefix: read(prefix) for prefix in missing} == missing


@pytest.mark.parametrize(
    "template", [b'{"s":"x","i":1}', b'{"d":-1.5e+3,"x":[null,{"a":true}]}', b'{"s":"\\u00e9\\n"}']
)
def test_every_byte_at_every_place_is_accepted_exactly_when_python_does(template: bytes) -> None:
    records = []
    for place in range(len(template) + 1):
        for byte in range(256):
            if byte != 0x0A:
                records.append(template[:place] + bytes([byte]) + template[place:])
                if place < len(template):
                    records.append(template[:place] + bytes([byte]) + template[place + 1 :])
    found = answers(b"\n".join(records))
    assert len(found) == len(records)
    for record, answer in zip(records, found, strict=True):
        try:
            expected: list[Any] | None = row_of(record, FIELDS, LIMITS)
        except (ValueError, Misfit):
            expected = None
        assert (None if isinstance(answer, Reason) else answer) == expected, record


@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_depth_is_counted_with_the_record(brackets: tuple[str, str]) -> None:
    opening, closing = brackets

    def nested(depth: int) -> bytes:
        return f'{{"x":{opening * depth}1{closing * depth}}}'.encode()

    for limit in (1, 2, 3, 64):
        assert read(nested(limit - 1), max_depth=limit) == [None, None, None]
        assert read(nested(limit), max_depth=limit) == Reason.TOO_DEEP
    assert read(b'{"x":' + b"[" * 200_000) == Reason.TOO_DEEP
    assert answers(nested(200_000), max_depth=300_000) == [[None, None, None]]


@pytest.mark.parametrize("size", [0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1 << 20])
def test_strings_of_any_length_end_at_their_quote(size: int) -> None:
    text = ("abcdefg" * (size // 7 + 1))[:size]
    for ending, expected in (("", ""), ("é", "é"), ("\\n", "\n"), ("\\u00e9", "é"), ("😀", "😀")):
        for lead in ("", ending):
            record = f'{{"s":"{lead}{text}{ending}","i":1}}'.encode()
            assert answers(MODEL + record)[1:] == [[(expected if lead else "") + text + expected, 1, None]]
            assert answers(record[: -len('","i":1}')]) == [Reason.INCOMPLETE]


def test_a_byte_order_mark_is_passed_at_the_start_of_a_stream_only() -> None:
    ndjson = formats["ndjson"](formats["ndjson"].Options())
    data = b'\xef\xbb\xbf{"i":1}\n\xef\xbb\xbf{"i":2}\n'
    layout = ndjson.layout(data)
    decoded = ndjson.decoder(Schema(FIELDS), ["i"], layout).decode(memoryview(data), layout.header_bytes, 10)
    assert decoded.batch.to_pylist() == [{"i": 1}]
    assert [error.code for error in decoded.errors] == ["json.syntax"]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(st.sampled_from(["s", "i", "d", "x", "other"]), values, max_size=5)


@given(st.lists(documents, max_size=5), st.booleans(), st.sampled_from([(",", ":"), (", ", ": ")]))
@settings(max_examples=150, deadline=None)
def test_random_documents_have_the_values_of_the_json_module(
    objects: list[dict[str, Any]], ascii: bool, separators: tuple[str, str]
) -> None:
    lines = [json.dumps(value, ensure_ascii=ascii, separators=separators).encode() for value in objects]
    expected = []
    for line in lines:
        try:
            expected.append(row_of(line, FIELDS, LIMITS))
        except Misfit:
            expected.append(None)
    found = answers(b"\n".join(lines))
    assert [None if isinstance(answer, Reason) else answer for answer in found] == expected


def test_a_decoder_refuses_what_it_cannot_keep_to() -> None:
    for limits, words in (
        ({"max_depth": 0}, "max_depth"),
        ({"max_depth": 1_000_001}, "max_depth"),
        ({"max_record": 0}, "max_record"),
        ({"max_record": 1 << 30}, "max_record"),
        ({"max_columns": 0}, "max_columns"),
        ({"max_text": 0}, "max_text"),
    ):
        with pytest.raises(ValueError, match=words):
            decoder(**limits)
    for start, max_rows in ((-1, 1), (3, 1), (0, 0)):
        with pytest.raises(ValueError, match="start"):
            decoder().decode(exact(b"{}"), start, max_rows)
