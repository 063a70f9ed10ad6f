"""Which files a path leads to, how they are read as a source, and what is said when they cannot be."""

from __future__ import annotations

import gzip
import os
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard

from tests.batches import decode
from velostream.connectors.base import Limits
from velostream.connectors.file import FileSource, FileSourceConfig
from velostream.connectors.file.ranges import RangeReader
from velostream.connectors.file.readers import InOrderReader, StreamReader
from velostream.errors import ConfigError, ConnectorError, Problems, VelostreamError
from velostream.sql.types import BIGINT, TIMESTAMP, Field

ROWS = b'{"a": 1, "s": "x"}\n{"a": 2, "s": "y"}\n{"a": 3, "s": "z"}\n'


def source(path: object, **settings: Any) -> FileSource:
    return FileSource("trades", FileSourceConfig(path=str(path), **settings))


def rows(made: FileSource, limits: Limits = Limits()) -> list[list[dict[str, Any]]]:  # noqa: B008
    """The rows of each partition."""
    columns = made.schema.names
    partitions = []
    for partition in range(len(made.partitions())):
        decoder, reader = made.decoder(partition, columns), made.reader(partition, limits)
        assert decoder is not None
        found: list[dict[str, Any]] = []
        for block in iter(reader.read, None):
            for decoded in decode(decoder, block.load(), 1000):
                assert decoded.errors == []
                found += decoded.batch.to_pylist()
        reader.close()
        partitions.append(found)
    return partitions


def test_a_folder_gives_its_files_in_natural_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("part-10.ndjson", "part-9.ndjson", ".part-1.ndjson"):
        (tmp_path / name).write_bytes(b'{"n": "%s"}\n' % name.encode())
    (tmp_path / "folder").mkdir()
    made = source(tmp_path)
    assert [os.path.basename(name) for name in made.partitions()] == ["part-9.ndjson", "part-10.ndjson"]
    assert rows(made) == [[{"n": "part-9.ndjson"}], [{"n": "part-10.ndjson"}]]


def test_a_glob_reaches_into_folders(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "a.ndjson").write_bytes(ROWS)
    (tmp_path / "b" / "c" / "d.ndjson.gz").write_bytes(gzip.compress(ROWS))
    made = source(tmp_path / "**" / "*.ndjson*")
    assert [os.path.relpath(name, tmp_path) for name in made.partitions()] == ["a.ndjson", "b/c/d.ndjson.gz"]
    assert [len(found) for found in rows(made)] == [3, 3]


@pytest.mark.parametrize("limits", [Limits(), Limits(max_bytes=1), Limits(records=2)])
def test_plain_compressed_and_zipped_files_give_the_same_rows(tmp_path: Path, limits: Limits) -> None:
    (tmp_path / "a.ndjson").write_bytes(ROWS)
    (tmp_path / "a.ndjson.gz").write_bytes(gzip.compress(ROWS))
    (tmp_path / "a.ndjson.zst").write_bytes(zstandard.ZstdCompressor().compress(ROWS))
    with zipfile.ZipFile(tmp_path / "a.ndjson.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/a.ndjson", ROWS)
    for name in ("a.ndjson", "a.ndjson.gz", "a.ndjson.zst", "a.ndjson.zip"):
        made = source(tmp_path / name)
        assert rows(made, limits) == [[{"a": 1, "s": "x"}, {"a": 2, "s": "y"}, {"a": 3, "s": "z"}]]


def test_each_member_of_a_zip_is_a_partition(tmp_path: Path) -> None:
    path = tmp_path / "two.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("x")
        archive.writestr("x/b.ndjson", b'{"n": 1}\n')
        archive.writestr("a.ndjson", b'{"n": 2}\n{"n": 3}')
    made = source(path)
    assert made.partitions() == [f"{path}:x/b.ndjson", f"{path}:a.ndjson"]
    assert rows(made) == [[{"n": 1}], [{"n": 2}, {"n": 3}]]
    assert made.total_bytes() == 26


def test_a_damaged_zip_member_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.ndjson", ROWS)
    damaged = path.read_bytes().replace(b'"z"', b'"Z"')
    path.write_bytes(damaged)
    with pytest.raises(ConnectorError, match=r"cannot read '.*a\.zip:a\.ndjson': bad CRC-32"):
        source(path).schema  # noqa: B018
    path.write_bytes(damaged[:-30])
    with pytest.raises(ConnectorError, match=r"cannot read '.*a\.zip': file is not a zip file"):
        source(path).partitions()


def test_crlf_no_last_newline_and_empty_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "1.ndjson").write_bytes(b"")
    (tmp_path / "2.ndjson").write_bytes(b'{"a": 1}\r\n\r\n{"a": 2}')
    assert rows(source(tmp_path)) == [[], [{"a": 1}, {"a": 2}]]
    assert rows(source(tmp_path), Limits(max_bytes=2)) == [[], [{"a": 1}, {"a": 2}]]
    assert rows(source(tmp_path, schema={"a": "VARCHAR"})) == [[], [{"a": "1"}, {"a": "2"}]]


def test_only_plain_files_of_a_line_format_are_read_by_ranges(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(ROWS)
    (tmp_path / "b.ndjson.gz").write_bytes(gzip.compress(ROWS))
    made = source(tmp_path)
    kinds = [
        (0, Limits(), RangeReader),
        (0, Limits(records=1), InOrderReader),
        (1, Limits(), InOrderReader),
    ]
    for partition, limits, kind in kinds:
        reader = made.reader(partition, limits)
        assert type(reader) is kind
        reader.close()
    follower = source(tmp_path / "a.ndjson", follow=True)
    assert not follower.bounded and follower.total_bytes() is None
    reader = follower.reader(0, Limits())
    assert type(reader) is StreamReader
    reader.close()


def test_a_declared_schema_is_taken_without_looking_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(b"not json")
    made = source(path, schema={"a": "BIGINT", "t": "TIMESTAMP"}, timestamp_formats={"t": "s"})
    assert made.schema.fields == (Field("a", BIGINT), Field("t", TIMESTAMP, "s"))
    assert not made.inferred


def test_a_declared_time_format_makes_an_inferred_column_a_timestamp(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(b'{"t": 1357016400, "a": 1}\n')
    made = source(path, timestamp_formats={"t": "s"}, timezone="Europe/Paris")
    assert made.schema.fields == (Field("t", TIMESTAMP, "s"), Field("a", BIGINT))
    assert made.schema.timezone == "Europe/Paris"
    with pytest.raises(ConfigError, match=r"sources\.trades\.timestamp_formats\.u: unknown column 'u'"):
        source(path, timestamp_formats={"u": "s"}).schema  # noqa: B018


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        (
            {"path": ""},
            ConnectorError,
            "sources.trades.path: no path is given; name a file, a folder or a glob",
        ),
        (
            {"path": "{}/trade.ndjson"},
            ConnectorError,
            "no file '{}/trade.ndjson'; did you mean 'trades.ndjson'?",
        ),
        ({"path": "{}/*.csv"}, ConnectorError, "no file '{}/*.csv'; looked in '{}'"),
        ({"path": "{}/none/x.csv"}, ConnectorError, "no file '{}/none/x.csv'; looked in '{}'"),
        ({"path": "{}/empty"}, ConnectorError, "sources.trades.path: folder '{}/empty' has no files"),
        (
            {"path": "{}/a.bin"},
            ConfigError,
            "the extension of '{}/a.bin' does not say its format; set format to",
        ),
        ({"compression": "gzp"}, ConfigError, "unknown compression 'gzp'; did you mean 'gzip'?"),
        (
            {"format": "ndjsn"},
            ConfigError,
            "sources.trades.format: unknown format 'ndjsn'; did you mean 'ndjson'?",
        ),
        (
            {"format_options": {"max_dept": 3}},
            ConfigError,
            "sources.trades.format_options.max_dept: unknown key 'max_dept' in "
            "'sources.trades.format_options'; did you mean 'max_depth'?",
        ),
        (
            {"format_options": {"max_depth": "deep"}},
            ConfigError,
            "'sources.trades.format_options.max_depth' is 'deep', expected",
        ),
        ({"compression": "gzip"}, ConnectorError, "cannot read '{}/trades.ndjson': "),
        ({"compression": "zip"}, ConnectorError, "cannot read '{}/trades.ndjson': file is not a zip file"),
    ],
)
def test_errors_name_the_key_the_value_and_the_way_out(
    tmp_path: Path, settings: dict[str, Any], kind: type[VelostreamError], message: str
) -> None:
    (tmp_path / "trades.ndjson").write_bytes(ROWS)
    (tmp_path / "a.bin").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    settings = {"path": "{}/trades.ndjson"} | settings
    settings["path"] = settings["path"].replace("{}", str(tmp_path))
    with pytest.raises(kind) as caught:
        FileSource("trades", FileSourceConfig(**settings)).schema  # noqa: B018
    assert message.replace("{}", str(tmp_path)) in caught.value.render()


def test_all_wrong_options_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(ROWS)
    with pytest.raises(Problems) as caught:
        source(path, format_options={"depth": 1, "max_depth": "x"}).schema  # noqa: B018
    assert len(caught.value.errors) == 2


def test_files_without_rows_need_a_declared_schema(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(b"")
    with pytest.raises(ConnectorError, match=r"no schema can be inferred from '.*': it is empty; declare"):
        source(tmp_path).schema  # noqa: B018


def test_files_of_two_formats_are_not_one_source(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(ROWS)
    (tmp_path / "b.csv").write_bytes(b"a\n1\n")
    with pytest.raises(ConfigError, match=r"a\.ndjson' and '.*b\.csv' have different formats; read them as"):
        source(tmp_path).schema  # noqa: B018


def test_a_compressed_file_cannot_be_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson.gz"
    path.write_bytes(gzip.compress(ROWS))
    with pytest.raises(ConfigError, match=r"cannot be followed: it is compressed \(gzip\)"):
        source(path, follow=True).partitions()


def test_it_describes_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson.gz"
    path.write_bytes(gzip.compress(ROWS))
    assert source(path).describe() == {
        "kind": "file",
        "path": str(path),
        "format": "ndjson",
        "compression": "gzip",
        "partitions": "1",
        "reading": "bounded",
    }
    assert source(path).schema.arrow() == pa.schema([("a", pa.int64()), ("s", pa.string())])
