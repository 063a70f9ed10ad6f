"""The aggregate functions: types for the binder, state for the operator, one entry each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from velostream import kernels
from velostream.errors import BindError, unknown
from velostream.registry import Registry
from velostream.sql.typenames import type_name
from velostream.sql.types import BIGINT, DOUBLE


@dataclass(frozen=True, slots=True)
class ResolvedAggregate:
    """`argument_type` is what the argument is cast to, None for COUNT(*)."""

    name: str
    argument_type: pa.DataType | None
    result_type: pa.DataType


@dataclass(frozen=True, slots=True)
class AggregateKernel:
    """What an aggregate wants kept of its argument, and the state's method that reads the result.

    `part` is one of `kernels.PARTS`, None when the number of values is enough. Aggregates of one argument
    share a state that keeps the parts of all.
    """

    part: str | None
    read: str


class AggregateFunction(ABC):
    """An aggregate. NULLs are left out of all of them."""

    @abstractmethod
    def resolve(self, argument: pa.DataType | None) -> tuple[pa.DataType | None, pa.DataType]:
        """The argument's type as it is computed, and the result's; raises BindError."""

    kernel: ClassVar[AggregateKernel]


aggregates: Registry[type[AggregateFunction]] = Registry("aggregate", __name__)


@aggregates.register("COUNT", example="COUNT(*)", signature="COUNT(*) | COUNT(any) -> BIGINT")
class Count(AggregateFunction):
    """Number of rows, or of values that are not NULL; 0 when there is none."""

    def resolve(self, argument: pa.DataType | None) -> tuple[pa.DataType | None, pa.DataType]:
        return (None if argument is None else _any("COUNT", argument)), BIGINT

    kernel = AggregateKernel(None, "count")


@aggregates.register(
    "SUM",
    example="SUM(quantity)",
    signature="SUM(integer) -> BIGINT | SUM(DOUBLE) -> DOUBLE | SUM(DECIMAL(p, s)) -> DECIMAL(38, s)",
)
class Sum(AggregateFunction):
    """Sum of the values that are not NULL; NULL when there is none."""

    def resolve(self, argument: pa.DataType | None) -> tuple[pa.DataType | None, pa.DataType]:
        number = _number("SUM", argument)
        if pa.types.is_decimal128(number):
            return number, pa.decimal128(38, number.scale)
        return number, number

    kernel = AggregateKernel("sum", "sum")


@aggregates.register(
    "AVG",
    example="AVG(price)",
    signature="AVG(integer | DOUBLE) -> DOUBLE | AVG(DECIMAL(p, s)) -> DECIMAL(38, max(s, 6))",
)
class Avg(AggregateFunction):
    """Mean of the values that are not NULL; NULL when there is none."""

    def resolve(self, argument: pa.DataType | None) -> tuple[pa.DataType | None, pa.DataType]:
        number = _number("AVG", argument)
        if pa.types.is_decimal128(number):
            return number, pa.decimal128(38, max(number.scale, 6))
        return number, DOUBLE

    kernel = AggregateKernel("sum", "average")


@aggregates.register("MIN", example="MIN(price)", signature="MIN(any) -> the same type")
class Min(AggregateFunction):
    """Least of the values that are not NULL (VARCHAR by its bytes, NaN above all numbers)."""

    def resolve(self, argument: pa.DataType | None) -> tuple[pa.DataType | None, pa.DataType]:
        type = _any("MIN", argument)
        return type, type

    kernel = AggregateKernel("least", "least")


@aggregates.register("MAX", example="MAX(price)", signature="MAX(any) -> the same type")
class Max(AggregateFunction):
    """Greatest of the values that are not NULL (VARCHAR by its bytes, NaN above all numbers)."""

    def resolve(self, argument: pa.DataType | None) -> tuple[pa.DataType | None, pa.DataType]:
        type = _any("MAX", argument)
        return type, type

    kernel = AggregateKernel("greatest", "greatest")


def is_aggregate(name: str) -> bool:
    """Whether there is an aggregate of that name, in any case."""
    return name.upper() in aggregates


def resolve_aggregate(name: str, argument: pa.DataType | None, distinct: bool) -> ResolvedAggregate:
    """Types of `name(argument)`; `argument` is None for `name(*)`. Raises BindError without a place.

    >>> resolve_aggregate("avg", pa.int32(), False).result_type
    DataType(double)
    """
    name = name.upper()
    if name not in aggregates:
        message, hint = unknown("aggregate", name, aggregates.names())
        raise BindError(message, hint=hint)
    if argument is None and distinct:
        raise BindError(f"{name}(DISTINCT *) has no meaning", hint=f"name a column: {name}(DISTINCT column)")
    argument_type, result_type = aggregates[name]().resolve(argument)
    return ResolvedAggregate(name, argument_type, result_type)


def aggregate_kernel(name: str) -> AggregateKernel:
    """What a resolved aggregate wants kept."""
    return aggregates[name].kernel


def aggregate_state(argument: pa.DataType | None, parts: Iterable[str]) -> kernels.State:
    """The state that keeps these parts of an argument; of any argument, or none, when there are no parts."""
    parts = frozenset(parts)
    if not parts:
        return kernels.CountState()
    if pa.types.is_string(argument):
        return kernels.TextState(argument, parts)
    if pa.types.is_float64(argument):
        return kernels.DoubleState(argument, parts)
    if pa.types.is_decimal128(argument):
        return kernels.DecimalState(argument, parts)
    return kernels.Int64State(argument, parts)


def _any(name: str, argument: pa.DataType | None) -> pa.DataType:
    """The type itself, BIGINT for a bare NULL; raises BindError when there is no argument."""
    if argument is None:
        raise BindError(f"{name}(*) has no meaning", hint=f"name a column: {name}(column)")
    return BIGINT if pa.types.is_null(argument) else argument


def _number(name: str, argument: pa.DataType | None) -> pa.DataType:
    """BIGINT for integers, else the type itself; raises BindError when it is not a number."""
    argument = _any(name, argument)
    if pa.types.is_integer(argument):
        return BIGINT
    if pa.types.is_float64(argument) or pa.types.is_decimal128(argument):
        return argument
    if pa.types.is_boolean(argument):
        hint = "count the rows with COUNT(*) FILTER (WHERE …)"
    elif pa.types.is_string(argument):
        hint = f"convert it: {name}(CAST(… AS DOUBLE))"
    else:
        hint = "it takes integers, DOUBLE and DECIMAL; MIN and MAX take any type"
    raise BindError(f"{name} of '{type_name(argument)}' is not defined", hint=hint)
