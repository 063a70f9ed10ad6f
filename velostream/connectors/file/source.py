"""The file source: NDJSON, CSV and other formats, plain or compressed, bounded or followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

from velostream.config.schema import SourceConfig
from velostream.config.units import parse_bytes, parse_duration_us
from velostream.connectors.base import BlockReader, Limits, Source, changed, sources
from velostream.connectors.file import fingerprints
from velostream.connectors.file.buffers import BufferPool
from velostream.connectors.file.parts import CODECS, Part, find_parts, inner_name
from velostream.connectors.file.ranges import RangeReader, record_start
from velostream.connectors.file.readers import InOrderReader, StreamReader
from velostream.connectors.file.streams import open_stream
from velostream.errors import ConfigError, ConnectorError, FormatError, Where, unknown
from velostream.formats.base import Decoder, Format, Layout, formats
from velostream.formats.options import format_of, open_format
from velostream.sql.schemas import schema_of
from velostream.sql.types import DATE, TIMESTAMP, Field, Schema

SAMPLE_BYTES = 1 << 20
# For formats whose options do not say how long a record may be.
MAX_RECORD = "16MiB"


@dataclass
class FileSourceConfig(SourceConfig):
    """Files as a source."""

    kind: str = "file"
    # A file, a folder (its files, not hidden, no subfolders), or a glob. Each file, and each member of a
    # zip, is a partition; they are sorted by name, numbers by value.
    path: str = ""
    # Name of the format; empty: by extension, looking through .gz, .zst and .zip.
    format: str = ""
    # Options of the format.
    format_options: dict[str, Any] = field(default_factory=dict)
    # auto (by extension), none, gzip, zstd, zip.
    compression: str = "auto"
    # Read on as the files grow; the stream is then unbounded. Uncompressed files only.
    follow: bool = False
    # How often a followed file in which nothing new is found is looked at; every 2ms while lines come.
    poll_interval: str = "10ms"


@sources.register("file")
class FileSource(Source):
    """Files: plain or compressed, a folder or a glob; bounded, or followed as they grow."""

    Config: ClassVar[type[SourceConfig]] = FileSourceConfig
    config: FileSourceConfig

    @property
    def _key(self) -> str:
        return f"sources.{self.name}"

    @property
    def bounded(self) -> bool:
        return not self.config.follow

    @cached_property
    def _parts(self) -> list[Part]:
        config = self.config
        if config.compression not in ("auto", *CODECS):
            message, hint = unknown("compression", config.compression, ("auto", *CODECS))
            raise ConfigError(message, where=Where(key=f"{self._key}.compression"), hint=hint)
        parts = find_parts(config.path, config.compression, f"{self._key}.path")
        if config.follow:
            for part in parts:
                if part.codec != "none":
                    raise ConfigError(
                        f"'{part.path}' cannot be followed: it is compressed ({part.codec})",
                        where=Where(key=f"{self._key}.follow"),
                    )
        return parts

    @cached_property
    def _format(self) -> Format:
        name = self.config.format or self._format_by_extension()
        return open_format(name, self.config.format_options, self._key)

    def _format_by_extension(self) -> str:
        key = f"{self._key}.format"
        found: dict[str, Part] = {}
        for part in self._parts:
            name = part.member or inner_name(part.path, part.codec)
            known = format_of(name)
            if known is None:
                raise ConfigError(
                    f"the extension of '{part.name}' does not say its format",
                    where=Where(key=key),
                    hint="set format to one of " + ", ".join(f"'{name}'" for name in formats.names()),
                )
            found.setdefault(known, part)
        if len(found) > 1:
            examples = " and ".join(f"'{part.name}'" for part in found.values())
            raise ConfigError(
                f"{examples} have different formats",
                where=Where(key=key),
                hint="read them as separate sources, or set format",
            )
        return next(iter(found))

    @cached_property
    def _max_record(self) -> int:
        return parse_bytes(str(getattr(self._format.options, "max_record_bytes", MAX_RECORD)))

    def _head(self, part: Part) -> tuple[bytes, bool]:
        """The first MiB of a part or less, and whether that is all of it."""
        stream = open_stream(part)
        try:
            buffer = bytearray(
                min(SAMPLE_BYTES, part.size) if part.codec in ("none", "zip") else SAMPLE_BYTES
            )
            count = stream.fill(memoryview(buffer))
            complete = count < SAMPLE_BYTES or stream.fill(memoryview(bytearray(1))) == 0
        finally:
            stream.close()
        return bytes(buffer[:count]), complete

    @cached_property
    def schema(self) -> Schema:
        config = self.config
        # Also when the schema is declared: a missing file or an unknown format is an error here.
        parts, form = self._parts, self._format
        if config.schema:
            return schema_of(config.schema, config.timestamp_formats, config.timezone, f"sources.{self.name}")
        for part in parts:
            sample, complete = self._head(part)
            if sample:
                try:
                    return self._as_configured(form.infer(sample, complete))
                except FormatError as exc:
                    raise FormatError(f"'{part.name}': {exc.message}", hint=exc.hint) from exc
        raise ConnectorError(
            f"no schema can be inferred from '{config.path}': it is empty",
            where=Where(key=f"{self._key}.schema"),
            hint="declare the schema",
        )

    def _as_configured(self, inferred: Schema) -> Schema:
        """The inferred schema with the declared time zone; a column with a declared format is a TIMESTAMP
        unless it was found to be a DATE."""
        declared = self.config.timestamp_formats
        for name in declared:
            if name not in inferred.names:
                message, hint = unknown("column", name, inferred.names)
                raise ConfigError(
                    message, where=Where(key=f"{self._key}.timestamp_formats.{name}"), hint=hint
                )
        columns = tuple(
            Field(column.name, DATE if column.type == DATE else TIMESTAMP, declared[column.name])
            if column.name in declared
            else column
            for column in inferred.fields
        )
        return replace(inferred, fields=columns, timezone=self.config.timezone)

    def partitions(self) -> Sequence[str]:
        return [part.name for part in self._parts]

    def total_bytes(self) -> int | None:
        return None if self.config.follow else sum(part.size for part in self._parts)

    @cached_property
    def _layouts(self) -> dict[int, Layout]:
        """By partition, as asked for: `reader` and `decoder` both need it."""
        return {}

    def _layout(self, partition: int) -> Layout:
        if partition not in self._layouts:
            part = self._parts[partition]
            head, _ = self._head(part)
            try:
                # A file without a byte has no header to miss, unless it has yet to be written.
                empty = not head and self.bounded
                layout = Layout(names=self.schema.names) if empty else self._format.layout(head)
            except FormatError as exc:
                raise FormatError(f"'{part.name}': {exc.message}", hint=exc.hint) from exc
            self._layouts[partition] = layout
        return self._layouts[partition]

    def reader(self, partition: int, limits: Limits, offset: int = 0) -> BlockReader:
        """See the base class. A position is a byte of the part, unpacked; in a plain file of lines it may be
        in the middle of a record, which then belongs to what is before it."""
        part = self._parts[partition]
        first = self._layout(partition).header_bytes
        splittable = self._format.splittable
        follow = self.config.follow
        if part.codec == "none" and offset > part.size:
            raise changed(part.name, f"it has {part.size} bytes, {offset} had been read")
        if not follow:
            self.fingerprint(partition)  # of what is read; the file may be gone when it is asked for
        if splittable and part.codec == "none" and not follow:
            if not limits.records:
                behind = sum(after.size for after in self._parts[partition + 1 :])
                return RangeReader(part, first, self._max_record, limits, offset, behind)
            if offset > first:
                offset = record_start(part, offset)
        stream = StreamReader(
            open_stream(part, follow),
            self._format.splitter(),
            limits,
            max(offset, first),
            splittable=splittable,
            max_record=self._max_record,
            buffers=self._buffers(limits),
            poll_us=parse_duration_us(self.config.poll_interval) if follow else None,
        )
        # A followed file is waited for, which a lane must not do.
        return stream if follow else InOrderReader(stream, limits)

    @cached_property
    def _fingerprints(self) -> dict[int, str]:
        """Those of bounded partitions, which stay as they are."""
        return {}

    def fingerprint(self, partition: int) -> str | None:
        part = self._parts[partition]
        if self.config.follow:
            return fingerprints.fingerprint(part, follow=True)
        if partition not in self._fingerprints:
            self._fingerprints[partition] = fingerprints.fingerprint(part, follow=False)
        return self._fingerprints[partition]

    def verify(self, partition: int, offset: int, fingerprint: str | None) -> None:
        """A followed file may have grown."""
        if fingerprint is not None:
            fingerprints.verify(self._parts[partition], offset, fingerprint)

    @cached_property
    def _pools(self) -> dict[int, BufferPool]:
        """By size of a block; the partitions share them."""
        return {}

    def _buffers(self, limits: Limits) -> BufferPool:
        size = limits.max_bytes
        return self._pools.setdefault(size, BufferPool(size))

    def decoder(self, partition: int, columns: Sequence[str]) -> Decoder | None:
        return self._format.decoder(self.schema, columns, self._layout(partition))

    def describe(self) -> dict[str, str]:
        codecs = sorted({part.codec for part in self._parts} - {"none"})
        about = {
            "kind": "file",
            "path": self.config.path,
            "format": self.config.format or self._format_by_extension(),
        }
        if codecs:
            about["compression"] = ", ".join(codecs)
        about["partitions"] = str(len(self._parts))
        about["reading"] = "followed" if self.config.follow else "bounded"
        return about
