"""Kills a job's workers again and again, starts others each time, and holds the output against an oracle.

After every kill the committed output is looked at: it must never have a row that the whole result does not
have, nor one of them twice.
"""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass, fields
from pathlib import Path

from tests.crash.cases import Case, Rows, expected
from tests.crash.grounds import Ground
from tests.crash.processes import Process, Zygote

PROCESSORS = ("v1", "v2:2", "v2:4", "v2:8")
# The share of kills at fault points; the others come at random times. Of these, the share that takes all
# workers, and of pauses in place of a kill.
AT_FAULTS, ALL, PAUSES = 0.6, 0.3, 0.4
# The share of starts that find nothing saved where they run.
MOVES = 1 / 3


@dataclass
class Tally:
    """What came of a case: kills that hit, pauses and starts of workers; rows lost, rows there again, and
    wrong rows, the last two in any look."""

    case: str
    kills: int = 0
    pauses: int = 0
    starts: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0

    @property
    def exact(self) -> bool:
        return not (self.lost or self.duplicated or self.wrong)

    def figures(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "case"}

    def add(self, other: Tally) -> None:
        for name, figure in other.figures().items():
            setattr(self, name, getattr(self, name) + figure)

    def look(self, case: Case, lines: list[bytes], want: Rows, whole: bool) -> None:
        """Hold what was written so far, or the whole of it, against what has to come out."""
        seen = case.rows(lines)
        again = case.again(lines)
        if not case.latest:
            again = sum(count - want[row] for row, count in seen.items() if 0 < want[row] < count)
        self.duplicated += again
        if whole:
            self.lost += (want - seen).total()
        if whole or not case.latest:
            self.wrong += sum(count for row, count in seen.items() if row not in want)


class Crew:
    """The workers of one job: those that live, by number. At most `most` at a time."""

    def __init__(self, zygote: Zygote, ground: Ground, rng: random.Random, most: int, tally: Tally) -> None:
        self.live: dict[int, Process] = {}
        self._zygote, self._ground, self._rng, self._most, self._tally = zygote, ground, rng, most, tally

    def fill(self, fault: str = "") -> Process | None:
        """Start workers up to a number that is drawn, with other lanes each; the last of them, which may die
        at a fault point."""
        last = None
        wanted = self._rng.randint(max(1, len(self.live)), self._most)
        while len(self.live) < wanted:
            number = self._rng.choice([number for number in range(self._most) if number not in self.live])
            if self._rng.random() < MOVES:
                self._ground.move(number)
            config = self._ground.config(self._rng.choice(PROCESSORS), number)
            armed = fault if len(self.live) == wanted - 1 else ""
            last = self._zygote.start(config, armed, self._ground.folder / f"worker-{number}.log")
            self.live[number] = last
            self._tally.starts += 1
        return last

    def disturb(self) -> None:
        """Start workers, and kill one or all of them, or pause one, now or while they run."""
        if self._rng.random() < AT_FAULTS:
            armed = self.fill(f"{self._rng.choice(self._ground.faults)}:{self._rng.randrange(1, 6)}")
            if armed is not None:
                self._wait(armed)
                return
        else:
            self.fill()
        deadline = time.monotonic() + self._rng.uniform(0, self._ground.longest_seconds)
        while time.monotonic() < deadline and not any(worker.ended for worker in self.live.values()):
            time.sleep(0.005)
        number = self._rng.choice(sorted(self.live))
        if self._ground.session_ms and self._rng.random() < PAUSES:
            self._tally.pauses += 1
            self.live[number].send(signal.SIGSTOP)
            time.sleep(self._ground.session_ms / 1000 * self._rng.uniform(1, 2))
            self.live[number].send(signal.SIGCONT)
            return
        for worker in self.live.values() if self._rng.random() < ALL else [self.live[number]]:
            worker.send(signal.SIGKILL)
            self._wait(worker)

    def bury(self) -> bool:
        """Take out those that have ended; whether one of them has completed the job, and then all others
        too, but for those that were killed. AssertionError when one has failed, or was refused."""
        completed = False
        for number, worker in list(self.live.items()):
            if not worker.ended:
                continue
            del self.live[number]
            run = worker.end()
            self._tally.kills += run.killed
            completed |= run.state == "completed"
            assert run.state in ("completed", "killed"), f"{run}\n{worker.said()}"
        return completed

    def finish(self) -> None:
        """Wait for all."""
        for worker in self.live.values():
            self._wait(worker)

    def _wait(self, worker: Process) -> None:
        assert worker.wait(), f"process {worker.pid} does not end\n{worker.said()}"


def torture(
    zygote: Zygote,
    ground: Ground,
    case: Case,
    folder: Path,
    *,
    kills: int,
    seed: int,
    records: int = 60_000,
    workers: int = 1,
) -> Tally:
    """Kill workers of the case's job so many times; up to `workers` run it at a time.

    Raises AssertionError when a start is refused or fails.
    """
    rng = random.Random(f"{case.name} {seed}")
    tally = Tally(case.name)
    rounds = 0
    while tally.kills < kills:
        ground.begin(case, folder / str(rounds), records, seed + rounds)
        want = expected(case, records, seed + rounds)
        rounds += 1
        crew = Crew(zygote, ground, rng, workers, tally)
        complete = False
        while not complete:
            if tally.kills < kills:
                crew.disturb()
            else:
                crew.fill()
                crew.finish()
            if complete := crew.bury():
                crew.finish()
                crew.bury()
            elif not crew.live:
                complete = ground.finished()
            tally.look(case, ground.lines(want if complete else None), want, whole=complete)
        ground.end()
    return tally
