"""What the streaming engine that inspired this one gets wrong, and this one must not.

One section per mistake, on rows small enough to check by hand, with exact answers. Every query runs on one
lane and on several, in blocks of one record and whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

import velostream
from velostream.config.schema import JobConfig, ProcessorConfig
from velostream.connectors.base import sinks, sources
from velostream.runtime.job import Job
from velostream.testing import run_query

TIME = pa.timestamp("us")


@pytest.fixture(params=["v1-1", "v1-0", "v2:2-1", "v2:4-2", "v2:8-0"])
def mode(request: pytest.FixtureRequest) -> tuple[str, int]:
    processor, _, records = request.param.rpartition("-")
    return processor, int(records)


def answer(mode: tuple[str, int], sql: str, **tables: Any) -> list[tuple[Any, ...]]:
    """The rows, sorted by what is displayed."""
    processor, records = mode
    return ordered(velostream.query(sql, processor, block_records=records, **tables))


def ordered(table: pa.Table) -> list[tuple[Any, ...]]:
    rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return ordered_rows(rows)


def ordered_rows(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=repr)


def last_per_key(table: pa.Table, key: str) -> dict[Any, dict[str, Any]]:
    """The last row that EMIT CHANGES sent for each key."""
    return {row[key]: row for row in table.to_pylist()}


def at(minute: int, second: int = 0) -> datetime:
    return datetime(2024, 5, 1, 12, minute, second)


def timed(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Rows of (time, key, value)."""
    times, keys, values = zip(*rows, strict=True)
    return pa.table({
        "ts": pa.array(times, TIME),
        "k": pa.array(keys, pa.string()),
        "v": pa.array(values, pa.int64()),
    })  # fmt: skip


# --- 1: division by zero gave 1 ------------------------------------------------------------------------


def test_division_by_zero_is_null_for_integers_doubles_and_decimals(mode: tuple[str, int]) -> None:
    table = pa.table({
        "i": pa.array([7, 7, 0], pa.int64()),
        "j": pa.array([0, 2, 0], pa.int64()),
        "d": pa.array([0.0, 2.0, -0.0], pa.float64()),
        "p": pa.array([Decimal("0.00"), Decimal("0.50"), Decimal("0.00")], pa.decimal128(5, 2)),
    })  # fmt: skip
    rows = answer(mode, "SELECT i / j, i / d, i / p, i % j FROM t", t=table)
    assert rows == ordered_rows([(None, None, None, None), (3.5, 3.5, 14.0, 1), (None, None, None, None)])


def test_division_by_zero_adds_nothing_to_a_sum(mode: tuple[str, int]) -> None:
    table = pa.table({"i": pa.array([7, 8, 9], pa.int64()), "j": pa.array([0, 2, 0], pa.int64())})
    assert answer(mode, "SELECT SUM(i / j), COUNT(i / j), COUNT(*) FROM t", t=table) == [(4.0, 1, 3)]


def test_division_by_an_average_of_zero_is_null(mode: tuple[str, int]) -> None:
    table = pa.table({"k": ["a", "a", "b"], "v": pa.array([1, -1, 4], pa.int64())})
    rows = answer(mode, "SELECT k, COUNT(*) / SUM(v) FROM t GROUP BY k", t=table)
    assert rows == [("a", None), ("b", 0.25)]


# --- 2: sums in floating point -------------------------------------------------------------------------


def test_sum_of_integers_above_two_to_the_53_is_exact_and_bigint(mode: tuple[str, int]) -> None:
    table = pa.table({"k": ["a", "a", "a"], "v": pa.array([2**53, 1, 1], pa.int64())})
    processor, records = mode
    got = velostream.query("SELECT SUM(v) AS s FROM t GROUP BY k", processor, block_records=records, t=table)
    assert got.schema.field("s").type == pa.int64()
    assert got["s"].to_pylist() == [2**53 + 2]


def test_sum_of_changes_is_exact_too(mode: tuple[str, int]) -> None:
    table = pa.table({"k": ["a", "b", "a", "a"], "v": pa.array([2**53, 5, 1, 1], pa.int64())})
    processor, records = mode
    sql = "SELECT k, SUM(v) AS s FROM t GROUP BY k EMIT CHANGES"
    got = velostream.query(sql, processor, block_records=records, t=table)
    assert {key: row["s"] for key, row in last_per_key(got, "k").items()} == {"a": 2**53 + 2, "b": 5}


def test_sum_and_average_of_money_are_decimals_to_the_last_digit(mode: tuple[str, int]) -> None:
    prices = [Decimal("0.10")] * 10 + [Decimal("9999999999999.99")]
    table = pa.table({"p": pa.array(prices, pa.decimal128(15, 2))})
    processor, records = mode
    got = velostream.query(
        "SELECT SUM(p) AS s, AVG(p) AS m FROM t", processor, block_records=records, t=table
    )
    assert got.schema.types == [pa.decimal128(38, 2), pa.decimal128(38, 6)]
    assert ordered(got) == [(Decimal("10000000000000.99"), Decimal("909090909090.999091"))]


def test_sum_that_leaves_bigint_and_comes_back_is_exact_in_any_order(mode: tuple[str, int]) -> None:
    top = 2**63 - 1
    table = pa.table({"v": pa.array([top, top, -top, -top, 3], pa.int64())})
    assert answer(mode, "SELECT SUM(v) FROM t", t=table) == [(3,)]


# --- 3: aggregates over expressions, aggregates without an alias -----------------------------------------


def test_sum_of_an_expression_is_the_sum_of_the_expression(mode: tuple[str, int]) -> None:
    table = pa.table({"k": ["a", "b", "a"], "price": [1.5, 2.0, 4.0], "quantity": [2, 3, 5]})
    rows = answer(mode, "SELECT k, SUM(price * quantity) AS total FROM t GROUP BY k", t=table)
    assert rows == [("a", 23.0), ("b", 6.0)]


def test_aggregates_without_an_alias_have_their_own_values(mode: tuple[str, int]) -> None:
    table = pa.table({"k": ["a", "b", "a"], "v": pa.array([1, 7, 4], pa.int64())})
    rows = answer(mode, "SELECT k, SUM(v), AVG(v), MIN(v), MAX(v), COUNT(v) FROM t GROUP BY k", t=table)
    assert rows == [("a", 5, 2.5, 1, 4, 2), ("b", 7, 7.0, 7, 7, 1)]


def test_changes_of_an_expression_end_at_the_final_values(mode: tuple[str, int]) -> None:
    table = pa.table({"k": ["a", "b", "a"], "v": pa.array([1, 7, 4], pa.int64())})
    processor, records = mode
    sql = "SELECT k, MAX(v * 2) - MIN(v) AS spread FROM t GROUP BY k EMIT CHANGES"
    got = velostream.query(sql, processor, block_records=records, t=table)
    assert {key: row["spread"] for key, row in last_per_key(got, "k").items()} == {"a": 7, "b": 7}


# --- 6: the last open window was never emitted -----------------------------------------------------------

PER_MINUTE = "SELECT _window_start, COUNT(*) FROM t WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)"


def test_last_open_window_is_emitted_at_the_end_of_the_input(mode: tuple[str, int]) -> None:
    table = timed([(at(0, 5), "a", 1), (at(0, 50), "a", 2), (at(1, 1), "a", 3)])
    assert answer(mode, PER_MINUTE, t=table) == [(at(0), 2), (at(1), 1)]


def test_single_record_has_its_window(mode: tuple[str, int]) -> None:
    assert answer(mode, PER_MINUTE, t=timed([(at(0, 5), "a", 1)])) == [(at(0), 1)]


def test_last_window_of_every_key_is_emitted(mode: tuple[str, int]) -> None:
    table = timed([(at(0, minute), key, 1) for minute in range(3) for key in "abcdefgh"])
    sql = "SELECT k, COUNT(*) FROM t GROUP BY k WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)"
    assert answer(mode, sql, t=table) == [(key, 3) for key in "abcdefgh"]


# --- 7: after a gap, empty windows came out with the values of the triggering record ---------------------


def test_gap_of_several_windows_gives_no_windows(mode: tuple[str, int]) -> None:
    table = timed(
        [(at(0, 5), "a", 1), (at(30, 5), "a", 2), (at(30, 6), "a", 3), (at(31), "a", 4), (at(59), "a", 5)]
    )
    declared = velostream.table(table, out_of_orderness="0s")
    expected = [(at(0), 1), (at(30), 2), (at(31), 1), (at(59), 1)]
    assert answer(mode, PER_MINUTE, t=table) == expected
    assert answer(mode, PER_MINUTE, t=declared) == expected


# --- 8: a late record closed the current window early -----------------------------------------------------


def test_late_record_is_counted_and_leaves_the_current_window_open(mode: tuple[str, int]) -> None:
    rows = [
        (at(0, 10), "a", 1),
        (at(1, 10), "a", 2),
        (at(0, 20), "a", 4),
        (at(1, 30), "a", 8),
        (at(2, 0), "a", 16),
    ]
    processor, records = mode
    sql = "SELECT _window_start, COUNT(*), SUM(v) FROM t WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)"
    source = velostream.table(timed(rows), out_of_orderness="0s")
    got, report = run_query(sql, processor, block_records=records, tables={"t": source})
    assert ordered(got) == [(at(0), 1, 1), (at(1), 2, 10), (at(2), 1, 16)]
    counts = report.records
    assert (counts["in"], counts["used"], counts["filtered"], counts["late"], counts["failed"]) == (
        5,
        4,
        0,
        1,
        0,
    )


def test_record_within_the_declared_disorder_is_not_late(mode: tuple[str, int]) -> None:
    rows = [(at(0, 10), "a", 1), (at(1, 10), "a", 2), (at(0, 20), "a", 4), (at(1, 30), "a", 8)]
    processor, records = mode
    sql = "SELECT _window_start, COUNT(*), SUM(v) FROM t WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)"
    source = velostream.table(timed(rows), out_of_orderness="60s")
    got, report = run_query(sql, processor, block_records=records, tables={"t": source})
    assert ordered(got) == [(at(0), 2, 5), (at(1), 2, 10)]
    assert report.records["late"] == 0


def test_late_record_updates_its_window_when_that_is_the_policy(mode: tuple[str, int]) -> None:
    rows = [
        (at(0, 10), "a", 1),
        (at(1, 10), "a", 2),
        (at(0, 20), "a", 4),
        (at(1, 30), "a", 8),
        (at(2, 0), "a", 16),
    ]
    processor, records = mode
    sql = "SELECT _window_start AS start, SUM(v) AS s FROM t WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)"
    source = velostream.table(timed(rows), out_of_orderness="0s", late="update", allowed_lateness="10m")
    got, report = run_query(sql, processor, block_records=records, tables={"t": source})
    last = {start: row["s"] for start, row in last_per_key(got, "start").items()}
    assert last == {at(0): 5, at(1): 10, at(2): 16}
    assert report.records["late"] == 0


# --- 9: windows differed with the number of partitions ----------------------------------------------------


def test_windows_are_the_same_on_any_number_of_lanes() -> None:
    # Each key has a clock of its own, minutes apart from the others'.
    rows = [(at(step + 3 * n, 7 * n), key, step) for step in range(20) for n, key in enumerate("abcdefgh")]
    table = timed(rows)
    sql = (
        "SELECT k, _window_start, COUNT(*), SUM(v) FROM t GROUP BY k WINDOW TUMBLING(ts, INTERVAL '2' MINUTE)"
    )
    counts: Counter[tuple[str, datetime]] = Counter()
    sums: Counter[tuple[str, datetime]] = Counter()
    for time, key, value in rows:
        start = time.replace(minute=time.minute // 2 * 2, second=0)
        counts[key, start] += 1
        sums[key, start] += value
    expected = ordered_rows([(*group, counts[group], sums[group]) for group in counts])
    for processor in ("v1", "v2:1", "v2:2", "v2:4", "v2:8"):
        for records in (1, 7, 0):
            assert answer((processor, records), sql, t=table) == expected, (processor, records)


def test_lateness_is_the_same_on_any_number_of_lanes() -> None:
    # A record is late by the records before it in its source, whatever lane they went to.
    rows = [
        (at(minute, second), key, 1)
        for minute in range(10)
        for second, key in ((1, "a"), (59, "b"), (30, "c"))
    ]
    rows += [(at(3, 30), "c", 100), (at(9, 59), "d", 1), (at(8, 59), "a", 100)]
    source = velostream.table(timed(rows), out_of_orderness="30s")
    sql = "SELECT k, COUNT(*), SUM(v) FROM t GROUP BY k WINDOW TUMBLING(ts, INTERVAL '1' HOUR)"
    by_minute = "SELECT k, _window_start, SUM(v) FROM t GROUP BY k WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)"
    for processor in ("v1", "v2:2", "v2:8"):
        for records in (1, 7, 0):
            got, report = run_query(by_minute, processor, block_records=records, tables={"t": source})
            assert report.records["late"] == 2, (processor, records)
            assert sum(row[2] for row in ordered(got)) == 31, (processor, records)
            got, report = run_query(sql, processor, block_records=records, tables={"t": source})
            assert report.records["late"] == 0, (processor, records)
            assert ordered(got) == [("a", 11, 110), ("b", 10, 10), ("c", 11, 110), ("d", 1, 1)]


# --- 12: HAVING knew little --------------------------------------------------------------------------------

VALUES = timed(
    [(at(0, 1), "a", 1), (at(0, 2), "b", 5), (at(0, 3), "a", None), (at(0, 4), "c", 9), (at(0, 5), "c", 1)]
)
WINDOW = "WINDOW TUMBLING(ts, INTERVAL '1' MINUTE)"


@pytest.mark.parametrize("window", ["", WINDOW])
@pytest.mark.parametrize(
    ("having", "expected"),
    [
        ("n > 1", "ac"),
        ("NOT COUNT(*) > 1", "b"),
        ("SUM(v) BETWEEN 5 AND 10", "bc"),
        ("CASE WHEN SUM(v) = 10 THEN TRUE ELSE COUNT(*) = 1 END", "bc"),
        ("COUNT(v) <> COUNT(*)", "a"),
        ("k IN ('a', 'b') AND MAX(v) IS NOT NULL", "ab"),
        ("SUM(v) = NULL", ""),
    ],
)
def test_having_takes_any_condition(window: str, having: str, expected: str, mode: tuple[str, int]) -> None:
    rows = answer(mode, f"SELECT k, COUNT(*) AS n FROM t GROUP BY k {window} HAVING {having}", t=VALUES)
    assert "".join(key for key, _ in rows) == expected


# --- 15: two-valued logic, an epsilon, wrapping integers, regexes in LIKE ----------------------------------


def test_null_is_neither_equal_to_null_nor_different_from_anything(mode: tuple[str, int]) -> None:
    table = pa.table(
        {"a": pa.array([None, 1, None, 2], pa.int64()), "b": pa.array([None, None, 1, 2], pa.int64())}
    )
    assert answer(mode, "SELECT a = b, a <> b FROM t", t=table) == ordered_rows(
        [(None, None), (None, None), (None, None), (True, False)]
    )
    assert answer(mode, "SELECT a FROM t WHERE a = b", t=table) == [(2,)]
    assert answer(mode, "SELECT a FROM t WHERE a <> 1", t=table) == [(2,)]


def test_doubles_are_compared_without_an_epsilon(mode: tuple[str, int]) -> None:
    table = pa.table({"x": [0.1 + 0.2, 0.3, 1e-300], "y": [0.3, 0.3, 0.0]})
    assert answer(mode, "SELECT x = y, x > y FROM t", t=table) == [
        (False, True),
        (False, True),
        (True, False),
    ]


def test_integer_overflow_fails_the_record_and_never_wraps(mode: tuple[str, int]) -> None:
    table = pa.table({"v": pa.array([2**63 - 1, -(2**63), 5], pa.int64())})
    processor, records = mode
    for expression, expected in (("v + 1", [-(2**63) + 1, 6]), ("v - 1", [2**63 - 2, 4]), ("v * 3", [15])):
        got, report = run_query(
            f"SELECT {expression} FROM t", processor, block_records=records, tables={"t": table}
        )
        assert got.column(0).to_pylist() == expected
        assert report.records["failed"] == 3 - len(expected)
        assert report.records["used"] == len(expected)


def test_like_reads_signs_of_regexes_as_they_are(mode: tuple[str, int]) -> None:
    texts = ["a.c", "abc", "a+c", "[abc]", "(a", "a\\c", "^a$", "a\nc"]
    table = pa.table({"w": texts})
    found = {
        pattern: sorted(row[0] for row in answer(mode, f"SELECT w FROM t WHERE w LIKE '{pattern}'", t=table))
        for pattern in ("a.c", "a+c", "[abc]", "(a", "a\\c", "^a$", "a_c")
    }
    assert found == {
        "a.c": ["a.c"], "a+c": ["a+c"], "[abc]": ["[abc]"], "(a": ["(a"], "a\\c": ["a\\c"], "^a$": ["^a$"],
        "a_c": sorted(["a.c", "abc", "a+c", "a\\c", "a\nc"]),
    }  # fmt: skip


# --- 16: DISTINCT by what is displayed, shared between queries, bounded ------------------------------------


def test_two_distinct_queries_over_one_source_share_nothing(mode: tuple[str, int]) -> None:
    table = pa.table({"k": ["a", "a", "b", "b"], "v": pa.array([1, 1, 1, 2], pa.int64())})
    script = """
        CREATE STREAM one AS SELECT k, COUNT(DISTINCT v) AS n FROM t GROUP BY k EMIT FINAL;
        SELECT COUNT(DISTINCT v), COUNT(DISTINCT k), COUNT(DISTINCT v) FILTER (WHERE k = 'a')
        FROM t EMIT FINAL
    """
    assert answer(mode, script, t=table) == [(2, 2, 1)]


def test_distinct_values_are_compared_by_value_and_null_is_none(mode: tuple[str, int]) -> None:
    tenths = [Decimal("1.0"), Decimal("1.0"), Decimal("1.5"), None, None, None]
    table = pa.table({
        "d": pa.array([0.0, -0.0, 1.0, None, float("nan"), float("nan")], pa.float64()),
        "w": ["1", "1.0", "01", None, "1", ""],
        "p": pa.array(tenths, pa.decimal128(4, 1)),
    })  # fmt: skip
    sql = "SELECT COUNT(DISTINCT d), COUNT(DISTINCT w), COUNT(DISTINCT p), SUM(DISTINCT p) FROM t"
    assert answer(mode, sql, t=table) == [(3, 4, 2, Decimal("2.5"))]


def test_more_distinct_values_than_any_cache_are_all_counted() -> None:
    # Theirs forgot the oldest of 100,000; each value comes twice, far apart.
    values = list(range(120_000)) * 2
    table = pa.table({"v": pa.array(values, pa.int64())})
    for processor in ("v1", "v2:4"):
        assert answer((processor, 10_000), "SELECT COUNT(DISTINCT v), COUNT(*) FROM t", t=table) == [
            (120_000, 240_000)
        ]


# --- 20: the partitioned processor took sources one after the other, and paired each with one sink ---------


def totals_job(processor: tuple[str, int], sql: str, outputs: dict[str, str], **tables: pa.Table) -> Job:
    """A job of several sources and sinks in memory; `outputs` maps sinks to streams."""
    version, _, lanes = processor[0].partition(":")
    return Job(
        JobConfig(
            name="totals",
            sql=sql,
            sources={name: sources["memory"].Config(data=table) for name, table in tables.items()},
            sinks={name: sinks["memory"].Config(stream=stream) for name, stream in outputs.items()},
            processor=ProcessorConfig(
                version=version, partitions=int(lanes) if lanes else None, block_records=processor[1]
            ),
        )
    )


def test_totals_of_a_created_stream_are_right_though_keys_are_spread_over_blocks(
    mode: tuple[str, int],
) -> None:
    table = pa.table({"k": ["abcdefgh"[n % 8] for n in range(800)], "v": pa.array(range(800), pa.int64())})
    sql = "CREATE STREAM totals AS SELECT k, COUNT(*) AS n, SUM(v) AS s FROM t GROUP BY k EMIT FINAL"
    expected = [(key, 100, sum(range(n, 800, 8))) for n, key in enumerate("abcdefgh")]
    assert answer(mode, sql, t=table) == expected


def test_two_sources_feed_two_sinks_and_one_sink_gets_both_streams_it_is_due(mode: tuple[str, int]) -> None:
    left = pa.table({"k": ["a", "b", "a"], "v": pa.array([1, 2, 3], pa.int64())})
    right = pa.table({"k": ["a", "c"], "v": pa.array([10, 20], pa.int64())})
    sql = """
        CREATE STREAM lefts AS SELECT k, SUM(v) AS s FROM t GROUP BY k EMIT FINAL;
        CREATE STREAM rights AS SELECT k, SUM(v) AS s FROM u GROUP BY k EMIT FINAL
    """
    job = totals_job(mode, sql, {"one": "lefts", "two": "rights", "copy": "lefts"}, t=left, u=right)
    report = job.run()
    assert report.state == "completed"
    assert ordered(job.sink("one").table()) == [("a", 4), ("b", 2)]  # type: ignore[attr-defined]
    assert ordered(job.sink("two").table()) == [("a", 10), ("c", 20)]  # type: ignore[attr-defined]
    assert ordered(job.sink("copy").table()) == [("a", 4), ("b", 2)]  # type: ignore[attr-defined]
    counts = report.records
    assert (counts["in"], counts["used"], counts["filtered"], counts["failed"]) == (5, 5, 0, 0)


def test_records_count_as_used_only_when_they_were(mode: tuple[str, int]) -> None:
    # Theirs counted a record when it was routed, before SQL ran.
    table = pa.table({"v": pa.array([1, None, 3, 2**63 - 1, -4], pa.int64())})
    processor, records = mode
    sql = "SELECT v + 1 FROM t WHERE v > 0"
    got, report = run_query(sql, processor, block_records=records, tables={"t": table})
    assert got.column(0).to_pylist() == [2, 4]
    counts = report.records
    assert (counts["in"], counts["used"], counts["filtered"], counts["late"], counts["failed"]) == (
        5,
        2,
        2,
        0,
        1,
    )


def test_record_without_a_key_is_a_group_of_its_own_and_fails_no_batch(mode: tuple[str, int]) -> None:
    table = pa.table({"k": ["a", None, "a", None, "b"], "v": pa.array([1, 2, 3, 4, 5], pa.int64())})
    rows = answer(mode, "SELECT k, COUNT(*), SUM(v) FROM t GROUP BY k", t=table)
    assert rows == ordered_rows([("a", 2, 4), (None, 2, 6), ("b", 1, 5)])


def test_keyed_query_on_an_expression_uses_all_its_rows(mode: tuple[str, int]) -> None:
    # Theirs looked the key up by name, found nothing, and sent every record to one partition.
    table = pa.table({"v": pa.array(range(100), pa.int64())})
    rows = answer(mode, "SELECT t.v % 10 AS r, COUNT(*), MIN(v) FROM t GROUP BY t.v % 10", t=table)
    assert rows == [(r, 10, r) for r in range(10)]
