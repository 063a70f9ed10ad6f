"""SQL types and the schemas of streams.

A SQL type *is* an Arrow type; this module maps names, and says what a column's text looks like.

| SQL | Arrow |
|---|---|
| TINYINT, SMALLINT, INTEGER, BIGINT | int8, int16, int32, int64 |
| DOUBLE | float64 |
| DECIMAL(p, s), p <= 38 | decimal128(p, s) |
| VARCHAR | string |
| BOOLEAN | bool |
| TIMESTAMP | timestamp("us"), UTC |
| DATE | date32 |
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

TINYINT = pa.int8()
SMALLINT = pa.int16()
INTEGER = pa.int32()
BIGINT = pa.int64()
DOUBLE = pa.float64()
VARCHAR = pa.string()
BOOLEAN = pa.bool_()
TIMESTAMP = pa.timestamp("us")
DATE = pa.date32()


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a stream.

    `format` says how a TIMESTAMP or DATE is written: None is ISO 8601 text or an epoch number in
    milliseconds; "s", "ms", "us", "ns" is an epoch number of that unit; anything else a strptime format.
    """

    name: str
    type: pa.DataType
    format: str | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a stream in order, and the time zone (IANA name) of timestamps without one."""

    fields: tuple[Field, ...]
    timezone: str = "UTC"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    def field(self, name: str) -> Field:
        """The field of that exact name; KeyError when there is none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    def arrow(self) -> pa.Schema:
        return pa.schema([pa.field(field.name, field.type) for field in self.fields])
