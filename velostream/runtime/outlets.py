"""Where a stream leaves the job: one outlet per sink, written to by all lanes."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from velostream.connectors.base import Sink, SinkWriter
from velostream.errors import ConnectorError
from velostream.kernels import native
from velostream.operators.batch import Batch
from velostream.runtime.failures.base import FailureStrategy
from velostream.runtime.lane import Lane
from velostream.runtime.ticket import Ticket

if TYPE_CHECKING:
    from velostream.runtime.epochs import Gathering

# How long an endless job's rows are held back at most while more are written.
FLUSH_SECONDS = 0.005


@dataclass(slots=True)
class _Held:
    """Rows behind a sender's marker."""

    payload: Any
    rows: int
    ticket: Ticket


class Outlet:
    """A sink of the job. `encode` runs in the lanes side by side, `write` one call at a time.

    `rows` counts what was written. `senders` is how many write to it: the partitions of a source, or the
    lanes of a keyed stage.
    """

    def __init__(self, sink: Sink, stream: str, schema: pa.Schema) -> None:
        self.sink = sink
        self.name = sink.name
        self.stream = stream
        self.schema = schema
        self.rows = 0
        self.senders = 1
        self._marked: set[int] = set()
        self._cut = False
        self._held: list[_Held] = []
        self._writer: SinkWriter | None = None
        self._lock = Lock()
        self._what = f"sink '{sink.name}'"
        # When a sink that holds rows back is to be flushed next (time.perf_counter); None: never.
        self._flush_at: float | None = None

    def open(self, bounded: bool, strategy: FailureStrategy, resume: Any = None) -> None:
        """Open the sink, behind what was committed with the token `resume`. Raises ConnectorError after the
        strategy's retries."""
        self._strategy = strategy
        self._writer = strategy.call(self._what, lambda: self.sink.open(self.schema, bounded, resume))
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

    def write(self, payload: Any, rows: int, lane: Lane, ticket: Ticket, sender: int) -> None:
        """Append the rows of one batch, or hold them back when the sender's marker has come and others' have
        not; raises ConnectorError after the strategy's retries."""
        begun = time.perf_counter()
        with native:  # waiting for another lane's write
            self._lock.acquire()
        try:
            if sender in self._marked:
                ticket.hold()
                self._held.append(_Held(payload, rows, ticket))
            else:
                self._append(payload, rows, begun)
        finally:
            self._lock.release()
        lane.spend("write", begun)

    def _append(self, payload: Any, rows: int, now: float) -> None:
        self._strategy.call(self._what, lambda: self.writer.write(payload, rows))
        self.rows += rows
        if self._flush_at is not None and now >= self._flush_at:
            # While input keeps coming nobody else flushes.
            self._flush_at = now + FLUSH_SECONDS
            self._strategy.call(self._what, self.writer.flush)

    def mark(self, sender: int, gathering: Gathering) -> None:
        """Behind this comes what the sender has of the next epoch. Raises ConnectorError."""
        with self._lock:
            self._marked.add(sender)
            if len(self._marked) < self.senders:
                return
            self._cut = True
            gathering.sink(self.name, self.writer.cut())
            self._marked.clear()
            held, self._held = self._held, []
            for entry in held:
                self._append(entry.payload, entry.rows, time.perf_counter())
                entry.ticket.release()

    def prepare(self, token: Any) -> None:
        """Make durable what was cut with this token. Raises ConnectorError after the strategy's retries."""
        self._strategy.call(self._what, lambda: self.writer.prepare(token))

    def publish(self, token: Any) -> None:
        """Show readers what was committed with this token; raises as `prepare`."""
        self._strategy.call(self._what, lambda: self.writer.publish(token))

    def flush(self) -> None:
        """Show readers what was written so far; nothing once the sink is closed. Raises as `prepare`."""
        with self._lock:
            if self._writer is not None:
                self._strategy.call(self._what, self._writer.flush)

    def hurry(self, seconds: float) -> None:
        """Wait for the sink no longer than so long, then fail; what waits now does so too."""
        # Not under the lock, which one that waits holds.
        writer = self._writer
        if writer is not None:
            writer.hurry(seconds)

    def close(self, complete: bool) -> None:
        """Finish the sink, when it was opened; may be repeated."""
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            self.location = writer.location
            if complete:
                try:
                    # Only what epochs were cut of is whole, whatever fails now.
                    self._strategy.call(self._what, lambda: writer.close(True), repeat=self._cut)
                except ConnectorError:
                    with suppress(ConnectorError):
                        writer.close(False)
                    raise
            else:
                writer.close(False)
            self.location, self.bytes_written = writer.location, writer.bytes_written

    location = ""
    bytes_written = 0
