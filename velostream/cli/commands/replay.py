"""`command=replay`: dead letters once more."""

from __future__ import annotations

from pathlib import Path

from velostream.cli.command import commands
from velostream.cli.execute import execute, results_on_stdout
from velostream.cli.request import Request, located
from velostream.cli.screen import Screen
from velostream.config.paths import shown
from velostream.config.schema import DeliveryConfig
from velostream.errors import ConfigError


@commands.register("replay", options={"dlq": "the file that failure=send_to_dlq has written"})
def replay(request: Request) -> int:
    """Run the job on the records of a dead-letter file instead of its sources."""
    from velostream.runtime.replay import replay as over_dead_letters

    if "dlq" not in request.arguments.options:
        raise ConfigError("command=replay needs the file of dead letters", hint="add dlq=FILE")
    file = Path(request.arguments.options["dlq"]).expanduser()
    if not file.is_file():
        raise ConfigError(f"there is no file '{shown(file)}'")
    composed = request.compose()
    # The job's own state is of its own sources.
    composed.job.delivery = DeliveryConfig("best_effort")
    with located(composed):
        composed.job.sources = over_dead_letters(composed.job, file).sources
    return execute(composed, Screen(results_on_stdout(composed.job))).code
