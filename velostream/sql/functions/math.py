"""Functions of numbers. Exact types stay exact; SQRT and POWER are DOUBLE."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from velostream.kernels import arithmetic
from velostream.sql.functions.operators import fail_lowest, less
from velostream.sql.functions.registry import PROPAGATE, Invocation, Value, function
from velostream.sql.functions.rules import (
    Match,
    Rule,
    Types,
    decimal_of,
    numbers,
    same_type,
    signatures,
)
from velostream.sql.functions.values import as_array, null_where, scalar
from velostream.sql.typenames import type_name
from velostream.sql.types import BIGINT, DOUBLE

_ONE_NUMBER = numbers(1, lambda type: type)
_TO_WHOLE = numbers(1, lambda type: pa.decimal128(type.precision, 0))
_ZERO = scalar(0, BIGINT)


@function("abs", rule=_ONE_NUMBER, nulls=PROPAGATE, example=((-5,), 5))
def absolute(call: Invocation, number: Value) -> Value:
    """The number without its sign; the lowest BIGINT has no such and fails the record."""
    return pc.abs(fail_lowest(call, number))


def _round_rule() -> Rule:
    one = numbers(1, lambda type: pa.decimal128(type.precision, 0))
    # Rounding up may take one digit more: 99.95 to one place.
    first_of_two = numbers(1, lambda type: decimal_of(type.precision - type.scale + 1, type.scale))

    def apply(types: Types) -> Match | None:
        if len(types) == 1:
            return one.apply(types)
        if len(types) != 2 or not (pa.types.is_integer(types[1]) or pa.types.is_null(types[1])):
            return None
        match = first_of_two.apply(types[:1])
        return None if match is None else ((*match[0], BIGINT), match[1])

    return Rule(("number", "number, BIGINT"), apply)


@function("round", rule=_round_rule(), nulls=PROPAGATE, example=((2.675, 1), 2.7))
def round_(call: Invocation, number: Value, digits: Value = _ZERO) -> Value:
    """The number rounded half away from zero, to 0 or so many decimal places (negative: before the point)."""
    if call.result_type == DOUBLE:
        return arithmetic.round_f64(number, digits)
    if call.result_type == BIGINT:
        result, overflow = arithmetic.round_i64(number, digits)
    elif call.result_type.scale == number.type.scale:
        result, overflow = arithmetic.round_decimal(number, digits, call.result_type)
    else:
        result, overflow = arithmetic.rescale_decimal(as_array(number, call.rows), call.result_type)
    call.fail(overflow, "overflow", f"round is out of range for {type_name(call.result_type)}")
    return null_where(result, overflow)


@function("floor", rule=_TO_WHOLE, nulls=PROPAGATE, example=((Decimal("-1.5"),), Decimal("-2")))
def floor(call: Invocation, number: Value) -> Value:
    """The largest whole number that is not greater; an integer itself."""
    return _to_whole(call, number, pc.floor)


@function("ceil", rule=_TO_WHOLE, nulls=PROPAGATE, example=((1.2,), 2.0), aliases=("ceiling",))
def ceil(call: Invocation, number: Value) -> Value:
    """The smallest whole number that is not less; an integer itself."""
    return _to_whole(call, number, pc.ceil)


def _to_whole(call: Invocation, number: Value, whole: Callable[[Value], Value]) -> Value:
    if call.result_type == BIGINT:
        return number
    if call.result_type == DOUBLE:
        return whole(number)
    # Where the next whole number needs a digit more than the type has, as for 9.99, Arrow gives 0.
    wider = pa.decimal256(number.type.precision + 1, number.type.scale)
    return pc.cast(whole(pc.cast(number, wider)), call.result_type)


@function("sqrt", rule=signatures("DOUBLE -> DOUBLE"), nulls=PROPAGATE, example=((2.25,), 1.5))
def sqrt(call: Invocation, number: Value) -> Value:
    """The square root; NaN for a negative number."""
    return pc.sqrt(number)


@function(
    "power",
    rule=signatures("DOUBLE, DOUBLE -> DOUBLE"),
    nulls=PROPAGATE,
    example=((2.0, -1.0), 0.5),
    aliases=("pow",),
)
def power(call: Invocation, base: Value, exponent: Value) -> Value:
    """The first number to the power of the second; NaN where that is no real number."""
    return pc.power(base, exponent)


def _sign_rule() -> Rule:
    def apply(types: Types) -> Match | None:
        match = _ONE_NUMBER.apply(types)
        return None if match is None else (match[0], pa.int8())

    return Rule(_ONE_NUMBER.arguments, apply)


@function("sign", rule=_sign_rule(), nulls=PROPAGATE, example=((-2.5,), -1))
def sign(call: Invocation, number: Value) -> Value:
    """-1, 0 or 1 for a negative number, zero (and NaN), and a positive one."""
    zero = pa.scalar(0, BIGINT).cast(number.type)
    positive = pc.cast(pc.greater(number, zero), pa.int8())
    return pc.subtract(positive, pc.cast(pc.less(number, zero), pa.int8()))


_EXTREME = "NULL when all arguments are; others are ignored"


@function("least", rule=same_type(), nulls=_EXTREME, example=((3, None, 1), 1))
def least(call: Invocation, *values: Value) -> Value:
    """The smallest of the values that are not NULL."""
    return _extreme(values, lambda best, value: less(value, best))


@function("greatest", rule=same_type(), nulls=_EXTREME, example=((3, None, 1), 3))
def greatest(call: Invocation, *values: Value) -> Value:
    """The largest of the values that are not NULL; NaN is larger than any number."""
    return _extreme(values, less)


def _extreme(values: tuple[Value, ...], better: Callable[[Value, Value], Value]) -> Value:
    best = values[0]
    for value in values[1:]:
        # Where one of the two is NULL the other is taken.
        take = pc.coalesce(better(best, value), pc.is_null(best))
        best = pc.if_else(take, value, best)
    return best
