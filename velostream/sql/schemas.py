"""Schemas declared as text: a mapping of columns to the names of their types."""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import ZoneInfo

import pyarrow as pa

from velostream.errors import BindError, ConfigError, VelostreamError, Where, raise_all, unknown
from velostream.sql.typenames import parse_type, type_name
from velostream.sql.types import Field, Schema


def schema_of(
    columns: Mapping[str, str], formats: Mapping[str, str], timezone: str = "UTC", key: str = ""
) -> Schema:
    """The schema of `columns` (name to SQL type), in their order.

    `formats` says how TIMESTAMP and DATE columns are written (see `Field`); `timezone` is an IANA name.
    Raises ConfigError, or Problems with all of them; their `where.key` is `schema.NAME`,
    `timestamp_formats.NAME` or `timezone`, below `key` (a source's: `sources.NAME`).

    >>> schema_of({"ts": "TIMESTAMP", "price": "DOUBLE"}, {"ts": "ms"}).names
    ('ts', 'price')
    """
    below = f"{key}." if key else ""
    errors: list[VelostreamError] = []
    types: dict[str, pa.DataType] = {}
    seen: dict[str, str] = {}
    for name, text in columns.items():
        where = Where(key=f"{below}schema.{name}")
        if not name:
            errors.append(ConfigError("a column needs a name", where=where))
        if name.lower() in seen:
            message = f"column '{name}' differs from '{seen[name.lower()]}' in case only"
            errors.append(ConfigError(message, where=where, hint="rename one of them"))
        seen[name.lower()] = name
        try:
            types[name] = parse_type(text)
        except BindError as exc:
            errors.append(ConfigError(exc.message, where=where, hint=exc.hint))
    for name in formats:
        where = Where(key=f"{below}timestamp_formats.{name}")
        if name not in columns:
            message, hint = unknown("column", name, columns)
            errors.append(ConfigError(message, where=where, hint=hint))
        elif name in types and not pa.types.is_temporal(types[name]):
            message = f"column '{name}' is {type_name(types[name])}, which takes no format"
            hint = "only TIMESTAMP and DATE columns do"
            errors.append(ConfigError(message, where=where, hint=hint))
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError):
        # ValueError and OSError: names that are no path below the database, such as '/etc' or ''.
        hint = "expected an IANA name such as 'Europe/Paris'"
        where = Where(key=f"{below}timezone")
        errors.append(ConfigError(f"unknown time zone '{timezone}'", where=where, hint=hint))
    if not columns:
        errors.append(ConfigError("a schema needs a column", where=Where(key=f"{below}schema")))
    raise_all(errors)
    return Schema(tuple(Field(name, type, formats.get(name)) for name, type in types.items()), timezone)
