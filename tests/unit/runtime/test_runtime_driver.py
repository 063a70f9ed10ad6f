"""What a running job does, seen through the driver: lateness, policies, emission, time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from velostream.config.schema import JobConfig, ProcessorConfig
from velostream.connectors.memory import MemorySinkConfig
from velostream.errors import ConfigError, VelostreamError
from velostream.runtime.job import Job
from velostream.testing import Change, JobDriver
from velostream.testing.scripted import ScriptedSourceConfig

START = datetime(2020, 1, 1, tzinfo=UTC)
TRADES = {"trades": {"ts": "TIMESTAMP", "k": "VARCHAR", "v": "BIGINT"}}
WINDOWS = (
    "SELECT k, COUNT(*) AS n, SUM(v) AS s FROM trades WHERE v <> 0 "
    "GROUP BY k WINDOW TUMBLING(ts, INTERVAL '10' SECOND)"
)
MODES = [
    *((processor, records) for processor in ("v1", "v2:2", "v2:4") for records in (1, 3, 0)),
    ("v2:4:affinity", 3),
]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def trade(seconds: float, k: str = "a", v: int | None = 1) -> dict[str, Any]:
    return {"ts": at(seconds), "k": k, "v": v}


def seen(changes: list[Change]) -> list[tuple[Any, ...]]:
    return [(change.operation, *change.row.values()) for change in changes]


# --- lateness -------------------------------------------------------------------------------------

STREAM = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from(["a", "b", "c", None]), st.integers(-1, 2)),
    min_size=1,
    max_size=25,
)


def expected(stream: list[tuple[int, str | None, int]], slack: int) -> tuple[dict[str, int], set[Any]]:
    """Counters and rows by one pass in Python: late is what comes when its window's end has been passed."""
    counts = {"in": 0, "used": 0, "filtered": 0, "late": 0, "failed": 0}
    groups: dict[Any, list[int]] = {}
    latest = -(10**9)
    for seconds, k, v in stream:
        start = seconds // 10 * 10
        counts["in"] += 1
        if start + 10 <= latest - slack:
            counts["late"] += 1
        elif v == 0:
            counts["filtered"] += 1
        else:
            counts["used"] += 1
            groups.setdefault((start, k), []).append(v)
        latest = max(latest, seconds)
    return counts, {(start, k, len(vs), sum(vs)) for (start, k), vs in groups.items()}


@pytest.mark.parametrize(("processor", "block_records"), MODES)
@settings(max_examples=6, deadline=None)
@given(stream=STREAM, slack=st.sampled_from([0, 3, 12]))
@example(stream=[(0, "a", 1), (30, "a", 0), (5, "a", 1), (5, "b", 0), (30, "c", 1)], slack=0)
def test_lateness_depends_on_neither_blocks_nor_lanes(
    processor: str, block_records: int, stream: list[tuple[int, str | None, int]], slack: int
) -> None:
    driver = JobDriver(
        WINDOWS.replace("SELECT k", "SELECT _window_start AS w, k"),
        TRADES,
        processor,
        block_records=block_records,
        out_of_orderness=f"{slack}s",
        event_time="ts",
    )
    half = len(stream) // 2
    for part in (stream[:half], stream[half:]):
        driver.send("trades", [(at(seconds), k, v) for seconds, k, v in part])
    driver.end()
    rows = [tuple(change.row.values()) for change in driver.read()]
    report = driver.close()
    counts, groups = expected(stream, slack)
    assert {name: report.records[name] for name in counts} == counts
    assert sorted(rows, key=repr) == sorted(
        ((at(w).replace(tzinfo=None), *rest) for w, *rest in groups), key=repr
    )
    assert report.open_windows == 0


def test_windows_close_when_the_watermark_has_passed_their_end() -> None:
    with JobDriver(WINDOWS, TRADES, out_of_orderness="5s") as driver:
        driver.send("trades", [trade(0), trade(9.999999)])
        driver.send("trades", [trade(14.999999)])
        assert driver.read() == []
        driver.send("trades", [trade(15)])
        assert [(change.row["n"], change.time) for change in driver.read()] == [(2, at(9.999999))]


def test_a_late_row_is_dropped_and_counted() -> None:
    driver = JobDriver(WINDOWS, TRADES, out_of_orderness="0s")
    driver.send("trades", [trade(0), trade(20)])
    assert seen(driver.read()) == [("insert", "a", 1, 1)]
    driver.send("trades", [trade(5), trade(25)])
    driver.end()
    assert seen(driver.read()) == [("insert", "a", 2, 2)]
    report = driver.close()
    assert (report.records["late"], report.records["used"]) == (1, 3)


def test_a_late_row_of_the_same_block_is_late_too() -> None:
    driver = JobDriver(WINDOWS, TRADES, out_of_orderness="0s")
    driver.send("trades", [trade(0), trade(20), trade(5)])
    assert seen(driver.read()) == [("insert", "a", 1, 1)]
    assert driver.close().records["late"] == 1


def test_update_sends_a_window_again_within_the_allowed_lateness() -> None:
    driver = JobDriver(WINDOWS, TRADES, out_of_orderness="0s", late="update", allowed_lateness="10s")
    driver.send("trades", [trade(0), trade(12)])
    assert seen(driver.read()) == [("insert", "a", 1, 1)]
    driver.send("trades", [trade(5)])
    assert seen(driver.read()) == [("update", "a", 2, 2)]
    driver.send("trades", [trade(20)])
    driver.send("trades", [trade(6)])
    assert seen(driver.read()) == [("insert", "a", 1, 1)], "only the window of second 12 is new"
    assert driver.close().records["late"] == 1


def test_side_output_keeps_late_rows_with_their_place(tmp_path: Path) -> None:
    steps = [[trade(0), trade(20)], [trade(5, "x", 7), trade(6, "y", 0), trade(21)]]
    source = ScriptedSourceConfig(
        partitions={"p0": steps},
        schema=TRADES["trades"],
        bounded=True,
        out_of_orderness="0s",
        late="side_output",
    )
    job = Job(
        JobConfig(
            sql=WINDOWS,
            sources={"trades": source},
            sinks={"out": MemorySinkConfig()},
            processor=ProcessorConfig("v2", 2),
            output_dir=str(tmp_path),
        )
    )
    report = job.run()
    assert report.late_records == str(tmp_path / "late.ndjson")
    entries = [json.loads(line) for line in (tmp_path / "late.ndjson").read_text().splitlines()]
    assert [(entry["source"], entry["partition"], entry["offset"], entry["code"]) for entry in entries] == [
        ("trades", "p0", 2, "late"),
        ("trades", "p0", 3, "late"),
    ]
    assert [json.loads(entry["record"])["k"] for entry in entries] == ["x", "y"]
    assert report.records["late"] == 2


# --- time -----------------------------------------------------------------------------------------


def test_a_time_too_far_ahead_of_the_clock_fails_and_moves_no_watermark() -> None:
    driver = JobDriver(WINDOWS, TRADES, time=START, out_of_orderness="1s", max_ahead="1h")
    driver.send("trades", [trade(0), trade(3600), trade(3601, "future"), trade(3599)])
    driver.end()
    assert sorted(seen(driver.read())) == [
        ("insert", "a", 1, 1),
        ("insert", "a", 1, 1),
        ("insert", "a", 1, 1),
    ]
    report = driver.close()
    assert (report.records["failed"], report.records["late"]) == (1, 0)
    assert "further ahead of the clock than max_ahead" in report.failures[0]


def test_the_clock_lets_later_times_in() -> None:
    driver = JobDriver(WINDOWS, TRADES, time=START, out_of_orderness="0s", max_ahead="1h")
    driver.advance(at(10))
    driver.advance(START)
    driver.send("trades", [trade(3601)])
    driver.read()
    assert driver.close().records["failed"] == 0


def test_a_row_without_an_event_time_fails() -> None:
    driver = JobDriver(WINDOWS, TRADES)
    driver.send("trades", [{"k": "a", "v": 1}, trade(1)])
    driver.end()
    assert seen(driver.read()) == [("insert", "a", 1, 1)]
    report = driver.close()
    assert report.records["failed"] == 1
    assert "event time 'ts' is NULL" in report.failures[0]


# --- emission -------------------------------------------------------------------------------------

COUNTS = "SELECT k, COUNT(*) AS n FROM trades GROUP BY k"


@pytest.mark.parametrize("processor", ["v1", "v2:2", "v2:4"])
def test_changes_come_once_per_block(processor: str) -> None:
    with JobDriver(COUNTS, TRADES, processor) as driver:
        driver.send("trades", [trade(0), trade(1, "b"), trade(2)])
        assert sorted(seen(driver.read())) == [("insert", "a", 2), ("insert", "b", 1)]
        driver.send("trades", [trade(3), trade(4)])
        assert seen(driver.read()) == [("update", "a", 4)]
        assert driver.read() == []


@pytest.mark.parametrize("processor", ["v1", "v2:2", "v2:4"])
def test_changes_come_once_per_record_on_request(processor: str) -> None:
    with JobDriver(COUNTS, TRADES, processor, changes="record") as driver:
        driver.send("trades", [trade(0), trade(1, "b"), trade(2)])
        changes = driver.read()
        assert [row for row in seen(changes) if row[1] == "a"] == [("insert", "a", 1), ("update", "a", 2)]
        assert [row for row in seen(changes) if row[1] == "b"] == [("insert", "b", 1)]
        assert changes[0].key == {"k": changes[0].row["k"]}


@pytest.mark.parametrize("processor", ["v1", "v2:4"])
@pytest.mark.parametrize("changes", ["block", "record"])
def test_a_group_that_no_longer_passes_having_is_taken_back(processor: str, changes: str) -> None:
    query = "SELECT k, SUM(v) AS s FROM trades GROUP BY k HAVING SUM(v) > 2"
    with JobDriver(query, TRADES, processor, changes=changes) as driver:
        driver.send("trades", [trade(0, v=2)])
        assert driver.read() == []
        driver.send("trades", [trade(0, v=2)])
        assert seen(driver.read()) == [("insert", "a", 4)]
        driver.send("trades", [trade(0, v=-3)])
        (change,) = driver.read()
        assert (change.operation, change.key) == ("delete", {"k": "a"})
        driver.send("trades", [trade(0, v=-1)])
        assert driver.read() == []
        driver.send("trades", [trade(0, v=5)])
        assert seen(driver.read()) == [("insert", "a", 5)]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=20), st.sampled_from(["v1", "v2:2", "v2:4"]))
def test_changes_per_record_are_the_same_per_key_in_any_lanes(keys: list[str], processor: str) -> None:
    driver = JobDriver(COUNTS, TRADES, processor, changes="record", block_records=4)
    driver.send("trades", [trade(n, k) for n, k in enumerate(keys)])
    changes = seen(driver.read())
    driver.close()
    for k in set(keys):
        mine = [change for change in changes if change[1] == k]
        assert mine == [("update" if n else "insert", k, n + 1) for n in range(keys.count(k))]


def test_rows_without_groups_come_in_the_order_of_the_input() -> None:
    with JobDriver("SELECT v FROM trades WHERE v > 2", TRADES, "v2:4", block_records=1) as driver:
        driver.send("trades", [trade(n, v=n) for n in range(40)])
        assert [change.row["v"] for change in driver.read()] == list(range(3, 40))


def test_a_query_over_windows_of_a_query() -> None:
    """Watermarks go on behind the rows of the first, so the second closes too."""
    sql = (
        "CREATE STREAM minutes AS SELECT k, COUNT(*) AS n, _window_end AS e FROM trades "
        "GROUP BY k WINDOW TUMBLING(ts, INTERVAL '1' MINUTE); "
        "CREATE STREAM totals AS SELECT SUM(n) AS total FROM minutes WINDOW TUMBLING(e, INTERVAL '1' HOUR)"
    )
    driver = JobDriver(sql, TRADES, "v2:4", out_of_orderness="0s")
    driver.send("trades", [trade(10 * n, "abc"[n % 3]) for n in range(60)])
    driver.end()
    assert seen(driver.read("totals")) == [("insert", 60)]
    assert len(driver.read("minutes")) == 30


# --- silence --------------------------------------------------------------------------------------


class Partitions:
    """A running job whose source has partitions that speak when the test says."""

    def __init__(self, count: int, sql: str = WINDOWS, **options: Any) -> None:
        from velostream.connectors.channel import Channel
        from velostream.sql.schemas import schema_of
        from velostream.testing.scripted import SILENCE

        self.now_us = self.clock_us = int(START.timestamp() * 1e6)
        self._looks = 0
        schema = schema_of(TRADES["trades"], {}, "UTC").arrow()
        self.channels = [Channel(f"p{number}", schema) for number in range(count)]

        def steps(channel: Channel) -> Any:
            subscription = channel.subscribe()

            def go() -> Any:
                while (batch := subscription.get()) is not None:
                    yield batch if batch.num_rows else SILENCE

            return go()

        self.schema = schema
        source = ScriptedSourceConfig(
            partitions={channel.name: steps(channel) for channel in self.channels},
            schema=TRADES["trades"],
            bounded=False,
            **options,
        )
        config = JobConfig(
            sql=sql,
            sources={"trades": source},
            sinks={"out": MemorySinkConfig()},
            processor=ProcessorConfig("v2", 2),
        )
        self.job = Job(config, clock=lambda: self.clock_us, timer=self._timer)
        self.job.start()
        self.sent = 0

    def send(self, partition: int, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa

        self.channels[partition].publish(pa.RecordBatch.from_pylist(rows, schema=self.schema))
        self.sent += len(rows)
        self.job.drain(self.sent)

    def _timer(self) -> int:
        self._looks += 1
        return self.now_us

    def wait_for_silence(self, times: int) -> None:
        """Until it was looked so many times how long a partition has been silent."""
        until = self._looks + times
        for _ in range(2_000):
            if self._looks >= until:
                return
            assert not self.job.wait(0.005)
        raise AssertionError("nobody looks")

    def rows(self) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self.job.sink("out").table().to_pylist()]  # type: ignore[attr-defined]

    def wait_for(self, count: int) -> None:
        for _ in range(2_000):
            if len(self.rows()) >= count:
                return
            assert not self.job.wait(0.005)
        raise AssertionError("the rows do not come")


def test_a_silent_partition_holds_time_back_until_its_time_out() -> None:
    made = Partitions(2, out_of_orderness="0s", idle_timeout="30s")
    made.send(0, [trade(0, "a"), trade(15, "a")])
    made.send(1, [trade(3, "b")])
    assert made.rows() == [], "partition 1 may still say something of second 4"
    made.now_us += 31_000_000
    made.wait_for(2)
    assert sorted(made.rows()) == [("a", 1, 1), ("b", 1, 1)]
    made.send(1, [trade(4, "b"), trade(16, "b")])
    for channel in made.channels:
        channel.end()
    assert made.job.wait(20)
    report = made.job.report()
    assert report.state == "completed"
    assert report.records["in"] == 5
    assert report.records["used"] + report.records["late"] == 5


def test_a_clock_that_jumps_silences_no_partition() -> None:
    made = Partitions(2, out_of_orderness="0s", idle_timeout="30s")
    made.send(0, [trade(0, "a"), trade(15, "a")])
    made.send(1, [trade(3, "b")])
    for jump in (3600, -7200):
        made.clock_us += jump * 1_000_000
        made.wait_for_silence(20)
    assert made.rows() == [], "partition 1 may still say something of second 4"
    made.send(1, [trade(4, "b")])
    made.now_us += 31_000_000
    made.wait_for(2)
    for channel in made.channels:
        channel.end()
    assert made.job.wait(20)
    assert made.job.report().records["late"] == 0


def test_a_silent_partition_is_not_an_ended_one() -> None:
    made = Partitions(2, out_of_orderness="0s", idle_timeout="30s")
    made.send(0, [trade(0, "a"), trade(11, "a")])
    made.send(1, [trade(3, "b"), trade(12, "b")])
    made.wait_for(2)
    made.now_us += 31_000_000
    made.channels[0].end()
    made.send(1, [trade(13, "b")])
    assert sorted(made.rows()) == [("a", 1, 1), ("b", 1, 1)], "the window of second 10 is open"
    made.channels[1].end()
    assert made.job.wait(20)
    assert sorted(made.rows()) == [("a", 1, 1), ("a", 1, 1), ("b", 1, 1), ("b", 2, 2)]
    assert made.job.report().records["late"] == 0


# --- the driver itself ----------------------------------------------------------------------------


def test_wrong_names_are_told_with_the_nearest() -> None:
    with JobDriver(COUNTS, TRADES) as driver:
        with pytest.raises(ConfigError, match="unknown table 'trade'; did you mean 'trades'"):
            driver.send("trade", [])
        with pytest.raises(ConfigError, match="unknown column of 'trades' 'tss'; did you mean 'ts'"):
            driver.send("trades", [{"tss": 1}])
        with pytest.raises(ConfigError, match="unknown stream 'reslt'; did you mean 'result'"):
            driver.read("reslt")


def test_a_failed_job_raises_at_the_next_read() -> None:
    driver = JobDriver("SELECT v * 9223372036854775807 AS w FROM trades", TRADES, failure="fail_batch")
    driver.send("trades", [trade(0, v=2)])
    with pytest.raises(VelostreamError, match="record failed"):
        driver.read()


def test_an_error_in_the_test_ends_the_job() -> None:
    with pytest.raises(ZeroDivisionError), JobDriver(COUNTS, TRADES) as driver:
        driver.send("trades", [trade(0)])
        raise ZeroDivisionError
    assert driver._job.state.ended
