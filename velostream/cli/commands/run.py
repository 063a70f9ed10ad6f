"""`command=run`, the default."""

from __future__ import annotations

from velostream.cli.command import commands
from velostream.cli.commands.state import committed
from velostream.cli.execute import execute, results_on_stdout
from velostream.cli.request import Request, former_run
from velostream.cli.screen import Screen


@commands.register("run", options={})
def run(request: Request) -> int:
    """Run the job to its end; results and report.json go to outputs/<job>/<time>."""
    composed = request.compose()
    screen = Screen(results_on_stdout(composed.job))
    former = former_run(composed.job)
    if former is not None:
        screen.line(f"{composed.job.name}: going on from {committed(former)}; state=reset starts afresh")
    # The result is what the person of a bare query wants to see.
    return execute(composed, screen, brief="" if request.arguments.sql is None else composed.job.name).code
