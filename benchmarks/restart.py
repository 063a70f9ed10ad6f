"""A job with a million keys of state, killed and started again, or stopped under load; on files and on Kafka.

`restart` fills the state with one record a key, waits until all is committed, kills the job, appends records
of keys that it knows, and starts it again: seconds from the start of that process to the first new result
that a reader of committed rows sees. Counts and sums must be those of both runs, or it does not count. `stop`
gives the job more than it can read, sends SIGTERM when all keys have been committed, and takes the seconds to
the exit of the process.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import velostream
from benchmarks.data import FOLDER
from benchmarks.group_by_keys import numbers
from benchmarks.harness import Contender, Figure, Target, compare, entry
from benchmarks.kafka import PATIENCE_SECONDS, address, broker, client, fill, make_topic
from benchmarks.process import JOBS, RUN_FOLDER

CONTENDERS = (
    Contender("file to file, v1", "restart/files"),
    Contender("topic to topic, v1", "restart/topics", needs="confluent_kafka"),
)
STOPPED = (
    Contender("file to file, v1", "stop/files"),
    Contender("topic to topic, v1", "stop/topics", needs="confluent_kafka"),
)
RESTART = Figure("restart", "s to first new result", 2)
STOP = Figure("stop", "s to exit", 2)
# Appended after the kill, of as many keys.
AGAIN = 100
# Input of a job that is stopped before its end.
LOAD = 30_000_000
LOAD_TOPIC = "restart-load"
STATE = FOLDER / "state" / "restart"


class Ground(ABC):
    """Input and output of the job; `results` reads only what has been committed."""

    @abstractmethod
    def begin(self, path: Path, records: int) -> None:
        """The first lines of `path` are the input, and there is no output."""

    @abstractmethod
    def load(self, path: Path) -> None:
        """All lines of `path` are the input, and there is no output."""

    @abstractmethod
    def append(self, path: Path, first: int, last: int) -> None:
        """Lines of `path`, by number, come behind."""

    @abstractmethod
    def results(self) -> list[bytes]:
        """The lines committed since the last call; waits a little."""

    @abstractmethod
    def options(self) -> list[str]:
        """The job's file, and the overrides that give it this input and output."""

    @contextmanager
    def running(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """The job as a process, which is killed in the end if it still runs."""
        command = [sys.executable, "run.py", *self.options(), "processor=v1", *options]
        command += [f"state.path={STATE}", f"output_dir={RUN_FOLDER}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as job:
            try:
                yield job
            finally:
                job.kill()

    def wait_for(self, count: int, job: subprocess.Popen[bytes]) -> list[bytes]:
        """At least so many results. Raises SystemExit when the job ends before."""
        found: list[bytes] = []
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(found) < count:
            found += self.results()
            if job.poll() is not None or time.monotonic() > deadline:
                output = b"" if job.poll() is None or job.stdout is None else job.stdout.read()
                raise SystemExit(f"{len(found)} results of {count}\n{output.decode(errors='replace')}")
        return found


class Files(Ground):
    """A followed file to a file."""

    def __init__(self) -> None:
        self._output = FOLDER / "restart-output.ndjson"
        self._output.unlink(missing_ok=True)
        self._output.with_name(f".{self._output.name}.committed").unlink(missing_ok=True)
        self._reader = velostream.committed(self._output)

    def begin(self, path: Path, records: int) -> None:
        self._input = FOLDER / "restart-input.ndjson"
        self._input.unlink(missing_ok=True)
        self.append(path, 0, records)

    def load(self, path: Path) -> None:
        self._input = path

    def append(self, path: Path, first: int, last: int) -> None:
        with open(path, "rb") as lines, open(self._input, "ab") as file:
            file.writelines(islice(lines, first, last))

    def results(self) -> list[bytes]:
        # One piece: of a job at work there is always a next one.
        return next(self._reader.follow(timeout=0.02), b"").splitlines()

    def options(self) -> list[str]:
        return [f"job={JOBS / 'totals.yaml'}", f"source.path={self._input}", f"sink.path={self._output}"]


class Topics(Ground):
    """A topic to a topic, of one partition each."""

    def __init__(self) -> None:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        self._output = make_topic("restart-output", 1)
        settings = {"group.id": "benchmarks", "enable.auto.commit": False}
        self._consumer = Consumer(client({**settings, "isolation.level": "read_committed"}))
        self._consumer.assign([TopicPartition(self._output, 0, OFFSET_BEGINNING)])

    def begin(self, path: Path, records: int) -> None:
        self._input = make_topic("restart-input", 1)
        fill(self._input, path, records, 1)

    def load(self, path: Path) -> None:
        # Filled by `main`, for all runs.
        self._input = LOAD_TOPIC

    def append(self, path: Path, first: int, last: int) -> None:
        fill(self._input, path, last, 1, first)

    def results(self) -> list[bytes]:
        first = self._consumer.poll(0.02)
        found = [] if first is None else [first, *self._consumer.consume(10_000, timeout=0)]
        return [message.value() or b"" for message in found]

    def options(self) -> list[str]:
        topics = [f"source.topic={self._input}", f"sink.topic={self._output}"]
        brokers = [f"source.brokers={address()}", f"sink.brokers={address()}"]
        return [f"job={JOBS / 'kafka_totals.yaml'}", *topics, *brokers]


GROUNDS: dict[str, type[Ground]] = {"files": Files, "topics": Topics}


def main(records: int) -> None:
    path = numbers(LOAD, records)
    with broker():
        fill(make_topic(LOAD_TOPIC, 1), path, LOAD, 1)
        compare(
            "restart",
            f"kill -9 and start with {records:,} keys of state, commits as by default",
            records,
            CONTENDERS,
            targets=_targets(CONTENDERS, RESTART, 5),
            figures=(RESTART,),
        )
        compare(
            "restart",
            f"SIGTERM to exit under load, {records:,} keys of state",
            records,
            STOPPED,
            targets=_targets(STOPPED, STOP, 2),
            figures=(STOP,),
        )


def _targets(contenders: Sequence[Contender], figure: Figure, most: float) -> list[Target]:
    return [
        Target(f"{each.argument} ≤ {most} s", each.argument, figure=figure.key, at_most=most)
        for each in contenders
    ]


def run(argument: str, records: int) -> dict[str, float]:
    what, _, name = argument.partition("/")
    ground = GROUNDS[name]()
    path = numbers(LOAD, records)
    return restart(ground, path, records) if what == "restart" else stop(ground, path, records)


def restart(ground: Ground, path: Path, records: int) -> dict[str, float]:
    """Raises SystemExit when a result is not of both runs."""
    ground.begin(path, records)
    with ground.running("state=reset") as job:
        ground.wait_for(records, job)
        job.kill()
        job.wait()
    ground.append(path, records, records + AGAIN)
    begun = time.perf_counter()
    with ground.running() as job:
        found = ground.wait_for(1, job)
        seconds = time.perf_counter() - begun
        found += ground.wait_for(AGAIN - len(found), job)
    same_totals(found, path, records)
    return {RESTART.key: seconds}


def same_totals(found: Sequence[bytes], path: Path, records: int) -> None:
    """Raises SystemExit unless the results are those of the appended lines' keys, each the second time."""
    with open(path, "rb") as file:
        rows = [json.loads(line) for line in islice(file, records + AGAIN)]
    expected: dict[int, dict[str, Any]] = {}
    again = {row["key"] for row in rows[records:]}
    for row in rows:
        if row["key"] in again:
            total = expected.setdefault(row["key"], {"key": row["key"], "n": 0, "total": 0})
            total["n"] += 1
            total["total"] += row["value"]
    given = sorted((json.loads(line) for line in found), key=lambda row: row["key"])
    if given != sorted(expected.values(), key=lambda row: row["key"]):
        raise SystemExit(f"after the restart the results are not those of both runs: {given[:3]} …")


def stop(ground: Ground, path: Path, records: int) -> dict[str, float]:
    """Raises SystemExit when the job had nothing more to do, or did not end in order."""
    ground.load(path)
    with ground.running("state=reset", "delivery.interval=200ms") as job:
        # The state has all keys when so many results are there.
        ground.wait_for(records, job)
        begun = time.perf_counter()
        job.send_signal(signal.SIGTERM)
        output, _ = job.communicate(timeout=PATIENCE_SECONDS)
        seconds = time.perf_counter() - begun
    report = json.loads((RUN_FOLDER / "report.json").read_text(encoding="utf-8"))
    if job.returncode != 128 + signal.SIGTERM or report["records"]["in"] >= LOAD:
        raise SystemExit(f"no stop under load: exit code {job.returncode}\n{output.decode(errors='replace')}")
    return {STOP.key: seconds}


if __name__ == "__main__":
    entry(run, main, 1_000_000)
