"""Times beyond Python's calendar, which TIMESTAMP has and messages for a person must not fail by."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from velostream.config.schema import JobConfig, ProcessorConfig
from velostream.connectors.file.source import FileSourceConfig
from velostream.connectors.memory import MemorySinkConfig, MemorySourceConfig
from velostream.operators.arrays import value_at
from velostream.runtime.job import Job
from velostream.testing import JobDriver

BEYOND = 253_402_300_800_000_000  # microseconds: the year 10000


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([BEYOND], pa.timestamp("us")), f"{BEYOND} µs since 1970"),
        (pa.array([2**31 - 1], pa.date32()), "2147483647 days since 1970"),
        (pa.array([7], pa.int64()), 7),
    ],
)
def test_a_value_is_shown_whatever_python_knows(column: pa.Array, expected: object) -> None:
    assert value_at(column, 0) == expected


def test_a_record_from_beyond_the_calendar_fails_alone() -> None:
    sql = "SELECT symbol, COUNT(*) AS n FROM t GROUP BY symbol WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)"
    driver = JobDriver(sql, tables={"t": {"symbol": "VARCHAR", "ts": "TIMESTAMP"}})
    driver.send("t", [{"symbol": "A", "ts": BEYOND}, {"symbol": "B", "ts": 0}])
    report = driver.close()
    assert (report.records["in"], report.records["used"], report.records["failed"]) == (2, 1, 1)
    assert f"event time 'ts' = {BEYOND} µs since 1970 is further ahead of the clock" in report.failures[0]


def test_a_group_that_fails_is_named_by_a_key_beyond_the_calendar() -> None:
    table = pa.table({"at": pa.array([BEYOND] * 2, pa.timestamp("us")), "n": [2**63 - 1, 1]})
    job = Job(
        JobConfig(
            sql="SELECT at, SUM(n) AS total FROM t GROUP BY at",
            sources={"t": MemorySourceConfig(data=table)},
            sinks={"out": MemorySinkConfig()},
            processor=ProcessorConfig(version="v1"),
        )
    )
    report = job.run()
    assert (report.state, report.records["groups_failed"], report.rows_out) == ("completed", 1, 0)
    assert f"{BEYOND} µs since 1970" in report.failures[0]


def test_a_line_from_beyond_the_calendar_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "t.ndjson").write_text(f'{{"ts":{BEYOND // 1000}}}\n{{"ts":0}}\n')
    config = FileSourceConfig(path=str(tmp_path / "t.ndjson"), schema={"ts": "TIMESTAMP"}, follow=True)
    job = Job(
        JobConfig(
            sql="SELECT COUNT(*) AS n FROM t WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)",
            sources={"t": config},
            sinks={"out": MemorySinkConfig()},
            processor=ProcessorConfig(version="v1"),
        )
    )
    job.start()
    job.drain(2)
    job.stop()
    job.wait()
    report = job.report()
    assert (report.state, report.records["used"], report.records["failed"]) == ("interrupted", 1, 1)
