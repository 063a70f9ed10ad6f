"""What a format is: how bytes become columns and columns bytes, block by block.

A format is one module of this folder: its options as a dataclass, and a class registered by its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.errors import InternalError
from velostream.formats.file_range import FileRange
from velostream.formats.messages import Messages
from velostream.operators.batch import RecordError
from velostream.registry import Registry
from velostream.sql.types import Schema

formats: Registry[type[Format]] = Registry("format", "velostream.formats")


@dataclass(slots=True)
class Decoded:
    """The records of one slice of a block.

    `batch` has the good rows only, the asked columns in the asked order. `starts` and `ends` are the
    bytes of each good row within the block (int64). `errors` are the others. `next` is where the next
    slice begins; it is the block's length when the block is done. `records` counts good and bad ones.
    """

    batch: pa.RecordBatch
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    errors: list[RecordError]
    next: int
    records: int


class Decoder(ABC):
    """Bytes to columns. Owned by one lane; keeps what it learns of the key order between calls."""

    @abstractmethod
    def decode(self, data: memoryview, start: int, max_rows: int) -> Decoded:
        """At most `max_rows` records of the block from byte `start`. Never raises for bad records."""

    def decode_file(self, data: FileRange, start: int, max_rows: int) -> Decoded:
        """As `decode`, of a block that is still in its file. Raises ConnectorError.

        A decoder that reads it piece by piece spares the block's memory, and the way there and back.
        """
        return self.decode(data.whole(), start, max_rows)

    def decode_messages(self, data: Messages, start: int, max_rows: int) -> Decoded:
        """As `decode`, of messages: one that holds no record is an error, which only their source can tell.

        Decoders of formats know no messages; the decoder of a source of messages stands around one.
        """
        raise InternalError(f"{type(self).__name__} decodes no messages")


class Splitter(ABC):
    """Finds where records end, in the order of the stream. Owned by one reader."""

    @abstractmethod
    def cut(self, data: memoryview, final: bool) -> int:
        """The length of the longest prefix of `data` that ends with a whole record; 0 when there is none.

        `data` begins at a record's start. When `final`, the stream ends with `data`, and all of it counts.
        """

    @abstractmethod
    def take(self, data: memoryview, records: int) -> int:
        """The length of the first `records` whole records of `data`, or of fewer when it has fewer."""


class Encoder(ABC):
    """Columns to bytes. May be called from any lane, one call at a time per instance."""

    def header(self) -> bytes:
        """What stands before the first record."""
        return b""

    @abstractmethod
    def encode(self, batch: pa.RecordBatch, ends: npt.NDArray[np.int64] | None = None) -> Any:
        """The rows as bytes (any object with the buffer protocol), each with a newline behind it.

        `ends`, when given, has room for one number a row, and gets where the newline behind each row is.
        """


@dataclass(frozen=True, slots=True)
class Layout:
    """What the head of a stream says: the bytes before the first record, and the names found there."""

    header_bytes: int = 0
    names: tuple[str, ...] | None = None


class Format(ABC):
    """One format. `options` is an instance of `Options`; splittable says that a newline ends a record
    wherever it stands, so that a file can be cut at any newline."""

    Options: ClassVar[type[Any]]
    splittable: ClassVar[bool] = False
    extensions: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def layout(self, head: bytes) -> Layout:
        """Read the head of a stream (its first MiB or less); raises FormatError when it has none."""

    @abstractmethod
    def infer(self, sample: bytes, complete: bool) -> Schema:
        """A schema that fits the sample; `complete` when the sample is the whole stream."""

    @abstractmethod
    def splitter(self) -> Splitter: ...

    @abstractmethod
    def decoder(self, schema: Schema, columns: Sequence[str], layout: Layout) -> Decoder:
        """A decoder of these columns; raises FormatError when the layout lacks one of the schema's."""

    @abstractmethod
    def encoder(self, schema: pa.Schema) -> Encoder: ...
