"""The logical plan: what a script asks for, bound and typed, nothing said about how it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal as Choice

import pyarrow as pa

from velostream.sql.expressions import Expr, Span

WINDOW_START = "_window_start"
WINDOW_END = "_window_end"


@dataclass(frozen=True, slots=True)
class Item:
    """A named expression of a SELECT list or of GROUP BY."""

    name: str
    expr: Expr


@dataclass(frozen=True, slots=True)
class AggregateCall:
    """`function([DISTINCT] argument) FILTER (WHERE filter)` as the output column `name` of `type`.

    `argument` is None for COUNT(*). `function` is a name of the aggregate registry.
    """

    name: str
    function: str
    argument: Expr | None
    type: pa.DataType
    distinct: bool = False
    filter: Expr | None = None
    span: Span | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        argument = "*" if self.argument is None else str(self.argument)
        call = f"{self.function}({'DISTINCT ' if self.distinct else ''}{argument})"
        return call if self.filter is None else f"{call} FILTER (WHERE {self.filter})"


@dataclass(frozen=True, slots=True)
class Window:
    """A time window; `kind` is a name of the window registry, `time` the TIMESTAMP column of the input."""

    kind: str
    time: str
    size_us: int
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Scan:
    """All columns of a stream: a source of the job, or the output of an earlier query of the script."""

    stream: str
    schema: pa.Schema


@dataclass(frozen=True, slots=True)
class Filter:
    input: Relation
    predicate: Expr

    @property
    def schema(self) -> pa.Schema:
        return self.input.schema


@dataclass(frozen=True, slots=True)
class Project:
    input: Relation
    items: tuple[Item, ...]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([pa.field(item.name, item.expr.type) for item in self.items])


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Output: the keys in order, `_window_start` and `_window_end` when windowed, the aggregates in order.

    No keys and no window is one group over everything, which has a row even when there is no input.
    """

    input: Relation
    keys: tuple[Item, ...]
    aggregates: tuple[AggregateCall, ...]
    window: Window | None

    @property
    def schema(self) -> pa.Schema:
        fields = [pa.field(key.name, key.expr.type) for key in self.keys]
        if self.window is not None:
            fields += [pa.field(WINDOW_START, pa.timestamp("us")), pa.field(WINDOW_END, pa.timestamp("us"))]
        return pa.schema(fields + [pa.field(call.name, call.type) for call in self.aggregates])


Relation = Scan | Filter | Project | Aggregate


@dataclass(frozen=True, slots=True)
class Query:
    """One statement. `name` is the stream or table that it creates, None for a bare SELECT.

    The tree is Project(Filter?(Aggregate?(Filter?(Scan)))): the outer Filter is HAVING. `key` are the columns
    of its PRIMARY KEY, in the order of the SELECT list; () where it has none.
    """

    name: str | None
    kind: Choice["stream", "table", "select"]
    root: Relation
    emit: Choice["changes", "final"] | None
    options: dict[str, str] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Script:
    """All queries in order, with their text (for error excerpts)."""

    text: str
    file: str | None
    queries: tuple[Query, ...]
