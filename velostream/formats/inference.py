"""The narrowest type that fits every value seen of a column."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime

import pyarrow as pa

from velostream.sql.types import BIGINT, BOOLEAN, DATE, DOUBLE, TIMESTAMP, VARCHAR

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2})(:[0-9]{2}(\.[0-9]+)?)?"
    r"([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)?"
)
# Which type holds the values of two others.
_WIDER = {
    frozenset((BIGINT, DOUBLE)): DOUBLE,
    frozenset((DATE, TIMESTAMP)): TIMESTAMP,
}


def type_of_text(text: str) -> pa.DataType:
    """The type of a value that a format without types writes as this text.

    >>> type_of_text("12"), type_of_text("2013-01-01"), type_of_text("true")
    (DataType(int64), DataType(date32[day]), DataType(bool))
    """
    if _INTEGER.fullmatch(text):
        return BIGINT if -(1 << 63) <= _bounded(text) < 1 << 63 else DOUBLE
    if _NUMBER.fullmatch(text):
        return DOUBLE
    if text.lower() in ("true", "false"):
        return BOOLEAN
    return type_of_string(text)


def _bounded(text: str) -> int:
    """The integer; one of more digits than Python likes to convert is as good as out of range."""
    return int(text) if len(text) < 1000 else 1 << 64


def type_of_string(text: str) -> pa.DataType:
    """DATE, TIMESTAMP or VARCHAR, by the look of a string."""
    if _DATE.fullmatch(text):
        return DATE if _exists(date.fromisoformat, text) else VARCHAR
    match = _TIMESTAMP.fullmatch(text)
    if match and _exists(datetime.fromisoformat, f"{match[1]}T{match[2]}{(match[3] or '')[:3]}"):
        return TIMESTAMP
    return VARCHAR


def _exists(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


class ColumnTypes:
    """Types of columns by name, in the order of their first appearance."""

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType | None] = {}

    def add(self, name: str, type: pa.DataType | None) -> None:
        """Note a value of that type; None for a null."""
        known = self._types.setdefault(name, type)
        if type is None or known == type:
            return
        self._types[name] = type if known is None else _WIDER.get(frozenset((known, type)), VARCHAR)

    def settled(self, name: str) -> bool:
        """Whether no further value can change the type of the column."""
        return self._types.get(name) is VARCHAR

    def types(self) -> dict[str, pa.DataType]:
        """A column of nulls only is VARCHAR."""
        return {name: VARCHAR if type is None else type for name, type in self._types.items()}
