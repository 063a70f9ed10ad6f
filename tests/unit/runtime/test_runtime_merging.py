"""The figures of a worker: those of the tasks that it has had."""

from __future__ import annotations

from typing import Any

from velostream.config.schema import JobConfig, ProcessorConfig
from velostream.runtime.failures.base import Trouble
from velostream.runtime.merging import merged_progress, merged_report
from velostream.runtime.report import Progress, Report


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


def part(name: str = "shared", **of: Any) -> Report:
    return Report(name=name, **{"records": {"in": 10, "used": 10}, **of})


def merged(*reports: tuple[int, Report], tasks: int = 4) -> Report:
    config = JobConfig(name="shared", processor=ProcessorConfig(tasks=tasks))
    return merged_report(config, reports, "completed", None)


def test_tasks_side_by_side_take_the_time_from_the_first_to_the_last() -> None:
    report = merged((0, part(begun_at=100.0, seconds=4.0)), (1, part(begun_at=102.0, seconds=6.0)))
    assert (report.begun_at, report.seconds, report.rate) == (100.0, 8.0, 2.5)


def test_the_time_between_jobs_one_after_the_other_does_not_count() -> None:
    report = merged((0, part(begun_at=100.0, seconds=1.0)), (0, part(begun_at=500.0, seconds=4.0)))
    assert (report.begun_at, report.seconds, report.rate) == (100.0, 5.0, 4.0)


def test_a_task_that_has_read_nothing_does_not_move_the_beginning() -> None:
    report = merged((0, part(records={"in": 0})), (1, part(begun_at=50.0, seconds=2.0)))
    assert (report.begun_at, report.seconds, report.rate) == (50.0, 2.0, 5.0)


def test_state_is_that_of_each_tasks_last_job() -> None:
    """One that has moved away and come back has the state of before in it."""
    report = merged(
        (0, part(open_windows=5, state_rows=50, state_bytes=500)),
        (1, part(open_windows=1, state_rows=10, state_bytes=100)),
        (0, part(open_windows=2, state_rows=20, state_bytes=200)),
    )
    assert (report.open_windows, report.state_rows, report.state_bytes) == (3, 30, 300)


def test_figures_of_one_name_are_added() -> None:
    def entries(rows: int, text: str) -> dict[str, Any]:
        return {
            "queries": [{"name": "q", "in": rows}],
            "sinks": [{"name": "out", "rows": rows, "location": text, "live": True}],
        }

    report = merged((0, part(**entries(3, "bets"))), (1, part(**entries(4, "other"))), (2, part()))
    assert report.queries == [{"name": "q", "in": 7}]
    assert report.sinks == [{"name": "out", "rows": 7, "location": "bets", "live": True}]


def test_the_share_of_each_kind_of_work_is_in_the_time_of_all_tasks() -> None:
    def times(read: float, write: float) -> list[dict[str, Any]]:
        named = [("write", write), ("read", read)]
        return [{"name": name, "seconds": s, "share": s / (read + write)} for name, s in named]

    report = merged((0, part(stages=times(1.0, 3.0))), (1, part(stages=times(2.0, 2.0))))
    assert report.stages == [
        {"name": "read", "seconds": 3.0, "share": 0.375},
        {"name": "write", "seconds": 5.0, "share": 0.625},
    ]


def test_lanes_are_told_apart_by_task_where_there_are_several() -> None:
    lane = {"lane": 0, "blocks": 1}
    reports = (0, part(lanes=[lane])), (3, part(lanes=[lane]))
    assert merged(*reports).lanes == [{"task": 0, **lane}, {"task": 3, **lane}]
    assert merged(*reports, tasks=1).lanes == [lane, lane]


def test_of_epochs_the_furthest_and_of_failures_each_once() -> None:
    report = merged(
        (
            0,
            part(
                epochs=7, resumed_epoch=2, commits=5, failures=["bad", "worse"], dead_letters=None, bytes_in=5
            ),
        ),
        (
            1,
            part(
                epochs=4,
                resumed_epoch=3,
                commits=1,
                failures=["bad"],
                dead_letters="dead-1.ndjson",
                bytes_in=6,
            ),
        ),
    )
    assert (report.epochs, report.resumed_epoch, report.commits, report.bytes_in) == (7, 3, 6, 11)
    assert (report.failures, report.dead_letters) == (["bad", "worse"], "dead-1.ndjson")


def test_progress_is_of_what_is_over_and_of_what_runs() -> None:
    trouble = Trouble("sink 'out'", 1.0, 2, "away")
    running = [
        Progress(3, 30, 100, 1, 2.0, [trouble]),
        Progress(4, 40, 100, 2, 5.0),
    ]
    found = merged_progress([part(bytes_in=100, rows_out=8)], running)
    assert found == Progress(17, 170, None, 11, 5.0, [trouble])
    assert merged_progress([], []) == Progress(0, 0, None, 0, 0.0, [])
