"""The file sink: NDJSON, CSV and other text formats, compressed or not, and Parquet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from velostream.config.schema import SinkConfig
from velostream.connectors.base import Sink, SinkWriter, sinks
from velostream.connectors.changelog import Changes
from velostream.connectors.file.parquet import ParquetOptions, ParquetRows
from velostream.connectors.file.parts import codec_of, inner_name
from velostream.connectors.file.target import Target
from velostream.errors import ConfigError, ConnectorError, Where, unknown
from velostream.formats.base import Encoder, Format, formats
from velostream.formats.options import check_options, format_of, open_format
from velostream.operators.batch import Batch

PARQUET = "parquet"
CODECS = ("none", "gzip", "zstd")
# Those of the programs of the same name; Arrow's own for gzip is 9, four times slower for 0.3 % less.
LEVELS = {"gzip": 6, "zstd": 3}


@dataclass
class FileSinkConfig(SinkConfig):
    """A file as a sink."""

    kind: str = "file"
    # The file to write. A bounded job replaces it when all is written; an unbounded one appends to it.
    path: str = ""
    # Name of the format, or parquet; empty: by extension, looking through .gz and .zst.
    format: str = ""
    # Options of the format.
    format_options: dict[str, Any] = field(default_factory=dict)
    # auto (by extension), none, gzip, zstd; Parquet has its own, as an option of the format.
    compression: str = "auto"
    # Write a first column _op: insert, update or delete.
    changelog: bool = False


@sinks.register("file")
class FileSink(Sink):
    """One file: complete or absent when the job is bounded, appended to when it is not."""

    Config: ClassVar[type[SinkConfig]] = FileSinkConfig
    config: FileSinkConfig

    @property
    def _key(self) -> str:
        return f"sinks.{self.name}"

    def codec(self) -> str:
        """How the file is compressed: one of CODECS. Raises ConfigError."""
        config = self.config
        where = Where(key=f"{self._key}.compression")
        if config.compression not in ("auto", *CODECS):
            message, hint = unknown("compression", config.compression, ("auto", *CODECS))
            raise ConfigError(message, where=where, hint=hint)
        codec = codec_of(config.path, config.compression)
        if codec == "zip":
            raise ConfigError("a sink cannot write a zip", where=where, hint="use .gz or .zst")
        return codec

    def format_name(self) -> str:
        """The format, looked up by the extension where none is given. Raises ConfigError."""
        config = self.config
        if config.format:
            return config.format
        name = inner_name(config.path, self.codec())
        if name.lower().endswith(".parquet"):
            return PARQUET
        found = format_of(name)
        if found is None:
            choices = ", ".join(f"'{choice}'" for choice in [*formats.names(), PARQUET])
            raise ConfigError(
                f"the extension of '{config.path}' does not say its format",
                where=Where(key=f"{self._key}.format"),
                hint=f"set format to one of {choices}",
            )
        return found

    def open(self, schema: pa.Schema, bounded: bool) -> SinkWriter:
        """See the base class. Folders that are missing are made."""
        config = self.config
        if not config.path:
            raise ConfigError(
                "no path is given", where=Where(key=f"{self._key}.path"), hint="name the file to write"
            )
        return self.writer(schema, bounded)

    def target(self, append: bool) -> Target:
        """Where the bytes go."""
        return Target(self.config.path, append)

    def writer(self, schema: pa.Schema, bounded: bool) -> SinkWriter:
        """The writer of this format to `target`."""
        config = self.config
        name = self.format_name()
        codec = self.codec()
        changes = Changes(self.name, schema, config.changelog)
        if name == PARQUET:
            options = check_options(ParquetOptions, config.format_options, self._key)
            options.check(self._key)
            if codec != "none":
                raise ConfigError(
                    f"Parquet is not compressed as a whole ({codec})",
                    where=Where(key=f"{self._key}.compression"),
                    hint="set format_options.compression",
                )
            if not bounded:
                raise ConnectorError(
                    f"'{config.path}': a Parquet file can be read only when it is finished, "
                    "and this job's input does not end",
                    hint="write ndjson or csv",
                )
            return _ParquetWriter(self.target(append=False), changes, options)
        form = open_format(name, config.format_options, self._key)
        encoder = form.encoder(changes.schema)
        return _TextWriter(self.target(append=not bounded), changes, form, encoder, codec)

    def describe(self) -> dict[str, str]:
        return {"kind": "file", "path": self.config.path, "format": self.format_name()}


class _FileWriter(SinkWriter):
    """What text and Parquet share."""

    def __init__(self, target: Target, changes: Changes) -> None:
        self._target = target
        self._changes = changes

    @property
    def location(self) -> str:
        return self._target.path

    @property
    def bytes_written(self) -> int:
        return self._target.written


class _TextWriter(_FileWriter):
    """Each block of rows is encoded and compressed in the lane that has it: gzip members and zstd frames
    stand one after the other in a file."""

    def __init__(self, target: Target, changes: Changes, form: Format, encoder: Encoder, codec: str) -> None:
        super().__init__(target, changes)
        self._format = form
        self._codec = None if codec == "none" else codec
        # Encoders take one call at a time each: as many as there are lanes at work, made when needed.
        self._encoders: list[Encoder] = [encoder]
        if target.empty:
            try:
                # Also when there are no bytes: a compressed file without a member cannot be read.
                target.write(self._compress(encoder.header()))
            except ConnectorError:
                target.close(False)
                raise

    def _compress(self, data: Any) -> Any:
        if self._codec is None:
            return data
        # A codec serves one thread at a time; making one costs nothing beside using it.
        return pa.Codec(self._codec, LEVELS[self._codec]).compress(data)

    def encode(self, batch: Batch) -> Any:
        try:
            encoder = self._encoders.pop()
        except IndexError:
            encoder = self._format.encoder(self._changes.schema)
        data = self._compress(encoder.encode(self._changes.rows(batch)))
        self._encoders.append(encoder)
        return data

    def write(self, payload: Any, rows: int) -> None:
        self._target.write(payload)

    def close(self, complete: bool) -> None:
        self._target.close(complete)


class _ParquetWriter(_FileWriter):
    def __init__(self, target: Target, changes: Changes, options: ParquetOptions) -> None:
        super().__init__(target, changes)
        try:
            self._rows = ParquetRows(target, changes.schema, options)
        except ConnectorError:
            target.close(False)
            raise

    def encode(self, batch: Batch) -> pa.RecordBatch:
        return self._changes.rows(batch)

    def write(self, payload: pa.RecordBatch, rows: int) -> None:
        self._rows.write(payload)

    def close(self, complete: bool) -> None:
        try:
            self._rows.close(complete)
        except ConnectorError:
            self._target.close(False)
            # A footer that could not be written is no news of a file that goes away.
            if complete:
                raise
        self._target.close(complete)
