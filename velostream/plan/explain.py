"""The plan as data and as text: `command=explain`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from velostream.plan.nodes import (
    AggregateNode,
    AggregateSpec,
    FilterNode,
    Node,
    Plan,
    ProjectNode,
    ScanNode,
    Stage,
    WatermarkSpec,
)
from velostream.plan.written import written
from velostream.sql.typenames import type_name

EMISSION = {
    "final": "FINAL: a group once, when it is complete",
    "changes": "CHANGES: each changed group, once per {granularity}",
}
LATE = {
    "drop": "dropped and counted",
    "side_output": "written to late.ndjson and counted",
    "update": "taken until {allowed} after the window's end, the result sent again",
}


def describe_plan(
    plan: Plan, sources: Mapping[str, Mapping[str, str]], sinks: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """The plan, JSON-able. `sources` and `sinks` are what the connectors say of themselves."""
    return {
        "tasks": plan.tasks,
        "sources": [_scan(scan, sources.get(scan.source, {}), plan) for scan in plan.scans],
        "stages": [_stage(stage, plan) for stage in plan.stages],
        "sinks": [
            {"name": name, "stream": stream, **sinks.get(name, {})} for name, stream in plan.sinks.items()
        ],
    }


def _scan(scan: ScanNode, traits: Mapping[str, str], plan: Plan) -> dict[str, Any]:
    readers = [stage for stage in plan.stages if stage.input == scan.source]
    predicates = [
        written(node.predicate)
        for stage in readers
        for node in stage.nodes[:1]
        if isinstance(node, FilterNode)
    ]
    return {
        "name": scan.source,
        **traits,
        "bounded": scan.bounded,
        "columns": {field.name: type_name(field.type) for field in scan.schema},
        "predicates": predicates,
    }


def _stage(stage: Stage, plan: Plan) -> dict[str, Any]:
    described: dict[str, Any] = {"id": stage.id, "query": stage.query, "input": stage.input}
    # Keyed stages take columns that the planner has named; a person knows them by their expressions.
    names: dict[str, str] = {}
    if isinstance(stage.input, int) and isinstance(stage.nodes[0], AggregateNode):
        last = plan.stages[stage.input].nodes[-1]
        if isinstance(last, ProjectNode):
            names = {item.name: written(item.expr) for item in last.items}
    described["exchange"] = {
        "kind": stage.exchange.kind,
        "keys": [names.get(key, key) for key in stage.exchange.keys],
        "reason": stage.exchange.reason,
    }
    if stage.watermark is not None:
        described["watermark"] = _watermark(stage.watermark)
    described["operators"] = [_node(node, names) for node in stage.nodes]
    described["stream"] = stage.stream
    described["updating"] = stage.updating
    return described


def _watermark(spec: WatermarkSpec) -> dict[str, Any]:
    if spec.out_of_orderness_us is None:
        late = "none: disorder is unlimited, windows close at the end of the input"
    else:
        late = LATE[spec.late].format(allowed=duration(spec.allowed_lateness_us))
    disorder = spec.out_of_orderness_us
    return {
        "column": spec.column,
        "out_of_orderness": "unlimited" if disorder is None else duration(disorder),
        "max_ahead": None if spec.max_ahead_us is None else duration(spec.max_ahead_us),
        "late": spec.late,
        "late_records": late,
    }


def _node(node: Node, names: dict[str, str]) -> dict[str, Any]:
    if isinstance(node, FilterNode):
        return {"operator": "filter", "predicate": written(node.predicate, names)}
    if isinstance(node, AggregateNode):
        described = _aggregate(node, names)
        # What follows refers to keys and aggregates by the planner's names.
        keys = dict(zip(node.schema.names, described["keys"], strict=False))
        names.clear()
        names.update({**keys, **described["aggregates"]})
        if node.having is not None:
            described["having"] = written(node.having, names)
        return described
    return {"operator": "project", "columns": {item.name: written(item.expr, names) for item in node.items}}


def _aggregate(node: AggregateNode, names: Mapping[str, str]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operator": "aggregate",
        "keys": [names.get(key, key) for key in node.keys],
        "aggregates": {spec.name: _call(spec, names) for spec in node.aggregates},
        "emission": EMISSION[node.emit].format(granularity=node.granularity),
        "state": _state(node),
    }
    if node.window is not None:
        time = names.get(node.window.time, node.window.time)
        described["window"] = f"{node.window.kind} of {duration(node.window.size_us)} over {time}"
    return described


def _call(spec: AggregateSpec, names: Mapping[str, str]) -> str:
    argument = "*" if spec.argument is None else names.get(spec.argument, spec.argument)
    text = f"{spec.function.upper()}({'DISTINCT ' if spec.distinct else ''}{argument})"
    if spec.filter is None:
        return text
    return f"{text} FILTER (WHERE {names.get(spec.filter, spec.filter)})"


def _state(node: AggregateNode) -> str:
    if node.global_group:
        return "one group, in one lane"
    per = "group and open window" if node.window is not None else "group, kept until the input ends"
    return f"one row per {per}, in the lane of its key"


def duration(us: int) -> str:
    """Microseconds as a person writes them.

    >>> duration(300_000_000)
    '5m'
    """
    for unit, size in (
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("m", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1000),
    ):
        if us and us % size == 0:
            return f"{us // size}{unit}"
    return f"{us}us"


def explain_text(plan: Mapping[str, Any]) -> str:
    """The text form of `describe_plan`'s result, one line per fact, indented by what it belongs to."""
    lines: list[str] = []
    if plan["tasks"] > 1:
        lines.append(f"{plan['tasks']} tasks, each with its share of the partitions of every source")
    for source in plan["sources"]:
        lines.append(f"source {source['name']}, {'bounded' if source['bounded'] else 'unbounded'}")
        lines.append(f"  {_traits(source, ('name', 'columns', 'predicates', 'bounded'))}")
        columns = ", ".join(f"{name} {type_}" for name, type_ in source["columns"].items())
        lines.append(f"  decoded columns: {columns}")
        lines += [f"  pushed-down predicate: {predicate}" for predicate in source["predicates"]]
    for stage in plan["stages"]:
        lines += _stage_lines(stage)
    for sink in plan["sinks"]:
        lines.append(f"sink {sink['name']} takes {sink['stream']}")
        lines.append(f"  {_traits(sink, ('name', 'stream'))}")
    return "\n".join(lines)


def _traits(described: Mapping[str, Any], shown: tuple[str, ...]) -> str:
    """What a connector says of itself, but for what is `shown` elsewhere."""
    return ", ".join(f"{key} {value}" for key, value in described.items() if key not in shown)


def _stage_lines(stage: Mapping[str, Any]) -> list[str]:
    taken = stage["input"] if isinstance(stage["input"], str) else f"stage {stage['input']}"
    exchange = stage["exchange"]
    keys = f" on {', '.join(exchange['keys'])}" if exchange["keys"] else ""
    lines = [
        f"stage {stage['id']} of {stage['query']}, from {taken}",
        f"  exchange: {exchange['kind']}{keys} ({exchange['reason']})",
    ]
    if "watermark" in stage:
        watermark = stage["watermark"]
        lines.append(
            f"  watermark: {watermark['column']}, out of order by up to {watermark['out_of_orderness']}"
        )
        lines.append(f"  late records: {watermark['late_records']}")
        if watermark["max_ahead"] is not None:
            lines.append(f"  ahead of the clock by more than {watermark['max_ahead']}: record error")
    for operator in stage["operators"]:
        lines += _operator_lines(operator)
    if stage["stream"] is not None:
        lines.append(f"  gives {stage['stream']}{' (rows are updated later)' if stage['updating'] else ''}")
    return lines


def _operator_lines(operator: Mapping[str, Any]) -> list[str]:
    kind = operator["operator"]
    if kind == "filter":
        return [f"  filter: {operator['predicate']}"]
    if kind == "project":
        columns = ", ".join(
            name if text == name else f"{text} AS {name}" for name, text in operator["columns"].items()
        )
        return [f"  project: {columns}"]
    aggregates = ", ".join(operator["aggregates"].values())
    lines = [f"  aggregate: {aggregates or 'distinct keys'}"]
    facts = ("window", "having", "emission", "state")
    return lines + [f"    {fact}: {operator[fact]}" for fact in facts if fact in operator]
