"""The command line in process, over a runtime that is a script."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from velostream.cli.main import main
from velostream.config.schema import JobConfig
from velostream.errors import VelostreamError
from velostream.runtime.report import Progress, Report
from velostream.sql.types import Field, Schema


@dataclass
class Runtime:
    """What the scripted jobs do, and what was asked of them."""

    # Given the job's configuration: the changes of its report, or the error that it raises.
    script: Callable[[JobConfig], dict[str, Any]] = lambda config: {}
    signals: tuple[int, ...] = ()
    progress: tuple[Progress, ...] = ()
    prepared: list[JobConfig] = field(default_factory=list)
    run: list[JobConfig] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    prepare_error: VelostreamError | None = None
    # Whether the scripted sources end; asked by who needs to know.
    bounded: bool = True

    def prepare(self, job: JobConfig) -> Any:
        self.prepared.append(job)
        if self.prepare_error is not None:
            raise self.prepare_error
        schema = Schema((Field("origin", pa.string()), Field("price", pa.decimal128(10, 2))))
        return SimpleNamespace(
            plan=SimpleNamespace(sinks={"departures": "departures"}),
            schemas={"flights": schema},
            inferred={"flights"},
            sources={"flights": SimpleNamespace(bounded=self.bounded)},
            explain=lambda: {"stages": []},
            explain_text=lambda: "stage 1: scan flights",
        )

    def report(self, config: JobConfig) -> Report:
        report = Report(
            name=config.name,
            processor="v2:2",
            seconds=0.5,
            records={"in": 1000, "used": 900, "filtered": 70, "late": 20, "failed": 10, "groups_failed": 0},
            rows_out=33,
            rate=2000.0 * (config.processor.partitions or 1),
            bytes_in=1 << 20,
            stages=[{"name": "decode", "seconds": 0.25, "share": 0.5}],
            lanes=[
                {
                    "lane": 0,
                    "cpu": 1,
                    "cpus_seen": [1],
                    "blocks": 3,
                    "records": 1000,
                    "busy_seconds": 0.45,
                    "cpu_seconds": 0.4,
                    "python_share": 0.021,
                }
            ],
            sinks=[
                {
                    "name": name,
                    "kind": sink.kind,
                    "rows": 33,
                    "bytes": 2048,
                    "location": getattr(sink, "path", ""),
                }
                for name, sink in config.sinks.items()
            ],
            failures=["flights.csv:7: not an integer: 'x'"],
        )
        for key, value in self.script(config).items():
            setattr(report, key, value)
        return report


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runtime:
    """A scripted runtime; the working directory is an empty folder."""
    scripted = Runtime()

    class Job:
        def __init__(self, config: JobConfig, prepared: Any, on_progress: Callable[[Progress], None]) -> None:
            self.config = config
            self.on_progress = on_progress

        def run(self) -> Report:
            scripted.run.append(self.config)
            for progress in scripted.progress:
                self.on_progress(progress)
            for number in scripted.signals:
                os.kill(os.getpid(), number)
                signal.sigtimedwait([], 0)
            report = scripted.report(self.config)
            if scripted.calls:
                report.state = "interrupted"
            return report

        def stop(self, name: str) -> None:
            scripted.calls.append(f"stop {name}")

        def abort(self) -> None:
            scripted.calls.append("abort")

    monkeypatch.chdir(tmp_path)
    # Drawing takes longer than all else; what is drawn has a test of its own.
    monkeypatch.setattr("velostream.cli.sweep_table.plot", lambda rows, file: file.write_text(str(len(rows))))
    monkeypatch.setattr("velostream.runtime.prepare.prepare", scripted.prepare)
    monkeypatch.setattr("velostream.runtime.worker.make_job", Job)
    return scripted


@dataclass
class Result:
    code: int
    out: list[str]
    err: list[str]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command line; its exit code and its lines."""

    def run(*argv: str) -> Result:
        code = main(argv)
        captured = capsys.readouterr()
        return Result(code, captured.out.splitlines(), captured.err.splitlines())

    return run
