"""`python run.py` as a process of its own, watched from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data import FOLDER

JOBS = Path(__file__).with_name("jobs")
RUN_FOLDER = FOLDER / "run"


@dataclass(frozen=True)
class Ended:
    """A process that has ended well. `begun_at` is Unix time; `peak_mib` its highest resident memory."""

    begun_at: float
    seconds: float
    peak_mib: float


def job_command(job: str, path: Path, result: Path, processor: str) -> list[str]:
    """The command line of a job of `benchmarks/jobs`, read from one file and written to another.

    It commits as jobs do by default, and goes on from no earlier run.
    """
    return [
        sys.executable,
        "run.py",
        f"job={JOBS / job}.yaml",
        f"source.path={path}",
        f"sink.path={result}",
        f"processor={processor}",
        f"output_dir={RUN_FOLDER}",
        f"state.path={FOLDER / 'state' / job}",
        "state=reset",
    ]


def watch(command: Sequence[str]) -> Ended:
    """Run to the exit; raises SystemExit when it fails.

    The peak is the kernel's own count for that process (`wait4`). It begins with that of the process which
    starts it, so call this from a small one.
    """
    begun_at, begun = time.time(), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{output.decode(errors='replace')}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Ended(begun_at, seconds, usage.ru_maxrss * unit / 2**20)


def last_report() -> dict[str, Any]:
    """`report.json` of the last job of `job_command`."""
    report: dict[str, Any] = json.loads((RUN_FOLDER / "report.json").read_text(encoding="utf-8"))
    return report
