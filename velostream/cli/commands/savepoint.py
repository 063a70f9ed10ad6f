"""`command=savepoint`: a job's last commit in a folder of its own."""

from __future__ import annotations

import shlex
from pathlib import Path

from velostream.cli.command import commands, outputs_dir
from velostream.cli.commands.state import committed, state_folder
from velostream.cli.main import OK
from velostream.cli.request import Request, unique_name
from velostream.cli.screen import Screen
from velostream.cli.words import count, size
from velostream.config.paths import shown
from velostream.errors import ConfigError, Where, raise_all, unknown

OPTIONS = {"savepoint.path": "the folder to make; by default a new one in outputs/savepoints/JOB"}


@commands.register("savepoint", options=OPTIONS)
def savepoint(request: Request) -> int:
    """Copy the job's last commit to where state=PATH starts from it; the job may run on meanwhile."""
    from velostream.state.savepoint import take_savepoint

    options = request.arguments.options
    raise_all(
        [
            ConfigError(message, hint=hint)
            for message, hint in (unknown("key", key, OPTIONS) for key in options if key not in OPTIONS)
        ]
    )
    job = request.compose().job
    name, folder = job.name, state_folder(job)
    if job.processor.tasks > 1:
        raise ConfigError(
            f"job '{name}' has several tasks, of which no savepoint can be taken",
            where=Where(key="processor.tasks"),
            hint="each has its last commit in Kafka; stop the workers to keep all of them where they are",
        )
    given = options.get("savepoint.path")
    target = Path(given).expanduser() if given else outputs_dir() / "savepoints" / name / unique_name()
    manifest = take_savepoint(folder, target)
    screen = Screen()
    files = f"{count(len(manifest.files))} file{'' if len(manifest.files) == 1 else 's'}"
    screen.line(f"savepoint of {name}: {committed(manifest)}, {files}, {size(manifest.size)}")
    screen.line(f"  start from it with state={shlex.quote(shown(target))}")
    return OK
