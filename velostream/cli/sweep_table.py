"""The one table of a sweep: on the screen, as CSV, as JSON and as a plot, rewritten after each run."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velostream.cli.screen import Screen
from velostream.cli.words import count, seconds

if TYPE_CHECKING:
    from velostream.runtime.report import Report

# Columns of the files behind the swept keys; `reason` says why a run failed.
COLUMNS = (
    "state",
    "processor",
    "seconds",
    "rate",
    "rows_out",
    "in",
    "used",
    "filtered",
    "late",
    "failed",
    "open_windows",
    "state_rows",
    "reason",
)


@dataclass
class Row:
    """One run: what was swept, and what came of it. `report` is None when it could not start."""

    number: int
    swept: dict[str, str]
    report: Report | None
    reason: str = ""

    @property
    def completed(self) -> bool:
        return self.report is not None and self.report.state == "completed"

    def flat(self) -> dict[str, Any]:
        """All values by column."""
        values: dict[str, Any] = {"run": self.number, **self.swept}
        if self.report is None:
            return {**values, "state": "failed", "reason": self.reason}
        report = self.report
        values |= {
            "state": report.state,
            "processor": report.processor,
            "seconds": round(report.seconds, 6),
            "rate": round(report.rate, 1),
            "rows_out": report.rows_out,
            **{name: report.records.get(name, 0) for name in ("in", "used", "filtered", "late", "failed")},
            "open_windows": report.open_windows,
            "state_rows": report.state_rows,
        }
        return {**values, "reason": report.error or self.reason}


@dataclass
class SweepTable:
    """The rows so far, in the folder of the sweep."""

    folder: Path
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add a run and rewrite the files, so that an interrupted sweep keeps what it has."""
        self.rows.append(row)
        self._write_csv()
        self._write_json()
        if importlib.util.find_spec("matplotlib") is not None:
            plot(self.rows, self.folder / "plot.png")

    @property
    def keys(self) -> list[str]:
        """The swept keys, in the order in which they came up."""
        return list(dict.fromkeys(key for row in self.rows for key in row.swept))

    def best(self) -> Row | None:
        """The completed run with the highest rate."""
        completed = [row for row in self.rows if row.report is not None and row.completed]
        return max(completed, key=lambda row: row.report.rate if row.report else 0.0, default=None)

    def show(self, screen: Screen) -> None:
        """Print the table."""
        header = ["run", *self.keys, "state", "records/s", "time", "records", "rows out", "late", "failed"]
        header += ["state rows", "reason"]
        styles = [None if row.completed else "red" for row in self.rows]
        screen.table(header, [self._cells(row) for row in self.rows], styles)

    def _cells(self, row: Row) -> list[str]:
        flat = row.flat()
        cells = [str(row.number), *(row.swept.get(key, "") for key in self.keys), flat["state"]]
        if row.report is None:
            return [*cells, *[""] * 7, _one_line(flat["reason"])]
        return [
            *cells,
            count(flat["rate"]),
            seconds(flat["seconds"]),
            *(count(flat[name]) for name in ("in", "rows_out", "late", "failed", "state_rows")),
            _one_line(flat["reason"]),
        ]

    def _write_csv(self) -> None:
        with open(self.folder / "table.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["run", *self.keys, *COLUMNS], restval="")
            writer.writeheader()
            writer.writerows(row.flat() for row in self.rows)

    def _write_json(self) -> None:
        runs = [
            {**row.flat(), "report": None if row.report is None else row.report.to_dict()}
            for row in self.rows
        ]
        text = json.dumps(runs, indent=2, ensure_ascii=False)
        (self.folder / "table.json").write_text(text + "\n", encoding="utf-8")


def _one_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


def plot(rows: Sequence[Row], file: Path) -> None:
    """The rate of the completed runs: lines over the swept key with the most numbers, one per combination
    of the others; bars when no swept key is a number. Writes nothing while no run has completed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    runs = [(row, row.report.rate) for row in rows if row.completed and row.report is not None]
    if not runs:
        return
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_ylabel("records/s")
    key = _numeric_key([row for row, _ in runs])
    if key is None:
        labels = [", ".join(f"{name}={value}" for name, value in row.swept.items()) for row, _ in runs]
        axes.barh([label or "run" for label in labels], [rate for _, rate in runs])
        axes.set_ylabel("")
        axes.set_xlabel("records/s")
    else:
        series: dict[str, list[tuple[float, float]]] = {}
        for row, rate in runs:
            label = ", ".join(f"{name}={value}" for name, value in row.swept.items() if name != key)
            series.setdefault(label, []).append((float(row.swept[key]), rate))
        for label, points in series.items():
            axes.plot(*zip(*sorted(points), strict=True), marker="o", label=label or None)
        axes.set_xlabel(key)
        axes.set_ylim(bottom=0)
        if any(series):
            axes.legend()
    figure.savefig(file)


def _numeric_key(rows: Sequence[Row]) -> str | None:
    """The swept key whose values are all numbers, the one with the most of them; None without one."""
    found: list[tuple[int, str]] = []
    for key in rows[0].swept:
        values = {row.swept.get(key, "") for row in rows}
        if all(value.replace(".", "", 1).isdecimal() for value in values):
            found.append((len(values), key))
    return max(found, key=lambda item: item[0])[1] if found else None
