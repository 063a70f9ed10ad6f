"""`python -m tests.crash.storm [--guests N] [--kafka HOST:PORT]`: workers that come and go all the time.

Two workers share an endless job, while another one joins every second and leaves as soon as it has tasks,
mostly properly and sometimes by `kill -9`. Rows come out all the while, and in the end they are those of the
input.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.crash.processes import SECONDS, Process, Zygote
from tests.kafka.broker import Broker
from tests.kafka.chaos import Trades, shares, wait_for
from tests.kafka.topics import Topics

TASKS = 4
SESSION_MS = 1500
BETWEEN_SECONDS = 1.0
# The share of guests that are killed.
KILLS = 0.2
RECORDS = 300


@dataclass
class Weathered:
    """What came of a storm: committed rows, and the longest time without one (seconds)."""

    rows: int = 0
    longest: float = 0.0


def storm(zygote: Zygote, job: Trades, folder: Path, guests: int) -> None:
    """Guests that come one after the other."""
    rng = random.Random(guests)
    for _ in range(guests):
        begun = time.monotonic()
        guest = start(zygote, job, folder)
        try:
            wait_for(partial(has_tasks, job, guest), "a guest has tasks")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{guest.said()}") from None
        killed = rng.random() < KILLS
        guest.send(signal.SIGKILL if killed else signal.SIGTERM)
        run = guest.end()
        assert run.state == ("killed" if killed else "interrupted"), f"{run}\n{guest.said()}"
        time.sleep(max(0.0, begun + BETWEEN_SECONDS - time.monotonic()))


def has_tasks(job: Trades, worker: Process) -> bool:
    return bool(shares(job.topics.address, f"velostream-{job.name}").get(worker.pid))


def start(zygote: Zygote, job: Trades, folder: Path) -> Process:
    """One more worker."""
    config = job.config(folder / "state", session_timeout_ms=SESSION_MS)
    config["processor"]["tasks"] = TASKS
    return zygote.start(config, log=folder / "workers.log")


def weather(zygote: Zygote, topics: Topics, folder: Path, guests: int) -> Weathered:
    """Run a job through a storm. AssertionError when a row is lost, wrong or there twice, when none comes for
    long, or when a worker fails."""
    folder.mkdir(exist_ok=True)
    job = Trades(topics, partitions=6)
    residents = [start(zygote, job, folder) for _ in range(2)]

    def written() -> int:
        for resident in residents:
            assert not resident.ended, f"{resident.report}\n{resident.said()}"
        return job.written()

    job.feed(RECORDS)
    wait_for(lambda: written() > 0, "a row")
    found = Weathered()
    pool = ThreadPoolExecutor(1)
    over = pool.submit(storm, zygote, job, folder, guests)
    while not over.done():
        before, since = written(), time.monotonic()
        job.feed(RECORDS)
        wait_for(lambda: written() > before, "another row")  # noqa: B023  (it is waited for here)
        found.longest = max(found.longest, time.monotonic() - since)
    over.result()
    job.wait_for_all()
    found.rows = written()
    for resident in residents:
        resident.send(signal.SIGTERM)
        run = resident.end(SECONDS)
        assert run.state == "interrupted", f"{run}\n{resident.said()}"
    job.wait_for_all()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--guests", type=int, default=60)
    parser.add_argument("--kafka", help="host:port of a broker; else one is started")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = asked.kafka or stack.enter_context(Broker()).address
        topics = stack.enter_context(Topics(address))
        found = weather(stack.enter_context(Zygote()), topics, folder, asked.guests)
    print(
        f"{asked.guests} guests: {found.rows} rows, none lost, wrong or there twice; "
        f"{found.longest:.1f} s without a row at most"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
