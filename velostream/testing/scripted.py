"""Sources and sinks that do what a test says, block by block: fault points, silence, slow writers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, TypeAlias

import pyarrow as pa

from velostream.config.schema import SinkConfig, SourceConfig
from velostream.connectors.base import Block, BlockReader, Limits, Sink, SinkWriter, Source, sinks, sources
from velostream.errors import VelostreamError
from velostream.formats.base import Decoder
from velostream.operators.batch import Batch
from velostream.sql.schemas import schema_of
from velostream.sql.types import Schema


class Silence:
    """A step of a script: the partition has nothing to say for now."""


SILENCE = Silence()
# How long a read waits for nothing, as other readers do.
SILENCE_SECONDS = 0.002
# Rows of one block, an error to raise by the read, or silence.
Step: TypeAlias = Sequence[Mapping[str, Any]] | pa.RecordBatch | VelostreamError | Silence


@dataclass
class ScriptedSourceConfig(SourceConfig):
    """Not for YAML. `partitions` maps each partition's name to its steps, taken one by one by the reading
    thread: a generator may wait there, or go on for ever. A partition ends with its steps."""

    kind: str = "scripted"
    partitions: Any = None
    bounded: bool = True


class _RowsBlock(Block):
    __slots__ = ("batch",)

    def __init__(self, batch: pa.RecordBatch, offset: int) -> None:
        super().__init__(offset, offset + batch.num_rows, max(1, batch.nbytes))
        self.batch = batch

    def load(self) -> pa.RecordBatch:
        return self.batch


class _Silent(Block):
    __slots__ = ()

    def load(self) -> pa.RecordBatch:
        raise AssertionError("there is nothing to load")


class _ScriptedReader(BlockReader):
    def __init__(self, steps: Iterable[Step], schema: pa.Schema, offset: int) -> None:
        self._steps: Iterator[Step] = iter(steps)
        self._schema = schema
        self._offset = 0
        # The rows before it are left out.
        self._first = offset

    def read(self) -> Block | None:
        step = next(self._steps, None)
        if step is None:
            return None
        if isinstance(step, VelostreamError):
            raise step
        if isinstance(step, Silence):
            time.sleep(SILENCE_SECONDS)
            return _Silent(self._offset, self._offset, 0)
        if not isinstance(step, pa.RecordBatch):
            step = pa.RecordBatch.from_pylist([dict(row) for row in step], schema=self._schema)
        skipped = min(max(0, self._first - self._offset), step.num_rows)
        block = _RowsBlock(step.slice(skipped), self._offset + skipped)
        self._offset = block.next_offset
        return block


@sources.register("scripted", yaml=False)
class ScriptedSource(Source):
    """Gives the blocks of a script; `schema` is declared."""

    Config = ScriptedSourceConfig

    @property
    def bounded(self) -> bool:
        return bool(self.config.bounded)

    @cached_property
    def schema(self) -> Schema:
        return schema_of(self.config.schema, {}, self.config.timezone)

    def partitions(self) -> Sequence[str]:
        return list(self.config.partitions)

    def reader(self, partition: int, limits: Limits, offset: int = 0) -> BlockReader:
        return _ScriptedReader(list(self.config.partitions.values())[partition], self.schema.arrow(), offset)

    def decoder(self, partition: int, columns: Sequence[str]) -> Decoder | None:
        return None


@dataclass
class ScriptedSinkConfig(SinkConfig):
    """Not for YAML. `on_open` is called before the sink opens, `on_write` before each batch is kept,
    `on_close` before the sink closes complete, the others at these steps of a commit: they may raise, or
    wait."""

    kind: str = "scripted"
    on_open: Callable[[], None] | None = None
    on_write: Callable[[Batch], None] | None = None
    on_cut: Callable[[], None] | None = None
    on_prepare: Callable[[], None] | None = None
    on_publish: Callable[[], None] | None = None
    on_close: Callable[[], None] | None = None


@sinks.register("scripted", yaml=False)
class ScriptedSink(Sink):
    """Keeps rows. `rows` has them as mappings, `closed` what `close` was told, None before."""

    Config = ScriptedSinkConfig

    def __init__(self, name: str, config: ScriptedSinkConfig) -> None:
        super().__init__(name, config)
        self.closed: bool | None = None
        self._batches: list[Batch] = []
        self._lock = Lock()

    @property
    def rows(self) -> list[dict[str, Any]]:
        with self._lock:
            return [row for batch in self._batches for row in batch.data.to_pylist()]

    def keep(self, batch: Batch) -> None:
        """Append a batch, for the writer."""
        with self._lock:
            self._batches.append(batch)

    def open(self, schema: pa.Schema, bounded: bool, resume: Any = None) -> SinkWriter:
        if self.config.on_open is not None:
            self.config.on_open()
        return _ScriptedWriter(self)


class _ScriptedWriter(SinkWriter):
    def __init__(self, sink: ScriptedSink) -> None:
        self._sink = sink

    def write(self, payload: Batch, rows: int) -> None:
        if self._sink.config.on_write is not None:
            self._sink.config.on_write(payload)
        self._sink.keep(payload)

    def cut(self) -> Any:
        self._call(self._sink.config.on_cut)
        return None

    def prepare(self, token: Any) -> None:
        self._call(self._sink.config.on_prepare)

    def publish(self, token: Any) -> None:
        self._call(self._sink.config.on_publish)

    def _call(self, step: Callable[[], None] | None) -> None:
        if step is not None:
            step()

    def close(self, complete: bool) -> None:
        if complete:
            self._call(self._sink.config.on_close)
        self._sink.closed = complete
