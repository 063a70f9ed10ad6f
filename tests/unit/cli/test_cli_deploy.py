"""Deployments over a scripted server; jobs from a program."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import Result, Runtime

from velostream.cli.api import run
from velostream.config.schema import JobConfig
from velostream.errors import ConfigError, VelostreamError, Where
from velostream.runtime.report import Report

Call = Callable[..., Result]


@pytest.fixture
def deployed(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Name and processor version of the jobs that were deployed."""
    seen: list[tuple[str, str]] = []

    def run_all(server: object, jobs: Sequence[tuple[str, JobConfig]]) -> list[Report]:
        if runtime.prepare_error is not None:
            raise runtime.prepare_error
        seen.extend((name, job.processor.version) for name, job in jobs)
        for number in runtime.signals:
            os.kill(os.getpid(), number)
        return [runtime.report(job) for _, job in jobs]

    server = "velostream.server.stream_job_server.StreamJobServer"
    monkeypatch.setattr(f"{server}.run_all", run_all)
    monkeypatch.setattr(f"{server}.interrupt", lambda server, name: runtime.calls.append(f"interrupt {name}"))
    monkeypatch.setattr(f"{server}.graceful_shutdown", lambda *_: runtime.calls.append("abort"))
    return seen


def test_every_job_of_a_deployment_reports_in_its_folder(
    deployed: list[tuple[str, str]], call: Call, tmp_path: Path
) -> None:
    result = call("command=deploy", "deployment=example")
    assert result.code == 0
    assert deployed == [("large_trades", "v1"), ("large_trades_per_minute", "v2"), ("flights", "v2")]
    [folder] = (tmp_path / "outputs" / "example").iterdir()
    assert json.loads((folder / "flights" / "report.json").read_text())["rows_out"] == 33
    assert [line for line in result.out if not line.startswith(" ")] == [
        "example: large_trades on v1",
        "example: large_trades_per_minute on v2",
        "example: flights on v2",
        "large_trades: completed in 0.50 s, processor v2:2",
        "large_trades_per_minute: completed in 0.50 s, processor v2:2",
        "flights: completed in 0.50 s, processor v2:2",
    ]


def test_one_failed_job_makes_the_exit_code_1(
    deployed: list[tuple[str, str]], runtime: Runtime, call: Call
) -> None:
    runtime.script = lambda job: {"state": "failed", "error": "lost"} if job.name == "flights" else {}
    assert call("command=deploy", "deployment=example").code == 1


def test_signals_interrupt_the_server_then_end_it(
    deployed: list[tuple[str, str]], runtime: Runtime, call: Call
) -> None:
    runtime.signals = (signal.SIGTERM, signal.SIGTERM)
    assert call("command=deploy", "deployment=example").code == 143
    assert runtime.calls == ["interrupt SIGTERM", "abort"]


def test_a_deployment_must_be_named(deployed: list[tuple[str, str]], call: Call) -> None:
    assert call("command=deploy").err == [
        "command=deploy needs a deployment; add deployment=NAME or deployment=FILE"
    ]


def test_what_the_server_finds_gets_its_place_and_leaves_nothing(
    deployed: list[tuple[str, str]], runtime: Runtime, call: Call, tmp_path: Path
) -> None:
    runtime.prepare_error = ConfigError("no such zone", where=Where(key="sources.flights.event_time"))
    result = call("command=deploy", "deployment=example")
    assert result.code == 2
    assert result.err[0].endswith("conf/job/flights.yaml:18:5: no such zone")
    assert list(tmp_path.iterdir()) == []


def test_a_program_runs_the_mapping_that_yaml_gives(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = type("Job", (), {"__init__": lambda self, job: setattr(self, "job", job)})
    monkeypatch.setattr(job, "run", lambda self: runtime.report(self.job), raising=False)
    monkeypatch.setattr("velostream.runtime.worker.make_job", job)
    report = run({"name": "mine", "sql": "SELECT 1", "processor": "v2:4", "output_dir": "made"})
    assert (report.name, report.rate) == ("mine", 8000.0)
    assert [file.name for file in tmp_path.iterdir()] == ["made"]
    with pytest.raises(VelostreamError, match="unknown key 'slq'; did you mean 'sql'"):
        run({"slq": "SELECT 1"})
