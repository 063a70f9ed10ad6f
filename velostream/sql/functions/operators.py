"""The operators of SQL: arithmetic, comparisons, three-valued logic, IN, LIKE, `||`.

Integers are computed in BIGINT and DECIMAL in 128 bits, and a result that does not fit fails the record.
Division and remainder by zero are NULL. NaN equals itself and is greater than every number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from velostream.errors import BindError
from velostream.kernels import arithmetic, text
from velostream.sql.functions.registry import PROPAGATE, Invocation, Mask, Value, function
from velostream.sql.functions.rules import (
    Match,
    Rule,
    Types,
    comparison,
    decimal_of,
    is_number,
    numbers,
    signatures,
)
from velostream.sql.functions.values import mask_of, null_where, rows_of
from velostream.sql.typenames import MAX_DECIMAL_DIGITS, type_name
from velostream.sql.types import BIGINT, BOOLEAN, DOUBLE, VARCHAR

PROPAGATE_OR_ZERO = f"{PROPAGATE} or the divisor is 0"


# --- arithmetic ---------------------------------------------------------------------------------------


def sum_type(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """The DECIMAL of a sum: the larger scale, one digit more than the wider."""
    whole = max(left.precision - left.scale, right.precision - right.scale) + 1
    return decimal_of(whole, max(left.scale, right.scale))


def product_type(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """The DECIMAL of a product: the digits and the scales of both added."""
    scale = left.scale + right.scale
    if scale > MAX_DECIMAL_DIGITS:
        raise BindError(
            f"{type_name(left)} times {type_name(right)} has {scale} digits behind the point,"
            f" more than {MAX_DECIMAL_DIGITS}",
            hint="cast one of them to a DECIMAL with a smaller scale, or to DOUBLE",
        )
    return pa.decimal128(min(left.precision + right.precision, MAX_DECIMAL_DIGITS), scale)


def remainder_type(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """The DECIMAL of a remainder: the larger scale, digits for both arguments."""
    whole = max(left.precision - left.scale, right.precision - right.scale)
    return decimal_of(whole, max(left.scale, right.scale))


def _arithmetic(name: str) -> Callable[[Invocation, Value, Value], Value]:
    """The sum, difference or product of numbers, by `name` of the kernels."""
    of_integers = getattr(arithmetic, f"{name}_i64")
    of_decimals = getattr(arithmetic, f"{name}_decimal")
    of_doubles = getattr(pc, name)

    def run(call: Invocation, left: Value, right: Value) -> Value:
        if call.result_type == DOUBLE:
            return of_doubles(left, right)
        if pa.types.is_decimal(call.result_type):
            result, overflow = of_decimals(left, right, call.result_type)
        else:
            result, overflow = of_integers(left, right)
        call.fail(overflow, "overflow", f"{name} is out of range for {type_name(call.result_type)}")
        return null_where(result, overflow)

    return run


_add, _subtract, _multiply = map(_arithmetic, ("add", "subtract", "multiply"))


def _sum_rule(decimal: Callable[..., pa.DataType]) -> Rule:
    """Numbers; dates and times are refused in words of their own."""
    rule = numbers(2, decimal)

    def apply(types: Types) -> Match | None:
        match = rule.apply(types)
        if match is None and any(pa.types.is_temporal(type) for type in types):
            raise BindError(
                "arithmetic on TIMESTAMP and DATE is not supported",
                hint="compute with epoch(x), which is seconds",
            )
        return match

    return Rule(rule.arguments, apply)


@function("add", rule=_sum_rule(sum_type), nulls=PROPAGATE, example=((1, 2), 3), form="{0} + {1}")
def add(call: Invocation, left: Value, right: Value) -> Value:
    """The sum; a BIGINT or DECIMAL that does not fit fails the record."""
    return _add(call, left, right)


@function(
    "subtract",
    rule=_sum_rule(sum_type),
    nulls=PROPAGATE,
    example=((Decimal("1.5"), 2), Decimal("-0.5")),
    form="{0} - {1}",
)
def subtract(call: Invocation, left: Value, right: Value) -> Value:
    """The difference; a BIGINT or DECIMAL that does not fit fails the record."""
    return _subtract(call, left, right)


@function(
    "multiply",
    rule=_sum_rule(product_type),
    nulls=PROPAGATE,
    example=((Decimal("1.5"), Decimal("0.5")), Decimal("0.75")),
    form="{0} * {1}",
)
def multiply(call: Invocation, left: Value, right: Value) -> Value:
    """The product, of DECIMAL with the scales of both added; what does not fit fails the record."""
    return _multiply(call, left, right)


def _quotient(types: Types) -> Match | None:
    if len(types) != 2 or not all(is_number(type) or pa.types.is_null(type) for type in types):
        return None
    return (DOUBLE, DOUBLE), DOUBLE


@function(
    "divide",
    rule=Rule(("number, number",), _quotient),
    nulls=PROPAGATE_OR_ZERO,
    example=((7, 2), 3.5),
    form="{0} / {1}",
)
def divide(call: Invocation, left: Value, right: Value) -> Value:
    """The quotient as DOUBLE, of integers and DECIMAL too; NULL when the divisor is 0."""
    result, zero = arithmetic.divide_f64(left, right)
    return null_where(result, zero)


@function(
    "modulo",
    rule=_sum_rule(remainder_type),
    nulls=PROPAGATE_OR_ZERO,
    example=((-7, 3), -1),
    form="{0} % {1}",
)
def modulo(call: Invocation, left: Value, right: Value) -> Value:
    """The remainder of a division rounded towards zero, with the sign of the dividend."""
    if call.result_type == DOUBLE:
        result, zero = arithmetic.modulo_f64(left, right)
    elif pa.types.is_decimal(call.result_type):
        result, overflow = arithmetic.modulo_decimal(left, right, call.result_type)
        call.fail(
            overflow, "overflow", f"an argument of modulo is out of range for {type_name(call.result_type)}"
        )
        result = null_where(result, overflow)
        zero = mask_of(pc.equal(right, pa.scalar(Decimal(0), right.type)), call.rows)
    else:
        result, zero = arithmetic.modulo_i64(left, right)
    return null_where(result, zero)


@function("mod", rule=_sum_rule(remainder_type), nulls=PROPAGATE_OR_ZERO, example=((7.5, 2), 1.5))
def mod(call: Invocation, left: Value, right: Value) -> Value:
    """The remainder, as `%` gives it."""
    return modulo(call, left, right)


@function("negate", rule=numbers(1, lambda type: type), nulls=PROPAGATE, example=((5,), -5), form="-{0}")
def negate(call: Invocation, number: Value) -> Value:
    """The number with the other sign; the lowest BIGINT has none and fails the record."""
    return pc.negate(fail_lowest(call, number))


def fail_lowest(call: Invocation, number: Value) -> Value:
    """The numbers without the lowest BIGINT, whose negation is none: it fails the record."""
    if number.type != BIGINT:
        return number
    lowest = mask_of(pc.equal(number, pa.scalar(-(2**63), BIGINT)), call.rows)
    if not lowest.any():
        return number
    call.fail(lowest, "overflow", "the negation of -9223372036854775808 is out of range for BIGINT")
    return null_where(number, lowest)


# --- comparisons --------------------------------------------------------------------------------------


def _comparable(left: Value, right: Value) -> tuple[Value, Value]:
    """Decimals of two scales as decimals of one, in 256 bits where 128 do not do; others as they are."""
    if not pa.types.is_decimal(left.type) or left.type == right.type:
        return left, right
    scale = max(left.type.scale, right.type.scale)
    whole = max(left.type.precision - left.type.scale, right.type.precision - right.type.scale)
    precision = whole + scale
    common = (
        pa.decimal128(precision, scale)
        if precision <= MAX_DECIMAL_DIGITS
        else pa.decimal256(precision, scale)
    )
    return pc.cast(left, common), pc.cast(right, common)


def equal(left: Value, right: Value) -> Value:
    """Whether two values of comparable types are equal, NULL when one is NULL."""
    left, right = _comparable(left, right)
    if left.type == VARCHAR and isinstance(left, pa.Scalar) != isinstance(right, pa.Scalar):
        # A text is mostly compared with a constant, for which Arrow calls memcmp per row.
        texts, wanted = (right, left) if isinstance(left, pa.Scalar) else (left, right)
        return text.equal_text(texts, wanted)
    same = pc.equal(left, right)
    if left.type == DOUBLE:
        same = pc.or_(same, pc.and_(pc.is_nan(left), pc.is_nan(right)))
    return same


def less(left: Value, right: Value) -> Value:
    """Whether `left` comes before `right`, NULL when one is NULL."""
    left, right = _comparable(left, right)
    before = pc.less(left, right)
    if left.type == DOUBLE:
        before = pc.or_(before, pc.and_not(pc.is_nan(right), pc.is_nan(left)))
    return before


@function("eq", rule=comparison(), nulls=PROPAGATE, example=((1, 1), True), form="{0} = {1}")
def eq(call: Invocation, left: Value, right: Value) -> Value:
    """Whether both are equal: numbers by value (as DOUBLE when one is), text by its bytes."""
    return equal(left, right)


@function("ne", rule=comparison(), nulls=PROPAGATE, example=(("a", "b"), True), form="{0} <> {1}")
def ne(call: Invocation, left: Value, right: Value) -> Value:
    """Whether the two differ."""
    return pc.invert(equal(left, right))


@function("lt", rule=comparison(), nulls=PROPAGATE, example=((1, 2), True), form="{0} < {1}")
def lt(call: Invocation, left: Value, right: Value) -> Value:
    """Whether the first is less; text by its UTF-8 bytes, FALSE before TRUE, NaN after all numbers."""
    return less(left, right)


@function("le", rule=comparison(), nulls=PROPAGATE, example=(("a", "B"), False), form="{0} <= {1}")
def le(call: Invocation, left: Value, right: Value) -> Value:
    """Whether the first is not greater."""
    return pc.invert(less(right, left))


@function("gt", rule=comparison(), nulls=PROPAGATE, example=((True, False), True), form="{0} > {1}")
def gt(call: Invocation, left: Value, right: Value) -> Value:
    """Whether the first is greater."""
    return less(right, left)


@function("ge", rule=comparison(), nulls=PROPAGATE, example=((1, Decimal("1.0")), True), form="{0} >= {1}")
def ge(call: Invocation, left: Value, right: Value) -> Value:
    """Whether the first is not less."""
    return pc.invert(less(left, right))


@function(
    "in",
    rule=comparison(2, None),
    nulls="NULL when the value is NULL, or is not found and another is NULL",
    example=((2, 1, 2, 3), True),
    form="{0} IN ({rest})",
)
def in_(call: Invocation, value: Value, *members: Value) -> Value:
    """Whether the value equals one of the others."""
    if value.type != DOUBLE and all(isinstance(m, pa.Scalar) and m.type == value.type for m in members):
        return _in_constants(value, members)
    found = equal(value, members[0])
    for member in members[1:]:
        found = pc.or_kleene(found, equal(value, member))
    return found


def _in_constants(value: pa.Array, members: Sequence[pa.Scalar]) -> pa.Array:
    known = [member.as_py() for member in members if member.is_valid]
    found = pc.is_in(value, value_set=pa.array(known, value.type))
    if len(known) < len(members):
        found = pc.if_else(found, True, pa.scalar(None, BOOLEAN))
    return pc.if_else(pc.is_valid(value), found, pa.scalar(None, BOOLEAN))


# --- logic --------------------------------------------------------------------------------------------


def _where_not(value: bool) -> Callable[[Sequence[Value]], Mask]:
    """The rows for which no argument so far is `value`."""

    def taken(before: Sequence[Value]) -> Mask:
        rows = rows_of(before)
        mask = np.ones(rows, dtype=np.bool_)
        for argument in before:
            mask &= ~mask_of(pc.equal(argument, value), rows)
        return mask

    return taken


def _logic(types: Types) -> Match | None:
    if len(types) < 2 or not all(type == BOOLEAN or pa.types.is_null(type) for type in types):
        return None
    return (BOOLEAN,) * len(types), BOOLEAN


LOGIC = Rule(("BOOLEAN, BOOLEAN, …",), _logic)


@function(
    "and",
    rule=LOGIC,
    nulls="FALSE when an argument is FALSE, else NULL when one is NULL",
    example=((True, None, False), False),
    form="{0} AND {1}",
    taken=_where_not(False),
)
def and_(call: Invocation, *arguments: Value) -> Value:
    """Whether all are TRUE; an argument can fail only for rows that none before it makes FALSE."""
    result = arguments[0]
    for argument in arguments[1:]:
        result = pc.and_kleene(result, argument)
    return result


@function(
    "or",
    rule=LOGIC,
    nulls="TRUE when an argument is TRUE, else NULL when one is NULL",
    example=((False, None, True), True),
    form="{0} OR {1}",
    taken=_where_not(True),
)
def or_(call: Invocation, *arguments: Value) -> Value:
    """Whether one is TRUE; an argument can fail only for rows that none before it makes TRUE."""
    result = arguments[0]
    for argument in arguments[1:]:
        result = pc.or_kleene(result, argument)
    return result


@function(
    "not", rule=signatures("BOOLEAN -> BOOLEAN"), nulls=PROPAGATE, example=((True,), False), form="NOT {0}"
)
def not_(call: Invocation, argument: Value) -> Value:
    """TRUE for FALSE and FALSE for TRUE."""
    return pc.invert(argument)


def _any_to_boolean(types: Types) -> Match | None:
    return (types, BOOLEAN) if len(types) == 1 else None


ANY_TO_BOOLEAN = Rule(("any type",), _any_to_boolean)
NEVER = "never NULL"


@function("is_null", rule=ANY_TO_BOOLEAN, nulls=NEVER, example=((None,), True), form="{0} IS NULL")
def is_null(call: Invocation, value: Value) -> Value:
    """Whether there is no value."""
    return pc.is_null(value)


@function("is_not_null", rule=ANY_TO_BOOLEAN, nulls=NEVER, example=((None,), False), form="{0} IS NOT NULL")
def is_not_null(call: Invocation, value: Value) -> Value:
    """Whether there is a value."""
    return pc.is_valid(value)


_BOOLEAN = signatures("BOOLEAN -> BOOLEAN")


@function("is_true", rule=_BOOLEAN, nulls=NEVER, example=((None,), False), form="{0} IS TRUE")
def is_true(call: Invocation, value: Value) -> Value:
    """Whether the value is TRUE."""
    return pc.fill_null(value, False)


@function("is_false", rule=_BOOLEAN, nulls=NEVER, example=((None,), False), form="{0} IS FALSE")
def is_false(call: Invocation, value: Value) -> Value:
    """Whether the value is FALSE."""
    return pc.invert(pc.fill_null(value, True))


@function("is_not_true", rule=_BOOLEAN, nulls=NEVER, example=((None,), True), form="{0} IS NOT TRUE")
def is_not_true(call: Invocation, value: Value) -> Value:
    """Whether the value is FALSE or NULL."""
    return pc.invert(pc.fill_null(value, False))


@function("is_not_false", rule=_BOOLEAN, nulls=NEVER, example=((None,), True), form="{0} IS NOT FALSE")
def is_not_false(call: Invocation, value: Value) -> Value:
    """Whether the value is TRUE or NULL."""
    return pc.fill_null(value, True)
