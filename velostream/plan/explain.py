"""The plan as data and as text: `command=explain`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from velostream.plan.nodes import AggregateNode, FilterNode, Node, Plan, ProjectNode, ScanNode, Stage
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
        "sources": [_scan(scan, sources.get(scan.source, {}), plan) for scan in plan.scans],
        "stages": [_stage(stage) for stage in plan.stages],
        "sinks": [
            {"name": name, "stream": stream, **sinks.get(name, {})} for name, stream in plan.sinks.items()
        ],
    }


def _scan(scan: ScanNode, traits: Mapping[str, str], plan: Plan) -> dict[str, Any]:
    readers = [stage for stage in plan.stages if stage.input == scan.source]
    predicates = [
        str(node.predicate) for stage in readers for node in stage.nodes[:1] if isinstance(node, FilterNode)
    ]
    return {
        "name": scan.source,
        **traits,
        "bounded": scan.bounded,
        "columns": {field.name: type_name(field.type) for field in scan.schema},
        "predicates": predicates,
    }


def _stage(stage: Stage) -> dict[str, Any]:
    described: dict[str, Any] = {
        "id": stage.id,
        "query": stage.query,
        "input": stage.input,
        "exchange": {
            "kind": stage.exchange.kind,
            "keys": list(stage.exchange.keys),
            "reason": stage.exchange.reason,
        },
        "operators": [_node(node) for node in stage.nodes],
        "stream": stage.stream,
        "updating": stage.updating,
    }
    if stage.watermark is not None:
        spec = stage.watermark
        allowed = _duration(spec.allowed_lateness_us)
        described["watermark"] = {
            "column": spec.column,
            "out_of_orderness": "unlimited"
            if spec.out_of_orderness_us is None
            else _duration(spec.out_of_orderness_us),
            "max_ahead": None if spec.max_ahead_us is None else _duration(spec.max_ahead_us),
            "late": spec.late,
            "late_records": LATE[spec.late].format(allowed=allowed)
            if spec.out_of_orderness_us is not None
            else "none: disorder is unlimited, windows close at the end of the input",
        }
    return described


def _node(node: Node) -> dict[str, Any]:
    if isinstance(node, FilterNode):
        return {"operator": "filter", "predicate": str(node.predicate)}
    if isinstance(node, ProjectNode):
        return {"operator": "project", "columns": {item.name: str(item.expr) for item in node.items}}
    return _aggregate(node)


def _aggregate(node: AggregateNode) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operator": "aggregate",
        "keys": list(node.keys),
        "aggregates": {
            spec.name: f"{spec.function}({'DISTINCT ' if spec.distinct else ''}{spec.argument or '*'})"
            + (f" FILTER ({spec.filter})" if spec.filter else "")
            for spec in node.aggregates
        },
        "emission": EMISSION[node.emit].format(granularity=node.granularity),
        "state": _state(node),
    }
    if node.window is not None:
        described["window"] = (
            f"{node.window.kind} of {_duration(node.window.size_us)} over {node.window.time}"
        )
    if node.having is not None:
        described["having"] = str(node.having)
    return described


def _state(node: AggregateNode) -> str:
    if node.global_group:
        return "one group, in one lane"
    per = "group and open window" if node.window is not None else "group, kept until the input ends"
    return f"one row per {per}, in the lane of its key"


def _duration(us: int) -> str:
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
    for source in plan["sources"]:
        traits = ", ".join(
            str(value)
            for key, value in source.items()
            if key not in ("name", "columns", "predicates", "bounded")
        )
        lines.append(f"source {source['name']} ({traits}; {'bounded' if source['bounded'] else 'unbounded'})")
        columns = ", ".join(f"{name} {type_}" for name, type_ in source["columns"].items())
        lines.append(f"  decoded columns: {columns}")
        lines += [f"  pushed-down predicate: {predicate}" for predicate in source["predicates"]]
    for stage in plan["stages"]:
        lines += _stage_lines(stage)
    for sink in plan["sinks"]:
        traits = ", ".join(str(value) for key, value in sink.items() if key not in ("name", "stream"))
        lines.append(f"sink {sink['name']} ({traits}) takes {sink['stream']}")
    return "\n".join(lines)


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
    aggregates = ", ".join(f"{text} AS {name}" for name, text in operator["aggregates"].items())
    lines = [f"  aggregate: {aggregates or 'distinct keys'}"]
    facts = ("window", "having", "emission", "state")
    return lines + [f"    {fact}: {operator[fact]}" for fact in facts if fact in operator]
