"""What a file sink does when disks are full, files are gone, or the job that goes on is another one."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import velostream
from velostream.connectors.base import SinkWriter
from velostream.connectors.console import ConsoleSink, ConsoleSinkConfig
from velostream.connectors.discard import DiscardSink, DiscardSinkConfig
from velostream.connectors.file import FileSink, FileSinkConfig, parquet_parts
from velostream.connectors.memory import MemorySink
from velostream.errors import ConfigError, ConnectorError
from velostream.operators.batch import Batch

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])
HINT = "; bring back what was there, or begin afresh with state=reset"


def sink(path: Path | str, **settings: Any) -> FileSink:
    return FileSink("results", FileSinkConfig(path=str(path), **settings))


def batch(ids: range, length: int = 1) -> Batch:
    """Texts of `length` bytes, all different where there is room for that."""
    columns = [pa.array(ids, pa.int64()), pa.array([f"{id}".rjust(length, "x")[-length:] for id in ids])]
    return Batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))


def write(writer: SinkWriter, ids: range, length: int = 1) -> None:
    writer.write(writer.encode(batch(ids, length)), len(ids))


def commit(writer: SinkWriter) -> Any:
    token = json.loads(json.dumps(writer.cut()))
    writer.prepare(token)
    writer.publish(token)
    return token


def ids_of(path: Path) -> list[int]:
    if path.suffix == ".parquet":
        return pq.read_table(path, partitioning=None)["id"].to_pylist()
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def refusal(path: Path, token: Any, bounded: bool = False, **settings: Any) -> str:
    with pytest.raises(ConnectorError) as caught:
        sink(path, **settings).open(SCHEMA, bounded, token)
    return caught.value.render()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a full disk: no file can become larger."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, former)


# --- full disks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.ndjson", "out.parquet"])
def test_every_step_can_be_repeated_when_there_is_room_again(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    writer = sink(path, format_options={"compression": "none"} if name == "out.parquet" else {}).open(
        SCHEMA, bounded=True
    )
    write(writer, range(100), 100)
    payload = writer.encode(batch(range(100, 200), 100))
    with files_of_at_most(15_000):
        for _ in range(2):
            with pytest.raises(
                ConnectorError, match=rf"cannot write '{path}': file too large \(after \d{{5}} by"
            ):
                writer.write(payload, 100)
    writer.write(payload, 100)
    token = writer.cut()
    writer.prepare(token)
    with files_of_at_most(10):
        for _ in range(2):
            with pytest.raises(
                ConnectorError, match=rf"cannot write '{tmp_path}/\.{name}\.committed': file too"
            ):
                writer.publish(token)
    writer.publish(token)
    with files_of_at_most(10):
        for _ in range(2):
            with pytest.raises(ConnectorError, match="file too large"):
                writer.close(True)
    writer.close(True)
    assert ids_of(path) == list(range(200))
    assert sorted(os.listdir(tmp_path)) == [f".{name}.committed", name]


def test_a_parquet_file_that_finds_no_room_is_made_again(tmp_path: Path) -> None:
    settings = {"format_options": {"roll_interval": "0s", "compression": "none"}}
    writer = sink(tmp_path / "out-{part}.parquet", **settings).open(SCHEMA, bounded=False)
    write(writer, range(100), 100)
    token = writer.cut()
    with files_of_at_most(5000):
        for _ in range(2):
            with pytest.raises(
                ConnectorError, match=r"cannot write '.*out-000001\.parquet': file too large \(after"
            ):
                writer.prepare(token)
    # What was made in vain has given its room back.
    assert os.listdir(tmp_path) == [".out-000001.parquet.spool"]
    writer.prepare(token)
    writer.publish(token)
    assert ids_of(tmp_path / "out-000001.parquet") == list(range(100))
    writer.close(False)


def test_what_could_not_be_made_durable_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.ndjson"
    writer = sink(path).open(SCHEMA, bounded=True)
    write(writer, range(3))
    saved = commit(writer)
    write(writer, range(3, 6))
    token = writer.cut()

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    message = rf"cannot make durable '{path}': no space left on device \(after \d+ bytes\); make room"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(ConnectorError, match=message):
            writer.prepare(token)
    # The kernel would say now that all is well.
    for _ in range(2):
        with pytest.raises(ConnectorError, match=message):
            writer.prepare(token)
    writer.close(False)
    writer = sink(path).open(SCHEMA, True, saved)
    write(writer, range(3, 6))
    commit(writer)
    writer.close(True)
    assert ids_of(path) == list(range(6))


# --- files that have changed --------------------------------------------------------------------


def test_an_appended_file_is_gone_on_with_only_where_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "out.ndjson"
    path.write_text('{"id":-1}\n')
    writer = sink(path).open(SCHEMA, bounded=False)
    write(writer, range(3))
    token = commit(writer)
    write(writer, range(3, 6))
    writer.close(False)
    length, text = token["length"], path.read_text()
    committed = text[:length]

    path.write_text(text[: length - 1])
    changed = (
        f"'{path}' has changed since the last commit: it has {length - 1} bytes, {length} had been committed"
    )
    assert refusal(path, token) == changed + HINT
    path.write_text(text.replace("2", "7"))
    assert f"the bytes before byte {length} are not those that were committed" in refusal(path, token)
    # A copy is as good.
    path.unlink()
    assert refusal(path, token).endswith(f"it is gone, {length} bytes had been committed" + HINT)
    path.write_text(text)
    writer = sink(path).open(SCHEMA, False, token)
    assert path.read_text() == committed
    writer.close(False)
    assert [json.loads(line)["id"] for line in committed.splitlines()] == [-1, 0, 1, 2]


@pytest.mark.parametrize(("name", "kind"), [("out.ndjson", "part"), ("out.parquet", "spool")])
def test_a_hidden_file_that_is_gone_is_missed(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    path.write_text("before, and more than the hidden file has" * 100)
    writer = sink(path).open(SCHEMA, bounded=True)
    write(writer, range(3))
    token = commit(writer)
    writer.close(False)
    os.unlink(tmp_path / f".{name}.{kind}")
    with pytest.raises(
        ConnectorError, match=r"has changed since the last commit: .*; bring back what was there, or"
    ):
        sink(path).open(SCHEMA, True, token)
    assert path.read_text().startswith("before")


@pytest.mark.parametrize("bounded", [True, False])
def test_one_job_at_a_time_writes_a_file(tmp_path: Path, bounded: bool) -> None:
    path = tmp_path / "out.ndjson"
    writer = sink(path).open(SCHEMA, bounded)
    write(writer, range(3))
    token = commit(writer)
    for resume in (None, token):
        assert refusal(path, resume, bounded).startswith(
            f"'{path}' is being written by another job; wait until"
        )
    write(writer, range(3, 6))
    commit(writer)
    writer.close(True)
    assert ids_of(path) == list(range(6))
    sink(path).open(SCHEMA, bounded).close(True)


def test_rows_of_another_layout_do_not_go_behind_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    writer = sink(path).open(SCHEMA, bounded=True)
    token = commit(writer)
    writer.close(False)
    with pytest.raises(
        ConnectorError, match=r"was written with columns \['id int64', 'text string'\] until the"
    ):
        sink(path).open(pa.schema([("id", pa.int64())]), True, token)
    assert "was written with format csv until the last commit, and is ndjson now" in refusal(
        path, token, True, format="ndjson"
    )
    assert "the input of its job had an end" in refusal(path, token, bounded=False)
    lines = tmp_path / "out.ndjson"
    writer = sink(lines).open(SCHEMA, bounded=True)
    write(writer, range(1))
    token = commit(writer)
    writer.close(False)
    # Records of NDJSON name their columns.
    writer = sink(lines).open(pa.schema([("n", pa.int64())]), True, token)
    writer.write(writer.encode(Batch(pa.record_batch({"n": [1]}))), 1)
    writer.close(True)
    assert lines.read_text() == '{"id":0,"text":"0"}\n{"n":1}\n'


def test_rows_that_nobody_has_seen_come_along_to_another_path(tmp_path: Path) -> None:
    former, path = tmp_path / "a" / "out.ndjson", tmp_path / "b" / "out.ndjson"
    writer = sink(former).open(SCHEMA, bounded=True)
    write(writer, range(3))
    token = commit(writer)
    write(writer, range(3, 6))
    writer.close(False)
    # A start that dies before its first commit changes nothing for the next one.
    for _ in range(2):
        writer = sink(path).open(SCHEMA, True, token)
        writer.publish(token)
        write(writer, range(3, 5))
        writer.close(False)
    writer = sink(path).open(SCHEMA, True, token)
    write(writer, range(3, 5))
    commit(writer)
    writer.close(True)
    assert ids_of(path) == list(range(5))
    assert os.listdir(former.parent) == []


def test_rows_that_were_seen_stay_where_they_are(tmp_path: Path) -> None:
    former, path = tmp_path / "a.ndjson", tmp_path / "b.ndjson"
    writer = sink(former).open(SCHEMA, bounded=False)
    write(writer, range(3))
    token = commit(writer)
    write(writer, range(3, 6))
    writer.close(False)
    writer = sink(path).open(SCHEMA, False, token)
    write(writer, range(3, 6))
    commit(writer)
    writer.close(False)
    assert ids_of(former) == [0, 1, 2]
    assert ids_of(path) == [3, 4, 5]


# --- complete or not ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_readers_find_the_former_file_until_the_new_one_is_complete(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("before")
    writer = sink(path).open(SCHEMA, bounded=True)
    for begin in range(0, 9, 3):
        write(writer, range(begin, begin + 3))
        token = commit(writer)
        writer.close(False)
        assert path.read_text() == "before"
        writer = sink(path).open(SCHEMA, True, token)
    writer.close(True)
    assert path.stat().st_size > 20
    assert sorted(os.listdir(tmp_path)) == [f".{name}.committed", name]


def test_a_run_that_does_not_commit_leaves_no_word_of_a_former_one(tmp_path: Path) -> None:
    path = tmp_path / "out.ndjson"
    writer = sink(path).open(SCHEMA, bounded=True)
    write(writer, range(9))
    commit(writer)
    writer.close(True)
    assert velostream.committed(path).complete
    writer = sink(path).open(SCHEMA, bounded=True)
    write(writer, range(2))
    assert velostream.committed(path).complete
    writer.close(True)
    assert os.listdir(tmp_path) == ["out.ndjson"]


def test_what_an_unfinished_run_has_left_is_taken_away_by_one_that_begins_afresh(tmp_path: Path) -> None:
    for name in ("out.ndjson", "out.parquet", "out-{part}.parquet"):
        writer = sink(tmp_path / name).open(SCHEMA, bounded=True)
        write(writer, range(9))
        commit(writer)
        writer.close(False)
        writer = sink(tmp_path / name).open(SCHEMA, bounded=True)
        write(writer, range(2))
        writer.close(True)
        assert ids_of(tmp_path / name.replace("{part}", "000001")) == [0, 1]
    assert [entry for entry in os.listdir(tmp_path) if entry.startswith(".")] == []


# --- numbered Parquet files ---------------------------------------------------------------------


def numbered(folder: Path) -> dict[str, list[int]]:
    return {path.name: ids_of(path) for path in sorted(folder.glob("*.parquet"))}


def test_a_folder_gets_files_of_the_size_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    options = {"roll_size": "2KiB"}
    writer = sink(f"{folder}/", format="parquet", format_options=options).open(SCHEMA, bounded=True)
    for begin in range(0, 50, 10):
        write(writer, range(begin, begin + 10), 100)
    # Full ones are made at once: a job that does not commit comes to that nowhere else.
    made = sorted(entry for entry in os.listdir(folder) if entry.endswith(".part"))
    assert made == [".part-000001.parquet.part", ".part-000002.parquet.part"]
    assert numbered(folder) == {}
    writer.close(True)
    assert numbered(folder) == {
        "part-000001.parquet": list(range(20)),
        "part-000002.parquet": list(range(20, 40)),
        "part-000003.parquet": list(range(40, 50)),
    }
    assert writer.bytes_written == sum(path.stat().st_size for path in folder.iterdir())
    assert writer.location == f"{folder}/part-{{part}}.parquet"
    there = f"there are files already at '{folder}/part-{{part}}.parquet' ('{folder}/part-000003.parquet')"
    assert refusal(folder, None, True, format="parquet").startswith(there)


def test_endless_files_are_shown_by_commits_and_go_on_behind_the_last_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(parquet_parts.time, "monotonic", lambda: now)
    path = tmp_path / "out-{part}.parquet"
    for first in (0, 100):
        assert sink(path).shows_by_commits
        writer = sink(path, format_options={"roll_interval": "10s"}).open(SCHEMA, bounded=False)
        before = numbered(tmp_path)
        write(writer, range(first, first + 3))
        now += 9
        commit(writer)
        write(writer, range(first + 3, first + 5))
        now += 1
        assert numbered(tmp_path) == before
        commit(writer)
        write(writer, range(first + 5, first + 6))
        now += 9
        token = commit(writer)
        writer.close(False)
        # The last row waits for its file in a spool, which the next start goes on with.
        assert len(numbered(tmp_path)) == len(before) + 1
        writer = sink(path, format_options={"roll_interval": "10s"}).open(SCHEMA, False, token)
        now += 10
        commit(writer)
        writer.close(False)
    assert numbered(tmp_path) == {
        "out-000001.parquet": [0, 1, 2, 3, 4],
        "out-000002.parquet": [5],
        "out-000003.parquet": [100, 101, 102, 103, 104],
        "out-000004.parquet": [105],
    }


def test_an_older_token_takes_back_files_too(tmp_path: Path) -> None:
    path = tmp_path / "out-{part}.parquet"
    settings = {"format_options": {"roll_interval": "0s"}}
    writer = sink(path, **settings).open(SCHEMA, bounded=False)
    tokens = []
    for begin in range(0, 9, 3):
        write(writer, range(begin, begin + 3))
        tokens.append(commit(writer))
    writer.close(False)
    assert len(numbered(tmp_path)) == 3
    writer = sink(path, **settings).open(SCHEMA, False, tokens[0])
    assert numbered(tmp_path) == {"out-000001.parquet": [0, 1, 2]}
    write(writer, range(10, 12))
    commit(writer)
    writer.close(False)
    assert numbered(tmp_path) == {"out-000001.parquet": [0, 1, 2], "out-000002.parquet": [10, 11]}


def test_a_bounded_job_without_rows_leaves_one_file_that_says_so(tmp_path: Path) -> None:
    writer = sink(tmp_path / "out-{part}.parquet").open(SCHEMA, bounded=True)
    commit(writer)
    writer.close(True)
    assert numbered(tmp_path) == {"out-000001.parquet": []}
    assert velostream.committed(tmp_path / "out-{part}.parquet").read().schema == SCHEMA


def test_a_complete_parquet_file_takes_no_more_rows(tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    writer = sink(path).open(SCHEMA, bounded=True)
    write(writer, range(3))
    token = commit(writer)
    writer.close(True)
    # The job was stopped before it could forget its state.
    writer = sink(path).open(SCHEMA, True, token)
    assert commit(writer)["epoch"] == token["epoch"]
    with pytest.raises(
        ConnectorError, match=r"is complete, and its job goes on; begin afresh with state=reset"
    ):
        write(writer, range(3, 6))
    writer.close(True)
    assert ids_of(path) == [0, 1, 2]


@pytest.mark.parametrize(
    ("path", "settings", "message"),
    [
        (
            "out-{part}/a.parquet",
            {},
            "sinks.results.path: 'out-{part}/a.parquet' is no pattern; write {part} once",
        ),
        ("{part}-{part}.parquet", {}, "'{part}-{part}.parquet' is no pattern"),
        (
            "a.parquet",
            {"roll_size": "big"},
            "sinks.results.format_options.roll_size: 'big' is not a size; write",
        ),
        (
            "a.parquet",
            {"roll_interval": "1"},
            "sinks.results.format_options.roll_interval: '1' is not a duration",
        ),
    ],
)
def test_wrong_settings_are_named(path: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sink(path, format_options=settings).open(SCHEMA, bounded=True)
    assert caught.value.render().startswith(message) or message in caught.value.render()


# --- what is promised ---------------------------------------------------------------------------


def test_sinks_promise_what_they_can(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    promised = {
        "text": sink(tmp_path / "out.csv.gz"),
        "parquet": sink(tmp_path / "out.parquet"),
        "pipe": sink(tmp_path / "pipe", format="csv"),
        "nothing kept": DiscardSink("out", DiscardSinkConfig()),
        "lines": ConsoleSink("out", ConsoleSinkConfig(style="lines")),
        "table": ConsoleSink("out", ConsoleSinkConfig()),
        "memory": MemorySink("out"),
    }
    assert {name: sink.delivery for name, sink in promised.items()} == {
        "text": "exactly_once",
        "parquet": "exactly_once",
        "pipe": "at_least_once",
        "nothing kept": "exactly_once",
        "lines": "at_least_once",
        "table": "best_effort",
        "memory": "best_effort",
    }
    assert [name for name, sink in promised.items() if sink.shows_by_commits] == []


def test_lines_on_a_terminal_have_left_before_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(shown, write_through=False))
    writer = ConsoleSink("out", ConsoleSinkConfig(style="lines")).open(SCHEMA, bounded=False)
    write(writer, range(1))
    assert shown.getvalue() == b""
    commit(writer)
    assert shown.getvalue() == b'{"id":0,"text":"0"}\n'


def test_files_made_before_the_first_commit_are_shown_by_it(tmp_path: Path) -> None:
    path = tmp_path / "out-{part}.parquet"
    writer = sink(path, format_options={"roll_size": "2KiB"}).open(SCHEMA, bounded=False)
    for begin in range(0, 50, 10):
        write(writer, range(begin, begin + 10), 100)
    assert numbered(tmp_path) == {}
    token = commit(writer)
    assert list(numbered(tmp_path)) == ["out-000001.parquet", "out-000002.parquet"]
    writer.close(False)
    writer = sink(path, format_options={"roll_size": "2KiB"}).open(SCHEMA, False, token)
    writer.close(True)
    assert [id for ids in numbered(tmp_path).values() for id in ids] == list(range(50))


def test_a_start_that_dies_while_it_copies_a_complete_file_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.ndjson"
    writer = sink(path).open(SCHEMA, bounded=True)
    write(writer, range(100))
    token = commit(writer)
    writer.close(True)
    with files_of_at_most(500):
        assert f"cannot write '{path}': file too large" in refusal(path, token, True)
    writer = sink(path).open(SCHEMA, True, token)
    write(writer, range(100, 103))
    commit(writer)
    assert ids_of(path) == list(range(100))
    writer.close(True)
    assert ids_of(path) == list(range(103))
    assert sorted(os.listdir(tmp_path)) == [".out.ndjson.committed", "out.ndjson"]


@pytest.mark.parametrize("name", ["out.ndjson", "out.parquet", "out-{part}.parquet"])
def test_a_run_that_begins_afresh_is_not_taken_for_the_former_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    writer = sink(path).open(SCHEMA, bounded=True)
    write(writer, range(3))
    commit(writer)
    writer.close(False)
    writer = sink(path).open(SCHEMA, bounded=True)
    assert velostream.committed(path).epoch == 0
    write(writer, range(10, 12))
    commit(writer)
    writer.close(True)
    assert ids_of(path.with_name(name.replace("{part}", "000001"))) == [10, 11]


def test_a_spool_that_is_damaged_is_an_error_and_no_file(tmp_path: Path) -> None:
    writer = sink(tmp_path / "out-{part}.parquet", format_options={"roll_interval": "0s"}).open(SCHEMA, False)
    write(writer, range(100))
    token = writer.cut()
    spool = tmp_path / ".out-000001.parquet.spool"
    data = spool.read_bytes()
    spool.write_bytes(data[:-100])
    with pytest.raises(ConnectorError, match=rf"cannot read '{spool}': "):
        writer.prepare(token)
    assert os.listdir(tmp_path) == [spool.name]
    spool.write_bytes(data)
    writer.prepare(token)
    writer.publish(token)
    writer.close(True)
    assert numbered(tmp_path) == {"out-000001.parquet": list(range(100))}
