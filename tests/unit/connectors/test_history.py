"""A source with a history: files first, to their end, then what goes on from them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from velostream.config.schema import DeliveryConfig, JobConfig, ProcessorConfig, SourceConfig, StateConfig
from velostream.connectors.base import Limits, Source
from velostream.connectors.file.sink import FileSinkConfig
from velostream.connectors.file.source import FileSourceConfig
from velostream.connectors.generator import GeneratorSourceConfig
from velostream.connectors.history import History, make_source
from velostream.connectors.memory import MemorySinkConfig
from velostream.errors import Problems, VelostreamError
from velostream.runtime.job import Job
from velostream.runtime.prepare import prepare
from velostream.testing import scripted as scripted_module
from velostream.testing.oracle import answer, difference
from velostream.testing.scripted import SILENCE, ScriptedSource, ScriptedSourceConfig, Step

SCHEMA = {"id": "BIGINT", "ts": "TIMESTAMP"}
BARS = """SELECT _window_start AS start, COUNT(*) AS n, SUM(id) AS total FROM t
WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)"""
SECOND = 1_000_000


def write(path: Path, ids: Sequence[int], second: int = 1) -> None:
    """A record for each id, at that many seconds since 1970."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f'{{"id": {id}, "ts": {id * second * 1000}}}\n' for id in ids))


def past(path: Path, **keys: Any) -> dict[str, Any]:
    return {"kind": "file", "path": str(path), **keys}


def scripted(history: dict[str, Any], partitions: dict[str, Any], **keys: Any) -> ScriptedSourceConfig:
    return ScriptedSourceConfig(schema=SCHEMA, history=history, partitions=partitions, **keys)


def rows(ids: Sequence[int]) -> list[dict[str, Any]]:
    return [{"id": id, "ts": id * SECOND} for id in ids]


def job(source: SourceConfig, sql: str, lanes: int = 1, **parts: Any) -> Job:
    return Job(
        JobConfig(
            sql=sql,
            sources={"t": source},
            sinks={"out": MemorySinkConfig()},
            processor=ProcessorConfig(version="v2", partitions=lanes, block_records=7),
            **parts,
        )
    )


def out(job: Job) -> pa.Table:
    table: pa.Table = job.sink("out").table()  # type: ignore[attr-defined]
    return table


@pytest.mark.parametrize("lanes", [1, 4])
def test_all_rows_of_the_history_come_before_the_first_live_one(tmp_path: Path, lanes: int) -> None:
    write(tmp_path / "past" / "a.ndjson", range(0, 300))
    write(tmp_path / "past" / "b.ndjson", range(300, 600))
    write(tmp_path / "past" / "c.ndjson", range(600, 900))
    live = {"x": [rows(range(900, 1000))], "y": [rows(range(1000, 1200))]}
    run = job(scripted(past(tmp_path / "past"), live), "SELECT id FROM t", lanes)
    report = run.run()
    assert report.state == "completed" and report.records["used"] == 1200
    ids = out(run)["id"].to_pylist()
    assert sorted(ids[:900]) == list(range(900)) and sorted(ids[900:]) == list(range(900, 1200))


def test_nothing_live_is_read_while_a_block_of_the_history_is_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = threading.Event()
    seen: list[int] = []
    load = scripted_module._RowsBlock.load

    def load_slowly(block: scripted_module._RowsBlock) -> pa.RecordBatch:
        begun.wait(0.3)  # the history's end has been read by then
        return load(block)

    def live() -> Iterator[Step]:
        begun.set()
        seen.append(out(run).num_rows)
        yield rows([2])

    monkeypatch.setattr(scripted_module._RowsBlock, "load", load_slowly)
    run = job(
        scripted({"kind": "scripted", "partitions": {"a": [rows([1])]}}, {"x": live()}), "SELECT id FROM t"
    )
    assert run.run().error is None
    assert seen == [1] and out(run)["id"].to_pylist() == [1, 2]


@pytest.mark.parametrize("lanes", [1, 4])
def test_windows_over_both_are_those_of_a_batch_engine(tmp_path: Path, lanes: int) -> None:
    """The generator's times lie within those of the files, which are in no order."""
    write(tmp_path / "past" / "a.ndjson", range(2000, 0, -1))
    write(tmp_path / "past" / "b.ndjson", range(3000, 5000, 3))
    columns = {
        "id": {"distribution": "sequence"},
        "ts": {"distribution": "sequence", "start": "1970-01-01T00:20:00", "step": "2s"},
    }
    live = GeneratorSourceConfig(
        schema=SCHEMA, columns=columns, count=900, partitions=2, history=past(tmp_path / "past")
    )
    run = job(live, BARS, lanes)
    report = run.run()
    assert report.error is None and report.records["late"] == 0
    made = [
        {"id": id, "ts": ts}
        for id, ts in ((id, id * SECOND) for id in [*range(2000, 0, -1), *range(3000, 5000, 3)])
    ]
    made += [{"id": id, "ts": (1200 + 2 * id) * SECOND} for id in range(900)]
    table = pa.Table.from_pylist(made, schema=pa.schema([("id", pa.int64()), ("ts", pa.timestamp("us"))]))
    assert report.records["used"] == len(made)
    got = out(run)
    expected = answer(BARS, {"t": table}, [field.type for field in got.schema])
    assert difference(got, expected) is None


def test_no_window_closes_before_the_live_part_has_spoken(tmp_path: Path) -> None:
    write(tmp_path / "past.ndjson", range(0, 100))
    seen: list[int] = []

    def live() -> Iterator[Step]:
        for _ in range(5):
            seen.append(out(run).num_rows)
            yield SILENCE
        yield rows([59])  # of the first window of the history
        yield rows([200])
        yield SILENCE

    source = scripted(
        past(tmp_path / "past.ndjson"), {"x": live()}, bounded=False, out_of_orderness="10s", late="drop"
    )
    run = job(source, BARS)
    report = run.run()
    assert report.error is None and report.records["late"] == 0
    assert seen == [0] * 5
    assert sorted(zip(out(run)["n"].to_pylist(), out(run)["total"].to_pylist(), strict=True)) == [
        (1, 200),
        (40, sum(range(60, 100))),
        (61, sum(range(60)) + 59),
    ]


@pytest.mark.parametrize(("declared", "late"), [("", 0), ("5s", 50)])
def test_records_of_a_history_are_late_only_by_a_declared_limit(
    tmp_path: Path, declared: str, late: int
) -> None:
    # The first ten windows end before the file's second line.
    write(tmp_path / "past.ndjson", [10_000, *range(50)])
    source = scripted(
        past(tmp_path / "past.ndjson"), {"x": [rows([20_000])]}, bounded=False, out_of_orderness=declared
    )
    report = job(source, BARS).run()
    assert report.error is None
    assert (report.records["late"], report.records["used"]) == (late, 52 - late)


class Runs:
    """Runs of a job that reads a followed file behind its history and writes a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "live.ndjson").write_text("")
        self.source = FileSourceConfig(
            path=str(folder / "live.ndjson"), follow=True, schema=SCHEMA, history=past(folder / "past")
        )

    def written(self) -> list[int]:
        path = self._folder / "out.ndjson"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line)["id"] for line in lines if line.endswith("\n")]

    def append(self, ids: Sequence[int]) -> None:
        with (self._folder / "live.ndjson").open("a") as file:
            file.writelines(f'{{"id": {id}, "ts": 0}}\n' for id in ids)

    def job(self, lanes: int = 1) -> Job:
        return Job(
            JobConfig(
                name="resumed",
                sql="SELECT id FROM t",
                sources={"t": self.source},
                sinks={"out": FileSinkConfig(path=str(self._folder / "out.ndjson"))},
                processor=ProcessorConfig(version="v2", partitions=lanes, block_records=7),
                delivery=DeliveryConfig(interval="5ms"),
                state=StateConfig(path=str(self._folder / "state")),
            )
        )

    def run(self, lanes: int, until: int) -> None:
        """Run until so many rows are written, then stop."""
        made = self.job(lanes)
        made.start()
        deadline = time.monotonic() + 20
        while len(self.written()) < until:
            assert not made.state.ended, made.failure().render()
            assert time.monotonic() < deadline
            made.wait(0.005)
        made.stop()
        assert made.wait(20) and made.report().state == "interrupted", made.report().error


def test_a_job_goes_on_in_its_history_at_the_switch_and_behind_it(tmp_path: Path) -> None:
    """With other lanes at each start, and with a file that the history has got meanwhile."""
    write(tmp_path / "past" / "a.ndjson", range(5000))
    runs = Runs(tmp_path)
    runs.run(1, 20)
    runs.run(4, 3000)
    runs.run(2, 5000)
    runs.append(range(5000, 5050))
    runs.run(4, 5050)
    runs.append(range(5050, 5100))
    runs.run(1, 5100)
    write(tmp_path / "past" / "b.ndjson", range(5100, 5120))
    runs.append(range(5120, 5130))
    runs.run(2, 5130)
    assert sorted(runs.written()) == list(range(5130))


def test_files_of_the_history_may_go_when_they_have_been_read(tmp_path: Path) -> None:
    for part in range(3):
        write(tmp_path / "past" / f"{part}.ndjson", range(100 * part, 100 * part + 100))
    runs = Runs(tmp_path)
    runs.append([300])
    runs.run(2, 301)
    (tmp_path / "past" / "1.ndjson").unlink()
    runs.append([301])
    runs.run(1, 302)
    runs.source.history = {}
    runs.append([302])
    runs.run(2, 303)
    assert sorted(runs.written()) == list(range(303))


@pytest.mark.parametrize("begun", [True, False])
def test_a_history_that_has_not_been_read_must_not_go(tmp_path: Path, begun: bool) -> None:
    def unfinished() -> Iterator[Step]:
        if begun:
            yield rows(range(20))
        while True:
            yield SILENCE

    runs = Runs(tmp_path)
    # The second of them has no position when nothing was read of it.
    runs.source.history = {"kind": "scripted", "partitions": {"a": [rows([20])], "b": unfinished()}}
    runs.run(1, 21 if begun else 1)
    runs.source.history = {}
    # The first of them may have been read to its last record and not to its end.
    with pytest.raises(VelostreamError, match=r"'history:[ab]' has changed since .*: it is gone"):
        runs.job().start()


def test_positions_are_told_to_the_live_source_alone(tmp_path: Path) -> None:
    write(tmp_path / "past.ndjson", range(3))
    source = make_source("t", scripted(past(tmp_path / "past.ndjson"), {"x": []}))
    told: list[Any] = []
    source._live.committed = told.append  # type: ignore[attr-defined]
    first, second = source.partitions()
    assert (first, second) == (f"history:{tmp_path / 'past.ndjson'}", "x")
    source.committed({first: 5, second: 7})
    assert told == [{"x": 7}]


def test_it_is_the_live_source_that_grows(tmp_path: Path) -> None:
    told: list[str] = []
    live = ScriptedSource("t", scripted({}, {"x": []}))
    source = History(live, past(tmp_path / "past.ndjson"))
    source.on_growth = told.append
    assert live.on_growth is not None and source.on_growth is live.on_growth
    live.on_growth("more")
    assert told == ["more"]


def test_a_file_of_the_history_that_has_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "past.ndjson"
    write(path, range(50))
    config = scripted(past(path), {"x": []})
    source = make_source("t", config)
    source.reader(0, Limits()).close()
    saved = source.fingerprint(0)
    write(path, range(51))
    with pytest.raises(VelostreamError, match=r"past\.ndjson' has changed since the last commit"):
        make_source("t", config).verify(0, 100, saved)


def test_explain_says_what_is_read_first(tmp_path: Path) -> None:
    write(tmp_path / "past" / "a.ndjson", range(3))
    write(tmp_path / "past" / "b.ndjson", range(3))
    prepared = prepare(job(scripted(past(tmp_path / "past"), {"x": []}), "SELECT id FROM t").config)
    history = f"file (path {tmp_path / 'past'}, format ndjson, partitions 2)"
    assert prepared.explain()["sources"][0]["history"] == history
    assert history in prepared.explain_text()


def refused(source: SourceConfig) -> str:
    with pytest.raises((VelostreamError, Problems)) as caught:
        prepare(job(source, "SELECT id FROM t").config)
    return caught.value.render()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": ""}, "sources.t.history: the history has no kind; add 'kind': one of"),
        (
            {"kind": "fil"},
            "sources.t.history.kind: unknown kind of source 'fil'; did you mean 'file'?",
        ),
        (
            {"pth": "x"},
            "sources.t.history.pth: unknown key 'pth' in 'sources.t.history'; did you mean 'path'?",
        ),
        ({"follow": True}, "sources.t.history: the history of source 't' has no end"),
        (
            {"late": "update"},
            "sources.t.history.late: 'late' of a history is that of its source; set sources.t.late",
        ),
        ({"history": {"kind": "file"}}, "sources.t.history.history: a history has no history of its own"),
        ({"timezone": "Mars"}, "sources.t.history.timezone: unknown time zone 'Mars'"),
        (
            {"schema": {"id": "DOUBLE", "ts": "TIMESTAMP"}},
            "sources.t.history.schema: column 'id' is DOUBLE in the history, BIGINT in source 't'",
        ),
        (
            {"schema": {"idd": "BIGINT", "ts": "TIMESTAMP"}},
            "sources.t.history.schema: column 'id' of source 't' is not in its history; did you mean 'idd'?",
        ),
    ],
)
def test_what_is_wrong_with_a_history_is_told_with_its_place(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    write(tmp_path / "past.ndjson", range(3))
    assert message in refused(scripted({**past(tmp_path / "past.ndjson"), **keys}, {"x": []}))


def test_a_history_that_is_missing_is_told(tmp_path: Path) -> None:
    assert "sources.t.history.path" in refused(scripted(past(tmp_path / "no.ndjson"), {"x": []}))


def test_a_history_may_write_times_in_its_own_way(tmp_path: Path) -> None:
    (tmp_path / "past.csv").write_text("ts,id\n02.01.1970,1\n")
    history = past(tmp_path / "past.csv", timestamp_formats={"ts": "%d.%m.%Y"})
    run = job(scripted(history, {"x": [rows([2])]}), "SELECT id, ts FROM t")
    assert run.run().error is None
    assert [
        (id, ts.timestamp()) for id, ts in zip(*(c.to_pylist() for c in out(run).columns), strict=True)
    ] == [
        (1, 86400.0),
        (2, 2.0),
    ]


def source_of(config: SourceConfig) -> Source:
    return make_source("t", config)


def test_all_that_is_to_be_read_counts_in_progress(tmp_path: Path) -> None:
    write(tmp_path / "past.ndjson", range(3))
    size = (tmp_path / "past.ndjson").stat().st_size
    live = FileSourceConfig(path=str(tmp_path / "past.ndjson"), history=past(tmp_path / "past.ndjson"))
    assert source_of(live).total_bytes() == 2 * size
    live.follow = True
    assert source_of(live).total_bytes() is None
