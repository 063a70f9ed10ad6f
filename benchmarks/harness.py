"""Runs contenders in turn, each in a fresh process, and tabulates medians and ratios."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.data import FOLDER

RUNS = 5


@dataclass(frozen=True)
class Contender:
    """`argument` is what the scenario's module takes to run it once and print `{"seconds": …}`."""

    name: str
    argument: str


@dataclass(frozen=True)
class Outcome:
    """Seconds of each run, from the first block read to the last row written."""

    contender: Contender
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def compare(
    scenario: str,
    title: str,
    records: int,
    contenders: Sequence[Contender],
    check: Callable[[Contender], None],
    runs: int = RUNS,
) -> list[Outcome]:
    """Run all contenders in turn, `runs` times, the first of them the base of the ratios.

    `check` compares a contender's result with the base's and raises when they differ; it runs before any
    figure counts.
    """
    console = Console()
    taken: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(runs + 1):
        for contender in contenders:
            seconds = _run(scenario, contender, records)
            if number == 0:  # a warm-up: the file is in the page cache, and results are compared
                check(contender)
                continue
            taken[contender.name].append(seconds)
        if number:
            console.print(f"[dim]{title}: run {number} of {runs}[/dim]", highlight=False)
    outcomes = [Outcome(contender, tuple(taken[contender.name])) for contender in contenders]
    _report(console, scenario, title, records, outcomes)
    return outcomes


def _run(scenario: str, contender: Contender, records: int) -> float:
    command = [sys.executable, "-m", f"benchmarks.{scenario}", contender.argument, str(records)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{contender.name} failed:\n{done.stdout}{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def machine() -> str:
    """CPU, cores and versions, for the table's foot."""
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            cpu = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    packages = ", ".join(f"{name} {version(name)}" for name in ("duckdb", "pyarrow", "faust-streaming"))
    return (
        f"{date.today()}, {cpu}, {len(os.sched_getaffinity(0))} cores, "
        f"Python {platform.python_version()}, {packages}"
    )


def _report(console: Console, scenario: str, title: str, records: int, outcomes: list[Outcome]) -> None:
    base = outcomes[0]
    table = Table(title=f"{title}, {records:,} records", caption=machine())
    for column in ("contender", "records/s", "seconds (median)", "min", "max", f"x {base.contender.name}"):
        table.add_column(column, justify="left" if column == "contender" else "right")
    lines = ["| contender | records/s | seconds (median) | min | max | ratio |", "|---|---|---|---|---|---|"]
    rows = []
    for outcome in outcomes:
        ratio = base.median / outcome.median
        cells = (
            outcome.contender.name,
            f"{records / outcome.median:,.0f}",
            f"{outcome.median:.3f}",
            f"{min(outcome.seconds):.3f}",
            f"{max(outcome.seconds):.3f}",
            f"{ratio:.2f}",
        )
        table.add_row(*cells)
        lines.append("| " + " | ".join(cells) + " |")
        rows.append({"contender": outcome.contender.name, "seconds": outcome.seconds, "ratio": ratio})
    console.print(table)
    target = FOLDER / scenario
    Path(f"{target}.json").write_text(
        json.dumps({"title": title, "records": records, "machine": machine(), "runs": rows}, indent=2)
    )
    Path(f"{target}.md").write_text(
        f"{title}, {records:,} records\n\n" + "\n".join(lines) + f"\n\n{machine()}\n"
    )
