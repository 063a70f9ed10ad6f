"""Which types functions take and give, and which types values convert to by themselves.

Conversion without a CAST goes upward only: TINYINT, SMALLINT, INTEGER, BIGINT, DECIMAL, DOUBLE; DATE to
TIMESTAMP; NULL to anything. Text never converts by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from velostream.errors import BindError
from velostream.sql.typenames import MAX_DECIMAL_DIGITS, parse_type, type_name
from velostream.sql.types import BIGINT, DATE, DOUBLE, TIMESTAMP

Types = tuple[pa.DataType, ...]
Match = tuple[Types, pa.DataType]

_INTEGER_DIGITS = {pa.int8(): 3, pa.int16(): 5, pa.int32(): 10, pa.int64(): 19}


@dataclass(frozen=True)
class Rule:
    """`arguments` are the accepted argument lists as text; `apply` gives the argument types that the
    implementation gets and its result's type, or None when the function does not take the types."""

    arguments: tuple[str, ...]
    apply: Callable[[Types], Match | None]


def is_number(type: pa.DataType) -> bool:
    """Whether the type is an integer, DECIMAL or DOUBLE."""
    return is_integer(type) or pa.types.is_decimal(type) or type == DOUBLE


def is_integer(type: pa.DataType) -> bool:
    """Whether the type is TINYINT, SMALLINT, INTEGER or BIGINT."""
    return any(type == known for known in _INTEGER_DIGITS)


def as_decimal(type: pa.DataType) -> pa.DataType:
    """The DECIMAL that holds every value of an integer type; a DECIMAL itself."""
    return type if pa.types.is_decimal(type) else pa.decimal128(_INTEGER_DIGITS[type], 0)


def decimal_of(whole_digits: int, scale: int) -> pa.DataType:
    """DECIMAL with that many digits before and behind the point, as many as fit 38 before it."""
    return pa.decimal128(min(max(whole_digits + scale, 1), MAX_DECIMAL_DIGITS), scale)


def signatures(*texts: str) -> Rule:
    """Fixed argument lists, `"VARCHAR, BIGINT -> VARCHAR"`: the one with the fewest conversions is taken."""
    overloads: list[Match] = []
    for text in texts:
        arguments, _, result = text.partition(" -> ")
        overloads.append((tuple(map(parse_type, arguments.split(","))), parse_type(result)))

    def apply(types: Types) -> Match | None:
        fitting = [
            (sum(given != wanted for given, wanted in zip(types, arguments, strict=True)), order)
            for order, (arguments, _) in enumerate(overloads)
            if len(arguments) == len(types) and all(map(converts, types, arguments))
        ]
        return overloads[min(fitting)[1]] if fitting else None

    return Rule(tuple(text.partition(" -> ")[0] for text in texts), apply)


def converts(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether every value of `given` may be used as a `wanted` without a CAST."""
    if pa.types.is_null(given) or given == wanted:
        return True
    wider = _wider(given, wanted)
    return wider is not None and bool(wider == wanted)


def common_type(types: Sequence[pa.DataType]) -> pa.DataType:
    """The type that values of all `types` convert to, as the branches of a CASE must.

    NULL alone stays NULL. Raises BindError, without a place, when there is none.

    >>> common_type([pa.int32(), pa.null(), pa.float64()])
    DataType(double)
    """
    common = pa.null()
    for given in types:
        wider = _wider(common, given)
        if wider is None:
            raise BindError(
                f"{type_name(common)} and {type_name(given)} have no common type",
                hint="make them one type with CAST",
            )
        common = wider
    return common


def _wider(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    if left == right or pa.types.is_null(right):
        return left
    if pa.types.is_null(left):
        return right
    if is_number(left) and is_number(right):
        if DOUBLE in (left, right):
            return DOUBLE
        if is_integer(left) and is_integer(right):
            return max(left, right, key=_INTEGER_DIGITS.__getitem__)
        left, right = as_decimal(left), as_decimal(right)
        scale = max(left.scale, right.scale)
        return decimal_of(max(left.precision - left.scale, right.precision - right.scale), scale)
    if {left, right} == {DATE, TIMESTAMP}:
        return TIMESTAMP
    return None


def same_type(minimum: int = 1, maximum: int | None = None, result: pa.DataType | None = None) -> Rule:
    """`minimum` to `maximum` (None: any number of) arguments of one type, whatever it is.

    The result has that type, unless `result` says another.
    """

    def apply(types: Types) -> Match | None:
        if len(types) < minimum or (maximum is not None and len(types) > maximum):
            return None
        common = common_type(types)
        return (common,) * len(types), common if result is None else result

    if maximum == 1:
        return Rule(("any type",), apply)
    arguments = ", ".join(["T"] * minimum)
    return Rule((arguments if maximum == minimum else f"{arguments}, …",), apply)


def numbers(count: int, decimal: Callable[..., pa.DataType], integer: pa.DataType = BIGINT) -> Rule:
    """`count` numbers: BIGINT for integers, DOUBLE when one is, else DECIMAL.

    DECIMAL arguments keep their scales, integers among them become DECIMAL(…, 0); `decimal` gives the result
    type from their types.
    """

    def apply(types: Types) -> Match | None:
        if len(types) != count:
            return None
        known = [type for type in types if not pa.types.is_null(type)]
        if not all(map(is_number, known)):
            return None
        if DOUBLE in known:
            return (DOUBLE,) * count, DOUBLE
        if not any(map(pa.types.is_decimal, known)):
            return (BIGINT,) * count, integer
        arguments = tuple(as_decimal(known[0] if pa.types.is_null(type) else type) for type in types)
        return arguments, decimal(*arguments)

    return Rule((", ".join(["number"] * count),), apply)


def comparison(minimum: int = 2, maximum: int | None = 2) -> Rule:
    """Values that can be compared: numbers (DECIMAL of any scales), or values of one type; gives BOOLEAN."""

    def apply(types: Types) -> Match | None:
        if len(types) < minimum or (maximum is not None and len(types) > maximum):
            return None
        common = common_type(types)
        if not pa.types.is_decimal(common):
            return (common,) * len(types), pa.bool_()
        return tuple(common if pa.types.is_null(type) else as_decimal(type) for type in types), pa.bool_()

    return Rule(("T, T" if maximum == 2 else "T, T, …",), apply)
