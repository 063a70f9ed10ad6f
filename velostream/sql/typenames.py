"""SQL names of types: text to Arrow and back."""

from __future__ import annotations

import re

import pyarrow as pa

from velostream.errors import BindError, did_you_mean, unknown
from velostream.sql.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INTEGER,
    SMALLINT,
    TIMESTAMP,
    TINYINT,
    VARCHAR,
)

MAX_DECIMAL_DIGITS = 38

_NAMES: dict[str, pa.DataType] = {
    "TINYINT": TINYINT,
    "SMALLINT": SMALLINT,
    "INTEGER": INTEGER,
    "BIGINT": BIGINT,
    "DOUBLE": DOUBLE,
    "VARCHAR": VARCHAR,
    "BOOLEAN": BOOLEAN,
    "TIMESTAMP": TIMESTAMP,
    "DATE": DATE,
}
_ALIASES = {
    "INT1": "TINYINT",
    "INT2": "SMALLINT",
    "INT": "INTEGER",
    "INT4": "INTEGER",
    "INT8": "BIGINT",
    "LONG": "BIGINT",
    "FLOAT": "DOUBLE",
    "FLOAT8": "DOUBLE",
    "REAL": "DOUBLE",
    "DOUBLE PRECISION": "DOUBLE",
    "STRING": "VARCHAR",
    "TEXT": "VARCHAR",
    "CHARACTER VARYING": "VARCHAR",
    "BOOL": "BOOLEAN",
    "DATETIME": "TIMESTAMP",
    "TIMESTAMP WITHOUT TIME ZONE": "TIMESTAMP",
}
_DECIMALS = ("DECIMAL", "NUMERIC", "DEC")
_TEXT = re.compile(
    r"\s*(?P<name>[A-Za-z_]\w*(?:\s+[A-Za-z_]\w*)*)\s*"
    r"(?P<arguments>\(\s*(?P<first>\d{1,9})\s*(?:,\s*(?P<second>\d{1,9})\s*)?\))?\s*"
)


def parse_type(text: str) -> pa.DataType:
    """The Arrow type of a SQL type's name, in any case; BindError (without a place) for any other text.

    FLOAT and REAL are DOUBLE; DECIMAL alone is DECIMAL(18, 3), DECIMAL(p) is DECIMAL(p, 0).

    >>> parse_type("decimal(10, 2)")
    Decimal128Type(decimal128(10, 2))
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise BindError(f"'{text.strip()}' is not the name of a type", hint="write it as in DECIMAL(10, 2)")
    name = " ".join(match["name"].upper().split())
    if name in _DECIMALS:
        return _decimal(match["first"], match["second"])
    name = _ALIASES.get(name, name)
    if name not in _NAMES:
        message, types = unknown("type", match["name"], [*_NAMES, "DECIMAL"])
        raise BindError(message, hint=did_you_mean(name, [*_NAMES, *_ALIASES, *_DECIMALS]) or types)
    if match["arguments"] is not None:
        raise BindError(f"type {name} takes no arguments", hint=f"write {name}")
    return _NAMES[name]


def is_type(name: str) -> bool:
    """Whether a word alone is the name of a type."""
    return name.upper() in (*_NAMES, *_ALIASES, *_DECIMALS)


def _decimal(first: str | None, second: str | None) -> pa.DataType:
    if first is None:
        return pa.decimal128(18, 3)
    precision, scale = int(first), int(second or 0)
    if not 1 <= precision <= MAX_DECIMAL_DIGITS:
        raise BindError(f"DECIMAL has 1 to {MAX_DECIMAL_DIGITS} digits, not {precision}")
    if scale > precision:
        raise BindError(f"DECIMAL({precision}, {scale}) has more digits behind the point than it has")
    return pa.decimal128(precision, scale)


def type_name(type: pa.DataType) -> str:
    """The SQL name of a type, as `parse_type` reads it.

    >>> type_name(pa.decimal128(10, 2))
    'DECIMAL(10, 2)'
    """
    if pa.types.is_decimal(type):
        return f"DECIMAL({type.precision}, {type.scale})"
    if pa.types.is_null(type):
        return "NULL"
    for name, known in _NAMES.items():
        if known == type:
            return name
    return str(type)
