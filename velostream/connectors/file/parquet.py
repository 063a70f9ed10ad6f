"""Rows as Parquet, through pyarrow."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from velostream.config.units import parse_bytes, parse_duration_us
from velostream.connectors.file.output import Output
from velostream.errors import ConfigError, Where, unknown

CODECS = ("none", "snappy", "gzip", "brotli", "zstd", "lz4")


@dataclass
class ParquetOptions:
    """How Parquet is written."""

    # none, snappy, gzip, brotli, zstd, lz4.
    compression: str = "zstd"
    # Rows of a row group: what a reader skips or takes at once.
    row_group_rows: int = 122_880
    # Where the path is a folder or has {part}: a new file begins after so many bytes of rows (as Arrow has
    # them, before compression), and for a commit after so much time.
    roll_size: str = "256MiB"
    roll_interval: str = "1m"

    @property
    def roll_bytes(self) -> int:
        return parse_bytes(self.roll_size)

    @property
    def roll_seconds(self) -> float:
        return parse_duration_us(self.roll_interval) / 1e6

    def check(self, key: str) -> None:
        """Raises ConfigError for a value that Parquet does not have; `key` is the connector's."""
        if self.compression not in CODECS:
            message, hint = unknown("compression", self.compression, CODECS)
            raise ConfigError(message, where=Where(key=f"{key}.format_options.compression"), hint=hint)
        if self.row_group_rows < 1:
            raise ConfigError(
                f"a row group of {self.row_group_rows} rows",
                where=Where(key=f"{key}.format_options.row_group_rows"),
                hint="give 1 or more",
            )
        for name, parse in (("roll_size", parse_bytes), ("roll_interval", parse_duration_us)):
            try:
                parse(getattr(self, name))
            except ConfigError as exc:
                place = Where(key=f"{key}.format_options.{name}")
                raise ConfigError(exc.message, where=place, hint=exc.hint) from None


class ParquetRows:
    """Collects rows to row groups and writes them to `target`. One thread at a time."""

    def __init__(self, target: Output, schema: pa.Schema, options: ParquetOptions) -> None:
        # Not at the top: 30 ms that only a Parquet sink should cost.
        import pyarrow.parquet as pq

        self._group_rows = options.row_group_rows
        self._schema = schema
        self._pending: list[pa.RecordBatch] = []
        self._rows = 0
        self._writer = pq.ParquetWriter(target, schema, compression=options.compression)

    def write(self, batch: pa.RecordBatch) -> None:
        self._pending.append(batch)
        self._rows += batch.num_rows
        if self._rows >= self._group_rows:
            self._write_pending()

    def _write_pending(self) -> None:
        table = pa.Table.from_batches(self._pending, schema=self._schema)
        self._pending = []
        self._rows = 0
        self._writer.write_table(table, row_group_size=self._group_rows)

    def close(self, complete: bool) -> None:
        """Write what is left, when `complete`, and the footer. May be called twice; only the first counts."""
        if not self._writer.is_open:
            return
        if complete and self._rows:
            self._write_pending()
        # A writer left open would write its footer when it is collected, to a file closed by then.
        self._writer.close()
