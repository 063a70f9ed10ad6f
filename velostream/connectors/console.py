"""The terminal as a sink: a table for a person, or lines for the next program."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, ClassVar

import pyarrow as pa

from velostream.config.schema import SinkConfig
from velostream.connectors.base import Sink, SinkWriter, sinks
from velostream.connectors.changelog import Changes
from velostream.errors import ConfigError, ConnectorError, Where, unknown
from velostream.kernels import CsvEncoder, JsonEncoder, date_text, double_text, timestamp_text
from velostream.operators.batch import Batch

STYLES = ("auto", "table", "lines")


@dataclass
class ConsoleSinkConfig(SinkConfig):
    """Standard output as a sink."""

    kind: str = "console"
    # table: all rows at the end. lines: a JSON object per row as they come. auto: a table on a terminal,
    # tab-separated lines with a header in a pipe; for an unbounded job lines in both.
    style: str = "auto"
    # Rows that a table shows; how many more there are is said below it.
    max_rows: int = 1000
    # Write a first column _op: insert, update or delete.
    changelog: bool = False


@sinks.register("console")
class ConsoleSink(Sink):
    """Standard output: a table when it is a terminal, lines when it is a pipe."""

    Config: ClassVar[type[SinkConfig]] = ConsoleSinkConfig
    config: ConsoleSinkConfig

    @property
    def delivery(self) -> str:
        """A table is shown when the job has ended, and its rows are lost with the process."""
        return "at_least_once" if self.config.style == "lines" else "best_effort"

    @property
    def shared(self) -> bool:
        return self.config.style == "lines"

    def open(self, schema: pa.Schema, bounded: bool, resume: Any = None) -> SinkWriter:
        style = self.config.style
        if style not in STYLES:
            message, hint = unknown("style", style, STYLES)
            raise ConfigError(message, where=Where(key=f"sinks.{self.name}.style"), hint=hint)
        changes = Changes(self.name, schema, self.config.changelog)
        stream = sys.stdout
        if style == "table" or (style == "auto" and bounded and stream.isatty()):
            return _TableWriter(stream, changes, self.config.max_rows)
        if style == "lines" or not bounded:
            return _LinesWriter(stream, changes, JsonEncoder(changes.schema))
        return _LinesWriter(stream, changes, CsvEncoder(changes.schema, delimiter="\t"))

    def describe(self) -> dict[str, str]:
        return {"kind": "console", "style": self.config.style}


class _LinesWriter(SinkWriter):
    def __init__(self, stream: IO[str], changes: Changes, encoder: JsonEncoder | CsvEncoder) -> None:
        self._stream = stream
        self._changes = changes
        self._encoder = encoder
        self._bytes = 0
        self._write(encoder.header().decode())

    def encode(self, batch: Batch) -> str:
        return bytes(self._encoder.encode(self._changes.rows(batch))).decode()

    def write(self, payload: str, rows: int) -> None:
        self._write(payload)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except OSError as exc:
            raise _failed(exc) from exc
        self._bytes += len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as exc:
            raise _failed(exc) from exc

    def prepare(self, token: Any) -> None:
        self.flush()

    def close(self, complete: bool) -> None:
        self.flush()

    @property
    def location(self) -> str:
        return "standard output"

    @property
    def bytes_written(self) -> int:
        return self._bytes


class _TableWriter(SinkWriter):
    """Holds the first rows until the end, and counts the others."""

    def __init__(self, stream: IO[str], changes: Changes, max_rows: int) -> None:
        self._stream = stream
        self._changes = changes
        self._max_rows = max_rows
        self._kept: list[pa.RecordBatch] = []
        self._rows = 0
        self._closed = False

    def encode(self, batch: Batch) -> pa.RecordBatch:
        return self._changes.rows(batch)

    def write(self, payload: pa.RecordBatch, rows: int) -> None:
        room = self._max_rows - self._rows
        if room > 0:
            self._kept.append(payload.slice(0, room))
        self._rows += payload.num_rows

    def close(self, complete: bool) -> None:
        """Print the table; one of an incomplete result says so."""
        if self._closed:
            return
        self._closed = True
        # Not at the top: 40 ms that only a table should cost.
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        schema = self._changes.schema
        table = Table(title=None if complete else "incomplete", title_justify="left")
        for field in schema:
            number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
            right = number or pa.types.is_decimal(field.type)
            table.add_column(Text(field.name), justify="right" if right else "left", overflow="fold")
        for batch in self._kept:
            columns = [cell_texts(column) for column in batch.columns]
            for cells in zip(*columns, strict=True):
                table.add_row(*(Text("NULL", style="dim") if cell is None else Text(cell) for cell in cells))
        # A table for a file or a pipe has no width to keep to.
        width = None if self._stream.isatty() else 10_000
        console = Console(file=self._stream, highlight=False, width=width)
        try:
            console.print(table)
            more = self._rows - sum(batch.num_rows for batch in self._kept)
            if more:
                console.print(f"… {more:,} more rows")
            self._stream.flush()
        except OSError as exc:
            raise _failed(exc) from exc

    @property
    def location(self) -> str:
        return "standard output"


def cell_texts(column: pa.Array) -> list[str | None]:
    """The values of a column as a person reads them; None for NULL.

    >>> cell_texts(pa.array([1357016400000000, None], pa.timestamp("us")))
    ['2013-01-01 05:00:00', None]
    """
    type = column.type
    # Times by their numbers: Python's own end in the year 9999.
    values: list[Any] = (
        column.cast(pa.int64()).to_pylist()
        if pa.types.is_timestamp(type)
        else column.cast(pa.int32()).to_pylist()
        if pa.types.is_date(type)
        else column.to_pylist()
    )
    text = _text_of(type)
    return [None if value is None else text(value) for value in values]


def _text_of(type: pa.DataType) -> Callable[[Any], str]:
    if pa.types.is_timestamp(type):
        return lambda us: timestamp_text(us).replace("T", " ").rstrip("Z")
    if pa.types.is_date(type):
        return date_text
    if pa.types.is_floating(type):
        return double_text
    if pa.types.is_boolean(type):
        return lambda value: "true" if value else "false"
    if pa.types.is_decimal(type):
        return lambda value: format(value, "f")
    return str


def _failed(exc: OSError) -> ConnectorError:
    return ConnectorError(f"cannot write to standard output: {exc.strerror or exc}")
