"""The CSV decoder and splitter against Python's `csv` module, on tables that hypothesis makes up."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from velostream.formats.base import Decoded, formats
from velostream.sql.types import BIGINT, BOOLEAN, DATE, DOUBLE, TIMESTAMP, VARCHAR, Field, Schema

CSV = formats["csv"]
EPOCH = datetime(1970, 1, 1)


def decode_all(
    data: bytes, schema: Schema, columns: list[str], max_rows: int, **options: Any
) -> list[Decoded]:
    format = CSV(CSV.Options(**options))
    layout = format.layout(data)
    decoder = format.decoder(schema, columns, layout)
    body = data[layout.header_bytes :]
    slices = []
    position = 0
    while position < len(body):
        decoded = decoder.decode(memoryview(body), position, max_rows)
        assert decoded.next > position
        assert decoded.records == decoded.batch.num_rows + len(decoded.errors) <= max_rows
        position = decoded.next
        slices.append(decoded)
    return slices


def rows_of(slices: list[Decoded]) -> list[dict[str, Any]]:
    return [row for decoded in slices for row in decoded.batch.to_pylist()]


# A lone carriage return ends a record for Python's module; RFC 4180 knows it only before a newline.
marks = st.text(st.sampled_from('ab,;"\n é€😀\t'), max_size=6) | st.text("x", min_size=14, max_size=40)
texts = marks | st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=20)


@given(
    st.integers(2, 4).flatmap(
        lambda n: st.lists(st.lists(texts, min_size=n, max_size=n), min_size=1, max_size=8)
    ),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([1, 7, 1000]),
    st.booleans(),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_texts_are_those_of_the_csv_module(
    table: list[list[str]], delimiter: str, newline: str, max_rows: int, header: bool, data: st.DataObject
) -> None:
    names = [f"name {number}" for number in range(len(table[0]))]
    columns = data.draw(st.lists(st.sampled_from(names), unique=True))
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL)
    plain = csv.writer(out, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_MINIMAL)
    if header:
        writer.writerow(names)
    for number, row in enumerate(table):
        (plain if number % 2 else writer).writerow(row)
    schema = Schema(tuple(Field(name, VARCHAR) for name in names))
    slices = decode_all(
        out.getvalue().encode(), schema, columns, max_rows, delimiter=delimiter, header=header, nulls=[]
    )
    assert rows_of(slices) == [
        {name: dict(zip(names, row, strict=True))[name] for name in columns} for row in table
    ]


pieces = st.lists(
    st.sampled_from(['"', '""', ",", "\n", "\r\n", "a", "b,c", "0123456789abcdef"]), max_size=25
).map("".join)


@given(pieces, st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_any_text_is_cut_where_the_csv_module_ends_a_record(text: str, records: int) -> None:
    data = text.encode()
    splitter = CSV(CSV.Options()).splitter()
    ends = [0]
    lines: list[str] = []
    taken = 0
    exact = [0]
    for line in text.splitlines(keepends=True):
        lines.append(line)
        whole = "".join(lines)
        # Python's reader takes what it is given as complete, so ask whether a newline more is kept inside.
        rows = list(csv.reader(io.StringIO(whole + "@", newline="")))
        if rows[-1] == ["@"] and whole.endswith("\n"):
            position = ends[-1] + len(whole.encode())
            ends.append(position)
            if taken < records:
                taken += bool(rows[0])
                exact.append(position)
            lines = []
    assert splitter.cut(memoryview(data), final=False) == ends[-1]
    assert splitter.cut(memoryview(data), final=True) == len(data)
    assert splitter.take(memoryview(data), records) == exact[-1]


@given(pieces, st.sampled_from([1, 7, 1000]))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_the_rows_of_the_csv_module_or_errors(text: str, max_rows: int) -> None:
    schema = Schema((Field("a", VARCHAR), Field("b", VARCHAR)))
    slices = decode_all(text.encode(), schema, ["a", "b"], max_rows, header=False, nulls=[])
    rows = list(csv.reader(io.StringIO(text, newline="")))
    expected = [row for row in rows if row]
    assert sum(part.records for part in slices) == len(expected)
    found = [list(row.values()) for row in rows_of(slices)]
    # What Python's module repairs without a word is an error here.
    bad = {error.start for part in slices for error in part.errors if error.code == "csv.quote"}
    if not bad:
        assert found == [row for row in expected if len(row) == 2]
    assert len(found) <= len(expected)


@given(st.binary(max_size=60) | st.lists(st.sampled_from([b'"', b",", b"\n", b"1", b"\xc3"])).map(b"".join))
@settings(max_examples=200, deadline=None)
def test_no_bytes_stop_the_decoder(data: bytes) -> None:
    schema = Schema((Field("a", BIGINT), Field("b", VARCHAR), Field("c", TIMESTAMP)))
    slices = decode_all(data, schema, ["c", "b", "a"], 3, header=False)
    spans = sorted(
        [(int(a), int(b)) for part in slices for a, b in zip(part.starts, part.ends, strict=True)]
        + [(error.start, error.end) for part in slices for error in part.errors]
    )
    assert all(0 <= a <= b <= len(data) for a, b in spans)
    assert all(first[1] < second[0] for first, second in pairwise(spans))


times = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
offsets = st.integers(-23 * 60, 23 * 60)


@given(st.lists(st.tuples(times, offsets, st.text("0123456789", max_size=12), st.booleans()), max_size=20))
@settings(max_examples=100, deadline=None)
def test_timestamps_with_offsets_are_those_of_datetime(
    values: list[tuple[datetime, int, str, bool]],
) -> None:
    lines = []
    expected = []
    for time, offset, fraction, colon in values:
        sign = "-" if offset < 0 else "+"
        hours, minutes = divmod(abs(offset), 60)
        zone = f"{sign}{hours:02}{':' if colon else ''}{minutes:02}"
        text = time.replace(microsecond=0).isoformat(sep="T" if colon else " ")
        lines.append(f"{text}{'.' + fraction if fraction else ''}{zone},{time.date().isoformat()}\n")
        us = int(fraction[:6].ljust(6, "0"))
        whole = (time.replace(microsecond=0) - EPOCH) // timedelta(microseconds=1)
        expected.append((whole + us - offset * 60_000_000, time.date()))
    schema = Schema((Field("t", TIMESTAMP), Field("d", DATE)))
    (decoded,) = decode_all("".join(lines).encode(), schema, ["t", "d"], 1000, header=False) or [None]
    if decoded is not None:
        columns = decoded.batch.columns
        assert [*zip(columns[0].cast("int64").to_pylist(), columns[1].to_pylist(), strict=True)] == expected
    else:
        assert not lines


@given(st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32))
@settings(max_examples=200, deadline=None)
def test_dates_exist_exactly_when_datetime_says_so(year: int, month: int, day: int) -> None:
    try:
        expected = [{"d": date(year, month, day)}]
    except ValueError:
        expected = []
    data = f"{year:04}-{month:02}-{day:02}".encode()
    assert rows_of(decode_all(data, Schema((Field("d", DATE),)), ["d"], 10, header=False)) == expected


number_like = st.text(st.sampled_from("0123456789.eE+-"), min_size=1, max_size=12)


@given(st.lists(number_like, min_size=1, max_size=20))
@settings(max_examples=300, deadline=None)
def test_numbers_are_what_float_takes(values: list[str]) -> None:
    schema = Schema((Field("n", DOUBLE), Field("end", VARCHAR)))
    slices = decode_all("".join(f"{text},\n" for text in values).encode(), schema, ["n"], 7, header=False)
    expected = []
    for text in values:
        try:
            number = float(text)
        except ValueError:
            continue
        if abs(number) != float("inf"):
            expected.append({"n": number})
    assert rows_of(slices) == expected


@given(
    st.lists(st.sampled_from(["true", "F", "t", "FALSE", "1", "0", "yes", "10", "TRUE ", ""]), max_size=20)
)
@settings(max_examples=50, deadline=None)
def test_booleans_have_eight_spellings_in_any_case(values: list[str]) -> None:
    schema = Schema((Field("b", BOOLEAN), Field("end", VARCHAR)))
    slices = decode_all("".join(f"{text},\n" for text in values).encode(), schema, ["b"], 1000, header=False)
    known = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False, "": None}
    assert rows_of(slices) == [{"b": known[text.lower()]} for text in values if text.lower() in known]


def test_the_zone_of_naive_times_is_that_of_zoneinfo_around_every_change_of_clocks() -> None:
    # Half an hour forward and back at Lord Howe, an hour in Paris, seconds of local mean time before 1900.
    for zone, first in (
        ("Australia/Lord_Howe", datetime(2023, 3, 31)),
        ("Australia/Lord_Howe", datetime(2023, 9, 30)),
        ("Europe/Paris", datetime(2023, 3, 25, 12)),
        ("Europe/Paris", datetime(2023, 10, 28, 12)),
        ("America/New_York", datetime(1883, 11, 17, 12)),
    ):
        lines = [first + timedelta(minutes=7 * step, microseconds=step) for step in range(400)]
        expected = [
            time.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).replace(tzinfo=None) for time in lines
        ]
        schema = Schema((Field("t", TIMESTAMP),), timezone=zone)
        data = "\n".join(time.isoformat() for time in lines).encode()
        assert [row["t"] for row in rows_of(decode_all(data, schema, ["t"], 97, header=False))] == expected
