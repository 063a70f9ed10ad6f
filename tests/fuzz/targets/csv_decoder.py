"""The CSV decoder against a reading of RFC 4180 byte by byte, with every kind of column, by any options."""

from __future__ import annotations

from typing import Any

from tests.fuzz.csv_oracle import records_of, value_of
from tests.fuzz.draw import Draw
from tests.fuzz.numeric import Misfit
from tests.fuzz.targets.json_decoder import FIELDS as ALL_FIELDS
from tests.fuzz.targets.json_decoder import decode_all, same
from velostream.formats.base import formats
from velostream.sql.types import Field, Schema

CSV = formats["csv"]
# All kinds of columns but the narrower and wider ones of the same kind.
FIELDS = ALL_FIELDS[:8]
DELIMITERS = ",;\t|"
QUOTES = ('"', "'", "")
NULLS = (("",), (), ("", "NULL"), ("\\N", "-"))


def check(data: bytes) -> None:
    draw = Draw(data)
    count = 1 + draw.number(4)
    fields = tuple(Field(f"c{at}", draw.choice(FIELDS).type) for at in range(count))
    chosen = draw.number(16)
    delimiter, quote, nulls = draw.choice(DELIMITERS), draw.choice(QUOTES), draw.choice(NULLS)
    max_rows = draw.choice((1, 2, 7, 1000))
    max_record, max_text = draw.two((8, 40, 1 << 20), (1 << 24, 1, 9, 20))
    body = draw.rest()
    columns = [at for at in range(count) if chosen >> at & 1]
    format = CSV(
        CSV.Options(
            delimiter=delimiter,
            quote=quote,
            header=False,
            nulls=list(nulls),
            max_record_bytes=f"{max_record}B",
            max_text_bytes=f"{max_text}B",
        )
    )
    decoder = format.decoder(Schema(fields), [fields[at].name for at in columns], format.layout(b""))
    rows, spans, failed = decode_all(decoder, body, max_rows)
    expected: list[list[Any]] = []
    good = []
    bad = []
    middle = 0
    for record in records_of(body, ord(delimiter), ord(quote) if quote else -1):
        if record.next <= len(body) // 2:
            middle = record.next
        if count > 1 and record.start == record.end and len(record.fields) == 1:
            continue
        span = (record.start, record.end)
        try:
            too_long = record.end - record.start > max_record or record.longest > max_text
            if record.bad or too_long or len(record.fields) != count:
                raise Misfit
            expected.append([value_of(*record.fields[at], fields[at].type, nulls) for at in columns])
            good.append(span)
        except Misfit:
            bad.append(span)
    assert spans == good, (spans, good)
    assert failed == bad, (failed, bad)
    assert same(rows, expected), (rows, expected)
    again, _, _ = decode_all(decoder, body[:middle], 1000)
    more, _, _ = decode_all(decoder, body[middle:], 1000)
    assert same(again + more, expected), (again, more, expected)
