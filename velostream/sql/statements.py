"""What the parser makes of a script: statements, not yet bound to any stream.

Expressions are sqlglot's nodes, each with `meta["span"]`, the characters of the script it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal as Choice

from sqlglot import exp

from velostream.sql.expressions import Span
from velostream.sql.types import Schema


@dataclass(frozen=True, slots=True)
class Name:
    """An identifier. A `quoted` one means exactly that; another matches in any case."""

    text: str
    quoted: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Star:
    """`*`, or `qualifier.*`."""

    qualifier: Name | None
    span: Span


@dataclass(frozen=True, slots=True)
class SelectItem:
    """`key`: it is followed by PRIMARY KEY."""

    expr: exp.Expr | Star
    alias: Name | None
    span: Span
    key: bool = False


@dataclass(frozen=True, slots=True)
class WindowClause:
    """`kind` is the word written (TUMBLING, TUMBLE); `time` the parts of the column, or None."""

    kind: str
    time: tuple[Name, ...] | None
    size_us: int
    span: Span


@dataclass(frozen=True, slots=True)
class Source:
    """What stands behind FROM. `path` is the text of `FROM 'path'`; `window` that of `FROM TUMBLE(…)`."""

    stream: Name
    path: str | None
    alias: Name | None
    window: WindowClause | None
    span: Span


@dataclass(frozen=True, slots=True)
class Select:
    items: tuple[SelectItem, ...]
    source: Source
    where: exp.Expr | None
    group_by: tuple[exp.Expr, ...] | None
    having: exp.Expr | None
    window: WindowClause | None
    emit: Choice["changes", "final"] | None
    options: dict[str, str]
    span: Span


@dataclass(frozen=True, slots=True)
class Statement:
    """A SELECT, or CREATE STREAM|TABLE `name` AS SELECT."""

    name: Name | None
    kind: Choice["stream", "table", "select"]
    select: Select
    span: Span


@dataclass(frozen=True, slots=True)
class InputRef:
    """A stream that a script reads and that no query of it creates; `path` where it was written as a file."""

    name: str
    path: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class DeclaredStream:
    """CREATE STREAM `name` (column type, …) WITH (options)."""

    name: str
    schema: Schema
    options: dict[str, str]
    span: Span


@dataclass(frozen=True, slots=True)
class ParsedScript:
    """`inputs` are the streams read that no earlier query creates, each once, declared ones among them."""

    text: str
    file: str | None
    statements: tuple[Statement, ...]
    inputs: tuple[InputRef, ...]
    declared: dict[str, DeclaredStream] = field(default_factory=dict)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the streams and tables that the script creates from queries, in order."""
        return tuple(statement.name.text for statement in self.statements if statement.name is not None)
