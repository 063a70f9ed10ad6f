"""A sink that keeps nothing: rows are encoded as for a file, the bytes counted and dropped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from velostream.config.schema import SinkConfig
from velostream.connectors.base import SinkWriter, sinks
from velostream.connectors.file.output import Output
from velostream.connectors.file.sink import FileSink, FileSinkConfig


@dataclass
class DiscardSinkConfig(SinkConfig):
    """No place at all as a sink: a job is measured without its results being kept."""

    kind: str = "discard"
    # Name of the format in which rows are encoded, or parquet.
    format: str = "ndjson"
    # Options of the format.
    format_options: dict[str, Any] = field(default_factory=dict)
    # none, gzip, zstd; Parquet has its own, as an option of the format.
    compression: str = "none"
    # Encode a first column _op: insert, update or delete.
    changelog: bool = False


class Nowhere(Output):
    """Takes bytes like a file that is being written, and counts them."""

    def __init__(self) -> None:
        self.path = ""
        self.written = 0
        self._closed = False

    def write(self, data: Any) -> int:
        length = memoryview(data).nbytes
        self.written += length
        return length

    def close(self, complete: bool = True) -> None:
        """Nothing is open."""
        self._closed = True

    @property
    def closed(self) -> bool:
        return self._closed


@sinks.register("discard")
class DiscardSink(FileSink):
    """Encodes rows like the file sink, counts the bytes and drops them: for measuring."""

    Config: ClassVar[type[SinkConfig]] = DiscardSinkConfig

    def __init__(self, name: str, config: DiscardSinkConfig) -> None:
        super().__init__(
            name,
            FileSinkConfig(
                "discard",
                config.stream,
                format=config.format,
                format_options=config.format_options,
                compression=config.compression,
                changelog=config.changelog,
            ),
        )

    def open(self, schema: pa.Schema, bounded: bool, resume: Any = None) -> SinkWriter:
        return self.writer(schema, bounded)

    def direct(self) -> Output:
        return Nowhere()

    @property
    def shows_by_commits(self) -> bool:
        return False

    @property
    def shared(self) -> bool:
        return True

    @property
    def delivery(self) -> str:
        """No row is kept, so none is kept twice: a measured job does the work of an exact one."""
        return "exactly_once"

    def describe(self) -> dict[str, str]:
        return {"kind": "discard", "format": self.format_name()}


def discarding(name: str, config: SinkConfig) -> DiscardSinkConfig:
    """A discarding sink in place of another: takes the same stream, and encodes as that one does.

    A sink that writes no text (a table in memory, the terminal) is replaced by NDJSON. Raises ConfigError
    for a file whose format is not known.
    """
    if isinstance(config, DiscardSinkConfig):
        return config
    if not isinstance(config, FileSinkConfig):
        return DiscardSinkConfig(stream=config.stream, changelog=getattr(config, "changelog", False))
    sink = FileSink(name, config)
    return DiscardSinkConfig(
        stream=config.stream,
        format=sink.format_name(),
        format_options=config.format_options,
        compression=sink.codec(),
        changelog=config.changelog,
    )
