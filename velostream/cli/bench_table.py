"""What `command=bench` has measured: on the screen, as JSON, as Markdown and as a plot."""

from __future__ import annotations

import importlib.util
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from velostream.cli.bench_grid import Setting
from velostream.cli.machine import machine, machine_line
from velostream.cli.screen import Screen
from velostream.cli.words import count, size
from velostream.config.units import parse_bytes

HEADER = ("processor", "partitions", "block", "records/s", "min", "max", "spread", "read/s", "note")


@dataclass
class Measure:
    """The runs of one setting: records and bytes per second of each. `reason` says why the last failed."""

    setting: Setting
    rates: list[float] = field(default_factory=list)
    bytes_rates: list[float] = field(default_factory=list)
    reason: str = ""

    @property
    def median(self) -> float:
        """Records per second; 0 when no run came to its end."""
        return statistics.median(self.rates) if self.rates else 0.0

    @property
    def spread(self) -> float:
        """The distance between the fastest and the slowest run, as a part of the median."""
        return (max(self.rates) - min(self.rates)) / self.median if self.median else 0.0

    def cells(self) -> list[str]:
        """The row of the table, under HEADER."""
        partitions = self.setting.partitions
        name = ["v1" if partitions is None else "v2", str(partitions or 1), self.setting.block_size]
        if not self.rates:
            return [*name, "", "", "", "", "", self.reason]
        read = size(statistics.median(self.bytes_rates)) if any(self.bytes_rates) else ""
        rates = [count(self.median), count(min(self.rates)), count(max(self.rates))]
        return [*name, *rates, f"{self.spread:.0%}", read, self.reason]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "overrides": self.setting.overrides,
            "partitions": self.setting.partitions,
            "block_bytes": parse_bytes(self.setting.block_size),
            "rates": self.rates,
            "median": self.median,
            "spread": self.spread,
            "bytes_rates": self.bytes_rates,
            "reason": self.reason,
        }


def best(measures: Sequence[Measure]) -> Measure | None:
    """The setting with the highest median; None when none has a run."""
    return max((measure for measure in measures if measure.rates), key=lambda m: m.median, default=None)


def show(measures: Sequence[Measure], screen: Screen) -> None:
    """Print the table, the best setting bold on a terminal."""
    top = best(measures)
    styles = ["red" if not m.rates else "bold" if m is top else None for m in measures]
    screen.table(HEADER, [measure.cells() for measure in measures], styles)


def save(title: str, measures: Sequence[Measure], folder: Path) -> list[str]:
    """Write table.json and table.md, and plot.png when matplotlib is there; gives the names written."""
    facts, top = machine(), best(measures)
    override = " ".join(top.setting.overrides) if top is not None else None
    content = {
        "title": title,
        "machine": facts,
        "best": override,
        "settings": [measure.to_dict() for measure in measures],
    }
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / "table.json").write_text(text + "\n", encoding="utf-8")
    rows = [HEADER, ["---"] * len(HEADER), *(measure.cells() for measure in measures)]
    table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
    last = f"\nBest: `{override}`\n" if override else ""
    (folder / "table.md").write_text(f"{title}\n\n{table}\n{last}\n{machine_line(facts)}\n", encoding="utf-8")
    written = ["table.json", "table.md"]
    if top is not None and importlib.util.find_spec("matplotlib") is not None:
        plot(title, measures, folder / "plot.png")
        written.append("plot.png")
    return written


def plot(title: str, measures: Sequence[Measure], file: Path) -> None:
    """Medians over the block size, one line per number of lanes, bars from the slowest to the fastest run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    sizes = sorted({measure.setting.block_size for measure in measures}, key=parse_bytes)
    for partitions in dict.fromkeys(measure.setting.partitions for measure in measures):
        line = [m for m in measures if m.setting.partitions == partitions and m.rates]
        if not line:
            continue
        axes.errorbar(
            [sizes.index(m.setting.block_size) for m in line],
            [m.median for m in line],
            yerr=[[m.median - min(m.rates) for m in line], [max(m.rates) - m.median for m in line]],
            marker="o",
            capsize=3,
            label="v1" if partitions is None else f"v2, {partitions} partitions",
        )
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set_xlabel("processor.block_size")
    axes.set_ylabel("records/s")
    axes.set_ylim(bottom=0)
    axes.set_title(title)
    axes.legend()
    figure.savefig(file)
