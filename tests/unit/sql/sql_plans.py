"""A stream of every type, and a plan as text: what the tests of the binder share."""

from __future__ import annotations

import pyarrow as pa

from velostream.sql.binder import StreamInfo, bind
from velostream.sql.logical import Aggregate, Filter, Project, Relation, Scan
from velostream.sql.parser import parse
from velostream.sql.typenames import type_name

TRADES = StreamInfo(
    "trades",
    pa.schema(
        [
            ("symbol", pa.string()),
            ("price", pa.float64()),
            ("fee", pa.decimal128(10, 2)),
            ("quantity", pa.int32()),
            ("volume", pa.int64()),
            ("day", pa.date32()),
            ("ts", pa.timestamp("us")),
            ("open", pa.bool_()),
        ]
    ),
    event_time="ts",
    bounded=True,
)
CLOCKLESS = StreamInfo("clockless", pa.schema([("a", pa.int64()), ("A b", pa.int64()), ("day", pa.date32())]))
TWINS = StreamInfo("twins", pa.schema([("a", pa.int64()), ("A", pa.int64())]))
CATALOG = {stream.name: stream for stream in (TRADES, CLOCKLESS, TWINS)}


def bound(text: str) -> Relation:
    """The plan of a script's last query."""
    return bind(parse(text), CATALOG).queries[-1].root


def plan(text: str) -> list[str]:
    """The plan of a script's last query, one line per node, from the outside in."""
    return list(_lines(bound(text)))


def items(text: str) -> list[str]:
    """`expression : type` of each item of `SELECT text FROM trades`."""
    root = bound(f"SELECT {text} FROM trades")
    assert isinstance(root, Project)
    return [f"{item.expr} : {type_name(item.expr.type)}" for item in root.items]


def names(text: str) -> list[str]:
    """The columns of `SELECT text FROM trades`."""
    return list(bound(f"SELECT {text} FROM trades").schema.names)


def _lines(relation: Relation) -> list[str]:
    match relation:
        case Scan():
            return [f"scan {relation.stream}"]
        case Filter():
            line = f"filter {relation.predicate}"
        case Project():
            line = "project " + ", ".join(f"{item.name} = {item.expr}" for item in relation.items)
        case Aggregate():
            parts = [f"{key.name} = {key.expr}" for key in relation.keys]
            for call in relation.aggregates:
                argument = "*" if call.argument is None else str(call.argument)
                distinct = "DISTINCT " if call.distinct else ""
                where = f" FILTER {call.filter}" if call.filter is not None else ""
                parts.append(f"{call.name} = {call.function}({distinct}{argument}){where}")
            window = relation.window
            over = f" over {window.kind}({window.time}, {window.size_us} us)" if window is not None else ""
            line = "aggregate " + ", ".join(parts) + over
    return [line, *_lines(relation.input)]
