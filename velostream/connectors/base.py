"""What a connector is: where blocks come from and where output goes.

A connector is one module of this folder: its configuration as a dataclass, its source or sink class
registered by the name that `source=` and `sink=` take.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.config.schema import SinkConfig, SourceConfig
from velostream.errors import ConfigError, ConnectorError, Where
from velostream.formats.base import Decoder
from velostream.formats.file_range import FileRange
from velostream.formats.messages import Messages
from velostream.operators.batch import Batch
from velostream.registry import Registry
from velostream.sql.types import Schema

# What a block holds: bytes in memory, in a file or of messages, for a decoder; or columns.
Content: TypeAlias = memoryview | FileRange | Messages | pa.RecordBatch

# `yaml=False` at registration: made by Python code alone, no option of the configuration.
sources: Registry[type[Source]] = Registry("source", "velostream.connectors")
sinks: Registry[type[Sink]] = Registry("sink", "velostream.connectors")


@dataclass(frozen=True, slots=True)
class Task:
    """One of the `count` parts into which a job is divided between its workers, numbered from 0.

    Of each source it reads the partitions whose number modulo `count` is its own. `run` counts how often the
    job was begun afresh, 1 is the first time: nothing of one run mixes with another.
    """

    number: int
    count: int
    run: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is to do: hold `tasks`, those and no others, of the job's run `run` (1 is the first).

    `complete`: all tasks of the job are, the worker may end. `workers` is how many share the job.
    """

    tasks: frozenset[int]
    run: int
    complete: bool
    workers: int


class Group(Protocol):
    """The place of one worker among those that share a job. `folder` is where it keeps what is its own.

    Its callbacks are told by `Transaction.group`. All methods raise ConnectorError.
    """

    @property
    def folder(self) -> Path: ...

    def open(self) -> Assignment:
        """Join; gives the first assignment."""

    def update(self, holds: frozenset[int], complete: frozenset[int]) -> None:
        """Say which tasks the worker holds now, and which of them are complete; from any thread."""

    def confirm(self) -> bool:
        """Whether the worker still has its place, so far as that can be found out now. When not, it is told
        that it is lost."""

    def close(self) -> None:
        """Leave, so that others need not wait; may be called twice."""


class Block(ABC):
    """Records of one source partition, not yet unpacked.

    `offset` is the position of the first record, `next_offset` the one to read from next (bytes in a
    file, rows in memory: the connector's own unit). `size` is in bytes and is what back-pressure counts.

    `origin` is the position of the first byte or row that `load` gave, so that index `i` of the content
    is at `origin + i`; it is known after `load`, which moves it where a block begins inside a record.
    Messages know their own positions instead.
    `input_bytes` is what the block counts of `Source.total_bytes`: its size unless compressed; known after
    `load`, too.
    """

    __slots__ = ("input_bytes", "next_offset", "offset", "origin", "size")

    # Whether the blocks of a partition must be loaded in the order in which they were read, one at a time.
    in_order: ClassVar[bool] = False

    def __init__(self, offset: int, next_offset: int, size: int) -> None:
        self.offset = offset
        self.next_offset = next_offset
        self.size = size
        self.origin = offset
        self.input_bytes = size

    @abstractmethod
    def load(self) -> Content:
        """The content; called once, in a lane, so that reading by byte ranges runs in parallel.

        Raises ConnectorError when it cannot be read.
        """


class ExchangedBlock(Block):
    """Rows that tasks of the job have sent to this one: `load` gives them as columns, with their event times
    (microseconds UTC, int64) as a last column TIMES where they have such.

    `heard` is known after `load`: what tasks, by number, have said of their watermarks behind these rows.
    """

    __slots__ = ("heard",)

    heard: Sequence[tuple[int, int]]


TIMES = "_times"


class BytesBlock(Block):
    """A block that has been read already."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | bytearray | memoryview, offset: int, next_offset: int) -> None:
        super().__init__(offset, next_offset, len(data))
        self.data = data

    def load(self) -> memoryview:
        return memoryview(self.data)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a reader puts into one block: `max_bytes`, or exactly `records` records when not 0.

    `lanes` is how many work on the blocks.
    """

    max_bytes: int = 8 << 20
    records: int = 0
    lanes: int = 1


class BlockReader(ABC):
    """Reads one partition in order. Used by one thread at a time; `read` may block for a short while."""

    @abstractmethod
    def read(self) -> Block | None:
        """The next block; None at the end of a bounded partition.

        A block of size 0 says that there is none yet (after waiting at most about 50 ms), as when an
        unbounded partition is silent; its positions say nothing. Raises ConnectorError.
        """

    def close(self) -> None:  # noqa: B027  (a reader may hold nothing)
        """Give up all resources; may be called twice."""


class Source(ABC):
    """A stream to read. Making one touches nothing; `prepare` looks at the outside.

    `config` is an instance of `Config`.
    """

    Config: ClassVar[type[SourceConfig]]
    # Called on the loop, once, with what more there is to read than when the source was looked at: partitions
    # that have come to be. Another instance finds them; this one goes on with those that it has. Set before
    # the first reader is made; where it is None, reading fails then.
    on_growth: Callable[[str], None] | None = None

    def __init__(self, name: str, config: Any) -> None:
        self.name = name
        self.config = config

    @property
    @abstractmethod
    def bounded(self) -> bool: ...

    @property
    @abstractmethod
    def schema(self) -> Schema:
        """The declared schema, else one inferred from at most the first MiB (read once, then kept).

        Raises ConnectorError (missing file), FormatError, ConfigError (a wrong declared type).
        """

    @property
    def inferred(self) -> bool:
        """Whether `schema` was inferred."""
        return not self.config.schema

    @property
    def metadata(self) -> Sequence[str]:
        """Columns of `schema` that tell of the record and are no part of it: `SELECT *` leaves them out."""
        return ()

    @abstractmethod
    def partitions(self) -> Sequence[str]:
        """Names of the partitions, for reports and errors; at least one. Numbered by position."""

    @property
    def history_partitions(self) -> int:
        """So many partitions, the first ones, are a bounded history: the others begin when all of their
        records have been worked on."""
        return 0

    @abstractmethod
    def reader(self, partition: int, limits: Limits, offset: int = 0) -> BlockReader:
        """A reader of that partition from `offset` on, which is 0 or the `next_offset` of a loaded block: it
        gives the records that a reader which went on would have given.

        Raises ConnectorError when there is less than that.
        """

    @property
    def side_by_side(self) -> bool:
        """Whether all partitions are read at the same time, also of a bounded source: each may have to wait
        for what is still to come, and time goes on with that of the last."""
        return not self.bounded

    @property
    def grows(self) -> bool:
        """Whether there may be more partitions while it is read than there were when it was begun."""
        return False

    @property
    def resumable(self) -> bool:
        """Whether `reader` gives the same records again, also in another process."""
        return True

    @property
    def partitioned_by(self) -> tuple[str, ...]:
        """Records that are equal in these columns are in one partition; () when that is not known."""
        return ()

    @property
    def partition_count(self) -> int:
        """Of all tasks."""
        return len(self.partitions())

    def share(self, task: Task) -> None:
        """Read only the partitions of that task: those whose number modulo `count` is its own. Called before
        any of them is asked for. Raises ConfigError when the source cannot be divided."""
        raise ConfigError(
            f"source '{self.name}' of kind {self.config.kind} cannot be divided into tasks",
            where=Where(key="processor.tasks"),
            hint="read a topic of Kafka, or use processor.tasks=1",
        )

    def transaction(self, job: str) -> Transaction | None:
        """What keeps positions and state of a job that is divided into tasks, where no sink has such."""
        return None

    def fingerprint(self, partition: int) -> str | None:
        """What tells whether that partition is still the same one, saved beside its position; None when there
        is nothing to tell by. Cheap enough for each commit. Raises ConnectorError."""
        return None

    def verify(self, partition: int, offset: int, fingerprint: str | None) -> None:
        """Check that reading may go on at `offset`, saved with `fingerprint`.

        Raises ConnectorError when the partition is another one now, or shorter.
        """
        if fingerprint != self.fingerprint(partition):
            raise changed(self.partitions()[partition])

    @abstractmethod
    def decoder(self, partition: int, columns: Sequence[str]) -> Decoder | None:
        """A decoder of that partition's bytes; None when `load` gives columns already."""

    def committed(self, positions: Mapping[str, int]) -> None:  # noqa: B027  (a source may keep no positions)
        """The job has committed all records before these positions, by partition name.

        Called after each commit, in order, from any thread; does not wait.
        """

    @property
    def outage(self) -> tuple[str, float] | None:
        """What keeps it from being read for now, though no call fails, and since when (Unix time)."""
        return None

    def close(self) -> None:  # noqa: B027  (a source may hold nothing)
        """Give up what it holds beyond its readers; called at the job's end, may be called twice."""

    def total_bytes(self) -> int | None:
        """How much there is to read, in the unit of `Block.input_bytes`; None when that is not known."""
        return None

    def describe(self) -> dict[str, str]:
        """What `explain` and the summary say of it: kind, location, format, …"""
        return {"kind": self.config.kind}


def changed(what: str, how: str = "") -> ConnectorError:
    """The error of a partition that is not the one that was read before; `how` it differs."""
    return ConnectorError(
        f"'{what}' has changed since the last commit{': ' if how else ''}{how}",
        hint="bring back what was there, or begin afresh with state=reset",
    )


class SinkWriter(ABC):
    """Writes one stream's output. `encode` runs in any lane, several at a time; `write`, `flush`, `cut` and
    `close` one at a time.

    A job that commits calls `cut` at the end of an epoch; then, from another thread and in the order of
    epochs, `prepare` before its state is committed and `publish` behind that; `close` when neither is under
    way. It does so once before its first row: what an endless file has by then stays. What failed may be
    called again.
    """

    def encode(self, batch: Batch) -> Any:
        """What `write` takes. Per-record work belongs here: it runs in the lanes, in parallel."""
        return batch

    @abstractmethod
    def write(self, payload: Any, rows: int) -> None:
        """Append in order; all or nothing. Raises ConnectorError."""

    def flush(self) -> None:  # noqa: B027  (a sink may hold nothing back)
        """Make what was written visible to readers; called when the stream pauses for lack of input."""

    def cut(self) -> Any:
        """End the epoch here: what was written so far belongs to it.

        Gives its token, as JSON, for `prepare`, `publish` and `Sink.open`. Waits for neither disk nor
        network. Raises ConnectorError.
        """
        return None

    def prepare(self, token: Any) -> None:  # noqa: B027  (a sink may have no durable place)
        """Make all rows up to the token's cut durable, before the state that goes with them is.

        Raises ConnectorError.
        """

    def publish(self, token: Any) -> None:  # noqa: B027  (rows may be visible already)
        """Show readers the rows up to the token's cut: the state that goes with them is committed.

        Repeated after a restart with the last token. Raises ConnectorError.
        """

    def hurry(self, seconds: float) -> None:  # noqa: B027  (most wait for nobody)
        """The job is asked to stop: wait no longer than so long for whom does not answer, then raise
        NoAnswerError. For any thread, while other calls wait."""

    @abstractmethod
    def close(self, complete: bool) -> None:
        """Finish. `complete` is False after a failure or an interrupt: a bounded job then leaves no file,
        unless it has cut epochs and may go on from the last one.

        A job that commits has cut, prepared and published behind its last row when it closes complete.
        """

    @property
    def location(self) -> str:
        """Where the results lie, for the summary."""
        return ""

    @property
    def bytes_written(self) -> int:
        return 0


# The number that a transaction commits to know of none.
FORGOTTEN = 0
# What that of a task gives where nothing was committed: whatever is saved elsewhere is of another run.
NOTHING = 0


class Transaction(ABC):
    """Makes rows of sinks visible, and keeps the number of the epoch that they are of, both at once.

    What it has committed decides what a job goes on from. Methods are called one at a time, not on the loop
    of jobs. All raise ConnectorError.
    """

    @property
    @abstractmethod
    def identity(self) -> Any:
        """Equal for two that commit as one."""

    @abstractmethod
    def open(self, folder: str) -> int | None:
        """Take over from whoever had it and is gone, whose open transaction is taken back.

        Gives the number that was committed last, None when there is none. Who has the job's state in the same
        folder takes over at once. Raises ConnectorError, also when another process has it.
        """

    def divide(self, task: Task) -> None:
        """Commit that task of the job alone, each of its runs afresh: `open` gives NOTHING where this run has
        committed nothing, and `saved` no file of another one. Comes before `open`."""
        raise NotImplementedError

    def group(
        self,
        folder: Path,
        tasks: int,
        reset: bool,
        on_assigned: Callable[[Assignment], None],
        on_lost: Callable[[ConnectorError], None],
    ) -> Group:
        """The group of the workers that share the job; `open` joins it. This one keeps what is its own in
        `folder`, as others may. `reset`: the job is to begin afresh.

        `on_assigned` is called with each other assignment, `on_lost` when the tasks may be another worker's
        by now: what they have not committed must be dropped. Behind a FencedError the worker says by `update`
        that it holds nothing, and is given tasks again; any other error is the end. Both come on the loop, in
        order, from the first `update` on.
        """
        raise NotImplementedError

    def exchange(
        self,
        name: str,
        query: str,
        split: Callable[[pa.RecordBatch], Sequence[npt.NDArray[np.int32] | None]],
        schema: pa.Schema,
        bounded: bool,
    ) -> tuple[Sink, Source]:
        """The topic by which rows of `schema` get to the task of their key for a stage of `query`: what the
        task writes, by this transaction, and what it reads. `split` gives each task's rows. Comes behind
        `divide`."""
        raise NotImplementedError

    @abstractmethod
    def begin(self) -> None:
        """What sinks write from now on, up to their `cut`, belongs to this transaction."""

    @property
    @abstractmethod
    def mark(self) -> str:
        """What was given to `commit` with the number that `open` gave; empty when it is not known."""

    @abstractmethod
    def commit(self, number: int, mark: str = "") -> None:
        """Commit all that was written since `begin`, the number, and what tells the commit from others of
        that number."""

    @abstractmethod
    def save(self, written: Mapping[str, bytes], gone: Mapping[str, int]) -> None:
        """Keep these files of the job's state with what is committed next, and no longer those that are gone
        (by their sizes): so the state can be had on another machine."""

    @abstractmethod
    def saved(self) -> Iterator[tuple[str, bytes]]:
        """All files that are kept, as names and bytes, those of one name in order; called behind `open`."""

    @abstractmethod
    def hurry(self, seconds: float) -> None:
        """The job is asked to stop: wait no longer than so long for whom does not answer, then raise
        NoAnswerError. For any thread, while other calls wait."""

    @abstractmethod
    def close(self, complete: bool) -> None:
        """Take back what is open, and give up all resources; may be called twice."""


class Sink(ABC):
    """A place for output. Making one touches nothing."""

    Config: ClassVar[type[SinkConfig]]

    def __init__(self, name: str, config: Any) -> None:
        self.name = name
        self.config = config

    @property
    def delivery(self) -> str:
        """The best that it can promise: best_effort, at_least_once (rows written behind the last commit
        appear again after a restart), exactly_once (they are taken back)."""
        return "at_least_once"

    def transaction(self, job: str) -> Transaction | None:
        """What commits the rows of this sink in a job of that name; None: `prepare` and `publish` do.

        Sinks whose transactions have the same identity can `join` one of them.
        """
        return None

    def join(self, transaction: Transaction) -> None:
        """Write by this transaction, which is open when `open` is called, and closed by others."""
        raise NotImplementedError

    @property
    def shows_by_commits(self) -> bool:
        """Whether readers see rows of an endless job only by `publish`: it is then called whatever the job's
        delivery."""
        return False

    def bind(self, schema: pa.Schema, key: tuple[str, ...]) -> None:  # noqa: B027  (most have no use for it)
        """Told while the job is checked: rows of `schema` will come, and `key` are the columns that tell them
        apart (() when none do). Raises ConfigError when the configuration does not fit them."""

    @property
    def shared(self) -> bool:
        """Whether several tasks of a job may write to it side by side, in several processes."""
        return False

    @abstractmethod
    def open(self, schema: pa.Schema, bounded: bool, resume: Any = None) -> SinkWriter:
        """Begin writing rows of `schema`; `bounded` when the job's input ends.

        `resume` is the token of the last commit, or None to begin afresh. What an `exactly_once` sink was
        given behind that token is taken back. Raises ConnectorError.
        """

    def describe(self) -> dict[str, str]:
        return {"kind": self.config.kind}
