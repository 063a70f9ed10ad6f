"""Logical plan to physical: which stages there are, what is exchanged and why, which columns are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal as Choice

import pyarrow as pa

from velostream.errors import UnsupportedError, VelostreamError, Where, raise_all
from velostream.plan.nodes import (
    AggregateNode,
    AggregateSpec,
    Exchange,
    FilterNode,
    Node,
    Plan,
    ProjectNode,
    ScanNode,
    Stage,
    WatermarkSpec,
    WindowSpec,
)
from velostream.sql.expressions import ColumnRef, Expr
from velostream.sql.logical import (
    Aggregate,
    AggregateCall,
    Filter,
    Item,
    Project,
    Query,
    Relation,
    Scan,
    Script,
)


@dataclass(frozen=True, slots=True)
class SourceTraits:
    """What the planner must know of a source. `watermark.column` is empty: a query's window names it.

    Rows that are equal in the columns `partitioned_by` are in one partition, and so in one task; () when that
    is not known.
    """

    schema: pa.Schema
    bounded: bool
    watermark: WatermarkSpec
    partitioned_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where the rows of a stream come from: `input` as in Stage, and the traits they inherit.

    `source` is set while no exchange lies between the source and the rows. Rows that are equal in the columns
    `partitioned_by` are in one task; () when that is not known.
    """

    input: str | int
    bounded: bool
    updating: bool
    source: str | None
    partitioned_by: tuple[str, ...]


def plan(
    script: Script,
    sources: Mapping[str, SourceTraits],
    sinks: Mapping[str, str],
    *,
    granularity: str = "block",
    tasks: int = 1,
) -> Plan:
    """The physical plan of a bound script.

    `sinks` maps each sink to the stream it takes (already resolved). `tasks` is how many the job is divided
    into. Raises UnsupportedError or Problems.
    """
    builder = _Builder(script, sources, granularity, tasks)
    errors: list[VelostreamError] = []
    for number, query in enumerate(script.queries):
        try:
            builder.add(query, query.name or result_name(number, script))
        except VelostreamError as error:
            errors.append(error)
    raise_all(errors)
    return Plan(builder.scans(), tuple(builder.stages), dict(sinks), tasks)


def result_name(number: int, script: Script) -> str:
    """The stream name of a bare SELECT: `result`, or `result_<n>` where there are several."""
    bare = [query for query in script.queries if query.name is None]
    return "result" if len(bare) == 1 else f"result_{number + 1}"


class _Builder:
    def __init__(
        self, script: Script, sources: Mapping[str, SourceTraits], granularity: str, tasks: int
    ) -> None:
        self.script = script
        self.sources = sources
        self.granularity = granularity
        self.tasks = tasks
        self.stages: list[Stage] = []
        self.read: dict[str, dict[str, None]] = {}
        self.origins = {
            name: _Origin(name, traits.bounded, False, name, traits.partitioned_by)
            for name, traits in sources.items()
        }

    def scans(self) -> tuple[ScanNode, ...]:
        nodes = []
        for name, columns in self.read.items():
            traits = self.sources[name]
            # The source's own order, so that a decoder meets its keys as they come.
            order = tuple(field.name for field in traits.schema if field.name in columns)
            schema = pa.schema([traits.schema.field(column) for column in order])
            nodes.append(ScanNode(name, order, schema, traits.bounded))
        return tuple(nodes)

    def add(self, query: Query, stream: str) -> None:
        project, having, aggregate, where, scan = _parts(query.root)
        origin = self.origins[scan.stream]
        if origin.updating and (where is not None or aggregate is not None):
            what = "an aggregate" if aggregate is not None else "a WHERE"
            raise UnsupportedError(
                f"{what} over '{scan.stream}', whose rows are updated later, is not supported",
                where=self._where(query),
                hint=f"let '{scan.stream}' EMIT FINAL, or put the condition into its HAVING",
            )
        if origin.source is not None:
            self._need(origin.source, scan, project, aggregate, where)
        if aggregate is None:
            self._stateless(query, stream, origin, project, where)
        else:
            self._keyed(query, stream, origin, project, having, aggregate, where)

    def _stateless(
        self, query: Query, stream: str, origin: _Origin, project: Project, where: Expr | None
    ) -> None:
        nodes: list[Node] = []
        if where is not None:
            nodes.append(FilterNode(where, project.input.schema))
        nodes.append(ProjectNode(project.items))
        exchange = Exchange("none", reason="no key: rows stay where they are read")
        stage = self._stage(
            stream, origin.input, exchange, nodes, project.schema, stream=stream, key=query.key
        )
        if origin.updating:
            self.stages[-1] = stage = replace(stage, updating=True)
        names = _renamed(project.items)
        self.origins[stream] = replace(
            origin, input=stage.id, partitioned_by=_kept(origin.partitioned_by, names)
        )

    def _keyed(
        self,
        query: Query,
        stream: str,
        origin: _Origin,
        project: Project,
        having: Expr | None,
        aggregate: Aggregate,
        where: Expr | None,
    ) -> None:
        emit = query.emit or ("final" if aggregate.window or origin.bounded else "changes")
        if emit == "final" and aggregate.window is None and not origin.bounded:
            stream_read = _parts(query.root)[4].stream
            raise UnsupportedError(
                f"EMIT FINAL without a window never sends a row, since '{stream_read}' has no end",
                where=self._where(query),
                hint="add a WINDOW, or use EMIT CHANGES",
            )
        inputs = _Inputs()
        keys = tuple(inputs.add(key.name, key.expr) for key in aggregate.keys)
        # Ordered by what they are, wherever the SELECT has them: saved state must not depend on that.
        calls = sorted(aggregate.aggregates, key=str)
        specs = tuple(_spec(call, at, inputs) for at, call in enumerate(calls))
        columns = aggregate.schema.names[: len(aggregate.schema) - len(calls)]
        columns += [call.name for call in calls]
        window = None
        if aggregate.window is not None:
            time = ColumnRef(name=aggregate.window.time, type=pa.timestamp("us"))
            window = WindowSpec(aggregate.window.kind, inputs.add("_time", time), aggregate.window.size_us)
        if not inputs.items:
            # A batch knows its number of rows by its columns, so COUNT(*) alone takes one along.
            # It is one that is read anyway, the first of the condition, where there is one.
            read = where.columns() if where is not None else ()
            field = aggregate.input.schema.field(read[0] if read else 0)
            inputs.add("_row", ColumnRef(name=field.name, type=field.type))
        nodes: list[Node] = []
        if where is not None:
            nodes.append(FilterNode(where, aggregate.input.schema))
        first = ProjectNode(tuple(inputs.items))
        nodes.append(first)

        watermark = None
        if aggregate.window is not None and origin.source is not None:
            watermark = replace(self.sources[origin.source].watermark, column=aggregate.window.time)
        late = watermark.late if watermark is not None else "drop"
        updating = emit == "changes" or late == "update"
        before = self._stage(
            stream,
            origin.input,
            Exchange("none", reason="read, filtered and projected where the block is"),
            nodes,
            first.schema,
            watermark=watermark,
        )
        node = AggregateNode(
            keys=keys,
            aggregates=specs,
            window=window,
            input=first.schema,
            schema=pa.schema([aggregate.schema.field(column) for column in columns]),
            having=having,
            emit=emit,
            granularity="record" if self.granularity == "record" else "block",
            late=late,
            allowed_lateness_us=watermark.allowed_lateness_us if watermark is not None else 0,
        )
        # The columns that the rows come with and the keys are, by the names of the keys.
        names = {key.expr.name: key.name for key in aggregate.keys if isinstance(key.expr, ColumnRef)}
        partitioned = _kept(origin.partitioned_by, names)
        stage = self._stage(
            stream,
            before.id,
            self._exchange(keys, origin.partitioned_by if partitioned else ()),
            [node, ProjectNode(project.items)],
            project.schema,
            stream=stream,
            updating=updating,
            key=query.key,
        )
        together = _kept(partitioned or keys, _renamed(project.items))
        self.origins[stream] = _Origin(stage.id, origin.bounded, updating, None, together)

    def _exchange(self, keys: tuple[str, ...], partitioned: tuple[str, ...]) -> Exchange:
        """How rows reach the stage of their key; those equal in the columns `partitioned`, of the keys, are
        in one task."""
        kind: Choice["local", "topic"] = "local" if self.tasks == 1 else "topic"
        if self.tasks > 1 and partitioned:
            return Exchange("none", keys, f"rows are partitioned by {', '.join(partitioned)}")
        place = "lane" if kind == "local" else "task"
        what = "rows of one group" if keys else "one group: all rows"
        return Exchange(kind, keys, f"{what} meet in one {place}")

    def _stage(
        self,
        query: str,
        input: str | int,
        exchange: Exchange,
        nodes: Sequence[Node],
        schema: pa.Schema,
        *,
        stream: str | None = None,
        watermark: WatermarkSpec | None = None,
        updating: bool = False,
        key: tuple[str, ...] = (),
    ) -> Stage:
        stage = Stage(
            len(self.stages), query, input, exchange, tuple(nodes), schema, stream, watermark, updating, key
        )
        self.stages.append(stage)
        return stage

    def _need(
        self, source: str, scan: Scan, project: Project, aggregate: Aggregate | None, where: Expr | None
    ) -> None:
        """Note which columns the query reads, when it reads the source itself."""
        if self.origins[scan.stream].input != source:
            return
        columns = self.read.setdefault(source, {})
        expressions: list[Expr] = [] if where is None else [where]
        if aggregate is None:
            expressions += [item.expr for item in project.items]
        else:
            expressions += [key.expr for key in aggregate.keys]
            for call in aggregate.aggregates:
                expressions += [e for e in (call.argument, call.filter) if e is not None]
            if aggregate.window is not None:
                columns[aggregate.window.time] = None
        for expression in expressions:
            columns.update(dict.fromkeys(expression.columns()))
        if not columns or not any(expression.columns() for expression in expressions):
            columns[scan.schema.field(0).name] = None

    def _where(self, query: Query) -> Where | None:
        if query.span is None:
            return None
        return Where.in_text(self.script.text, *query.span, file=self.script.file)


class _Inputs:
    """The columns that go to an aggregate: each expression once; plain columns keep their buffers."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._names: dict[Expr, str] = {}

    def add(self, wanted: str, expr: Expr) -> str:
        if expr in self._names:
            return self._names[expr]
        name = wanted
        taken = {item.name for item in self.items}
        while name in taken:
            name = f"{name}_"
        self.items.append(Item(name, expr))
        self._names[expr] = name
        return name


def _spec(call: AggregateCall, at: int, inputs: _Inputs) -> AggregateSpec:
    argument = None if call.argument is None else inputs.add(f"_a{at}_value", call.argument)
    condition = None if call.filter is None else inputs.add(f"_a{at}_filter", call.filter)
    return AggregateSpec(call.name, call.function, argument, call.type, call.distinct, condition)


def _parts(root: Relation) -> tuple[Project, Expr | None, Aggregate | None, Expr | None, Scan]:
    """Project, HAVING, Aggregate, WHERE and Scan of a query's tree."""
    assert isinstance(root, Project)
    having = aggregate = where = None
    node = root.input
    if isinstance(node, Filter) and isinstance(node.input, Aggregate):
        having, node = node.predicate, node.input
    if isinstance(node, Aggregate):
        aggregate, node = node, node.input
    if isinstance(node, Filter):
        where, node = node.predicate, node.input
    assert isinstance(node, Scan)
    return root, having, aggregate, where, node


def _renamed(items: Sequence[Item]) -> dict[str, str]:
    """New names of columns that a projection only passes on."""
    return {item.expr.name: item.name for item in items if isinstance(item.expr, ColumnRef)}


def _kept(columns: tuple[str, ...], names: Mapping[str, str]) -> tuple[str, ...]:
    """The columns by their new names; () unless all of them are there."""
    return tuple(names[column] for column in columns) if set(columns) <= names.keys() else ()
