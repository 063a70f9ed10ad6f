"""`command=state`: what a job has saved."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from velostream.cli.command import commands
from velostream.cli.main import OK
from velostream.cli.request import Request
from velostream.cli.screen import Screen
from velostream.cli.words import count, size
from velostream.config.paths import shown
from velostream.errors import ConfigError, StateError

if TYPE_CHECKING:
    from velostream.config.schema import JobConfig
    from velostream.state.changes_file import SavedPart
    from velostream.state.manifest import Manifest


@commands.register("state", options={})
def state(request: Request) -> int:
    """Show the job's last commit: where its sources stand, rows and bytes of each stage; run nothing."""
    from velostream.state.savepoint import look

    job = request.compose().job
    folder = state_folder(job)
    if job.processor.tasks > 1:
        for number, (task, place) in enumerate(_tasks(job.name, folder)):
            if number:
                Screen().line("")
            _show(f"{job.name}, task {task}", place, *look(place))
    else:
        _show(job.name, folder, *look(folder))
    return OK


def _tasks(job: str, folder: Path) -> list[tuple[int, Path]]:
    """The tasks that workers with that state folder have saved, each where it was saved last. Raises
    StateError."""
    from velostream.state.savepoint import look

    found: dict[int, tuple[float, Path]] = {}
    for manifest in folder.glob("worker-*/task-*/manifest.json"):
        task, place = int(manifest.parent.name.removeprefix("task-")), manifest.parent
        found[task] = max(found.get(task, (0.0, place)), (look(place)[0].time, place))
    if not found:
        raise StateError(
            f"no task of job '{job}' is saved in '{shown(folder)}'",
            hint="start it, or name the folder of its state with state.path",
        )
    return [(task, place) for task, (_, place) in sorted(found.items())]


def _show(name: str, folder: Path, manifest: Manifest, parts: Iterable[SavedPart]) -> None:
    screen = Screen()
    screen.line(f"{name}: {committed(manifest)}, {size(manifest.size)} in {shown(folder)}")
    offsets = [
        [source, partition, count(offset)]
        for source, partitions in manifest.positions.items()
        for partition, offset in partitions.items()
    ]
    if offsets:
        screen.table(("source", "partition", "next offset"), offsets)
    rows, written = Counter[str](), Counter[str]()
    for part in parts:
        rows[part.stage] += part.rows
        written[part.stage] += part.size
    if rows:
        # A row that has changed is there once for each commit until a round of the stage is complete.
        stages = [[stage, count(rows[stage]), size(written[stage])] for stage in rows]
        screen.table(("stage", "rows saved", "bytes"), stages)


def state_folder(job: JobConfig) -> Path:
    """The folder of the job's state. Raises ConfigError."""
    if not job.state.path:
        raise ConfigError(f"job '{job.name}' has no folder for its state", hint="name a job with job=NAME")
    return Path(job.state.path)


def committed(manifest: Manifest) -> str:
    """Which commit it is: `epoch 42 of 2026-11-24 11:40:03 UTC`."""
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest.time))
    return f"epoch {manifest.number} of {when}"
