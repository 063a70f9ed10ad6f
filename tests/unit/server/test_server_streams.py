"""Jobs that feed each other: order, chains, failures, stops, back-pressure."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from velostream.config.schema import JobConfig
from velostream.connectors import channel
from velostream.connectors.memory import MemorySourceConfig
from velostream.errors import BindError, ConfigError, ConnectorError, VelostreamError
from velostream.processors import JobProcessorConfig
from velostream.server import JobStatus, StreamJobServer
from velostream.testing.scripted import ScriptedSinkConfig, ScriptedSourceConfig

SCHEMA = {"k": "VARCHAR", "v": "BIGINT"}
ROWS = [{"k": "abc"[n % 3], "v": n} for n in range(30)]
FIRST = "CREATE STREAM evens AS SELECT k, v FROM t WHERE v % 2 = 0"
SECOND = "CREATE STREAM sums AS SELECT k, SUM(v) AS s FROM evens GROUP BY k"
THIRD = "SELECT k, s + 1 AS t FROM sums WHERE s > 0"


class Collected:
    """A sink's rows, as they come."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.config = ScriptedSinkConfig(on_write=lambda batch: self.rows.extend(batch.data.to_pylist()))


def server() -> StreamJobServer:
    return StreamJobServer.new("b", "g", 10).with_processor_config(JobProcessorConfig.V2(2))


def source(steps: Any, bounded: bool = True) -> dict[str, Any]:
    return {"t": ScriptedSourceConfig(partitions={"p": steps}, schema=SCHEMA, bounded=bounded)}


def job(sql: str, sources: dict[str, Any] | None = None, sink: Collected | None = None) -> JobConfig:
    return JobConfig(
        sql=sql,
        sources=sources or {},
        sinks={} if sink is None else {"out": sink.config},
        processor=JobProcessorConfig.V2(2).to_config(),
    )


def until(condition: Callable[[], bool]) -> None:
    waited = threading.Event()
    for _ in range(10_000):
        if condition():
            return
        waited.wait(0.001)
    raise AssertionError("it does not come")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_three_jobs_in_a_chain_run_in_any_order(order: tuple[int, ...]) -> None:
    out = Collected()
    jobs = [
        ("first", job(FIRST, source([ROWS[:7], ROWS[7:]]))),
        ("second", job(SECOND)),
        ("third", job(THIRD, sink=out)),
    ]
    reports = server().run_all([jobs[number] for number in order])
    assert [report.name for report in reports] == [jobs[number][0] for number in order]
    assert {report.state for report in reports} == {"completed"}
    assert {row["k"]: row["t"] for row in out.rows} == {
        k: 1 + sum(row["v"] for row in ROWS if row["k"] == k and row["v"] % 2 == 0) for k in "abc"
    }
    used = {report.name: report.records["in"] for report in reports}
    assert used == {"first": 30, "second": 15, "third": 3}


def test_a_deployed_job_reads_what_an_earlier_one_makes() -> None:
    """By the name of its CREATE, by its topic, and in any letter case."""
    made = server()
    go = threading.Event()

    def steps() -> Iterator[list[dict[str, Any]]]:
        go.wait(30)
        yield ROWS

    outs = [Collected() for _ in range(3)]
    made.deploy_job("first", "1", FIRST, "topic", sources=source(steps()))
    for name, stream, out in zip("xyz", ("evens", "topic", "EVENS"), outs, strict=True):
        made.deploy_job(name, "1", f"SELECT v FROM {stream}", f"{name} out", sinks={"out": out.config})
    go.set()
    for name in "xyz":
        report = made.wait_job(name)
        assert report is not None and report.state == "completed"
    assert [[row["v"] for row in out.rows] for out in outs] == [list(range(0, 30, 2))] * 3


def test_a_job_gets_only_the_rows_from_its_deployment_on() -> None:
    made = server()
    go, seen = threading.Event(), Collected()

    def steps() -> Iterator[list[dict[str, Any]]]:
        yield ROWS[:10]
        go.wait(30)
        yield ROWS[10:]

    made.deploy_job("first", "1", "SELECT v FROM t", "vs", sources=source(steps()), sinks={"o": seen.config})
    until(lambda: len(seen.rows) == 10)
    late = Collected()
    made.deploy_job("late", "1", "SELECT v FROM vs", "out", sinks={"out": late.config})
    go.set()
    made.wait_job("late")
    assert [row["v"] for row in late.rows] == list(range(10, 30))


def test_a_stream_of_an_ended_job_is_not_there() -> None:
    made = server()
    made.deploy_job("first", "1", FIRST, "topic", sources=source([ROWS]))
    made.wait_job("first")
    with pytest.raises(BindError, match="unknown stream 'evens'"):
        made.deploy_job("second", "1", SECOND, "out")


def test_the_own_source_of_a_job_goes_before_a_stream_of_that_name() -> None:
    made, out = server(), Collected()
    go = threading.Event()

    def steps() -> Iterator[list[dict[str, Any]]]:
        go.wait(30)
        yield ROWS

    made.deploy_job("first", "1", FIRST, "topic", sources=source(steps()))
    own = {"evens": MemorySourceConfig(data=pa.table({"v": [5]}))}
    made.deploy_job("second", "1", "SELECT v FROM evens", "out", sources=own, sinks={"o": out.config})
    made.wait_job("second")
    go.set()
    assert out.rows == [{"v": 5}]
    made.graceful_shutdown()


def test_two_running_jobs_do_not_make_the_same_stream() -> None:
    made = server()
    go = threading.Event()

    def steps() -> Iterator[list[dict[str, Any]]]:
        go.wait(30)
        yield ROWS

    made.deploy_job("first", "1", FIRST, "topic", sources=source(steps()))
    for topic, sql in (("Topic", "SELECT v FROM t"), ("other", FIRST)):
        with pytest.raises(ConfigError, match=r"stream '(Topic|evens)' is made by job 'first' already"):
            made.deploy_job("second", "1", sql, topic, sources=source([ROWS]))
    go.set()
    made.wait_job("first")


def test_rows_that_are_updated_later_are_not_read_by_another_job() -> None:
    made = server()
    go = threading.Event()

    def steps() -> Iterator[list[dict[str, Any]]]:
        go.wait(30)
        yield ROWS

    query = "SELECT k, COUNT(*) AS n FROM t GROUP BY k EMIT CHANGES"
    made.deploy_job("counts", "1", query, "live", sources=source(steps()))
    with pytest.raises(ConfigError) as caught:
        made.deploy_job("reader", "1", "SELECT SUM(n) AS s FROM live", "out")
    assert str(caught.value) == (
        "'live' of job 'counts' has rows that are updated later, which another job cannot read; "
        "let its query EMIT FINAL"
    )
    go.set()
    made.wait_job("counts")


def test_a_circle_is_refused() -> None:
    jobs = [
        ("a", job("CREATE STREAM x AS SELECT v FROM y")),
        ("b", job("CREATE STREAM y AS SELECT v FROM x")),
    ]
    with pytest.raises(ConfigError, match="jobs feed each other in a circle: 'a', 'b'"):
        server().run_all(jobs)


def test_one_wrong_job_of_several_starts_none_and_leaves_none() -> None:
    made, out = server(), Collected()
    jobs = [
        ("first", job(FIRST, source([ROWS]), out)),
        ("second", job("SELECT nothing FROM evens")),
    ]
    with pytest.raises(VelostreamError, match="nothing"):
        made.run_all(jobs)
    assert made.list_jobs() == []
    assert out.rows == []


def test_a_refused_reader_does_not_hold_up_the_job_it_would_have_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody reads on behalf of it, so a subscription that was left behind would fill up and block."""
    monkeypatch.setattr(channel, "LIMIT_BYTES", 100)
    made = server()
    go = threading.Event()

    def steps() -> Iterator[list[dict[str, Any]]]:
        go.wait(30)
        for _ in range(20):
            yield ROWS

    made.deploy_job("first", "1", "SELECT v FROM t", "vs", sources=source(steps()))
    with pytest.raises(BindError):
        made.deploy_job("second", "1", "SELECT w FROM vs", "out")
    with pytest.raises(VelostreamError):
        made.run_all([("third", job("SELECT v FROM vs")), ("fourth", job("SELECT w FROM vs"))])
    go.set()
    report = made.wait_job("first", 20)
    assert report is not None and report.state == "completed"


# --- when one ends before its time ------------------------------------------------------------------


def test_a_failed_producer_fails_its_readers_with_the_reason() -> None:
    steps = [ROWS, ConnectorError("the disk is gone")]
    out = Collected()
    reports = server().run_all(
        [
            ("third", job(THIRD, sink=out)),
            ("first", job(FIRST, source(steps))),
            ("second", job(SECOND)),
        ]
    )
    third, first, second = reports
    assert {report.state for report in reports} == {"failed"}
    assert first.error == "the disk is gone"
    assert second.error == "stream 'evens' broke off: job 'first' failed: the disk is gone"
    assert third.error == f"stream 'sums' broke off: job 'second' failed: {second.error}"
    assert out.rows == [], "sums of a part of the input are not passed off as the sums"


def test_a_reader_that_fails_does_not_hold_up_the_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "LIMIT_BYTES", 100)

    def fail(batch: Any) -> None:
        raise ConnectorError("full")

    bad = JobConfig(sql="SELECT v FROM vs", sinks={"o": ScriptedSinkConfig(on_write=fail)})
    good = job("CREATE STREAM vs AS SELECT v FROM t", source([ROWS] * 30))
    reports = server().run_all([("bad", bad), ("good", good)])
    assert [report.state for report in reports] == ["failed", "completed"]
    assert reports[1].records["used"] == 900


def test_a_stopped_producer_ends_its_reader_as_failed_with_the_reason() -> None:
    made, out = server(), Collected()
    made.deploy_job("first", "1", "SELECT v FROM t", "vs", sources=source(itertools.repeat(ROWS), False))
    made.deploy_job("second", "1", "SELECT v FROM vs", "out", sinks={"out": out.config})
    until(lambda: len(out.rows) > 0)
    made.stop_job("first")
    made.wait_job("second", 20)
    summary = made.get_job_status("second")
    assert summary.status is JobStatus.FAILED
    assert summary.error == "stream 'vs' broke off: job 'first' was stopped"


def test_an_interrupt_stops_all_jobs_of_a_chain_and_fails_none() -> None:
    made, out = server(), Collected()
    jobs = [
        ("second", job("CREATE STREAM ws AS SELECT v FROM vs")),
        ("third", job("SELECT v FROM ws", sink=out)),
        ("first", job("CREATE STREAM vs AS SELECT v FROM t", source(itertools.repeat(ROWS), False))),
    ]
    reports: list[Any] = []
    thread = threading.Thread(target=lambda: reports.extend(made.run_all(jobs)))
    thread.start()
    until(lambda: len(out.rows) > 1000)
    made.interrupt("SIGINT")
    thread.join(20)
    assert [(report.name, report.state) for report in reports] == [
        ("second", "interrupted"),
        ("third", "interrupted"),
        ("first", "interrupted"),
    ]


def test_an_interrupt_before_the_jobs_start_ends_them_at_once() -> None:
    made = server()
    made.interrupt("SIGTERM")
    reports = made.run_all([("first", job(FIRST, source(itertools.repeat(ROWS), False)))])
    assert [(report.state, report.records["in"]) for report in reports] == [("interrupted", 0)]


# --- back-pressure ----------------------------------------------------------------------------------


def test_a_slow_reader_slows_the_job_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader stands still: the producer goes on for a bounded number of rows, and no further."""
    limit = 10_000
    monkeypatch.setattr(channel, "LIMIT_BYTES", limit)
    given = itertools.count()
    release, entered = threading.Event(), threading.Event()

    def hold(batch: Any) -> None:
        entered.set()
        release.wait(30)

    block = [{"k": "k" * 100, "v": n} for n in range(10)]

    def steps() -> Iterator[list[dict[str, Any]]]:
        for _ in range(2_000):
            next(given)
            yield block

    made = server()
    config = JobConfig()
    config.processor.queue_size = config.processor.block_size = "4KiB"
    made.deploy_job("fast", "1", "SELECT k, v FROM t", "rows", sources=source(steps()), config=config)
    # The first rows may be gone before the reader is there: it is about what it does not take.
    made.deploy_job(
        "slow",
        "1",
        "SELECT v, k FROM rows",
        "out",
        sinks={"out": ScriptedSinkConfig(on_write=hold)},
        config=config,
    )
    assert entered.wait(30)
    rows = -1
    while rows != (rows := made.get_job_status("fast").stats["rows_out"]):
        # Each look lets other jobs of the loop run for a while.
        made.deploy_job("look", "1", "SELECT v FROM t", "look", sources=source([ROWS]))
        made.wait_job("look")
    assert made.get_job_status("fast").status is JobStatus.RUNNING
    read = int(repr(given)[6:-1])
    assert read < 2_000
    release.set()
    for name in ("fast", "slow"):
        report = made.wait_job(name, 60)
        assert report is not None and report.state == "completed"
    assert made.get_job_status("fast").stats["rows_out"] == 20_000


def test_a_producer_that_waits_for_a_paused_reader_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot finish its blocks, so it is ended when its time is over."""
    monkeypatch.setattr(channel, "LIMIT_BYTES", 100)
    made, out = server(), Collected()
    made.deploy_job("first", "1", "SELECT v FROM t", "vs", sources=source(itertools.repeat(ROWS), False))
    made.deploy_job("second", "1", "SELECT v FROM vs", "out", sinks={"out": out.config})
    until(lambda: len(out.rows) > 0)
    made.pause_job("second")
    rows = -1
    while rows != (rows := made.get_job_status("first").stats["rows_out"]):
        made.deploy_job("look", "1", "SELECT v FROM t", "look", sources=source([ROWS]))
        made.wait_job("look")
    made.stop_job_with_timeout("first", 0.1)
    summary = made.get_job_status("first")
    assert summary.status is JobStatus.FAILED and "did not stop within 0.1 s" in str(summary.error)
    made.resume_job("second")
    made.wait_job("second", 20)
    assert "broke off: job 'first' was aborted" in str(made.get_job_status("second").error)


# --- what a job without sinks does ------------------------------------------------------------------


def test_a_job_without_sinks_prints_what_no_other_reads(capsys: pytest.CaptureFixture[str]) -> None:
    reports = server().run_all(
        [
            ("first", job(FIRST, source([ROWS]))),
            ("second", job("SELECT k, v FROM evens WHERE v = 28")),
        ]
    )
    assert [[sink["kind"] for sink in report.sinks] for report in reports] == [
        ["channel"],
        ["console"],
    ]
    assert [report.rows_out for report in reports] == [15, 1]
    assert "28" in capsys.readouterr().out
