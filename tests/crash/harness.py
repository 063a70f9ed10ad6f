"""Kills a job again and again, starts it again each time, and holds its output against an oracle.

After every kill the committed output is looked at: it must never have a row that the whole result does not
have, nor one of them twice.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.crash.cases import Case, expected
from tests.crash.grounds import Ground

PROCESSORS = ("v1", "v2:2", "v2:4", "v2:8")
# The share of kills at fault points; the others come at random times, up to so many seconds after a start.
AT_FAULTS = 0.6
LONGEST_SECONDS = 0.5
# The share of starts that find nothing saved where they run.
MOVES = 0.3


@dataclass(frozen=True, slots=True)
class Run:
    """How a run ended; `report` is None when it had nothing to say any more."""

    killed: bool
    report: dict[str, Any] | None


class Zygote:
    """Forks processes that run jobs (`zygote.py`). One run at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.communicate()

    def run(self, config: dict[str, Any], fault: str = "", kill_after: float | None = None) -> Run:
        """Run a job to its end, or to its death: at a fault point, or after so many seconds."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps({"config": config, "fault": fault}) + "\n")
        stdin.flush()
        pid = json.loads(stdout.readline())["pid"]
        timer = threading.Timer(kill_after or 0, os.kill, (pid, signal.SIGKILL))
        if kill_after is not None:
            timer.start()
        # The process is not waited for before nobody will kill it any more: no other one has its number.
        report = json.loads(stdout.readline())["report"]
        timer.cancel()
        if kill_after is not None:
            timer.join()
        stdin.write("\n")
        stdin.flush()
        status = json.loads(stdout.readline())["status"]
        return Run(os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, report)


@dataclass
class Tally:
    """What came of a case: kills that hit, starts, rows lost, and rows wrong or twice in any look."""

    case: str
    kills: int = 0
    starts: int = 0
    lost: int = 0
    wrong: int = 0


def torture(
    zygote: Zygote, ground: Ground, case: Case, folder: Path, *, kills: int, seed: int, records: int = 60_000
) -> Tally:
    """Kill the case's job so many times, at fault points and at random times, with other lanes each time.

    Raises AssertionError when a start is refused or fails.
    """
    rng = random.Random(seed)
    tally = Tally(case.name)
    rounds = 0
    while tally.kills < kills:
        ground.begin(case, folder / str(rounds), records, seed + rounds)
        want = expected(case, records, seed + rounds)
        rounds += 1
        while True:
            fault, after = "", None
            if tally.kills < kills and rng.random() < AT_FAULTS:
                fault = f"{rng.choice(ground.faults)}:{rng.randrange(1, 6)}"
            elif tally.kills < kills:
                after = rng.uniform(0, LONGEST_SECONDS)
            run = zygote.run(ground.config(rng.choice(PROCESSORS)), fault, after)
            tally.starts += 1
            seen = ground.committed()
            if run.killed:
                tally.kills += 1
                if not case.latest:
                    tally.wrong += (seen - want).total()
                if ground.finished():
                    break
                if rng.random() < MOVES:
                    ground.move()
                continue
            assert run.report is not None and run.report["state"] == "completed", (case.name, fault, run)
            break
        tally.lost += (want - seen).total()
        tally.wrong += (seen - want).total()
    return tally
