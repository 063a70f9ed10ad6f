"""The scaling model finds the costs that made its runs, and predicts by what is scarce."""

from __future__ import annotations

import pytest

from benchmarks.scaling_model import Costs, Model, fit

WORKER = {
    "workers": 0.5,
    "tasks": 0.2,
    "task_seconds": 0.03,
    "records": 2e-6,
    "exchanged": 3e-6,
    "commits": 4e-3,
}
BROKER = {"tasks": 0.1, "task_seconds": 0.01, "records": 1e-6, "exchanged": 2e-6, "commits": 1e-3}


def _run(workers: int, tasks: int, seconds: float, commits: int, exchanged: int) -> dict[str, float]:
    run: dict[str, float] = {
        "workers": workers,
        "tasks": tasks,
        "task_seconds": tasks * seconds,
        "records": 1_000_000,
        "exchanged": exchanged,
        "commits": commits,
    }
    run["worker_cpu"] = sum(cost * run[name] for name, cost in WORKER.items())
    run["broker_cpu"] = sum(cost * run[name] for name, cost in BROKER.items())
    return run


RUNS = [
    _run(*each)
    for each in (
        (1, 1, 0.5, 10, 0),
        (2, 4, 0.4, 40, 0),
        (3, 8, 0.6, 20, 1_000_000),
        (1, 2, 0.4, 80, 1_000_000),
        (2, 8, 0.5, 15, 0),
        (1, 8, 6.0, 90, 0),
        (1, 4, 6.0, 10, 0),
    )
]


def test_the_fit_finds_the_costs_that_made_the_runs() -> None:
    model = fit(RUNS, [{"keys": keys, "handover": 1.5 + keys * 2e-6} for keys in (0, 100_000, 1_000_000)])
    worker = model.worker
    assert [
        worker.start,
        worker.task,
        worker.idle,
        worker.record,
        worker.exchange,
        worker.commit,
    ] == pytest.approx(list(WORKER.values()))
    broker = model.broker
    assert [broker.task, broker.idle, broker.record, broker.exchange, broker.commit] == pytest.approx(
        list(BROKER.values())
    )
    assert model.handover == pytest.approx((1.5, 2e-6))
    assert worker.residual == pytest.approx(0, abs=1e-9)


def test_a_cost_that_would_be_negative_is_left_out() -> None:
    runs = [{**run, "worker_cpu": run["worker_cpu"] - 5e-3 * run["commits"]} for run in RUNS]
    assert fit(runs).worker.commit == 0.0


def test_fewer_runs_than_costs_are_refused() -> None:
    with pytest.raises(ValueError, match="3 runs cannot tell 6 costs"):
        fit(RUNS[:3])


def test_the_worker_with_most_tasks_bounds_the_rate_until_the_broker_does() -> None:
    model = Model(Costs(0, 0, 0, 1e-6, 0, 0, 0), Costs(0, 0, 0, 1e-7, 0, 0, 0), None)
    for workers, tasks, cores, rate, bound in (
        (2, 3, 4, 3_000_000, "workers"),
        (3, 4, 1, 2_000_000, "workers"),
        (100, 100, 1, 10_000_000, "broker"),
    ):
        found, by = model.rate(workers, False, tasks, cores=cores, broker_cores=1)
        assert found == pytest.approx(rate)
        assert by == bound
