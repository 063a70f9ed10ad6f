"""`command=state`: what a job has saved."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from velostream.cli.command import commands
from velostream.cli.main import OK
from velostream.cli.request import Request
from velostream.cli.screen import Screen
from velostream.cli.words import count, size
from velostream.config.paths import shown
from velostream.errors import ConfigError

if TYPE_CHECKING:
    from velostream.state.manifest import Manifest


@commands.register("state", options={})
def state(request: Request) -> int:
    """Show the job's last commit: where its sources stand, rows and bytes of each stage; run nothing."""
    from velostream.state.savepoint import look

    name, folder = state_folder(request)
    manifest, parts = look(folder)
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
    return OK


def state_folder(request: Request) -> tuple[str, Path]:
    """The job's name, and the folder of its state."""
    job = request.compose().job
    if not job.state.path:
        raise ConfigError(f"job '{job.name}' has no folder for its state", hint="name a job with job=NAME")
    return job.name, Path(job.state.path)


def committed(manifest: Manifest) -> str:
    """Which commit it is: `epoch 42 of 2026-11-24 11:40:03 UTC`."""
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest.time))
    return f"epoch {manifest.number} of {when}"
