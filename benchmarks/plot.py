"""A plot per comparison: bars of medians, with the spread of the runs."""

from __future__ import annotations

import textwrap
from pathlib import Path

from benchmarks.harness import Comparison
from benchmarks.machine import machine_line


def plot(comparison: Comparison, facts: dict[str, str], path: Path) -> None:
    """Write a PNG: one panel per figure, a bar per contender, a line over its runs' range."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    outcomes = comparison.outcomes[::-1]  # the first contender on top
    names = [comparison.label(outcome.contender) for outcome in outcomes]
    figure, panels = plt.subplots(
        1,
        len(comparison.figures),
        figsize=(4 + 5 * len(comparison.figures), 2 + 0.45 * len(names)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for panel, shown in zip(panels[0], comparison.figures, strict=True):
        middles = [outcome.middle(shown.key) for outcome in outcomes]
        ranges = [(min(values), max(values)) for values in (each.values(shown.key) for each in outcomes)]
        spread = [
            [middle - low for middle, (low, _) in zip(middles, ranges, strict=True)],
            [high - middle for middle, (_, high) in zip(middles, ranges, strict=True)],
        ]
        bars = panel.barh(names, middles, xerr=spread, capsize=3)
        panel.bar_label(bars, [shown.text(middle) for middle in middles], padding=6)
        panel.margins(x=0.25)
        panel.xaxis.set_major_formatter("{x:,g}")
        panel.set_xlabel(shown.title)
    figure.suptitle(f"{comparison.title}\n{comparison.records:,} records, medians of {comparison.runs} runs")
    figure.supxlabel(textwrap.fill(machine_line(facts), 140), fontsize=6)
    figure.savefig(path, dpi=120)
    plt.close(figure)
