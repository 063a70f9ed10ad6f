"""Names of streams and columns, and what they mean at a place of the query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from velostream.errors import unknown
from velostream.sql import faults
from velostream.sql.expressions import ColumnRef, Span
from velostream.sql.statements import Name


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What the binder must know of a stream.

    `event_time` is the TIMESTAMP column that a window takes when it names none. `metadata` are the columns
    that `*` leaves out.
    """

    name: str
    schema: pa.Schema
    event_time: str | None = None
    bounded: bool = True
    metadata: tuple[str, ...] = ()


def matches(name: Name, candidates: Iterable[str]) -> list[str]:
    """The candidates that `name` means: itself when quoted; else in any case, an exact one alone."""
    every = list(candidates)
    if name.quoted or name.text in every:
        return [candidate for candidate in every if candidate == name.text]
    return [candidate for candidate in every if candidate.lower() == name.text.lower()]


def find(kind: str, name: Name, candidates: Iterable[str]) -> str:
    """The one candidate that `name` means; a Fault with the nearest name when there is none, or several."""
    every = list(candidates)
    found = matches(name, every)
    if len(found) == 1:
        return found[0]
    if found:
        names = " or ".join(f'"{candidate}"' for candidate in found)
        raise faults.wrong(f"{kind} '{name.text}' is ambiguous", name.span, f"write {names}")
    message, hint = unknown(kind, name.text, every)
    raise faults.wrong(message, name.span, hint)


def find_stream(name: Name, streams: Mapping[str, StreamInfo]) -> StreamInfo:
    return streams[find("stream", name, streams)]


@dataclass(frozen=True, slots=True)
class Scope:
    """The columns of the one stream behind FROM; `alias` hides the stream's own name, as in the standard."""

    stream: StreamInfo
    alias: Name | None

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.stream.schema.names)

    @property
    def starred(self) -> tuple[str, ...]:
        """The columns that `*` stands for."""
        return tuple(name for name in self.columns if name not in self.stream.metadata)

    @property
    def qualifier(self) -> str:
        return self.alias.text if self.alias is not None else self.stream.name

    def check_qualifier(self, name: Name) -> None:
        if not matches(name, [self.qualifier]):
            message, hint = unknown("stream", name.text, [self.qualifier])
            raise faults.wrong(message, name.span, hint)

    def has(self, name: Name) -> bool:
        return bool(matches(name, self.columns))

    def column(self, name: Name, span: Span, others: Iterable[str] = ()) -> ColumnRef:
        """The column called `name`; `others` are names to suggest besides the columns."""
        found = matches(name, self.columns)
        if not found:
            message, hint = unknown("column", name.text, (*self.columns, *others))
            raise faults.wrong(f"{message} in '{self.qualifier}'", span, hint)
        column = find("column", name, self.columns)
        return self.ref(column, span)

    def ref(self, column: str, span: Span | None) -> ColumnRef:
        return ColumnRef(type=self.stream.schema.field(column).type, name=column, span=span)
