"""Where a job that is killed reads and writes: files, or topics of Kafka."""

from __future__ import annotations

import gzip
import itertools
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import velostream
from tests.crash.cases import CASES, COLUMNS, Case, Rows, trades, write_files
from velostream.connectors.base import FORGOTTEN

if TYPE_CHECKING:
    from tests.kafka.topics import Topics

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


class Ground(ABC):
    """Input and output of one job, in `folder`. Its configuration does not change from start to start."""

    faults: tuple[str, ...]
    cases: tuple[Case, ...] = CASES

    @abstractmethod
    def begin(self, case: Case, folder: Path, records: int, seed: int) -> None:
        """Write the input."""

    @abstractmethod
    def ends(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The configuration of the source and of the sink."""

    @abstractmethod
    def committed(self) -> Rows:
        """What a reader of committed rows sees, also between two starts."""

    def finished(self) -> bool:
        """Whether the job has completed, though it was killed: another start would be a new run, with rows of
        its own. A job on files replaces its output."""
        return False

    def move(self) -> None:  # noqa: B027  (a job on files stays with them)
        """Go to another machine, where nothing is saved."""

    def config(self, processor: str) -> dict[str, Any]:
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
            "state": {"path": str(self.folder / "state")},
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

    def committed(self) -> Rows:
        if self._out.exists():
            data = self._out.read_bytes()
            data = gzip.decompress(data) if self._out.suffix == ".gz" else data
        elif (self.folder / f".{self._out.name}.committed").exists():
            data = velostream.committed(self._out).read()
        else:
            data = b""
        return self.case.rows(data.splitlines())


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

    def begin(self, case: Case, folder: Path, records: int, seed: int) -> None:
        from tests.kafka.topics import Record

        self.case, self.folder = case, folder
        folder.mkdir(parents=True)
        self._in = self._topics.create(partitions=next(self._partitions))
        self._out = self._topics.create(partitions=3)
        given = (Record(line, key=symbol.encode()) for symbol, line in trades(records, seed))
        self._topics.produce(self._in, given)

    def ends(self) -> tuple[dict[str, Any], dict[str, Any]]:
        at = {"kind": "kafka", "brokers": self._topics.address}
        # Partitions are read side by side: how far one is ahead of another is not bounded.
        source = {**at, "topic": self._in, "start": "earliest", "until": "latest"}
        return source, {**at, "topic": self._out}

    def config(self, processor: str) -> dict[str, Any]:
        config = super().config(processor)
        config["name"] += f"-{self._out}"
        return config

    def finished(self) -> bool:
        group = f"velostream-{self.config('v1')['name']}"
        return self._topics.settled(group, self._out) == FORGOTTEN

    def move(self) -> None:
        shutil.rmtree(self.folder / "state", ignore_errors=True)

    def committed(self) -> Rows:
        return self.case.rows(record.value or b"" for record in self._topics.consume(self._out))
