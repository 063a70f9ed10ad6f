"""Arrow tables in memory as a source and as a sink; pandas and polars frames count as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from velostream.config.schema import SinkConfig, SourceConfig
from velostream.connectors.base import Block, BlockReader, Limits, Sink, SinkWriter, Source, sinks, sources
from velostream.errors import ConfigError, ConnectorError, VelostreamError, Where, raise_all, unknown
from velostream.formats.base import Decoder
from velostream.operators.batch import Batch
from velostream.sql.schemas import schema_of
from velostream.sql.types import (
    BIGINT,
    DATE,
    DOUBLE,
    INTEGER,
    SMALLINT,
    TIMESTAMP,
    VARCHAR,
    Field,
    Schema,
)


@dataclass
class MemorySourceConfig(SourceConfig):
    """A table in memory as a source; made by the Python interface."""

    kind: str = "memory"
    # A pyarrow Table or RecordBatchReader, a pandas or polars frame, or what else exports an Arrow stream.
    data: Any = None


@sources.register("memory")
class MemorySource(Source):
    """An Arrow table, a stream of record batches, or a frame, given by the Python interface.

    Columns of other types become ours once per block: unsigned integers the next larger signed one
    (uint64: BIGINT), all text VARCHAR, timestamps microseconds UTC (naive ones are in `timezone`).
    """

    Config: ClassVar[type[SourceConfig]] = MemorySourceConfig
    config: MemorySourceConfig

    @classmethod
    def of(cls, name: str, data: Any, **settings: Any) -> MemorySource:
        """A source of `data`; `settings` are fields of `SourceConfig`."""
        return cls(name, MemorySourceConfig(data=data, **settings))

    @property
    def bounded(self) -> bool:
        return True

    @cached_property
    def _data(self) -> pa.Table | pa.RecordBatchReader:
        data = self.config.data
        if isinstance(data, pa.Table | pa.RecordBatchReader):
            return data
        if isinstance(data, pa.RecordBatch):
            return pa.Table.from_batches([data])
        try:
            if type(data).__module__.partition(".")[0] == "pandas":
                return pa.Table.from_pandas(data, preserve_index=False)
            if hasattr(data, "__arrow_c_stream__"):
                return pa.RecordBatchReader.from_stream(data)
        except (pa.ArrowException, TypeError, ValueError) as exc:
            raise ConfigError(f"'{self.name}' is no table: {exc}", where=self._where("data")) from exc
        raise ConfigError(
            f"'{self.name}' is of type '{type(data).__name__}', which is no table",
            where=self._where("data"),
            hint="give a pyarrow Table or RecordBatchReader, or a pandas or polars frame",
        )

    def _where(self, key: str) -> Where:
        return Where(key=f"sources.{self.name}.{key}")

    @cached_property
    def schema(self) -> Schema:
        given: pa.Schema = self._data.schema
        config = self.config
        errors: list[VelostreamError] = []
        if config.schema:
            declared = schema_of(
                config.schema, config.timestamp_formats, config.timezone, f"sources.{self.name}"
            )
            for name in declared.names:
                if name not in given.names:
                    message, hint = unknown("column", name, given.names)
                    errors.append(ConfigError(message, where=self._where(f"schema.{name}"), hint=hint))
            raise_all(errors)
            return declared
        columns: list[Field] = []
        for field in given:
            type = sql_type(field.type)
            if type is None:
                message = f"column '{field.name}' is of type '{field.type}', which SQL here does not have"
                errors.append(ConfigError(message, where=self._where("data"), hint="cast or drop it"))
            elif any(field.name == column.name for column in columns):
                message = f"column '{field.name}' occurs more than once"
                errors.append(ConfigError(message, where=self._where("data"), hint="rename one of them"))
            else:
                columns.append(Field(field.name, type))
        raise_all(errors)
        return Schema(tuple(columns), config.timezone)

    def partitions(self) -> Sequence[str]:
        return [self.name]

    def total_bytes(self) -> int | None:
        return self._data.nbytes if isinstance(self._data, pa.Table) else None

    @property
    def resumable(self) -> bool:
        """A table; a stream of batches can be read once."""
        return isinstance(self._data, pa.Table)

    def fingerprint(self, partition: int) -> str | None:
        """How many rows there are, and of what."""
        data = self._data
        return f"{data.num_rows} rows of {data.schema}" if isinstance(data, pa.Table) else None

    def reader(self, partition: int, limits: Limits, offset: int = 0) -> BlockReader:
        if isinstance(self._data, pa.Table):
            return TableReader(self.name, self._data, self.schema, limits, offset)
        if offset:
            raise ConnectorError(f"'{self.name}' is a stream of batches, which cannot be read again")
        return BatchesReader(self.name, self._data, self.schema, limits)

    def decoder(self, partition: int, columns: Sequence[str]) -> Decoder | None:
        return None


def sql_type(type: pa.DataType) -> pa.DataType | None:
    """The SQL type that holds all values of an Arrow type; None when there is none."""
    kinds = pa.types
    if kinds.is_dictionary(type):
        return sql_type(type.value_type)
    if kinds.is_signed_integer(type) or kinds.is_boolean(type):
        return type
    if kinds.is_unsigned_integer(type):
        return {8: SMALLINT, 16: INTEGER}.get(type.bit_width, BIGINT)
    if kinds.is_floating(type):
        return DOUBLE
    if (
        kinds.is_string(type)
        or kinds.is_large_string(type)
        or kinds.is_string_view(type)
        or kinds.is_null(type)
    ):
        return VARCHAR
    if kinds.is_timestamp(type):
        return TIMESTAMP
    if kinds.is_date(type):
        return DATE
    if kinds.is_decimal(type) and type.precision <= 38 and 0 <= type.scale <= type.precision:
        return pa.decimal128(type.precision, type.scale)
    return None


class RowsBlock(Block):
    """Rows of a table; `load` casts them to the source's schema."""

    __slots__ = ("_rows", "_schema", "_source")

    def __init__(self, source: str, rows: pa.Table, schema: Schema, offset: int) -> None:
        super().__init__(offset, offset + rows.num_rows, max(1, rows.nbytes))
        self._source = source
        self._rows = rows
        self._schema = schema

    def load(self) -> pa.RecordBatch:
        """The columns of the schema in its order; without a copy where types agree and one chunk has them."""
        columns = []
        for field in self._schema.fields:
            column = self._rows.column(field.name)
            array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
            try:
                columns.append(_cast(array, field.type, self._schema.timezone))
            except (pa.ArrowException, OverflowError, ValueError) as exc:
                raise ConnectorError(
                    f"column '{field.name}' of '{self._source}' does not fit its type, rows {self.offset} to "
                    f"{self.next_offset - 1}: {exc}"
                ) from exc
        return pa.RecordBatch.from_arrays(columns, schema=self._schema.arrow())


def _cast(array: pa.Array, type: pa.DataType, timezone: str) -> pa.Array:
    if array.type == type and not (pa.types.is_timestamp(type) and timezone != "UTC"):
        return array
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_timestamp(array.type) and type == TIMESTAMP:
        if array.type.unit == "ns":
            # A cast would truncate towards zero.
            array = pc.floor_temporal(array, unit="microsecond")
        if array.type.tz is None and timezone != "UTC":
            array = pc.assume_timezone(array, timezone, ambiguous="earliest", nonexistent="latest")
        return array.cast(pa.timestamp("us", array.type.tz), safe=array.type.unit != "ns").cast(TIMESTAMP)
    return array.cast(type)


class TableReader(BlockReader):
    """Slices of a table, as many rows as fill a block of average rows."""

    def __init__(self, source: str, table: pa.Table, schema: Schema, limits: Limits, offset: int) -> None:
        self._source = source
        self._table = table
        self._schema = schema
        self._offset = offset
        row_bytes = max(1, table.nbytes // max(1, table.num_rows))
        self._rows = limits.records or max(1, limits.max_bytes // row_bytes)

    def read(self) -> Block | None:
        if self._offset >= self._table.num_rows:
            return None
        block = RowsBlock(
            self._source, self._table.slice(self._offset, self._rows), self._schema, self._offset
        )
        self._offset = block.next_offset
        return block


class BatchesReader(BlockReader):
    """Blocks from a stream of batches, which may be larger or smaller than a block."""

    def __init__(self, source: str, batches: pa.RecordBatchReader, schema: Schema, limits: Limits) -> None:
        self._source = source
        self._batches: Iterator[pa.RecordBatch] = iter(batches)
        self._schema = schema
        self._limits = limits
        self._offset = 0
        self._rest: pa.Table = batches.schema.empty_table()

    def read(self) -> Block | None:
        limits = self._limits
        pending = [self._rest]
        rows, size = self._rest.num_rows, self._rest.nbytes
        while rows < limits.records if limits.records else size < limits.max_bytes:
            try:
                batch = next(self._batches, None)
            except (pa.ArrowException, OSError, RuntimeError) as exc:
                raise ConnectorError(
                    f"cannot read '{self._source}' after row {self._offset + rows}: {exc}"
                ) from exc
            if batch is None:
                break
            pending.append(pa.Table.from_batches([batch]))
            rows += batch.num_rows
            size += batch.nbytes
        if rows == 0:
            return None
        table = pa.concat_tables(pending)
        take = limits.records or max(1, limits.max_bytes * rows // max(1, size))
        block = RowsBlock(self._source, table.slice(0, take), self._schema, self._offset)
        self._rest = table.slice(take)
        self._offset = block.next_offset
        return block


@dataclass
class MemorySinkConfig(SinkConfig):
    """A table in memory as a sink; read by the Python interface."""

    kind: str = "memory"


@sinks.register("memory")
class MemorySink(Sink):
    """Collects the output as Arrow, for the Python interface.

    `batches` are the rows in the order of writing, with their operations; `table` is all their columns.
    Both may be called from any thread, before the sink is closed too.
    """

    Config: ClassVar[type[SinkConfig]] = MemorySinkConfig

    def __init__(self, name: str, config: Any = None) -> None:
        super().__init__(name, config or MemorySinkConfig())
        self._lock = Lock()
        self._schema: pa.Schema = pa.schema([])
        self._batches: list[Batch] = []

    @property
    def delivery(self) -> str:
        """Its rows are lost with the process."""
        return "best_effort"

    def open(self, schema: pa.Schema, bounded: bool, resume: Any = None) -> SinkWriter:
        with self._lock:
            self._schema = schema
            self._batches = []
        return _MemoryWriter(self)

    def add(self, batch: Batch) -> None:
        """Append a batch, for the writer."""
        with self._lock:
            self._batches.append(batch)

    def batches(self) -> list[Batch]:
        with self._lock:
            return list(self._batches)

    def table(self) -> pa.Table:
        with self._lock:
            return pa.Table.from_batches([batch.data for batch in self._batches], schema=self._schema)


class _MemoryWriter(SinkWriter):
    def __init__(self, sink: MemorySink) -> None:
        self._sink = sink
        self._bytes = 0

    def write(self, payload: Batch, rows: int) -> None:
        self._sink.add(payload)
        self._bytes += payload.data.nbytes

    def close(self, complete: bool) -> None:
        """Keeps what was written: whoever holds the sink decides what an incomplete result is worth."""

    @property
    def location(self) -> str:
        return "memory"

    @property
    def bytes_written(self) -> int:
        return self._bytes
