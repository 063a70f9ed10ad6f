"""The physical plan: frozen data, printed by `explain`, made into operators by the runtime.

A `Stage` is a chain of nodes between exchanges. A query becomes one stage when it needs no exchange,
else two: what runs where the rows are read, and what runs where their key lives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal as Choice

import pyarrow as pa

from velostream.sql.expressions import Expr
from velostream.sql.logical import Item


@dataclass(frozen=True, slots=True)
class WatermarkSpec:
    """How time goes on for a query with a window, told by the column `column` of its input.

    `out_of_orderness_us` is None when disorder is unlimited: nothing is late, windows close at the end.
    `max_ahead_us` and `idle_timeout_us` are None for bounded sources.
    """

    column: str
    out_of_orderness_us: int | None
    max_ahead_us: int | None = None
    idle_timeout_us: int | None = None
    late: Choice["drop", "side_output", "update"] = "drop"
    allowed_lateness_us: int = 0


@dataclass(frozen=True, slots=True)
class ScanNode:
    """A source: the columns that are decoded, in order; `schema` has just these."""

    source: str
    columns: tuple[str, ...]
    schema: pa.Schema
    bounded: bool


@dataclass(frozen=True, slots=True)
class FilterNode:
    """Keeps the rows for which `predicate` is TRUE; the others count as filtered."""

    predicate: Expr
    schema: pa.Schema


@dataclass(frozen=True, slots=True)
class ProjectNode:
    """Columns computed from columns."""

    items: tuple[Item, ...]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([pa.field(item.name, item.expr.type) for item in self.items])


@dataclass(frozen=True, slots=True)
class AggregateSpec:
    """One aggregate over columns of the input: `argument` and `filter` are column names, or None.

    `filter` is a BOOLEAN column: only rows where it is TRUE count. `argument` is None for COUNT(*).
    """

    name: str
    function: str
    argument: str | None
    type: pa.DataType
    distinct: bool = False
    filter: str | None = None


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """`kind` is a name of the window registry; `time` a TIMESTAMP column of the input."""

    kind: str
    time: str
    size_us: int


@dataclass(frozen=True, slots=True)
class AggregateNode:
    """Groups rows by key columns and window.

    `input` is the schema of the rows that arrive, `schema` that of the rows that leave: the key columns,
    `_window_start` and `_window_end` when windowed, then the aggregates. `having` sees `schema`.
    `emit` final: a group is sent once, when its window closes or the input ends; changes: after each block
    (`granularity` block) or record. `global_group`: neither keys nor window, one row even without input.
    """

    keys: tuple[str, ...]
    aggregates: tuple[AggregateSpec, ...]
    window: WindowSpec | None
    input: pa.Schema
    schema: pa.Schema
    having: Expr | None = None
    emit: Choice["final", "changes"] = "final"
    granularity: Choice["block", "record"] = "block"
    late: Choice["drop", "side_output", "update"] = "drop"
    allowed_lateness_us: int = 0

    @property
    def global_group(self) -> bool:
        return not self.keys and self.window is None


Node = FilterNode | ProjectNode | AggregateNode


@dataclass(frozen=True, slots=True)
class Exchange:
    """How rows reach a stage: `none` (they are in the task of their key), `local` (there is one task: to the
    lane of their key group), `topic` (through a topic to the task of their key). Where it has keys, lanes of
    the task share its rows in any case.

    `keys` are the columns hashed; `reason` says why, for `explain`.
    """

    kind: Choice["none", "local", "topic"]
    keys: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """`input` is a source's name, or the id of the stage whose rows it takes.

    `stream` is the name under which its rows are known (sinks and later queries take them), or None when
    they go only to the query's second stage. `watermark` is set where lateness is judged: on the rows that
    enter the first stage of a windowed query whose rows come from a source without an exchange between.
    `updating` says that its rows carry operations (insert, update, delete). `key` are the columns that the
    query has declared to be the key of its rows.
    """

    id: int
    query: str
    input: str | int
    exchange: Exchange
    nodes: tuple[Node, ...]
    schema: pa.Schema
    stream: str | None = None
    watermark: WatermarkSpec | None = None
    updating: bool = False
    key: tuple[str, ...] = ()

    @property
    def exchange_name(self) -> str:
        """What takes its rows to it where its exchange is a topic: as a sink and as a source."""
        return f"{self.query}-exchange"


@dataclass(frozen=True, slots=True)
class Plan:
    """`sinks` maps a sink's name to the stream it takes. Stages come after the stages they read. `tasks` is
    how many the job is divided into."""

    scans: tuple[ScanNode, ...]
    stages: tuple[Stage, ...]
    sinks: dict[str, str] = field(default_factory=dict)
    tasks: int = 1

    def exchanged(self) -> list[tuple[Stage, Stage]]:
        """The stages that rows reach through a topic, each behind the one that gives these rows."""
        return [
            (self.stages[stage.input], stage)
            for stage in self.stages
            if stage.exchange.kind == "topic" and isinstance(stage.input, int)
        ]

    def stage_of(self, stream: str) -> Stage:
        """The stage that makes that stream; KeyError when there is none."""
        for stage in self.stages:
            if stage.stream == stream:
                return stage
        raise KeyError(stream)
