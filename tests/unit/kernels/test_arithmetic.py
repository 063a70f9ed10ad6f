"""Arithmetic kernels against Python's integers, which never overflow."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velostream.kernels import arithmetic

LOW, HIGH = -(2**63), 2**63 - 1
integers = st.sampled_from([0, 1, -1, 2, LOW, LOW + 1, HIGH, 2**32, 3037000500]) | st.integers(LOW, HIGH)
LENGTHS = [0, 1, 7, 8, 9, 63, 64, 65]


def remainder(a: int, b: int) -> int | None:
    return None if b == 0 else int(math.copysign(1, a)) * (abs(a) % abs(b))


OPERATIONS: dict[str, Callable[[int, int], int | None]] = {
    "add_i64": lambda a, b: a + b,
    "subtract_i64": lambda a, b: a - b,
    "multiply_i64": lambda a, b: a * b,
    "modulo_i64": remainder,
}


def check(name: str, left: list[int | None], right: list[int | None], a: Any, b: Any) -> None:
    """The kernel on the columns (or constants) `a`, `b`, whose values row for row are `left`, `right`."""
    result, flags = getattr(arithmetic, name)(a, b)
    result.validate(full=True)
    flagged = [False] * len(left) if flags is None else flags.tolist()
    assert flags is None or any(flagged)
    for row, (x, y) in enumerate(zip(left, right, strict=True)):
        if x is None or y is None:
            assert (result[row].as_py(), flagged[row]) == (None, False)
            continue
        exact = OPERATIONS[name](x, y)
        fits = exact is not None and LOW <= exact <= HIGH
        assert flagged[row] == (not fits), (name, x, y)
        if fits:
            assert result[row].as_py() == exact, (name, x, y)


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.none() | integers, st.none() | integers), max_size=70), st.integers(0, 9))
def test_integers_match_their_exact_twin(
    name: str, rows: list[tuple[int | None, int | None]], offset: int
) -> None:
    left, right = [a for a, _ in rows], [b for _, b in rows]
    a = pa.array([None] * offset + left, pa.int64()).slice(offset)
    check(name, left, right, a, pa.array(right, pa.int64()))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("n", LENGTHS)
def test_constants_stand_for_columns(name: str, n: int) -> None:
    values = [[LOW, -1, None, 5, HIGH][i % 5] for i in range(n)]
    for constant in (-1, 0, HIGH, None):
        scalar = pa.scalar(constant, pa.int64())
        check(name, values, [constant] * n, pa.array(values, pa.int64()), scalar)
        check(name, [constant] * n, values, scalar, pa.array(values, pa.int64()))


@pytest.mark.parametrize("n", LENGTHS)
def test_all_null_columns_flag_nothing(n: int) -> None:
    nulls = pa.nulls(n, pa.int64())
    result, flags = arithmetic.modulo_i64(nulls, nulls)
    assert (result.to_pylist(), flags) == ([None] * n, None)


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="columns of 2 and 3 rows"):
        arithmetic.add_i64(pa.array([1, 2]), pa.array([1, 2, 3]))


SMALL, LARGE = pa.decimal128(10, 2), pa.decimal128(38, 4)


def decimals(type: pa.DataType) -> st.SearchStrategy[int]:
    """Unscaled values of a decimal type."""
    most = 10**type.precision - 1
    return st.sampled_from([0, 1, -1, most, -most, 12345]) | st.integers(-most, most)


def column(unscaled: list[int], type: pa.DataType) -> pa.Array:
    return pa.array([Decimal((u < 0, tuple(map(int, str(abs(u)))), -type.scale)) for u in unscaled], type)


def unscaled(value: Any, scale: int) -> int:
    sign, digits, exponent = value.as_tuple()
    assert exponent == -scale
    return (-1 if sign else 1) * int("".join(map(str, digits)))


@pytest.mark.parametrize("name", ["add_decimal", "subtract_decimal", "multiply_decimal", "modulo_decimal"])
@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(decimals(SMALL), decimals(LARGE)), min_size=1, max_size=9))
def test_decimals_match_their_exact_twin(name: str, rows: list[tuple[int, int]]) -> None:
    result_type = pa.decimal128(38, 6 if name == "multiply_decimal" else 4)
    left, right = [a for a, _ in rows], [b for _, b in rows]
    result, flags = getattr(arithmetic, name)(column(left, SMALL), column(right, LARGE), result_type)
    for row, (a, b) in enumerate(rows):
        x = a * 100  # both at scale 4
        exact = {
            "add_decimal": x + b,
            "subtract_decimal": x - b,
            "multiply_decimal": a * b,
            "modulo_decimal": remainder(x, b) or 0,
        }[name]
        fits = abs(exact) < 10**38
        assert (flags is not None and bool(flags[row])) == (not fits)
        if fits:
            assert unscaled(result[row].as_py(), result_type.scale) == exact


@settings(max_examples=40, deadline=None)
@given(
    st.lists(decimals(LARGE), min_size=1, max_size=9), st.sampled_from([(38, 0), (38, 10), (5, 2), (38, 2)])
)
def test_rescaling_rounds_half_away_from_zero(values: list[int], to: tuple[int, int]) -> None:
    wanted = pa.decimal128(*to)
    result, flags = arithmetic.rescale_decimal(column(values, LARGE), wanted)
    for row, value in enumerate(values):
        scaled, unit = abs(value) * 10 ** max(0, to[1] - 4), 10 ** max(0, 4 - to[1])
        exact = (scaled + unit // 2) // unit * (-1 if value < 0 else 1)
        fits = abs(exact) < 10 ** to[0]
        assert (flags is not None and bool(flags[row])) == (not fits)
        if fits:
            assert unscaled(result[row].as_py(), to[1]) == exact


def test_rounding_integers_flags_what_leaves_bigint() -> None:
    result, flags = arithmetic.round_i64(
        pa.array([15, -15, HIGH, HIGH, 5, 5, LOW, None]), pa.array([-1, -1, -1, -19, 3, -2, LOW, -1])
    )
    assert flags is not None
    assert flags.tolist() == [False, False, True, True, False, False, False, False]
    assert [result[i].as_py() for i in (0, 1, 4, 5, 6, 7)] == [20, -20, 5, 0, 0, None]


def test_division_and_remainder_of_doubles_flag_zero_divisors() -> None:
    left, right = pa.array([1.0, None, 7.5, math.inf]), pa.array([0.0, 0.0, -2.0, 2.0])
    result, zero = arithmetic.divide_f64(left, right)
    assert zero is not None
    assert zero.tolist() == [True, False, False, False]
    assert result.to_pylist()[1:] == [None, -3.75, math.inf]
    result, zero = arithmetic.modulo_f64(left, right)
    assert result[2].as_py() == 1.5
    assert math.isnan(result[3].as_py())
