"""Functions that choose among their arguments. An argument can fail only for rows that look at it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from velostream.sql.functions.operators import equal
from velostream.sql.functions.registry import Invocation, Mask, Value, function
from velostream.sql.functions.rules import (
    Match,
    Rule,
    Types,
    as_decimal,
    common_type,
    comparison,
    is_number,
    same_type,
)
from velostream.sql.functions.values import mask_of, rows_of, valid_mask
from velostream.sql.types import BOOLEAN


def _all_null(before: Sequence[Value]) -> Mask:
    rows = rows_of(before)
    mask = np.ones(rows, dtype=np.bool_)
    for value in before:
        mask &= ~valid_mask(value, rows)
    return mask


@function(
    "coalesce",
    rule=same_type(),
    nulls="NULL when all arguments are",
    example=((None, 2, 3), 2),
    aliases=("ifnull",),
    taken=_all_null,
)
def coalesce(call: Invocation, *values: Value) -> Value:
    """The first value that is not NULL."""
    return pc.coalesce(*values)


def _nullif(types: Types) -> Match | None:
    match = comparison().apply(types)
    if match is None:
        return None
    first, other = match[0]
    # A number keeps its type and is compared as the other's; a DATE next to a TIMESTAMP becomes one.
    if is_number(types[0]):
        first = types[0]
    return (first, other), first


@function(
    "nullif",
    rule=Rule(("T, T",), _nullif),
    nulls="NULL when both are equal or the first is NULL",
    example=((0, 0), None),
)
def nullif(call: Invocation, value: Value, other: Value) -> Value:
    """The first value, or NULL when it equals the second."""
    compared = value
    if value.type != other.type and not pa.types.is_decimal(value.type):
        common = as_decimal(value.type) if pa.types.is_decimal(other.type) else other.type
        compared = pc.cast(value, common, safe=False)
    same = pc.fill_null(equal(compared, other), False)
    return pc.if_else(same, pa.scalar(None, value.type), value)


def _if(types: Types) -> Match | None:
    if len(types) != 3 or not (types[0] == BOOLEAN or pa.types.is_null(types[0])):
        return None
    common = common_type(types[1:])
    return (BOOLEAN, common, common), common


def _if_taken(before: Sequence[Value]) -> Mask:
    true = mask_of(before[0], rows_of(before))
    return true if len(before) == 1 else ~true


@function(
    "if",
    rule=Rule(("BOOLEAN, T, T",), _if),
    nulls="NULL when the value chosen is",
    taken=_if_taken,
    example=((None, 1, 2), 2),
)
def if_(call: Invocation, condition: Value, then: Value, otherwise: Value) -> Value:
    """The second argument when the condition is TRUE, else the third."""
    return pc.if_else(pc.fill_null(condition, False), then, otherwise)
