"""A model of a job with several workers, fitted to a run of `kafka_workers`, and what it predicts.

    python -m benchmarks.scaling_model RESULTS.json [--docs] [--plot scaling.png]

CPU seconds of all workers of a run = start x workers + task x tasks + idle x seconds of all tasks + record x
records + exchange x exchanged rows + commit x commits of all tasks; the broker's likewise, without a start. A
handover takes a time and seconds per key of state. Fitted by least squares to the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine_line

DOCUMENT = Path("docs/scaling.md")
MARKERS = "<!-- predictions -->", "<!-- end of predictions -->"
WORKERS = (1, 3, 10, 30, 100)
# What a prediction assumes.
CORES, BROKERS, BROKER_CORES, TASKS_PER_WORKER, INTERVAL_SECONDS = 4, 3, 8, 4, 0.2


@dataclass(frozen=True)
class Costs:
    """CPU seconds, each of one: a process, a task's start and end, a second of a task, a record, an exchanged
    row, a commit of a task. `residual` is the root mean square of what the fit leaves, as a share of the mean
    measured."""

    start: float
    task: float
    idle: float
    record: float
    exchange: float
    commit: float
    residual: float


@dataclass(frozen=True)
class Model:
    """`handover` is seconds without state, and seconds per key; None when there are no runs of it."""

    worker: Costs
    broker: Costs
    handover: tuple[float, float] | None

    def rate(
        self,
        workers: int,
        exchange: bool,
        tasks: int,
        cores: int = CORES,
        broker_cores: int = BROKERS * BROKER_CORES,
        interval: float = INTERVAL_SECONDS,
    ) -> tuple[float, str]:
        """Records/s, and what bounds them: `workers` or `broker`.

        The worker with most tasks bounds them all; a task takes one core at most. Records are spread evenly.
        """
        held = ceil(tasks / workers)
        left = min(cores, held) - held * (self.worker.idle + self.worker.commit / interval)
        of_workers = max(0.0, left) / _per_record(self.worker, exchange) * tasks / held
        left = broker_cores - tasks * (self.broker.idle + self.broker.commit / interval)
        of_broker = max(0.0, left) / _per_record(self.broker, exchange)
        return min((of_workers, "workers"), (of_broker, "broker"))


def _per_record(costs: Costs, exchange: bool) -> float:
    # A cost that the runs cannot tell from nothing bounds nothing.
    return max(costs.record + (costs.exchange if exchange else 0.0), 1e-12)


def fit(runs: Sequence[Mapping[str, float]], handovers: Sequence[Mapping[str, float]] = ()) -> Model:
    """`runs` have workers, tasks, task_seconds, records, exchanged, commits and both CPU figures;
    `handovers` keys and handover.

    Raises ValueError when there are fewer runs than costs.
    """
    slope = None
    if len({run["keys"] for run in handovers}) > 1:
        keys = np.array([run["keys"] for run in handovers])
        fitted = np.polynomial.Polynomial.fit(keys, [run["handover"] for run in handovers], 1).convert().coef
        slope = float(fitted[0]), float(fitted[1])
    inputs = ("tasks", "task_seconds", "records", "exchanged", "commits")
    worker = Costs(*_least_squares(runs, ("workers", *inputs), "worker_cpu"))
    return Model(worker, Costs(0.0, *_least_squares(runs, inputs, "broker_cpu")), slope)


def _least_squares(runs: Sequence[Mapping[str, float]], inputs: Sequence[str], output: str) -> list[float]:
    """A cost of each input, and the residual. A cost below 0 makes no sense: its input is left out."""
    if len(runs) < len(inputs):
        raise ValueError(f"{len(runs)} runs cannot tell {len(inputs)} costs")
    wanted = np.array([run[output] for run in runs])
    kept = list(inputs)
    while kept:
        matrix = np.array([[run[name] for name in kept] for run in runs], dtype=float)
        # Of one size, or those of records would hide the others.
        scale = np.maximum(matrix.max(axis=0), 1.0)
        costs = np.linalg.lstsq(matrix / scale, wanted, rcond=None)[0] / scale
        if costs.min() >= 0:
            break
        del kept[int((costs * scale).argmin())]
    found = dict(zip(kept, costs.tolist(), strict=True)) if kept else {}
    left = wanted - (matrix @ costs if kept else 0.0)
    residual = float(np.sqrt(np.mean(left**2)) / wanted.mean())
    return [*(found.get(name, 0.0) for name in inputs), residual]


def medians(saved: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """The medians of each contender's figures in a results file: of loads, and of handovers."""
    found = [
        {key: statistics.median(run[key] for run in outcome["runs"]) for key in outcome["runs"][0]}
        for comparison in saved
        for outcome in comparison["outcomes"]
    ]
    return [each for each in found if "worker_cpu" in each], [each for each in found if "handover" in each]


def report(model: Model) -> str:
    """The costs and the predictions, as Markdown."""
    lines = [
        "| CPU | process, s | task, s | second of a task, ms | record, µs | exchanged row, µs | commit, ms "
        "| residual |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, costs in (("workers", model.worker), ("broker", model.broker)):
        lines.append(
            f"| {name} | {costs.start:.2f} | {costs.task:.2f} | {costs.idle * 1e3:.1f} "
            f"| {costs.record * 1e6:.2f} "
            f"| {costs.exchange * 1e6:.2f} | {costs.commit * 1e3:.2f} | {costs.residual:.0%} |"
        )
    if model.handover is not None:
        still, per_key = model.handover
        lines += ["", f"A handover: {still:.2f} s, and {per_key * 1e6:.2f} s per million keys."]
    lines += [
        "",
        f"Predicted for {CORES} cores a worker, {BROKERS} brokers of {BROKER_CORES} cores, "
        f"{TASKS_PER_WORKER} tasks a worker, commits every {INTERVAL_SECONDS * 1000:.0f} ms:",
        "",
        "| workers | tasks | records/s, exchange none | bound by | records/s, exchange topic | bound by |",
        "|---|---|---|---|---|---|",
    ]
    for workers in WORKERS:
        tasks = workers * TASKS_PER_WORKER
        (alone, first), (exchanged, second) = (model.rate(workers, each, tasks) for each in (False, True))
        lines.append(f"| {workers} | {tasks} | {alone:,.0f} | {first} | {exchanged:,.0f} | {second} |")
    return "\n".join(lines)


def plot(model: Model, path: Path) -> None:
    """Write a PNG: predicted rate by workers."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(layout="constrained")
    for name, exchange in (("none", False), ("topic", True)):
        rates = [model.rate(each, exchange, each * TASKS_PER_WORKER)[0] for each in WORKERS]
        panel.plot(WORKERS, rates, marker="o", label=f"exchange {name}")
    panel.set(xscale="log", yscale="log", xlabel="workers", ylabel="records/s, predicted")
    panel.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling_model")
    parser.add_argument("results", type=Path, help="results/kafka_workers.json of `make bench`")
    parser.add_argument("--docs", action="store_true", help=f"put the tables into {DOCUMENT}")
    parser.add_argument("--plot", type=Path, help="a PNG to write (extra plot)")
    given = parser.parse_args()
    saved = json.loads(given.results.read_text("utf-8"))
    model = fit(*medians(saved))
    first = saved[0]
    runs = len(first["outcomes"][0]["runs"])
    measured = f"{first['records']:,} records, medians of {runs} runs; {machine_line(first['machine'])}."
    text = f"{report(model)}\n\n{measured}"
    print(text)
    if given.plot:
        plot(model, given.plot)
    if given.docs:
        before, _, rest = DOCUMENT.read_text("utf-8").partition(MARKERS[0])
        after = rest.partition(MARKERS[1])[2]
        DOCUMENT.write_text(f"{before}{MARKERS[0]}\n\n{text}\n\n{MARKERS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
