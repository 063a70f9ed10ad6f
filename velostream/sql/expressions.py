"""Bound, typed expressions: what the binder makes of the query's text.

They are data (frozen, hashable, printable); `velostream.operators.expressions` runs them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expr:
    """`type` is the Arrow type of the value; `span` the characters of the query it comes from."""

    type: pa.DataType
    span: Span | None = field(default=None, compare=False, repr=False)

    def children(self) -> tuple[Expr, ...]:
        return ()

    def walk(self) -> Iterator[Expr]:
        """This expression and all below it, parents first."""
        yield self
        for child in self.children():
            yield from child.walk()

    def columns(self) -> tuple[str, ...]:
        """Names of the columns read, each once, in order of first use."""
        return tuple(dict.fromkeys(e.name for e in self.walk() if isinstance(e, ColumnRef)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRef(Expr):
    """A column of the input, by its exact name there."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal(Expr):
    """A constant: `value` is an int, float, Decimal, str, bool, datetime or date as `type` says, or None."""

    value: object

    def __str__(self) -> str:
        if self.value is None:
            return "NULL"
        if isinstance(self.value, bool):
            return str(self.value).upper()
        if isinstance(self.value, (int, float)) or pa.types.is_decimal(self.type):
            return str(self.value)
        text = str(self.value).replace("'", "''")
        return f"'{text}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Expr):
    """A call of a registered scalar function or operator (`velostream.sql.functions`)."""

    function: str
    args: tuple[Expr, ...]

    def children(self) -> tuple[Expr, ...]:
        return self.args

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.args))})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case(Expr):
    """Searched CASE: the value of the first branch whose condition is TRUE, else `otherwise`.

    A branch is evaluated, and can fail, only for the rows that take it.
    """

    branches: tuple[tuple[Expr, Expr], ...]
    otherwise: Expr

    def children(self) -> tuple[Expr, ...]:
        return (*(e for branch in self.branches for e in branch), self.otherwise)

    def __str__(self) -> str:
        whens = " ".join(f"WHEN {when} THEN {then}" for when, then in self.branches)
        return f"CASE {whens} ELSE {self.otherwise} END"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast(Expr):
    """CAST to `type`: a value that does not fit fails the record, or is NULL when `safe` (TRY_CAST)."""

    arg: Expr
    safe: bool = False

    def children(self) -> tuple[Expr, ...]:
        return (self.arg,)

    def __str__(self) -> str:
        return f"{'TRY_CAST' if self.safe else 'CAST'}({self.arg} AS {self.type})"
