"""A bounded job's file is complete or absent; an unbounded one's grows; nothing is dropped on the way."""

from __future__ import annotations

import gzip
import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from velostream.connectors.base import SinkWriter
from velostream.connectors.file import FileSink, FileSinkConfig
from velostream.errors import ConfigError, ConnectorError, VelostreamError
from velostream.operators.batch import DELETE, INSERT, UPDATE, Batch

SCHEMA = pa.schema([("k", pa.string()), ("n", pa.int64())])


def sink(path: object, **settings: Any) -> FileSink:
    return FileSink("results", FileSinkConfig(path=str(path), **settings))


def batch(*rows: tuple[str | None, int | None], ops: list[int] | None = None) -> Batch:
    columns = [pa.array([row[at] for row in rows], SCHEMA.types[at]) for at in range(2)]
    data = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
    return Batch(data, None if ops is None else np.array(ops, dtype=np.uint8))


def write(writer: SinkWriter, *batches: Batch) -> None:
    for each in batches:
        writer.write(writer.encode(each), each.rows)


def test_a_bounded_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "out.ndjson"
    writer = sink(path).open(SCHEMA, bounded=True)
    write(writer, batch(("a", 1), (None, None)), batch(), batch(("b", 2)))
    writer.flush()
    assert not path.exists()
    writer.close(True)
    writer.close(True)
    assert path.read_text() == '{"k":"a","n":1}\n{"k":null,"n":null}\n{"k":"b","n":2}\n'
    assert os.listdir(path.parent) == ["out.ndjson"]
    assert (writer.location, writer.bytes_written) == (str(path), path.stat().st_size)


@pytest.mark.parametrize("name", ["out.ndjson", "out.csv.gz", "out.parquet"])
def test_a_bounded_file_that_is_not_completed_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    writer = sink(path).open(SCHEMA, bounded=True)
    write(writer, batch(("a", 1)))
    writer.close(False)
    assert os.listdir(tmp_path) == []
    path.write_text("before")
    writer = sink(path).open(SCHEMA, bounded=True)
    write(writer, batch(("a", 1)))
    writer.close(False)
    writer.close(True)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == [name]


def test_an_unbounded_file_is_appended_to_with_one_header(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    for complete in (True, False):
        writer = sink(path).open(SCHEMA, bounded=False)
        write(writer, batch(("a", 1)))
        writer.flush()
        assert path.read_text().endswith("a,1\n")
        writer.close(complete)
    assert path.read_text() == "k,n\na,1\na,1\n"


def test_compressed_text_is_one_readable_file(tmp_path: Path) -> None:
    for name, unpack in (
        ("out.csv.gz", gzip.decompress),
        ("out.csv.zst", lambda data: zstandard.ZstdDecompressor().stream_reader(data, True).read()),
    ):
        path = tmp_path / name
        writer = sink(path).open(SCHEMA, bounded=True)
        write(writer, batch(("a", 1)), batch(("b", 2)))
        writer.close(True)
        assert unpack(path.read_bytes()) == b"k,n\na,1\nb,2\n"
        writer = sink(path, format_options={"header": False}).open(SCHEMA, bounded=True)
        writer.close(True)
        assert unpack(path.read_bytes()) == b""


def test_parquet_has_the_rows_and_types_in_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    writer = sink(path, format_options={"row_group_rows": 2}).open(SCHEMA, bounded=True)
    write(writer, batch(("a", 1)), batch(("b", None), (None, 3)), batch(("d", 4)))
    writer.close(True)
    assert pq.read_table(path).to_pylist() == [
        {"k": "a", "n": 1},
        {"k": "b", "n": None},
        {"k": None, "n": 3},
        {"k": "d", "n": 4},
    ]
    assert pq.read_schema(path) == SCHEMA
    assert pq.ParquetFile(path).metadata.num_row_groups == 3
    assert writer.bytes_written == path.stat().st_size


def test_updates_are_rows_and_deletes_need_a_changelog(tmp_path: Path) -> None:
    path = tmp_path / "out.ndjson"
    changes = batch(("a", 1), ("a", 2), ("b", 3), ops=[INSERT, UPDATE, DELETE])
    writer = sink(path).open(SCHEMA, bounded=True)
    assert bytes(writer.encode(batch(("a", 1), ("a", 2), ops=[INSERT, UPDATE]))).count(b"\n") == 2
    with pytest.raises(ConnectorError, match=r"deletes rows.*set sinks\.results\.changelog=true"):
        writer.encode(changes)
    writer.close(False)
    writer = sink(path, changelog=True).open(SCHEMA, bounded=True)
    write(writer, changes, batch(("c", 4)))
    writer.close(True)
    assert path.read_text().splitlines() == [
        '{"_op":"insert","k":"a","n":1}',
        '{"_op":"update","k":"a","n":2}',
        '{"_op":"delete","k":"b","n":3}',
        '{"_op":"insert","k":"c","n":4}',
    ]


def test_lanes_encode_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "out.ndjson"
    writer = sink(path).open(SCHEMA, bounded=True)
    batches = [batch(*((str(at), row) for row in range(2000))) for at in range(16)]
    with ThreadPoolExecutor(4) as lanes:
        for payload in lanes.map(writer.encode, batches):
            writer.write(payload, 2000)
    writer.close(True)
    expected = [f'{{"k":"{at}","n":{row}}}' for at in range(16) for row in range(2000)]
    assert path.read_text().splitlines() == expected


def test_a_full_disk_is_an_error_with_the_path() -> None:
    writer = sink("/dev/full", format="ndjson").open(SCHEMA, bounded=True)
    with pytest.raises(ConnectorError, match="cannot write '/dev/full': no space left on device"):
        write(writer, batch(("a", 1)))
    writer.close(False)
    for name in ("csv", "parquet"):
        with pytest.raises(ConnectorError, match="cannot write '/dev/full': no space left on device"):
            sink("/dev/full", format=name).open(SCHEMA, bounded=True)


def test_a_disk_that_gets_full_leaves_no_file(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    rows = batch(*((str(row), row) for row in range(20_000)))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        for name in ("a.ndjson", "a.parquet"):
            writer = sink(tmp_path / name).open(SCHEMA, bounded=True)
            with pytest.raises(ConnectorError, match=rf"cannot write '.*{name}': file too large \(after \d+"):
                write(writer, rows, rows)
                writer.close(True)
            writer.close(False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)
    assert os.listdir(tmp_path) == []


def test_what_is_no_regular_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    writer = sink("/dev/null", format="csv").open(SCHEMA, bounded=True)
    write(writer, batch(("a", 1)))
    writer.close(True)
    assert not os.path.isfile("/dev/null")
    target, link = tmp_path / "target.csv", tmp_path / "link.csv"
    link.symlink_to(target)
    writer = sink(link).open(SCHEMA, bounded=True)
    writer.close(True)
    assert link.is_symlink() and target.read_text() == "k,n\n"


@pytest.mark.parametrize(
    ("settings", "bounded", "kind", "message"),
    [
        ({"path": ""}, True, ConfigError, "sinks.results.path: no path is given; name the file to write"),
        ({"path": "{}/a.bin"}, True, ConfigError, "the extension of '{}/a.bin' does not say its format; set"),
        ({"path": "{}/a.csv.zip"}, True, ConfigError, "a sink cannot write a zip; use .gz or .zst"),
        ({"compression": "gz"}, True, ConfigError, "unknown compression 'gz'; did you mean 'gzip'?"),
        ({"format": "jsn"}, True, ConfigError, "sinks.results.format: unknown format 'jsn'"),
        ({"format_options": {"heder": 1}}, True, ConfigError, "did you mean 'header'?"),
        (
            {"path": "{}/a.parquet"},
            False,
            ConnectorError,
            "a Parquet file can be read only when it is finished",
        ),
        (
            {"path": "{}/a.parquet", "compression": "gzip"},
            True,
            ConfigError,
            "set format_options.compression",
        ),
        (
            {"path": "{}/a.parquet", "format_options": {"compression": "zst"}},
            True,
            ConfigError,
            "sinks.results.format_options.compression: unknown compression 'zst'; did you mean 'zstd'?",
        ),
        ({"path": "{}"}, True, ConfigError, "does not say its format"),
        ({"path": "{}", "format": "csv"}, True, ConnectorError, "cannot write '{}': is a directory"),
        ({"path": "{}/file/a.csv"}, True, ConnectorError, "cannot write '{}/file/a.csv': "),
    ],
)
def test_errors_name_the_key_the_value_and_the_way_out(
    tmp_path: Path, settings: dict[str, Any], bounded: bool, kind: type[VelostreamError], message: str
) -> None:
    (tmp_path / "file").write_text("")
    settings = {"path": "{}/out.csv"} | settings
    settings["path"] = settings["path"].replace("{}", str(tmp_path))
    with pytest.raises(kind) as caught:
        FileSink("results", FileSinkConfig(**settings)).open(SCHEMA, bounded)
    assert message.replace("{}", str(tmp_path)) in caught.value.render()
    assert os.listdir(tmp_path) == ["file"]


def test_a_stream_with_a_column_op_has_no_changelog(tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match="cannot add the column '_op'"):
        sink(tmp_path / "a.csv", changelog=True).open(pa.schema([("_op", pa.int64())]), bounded=True)
