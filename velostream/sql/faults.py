"""Errors inside the room: a message and the characters of the script that it is about.

The doors (`parse`, `bind`) turn them into errors with a file, a line and a caret.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlglot.errors import ParseError as SqlglotParseError

from velostream.errors import BindError, ParseError, SqlError, UnsupportedError, Where
from velostream.sql.expressions import Span


class Fault(SqlglotParseError):
    """An error with its place; sqlglot's own kind, so that it passes through sqlglot's parser."""

    def __init__(self, kind: type[SqlError], message: str, span: Span, hint: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.span = span
        self.hint = hint

    def error(self, text: str, file: str | None) -> SqlError:
        return self.kind(self.message, where=Where.in_text(text, *self.span, file), hint=self.hint)


def syntax(message: str, span: Span, hint: str | None = None) -> Fault:
    return Fault(ParseError, message, span, hint)


def wrong(message: str, span: Span, hint: str | None = None) -> Fault:
    """A name or a type that does not fit."""
    return Fault(BindError, message, span, hint)


def unsupported(what: str, span: Span, hint: str | None = None) -> Fault:
    return Fault(UnsupportedError, f"{what} is not supported", span, hint)


@contextmanager
def at(span: Span) -> Iterator[None]:
    """Gives the SqlErrors raised within, which know no place, the place `span`."""
    try:
        yield
    except SqlError as exc:
        raise Fault(type(exc), exc.message, span, exc.hint) from exc
