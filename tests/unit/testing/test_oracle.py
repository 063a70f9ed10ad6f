"""The oracle itself: its translation, and that it sees every kind of difference."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pytest

from velostream.testing import oracle

TABLE = pa.table({
    "ts": pa.array([datetime(1969, 12, 31, 23, 59, 59), datetime(1970, 1, 1), None], pa.timestamp("us")),
    "k": ["a", "b", "a"],
    "v": pa.array([2**62, 2**53 + 1, 2], pa.int64()),
})  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("INTERVAL '1' MINUTE", 60_000_000),
        ("INTERVAL '90 seconds'", 90_000_000),
        ("interval '2' HOURS", 7_200_000_000),
        ("5m", 300_000_000),
        ("250ms", 250_000),
        ("1w", 604_800_000_000),
    ],
)
def test_sizes_of_windows_are_read_as_they_are_written(text: str, expected: int) -> None:
    assert oracle.size_us(text) == expected


def test_windows_are_aligned_to_the_epoch_on_both_sides_of_it() -> None:
    sql = "SELECT _window_start, COUNT(*) FROM t WINDOW TUMBLING(ts, INTERVAL '1' MINUTE) EMIT FINAL"
    got = oracle.answer(sql, {"t": TABLE})
    assert sorted(oracle.rows(got)) == [(-60_000_000, 1), (0, 1)]


def test_script_of_streams_gives_the_rows_of_its_last_statement() -> None:
    sql = """
        CREATE STREAM s AS SELECT k, v FROM t WHERE k = 'a;(';
        CREATE TABLE u AS SELECT k FROM t;
        SELECT COUNT(*) FROM s
    """
    assert oracle.rows(oracle.answer(sql, {"t": TABLE})) == [(0,)]


def test_sums_of_integers_are_bigint() -> None:
    got = oracle.answer("SELECT SUM(v) AS s FROM t WHERE k = 'a'", {"t": TABLE})
    assert got.schema.types == [pa.int64()]
    assert got["s"].to_pylist() == [2**62 + 2]


def test_cast_that_loses_digits_is_refused() -> None:
    with pytest.raises(pa.ArrowInvalid):
        oracle.answer("SELECT v FROM t", {"t": TABLE}, [pa.float64()])
    with pytest.raises(TypeError, match="not bool"):
        oracle.answer("SELECT v FROM t", {"t": TABLE}, [pa.bool_()])
    with pytest.raises(TypeError, match="1 columns, 2 types"):
        oracle.answer("SELECT v FROM t", {"t": TABLE}, [pa.int64(), pa.int64()])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"x": pa.array([1, 2], pa.int32())}, "types"),
        ({"y": pa.array([1, 2], pa.int64())}, "name"),
        ({"x": pa.array([1], pa.int64())}, "missing"),
        ({"x": pa.array([1, 2, 2], pa.int64())}, "unexpected"),
        ({"x": pa.array([1, None], pa.int64())}, "missing"),
    ],
)
def test_difference_in_types_names_or_rows_is_seen(other: dict[str, pa.Array], said: str) -> None:
    problem = oracle.difference(pa.table(other), pa.table({"x": pa.array([1, 2], pa.int64())}))
    assert problem is not None
    assert said in problem


def test_order_counts_only_when_asked_for() -> None:
    left, right = pa.table({"x": [1, 2]}), pa.table({"x": [2, 1]})
    assert oracle.difference(left, right) is None
    assert oracle.difference(left, right, ordered=True) is not None


def test_last_digits_of_doubles_count_only_when_exact() -> None:
    left, right = pa.table({"x": [0.1 + 0.2, float("nan")]}), pa.table({"x": [float("nan"), 0.3]})
    assert oracle.difference(left, right) is not None
    assert oracle.difference(left, right, exact=False) is None
    assert oracle.difference(left, pa.table({"x": [0.3001, float("nan")]}), exact=False) is not None
