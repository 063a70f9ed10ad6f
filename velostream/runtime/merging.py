"""The figures of several jobs as those of one: of the tasks that a worker has had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from velostream.config.schema import JobConfig
from velostream.runtime.counters import Counters
from velostream.runtime.report import STAGES, Progress, Report


def merged_progress(over: Sequence[Report], running: Sequence[Progress]) -> Progress:
    """Of jobs that are over and of those that run."""
    return Progress(
        records=sum(report.records.get("in", 0) for report in over) + sum(one.records for one in running),
        bytes=sum(report.bytes_in for report in over) + sum(one.bytes for one in running),
        total_bytes=None,
        rows_out=sum(report.rows_out for report in over) + sum(one.rows_out for one in running),
        seconds=max((one.seconds for one in running), default=0.0),
        troubles=[trouble for one in running for trouble in one.troubles],
    )


def merged_report(
    config: JobConfig, reports: Sequence[tuple[int, Report]], state: str, error: str | None
) -> Report:
    """Of the jobs of tasks, by number; a task that has moved away and come back has several.

    Seconds and rate are from the first block that any of them read to the last row that any wrote, so far as
    they ran side by side: of jobs one after the other only the time they ran counts.
    """
    found = [report for _, report in reports]
    begun = min((report.begun_at for report in found if report.begun_at), default=0.0)
    end = max((report.begun_at + report.seconds for report in found if report.begun_at), default=0.0)
    ran = sum(report.seconds for report in found)
    seconds = min(end - begun, ran)
    # A worker that stood by has had no task.
    records = _added([Counters().to_dict(), *(report.records for report in found)])
    return Report(
        name=config.name,
        state=state,
        error=error,
        processor=next((report.processor for report in found), config.processor.version),
        begun_at=begun,
        seconds=seconds,
        records=records,
        rows_out=sum(report.rows_out for report in found),
        rate=records["in"] / seconds if seconds else 0.0,
        bytes_in=sum(report.bytes_in for report in found),
        queries=_by_name(report.queries for report in found),
        stages=_shares(_by_name(report.stages for report in found)),
        lanes=[
            {"task": task, **lane} if config.processor.tasks > 1 else lane
            for task, report in reports
            for lane in report.lanes
        ],
        sinks=_by_name(report.sinks for report in found),
        resumed_epoch=max((report.resumed_epoch for report in found), default=0),
        epochs=max((report.epochs for report in found), default=0),
        commits=sum(report.commits for report in found),
        open_windows=_last(reports, lambda report: report.open_windows),
        state_rows=_last(reports, lambda report: report.state_rows),
        state_bytes=_last(reports, lambda report: report.state_bytes),
        peak_queue_bytes=sum(report.peak_queue_bytes for report in found),
        failures=list(dict.fromkeys(text for report in found for text in report.failures)),
        troubles=[trouble for report in found for trouble in report.troubles],
        dead_letters=next((report.dead_letters for report in found if report.dead_letters), None),
        late_records=next((report.late_records for report in found if report.late_records), None),
    )


def _added(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total


def _by_name(groups: Iterable[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Entries of one name as one: numbers added, of the rest the first."""
    found: dict[str, dict[str, Any]] = {}
    for entries in groups:
        for entry in entries:
            known = found.setdefault(entry["name"], {})
            for key, value in entry.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    known[key] = known.get(key, 0) + value
                else:
                    known.setdefault(key, value)
    return list(found.values())


def _shares(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The share of each in the time of all lanes, once they are added."""
    busy = sum(stage["seconds"] for stage in stages) or 1.0
    order = sorted(stages, key=lambda stage: STAGES.index(stage["name"]))
    return [{**stage, "share": stage["seconds"] / busy} for stage in order]


def _last(reports: Sequence[tuple[int, Report]], figure: Callable[[Report], int]) -> int:
    """Of each task its last job's, added."""
    return sum({task: figure(report) for task, report in reports}.values())
