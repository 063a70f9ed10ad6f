"""The plan as a person reads it."""

import pyarrow as pa

from velostream.config.schema import JobConfig
from velostream.connectors.memory import MemorySinkConfig, MemorySourceConfig
from velostream.runtime.prepare import Prepared, prepare

TRADES = pa.table(
    {
        "symbol": pa.array(["A"], pa.string()),
        "price": pa.array([1.5], pa.float64()),
        "quantity": pa.array([1], pa.int64()),
        "ts": pa.array([0], pa.timestamp("us")),
        "unused": pa.array([1], pa.int64()),
    }
)


def prepared(sql: str, **source: str) -> Prepared:
    return prepare(
        JobConfig(
            sql=sql,
            sources={"trades": MemorySourceConfig(data=TRADES, **source)},
            sinks={"out": MemorySinkConfig()},
            output_dir="unused",
        )
    )


def test_a_stateless_query_reads_only_its_columns_and_shows_its_predicate() -> None:
    text = prepared(
        "SELECT symbol, price * 2 AS twice FROM trades WHERE price > 1 AND symbol <> 'B'"
    ).explain_text()
    assert text == (
        "source trades, bounded\n"
        "  kind memory\n"
        "  decoded columns: symbol VARCHAR, price DOUBLE\n"
        "  pushed-down predicate: (price > 1.0) AND (symbol <> 'B')\n"
        "stage 0 of result, from trades\n"
        "  exchange: none (no key: rows stay where they are read)\n"
        "  filter: (price > 1.0) AND (symbol <> 'B')\n"
        "  project: symbol, price * 2.0 AS twice\n"
        "  gives result\n"
        "sink out takes result\n"
        "  kind memory, delivery best_effort (a memory sink can do no more)"
    )


def test_a_windowed_query_shows_exchange_window_watermark_late_policy_emission_and_state() -> None:
    plan = prepared(
        "SELECT symbol, _window_start, SUM(quantity) AS q, COUNT(*) FILTER (WHERE price > 2) AS high "
        "FROM trades GROUP BY symbol WINDOW TUMBLING(ts, 1m) HAVING COUNT(*) > 1",
        out_of_orderness="5s",
        late="side_output",
    )
    lines = plan.explain_text().splitlines()
    assert "  watermark: ts, out of order by up to 5s" in lines
    assert "  late records: written to late.ndjson and counted" in lines
    assert "  exchange: local on symbol (rows of one group meet in one lane)" in lines
    assert "  aggregate: COUNT(*), COUNT(*) FILTER (WHERE price > 2.0), SUM(quantity)" in lines
    assert "    window: tumble of 1m over ts" in lines
    assert "    having: COUNT(*) > 1" in lines
    assert "    emission: FINAL: a group once, when it is complete" in lines
    assert "    state: one row per group and open window, in the lane of its key" in lines
    assert (
        "  project: symbol, _window_start, SUM(quantity) AS q, COUNT(*) FILTER (WHERE price > 2.0) AS high"
        in lines
    )


def test_the_plan_as_data_has_the_columns_that_are_decoded() -> None:
    plan = prepared("SELECT COUNT(*) AS n FROM trades").explain()
    assert plan["sources"][0]["columns"] == {"symbol": "VARCHAR"}
    assert plan["stages"][1]["exchange"] == {
        "kind": "local",
        "keys": [],
        "reason": "one group: all rows meet in one lane",
    }
