"""The file sink: NDJSON, CSV and other text formats, compressed or not, and Parquet."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pyarrow as pa

from velostream.config.schema import SinkConfig
from velostream.connectors.base import Sink, SinkWriter, sinks
from velostream.connectors.changelog import Changes
from velostream.connectors.file.output import Output
from velostream.connectors.file.parquet import ParquetOptions, ParquetRows
from velostream.connectors.file.parquet_parts import PART, ParquetParts, pattern_of
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
    # Parquet: also a folder, or a name with {part}, for numbered files that are shown as they are committed.
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
    """One file: complete or absent when the job is bounded, appended to when it is not; of Parquet also
    numbered ones. Each commit is exact."""

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

    def open(self, schema: pa.Schema, bounded: bool, resume: Any = None) -> SinkWriter:
        """See the base class. Folders that are missing are made."""
        config = self.config
        if not config.path:
            raise ConfigError(
                "no path is given", where=Where(key=f"{self._key}.path"), hint="name the file to write"
            )
        return self.writer(schema, bounded, resume)

    def writer(self, schema: pa.Schema, bounded: bool, resume: Any = None) -> SinkWriter:
        """The writer of this format."""
        config = self.config
        name = self.format_name()
        codec = self.codec()
        changes = Changes(self.name, schema, config.changelog)
        if name == PARQUET:
            return self._open_parquet(codec, changes, bounded, resume)
        form = open_format(name, config.format_options, self._key)
        encoder = form.encoder(changes.schema)
        target: Target | Output | None = self.direct()
        if target is None:
            layout: dict[str, Any] = {"format": name, "compression": codec}
            if name != "ndjson":  # whose records name their columns
                layout["columns"] = [f"{field.name} {field.type}" for field in changes.schema]
            target = Target(config.path, not bounded, layout, resume)
        return _TextWriter(target, changes, form, encoder, codec)

    def direct(self) -> Output | None:
        """Where bytes go that are no file's: a pipe, a terminal. None for a file."""
        return Output.open(self.config.path) if self._special else None

    @property
    def _special(self) -> bool:
        try:
            mode = os.stat(self.config.path).st_mode
        except OSError:
            return False
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))

    @property
    def delivery(self) -> str:
        """What a pipe was given cannot be taken back."""
        return "at_least_once" if self._special else "exactly_once"

    @property
    def _pattern(self) -> str | None:
        """The numbered Parquet files to write, or None."""
        return pattern_of(self.config.path, self._key) if self.format_name() == PARQUET else None

    @property
    def shows_by_commits(self) -> bool:
        """Numbered files are."""
        return self._pattern is not None

    def _open_parquet(self, codec: str, changes: Changes, bounded: bool, resume: Any) -> SinkWriter:
        config = self.config
        options = check_options(ParquetOptions, config.format_options, self._key)
        options.check(self._key)
        if codec != "none":
            raise ConfigError(
                f"Parquet is not compressed as a whole ({codec})",
                where=Where(key=f"{self._key}.compression"),
                hint="set format_options.compression",
            )
        pattern = self._pattern
        if not bounded and pattern is None:
            raise ConnectorError(
                f"'{config.path}': a Parquet file can be read only when it is finished, "
                "and this job's input does not end",
                hint=f"name a folder ('trades/') or a pattern ('trades-{PART}.parquet') for numbered files",
            )
        output = self.direct()
        if output is not None:
            return _DirectParquetWriter(output, changes, options)
        parts = ParquetParts(pattern or config.path, changes.schema, options, bounded, resume)
        return _ParquetWriter(parts, changes)

    def describe(self) -> dict[str, str]:
        return {"kind": "file", "path": self.config.path, "format": self.format_name()}


class _FileWriter(SinkWriter):
    """What all have."""

    def __init__(self, target: Target | Output | ParquetParts, changes: Changes) -> None:
        self._target = target
        self._changes = changes

    @property
    def location(self) -> str:
        return self._target.path

    @property
    def bytes_written(self) -> int:
        return self._target.written

    def cut(self) -> Any:
        return None if isinstance(self._target, Output) else self._target.cut()

    def prepare(self, token: Any) -> None:
        if not isinstance(self._target, Output):
            self._target.prepare(token)

    def publish(self, token: Any) -> None:
        if not isinstance(self._target, Output):
            self._target.publish(token)

    def close(self, complete: bool) -> None:
        self._target.close(complete)


class _TextWriter(_FileWriter):
    """Each block of rows is encoded and compressed in the lane that has it: gzip members and zstd frames
    stand one after the other in a file."""

    _target: Target | Output

    def __init__(
        self, target: Target | Output, changes: Changes, form: Format, encoder: Encoder, codec: str
    ) -> None:
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


class _ParquetWriter(_FileWriter):
    _target: ParquetParts

    def encode(self, batch: Batch) -> pa.Buffer:
        return self._changes.rows(batch).serialize()

    def write(self, payload: pa.Buffer, rows: int) -> None:
        self._target.write(payload, rows)


class _DirectParquetWriter(_FileWriter):
    """To what is no regular file, as rows come."""

    _target: Output

    def __init__(self, output: Output, changes: Changes, options: ParquetOptions) -> None:
        super().__init__(output, changes)
        try:
            self._rows = ParquetRows(output, changes.schema, options)
        except ConnectorError:
            output.close(False)
            raise

    def encode(self, batch: Batch) -> pa.RecordBatch:
        return self._changes.rows(batch)

    def write(self, payload: pa.RecordBatch, rows: int) -> None:
        self._rows.write(payload)

    def close(self, complete: bool) -> None:
        try:
            self._rows.close(complete)
        except ConnectorError:
            # A footer that could not be written is no news of a file that goes away.
            if complete:
                raise
        finally:
            self._target.close(complete)
