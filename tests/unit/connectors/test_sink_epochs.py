"""Rows of file sinks are there once, however often the job is killed between two commits."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import velostream
from velostream import faults
from velostream.connectors.base import SinkWriter
from velostream.connectors.file import FileSink, FileSinkConfig
from velostream.operators.batch import Batch

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])
# Small enough for a new Parquet file every few batches.
ROLLING = {"roll_size": "600", "roll_interval": "0s"}
SINKS: dict[str, dict[str, Any]] = {
    "out.ndjson": {},
    "out.csv": {},
    "out.csv.gz": {},
    "out.ndjson.zst": {},
    "out.parquet": {},
    "out-{part}.parquet": {"format_options": ROLLING},
    "hourly-{part}.parquet": {"format_options": {"roll_interval": "1h"}},
}
TEXT = [name for name in SINKS if not name.endswith("parquet")]
UNBOUNDED = [name for name in SINKS if name != "out.parquet"]
RUNS = [(name, True) for name in SINKS] + [(name, False) for name in UNBOUNDED]
KILLED = ("out.ndjson", "out.csv.gz", "out.parquet", "out-{part}.parquet")
STEPS_KILLED = ("write", "fsync", "publish", "complete")
POINTS = [f"{when}_{step}" for step in STEPS_KILLED for when in ("before", "after")] + ["within_complete"]


def sink(folder: Path, name: str, **settings: Any) -> FileSink:
    return FileSink("results", FileSinkConfig(path=str(folder / name), **{**SINKS[name], **settings}))


def write(writer: SinkWriter, ids: range) -> None:
    columns = [pa.array(ids, pa.int64()), pa.array([f"row {id}" for id in ids])]
    batch = Batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
    writer.write(writer.encode(batch), len(ids))


def commit(writer: SinkWriter) -> Any:
    token = json.loads(json.dumps(writer.cut()))
    writer.prepare(token)
    writer.publish(token)
    return token


def ids_in(text: bytes) -> list[int]:
    """Of NDJSON, or of CSV whose header comes first."""
    lines = text.decode().splitlines()
    if lines and lines[0].startswith("{"):
        return [json.loads(line)["id"] for line in lines]
    assert lines[:1] in ([], ["id,text"])
    return [int(line.split(",")[0]) for line in lines[1:]]


def committed_ids(path: Path) -> list[int]:
    reader = velostream.committed(path)
    if not reader.epoch:
        return []
    rows = reader.read()
    return rows["id"].to_pylist() if isinstance(rows, pa.Table) else ids_in(rows)


def forget(writer: SinkWriter) -> None:
    """What a kill does: files are closed as they are."""
    target: Any = writer._target  # type: ignore[attr-defined]
    spools = getattr(target, "_spools", None)
    for file in [target._file] if spools is None else spools.values():
        file._file.close()


@pytest.mark.parametrize("name", TEXT)
@pytest.mark.parametrize("bounded", [True, False])
def test_a_failure_leaves_the_file_as_the_last_commit_made_it(
    tmp_path: Path, name: str, bounded: bool
) -> None:
    file = tmp_path / (f".{name}.part" if bounded else name)
    writer = sink(tmp_path, name).open(SCHEMA, bounded)
    commit(writer)
    empty = file.read_bytes()
    write(writer, range(5))
    # Cut, and not prepared: nobody can have committed it.
    writer.cut()
    writer.close(False)
    assert file.read_bytes() == empty
    writer = sink(tmp_path, name).open(SCHEMA, bounded)
    commit(writer)
    write(writer, range(5))
    saved = commit(writer)
    once = file.read_bytes()
    write(writer, range(5, 9))
    # Prepared: it may have been committed, and is needed then.
    token = json.loads(json.dumps(writer.cut()))
    writer.prepare(token)
    twice = file.read_bytes()
    write(writer, range(9, 12))
    writer.close(False)
    assert len(once) < len(twice) and file.read_bytes() == twice
    writer = sink(tmp_path, name).open(SCHEMA, bounded, saved)
    write(writer, range(20, 22))
    writer.close(False)
    assert file.read_bytes() == once


STEPS = st.lists(st.sampled_from(["write", "write", "commit", "prepare", "cut", "kill", "stop"]), max_size=14)


@pytest.mark.parametrize(("name", "bounded"), RUNS)
@given(steps=STEPS)
@settings(max_examples=12, deadline=None)
def test_a_restart_goes_on_behind_the_last_commit(
    tmp_path_factory: pytest.TempPathFactory, name: str, bounded: bool, steps: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("out")
    path = folder / name
    written = committed = 0
    writer = sink(folder, name).open(SCHEMA, bounded)
    # Without it an endless job would begin behind the rows of one that was killed before its first commit.
    saved: Any = None if bounded else commit(writer)
    for step in steps:
        if step == "write":
            write(writer, range(written, written + 7))
            written += 7
        elif step in ("cut", "prepare", "commit"):
            # What is cut and not committed did not happen.
            token = json.loads(json.dumps(writer.cut()))
            if step != "cut":
                writer.prepare(token)
            if step == "commit":
                saved, committed = token, written
                writer.publish(token)
                writer.publish(token)
                assert committed_ids(path) == list(range(committed))
        else:
            if step == "kill" or saved is None:
                forget(writer)
            else:
                writer.close(False)
            writer = sink(folder, name).open(SCHEMA, bounded, saved)
            if saved is not None:
                writer.publish(saved)
                assert committed_ids(path) == list(range(committed))
            written = committed
    write(writer, range(written, written + 7))
    commit(writer)
    writer.close(True)
    assert committed_ids(path) == list(range(written + 7))
    assert velostream.committed(path).complete or (not bounded and name in TEXT)
    hidden = [entry for entry in os.listdir(folder) if entry.startswith(".")]
    assert [entry for entry in hidden if not entry.endswith(".committed")] == []


@pytest.mark.parametrize("name", ["out.ndjson", "out.csv.gz", "out.parquet", "out-{part}.parquet"])
def test_rows_are_written_while_others_are_committed_and_read(tmp_path: Path, name: str) -> None:
    writer = sink(tmp_path, name).open(SCHEMA, bounded=True)
    tokens: SimpleQueue[Any] = SimpleQueue()

    def commit_all() -> None:
        while (token := tokens.get()) is not None:
            writer.prepare(token)
            writer.publish(token)

    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(lambda: list(velostream.committed(tmp_path / name).follow()))
        committing = pool.submit(commit_all)
        for number in range(120):
            write(writer, range(number * 7, number * 7 + 7))
            if number % 3 == 2:
                tokens.put(writer.cut())
        tokens.put(None)
        committing.result(60)
        writer.close(True)
        pieces = reading.result(60)
    if isinstance(pieces[0], bytes):
        ids = ids_in(b"".join(pieces))
    else:
        ids = pa.Table.from_batches(pieces)["id"].to_pylist()
    assert ids == list(range(840))


# --- killed -------------------------------------------------------------------------------------


def job(folder: Path, name: str, bounded: bool, point: str) -> None:
    """A job of five epochs, and an empty one before them, that dies at `point`. Its state is a file."""
    faults.arm(point)
    manifest = folder / "manifest"
    state = json.loads(manifest.read_bytes()) if manifest.exists() else {"epoch": -1, "token": None}
    writer = sink(folder, name).open(SCHEMA, bounded, state["token"])
    if state["token"] is not None:
        writer.publish(state["token"])
    for epoch in range(state["epoch"], 5):
        if epoch >= 0:
            write(writer, range(epoch * 10, epoch * 10 + 4))
            write(writer, range(epoch * 10 + 4, epoch * 10 + 10))
        token = writer.cut()
        writer.prepare(token)
        (folder / "manifest.part").write_text(json.dumps({"epoch": epoch + 1, "token": token}))
        os.replace(folder / "manifest.part", manifest)
        writer.publish(token)
    writer.close(True)


def killed(folder: Path, name: str, bounded: bool, point: str) -> bool:
    """Run the job in a child; whether that was killed."""
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            job(folder, name, bounded, point)
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


@pytest.mark.parametrize(
    ("name", "bounded"),
    [run for run in RUNS if run[0] in KILLED],
)
@pytest.mark.parametrize("point", POINTS)
def test_no_kill_loses_a_row_or_gives_one_twice(tmp_path: Path, name: str, bounded: bool, point: str) -> None:
    reached = False
    for count in (1, 4):
        folder = tmp_path / str(count)
        folder.mkdir()
        # The first run dies where it is told to, the second one a little later; the third ends.
        for fault in (f"sink.{point}:{count}", f"sink.{point}:{count + 1}", ""):
            if not killed(folder, name, bounded, fault):
                break
            reached = True
            manifest = folder / "manifest"
            epochs = json.loads(manifest.read_bytes())["epoch"] if manifest.exists() else 0
            ids = committed_ids(folder / name)
            assert ids == list(range(len(ids))) and 10 * epochs - len(ids) in (0, 10)
        assert committed_ids(folder / name) == list(range(50))
    # A file that is appended to has its name from the start.
    assert reached or (point.endswith("complete") and not bounded and name in TEXT)
