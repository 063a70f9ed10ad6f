"""What a command is: a function of a `Request` that returns the process's exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from velostream.registry import Registry

if TYPE_CHECKING:
    from velostream.cli.request import Request

Command = Callable[["Request"], int]
# Registered with `options`, a mapping of each option that the command adds to one line about it.
commands: Registry[Command] = Registry("command", "velostream.cli.commands")


def outputs_dir() -> Path:
    """The folder that holds the folders of all runs."""
    return Path.cwd() / "outputs"
