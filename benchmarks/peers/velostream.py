"""velostream: the job as a mapping, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.tumble import COLUMNS, QUERY

if TYPE_CHECKING:
    from velostream.runtime.report import Report


def run(path: Path, result: Path, processor: str) -> Report:
    """Raises SystemExit when the job does not complete."""
    import velostream

    report = velostream.run(
        {
            "name": "tumble",
            "sql": QUERY,
            "sources": {"trades": {"kind": "file", "path": str(path), "schema": COLUMNS}},
            "sinks": {"result": {"kind": "file", "path": str(result)}},
            "processor": processor,
        }
    )
    if report.state != "completed":
        raise SystemExit(report.error)
    return report
