"""Where a stream leaves the job: one outlet per sink, written to by all lanes."""

from __future__ import annotations

import time
from threading import Lock
from typing import Any

import pyarrow as pa

from velostream.connectors.base import Sink, SinkWriter
from velostream.kernels import native
from velostream.operators.batch import Batch
from velostream.runtime.failures.base import FailureStrategy
from velostream.runtime.lane import Lane
from velostream.runtime.ticket import Ticket

# How long an endless job's rows are held back at most while more are written.
FLUSH_SECONDS = 0.005


class Outlet:
    """A sink of the job. `encode` runs in the lanes side by side, `write` one call at a time.

    `rows` counts what was written.
    """

    def __init__(self, sink: Sink, stream: str, schema: pa.Schema) -> None:
        self.sink = sink
        self.name = sink.name
        self.stream = stream
        self.schema = schema
        self.rows = 0
        self._writer: SinkWriter | None = None
        self._lock = Lock()
        self._what = f"sink '{sink.name}'"
        # When a sink that holds rows back is to be flushed next (time.perf_counter); None: never.
        self._flush_at: float | None = None

    def open(self, bounded: bool, strategy: FailureStrategy) -> None:
        """Open the sink. Raises ConnectorError after the strategy's retries."""
        self._strategy = strategy
        self._writer = strategy.call(self._what, lambda: self.sink.open(self.schema, bounded))
        if not bounded and type(self._writer).flush is not SinkWriter.flush:
            self._flush_at = 0.0

    @property
    def holds_back(self) -> bool:
        """Whether an endless job must flush it for its readers."""
        return self._flush_at is not None

    @property
    def writer(self) -> SinkWriter:
        assert self._writer is not None, "open() comes first"
        return self._writer

    def encode(self, batch: Batch, lane: Lane) -> Any:
        begun = time.perf_counter()
        payload = self.writer.encode(batch)
        lane.spend("encode", begun)
        return payload

    def write(self, payload: Any, rows: int, lane: Lane, ticket: Ticket) -> None:
        """Append the rows of one batch; raises ConnectorError after the strategy's retries."""
        begun = time.perf_counter()
        with native:  # waiting for another lane's write
            self._lock.acquire()
        try:
            self._strategy.call(self._what, lambda: self.writer.write(payload, rows))
            self.rows += rows
            if self._flush_at is not None and begun >= self._flush_at:
                # While input keeps coming nobody else flushes.
                self._flush_at = begun + FLUSH_SECONDS
                self.writer.flush()
        finally:
            self._lock.release()
        lane.spend("write", begun)

    def flush(self) -> None:
        """Show readers what was written so far; nothing once the sink is closed. Raises ConnectorError."""
        with self._lock:
            if self._writer is not None:
                self._writer.flush()

    def close(self, complete: bool) -> None:
        """Finish the sink, when it was opened; may be repeated."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            self.location = writer.location
            writer.close(complete)
            self.location, self.bytes_written = writer.location, writer.bytes_written

    location = ""
    bytes_written = 0
