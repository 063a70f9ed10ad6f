"""What the file sink writes, the file source reads: the same rows, of every type, however it is cut."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.batches import decode
from velostream.connectors.base import Limits
from velostream.connectors.file import FileSink, FileSinkConfig, FileSource, FileSourceConfig
from velostream.operators.batch import Batch
from velostream.sql.typenames import type_name

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "big": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "tiny": (pa.int8(), st.integers(-128, 127)),
    "double": (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "money": (pa.decimal128(20, 4), st.integers(-(10**19), 10**19).map(lambda n: Decimal(n).scaleb(-4))),
    "flag": (pa.bool_(), st.booleans()),
    "text": (pa.string(), TEXT),
    "at": (pa.timestamp("us"), st.datetimes()),
    "day": (pa.date32(), st.dates()),
}
SCHEMA = pa.schema([pa.field(name, type) for name, (type, _) in COLUMNS.items()])
ROWS = st.lists(st.tuples(*(st.none() | values for _, values in COLUMNS.values())), max_size=12)


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz", "a.csv", "a.csv.zst"])
@given(rows=ROWS, max_bytes=st.integers(1, 400), records=st.sampled_from([0, 0, 1, 3]))
@settings(max_examples=25, deadline=None)
def test_rows_come_back_from_any_file(name: str, rows: list[Any], max_bytes: int, records: int) -> None:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(COLUMNS)
    arrays = [pa.array(column, type) for column, type in zip(columns, SCHEMA.types, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=SCHEMA)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / name)
        writer = FileSink("out", FileSinkConfig(path=path)).open(SCHEMA, bounded=True)
        for batch in table.to_batches(max_chunksize=5):
            writer.write(writer.encode(Batch(batch)), batch.num_rows)
        writer.close(True)
        declared = {field.name: type_name(field.type) for field in SCHEMA}
        source = FileSource("in", FileSourceConfig(path=path, schema=declared))
        assert read(source, Limits(max_bytes, records)).equals(table)


def read(source: FileSource, limits: Limits) -> pa.Table:
    decoder, reader = source.decoder(0, source.schema.names), source.reader(0, limits)
    assert decoder is not None
    batches = []
    for block in iter(reader.read, None):
        for decoded in decode(decoder, block.load(), 4):
            assert decoded.errors == []
            batches.append(decoded.batch)
    reader.close()
    return pa.Table.from_batches(batches, schema=SCHEMA)
