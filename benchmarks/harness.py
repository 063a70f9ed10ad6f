"""Runs contenders in turn, each run in a fresh process, and compares results before a figure counts.

A scenario is a module with `main(records)`, which calls `compare`, and `run(argument, records)`, which
runs one contender once; `python -m benchmarks.NAME ARGUMENT RECORDS` prints what `run` measured, as JSON.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from rich.console import Console

from benchmarks.data import FOLDER

__all__ = ["FOLDER", "RATE", "Comparison", "Contender", "Figure", "Outcome", "Target", "compare", "entry"]

RUNS = 5


@dataclass(frozen=True)
class Contender:
    """`argument` is what the scenario's module takes to run it once and print `{"seconds": …}`.

    `needs` is a package that only the extra `bench` installs. A slow contender runs on the first `at_most`
    records of the same input; its rows are compared with the base's on that prefix, its rate with all.
    """

    name: str
    argument: str
    needs: str = ""
    at_most: int | None = None

    def records(self, records: int) -> int:
        """How many of the scenario's `records` it is given."""
        return records if self.at_most is None else min(records, self.at_most)


@dataclass(frozen=True)
class Figure:
    """One of the figures of a run, by its key in what the run prints, and how to show it."""

    key: str
    title: str
    digits: int = 0

    def text(self, value: float) -> str:
        return f"{value:,.{self.digits}f}"


# Made by the harness of `seconds`, and of `records` where a run prints it.
RATE = Figure("rate", "records/s")


@dataclass(frozen=True)
class Outcome:
    """The figures of each run of a contender. `seconds` are from first block read to last row written."""

    contender: Contender
    runs: tuple[Mapping[str, float], ...]

    @cached_property
    def seconds(self) -> tuple[float, ...]:
        return self.values("seconds")

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def values(self, figure: str) -> tuple[float, ...]:
        return tuple(run[figure] for run in self.runs)

    def middle(self, figure: str) -> float:
        return statistics.median(self.values(figure))


@dataclass(frozen=True)
class Target:
    """What is demanded of the median of a figure, or of its ratio to that of `over`.

    `contender` and `over` are arguments of contenders. One of `at_least` and `at_most` is given.
    """

    text: str
    contender: str
    over: str = ""
    figure: str = RATE.key
    at_least: float | None = None
    at_most: float | None = None

    def measured(self, outcomes: Sequence[Outcome]) -> float:
        by_argument = {outcome.contender.argument: outcome for outcome in outcomes}
        value = by_argument[self.contender].middle(self.figure)
        return value / by_argument[self.over].middle(self.figure) if self.over else value

    def met(self, measured: float) -> bool:
        if self.at_least is not None:
            return measured >= self.at_least
        assert self.at_most is not None, self.text
        return measured <= self.at_most


@dataclass(frozen=True)
class Comparison:
    """One ended `compare`."""

    scenario: str
    title: str
    records: int
    outcomes: tuple[Outcome, ...]
    targets: tuple[Target, ...] = ()
    figures: tuple[Figure, ...] = (RATE,)

    @property
    def runs(self) -> int:
        return len(self.outcomes[0].runs)

    def label(self, contender: Contender) -> str:
        """Its name, and the prefix that it was given where that is not all."""
        given = contender.records(self.records)
        return contender.name if given == self.records else f"{contender.name}, first {given:,} records"


@dataclass
class Session:
    """What `make bench` asked for, and what has been compared so far."""

    runs: int = RUNS
    finished: list[Comparison] = field(default_factory=list)


session = Session()


def compare(
    scenario: str,
    title: str,
    records: int,
    contenders: Sequence[Contender],
    check: Callable[[Contender], None] = lambda contender: None,
    runs: int | None = None,
    targets: Sequence[Target] = (),
    figures: Sequence[Figure] = (RATE,),
    warm_ups: int = 1,
) -> list[Outcome]:
    """Run all contenders in turn, `runs` times behind `warm_ups` that do not count, the first of them the
    base of the ratios.

    `check` compares a contender's result with the base's and raises SystemExit when they differ; it runs
    before any figure counts. Where no rows are made there is nothing to check.
    """
    from benchmarks.table import show

    require(contenders)
    wanted = runs or session.runs
    # A table is unreadable in the 80 columns that a pipe is taken for.
    console = Console() if sys.stdout.isatty() else Console(width=130)
    base = contenders[0]
    taken: dict[str, list[dict[str, float]]] = {contender.name: [] for contender in contenders}
    for number in range(1 - warm_ups, wanted + 1):
        for contender in contenders:
            what = f"warm-up: {contender.name}"
            if number == 0:
                what = f"warm-up, results compared: {contender.name}"
            elif number > 0:
                what = f"run {number} of {wanted}: {contender.name}"
            with console.status(f"{scenario}: {what}"):
                given = contender.records(records)
                if number == 0 and given != records:
                    run_once(scenario, base, base.records(given))
                run = run_once(scenario, contender, given)
                if number == 0:  # the file is in the page cache now
                    check(contender)
            if number > 0:
                taken[contender.name].append(run)
            shown = ", ".join(f"{figure.text(run[figure.key])} {figure.title}" for figure in figures)
            console.print(f"[dim]{scenario}: {what}: {shown}[/dim]", highlight=False)
    outcomes = [Outcome(contender, tuple(taken[contender.name])) for contender in contenders]
    comparison = Comparison(scenario, title, records, tuple(outcomes), tuple(targets), tuple(figures))
    session.finished.append(comparison)
    show(console, [comparison])
    return outcomes


def require(contenders: Sequence[Contender]) -> None:
    """Raises SystemExit that names the extra when a contender's package is missing."""
    missing = [contender for contender in contenders if contender.needs and not _present(contender.needs)]
    if missing:
        lines = [f"{contender.name} needs the package '{contender.needs}'" for contender in missing]
        if any(contender.needs == "bytewax" for contender in missing) and sys.version_info >= (3, 13):
            lines.append("Bytewax has no release for Python 3.13: make bench PYTHON=python3.12")
        raise SystemExit("\n".join([*lines, "install the extra: pip install -e '.[bench]'"]))


def _present(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def run_once(scenario: str, contender: Contender, records: int) -> dict[str, float]:
    """The figures of one run in a process of its own."""
    command = [sys.executable, "-m", f"benchmarks.{scenario}", contender.argument, str(records)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{scenario}: {contender.name} failed:\n{done.stdout}{done.stderr}")
    run: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if "seconds" in run:
        run["rate"] = run.get("records", records) / run["seconds"]
    return run


def entry(
    run: Callable[[str, int], float | Mapping[str, float]], main: Callable[[int], None], records: int
) -> None:
    """The `__main__` of a scenario: one contender once, or all of them compared."""
    if len(sys.argv) != 3:
        main(records)
        return
    measured = run(sys.argv[1], int(sys.argv[2]))
    print(json.dumps(measured if isinstance(measured, Mapping) else {"seconds": measured}))
