"""Where a job that is killed reads and writes: files, or topics of Kafka."""

from __future__ import annotations

import gzip
import itertools
import shutil
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import velostream
from tests.crash.cases import CASES, COLUMNS, SHARED, Case, Rows, trades, write_files
from velostream.connectors.base import FORGOTTEN

if TYPE_CHECKING:
    from tests.kafka.topics import Topics

# A transaction is committed when its coordinator has decided so; what tells readers of each partition comes
# behind (KIP-98), and the broker shares two CPUs with all that is killed here.
SEEN_SECONDS = 10.0
# Steps at which a crash could split a commit, and the end of a job.
COMMON_FAULTS = (
    "epoch.begin",
    "epoch.gathered",
    "epoch.prepared",
    "epoch.committed",
    "epoch.published",
    "state.before_changes",
    "state.after_changes",
    "state.before_manifest",
    "state.after_manifest",
    "state.after_cleanup",
    "job.before_close",
    "job.before_clear",
    "state.cleared",
    "job.after_clear",
)
FILE_FAULTS = (
    "sink.before_write",
    "sink.after_write",
    "sink.before_fsync",
    "sink.after_fsync",
    "sink.before_publish",
    "sink.after_publish",
)


# Machines that a worker of a job on Kafka goes to and comes back to.
PLACES = 3
# How long a worker that was killed keeps its tasks from others.
SESSION_MS = 1500


class Ground(ABC):
    """Input and output of one job, in `folder`. Its configuration does not change from start to start."""

    faults: tuple[str, ...]
    cases: tuple[Case, ...] = CASES
    # A worker that is killed at a random time lives no longer than that.
    longest_seconds = 0.5
    # Milliseconds of silence behind which others take the tasks of a worker; 0: there are no others.
    session_ms = 0

    @abstractmethod
    def begin(self, case: Case, folder: Path, records: int, seed: int) -> None:
        """Write the input."""

    @abstractmethod
    def ends(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The configuration of the source and of the sink."""

    @abstractmethod
    def lines(self, want: Rows | None = None) -> list[bytes]:
        """What a reader of committed rows sees, also between two starts. With `want` they are to have all of
        these rows: soon, where commits take their time to be seen."""

    def committed(self) -> Rows:
        """The same as rows."""
        return self.case.rows(self.lines())

    def finished(self) -> bool:
        """Whether the job has completed, though it was killed: another start would be a new run, with rows of
        its own. A job on files replaces its output."""
        return False

    def move(self, worker: int) -> None:  # noqa: B027  (a job on files stays with them)
        """Let a worker go to another machine, where nothing is saved, or something old."""

    def end(self) -> None:  # noqa: B027
        """Remove what would be in the way of other jobs."""

    def config(self, processor: str, worker: int = 0) -> dict[str, Any]:
        source, sink = self.ends()
        version, _, partitions = processor.partition(":")
        return {
            "name": f"{self.case.name}-{self.folder.name}",
            "sql": self.case.sql,
            "sources": {"trades": {**source, "schema": COLUMNS, **self.case.source}},
            "sinks": {"out": sink},
            "processor": {
                "version": version,
                "block_size": "16KiB",
                **({"partitions": int(partitions)} if partitions else {}),
            },
            "delivery": {"guarantee": "exactly_once", "interval": self.interval},
            "state": {"path": str(self.folder / f"state-{worker}")},
        }

    interval = "10ms"
    case: Case
    folder: Path


class Files(Ground):
    faults = (*COMMON_FAULTS, *FILE_FAULTS)

    def begin(self, case: Case, folder: Path, records: int, seed: int) -> None:
        self.case, self.folder = case, folder
        self._out = folder / f"out{case.suffix}"
        (folder / "in").mkdir(parents=True)
        write_files(case, folder / "in", records, seed)

    def ends(self) -> tuple[dict[str, Any], dict[str, Any]]:
        source = {"kind": "file", "path": str(self.folder / "in"), "format": "ndjson"}
        return source, {"kind": "file", "path": str(self._out)}

    def lines(self, want: Rows | None = None) -> list[bytes]:
        if self._out.exists():
            data = self._out.read_bytes()
            data = gzip.decompress(data) if self._out.suffix == ".gz" else data
        elif (self.folder / f".{self._out.name}.committed").exists():
            data = velostream.committed(self._out).read()
        else:
            data = b""
        return data.splitlines()


class Kafka(Ground):
    faults = (
        *COMMON_FAULTS,
        "epoch.decided",
        "kafka.before_offsets",
        "kafka.before_flush",
        "kafka.before_commit",
        "kafka.after_commit",
    )
    cases = tuple(case for case in CASES if case.suffix == ".ndjson")
    interval = "50ms"
    _partitions = itertools.cycle((1, 4))

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._moves: Counter[int] = Counter()

    def begin(self, case: Case, folder: Path, records: int, seed: int) -> None:
        from tests.kafka.topics import Record

        self.case, self.folder = case, folder
        folder.mkdir(parents=True)
        self._in = self._topics.create(partitions=next(self._partitions))
        # Windows have the time of their trades, which are too old for what a topic keeps.
        self._out = self._topics.create(partitions=3)
        given = (Record(line, key=symbol.encode()) for symbol, line in trades(records, seed))
        self._topics.produce(self._in, given)

    def ends(self) -> tuple[dict[str, Any], dict[str, Any]]:
        at = {"kind": "kafka", "brokers": self._topics.address}
        # Partitions are read side by side: how far one is ahead of another is not bounded.
        source = {**at, "topic": self._in, "start": "earliest", "until": "latest"}
        # A worker that was killed and comes again elsewhere has to wait for the end of its session.
        return source, {**at, "topic": self._out, "options": {"session.timeout.ms": SESSION_MS}}

    def config(self, processor: str, worker: int = 0) -> dict[str, Any]:
        config = super().config(processor, worker)
        config["name"] += f"-{self._out}"
        config["state"]["path"] = str(self._state(worker))
        return config

    def _state(self, worker: int) -> Path:
        return self.folder / f"state-{worker}-{self._moves[worker] % PLACES}"

    def finished(self) -> bool:
        group = f"velostream-{self.config('v1')['name']}"
        return self._topics.settled(group, f"{group}-state") == FORGOTTEN

    def move(self, worker: int) -> None:
        self._moves[worker] += 1
        # Every other place has lost what the worker has left there.
        if self._moves[worker] % PLACES and self._moves[worker] % 2:
            shutil.rmtree(self._state(worker), ignore_errors=True)

    def end(self) -> None:
        own = f"velostream-{self.config('v1')['name']}"
        for topic in (self._in, self._out, *self._topics.names(own)):
            self._topics.delete(topic)

    def lines(self, want: Rows | None = None) -> list[bytes]:
        deadline = time.monotonic() + SEEN_SECONDS
        while True:
            lines = [record.value or b"" for record in self._topics.consume(self._out)]
            if want is None or not want - self.case.rows(lines) or time.monotonic() > deadline:
                return lines


class Shared(Kafka):
    """Jobs of several tasks, on as many workers as there are."""

    faults = (
        *Kafka.faults,
        "worker.assigned",
        "worker.given_up",
        "worker.begun",
        "worker.before_complete",
        "worker.before_leave",
    )
    cases = SHARED
    longest_seconds = 3.0

    def __init__(
        self, topics: Topics, tasks: int = 4, partitions: Sequence[int] = (4, 6), session_ms: int = SESSION_MS
    ) -> None:
        super().__init__(topics)
        self.tasks = tasks
        self.session_ms = session_ms
        # Of the input of one job after the other.
        self._partitions = itertools.cycle(partitions)

    def begin(self, case: Case, folder: Path, records: int, seed: int) -> None:
        self.prepare(case, folder, records, seed)
        self.feed(records)

    def prepare(self, case: Case, folder: Path, records: int, seed: int) -> None:
        """Say what the input is; nothing of it is written yet."""
        import pyarrow as pa

        from tests.kafka.topics import Record
        from velostream.kernels import murmur2_partitions

        self.case, self.folder = case, folder
        folder.mkdir(parents=True)
        partitions = next(self._partitions)
        self._in = self._topics.create(partitions=partitions)
        self._out = self._topics.create(partitions=3)
        symbols, lines = zip(*trades(records, seed), strict=True)
        if case.exchange == "none":
            chosen = murmur2_partitions(pa.array(symbols, pa.binary()), partitions).tolist()
        else:
            chosen = [at % partitions for at in range(records)]
        keys = (symbol.encode() for symbol in symbols)
        self._left = [*map(Record, lines, keys, chosen)]
        counts = Counter(chosen)
        self._until = {str(number): counts[number] for number in range(partitions)}

    def feed(self, records: int) -> None:
        """Write the next of the input."""
        self._topics.produce(self._in, self._left[:records])
        del self._left[:records]

    def ends(self) -> tuple[dict[str, Any], dict[str, Any]]:
        source, sink = super().ends()
        if self.case.exchange == "none":
            source["partitioned_by"] = ["symbol"]
        source |= {"until": "offsets", "until_offsets": self._until}
        return source, {**sink, "options": {"session.timeout.ms": self.session_ms}}

    def config(self, processor: str, worker: int = 0) -> dict[str, Any]:
        config = super().config(processor, worker)
        config["processor"]["tasks"] = self.tasks
        return config

    def _state(self, worker: int) -> Path:
        place = self._moves[worker] % PLACES
        # Workers of one machine: each finds its place in the folder that is given to all.
        return self.folder / (f"state-{worker}-{place}" if place else "state")

    def finished(self) -> bool:
        # Another start finds it complete.
        return False
