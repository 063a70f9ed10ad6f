"""Constants: what their text means, and the same constant as another type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext

import pyarrow as pa

from velostream.errors import BindError, SqlError
from velostream.sql import faults
from velostream.sql.expressions import Cast, Expr, Literal, Span
from velostream.sql.functions.rules import is_integer
from velostream.sql.typenames import MAX_DECIMAL_DIGITS, type_name
from velostream.sql.types import BIGINT, DATE, DOUBLE, TIMESTAMP, VARCHAR

_INTEGER = re.compile(r"-?\d+")
_DECIMAL = re.compile(r"(-?)(\d*)\.(\d*)")
_FLOAT = re.compile(r"-?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")
_INSTANT = re.compile(
    r"\s*(?P<date>\d{4}-\d{1,2}-\d{1,2})"
    r"(?:[ T](?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:\.(?P<fraction>\d+))?)?"
    r"\s*(?P<zone>Z|[+-]\d{2}(?::?\d{2})?)?)?\s*",
    re.ASCII | re.IGNORECASE,
)


def number(text: str, span: Span) -> Literal:
    """BIGINT without a point (DECIMAL where it is too large), an exact DECIMAL with one, DOUBLE with an
    exponent or more than 38 digits. Raises BindError, without a place.

    >>> number("1.50", (0, 4)).type
    Decimal128Type(decimal128(3, 2))
    """
    if _INTEGER.fullmatch(text):
        value = int(text) if len(text) <= MAX_DECIMAL_DIGITS + 1 else None
        if value is not None and -(2**63) <= value < 2**63:
            return Literal(type=BIGINT, value=value, span=span)
        if len(text.lstrip("-")) <= MAX_DECIMAL_DIGITS:
            return Literal(type=pa.decimal128(MAX_DECIMAL_DIGITS, 0), value=Decimal(text), span=span)
    elif match := _DECIMAL.fullmatch(text):
        digits, scale = len(match[2]) + len(match[3]), len(match[3])
        if 0 < digits <= MAX_DECIMAL_DIGITS:
            return Literal(type=pa.decimal128(digits, scale), value=Decimal(text), span=span)
    elif not _FLOAT.fullmatch(text):
        raise BindError(f"'{text}' is not a number")
    value_f64 = float(text)
    if value_f64 in (float("inf"), float("-inf")):
        raise BindError(f"'{text}' is too large for DOUBLE")
    return Literal(type=DOUBLE, value=value_f64, span=span)


def instant(text: str, type: pa.DataType) -> datetime | date:
    """The value of ISO 8601 text as TIMESTAMP (UTC, without a zone) or DATE; BindError when it is none.

    Text without a zone is UTC; finer fractions than microseconds are cut off.
    """
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise _not_an_instant(text, type)
    try:
        year, month, day = map(int, match["date"].split("-"))
        value = datetime(year, month, day)
        if match["hour"] is not None:
            microsecond = int((match["fraction"] or "0")[:6].ljust(6, "0"))
            value = value.replace(
                hour=int(match["hour"]),
                minute=int(match["minute"]),
                second=int(match["second"] or 0),
                microsecond=microsecond,
            )
        value -= _offset(match["zone"])
    except (ValueError, OverflowError) as exc:
        raise _not_an_instant(text, type) from exc
    return value.date() if type == DATE else value


def _offset(zone: str | None) -> timedelta:
    if zone is None or zone.upper() == "Z":
        return timedelta(0)
    digits = zone[1:].replace(":", "")
    hours, minutes = int(digits[:2]), int(digits[2:] or 0)
    if hours > 23 or minutes > 59:
        raise ValueError(zone)
    offset = timedelta(hours=hours, minutes=minutes)
    return -offset if zone[0] == "-" else offset


def _not_an_instant(text: str, type: pa.DataType) -> SqlError:
    example = "'2013-01-31'" if type == DATE else "'2013-01-31 12:30:00'"
    return BindError(f"'{text}' is not a {type_name(type)}", hint=f"write it as {example}")


def as_instants(values: Sequence[Expr]) -> list[Expr]:
    """Values to compare: constants of text become TIMESTAMP or DATE where another value is one.

    Raises Fault for text that is none.
    """
    temporal = [value.type for value in values if pa.types.is_temporal(value.type)]
    if not temporal:
        return list(values)
    type = TIMESTAMP if TIMESTAMP in temporal else DATE
    return [_as_instant(value, type) for value in values]


def _as_instant(expr: Expr, type: pa.DataType) -> Expr:
    if not isinstance(expr, Literal) or expr.type != VARCHAR or expr.span is None:
        return expr
    text = str(expr.value)
    with faults.at(expr.span):
        value = instant(text, type)
        if type == DATE and instant(text, TIMESTAMP) != _midnight(value):
            hint = "leave the time out, or cast the column to TIMESTAMP"
            raise BindError(f"'{text}' has a time of day, a DATE has none", hint=hint)
    return Literal(type=type, value=value, span=expr.span)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)


def coerce(expr: Expr, type: pa.DataType) -> Expr:
    """`expr` as `type`: constants at once where nothing is lost, all else by a Cast."""
    if expr.type == type:
        return expr
    if isinstance(expr, Literal):
        if expr.value is None:
            return Literal(type=type, value=None, span=expr.span)
        value = _exact(expr, type)
        if value is not None:
            return Literal(type=type, value=value, span=expr.span)
    return Cast(type=type, arg=expr, span=expr.span)


def _exact(literal: Literal, type: pa.DataType) -> object:
    """The literal's value as another type of number or time, or None where a Cast must decide."""
    value = literal.value
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, Decimal)) and type == DOUBLE:
        return float(value)
    if isinstance(value, int) and is_integer(type):
        bits = type.bit_width
        return value if -(2 ** (bits - 1)) <= value < 2 ** (bits - 1) else None
    if isinstance(value, (int, Decimal)) and pa.types.is_decimal(type):
        exact = Decimal(value)
        # The default context rounds to 28 digits.
        with localcontext(prec=2 * MAX_DECIMAL_DIGITS):
            fits = exact == round(exact, type.scale) and abs(exact) < 10 ** (type.precision - type.scale)
        return exact if fits else None
    if type == TIMESTAMP and literal.type == DATE and isinstance(value, date):
        return _midnight(value)
    return None
