"""`python -m tests.crash.soak --minutes 20 [--kafka HOST:PORT | --with-kafka]`: a job that runs for long.

Trades come at a share of the rate that the job reaches at most (measured first, unless `--rate` says it), and
windows of a second close all the time: from file to file and, with a broker, from topic to topic, exactly
once, there on as many workers as `--workers` says. Every second the processes are looked at from outside:
resident memory, descriptors, threads, and how late committed windows are by the clock. Ends with a table and
a plot, and with exit code 1 when a window was wrong, missing or there twice, or when something has grown.
Linux only (/proc).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

import velostream
from velostream.cli.request import all_kinds
from velostream.config.build import from_mapping
from velostream.runtime.worker import make_job

if TYPE_CHECKING:
    from tests.kafka.topics import Topics

SPAWN = multiprocessing.get_context("spawn")
COLUMNS = {"symbol": "VARCHAR", "price": "BIGINT", "ts": "TIMESTAMP"}
SQL = """CREATE STREAM out AS
SELECT symbol, _window_end AS ends, COUNT(*) AS n, SUM(price) AS total
FROM trades GROUP BY symbol WINDOW TUMBLING(ts, INTERVAL '1' SECOND) EMIT FINAL"""
WINDOW_SECONDS = 1.0
SYMBOLS = 100
LINE = '{{"symbol":"S{:02d}","price":{},"ts":0000000000000}}\n'
STAMP = slice(-15, -2)
GROUP_SECONDS = 0.01
PARTITIONS = 4
# So much of a followed file is kept behind its end; what is older gives its place on the disk back.
KEPT_BYTES = 512 << 20
PUNCH_HOLE_KEEP_SIZE = 3
# The start is no part of the figures.
WARM_UP = 0.2
# What counts as flat: growth over the whole run, of resident memory as a share of it, of lag in seconds.
FLAT_SHARE, FLAT_SECONDS, FLAT_COUNT = 0.05, 0.5, 4

Lines = npt.NDArray[np.uint8]


def lines(records: int) -> Lines:
    """Lines of one length, whose stamps are still to be set."""
    text = "".join(LINE.format(i * 7 % SYMBOLS, 100 + i * 13 % 900) for i in range(records))
    return np.frombuffer(bytearray(text.encode()), dtype=np.uint8).reshape(records, -1)


def groups(rate: float, seconds: float) -> Iterator[tuple[int, Lines]]:
    """Groups of trades and their time (ms), at so many records a second by the clock, for so long.

    A group that is late comes at once: the rate is kept.
    """
    begun = time.time()
    template = lines(int(rate * GROUP_SECONDS) + 1)
    given = 0
    while (now := time.time()) < begun + seconds:
        due = int((now - begun) * rate) - given
        if due > 0:
            group = template[: min(due, len(template))]
            stamped(group, int(now * 1000))
            yield int(now * 1000), group
            given += len(group)
        if due < len(template):
            time.sleep(GROUP_SECONDS)


def backlog(records: int) -> Iterator[Lines]:
    """Trades that are all there at once, a second of time per 100 groups."""
    template = lines(1000)
    for number in range(records // len(template)):
        stamped(template, 1_700_000_000_000 + number * 10)
        yield template


def stamped(group: Lines, ms: int) -> None:
    group[:, STAMP] = np.frombuffer(b"%013d" % ms, dtype=np.uint8)


class Ground(ABC):
    """Input and output of one job."""

    name: str

    @abstractmethod
    def ends(self, bounded: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fresh input and output: the configuration of the source and of the sink."""

    @abstractmethod
    def writer(self) -> Writer:
        """Of the input; for another process."""

    @abstractmethod
    def rows(self, stopped: threading.Event) -> Iterator[bytes]:
        """Committed rows as they come, until stopped and no more come."""

    def config(self, folder: Path, processor: str, workers: int, bounded: bool = False) -> dict[str, Any]:
        source, sink = self.ends(bounded)
        version, _, partitions = processor.partition(":")
        lanes: dict[str, Any] = {"partitions": int(partitions)} if partitions else {}
        if workers > 1:
            lanes["tasks"] = PARTITIONS
        return {
            "name": f"soak-{self.name.lower()}-{os.getpid()}{'-peak' if bounded else ''}",
            "sql": SQL,
            "sources": {"trades": {**source, "schema": COLUMNS, "out_of_orderness": "0s"}},
            "sinks": {"out": sink},
            "processor": {"version": version, **lanes},
            "delivery": {"guarantee": "exactly_once"},
            "state": {"path": str(folder / "state")},
        }


class Writer(ABC):
    """Writes trades; made in one process and used in another."""

    @abstractmethod
    def write(self, group: Lines) -> None: ...

    @abstractmethod
    def finish(self) -> None: ...


class FileWriter(Writer):
    """Appends to a file, which keeps its length but not the disk's place of what was read long ago."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = self._punched = 0

    def write(self, group: Lines) -> None:
        with self._path.open("ab", buffering=0) as file:
            file.write(group.data)
        self._written += group.nbytes
        if self._written - self._punched > 2 * KEPT_BYTES:
            self._punched = self._written - KEPT_BYTES
            with self._path.open("r+b") as file:
                length = ctypes.c_int64(self._punched)
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.fallocate(file.fileno(), PUNCH_HOLE_KEEP_SIZE, ctypes.c_int64(0), length):
                    raise OSError(ctypes.get_errno(), "the file system makes no holes", str(self._path))

    def finish(self) -> None:
        pass


class Files(Ground):
    name = "files"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def ends(self, bounded: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        self._in, self._out = (self._folder / f"{end}-{bounded}.ndjson" for end in ("in", "out"))
        self._in.touch()
        source = {"kind": "file", "path": str(self._in), "format": "ndjson", "follow": not bounded}
        return source, {"kind": "file", "path": str(self._out)}

    def writer(self) -> FileWriter:
        return FileWriter(self._in)

    def rows(self, stopped: threading.Event) -> Iterator[bytes]:
        committed = velostream.committed(self._out)
        while True:
            last = stopped.is_set()
            for piece in committed.follow(0.5):
                yield from piece.splitlines()
            if last:
                return


class TopicWriter(Writer):
    def __init__(self, address: str, topic: str) -> None:
        self._settings = {"bootstrap.servers": address, "linger.ms": 5, "log_level": 2}
        self._topic = topic
        self._producer: Any = None
        self._count = 0

    def write(self, group: Lines) -> None:
        from confluent_kafka import Producer

        self._producer = self._producer or Producer(self._settings)
        for line in group.tobytes().splitlines():
            while True:
                try:
                    self._producer.produce(self._topic, line, partition=self._count % PARTITIONS)
                    break
                except BufferError:
                    self._producer.poll(0.1)
            self._count += 1
        self._producer.poll(0)

    def finish(self) -> None:
        if self._producer is not None and self._producer.flush(60):
            raise SystemExit("the broker has not taken all records")


class Kafka(Ground):
    name = "Kafka"

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def ends(self, bounded: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        keeps = -1 if bounded else 256 << 20
        self._in = self._topics.create(PARTITIONS, retention_bytes=keeps, segment_bytes=64 << 20)
        self._out = self._topics.create(1)
        at = {"kind": "kafka", "brokers": self._topics.address}
        source = {**at, "topic": self._in, "start": "earliest", **({"until": "latest"} if bounded else {})}
        return source, {**at, "topic": self._out}

    def writer(self) -> TopicWriter:
        return TopicWriter(self._topics.address, self._in)

    def rows(self, stopped: threading.Event) -> Iterator[bytes]:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

        settings = {"bootstrap.servers": self._topics.address, "group.id": "soak", "log_level": 2}
        consumer = Consumer({**settings, "enable.auto.commit": False, "isolation.level": "read_committed"})
        consumer.assign([TopicPartition(self._out, 0, OFFSET_BEGINNING)])
        while True:
            last = stopped.is_set()
            while (message := consumer.poll(1.0)) is not None:
                if message.error() is not None:
                    raise KafkaException(message.error())
                yield message.value() or b""
            if last:
                consumer.close()
                return


def run_job(config: dict[str, Any], results: Connection) -> None:
    """In a process of its own."""
    job = make_job(from_mapping(config, all_kinds()).job)
    signal.signal(signal.SIGTERM, lambda *_: job.stop("SIGTERM"))
    report = job.run()
    results.send((report.state, report.error, report.rate))


def run_writer(writer: Writer, rate: float, seconds: float, results: Connection) -> None:
    """In a process of its own; gives the number of records by their second."""
    counts: Counter[int] = Counter()
    for ms, group in groups(rate, seconds):
        writer.write(group)
        counts[ms // 1000] += len(group)
    writer.finish()
    results.send(counts)


class Workers:
    """Processes that share a job."""

    def __init__(self, ground: Ground, config: dict[str, Any], count: int) -> None:
        self._name = ground.name
        self._processes, self._results = [], []
        for _ in range(count):
            ours, theirs = SPAWN.Pipe()
            self._processes.append(SPAWN.Process(target=run_job, args=(config, theirs)))
            self._results.append(ours)
        for process in self._processes:
            process.start()
        self.pids = [process.pid for process in self._processes if process.pid is not None]

    @property
    def alive(self) -> bool:
        return all(process.is_alive() for process in self._processes)

    def said(self) -> str:
        """What those that have ended have to say."""
        return "; ".join(str(ours.recv()) for ours in self._results if ours.poll()) or "a process died"

    def end(self, expected: str) -> float:
        """Wait until all have ended in that state; the sum of their records a second."""
        total = 0.0
        for process, ours in zip(self._processes, self._results, strict=True):
            state, error, rate = ours.recv()
            process.join()
            if state != expected:
                raise SystemExit(f"{self._name}: the job is {state}: {error}")
            total += rate
        return total


def peak(ground: Ground, folder: Path, processor: str, records: int, workers: int) -> float:
    """Records a second that the job reaches when all of its input is there."""
    config = ground.config(folder, processor, workers, bounded=True)
    writer = ground.writer()
    for group in backlog(records):
        writer.write(group)
    writer.finish()
    return Workers(ground, config, workers).end("completed")


@dataclass
class Look:
    """One look at the processes. `seconds` since the start, `rss` in MiB, `lag` in seconds: how late the
    newest row was, or is the next one."""

    seconds: float
    rss: float
    lag: float
    descriptors: int
    threads: int

    @classmethod
    def at(cls, pids: list[int], seconds: float, rows: Rows) -> Look:
        places = [Path(f"/proc/{pid}") for pid in pids]
        pages = sum(int((place / "statm").read_text().split()[1]) for place in places)
        return cls(
            seconds,
            pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
            max(rows.late, time.time() - rows.newest - WINDOW_SECONDS),
            sum(len(os.listdir(place / "fd")) for place in places),
            sum(len(os.listdir(place / "task")) for place in places),
        )


@dataclass
class Soaked:
    """What came of a ground: `latencies` (seconds from a window's end to its row, as committed) and looks,
    both without the start; records and windows, and how many of these were wrong."""

    name: str
    rate: float
    records: int = 0
    windows: int = 0
    wrong: int = 0
    latencies: list[float] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    def values(self, what: str) -> npt.NDArray[np.float64]:
        return np.array([getattr(look, what) for look in self.looks], dtype=np.float64)

    def growth(self, what: str) -> float:
        """Over the looks, by the straight line that fits them best."""
        times = self.values("seconds")
        slope = np.polyfit(times, self.values(what), 1)[0]
        return float(slope * (times[-1] - times[0]))

    @property
    def flat(self) -> bool:
        return (
            self.growth("rss") <= FLAT_SHARE * float(self.values("rss").mean())
            and self.growth("lag") <= FLAT_SECONDS
            and self.growth("descriptors") <= FLAT_COUNT
            and self.growth("threads") <= FLAT_COUNT
        )


class Rows(threading.Thread):
    """Takes committed rows, and notes when."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(daemon=True)
        # When the newest window ended, and how much later its last row came.
        self.newest = time.time()
        self.late = 0.0
        self.counts: dict[tuple[str, int], int] = {}
        self.twice = 0
        # Unix time of the row, and seconds since its window's end.
        self.latencies: list[tuple[float, float]] = []
        self.stopped = threading.Event()
        self._ground = ground

    def run(self) -> None:
        for line in self._ground.rows(self.stopped):
            now = time.time()
            row = json.loads(line)
            ends = datetime.fromisoformat(row["ends"].removesuffix("Z")).replace(tzinfo=UTC).timestamp()
            self.newest, self.late = ends, now - ends
            self.latencies.append((now, now - ends))
            key = row["symbol"], int(ends) - 1
            self.twice += key in self.counts
            self.counts[key] = row["n"]


def soak(ground: Ground, folder: Path, processor: str, rate: float, seconds: float, workers: int) -> Soaked:
    soaked = Soaked(ground.name, rate)
    config = ground.config(folder, processor, workers)
    rows = Rows(ground)
    written, writing = SPAWN.Pipe()
    jobs = Workers(ground, config, workers)
    writer = SPAWN.Process(target=run_writer, args=(ground.writer(), rate, seconds, writing))
    writer.start()
    rows.start()
    begun = time.time()
    counts: Counter[int] = Counter()
    while not written.poll(1.0):
        if not (jobs.alive and writer.is_alive()):
            raise SystemExit(f"{ground.name}: ended early: {jobs.said()}")
        if time.time() - begun > WARM_UP * seconds:
            soaked.looks.append(Look.at(jobs.pids, time.time() - begun, rows))
    counts = written.recv()
    # The windows of all but the last second are closed by what was written in it.
    last = max(counts)
    deadline = time.time() + 60
    while rows.newest < last and time.time() < deadline and jobs.alive:
        time.sleep(0.1)
    for pid in jobs.pids:
        os.kill(pid, signal.SIGTERM)
    jobs.end("interrupted")
    writer.join()
    rows.stopped.set()
    rows.join()
    found: Counter[int] = Counter()
    for (_, second), count in rows.counts.items():
        found[second] += count
    wrong = [second for second in counts if second < last and found[second] != counts[second]]
    soaked.records, soaked.windows = counts.total(), len(rows.counts)
    soaked.wrong = len(wrong) + rows.twice
    soaked.latencies = [took for at, took in rows.latencies if at - begun > WARM_UP * seconds]
    return soaked


def table(results: list[Soaked]) -> Table:
    shown = Table("", *(each.name for each in results))
    shown.add_row("records/s", *(f"{each.rate:,.0f}" for each in results))
    shown.add_row("records", *(f"{each.records:,}" for each in results))
    shown.add_row("windows", *(f"{each.windows:,}" for each in results))
    shown.add_row("wrong, missing or twice", *(f"{each.wrong:,}" for each in results))
    for title, what, form in (
        ("resident memory, MiB", "rss", ".1f"),
        ("lag, s", "lag", ".2f"),
        ("descriptors", "descriptors", ".0f"),
        ("threads", "threads", ".0f"),
    ):
        cells = []
        for each in results:
            values = each.values(what)
            cells.append(
                f"{np.median(values):{form}} (most {values.max():{form}}, growth {each.growth(what):+{form}})"
            )
        shown.add_row(title, *cells)
    for percent in (50, 99, 100):
        cells = [f"{np.percentile(each.latencies, percent) * 1000:,.0f} ms" for each in results]
        shown.add_row(f"window's end to committed row, p{percent}", *cells)
    shown.add_row("flat", *("yes" if each.flat else "NO" for each in results))
    return shown


def plot(results: list[Soaked], path: Path) -> None:
    """A PNG: a column of panels per ground."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    panels = (("rss", "resident memory, MiB"), ("lag", "lag, s"), ("descriptors", "descriptors"))
    figure, axes = plt.subplots(
        len(panels), len(results), figsize=(6 * len(results), 8), squeeze=False, layout="constrained"
    )
    for column, each in enumerate(results):
        axes[0][column].set_title(f"{each.name}, {each.rate:,.0f} records/s")
        for row, (what, title) in enumerate(panels):
            axes[row][column].plot(each.values("seconds") / 60, each.values(what))
            axes[row][column].set_ylabel(title)
            axes[row][column].set_ylim(0, 1.2 * each.values(what).max())
        axes[-1][column].set_xlabel("minutes")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=20, help="on files, and as many on Kafka")
    parser.add_argument("--rate", type=float, help="records a second, in place of a share of the peak rate")
    parser.add_argument("--share", type=float, default=0.6, help="of the peak rate")
    parser.add_argument("--peak-records", type=int, default=2_000_000, help="to measure the peak rate by")
    parser.add_argument("--processor", default="v2:2", help="v1, v2, v2:LANES")
    parser.add_argument("--kafka", help="host:port of a broker")
    parser.add_argument("--with-kafka", action="store_true", help="start a broker")
    parser.add_argument("--only-kafka", action="store_true", help="not on files")
    parser.add_argument("--workers", type=int, default=1, help="of the job on Kafka")
    parser.add_argument("--plot", type=Path, default=Path("soak.png"))
    asked = parser.parse_args()
    results = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        grounds: list[Ground] = [] if asked.only_kafka else [Files(folder / "files")]
        address = asked.kafka
        if asked.with_kafka:
            from tests.kafka.broker import Broker

            address = stack.enter_context(Broker(lasting=True)).address
        if address:
            from tests.kafka.topics import Topics

            grounds.append(Kafka(stack.enter_context(Topics(address))))
        for ground in grounds:
            workers = asked.workers if ground.name == Kafka.name else 1
            rate = asked.rate
            if rate is None:
                most = peak(
                    ground, folder / f"{ground.name}-peak", asked.processor, asked.peak_records, workers
                )
                print(f"{ground.name}: {most:,.0f} records/s at most", file=sys.stderr, flush=True)
                rate = asked.share * most
            results.append(
                soak(
                    ground, folder / f"{ground.name}-soak", asked.processor, rate, asked.minutes * 60, workers
                )
            )
            Console(stderr=True).print(table(results[-1:]))
    Console().print(table(results))
    plot(results, asked.plot)
    return 1 if any(each.wrong or not each.flat for each in results) else 0


if __name__ == "__main__":
    sys.exit(main())
