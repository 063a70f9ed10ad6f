"""The generator as a source: columns by distributions, at a rate, with an end or without."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from velostream.config.fit import fit
from velostream.config.schema import SourceConfig
from velostream.connectors.base import Block, BlockReader, Limits, Source, sources
from velostream.connectors.generator.distributions import DISTRIBUTIONS, Distribution, Maker
from velostream.connectors.generator.draws import Draws, Index
from velostream.errors import (
    ConfigError,
    ConnectorError,
    Problems,
    VelostreamError,
    Where,
    raise_all,
    unknown,
)
from velostream.formats.base import Decoder
from velostream.sql.schemas import schema_of
from velostream.sql.types import Schema

# How long one read waits, and how much time one block spans, when there is a rate.
WAIT_SECONDS = 0.05
SPAN_SECONDS = 0.02
SAMPLE_ROWS = 1000
# The stream of `Draws` that decides which values are NULL.
NULLS = 7


@dataclass
class GeneratorSourceConfig(SourceConfig):
    """Made-up records as a source; `schema` is required."""

    kind: str = "generator"
    # Column to its distribution (choice, constant, cycle, normal, sequence, uniform, zipf) with settings.
    columns: dict[str, Any] = field(default_factory=dict)
    # Records per second; 0: as fast as they are taken.
    rate: float = 0.0
    # Another seed gives other records; the same one the same.
    seed: int = 0
    # Records in all; 0: without an end.
    count: int = 0
    # Partitions among which the records are dealt in turn.
    partitions: int = 1


@dataclass(frozen=True, slots=True)
class Column:
    """How one column is made."""

    name: str
    make: Maker
    draws: Draws
    nulls: float

    def values(self, index: Index) -> pa.Array:
        made = self.make(index, self.draws)
        if not self.nulls:
            return made
        null = pa.array(self.draws.unit(index, NULLS) < self.nulls)
        return pa.compute.if_else(null, pa.scalar(None, made.type), made)


@sources.register("generator")
class GeneratorSource(Source):
    """Made-up records: declared columns with distributions, a rate, a seed and a count."""

    Config: ClassVar[type[SourceConfig]] = GeneratorSourceConfig
    config: GeneratorSourceConfig

    @property
    def bounded(self) -> bool:
        return self.config.count > 0

    @cached_property
    def schema(self) -> Schema:
        config = self.config
        errors: list[VelostreamError] = []
        for key, lowest in (("rate", 0), ("count", 0), ("partitions", 1)):
            if getattr(config, key) < lowest:
                message = f"{key} is {getattr(config, key)}"
                errors.append(ConfigError(message, where=self._where(key), hint=f"give {lowest} or more"))
        if not config.schema:
            errors.append(
                ConfigError(
                    "a generator needs a schema",
                    where=self._where("schema"),
                    hint="declare the types of its columns",
                )
            )
        raise_all(errors)
        return schema_of(config.schema, config.timestamp_formats, config.timezone, f"sources.{self.name}")

    def _where(self, key: str) -> Where:
        return Where(key=f"sources.{self.name}.{key}")

    @cached_property
    def columns(self) -> list[Column]:
        """In the order of the schema. Raises ConfigError or Problems: all that is wrong with them."""
        schema = self.schema
        errors: list[VelostreamError] = []
        for name in self.config.columns:
            if name not in schema.names:
                message, hint = unknown("column", name, schema.names)
                errors.append(ConfigError(message, where=self._where(f"columns.{name}"), hint=hint))
        columns = []
        for column in schema.fields:
            where = self._where(f"columns.{column.name}")
            try:
                distribution = self._distribution(column.name)
                make = distribution.maker(column.type, schema.timezone)
                # Settings that give values out of the type's range show here.
                make(np.arange(1, dtype=np.uint64), Draws(0, ""))
            except Problems as exc:
                errors.append(exc)
            except (ConfigError, ConnectorError) as exc:
                errors.append(ConfigError(exc.message, where=exc.where or where, hint=exc.hint))
            except (pa.ArrowInvalid, ValueError, TypeError) as exc:
                errors.append(ConfigError(f"column '{column.name}': {exc}", where=where))
            else:
                draws = Draws(self.config.seed, column.name)
                columns.append(Column(column.name, make, draws, distribution.nulls))
        raise_all(errors)
        return columns

    def _distribution(self, name: str) -> Distribution:
        key = f"columns.{name}"
        where = self._where(key)
        if name not in self.config.columns:
            raise ConfigError(f"column '{name}' has no distribution", where=where)
        settings = dict(self.config.columns[name])
        kind_name = str(settings.pop("distribution", ""))
        if kind_name not in DISTRIBUTIONS:
            message, hint = unknown("distribution", kind_name, DISTRIBUTIONS)
            raise ConfigError(message, where=self._where(f"{key}.distribution"), hint=hint)
        errors: list[VelostreamError] = []
        path = ("sources", self.name, "columns", name)
        made: Distribution = fit(settings, DISTRIBUTIONS[kind_name], path, errors)
        raise_all(errors)
        if not 0 <= made.nulls <= 1:
            raise ConfigError(f"nulls is {made.nulls}", where=where, hint="give a probability from 0 to 1")
        return made

    def partitions(self) -> Sequence[str]:
        return [f"{self.name}-{number}" for number in range(self.config.partitions)]

    def batch(self, index: Index) -> pa.RecordBatch:
        """The records of these numbers; the same for a seed, whatever else is asked for.

        Raises ConnectorError when a value leaves its type's range.
        """
        try:
            arrays = [column.values(index) for column in self.columns]
        except pa.ArrowInvalid as exc:
            raise ConnectorError(f"generator '{self.name}', records from {index[0]} on: {exc}") from exc
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema.arrow())

    @cached_property
    def row_bytes(self) -> int:
        """About how large a record is, from a sample."""
        return max(1, int(self.batch(np.arange(SAMPLE_ROWS, dtype=np.uint64)).nbytes) // SAMPLE_ROWS)

    def total_bytes(self) -> int | None:
        return self.config.count * self.row_bytes or None

    def fingerprint(self, partition: int) -> str | None:
        """All that the records depend on; rate and count are not of that."""
        config = self.config
        settings = config.schema, config.timezone, config.columns, config.seed, config.partitions
        return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()

    def reader(self, partition: int, limits: Limits, offset: int = 0) -> BlockReader:
        return GeneratorReader(self, partition, limits, offset)

    def decoder(self, partition: int, columns: Sequence[str]) -> Decoder | None:
        return None

    def describe(self) -> dict[str, str]:
        config = self.config
        return {
            "kind": "generator",
            "records": f"{config.count:,}" if config.count else "without an end",
            "rate": f"{config.rate:,.0f}/s" if config.rate else "as fast as possible",
            "seed": str(config.seed),
        }


class GeneratorBlock(Block):
    """Records `offset` to `next_offset` of a partition; made in the lane that loads them."""

    __slots__ = ("_partition", "_source")

    def __init__(self, source: GeneratorSource, partition: int, offset: int, next_offset: int) -> None:
        super().__init__(offset, next_offset, (next_offset - offset) * source.row_bytes)
        self._source = source
        self._partition = partition

    def load(self) -> pa.RecordBatch:
        step = self._source.config.partitions
        numbers = np.arange(self.offset, self.next_offset, dtype=np.uint64)
        return self._source.batch(numbers * np.uint64(step) + np.uint64(self._partition))


class GeneratorReader(BlockReader):
    """Deals out record numbers, no faster than the rate."""

    def __init__(self, source: GeneratorSource, partition: int, limits: Limits, offset: int) -> None:
        config = source.config
        self._source = source
        self._partition = partition
        self._offset = offset
        # Record k of partition p is number k * partitions + p.
        step = config.partitions
        self._end = (config.count - partition + step - 1) // step if config.count else None
        self._rate = config.rate / step
        self._rows = limits.records or max(1, limits.max_bytes // source.row_bytes)
        if self._rate and not limits.records:
            self._rows = min(self._rows, max(1, int(self._rate * SPAN_SECONDS)))
        self._started: float | None = None
        self._first = offset

    def read(self) -> Block | None:
        if self._end is not None and self._offset >= self._end:
            return None
        stop = self._offset + self._rows
        if self._end is not None:
            stop = min(stop, self._end)
        if self._rate and not self._is_due(stop):
            return GeneratorBlock(self._source, self._partition, self._offset, self._offset)
        block = GeneratorBlock(self._source, self._partition, self._offset, stop)
        self._offset = stop
        return block

    def _is_due(self, stop: int) -> bool:
        """Whether the records before `stop` are due, after waiting a little for that."""
        now = time.monotonic()
        if self._started is None:
            self._started = now
        left = self._started + (stop - self._first) / self._rate - now
        if left > 0:
            time.sleep(min(left, WAIT_SECONDS))
        return left <= WAIT_SECONDS
