"""One table over all comparisons: for the terminal, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Comparison, Contender, Figure, Outcome, Target
from benchmarks.machine import machine_line

RESULTS = ("scenario", "contender", "figure", "median", "min", "max", "x first")
TARGETS = ("scenario", "target", "measured", "verdict")


def result_rows(comparisons: Sequence[Comparison]) -> Iterator[tuple[str, ...]]:
    """Texts of one row per contender and figure; `x first` is the median by that of the first contender."""
    for comparison in comparisons:
        base = comparison.outcomes[0]
        for outcome in comparison.outcomes:
            for figure in comparison.figures:
                values, middle = outcome.values(figure.key), outcome.middle(figure.key)
                base_middle = base.middle(figure.key)
                yield (
                    comparison.scenario,
                    comparison.label(outcome.contender),
                    figure.title,
                    *(figure.text(value) for value in (middle, min(values), max(values))),
                    _significant(middle / base_middle) if base_middle else "",
                )


def target_rows(comparisons: Sequence[Comparison]) -> Iterator[tuple[str, ...]]:
    """Texts of one row per target, measured against demanded."""
    for comparison in comparisons:
        for target in comparison.targets:
            measured = target.measured(comparison.outcomes)
            text = _significant(measured) + ("x" if target.over else "")
            yield comparison.scenario, target.text, text, "met" if target.met(measured) else "missed"


def _significant(value: float) -> str:
    """Three digits of it, at least to the unit."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def heads(comparisons: Sequence[Comparison]) -> list[str]:
    """What each scenario compares, in a line."""
    return [
        f"{comparison.scenario}: {comparison.title}; {comparison.records:,} records, "
        f"medians of {comparison.runs} run{'s' if comparison.runs > 1 else ''}"
        for comparison in comparisons
    ]


def show(console: Console, comparisons: Sequence[Comparison]) -> None:
    """Print the tables."""
    for line in heads(comparisons):
        console.print(line, highlight=False)
    for columns, rows in ((RESULTS, result_rows(comparisons)), (TARGETS, target_rows(comparisons))):
        table = Table()
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if columns is RESULTS and number > 2 else "left")
        for row in rows:
            colour = {"met": "green", "missed": "red"}.get(row[-1])
            table.add_row(*row, style=colour)
        if table.row_count:
            console.print(table)


def markdown(comparisons: Sequence[Comparison], facts: dict[str, str]) -> str:
    """The targets, the results, and the machine they hold for."""
    lines = []
    for columns, rows in ((TARGETS, target_rows(comparisons)), (RESULTS, result_rows(comparisons))):
        lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines.append("")
    lines += [f"- {line}" for line in heads(comparisons)]
    return "\n".join([*lines, "", machine_line(facts), ""])


def to_json(comparison: Comparison, facts: dict[str, str]) -> dict[str, Any]:
    """All that is known of a comparison; `from_json` gives it back."""
    verdicts = []
    for target in comparison.targets:
        measured = target.measured(comparison.outcomes)
        verdicts.append({"measured": measured, "met": target.met(measured)})
    return asdict(comparison) | {"machine": facts, "verdicts": verdicts}


def from_json(saved: dict[str, Any]) -> Comparison:
    """A comparison that `to_json` has kept."""
    return Comparison(
        saved["scenario"],
        saved["title"],
        saved["records"],
        tuple(Outcome(Contender(**each["contender"]), tuple(each["runs"])) for each in saved["outcomes"]),
        tuple(Target(**each) for each in saved["targets"]),
        tuple(Figure(**each) for each in saved["figures"]),
    )


def write(path: Path, content: Any) -> None:
    """As indented JSON."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
