"""`command=deploy`: several jobs on one server, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from velostream.cli.command import commands, outputs_dir
from velostream.cli.execute import results_on_stdout, save_config, save_report, set_up_logging
from velostream.cli.main import FAILED, OK
from velostream.cli.process import settle
from velostream.cli.request import Request, state_dir, unique_name
from velostream.cli.screen import Screen
from velostream.cli.signals import Signals
from velostream.cli.summary import summary_lines
from velostream.config.deployment import find_deployment
from velostream.errors import ConfigError, Problems, VelostreamError, raise_all

if TYPE_CHECKING:
    from velostream.config.build import Composed


@commands.register("deploy", options={"deployment": "a deployment's name, or the path of its file"})
def deploy(request: Request) -> int:
    """Run the jobs of a deployment side by side until all have ended or are interrupted."""
    from velostream.server.stream_job_server import StreamJobServer

    name = request.arguments.options.get("deployment")
    if name is None or request.arguments.sql is not None:
        raise ConfigError("command=deploy needs a deployment", hint="add deployment=NAME or deployment=FILE")
    found = find_deployment(name, request.composer.folders)
    folder = outputs_dir() / found.deployment.name / unique_name()
    jobs = found.compose(request.composer, request.arguments.overrides, lambda job: folder / job, state_dir)
    set_up_logging(jobs[0].job.observability.log_level)
    screen = Screen(any(results_on_stdout(job.job) for job in jobs))
    for job in jobs:
        screen.line(f"{found.deployment.name}: {job.job.name} on {job.job.processor.version}")
    settle()
    server = StreamJobServer.new("", found.deployment.name, len(jobs))
    try:
        with Signals(server.interrupt, lambda: server.graceful_shutdown(0)) as signals:
            reports = server.run_all([(job.job.name, job.job) for job in jobs])
    except VelostreamError as error:
        problems = error.errors if isinstance(error, Problems) else (error,)
        raise_all([_located(problem, jobs) for problem in problems])
        raise
    for job, report in zip(jobs, reports, strict=True):
        output = Path(job.job.output_dir)
        save_config(job, output)
        save_report(report, output)
        screen.lines(summary_lines(report, output))
    completed = all(report.state == "completed" for report in reports)
    return signals.code or (OK if completed else FAILED)


def _located(error: VelostreamError, jobs: Sequence[Composed]) -> VelostreamError:
    """The error with the place of its key, when only one of the jobs has that key."""
    key = error.where.key if error.where is not None else None
    places = [job for job in jobs if key and job.origins.where(key).file is not None]
    return places[0].locate(error) if len(places) == 1 else error
