"""Filters and projections one after the other, on one batch."""

from __future__ import annotations

import pyarrow as pa
import pytest

from velostream.operators.chain import Chain
from velostream.plan.nodes import FilterNode, Node, WatermarkSpec
from velostream.plan.planner import SourceTraits, plan
from velostream.sql.binder import StreamInfo, bind
from velostream.sql.parser import parse

SCHEMA = pa.schema([("a", pa.int64()), ("s", pa.string()), ("b", pa.int64())])
BATCH = pa.record_batch(
    [pa.array([1, 2, None, 2**62]), pa.array(["x", "y", "z", None]), pa.array([10, 20, 30, 40])],
    schema=SCHEMA,
)


def stage_of(query: str) -> list[Node]:
    script = bind(parse(query), {"t": StreamInfo("t", SCHEMA, None, True)})
    traits = SourceTraits(SCHEMA, True, WatermarkSpec("", None, None, None, "drop", 0))
    return list(plan(script, {"t": traits}, {"out": "result"}).stages[0].nodes)


def chain_of(query: str) -> Chain:
    return Chain(stage_of(query), SCHEMA)  # type: ignore[arg-type]


@pytest.mark.parametrize("condition", ["b < 25", "b > 0"])
def test_columns_named_in_another_order_are_not_mixed_up(condition: str) -> None:
    chained = chain_of(f"SELECT b AS first, s, a AS last FROM t WHERE {condition}").run(BATCH)
    rows = [0, 1] if condition == "b < 25" else [0, 1, 2, 3]
    assert (None if chained.rows is None else chained.rows.tolist()) == (rows if len(rows) == 2 else None)
    assert chained.batch.to_pylist() == [
        {"first": row["b"], "s": row["s"], "last": row["a"]} for row in BATCH.take(rows).to_pylist()
    ]


def test_a_column_of_the_condition_alone_is_not_kept() -> None:
    chain = chain_of("SELECT b FROM t WHERE s <> 'y' AND a > 0")
    chained = chain.run(BATCH)
    assert chained.batch.schema == chain.schema == pa.schema([("b", pa.int64())])
    assert (chained.batch.to_pylist(), chained.failed) == ([{"b": 10}], [])


def test_rows_that_fail_leave_by_their_place_in_the_input() -> None:
    chained = chain_of("SELECT a * 4 AS x FROM t WHERE b >= 20").run(BATCH)
    assert chained.batch.to_pylist() == [{"x": 8}, {"x": None}]
    assert chained.rows is not None
    assert chained.rows.tolist() == [1, 2]
    assert [(failure.row, failure.code) for failure in chained.failed] == [(3, "overflow")]


def test_a_condition_that_fails_drops_its_row_and_says_so() -> None:
    chained = chain_of("SELECT s FROM t WHERE a * 4 > 0").run(BATCH)
    assert chained.batch.to_pylist() == [{"s": "x"}, {"s": "y"}]
    assert [failure.row for failure in chained.failed] == [3]


def test_a_filter_alone_keeps_all_columns() -> None:
    nodes = [node for node in stage_of("SELECT a FROM t WHERE b = 20") if isinstance(node, FilterNode)]
    assert Chain(nodes, SCHEMA).run(BATCH).batch.equals(BATCH.slice(1, 1))
    assert Chain(nodes, SCHEMA).run(BATCH.slice(2)).batch.num_rows == 0
