"""Declarative streaming-SQL pipelines: Hydra composes them, Faust runs them, Cython kernels do the work."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Imported at first use: the command line composes its configuration without Faust and Arrow.
_HOMES = {
    "committed": "velostream.connectors.file.committed",
    "csv": "velostream.api",
    "ndjson": "velostream.api",
    "query": "velostream.api",
    "table": "velostream.api",
    "run": "velostream.cli.api",
    "VelostreamError": "velostream.errors",
}

__all__ = ["VelostreamError", "__version__", "committed", "csv", "ndjson", "query", "run", "table"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'velostream' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
