"""Drives a job step by step, in the manner of Kafka Streams' TopologyTestDriver: no network, no sleeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Lock
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from velostream.config.processor_text import parse_processor
from velostream.config.schema import EmitConfig, FailureConfig, JobConfig, ProcessorConfig
from velostream.connectors.base import sinks
from velostream.connectors.channel import Channel, ChannelSource, ChannelSourceConfig
from velostream.errors import ConfigError, unknown
from velostream.operators.batch import OPERATIONS, Batch
from velostream.plan.nodes import AggregateNode, Plan, ProjectNode
from velostream.runtime.job import Job
from velostream.runtime.lane import Lane
from velostream.runtime.outlets import Outlet
from velostream.runtime.prepare import prepare
from velostream.runtime.report import Report
from velostream.runtime.ticket import Ticket
from velostream.sql.expressions import ColumnRef
from velostream.sql.schemas import schema_of

Row = Mapping[str, Any] | Sequence[Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One row that left a query.

    `operation` is insert, update or delete; `key` has the group's columns as far as the query selects them
    (empty without groups); `time` is the event time, None where the stream has none.
    """

    operation: str
    key: dict[str, Any]
    row: dict[str, Any]
    time: datetime | None


class _CapturingOutlet(Outlet):
    """Keeps what is written, with the block and the lane it came from."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.captured: list[tuple[int, int, Batch]] = []
        self._captured_lock = Lock()

    def write(self, payload: Any, rows: int, lane: Lane, ticket: Ticket, sender: int) -> None:
        with self._captured_lock:
            self.captured.append((ticket.number, lane.number, payload))
            self.rows += rows

    def encode(self, batch: Batch, lane: Lane) -> Any:
        return batch


class _DriverJob(Job):
    outlet_type = _CapturingOutlet


class JobDriver:
    """A running job whose input, clock and output are in the test's hands.

    `tables` maps each stream that the query reads to its columns (name to SQL type). Each `send` is one
    block (or blocks of `block_records`). `options` are keys of every source: `event_time`,
    `out_of_orderness`, `late`, `allowed_lateness`, `max_ahead`, `idle_timeout`. The clock stands at `time`
    until `advance`.

    >>> driver = JobDriver(
    ...     "SELECT symbol, COUNT(*) AS trades FROM trades GROUP BY symbol",
    ...     tables={"trades": {"symbol": "VARCHAR"}},
    ... )
    >>> driver.send("trades", [{"symbol": "A"}, {"symbol": "A"}])
    >>> [(change.operation, change.row) for change in driver.read("result")]
    [('insert', {'symbol': 'A', 'trades': 2})]
    >>> driver.send("trades", [{"symbol": "A"}])
    >>> [(change.operation, change.row) for change in driver.read("result")]
    [('update', {'symbol': 'A', 'trades': 3})]
    >>> driver.close().records["used"]
    3
    """

    def __init__(
        self,
        sql: str,
        tables: Mapping[str, Mapping[str, str]],
        processor: str = "v2:2",
        *,
        time: datetime | None = None,
        block_records: int = 0,
        changes: str = "block",
        failure: str = "log_and_continue",
        **options: Any,
    ) -> None:
        self._now_us = _micros(time or datetime(2020, 1, 1, tzinfo=UTC))
        self._schemas = {name: schema_of(columns, {}, "UTC").arrow() for name, columns in tables.items()}
        self._channels = {name: Channel(name, schema) for name, schema in self._schemas.items()}
        job = JobConfig(
            name="driver",
            sql=sql,
            sources={
                name: ChannelSourceConfig(channel=channel, **options)
                for name, channel in self._channels.items()
            },
            sinks={"memory": sinks["memory"].Config()},
            processor=ProcessorConfig(**parse_processor(processor), block_records=block_records),
            failure=FailureConfig(strategy=failure),
            emit=EmitConfig(changes=changes),
        )
        prepared = prepare(job)
        streams = [stage.stream for stage in prepared.plan.stages if stage.stream is not None]
        prepared.plan = replace(prepared.plan, sinks={stream: stream for stream in streams})
        prepared.sinks = {stream: sinks["memory"](stream, sinks["memory"].Config()) for stream in streams}
        self._keys = {stream: _key_columns(prepared.plan, stream) for stream in streams}
        self._read: dict[str, int] = dict.fromkeys(streams, 0)
        self._job = _DriverJob(job, prepared=prepared, clock=lambda: self._now_us, timer=lambda: self._now_us)
        self._used = set(prepared.sources)
        for source in prepared.sources.values():
            assert isinstance(source, ChannelSource)
            source.subscribe()
        self._sent = 0
        self._job.start()

    def send(self, table: str, rows: Iterable[Row]) -> None:
        """Give rows to a stream: mappings by column (missing ones are NULL), or sequences in its order."""
        schema = self._schema(table)
        records = [
            dict(row) if isinstance(row, Mapping) else dict(zip(schema.names, row, strict=True))
            for row in rows
        ]
        for record in records:
            for name in record:
                if name not in schema.names:
                    message, hint = unknown(f"column of '{table}'", name, schema.names)
                    raise ConfigError(message, hint=hint)
        if records:
            columns = [pa.array([r.get(field.name) for r in records], field.type) for field in schema]
            self._channels[table].publish(pa.RecordBatch.from_arrays(columns, schema=schema))
            if table in self._used:
                self._sent += len(records)

    def advance(self, time: datetime) -> None:
        """Set the clock, which only goes forward, and let everything sent so far be done by it."""
        self._settle()
        self._now_us = max(self._now_us, _micros(time))

    def read(self, stream: str = "result") -> list[Change]:
        """What left the query since the last call, after everything sent so far is done.

        The order of one key's changes is that of the input; across keys that of the blocks, then of lanes.
        """
        if stream not in self._read:
            message, hint = unknown("stream", stream, self._read)
            raise ConfigError(message, hint=hint)
        self._settle()
        outlet = self._job.outlet(stream)
        assert isinstance(outlet, _CapturingOutlet)
        fresh = sorted(outlet.captured[self._read[stream] :], key=lambda entry: entry[:2])
        self._read[stream] = len(outlet.captured)
        return [change for _, _, batch in fresh for change in self._changes(stream, batch)]

    def end(self, table: str | None = None) -> None:
        """End a stream (all of them by default): its windows close."""
        for name in [table] if table is not None else list(self._channels):
            self._schema(name)
            self._channels[name].end()
        if all(channel.ended for name, channel in self._channels.items() if name in self._used):
            self._job.wait()
            self._raise_failure()

    def close(self) -> Report:
        """End everything that is still open and give the report."""
        self.end()
        return self._job.report()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._job.abort()
            self._job.wait()

    def _settle(self) -> None:
        self._job.drain(self._sent)
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._job.state == "failed":
            raise self._job.failure()

    def _schema(self, table: str) -> pa.Schema:
        if table not in self._schemas:
            message, hint = unknown("table", table, self._schemas)
            raise ConfigError(message, hint=hint)
        return self._schemas[table]

    def _changes(self, stream: str, batch: Batch) -> list[Change]:
        keys = self._keys[stream]
        changes = []
        for number, row in enumerate(batch.data.to_pylist()):
            operation = OPERATIONS[0 if batch.ops is None else int(batch.ops[number])]
            time = None
            if batch.times is not None:
                time = pa.scalar(int(batch.times[number]), pa.timestamp("us", "UTC")).as_py()
            changes.append(Change(operation, {name: row[name] for name in keys}, row, time))
        return changes


def _key_columns(plan: Plan, stream: str) -> list[str]:
    """The columns of a stream that are its group's key, by the names that the query gives them."""
    stage = plan.stage_of(stream)
    node, last = stage.nodes[0], stage.nodes[-1]
    if not isinstance(node, AggregateNode) or not isinstance(last, ProjectNode):
        return []
    count = len(node.keys) + (2 if node.window is not None else 0)
    names = set(node.schema.names[:count])
    return [item.name for item in last.items if isinstance(item.expr, ColumnRef) and item.expr.name in names]


def _micros(time: datetime) -> int:
    aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    delta = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
