"""What tells the rows of a stream apart."""

from __future__ import annotations

from velostream.plan.nodes import AggregateNode, Plan, ProjectNode, Stage
from velostream.sql.expressions import ColumnRef


def stream_key(plan: Plan, stream: str) -> tuple[str, ...]:
    """The key columns of a stream, by the names that it gives them; () when it has none, or not all of them.

    They are those of PRIMARY KEY, else those of GROUP BY. Where rows are updated, these identify a row: a
    window's start is one of them.
    """
    stage = plan.stage_of(stream)
    return _key_of(plan, stage, stage.updating)


def _key_of(plan: Plan, stage: Stage, updating: bool) -> tuple[str, ...]:
    if stage.key:
        return stage.key
    key: tuple[str, ...] = ()
    if isinstance(stage.input, int):
        above = next(other for other in plan.stages if other.id == stage.input)
        key = _key_of(plan, above, updating)
    for node in stage.nodes:
        if isinstance(node, AggregateNode):
            windowed = updating and node.window is not None
            key = (*node.keys, "_window_start") if windowed else node.keys
        elif isinstance(node, ProjectNode):
            names = {item.expr.name: item.name for item in node.items if isinstance(item.expr, ColumnRef)}
            key = tuple(names[column] for column in key) if set(key) <= names.keys() else ()
    return key
