"""Which types CAST takes to which."""

from __future__ import annotations

import pyarrow as pa

from velostream.errors import BindError
from velostream.sql.expressions import Expr, Literal
from velostream.sql.functions.rules import is_number
from velostream.sql.literals import coerce, instant
from velostream.sql.typenames import type_name
from velostream.sql.types import BOOLEAN, VARCHAR


def check_cast(given: pa.DataType, wanted: pa.DataType) -> None:
    """Raises BindError, without a place, when no value of `given` can become a `wanted`."""
    if pa.types.is_null(given) or given == wanted or VARCHAR in (given, wanted):
        return
    if pa.types.is_temporal(given) and pa.types.is_temporal(wanted):
        return
    if all(is_number(type) or type == BOOLEAN for type in (given, wanted)):
        return
    raise BindError(f"{type_name(given)} cannot be cast to {type_name(wanted)}")


def cast_literal(literal: Literal, type: pa.DataType, safe: bool) -> Expr | None:
    """The constant as `type` where that is known now: NULL, text as TIMESTAMP or DATE, exact numbers.

    Text that is no TIMESTAMP or DATE raises BindError, or gives NULL when `safe`.
    """
    if literal.value is None:
        return Literal(type=type, value=None, span=literal.span)
    if literal.type == VARCHAR and pa.types.is_temporal(type):
        try:
            return Literal(type=type, value=instant(str(literal.value), type), span=literal.span)
        except BindError:
            if not safe:
                raise
            return Literal(type=type, value=None, span=literal.span)
    converted = coerce(literal, type)
    return converted if isinstance(converted, Literal) else None
