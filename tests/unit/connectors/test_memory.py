"""Tables in memory: the same rows through blocks of any size, types made ours, nothing copied in vain."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from velostream.connectors.base import Limits
from velostream.connectors.memory import MemorySink, MemorySource
from velostream.errors import ConfigError, ConnectorError
from velostream.operators.batch import Batch
from velostream.sql.types import BIGINT, DATE, DOUBLE, INTEGER, SMALLINT, TIMESTAMP, VARCHAR

UTC_NOON = datetime.datetime(2024, 7, 1, 12)
CHUNKED = pa.table({"n": pa.chunked_array([[0, 1, 2], [], [3], [4, 5, 6, 7, 8, 9]]), "s": list("abcdefghij")})


def batches(source: MemorySource, limits: Limits = Limits()) -> list[pa.RecordBatch]:  # noqa: B008
    return [block.load() for block in iter(source.reader(0, limits).read, None)]


def read(data: Any, **settings: Any) -> pa.Table:
    source = MemorySource.of("t", data, **settings)
    return pa.Table.from_batches(batches(source), schema=source.schema.arrow())


@pytest.mark.parametrize("as_stream", [False, True])
@pytest.mark.parametrize("records", [1, 2, 3, 7, 10, 11])
def test_blocks_of_n_records_have_exactly_n_whatever_the_chunks(records: int, as_stream: bool) -> None:
    data = CHUNKED.to_reader() if as_stream else CHUNKED
    blocks = list(iter(MemorySource.of("t", data).reader(0, Limits(records=records)).read, None))
    loaded = [block.load() for block in blocks]
    assert pa.Table.from_batches(loaded).equals(CHUNKED)
    sizes = [batch.num_rows for batch in loaded]
    assert sizes == [records] * (10 // records) + [10 % records] * (10 % records > 0)
    assert [block.next_offset - block.offset for block in blocks] == sizes


@pytest.mark.parametrize("as_stream", [False, True])
@pytest.mark.parametrize("max_bytes", [1, 30, 60, 1 << 20])
def test_blocks_by_size_hold_all_rows_in_order(max_bytes: int, as_stream: bool) -> None:
    data = CHUNKED.to_reader() if as_stream else CHUNKED
    loaded = batches(MemorySource.of("t", data), Limits(max_bytes))
    assert pa.Table.from_batches(loaded).equals(CHUNKED)
    assert (
        len(loaded) == 10 if max_bytes == 1 else len(loaded) == 1 if max_bytes == 1 << 20 else len(loaded) > 1
    )


def test_a_table_is_read_from_an_offset_and_a_stream_only_once() -> None:
    reader = MemorySource.of("t", CHUNKED).reader(0, Limits(), offset=7)
    block = reader.read()
    assert block is not None and block.load().column("n").to_pylist() == [7, 8, 9]
    assert reader.read() is None
    with pytest.raises(ConnectorError, match="'t' is a stream of batches, which cannot be read again"):
        MemorySource.of("t", CHUNKED.to_reader()).reader(0, Limits(), offset=7)


def test_columns_of_our_types_are_not_copied() -> None:
    table = pa.table({"n": pa.array([1, 2, 3]), "s": pa.array(["a", "b", None])})
    (batch,) = batches(MemorySource.of("t", table))
    for name in ("n", "s"):
        given, got = table[name].chunk(0).buffers(), batch.column(name).buffers()
        assert [b and b.address for b in given] == [b and b.address for b in got]


@pytest.mark.parametrize(
    ("array", "type", "values"),
    [
        (pa.array([255, None], pa.uint8()), SMALLINT, [255, None]),
        (pa.array([65535], pa.uint16()), INTEGER, [65535]),
        (pa.array([2**32 - 1], pa.uint32()), BIGINT, [2**32 - 1]),
        (pa.array([2**63 - 1], pa.uint64()), BIGINT, [2**63 - 1]),
        (pa.array([0.5], pa.float32()), DOUBLE, [0.5]),
        (pa.array(np.array([0.5], dtype=np.float16)), DOUBLE, [0.5]),
        (pa.array(["é", None], pa.large_string()), VARCHAR, ["é", None]),
        (pa.array(["a"], pa.string_view()), VARCHAR, ["a"]),
        (pa.array(["a", "b", "a", None]).dictionary_encode(), VARCHAR, ["a", "b", "a", None]),
        (pa.nulls(2), VARCHAR, [None, None]),
        (pa.array([86_400_000], pa.date64()), DATE, [datetime.date(1970, 1, 2)]),
        (pa.array([1], pa.timestamp("s")), TIMESTAMP, [datetime.datetime(1970, 1, 1, 0, 0, 1)]),
        (
            # Finer units truncate towards minus infinity.
            pa.array([-1, 1_999], pa.timestamp("ns")),
            TIMESTAMP,
            [datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime.datetime(1970, 1, 1, 0, 0, 0, 1)],
        ),
        (pa.array([UTC_NOON], pa.timestamp("ms", "Asia/Tokyo")), TIMESTAMP, [UTC_NOON]),
        (pa.array([UTC_NOON], pa.timestamp("ns", "UTC")), TIMESTAMP, [UTC_NOON]),
        (pa.array([Decimal("1.50")], pa.decimal256(10, 2)), pa.decimal128(10, 2), [Decimal("1.50")]),
    ],
)
def test_types_become_ours_without_losing_a_value(
    array: pa.Array, type: pa.DataType, values: list[Any]
) -> None:
    table = read(pa.table({"x": array}))
    assert table.schema == pa.schema([("x", type)])
    assert table["x"].to_pylist() == values
    assert read(pa.table({"x": array}).slice(1))["x"].to_pylist() == values[1:]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_naive_times_are_in_the_zone_of_the_source(unit: str) -> None:
    table = pa.table({"x": pa.array([UTC_NOON], pa.timestamp(unit))})
    assert read(table, timezone="Europe/Paris")["x"].to_pylist() == [datetime.datetime(2024, 7, 1, 10)]
    aware = pa.table({"x": pa.array([UTC_NOON], pa.timestamp(unit, "UTC"))})
    assert read(aware, timezone="Europe/Paris")["x"].to_pylist() == [UTC_NOON]


def test_frames_are_tables() -> None:
    rows = {"n": [1, 2], "s": ["a", None], "t": [UTC_NOON, None]}
    expected = {"n": [1, 2], "s": ["a", None], "t": [UTC_NOON, None]}
    assert read(pl.DataFrame(rows)).to_pydict() == expected
    assert read(pd.DataFrame(rows).set_index(pd.Index([7, 8]))).to_pydict() == expected
    assert read(pa.record_batch(rows)).to_pydict() == expected


def test_a_declared_schema_chooses_and_casts_columns() -> None:
    table = pa.table({"a": ["1", "2"], "b": [1, 2], "c": [None, None]})
    assert read(table, schema={"b": "DOUBLE", "a": "BIGINT"}).to_pydict() == {"b": [1.0, 2.0], "a": [1, 2]}
    with pytest.raises(ConfigError, match=r"sources\.t\.schema\.price: unknown column 'price'; did you mean"):
        read(pa.table({"prices": [1]}), schema={"price": "BIGINT"})
    with pytest.raises(ConnectorError, match=r"column 'a' of 't' does not fit its type, rows 0 to 0: .*'x'"):
        read(pa.table({"a": ["x"]}), schema={"a": "BIGINT"})


def test_an_empty_table_has_a_schema_and_no_block() -> None:
    for data in (CHUNKED.slice(0, 0), CHUNKED.schema.empty_table().to_reader()):
        source = MemorySource.of("t", data)
        assert source.schema.names == ("n", "s")
        assert source.reader(0, Limits()).read() is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            pa.table({"l": [[1]]}),
            r"column 'l' is of type 'list<.*>', which SQL here does not have; cast or drop it",
        ),
        (pa.table({"b": [b"x"]}), r"column 'b' is of type 'binary'"),
        (pa.table([[1], [2]], names=["x", "x"]), r"column 'x' occurs more than once; rename one of them"),
        ([1, 2], r"'t' is of type 'list', which is no table; give a pyarrow Table"),
    ],
)
def test_what_cannot_be_a_table_is_refused(data: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MemorySource.of("t", data).schema  # noqa: B018


def test_a_value_out_of_range_is_an_error_with_its_rows() -> None:
    with pytest.raises(ConnectorError, match="column 'x' of 't' does not fit its type, rows 0 to 1"):
        read(pa.table({"x": pa.array([0, 2**63], pa.uint64())}))


def test_a_stream_that_fails_is_an_error_with_its_position() -> None:
    def produce() -> Any:
        yield pa.record_batch({"n": [1, 2]})
        raise OSError("the wire broke")

    stream = pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), produce())
    with pytest.raises(ConnectorError, match=r"cannot read 't' after row 2: .*the wire broke"):
        read(stream)


def test_the_sink_gives_all_batches_as_one_table() -> None:
    sink = MemorySink("results")
    schema = pa.schema([("n", pa.int64())])
    writer = sink.open(schema, bounded=True)
    assert sink.table().schema == schema and sink.table().num_rows == 0
    for values in ([1], [2, 3]):
        batch = Batch(pa.record_batch({"n": pa.array(values)}))
        writer.write(writer.encode(batch), batch.rows)
    writer.close(True)
    assert sink.table().to_pydict() == {"n": [1, 2, 3]}
    assert [batch.rows for batch in sink.batches()] == [1, 2]
    assert (writer.location, writer.bytes_written) == ("memory", 24)
