"""What the encoders write of odd text is what `json` and our CSV oracle read again."""

from __future__ import annotations

import json

import pyarrow as pa

from tests.fuzz.csv_oracle import records_of
from tests.fuzz.draw import Draw, text_array
from velostream.kernels import CsvEncoder, JsonEncoder


def check(data: bytes) -> None:
    draw = Draw(data)
    lead = draw.number(10)
    delimiter, quote = draw.choice(",;\t|"), draw.choice("\"'")
    null = draw.choice(("", "NULL", "-"))
    texts = draw.texts()
    sizes = pa.array([None if text is None else len(text) for text in texts], pa.int64())
    batch = pa.record_batch(
        [text_array(texts, lead), sizes, text_array(texts[::-1], lead + 1)], names=["s", "n", 'k"é\\']
    )
    lines = bytes(JsonEncoder(batch.schema).encode(batch)).decode().split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == batch.to_pylist()
    written = bytes(CsvEncoder(batch.schema, delimiter, quote, null).encode(batch))
    rows = []
    for record in records_of(written, ord(delimiter), ord(quote)):
        assert not record.bad
        rows.append([None if not q and text.decode() == null else text.decode() for text, q in record.fields])
    assert rows == [
        [None if value is None else str(value) for value in row.values()] for row in batch.to_pylist()
    ]
