"""Where the figures come from: CPU, cores, kernel and versions."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import date
from importlib.metadata import PackageNotFoundError, version

from velostream.cli.machine import cpu_model

PACKAGES = (
    "velostream",
    "duckdb",
    "polars",
    "pyarrow",
    "pyclink",
    "bytewax",
    "faust-streaming",
    "orjson",
    "msgspec",
    "numpy",
)


def machine() -> dict[str, str]:
    """Name to text, for the tables and plots."""
    return {
        "date": str(date.today()),
        "commit": _commit(),
        "cpu": cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    } | {name: text for name in PACKAGES if (text := _version(name))}


def machine_line(facts: dict[str, str]) -> str:
    """`machine()` in one line."""
    where = (
        f"{facts['date']}, commit {facts['commit']}, {facts['cpu']}, {facts['cores']} cores, "
        f"{facts['kernel']}, Python {facts['python']}"
    )
    return ", ".join([where, *(f"{name} {facts[name]}" for name in PACKAGES if name in facts)])


def _commit() -> str:
    try:
        command = ["git", "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
