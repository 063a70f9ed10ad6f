"""What a person may type, in front of Hydra.

    velostream [SQL] [key=value …] [-m] [--config-dir DIR] [--help] [--version] [--debug]

The first argument may be a query. `command=` and the options of that command are taken out here; the
other overrides go to `velostream.config.compose`, which also knows `job=path/to/job.yaml`,
`processor=v2:8`, `source=KIND` and text without quotes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from velostream.cli.command import commands
from velostream.config.overrides import is_override
from velostream.errors import ConfigError, VelostreamError, Where, raise_all, unknown

_SQL = re.compile(r"\s*(select\b|with\b|create\b|--\s|/\*)", re.IGNORECASE)
_FLAGS = {
    "-m": "multirun",
    "--multirun": "multirun",
    "-h": "help",
    "--help": "help",
    "--version": "version",
    "--debug": "debug",
}


@dataclass
class Arguments:
    """A command line, taken apart. `options` are the command's own; `overrides` all other key=value."""

    command: str = "run"
    overrides: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    sql: str | None = None
    sweep: str | None = None
    config_dir: Path | None = None
    flags: set[str] = field(default_factory=set)

    @property
    def multirun(self) -> bool:
        return "multirun" in self.flags or self.sweep is not None


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Take a command line apart. Raises ConfigError or Problems with all that cannot be understood."""
    parsed = Arguments()
    errors: list[VelostreamError] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        if argument in _FLAGS:
            parsed.flags.add(_FLAGS[argument])
        elif argument == "--config-dir" or argument.startswith("--config-dir="):
            _, equals, folder = argument.partition("=")
            if not equals and not rest:
                errors.append(ConfigError("--config-dir needs a folder"))
            else:
                parsed.config_dir = Path(folder if equals else rest.pop(0))
        elif argument.startswith("-") and not _SQL.match(argument):
            message, hint = unknown("flag", argument, [*_FLAGS, "--config-dir"])
            errors.append(ConfigError(message, hint=hint))
        elif is_override(argument):
            parsed.overrides.append(argument)
        elif parsed.sql is None and (_SQL.match(argument) or re.search(r"\s", argument.strip())):
            parsed.sql = argument
        else:
            hint = "write key=value, such as job=flights, or one query in quotes"
            errors.append(ConfigError(f"cannot read the argument '{argument}'", hint=hint))
    if "help" not in parsed.flags and "version" not in parsed.flags:
        _take_options(parsed, errors)
    raise_all(errors)
    return parsed


def _take_options(parsed: Arguments, errors: list[VelostreamError]) -> None:
    """Move `command=`, `sweep=` and the command's options out of the overrides."""
    values = {key: value for key, _, value in (text.partition("=") for text in parsed.overrides)}
    parsed.command = values.get("command", "run")
    parsed.sweep = values.get("sweep")
    if parsed.command not in commands:
        message, hint = unknown("command", parsed.command, commands.names())
        where = Where(key=f"override 'command={parsed.command}'")
        errors.append(ConfigError(message, where=where, hint=hint))
        return
    own = commands.entry(parsed.command).meta["options"]
    # `bench.runs` is of a command that has a section of its own: what is misspelt in it is for it to say.
    section = f"{parsed.command}."
    if any(option.startswith(section) for option in own):
        own = {*own, *(key for key in values if key.startswith(section))}
    parsed.options = {key: value for key, value in values.items() if key in own}
    taken = {"command", "sweep", *own}
    parsed.overrides = [text for text in parsed.overrides if text.partition("=")[0] not in taken]
    others = {option: entry.name for entry in commands for option in entry.meta["options"]}
    for text in list(parsed.overrides):
        key = text.partition("=")[0]
        if key in others:
            hint = f"add command={others[key]}"
            message = f"'{key}' is an option of command={others[key]}, not of {parsed.command}"
            errors.append(ConfigError(message, where=Where(key=f"override '{text}'"), hint=hint))
            parsed.overrides.remove(text)
    if parsed.multirun and parsed.command != "run":
        errors.append(ConfigError(f"only command=run can be swept, not {parsed.command}"))
