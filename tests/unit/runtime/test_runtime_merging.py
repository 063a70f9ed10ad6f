"""The figures of a worker: those of the tasks that it has had."""

from __future__ import annotations

from velostream.config.schema import JobConfig
from velostream.runtime.merging import merged_report
from velostream.runtime.report import Report


def test_a_worker_that_had_no_task_has_read_no_records() -> None:
    report = merged_report(JobConfig(name="idle"), [], "completed", None)
    assert (report.name, report.state, report.rows_out, report.rate) == ("idle", "completed", 0, 0.0)
    assert set(report.records.values()) == {0}
    assert {"in", "used", "filtered", "late", "failed"} <= set(report.records)


def test_the_records_of_a_task_that_was_held_twice_are_added() -> None:
    parts = [
        Report(name="shared", processor="v2:2", records={"in": n, "used": n}, rows_out=n) for n in (3, 4)
    ]
    report = merged_report(JobConfig(name="shared"), [(1, parts[0]), (1, parts[1])], "completed", None)
    assert (report.records["in"], report.records["used"], report.records["late"]) == (7, 7, 0)
    assert report.rows_out == 7
