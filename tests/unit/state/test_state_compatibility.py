"""Which changes of a job its saved state survives."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from velostream.plan.nodes import AggregateNode, WatermarkSpec
from velostream.plan.planner import SourceTraits, plan, result_name
from velostream.sql.binder import StreamInfo, bind
from velostream.sql.parser import parse
from velostream.state.compatibility import (
    IncompatibleState,
    check_compatible,
    describe_job,
    find_differences,
)
from velostream.state.manifest import Epoch, Manifest

TRADES = pa.schema(
    [("symbol", pa.string()), ("price", pa.float64()), ("size", pa.int64()), ("ts", pa.timestamp("us"))]
)
BARS = """
    CREATE STREAM bars AS SELECT symbol, SUM(price * size) AS volume, COUNT(*) AS n
    FROM trades WHERE price > 0 GROUP BY symbol WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)
"""


def _described(sql: str, state: dict[str, Any] | None = None, **sources: pa.Schema) -> dict[str, Any]:
    """As it comes back from a manifest."""
    sources = sources or {"trades": TRADES}
    parsed = parse(sql)
    script = bind(parsed, {n: StreamInfo(n, schema, "ts", True) for n, schema in sources.items()})
    traits = {n: SourceTraits(schema, True, WatermarkSpec("", None)) for n, schema in sources.items()}
    made = plan(script, traits, {"out": script.queries[-1].name or result_name(0, script)})
    keyed = {s.query: s.nodes[0] for s in made.stages if isinstance(s.nodes[0], AggregateNode)}
    states = {name: _state(node) if state is None else state for name, node in keyed.items()}
    described: dict[str, Any] = json.loads(json.dumps(describe_job(made, states)))
    return described


def _state(node: AggregateNode) -> dict[str, Any]:
    """What an operator knows of its state: columns by the planner's names."""
    aggregates = [[spec.function, spec.argument, spec.filter, spec.distinct] for spec in node.aggregates]
    return {"keys": list(node.keys), "aggregates": aggregates, "input": node.input.names}


def _differences(saved: str, now: str) -> list[tuple[str, str, str, str]]:
    found = find_differences(_described(saved), _described(now))
    return [(each.of, each.what, each.saved, each.now) for each in found]


def test_a_job_is_described_by_expressions_over_its_sources() -> None:
    described = _described(
        state={},
        sql="""
        CREATE STREAM liquid AS SELECT symbol AS s, price * size AS volume, ts FROM trades WHERE size > 1;
        CREATE STREAM bars AS SELECT s, SUM(volume / 2) AS half FROM liquid WHERE volume > 5
        GROUP BY s WINDOW TUMBLING(ts, INTERVAL '1' MINUTE) HAVING SUM(volume / 2) > 1;
        SELECT half + 1 AS h, COUNT(DISTINCT s) FILTER (WHERE half > 3) FROM bars WHERE half < 9 GROUP BY h
        """,
    )
    bars, result = described["stages"]["bars"], described["stages"]["result"]
    assert bars == {
        "input": "trades",
        "where": ["size > 1", "(price * CAST(size AS DOUBLE)) > 5.0"],
        "keys": ["symbol VARCHAR"],
        "window": "tumble of 1m over ts",
        "aggregates": ["SUM((price * CAST(size AS DOUBLE)) / 2.0) DOUBLE"],
        "state": {},
    }
    half = "SUM((price * CAST(size AS DOUBLE)) / 2.0)"
    assert result["input"] == "bars"
    assert result["where"] == [f"({half}) > 1.0", f"({half}) < 9.0"]
    assert result["keys"] == [f"({half}) + 1.0 DOUBLE"]
    assert result["aggregates"] == [f"COUNT(DISTINCT symbol) FILTER (WHERE ({half}) > 3.0) BIGINT"]
    assert described["sources"] == {
        "trades": {"symbol": "VARCHAR", "price": "DOUBLE", "size": "BIGINT", "ts": "TIMESTAMP"}
    }


@pytest.mark.parametrize(
    "now",
    [
        # Spelling, comments.
        BARS.lower().replace("\n", " -- a comment\n"),
        # Another projection over the same aggregates, another condition on what leaves.
        BARS.replace("AS volume", "+ 1 AS v, UPPER(symbol) AS u, _window_end"),
        BARS + " HAVING COUNT(*) > 5",
        # In another order.
        BARS.replace("SUM(price * size) AS volume, COUNT(*) AS n", "COUNT(*), SUM(price * size)"),
        # The same rows by way of a stream.
        "CREATE STREAM clean AS SELECT * FROM trades WHERE price > 0;"
        + BARS.replace("WHERE price > 0", "").replace("FROM trades", "FROM clean"),
        # More queries.
        BARS + "; CREATE STREAM more AS SELECT symbol, MAX(n) FROM bars GROUP BY symbol",
    ],
)  # fmt: skip
def test_what_does_not_touch_the_state_goes_on(now: str) -> None:
    assert _differences(BARS, now) == []


@pytest.mark.parametrize(
    ("old", "new", "differences"),
    [
        (
            "GROUP BY symbol",
            "GROUP BY symbol, size",
            [("bars", "keys", "symbol VARCHAR", "symbol VARCHAR, size BIGINT")],
        ),
        (
            "SUM(price * size)",
            "SUM(price)",
            [
                (
                    "bars",
                    "aggregates",
                    "COUNT(*) BIGINT, SUM(price * CAST(size AS DOUBLE)) DOUBLE",
                    "COUNT(*) BIGINT, SUM(price) DOUBLE",
                )
            ],
        ),
        ("'1' MINUTE", "'1' HOUR", [("bars", "window", "tumble of 1m over ts", "tumble of 1h over ts")]),
        (
            " WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)",
            "",
            [("bars", "window", "tumble of 1m over ts", "-")],
        ),
        ("price > 0", "price > 1", [("bars", "where", "price > 0.0", "price > 1.0")]),
        ("WHERE price > 0", "", [("bars", "where", "price > 0.0", "-")]),
        (
            "STREAM bars",
            "STREAM rods",
            [
                (
                    "bars",
                    "query",
                    "COUNT(*) BIGINT, SUM(price * CAST(size AS DOUBLE)) DOUBLE",
                    "gone",
                )
            ],
        ),
    ],
)
def test_what_the_state_is_made_of_must_stay(
    old: str, new: str, differences: list[tuple[str, str, str, str]]
) -> None:
    assert _differences(BARS, BARS.replace(old, new)) == differences


def test_expressions_of_other_structure_differ() -> None:
    first = "CREATE STREAM a AS SELECT size + size AS x FROM trades; SELECT SUM(x * 2) FROM a"
    second = "CREATE STREAM a AS SELECT size * 2 AS y, size FROM trades; SELECT SUM(size + y) FROM a"
    [(_, what, saved, now)] = _differences(first, second)
    assert (what, saved, now) == (
        "aggregates",
        "SUM((size + size) * 2) BIGINT",
        "SUM(size + (size * 2)) BIGINT",
    )


def test_a_column_of_another_type_is_refused_and_one_not_read_any_more_is_not() -> None:
    sql = "SELECT symbol, COUNT(size) FROM trades GROUP BY symbol"
    other = TRADES.set(2, pa.field("size", pa.int32()))
    [found] = find_differences(_described(sql), _described(sql, trades=other))
    assert (found.of, found.what, found.saved, found.now) == ("trades", "column size", "BIGINT", "INTEGER")
    without = "SELECT symbol FROM trades WHERE price > 0"
    assert find_differences(_described("SELECT size FROM trades"), _described(without)) == []


def test_a_source_that_is_gone_is_refused() -> None:
    sql = "CREATE STREAM a AS SELECT symbol FROM trades; CREATE STREAM b AS SELECT symbol FROM more"
    saved = _described(sql, trades=TRADES, more=TRADES)
    now = _described("CREATE STREAM a AS SELECT symbol FROM trades")
    [found] = find_differences(saved, now)
    assert (found.of, found.what, found.saved, found.now) == ("more", "source", "symbol", "gone")


def test_what_an_operator_says_of_its_state_counts() -> None:
    saved, now = (
        _described(BARS, {"version": 1, "cells": [1]}),
        _described(BARS, {"version": 2, "cells": [1]}),
    )
    [found] = find_differences(saved, now)
    assert (found.of, found.what, found.saved, found.now) == ("bars", "version", "1", "2")


def _manifest(description: dict[str, Any]) -> Manifest:
    manifest = Manifest.of("job", Epoch(1, {}, {}, {}, {}, {}, description), 1, [])
    return manifest


def test_the_error_is_a_table_of_what_differs() -> None:
    saved = _described(BARS)
    now = _described(BARS.replace("'1' MINUTE", "'5' MINUTE").replace("price > 0", "price > 2"))
    now["sources"] = {}
    with pytest.raises(IncompatibleState) as caught:
        check_compatible(_manifest(saved), now)
    head, *table, hint = caught.value.render().splitlines()
    assert head.startswith("the state that job 'job' saved at 20") and head.endswith("as it is now")
    assert table == [
        "  bars    where   price > 0.0              →  price > 2.0",
        "  bars    window  tumble of 1m over ts     →  tumble of 5m over ts",
        "  trades  source  symbol, price, size, ts  →  gone",
    ]
    assert hint == "start afresh with state=reset, or undo the change"


def test_what_is_new_is_said() -> None:
    saved = _described(BARS)
    more = "; CREATE STREAM other AS SELECT symbol, COUNT(*) FROM quotes GROUP BY symbol"
    now = _described(BARS + more, trades=TRADES, quotes=TRADES)
    assert check_compatible(_manifest(saved), now) == [
        "source 'quotes' is new: it is read from its start",
        "the query of 'other' is new: it counts what is read from now on",
    ]
