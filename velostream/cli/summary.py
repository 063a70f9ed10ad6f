"""The end of a run in lines that a person wants to read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velostream.cli.words import aligned, count, seconds, size, trouble
from velostream.config.paths import shown

if TYPE_CHECKING:
    from velostream.runtime.report import Report

COUNTERS = ("in", "used", "filtered", "late", "failed")


def summary_lines(report: Report, folder: Path | None) -> Iterator[str]:
    """The summary; `folder` is where the run left its report, if anywhere."""
    yield f"{report.name}: {report.state} in {seconds(report.seconds)}, processor {report.processor}"
    if report.error:
        yield from _labelled("error", report.error.splitlines())
    numbers = [f"{name} {count(report.records.get(name, 0))}" for name in COUNTERS]
    yield from _labelled("records", ["   ".join(numbers)])
    yield from _labelled("rows out", [count(report.rows_out)])
    yield from _labelled("rate", [_rate(report)])
    yield from _labelled("stages", aligned([_stage(stage) for stage in report.stages]))
    yield from _labelled("lanes", aligned([_lane(lane) for lane in report.lanes]))
    if report.resumed_epoch:
        yield from _labelled("resumed", [f"from epoch {count(report.resumed_epoch)}"])
    if report.commits:
        yield from _labelled("commits", [count(report.commits)])
    if report.open_windows:
        saved = "saved for the next start" if report.epochs else "not emitted"
        yield from _labelled("open", [f"{count(report.open_windows)} windows, {saved}"])
    yield from _labelled("failures", report.failures)
    yield from _labelled("trouble", [_trouble(entry) for entry in report.troubles])
    if report.dead_letters:
        yield from _labelled("failed to", [shown(report.dead_letters)])
    if report.late_records:
        yield from _labelled("late to", [shown(report.late_records)])
    yield from _labelled("results", aligned([_sink(sink) for sink in report.sinks]))
    if folder is not None:
        yield from _labelled("report", [shown(folder / "report.json")])


def brief_lines(beginning: str, report: Report) -> Iterator[str]:
    """A run in one line, and one for each failure that was logged."""
    if report.error:
        yield f"{beginning}: {report.state}, {report.error.splitlines()[0]}"
    else:
        lost = "".join(
            f", {count(report.records[name])} {name}"
            for name in ("late", "failed")
            if report.records.get(name)
        )
        yield (
            f"{beginning}: {report.state}, {count(report.rate)} records/s, {count(report.rows_out)} rows out"
            f"{lost}, {seconds(report.seconds)}"
        )
    yield from (f"  {failure}" for failure in report.failures)


def _labelled(label: str, lines: list[str]) -> Iterator[str]:
    for at, line in enumerate(lines):
        yield f"  {label if at == 0 else '':<9} {line}"


def _rate(report: Report) -> str:
    rate = f"{count(report.rate)} records/s"
    if report.bytes_in and report.seconds:
        rate += f"   {size(report.bytes_in / report.seconds)}/s read"
    return rate


def _stage(stage: dict[str, Any]) -> list[str]:
    return [stage["name"], seconds(stage["seconds"]), f"{stage['share']:.0%}"]


def _lane(lane: dict[str, Any]) -> list[str]:
    seen = lane.get("cpus_seen") or []
    cpu = f"cpu {lane['cpu']}" if lane["cpu"] is not None else "unpinned"
    if lane["cpu"] is None and seen:
        cpu += f", on cpu {', '.join(map(str, seen))}"
    number = str(lane["lane"])
    return [
        f"{lane['task']}.{number}" if "task" in lane else number,
        cpu,
        f"blocks {count(lane['blocks'])}",
        f"records {count(lane['records'])}",
        f"busy {seconds(lane['busy_seconds'])}",
        f"python {lane['python_share']:.1%}",
    ]


def _trouble(entry: dict[str, Any]) -> str:
    text = trouble(entry["what"], entry["since"], entry["tries"], entry["given_up"])
    return f"{text}: {entry['error']}"


def _sink(sink: dict[str, Any]) -> list[str]:
    location = shown(sink["location"]) if sink["kind"] == "file" and sink["location"] else sink["location"]
    return [sink["name"], f"{count(sink['rows'])} rows", size(sink["bytes"]), location or sink["kind"]]
