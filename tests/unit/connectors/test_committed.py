"""A committed reader gives each committed row once, and no other, whenever it looks."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import velostream
from velostream.connectors.base import SinkWriter
from velostream.connectors.file import FileSink, FileSinkConfig, committed
from velostream.errors import ConnectorError
from velostream.operators.batch import Batch

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])
ROLLING = {"roll_size": "600", "roll_interval": "0s"}
SINKS: dict[str, dict[str, Any]] = {
    "out.ndjson": {},
    "out.csv.gz": {},
    "out.ndjson.zst": {},
    "out.parquet": {},
    "out-{part}.parquet": {"format_options": ROLLING},
    "hourly-{part}.parquet": {"format_options": {"roll_interval": "1h"}},
}


def sink(path: Path, **settings: Any) -> FileSink:
    return FileSink("results", FileSinkConfig(path=str(path), **settings))


def write(writer: SinkWriter, ids: range) -> None:
    columns = [pa.array(ids, pa.int64()), pa.array([f"row {id}" for id in ids])]
    writer.write(writer.encode(Batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))), len(ids))


def commit(writer: SinkWriter) -> Any:
    token = writer.cut()
    writer.prepare(token)
    writer.publish(token)
    return token


def ids_of(pieces: list[Any]) -> list[int]:
    ids: list[int] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            assert piece.endswith(b"\n")
            lines = [line for line in piece.decode().splitlines() if line != "id,text"]
            ids += [json.loads(line)["id"] if line[0] == "{" else int(line.split(",")[0]) for line in lines]
        else:
            assert piece.num_rows
            ids += piece["id"].to_pylist()
    return ids


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("name", SINKS)
@given(steps=st.lists(st.sampled_from(["write", "write", "commit", "look", "restart"]), max_size=14))
@settings(max_examples=12, deadline=None)
def test_followed_rows_are_the_committed_ones(
    tmp_path_factory: pytest.TempPathFactory, name: str, bounded: bool, steps: list[str]
) -> None:
    if name == "out.parquet":
        bounded = True
    path = tmp_path_factory.mktemp("out") / name
    # It may be there first.
    reader = velostream.committed(path)
    writer = sink(path, **SINKS[name]).open(SCHEMA, bounded)
    saved = commit(writer)
    pieces: list[Any] = []
    written = done = 0
    for step in [*steps, "write", "commit", "look"]:
        if step == "write":
            write(writer, range(written, written + 9))
            written += 9
        elif step == "commit":
            saved, done = commit(writer), written
        elif step == "look":
            pieces += reader.follow(timeout=0)
            assert ids_of(pieces) == list(range(done))
        else:
            writer.close(False)
            writer = sink(path, **SINKS[name]).open(SCHEMA, bounded, saved)
            written = done
    if not reader.complete:
        epoch = reader.epoch
        writer.close(True)
        pieces += reader.follow(timeout=0)
        assert ids_of(pieces) == list(range(done))
        assert (reader.complete, reader.epoch) == (bounded or name.endswith(".parquet"), epoch)
    rows = reader.read()
    assert ids_of([rows]) == list(range(done))


def test_a_follower_waits_and_ends_with_the_job(tmp_path: Path) -> None:
    path = tmp_path / "out.ndjson"
    with ThreadPoolExecutor(1) as pool:
        reader = velostream.committed(path)
        first = pool.submit(lambda: next(reader.follow()))
        writer = sink(path).open(SCHEMA, bounded=True)
        write(writer, range(3))
        commit(writer)
        assert ids_of([first.result(60)]) == [0, 1, 2]
        rest = pool.submit(lambda: list(reader.follow()))
        write(writer, range(3, 5))
        commit(writer)
        writer.close(True)
        assert ids_of(rest.result(60)) == [3, 4]


def test_text_comes_in_pieces_that_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committed, "CHUNK_BYTES", 40)
    for name in ("out.ndjson", "out.ndjson.gz", "out.ndjson.zst"):
        writer = sink(tmp_path / name).open(SCHEMA, bounded=True)
        write(writer, range(20))
        commit(writer)
        writer.close(True)
        pieces = list(velostream.committed(tmp_path / name).follow())
        assert max(map(len, pieces)) < 80
        assert ids_of(pieces) == list(range(20))


def test_a_record_may_hold_any_sign_but_a_newline(tmp_path: Path) -> None:
    writer = sink(tmp_path / "out.ndjson").open(pa.schema([("s", pa.string())]), bounded=True)
    texts = ["a\r", "b\u2028c\x0b", "", "\n"]
    writer.write(writer.encode(Batch(pa.record_batch({"s": texts}))), len(texts))
    commit(writer)
    lines = velostream.committed(tmp_path / "out.ndjson").lines()
    assert [json.loads(line)["s"] for line in lines] == texts
    writer.close(True)


def test_a_file_that_got_its_name_meanwhile_is_found(tmp_path: Path) -> None:
    path = tmp_path / "out.ndjson"
    writer = sink(path).open(SCHEMA, bounded=True)
    write(writer, range(3))
    commit(writer)
    said = (tmp_path / ".out.ndjson.committed").read_bytes()
    writer.close(True)
    # As when the job is killed between the two.
    (tmp_path / ".out.ndjson.committed").write_bytes(said)
    assert ids_of([velostream.committed(path).read()]) == [0, 1, 2]


def test_what_is_not_known_to_be_committed_is_not_read(tmp_path: Path) -> None:
    for name in ("out.ndjson", "out.parquet", "out"):
        reader = velostream.committed(tmp_path / name)
        assert (reader.epoch, reader.complete) == (0, False)
        assert list(reader.follow(timeout=0)) == []
        with pytest.raises(ConnectorError) as caught:
            reader.read()
        assert caught.value.render() == (
            f"nothing is known to be committed of '{tmp_path / name}'; "
            "its job commits with delivery=exactly_once or at_least_once"
        )


@pytest.mark.parametrize("name", ["out.ndjson", "out-{part}.parquet"])
def test_rows_that_were_given_and_are_no_more_are_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    options = SINKS.get(name, {})
    writer = sink(path, **options).open(SCHEMA, bounded=False)
    tokens = []
    for begin in range(0, 20, 10):
        write(writer, range(begin, begin + 10))
        tokens.append(commit(writer))
    writer.close(False)
    reader = velostream.committed(path)
    list(reader.follow(timeout=0))
    sink(path, **options).open(SCHEMA, False, tokens[0]).close(False)
    with pytest.raises(
        ConnectorError, match=r"has changed since the last commit: \d+ (bytes|files) are committed"
    ):
        list(reader.follow(timeout=0))
    assert ids_of([velostream.committed(path).read()]) == list(range(10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b""), "has changed since the last commit: it has 0 bytes, "),
        (lambda path: path.unlink(), "has changed since the last commit: it is gone, "),
        (lambda path: path.write_bytes(b"x" * 1000), "are not those that were committed"),
    ],
)
def test_a_file_that_is_not_what_was_committed_is_an_error(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "out.ndjson"
    writer = sink(path).open(SCHEMA, bounded=False)
    write(writer, range(3))
    commit(writer)
    writer.close(False)
    change(path)
    with pytest.raises(ConnectorError) as caught:
        velostream.committed(path).read()
    assert f"'{path}' " in caught.value.message and message in caught.value.message


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"", "is damaged: Expecting value"),
        (b"\xff", "is damaged: "),
        (b"[]", "is not of version 1; read it with the velostream that wrote it"),
        (b'{"version": 2}', "is not of version 1"),
    ],
)
def test_a_sidecar_that_cannot_be_understood_is_an_error(tmp_path: Path, said: bytes, message: str) -> None:
    place = tmp_path / ".out.ndjson.committed"
    place.write_bytes(said)
    with pytest.raises(ConnectorError) as caught:
        velostream.committed(tmp_path / "out.ndjson")
    assert f"'{place}' {message}" in caught.value.render()
    # The job that writes it does not mind.
    writer = sink(tmp_path / "out.ndjson").open(SCHEMA, bounded=True)
    commit(writer)
    assert velostream.committed(tmp_path / "out.ndjson").read() == b""
    writer.close(False)


def test_a_folder_of_parts_is_read_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "trades"
    os.mkdir(folder)
    options = {"format": "parquet", "format_options": ROLLING}
    writer = sink(folder, **options).open(SCHEMA, bounded=True)
    write(writer, range(3))
    commit(writer)
    write(writer, range(3, 5))
    commit(writer)
    for path in (folder, f"{folder}/", folder / "part-{part}.parquet"):
        assert ids_of([velostream.committed(path).read()]) == [0, 1, 2, 3, 4]
    writer.close(True)


@pytest.mark.parametrize("name", ["out.ndjson", "out.ndjson.gz", "out.parquet"])
def test_a_follower_that_stopped_within_a_commit_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(committed, "CHUNK_BYTES", 40)
    path = tmp_path / name
    writer = sink(path).open(SCHEMA, bounded=True)
    reader = velostream.committed(path)
    pieces = []
    for begin in range(0, 30, 10):
        write(writer, range(begin, begin + 5))
        write(writer, range(begin + 5, begin + 10))
        commit(writer)
        pieces.append(next(reader.follow()))
    writer.close(True)
    pieces += reader.follow()
    assert ids_of(pieces) == list(range(30))
