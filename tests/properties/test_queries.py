"""Random queries over random tables: the engine, in a random mode, answers as DuckDB does.

DOUBLE values are multiples of 1/8 and small, so their sums are exact in any order and are compared exactly.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from velostream.testing import oracle, run_query

TIME = pa.timestamp("us")
# Half a day before 1970 to half a day after: windows on both sides of the epoch.
EPOCH = datetime(1970, 1, 1)
RUN = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "k": (pa.string(), st.sampled_from(["a", "b", "", "ä"])),
    "g": (pa.int64(), st.integers(-2, 2)),
    "v": (pa.int64(), st.integers(-1000, 1000)),
    "x": (pa.float64(), st.integers(-800, 800).map(lambda n: n / 8)),
    "p": (pa.decimal128(8, 2), st.integers(-99_999, 99_999).map(lambda n: Decimal(n).scaleb(-2))),
    "ok": (pa.bool_(), st.booleans()),
}
TIMES = st.integers(-43_200, 43_200).map(lambda seconds: EPOCH + timedelta(seconds=seconds))


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Up to 60 rows; every column but the time has NULLs, and the times are in no order."""
    rows = draw(st.integers(0, 60))
    columns = {
        name: pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), type)
        for name, (type, values) in COLUMNS.items()
    }
    columns["ts"] = pa.array(draw(st.lists(TIMES, min_size=rows, max_size=rows)), TIME)
    return pa.table(columns)


# --- expressions, as text ------------------------------------------------------------------------------


def _numbers(depth: int) -> st.SearchStrategy[str]:
    leaf = st.sampled_from(
        ["v", "g", "x", "p", "1", "-3", "0", "2.5", "0.5e0", "NULLIF(g, 0)", "COALESCE(v, 7)"]
    )
    if depth == 0:
        return leaf
    below = _numbers(depth - 1)
    return st.one_of(
        leaf,
        st.tuples(below, st.sampled_from("+-*/%"), below).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        below.map(lambda e: f"(- {e})"),
        below.map(lambda e: f"ABS({e})"),
    )


def _conditions(depth: int) -> st.SearchStrategy[str]:
    comparison = st.tuples(_numbers(1), st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), _numbers(1)).map(
        " ".join
    )
    leaf = st.one_of(
        comparison,
        st.sampled_from([
            "ok", "k = 'a'", "k LIKE '_'", "k LIKE 'a%'", "k > 'a'", "k IN ('a', 'ä')", "ok IS NOT TRUE",
            "v IS NULL", "x IS NOT NULL", "v BETWEEN -100 AND g * 50", "v = NULL", "g IN (1, 2, NULL)",
            "g NOT IN (0, v)",
        ]),
    )  # fmt: skip
    if depth == 0:
        return leaf
    below = _conditions(depth - 1)
    return st.one_of(
        leaf,
        below.map(lambda c: f"NOT ({c})"),
        st.tuples(below, st.sampled_from(["AND", "OR"]), below).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    )


NUMBER = _numbers(2)
CONDITION = _conditions(2)
VALUE = st.one_of(
    NUMBER,
    st.tuples(CONDITION, NUMBER, NUMBER).map(lambda t: f"CASE WHEN {t[0]} THEN {t[1]} ELSE {t[2]} END"),
    CONDITION,
    st.sampled_from(["k", "UPPER(k)", "LENGTH(k)", "COALESCE(k, 'none')", "SUBSTRING(k, 1, 1)", "ts", "p"]),
)


@st.composite
def aggregates(draw: st.DrawFn) -> str:
    """One aggregate: any function, of a column or an expression, some DISTINCT, some with FILTER."""
    function = draw(st.sampled_from(["COUNT", "SUM", "AVG", "MIN", "MAX"]))
    # AVG of DECIMAL is a DECIMAL here and a DOUBLE in DuckDB.
    numeric = ["v", "g", "x", "v * 2 + g", "x - v"] + ([] if function == "AVG" else ["p", "p * g"])
    argument = draw(st.sampled_from(numeric + (["k", "ok", "ts"] if function == "COUNT" else [])))
    if function == "COUNT" and draw(st.booleans()):
        text = "COUNT(*)"
    else:
        text = f"{function}({'DISTINCT ' if draw(st.booleans()) else ''}{argument})"
    return text + (f" FILTER (WHERE {draw(CONDITION)})" if draw(st.integers(0, 3)) == 0 else "")


KEYS = ["k", "g", "ok", "v % 3", "x", "p", "k || '!'", "CASE WHEN v > 0 THEN 'plus' ELSE k END"]
MODES = st.tuples(st.sampled_from(["v1", "v2:1", "v2:2", "v2:4", "v2:8"]), st.sampled_from([0, 1, 7]))


# --- properties ------------------------------------------------------------------------------------------


def _check(sql: str, table: pa.Table, mode: tuple[str, int], *, ordered: bool = False) -> None:
    processor, records = mode
    got, report = run_query(sql, processor, block_records=records, tables={"t": table})
    counts = report.records
    assert counts["in"] == table.num_rows
    assert counts["used"] + counts["filtered"] == table.num_rows
    assert (counts["late"], counts["failed"]) == (0, 0)
    # The types are ours; DuckDB's answer must fit them without loss.
    expected = oracle.answer(sql, {"t": table}, got.schema.types)
    assert (problem := oracle.difference(got, expected, exact=False, ordered=ordered)) is None, problem


@RUN
@given(
    table=tables(),
    # Unique, since a name used twice is numbered here and repeated by DuckDB.
    items=st.lists(VALUE, min_size=1, max_size=4, unique=True),
    where=CONDITION | st.none(),
    mode=MODES,
)
def test_filter_and_projection_answer_as_duckdb(
    table: pa.Table, items: list[str], where: str | None, mode: tuple[str, int]
) -> None:
    sql = f"SELECT {', '.join(items)} FROM t" + (f" WHERE {where}" if where else "")
    _check(sql, table, mode, ordered=True)


@RUN
@given(
    table=tables(),
    keys=st.lists(st.sampled_from(KEYS), max_size=3, unique=True),
    calls=st.lists(aggregates(), min_size=1, max_size=4),
    where=CONDITION | st.none(),
    having=st.sampled_from(["", " HAVING COUNT(*) > 2", " HAVING SUM(v) > 0", " HAVING NOT MAX(x) < MIN(v)"]),
    mode=MODES,
)
def test_groups_answer_as_duckdb(
    table: pa.Table, keys: list[str], calls: list[str], where: str | None, having: str, mode: tuple[str, int]
) -> None:
    sql = f"SELECT {', '.join(keys + calls)} FROM t" + (f" WHERE {where}" if where else "")
    sql += (f" GROUP BY {', '.join(keys)}" if keys else "") + having
    _check(sql, table, mode)


@RUN
@given(
    table=tables(),
    keys=st.lists(st.sampled_from(KEYS), max_size=2, unique=True),
    calls=st.lists(aggregates(), min_size=1, max_size=3),
    where=CONDITION | st.none(),
    size=st.sampled_from(["1s", "90s", "INTERVAL '7' MINUTE", "1h", "INTERVAL '1' DAY"]),
    mode=MODES,
)
def test_tumbling_windows_answer_as_duckdb(
    table: pa.Table, keys: list[str], calls: list[str], where: str | None, size: str, mode: tuple[str, int]
) -> None:
    items = [*keys, "_window_start", "_window_end", *calls]
    sql = f"SELECT {', '.join(items)} FROM t" + (f" WHERE {where}" if where else "")
    sql += (f" GROUP BY {', '.join(keys)}" if keys else "") + f" WINDOW TUMBLING(ts, {size})"
    _check(sql, table, mode)
