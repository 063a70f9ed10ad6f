"""Selecting rows against Arrow's own filter."""

from __future__ import annotations

import datetime
import random
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from velostream.kernels import take_rows, true_rows

COUNTS = [0, 1, 7, 8, 9, 63, 64, 65, 200]


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("skipped", [0, 1, 5, 64])
def test_a_row_is_kept_only_when_its_condition_is_true(n: int, skipped: int) -> None:
    generator = random.Random(n + skipped)
    values = [generator.choice([True, False, None]) for _ in range(n + skipped)]
    rows = true_rows(pa.array(values, pa.bool_()).slice(skipped))
    expected = [row for row, value in enumerate(values[skipped:]) if value]
    if len(expected) == n:
        assert rows is None
    else:
        assert rows is not None
        assert (rows.dtype, rows.tolist()) == (np.int64, expected)


@pytest.mark.parametrize("n", COUNTS)
def test_a_condition_that_is_true_everywhere_selects_all(n: int) -> None:
    assert true_rows(pa.array([False] + [True] * n).slice(1)) is None


def test_a_condition_that_is_no_boolean_is_refused() -> None:
    with pytest.raises(TypeError, match="a condition is BOOLEAN, not int64"):
        true_rows(pa.array([1]))


VALUES: dict[pa.DataType, Any] = {
    pa.int8(): lambda n: n % 100 - 50,
    pa.int16(): lambda n: n - 100,
    pa.int32(): lambda n: n * 10_000_019,
    pa.int64(): lambda n: n * 1_000_000_000_000_003,
    pa.float64(): lambda n: n / 7,
    pa.bool_(): lambda n: n % 3 == 0,
    pa.string(): lambda n: "é" * (n % 5) + "x" * (n % 23),
    pa.date32(): lambda n: datetime.date(2024, 1, 1) + datetime.timedelta(n),
    pa.timestamp("us"): lambda n: datetime.datetime(2024, 1, 1) + datetime.timedelta(seconds=n),
    pa.decimal128(38, 2): lambda n: Decimal(n * 10**30).scaleb(-2),
    pa.null(): lambda n: None,
}


@pytest.mark.parametrize("type", VALUES, ids=str)
@pytest.mark.parametrize("nulls", [False, True])
def test_selected_rows_of_each_type_are_those_of_arrow(type: pa.DataType, nulls: bool) -> None:
    generator = random.Random(str(type))
    for n in COUNTS:
        values = [None if nulls and k % 4 == 1 else VALUES[type](k) for k in range(n + 3)]
        array = pa.array(values, type).slice(3)
        rows = np.array([k for k in range(n) if generator.random() < 0.5], dtype=np.int64)
        taken = take_rows(array, rows)
        taken.validate(full=True)
        assert taken.equals(array.take(pa.array(rows)))


def test_rows_outside_and_types_without_a_width_are_refused() -> None:
    for row in (-1, 3):
        with pytest.raises(IndexError, match="not one of 3"):
            take_rows(pa.array([1, 2, 3]), np.array([row]))
    with pytest.raises(TypeError, match="list"):
        take_rows(pa.array([[1]]), np.array([0]))
