"""Whether a job can go on from a saved state: what it was then against what it is now.

State says nothing of the query that made it, so the manifest has a description of the job. Stages go by
their query's name. What a stage aggregates is described by expressions over the source's columns, however
many streams lie between; the text of the SQL, projections behind the last aggregate, sinks and lanes are no
part of it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from velostream.errors import StateError
from velostream.plan.explain import duration
from velostream.plan.nodes import AggregateNode, AggregateSpec, FilterNode, Plan, Stage
from velostream.plan.written import written
from velostream.sql.expressions import ColumnRef, Expr
from velostream.sql.typenames import type_name
from velostream.state.manifest import Manifest

_PLAIN = re.compile(r"\w+|\w+\([^()]*\)")
_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Difference:
    """What of a stage (by its query's name) or a source was `saved` in another way than it is `now`."""

    of: str
    what: str
    saved: str
    now: str


class IncompatibleState(StateError):
    """The saved state is not that of the job; `differences` is all that differs."""

    def __init__(self, manifest: Manifest, differences: Sequence[Difference]) -> None:
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest.time))
        super().__init__(
            f"the state that job '{manifest.job}' saved at {when} is not that of the job as it is now",
            hint="start afresh with state=reset, or undo the change",
        )
        self.differences = tuple(differences)

    def render(self) -> str:
        """The message, a table of the differences (old → new), the way out."""
        rows = [(found.of, found.what, found.saved) for found in self.differences]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [self.message]
        for row, found in zip(rows, self.differences, strict=True):
            cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
            lines.append("  ".join(["", *cells, "→", found.now]))
        return "\n".join([*lines, str(self.hint)])


def check_compatible(manifest: Manifest, now: Mapping[str, Any]) -> list[str]:
    """Raise IncompatibleState unless a job that `describe_job` describes as `now` can go on from the commit.

    Gives what is new in it, as sentences: a new query sees nothing of what was read before.
    """
    differences = find_differences(manifest.description, now)
    if differences:
        raise IncompatibleState(manifest, differences)
    saved = manifest.description
    return [
        *(f"source '{name}' is new: it is read from its start" for name in _new("sources", saved, now)),
        *(
            f"the query of '{name}' is new: it counts what is read from now on"
            for name in _new("stages", saved, now)
        ),
    ]


def _new(kind: str, saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [name for name in now[kind] if name not in saved.get(kind, {})]


# --- what a job is ------------------------------------------------------------------------------


def describe_job(
    plan: Plan,
    operators: Mapping[str, Mapping[str, Any]],
    partitioned: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Any]:
    """JSON: the columns that are read of each source, and each keyed stage by its query's name.

    `operators` is `describe_state` of each keyed stage's operator. `partitioned` has the number of partitions
    of sources where state is wherever a partition is read.
    """
    return {
        "partitioned": dict(partitioned),
        "sources": {
            scan.source: {field.name: type_name(field.type) for field in scan.schema} for scan in plan.scans
        },
        "stages": {
            stage.query: {**_stage(plan, stage, node), "state": dict(operators[stage.query])}
            for stage in plan.stages
            if isinstance(node := stage.nodes[0], AggregateNode)
        },
    }


@dataclass(slots=True)
class _Rows:
    """Where rows come from: a source or a keyed stage, what they have passed, what their columns are there.

    A column that is not in `columns` has its own name there, too.
    """

    origin: str
    passed: list[str]
    columns: dict[str, str]

    def text(self, expr: Expr) -> str:
        """The expression over the columns of the origin."""
        if isinstance(expr, ColumnRef):
            return self.column(expr.name)
        inner = {name: text if _PLAIN.fullmatch(text) else f"({text})" for name, text in self.columns.items()}
        return written(expr, inner)

    def column(self, name: str) -> str:
        return self.columns.get(name, name)


def _rows(plan: Plan, input: str | int) -> _Rows:
    """The rows that a source or the stage of that number gives."""
    if isinstance(input, str):
        return _Rows(input, [], {})
    stage = plan.stages[input]
    rows = _rows(plan, stage.input)
    for node in stage.nodes:
        if isinstance(node, AggregateNode):
            columns = dict(zip(node.schema.names, _results(node, rows), strict=True))
            rows = _Rows(stage.query, [], columns)
            if node.having is not None:
                rows.passed.append(rows.text(node.having))
        elif isinstance(node, FilterNode):
            rows.passed.append(rows.text(node.predicate))
        else:
            rows.columns = {item.name: rows.text(item.expr) for item in node.items}
    return rows


def _results(node: AggregateNode, rows: _Rows) -> Iterator[str]:
    """What the columns are that leave an aggregation."""
    yield from map(rows.column, node.keys)
    yield from ("_window_start", "_window_end") if node.window is not None else ()
    for spec in node.aggregates:
        yield _call(spec, rows)


def _call(spec: AggregateSpec, rows: _Rows) -> str:
    argument = "*" if spec.argument is None else rows.column(spec.argument)
    text = f"{spec.function.upper()}({'DISTINCT ' if spec.distinct else ''}{argument})"
    return text if spec.filter is None else f"{text} FILTER (WHERE {rows.column(spec.filter)})"


def _stage(plan: Plan, stage: Stage, node: AggregateNode) -> dict[str, Any]:
    rows = _rows(plan, stage.input)
    window = None
    if node.window is not None:
        window = f"{node.window.kind} of {duration(node.window.size_us)} over {rows.column(node.window.time)}"
    return {
        "input": rows.origin,
        "where": rows.passed,
        "keys": [f"{rows.column(key)} {type_name(node.input.field(key).type)}" for key in node.keys],
        "window": window,
        "aggregates": [f"{_call(spec, rows)} {type_name(spec.type)}" for spec in node.aggregates],
    }


# --- what differs -------------------------------------------------------------------------------


def find_differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """All that keeps a job from going on, stages first; empty when it can."""
    return [
        *_stage_differences(saved.get("stages", {}), now["stages"]),
        *_source_differences(saved.get("sources", {}), now["sources"]),
        *_partition_differences(saved.get("partitioned", {}), now.get("partitioned", {})),
    ]


def _partition_differences(saved: Mapping[str, int], now: Mapping[str, int]) -> Iterator[Difference]:
    """Keys are in other partitions when there are more of them."""
    for name, count in saved.items():
        if now.get(name, count) != count:
            yield Difference(name, "partitions", str(count), str(now[name]))


def _stage_differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    for name, before in saved.items():
        if name not in now:
            yield Difference(name, "query", _text(before.get("aggregates")), "gone")
            continue
        query = [*_fields(name, _without_state(before), _without_state(now[name]))]
        # What the operator says of its state is often the same in other words.
        yield from query or _fields(name, before.get("state", {}), now[name].get("state", {}))


def _without_state(stage: Mapping[str, Any]) -> dict[str, Any]:
    return {what: value for what, value in stage.items() if what != "state"}


def _source_differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    for name, columns in saved.items():
        if name not in now:
            yield Difference(name, "source", ", ".join(columns), "gone")
            continue
        for column, kind in columns.items():
            # A column that is not read any more is no difference.
            if now[name].get(column, kind) != kind:
                yield Difference(name, f"column {column}", kind, now[name][column])


def _fields(of: str, saved: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    for what in dict.fromkeys((*saved, *now)):
        before, after = saved.get(what), now.get(what)
        if before != after:
            yield Difference(of, what, _text(before), _text(after))


def _text(value: Any) -> str:
    """JSON for a person."""
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_text(item)}" for key, item in value.items()) or _NOTHING
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or _NOTHING
    return _NOTHING if value is None else str(value)
