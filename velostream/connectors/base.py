"""What a connector is: where blocks come from and where output goes.

A connector is one module of this folder: its configuration as a dataclass, its source or sink class
registered by the name that `source=` and `sink=` take.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import pyarrow as pa

from velostream.config.schema import SinkConfig, SourceConfig
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
        unbounded partition is silent. Raises ConnectorError.
        """

    def close(self) -> None:  # noqa: B027  (a reader may hold nothing)
        """Give up all resources; may be called twice."""


class Source(ABC):
    """A stream to read. Making one touches nothing; `prepare` looks at the outside.

    `config` is an instance of `Config`.
    """

    Config: ClassVar[type[SourceConfig]]

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

    @abstractmethod
    def reader(self, partition: int, limits: Limits, offset: int = 0) -> BlockReader:
        """A reader of that partition from `offset` on."""

    @abstractmethod
    def decoder(self, partition: int, columns: Sequence[str]) -> Decoder | None:
        """A decoder of that partition's bytes; None when `load` gives columns already."""

    def committed(self, positions: Mapping[str, int]) -> None:  # noqa: B027  (a source may keep no positions)
        """The job has committed all records before these positions, by partition name.

        Called after each commit, in order, from any thread; does not wait.
        """

    def close(self) -> None:  # noqa: B027  (a source may hold nothing)
        """Give up what it holds beyond its readers; called at the job's end, may be called twice."""

    def total_bytes(self) -> int | None:
        """How much there is to read, in the unit of `Block.input_bytes`; None when that is not known."""
        return None

    def describe(self) -> dict[str, str]:
        """What `explain` and the summary say of it: kind, location, format, …"""
        return {"kind": self.config.kind}


class SinkWriter(ABC):
    """Writes one stream's output. `encode` runs in any lane, several at a time; the others one at a time."""

    def encode(self, batch: Batch) -> Any:
        """What `write` takes. Per-record work belongs here: it runs in the lanes, in parallel."""
        return batch

    @abstractmethod
    def write(self, payload: Any, rows: int) -> None:
        """Append in order. Raises ConnectorError."""

    def flush(self) -> None:  # noqa: B027  (a sink may hold nothing back)
        """Make what was written visible to readers; called when the stream pauses for lack of input."""

    @abstractmethod
    def close(self, complete: bool) -> None:
        """Finish. `complete` is False after a failure or an interrupt: a bounded job then leaves no file."""

    @property
    def location(self) -> str:
        """Where the results lie, for the summary."""
        return ""

    @property
    def bytes_written(self) -> int:
        return 0


class Sink(ABC):
    """A place for output. Making one touches nothing."""

    Config: ClassVar[type[SinkConfig]]

    def __init__(self, name: str, config: Any) -> None:
        self.name = name
        self.config = config

    @abstractmethod
    def open(self, schema: pa.Schema, bounded: bool) -> SinkWriter:
        """Begin writing rows of `schema`; `bounded` when the job's input ends. Raises ConnectorError."""

    def describe(self) -> dict[str, str]:
        return {"kind": self.config.kind}
