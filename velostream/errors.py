"""What can go wrong, as one tree:

VelostreamError
├── ConfigError          a key, a value, a file of the configuration
├── SqlError             the query
│   ├── ParseError       its grammar
│   ├── BindError        its names and types
│   └── UnsupportedError valid SQL that velostream does not run (yet)
├── ConnectorError       a source or sink: a missing file, a lost broker
│   ├── FencedError      another process has taken over
│   └── NoAnswerError    it was asked, and has not answered in time
├── FormatError          a whole stream that is not of its format
├── RecordFailure        a record error that `failure=fail_batch` turns into the job's error
├── StateError           saved state that cannot be used
├── InternalError        a defect of velostream
└── Problems             several of these, found by one check

Errors of single records are data (`RecordError` in `velostream.operators.batch`), not exceptions.
Only the command line turns an error into text for a person, by `render()`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Where:
    """A place in something a person wrote.

    `line` and `column` count from 1; `width` is the number of characters to underline. `text` is the
    whole text that holds the place (a query, a file), or None when it is not at hand. `key` is a
    dotted configuration key or an override.
    """

    file: str | None = None
    line: int | None = None
    column: int | None = None
    width: int = 1
    text: str | None = None
    key: str | None = None

    @classmethod
    def in_text(cls, text: str, start: int, end: int, file: str | None = None) -> Where:
        """The place of the characters `start` to `end` (exclusive, from 0) of `text`."""
        start = max(0, min(start, len(text)))
        line = text.count("\n", 0, start) + 1
        begin = text.rfind("\n", 0, start) + 1
        stop = text.find("\n", start)
        stop = len(text) if stop < 0 else stop
        width = max(1, min(end, stop) - start)
        return cls(file=file, line=line, column=start - begin + 1, width=width, text=text)

    def __str__(self) -> str:
        parts = [self.file or ("" if self.line is None else "query")]
        if self.line is not None:
            parts.append(str(self.line))
            if self.column is not None:
                parts.append(str(self.column))
        place = ":".join(part for part in parts if part)
        if self.key and not place:
            return self.key
        return place

    def excerpt(self) -> str:
        """The line with a caret below it, indented by two; "" where the text is not at hand."""
        if self.text is None or self.line is None:
            return ""
        lines = self.text.splitlines()
        if self.line > len(lines):
            return ""
        source = lines[self.line - 1].expandtabs(1)
        label = f"  {self.line} | "
        if self.column is None:
            return f"{label}{source}"
        return f"{label}{source}\n{' ' * (len(label) + self.column - 1)}{'^' * self.width}"


class VelostreamError(Exception):
    """Base of all errors that velostream raises on purpose.

    `message` starts in lower case and quotes the value at fault; `hint` is the way out, or None.
    """

    code = "error"

    def __init__(self, message: str, *, where: Where | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        return self.render()

    def render(self) -> str:
        """The error as text: `place: message; hint`, then the line at fault with a caret."""
        head = self.message if self.hint is None else f"{self.message}; {self.hint}"
        if self.where is None:
            return head
        place = str(self.where)
        text = f"{place}: {head}" if place else head
        excerpt = self.where.excerpt()
        return f"{text}\n{excerpt}" if excerpt else text


class ConfigError(VelostreamError):
    code = "config"


class SqlError(VelostreamError):
    code = "sql"


class ParseError(SqlError):
    code = "sql.parse"


class BindError(SqlError):
    code = "sql.bind"


class UnsupportedError(SqlError):
    code = "sql.unsupported"


class ConnectorError(VelostreamError):
    """`final`: asking again gives the same error."""

    code = "connector"
    final = False

    def __init__(
        self, message: str, *, where: Where | None = None, hint: str | None = None, final: bool = False
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.final = self.final or final


class FencedError(ConnectorError):
    """Another process has taken over: what this one has not committed must be dropped, never sent again."""

    code = "connector.fenced"
    final = True


class NoAnswerError(ConnectorError):
    code = "connector.no_answer"


class FormatError(VelostreamError):
    code = "format"


class RecordFailure(VelostreamError):
    code = "record"


class StateError(VelostreamError):
    code = "state"


class InternalError(VelostreamError):
    code = "internal"


class Problems(VelostreamError):
    """Every error that one check found; at least one."""

    code = "problems"

    def __init__(self, errors: Sequence[VelostreamError]) -> None:
        super().__init__(errors[0].message)
        self.errors = tuple(errors)

    def render(self) -> str:
        return "\n".join(error.render() for error in self.errors)


def raise_all(errors: Sequence[VelostreamError]) -> None:
    """Raise nothing, the one error, or `Problems` with all of them (nested ones flattened)."""
    flat: list[VelostreamError] = []
    for error in errors:
        flat.extend(error.errors if isinstance(error, Problems) else (error,))
    if len(flat) == 1:
        raise flat[0]
    if flat:
        raise Problems(flat)


def did_you_mean(word: str, candidates: Iterable[str]) -> str | None:
    """`did you mean 'price'?` for the nearest of `candidates`, or None when none is near.

    >>> did_you_mean("pric", ["price", "quantity"])
    "did you mean 'price'?"
    """
    names = {name.lower(): name for name in candidates}
    near = difflib.get_close_matches(word.lower(), list(names), n=1, cutoff=0.6)
    return f"did you mean '{names[near[0]]}'?" if near else None


def unknown(kind: str, word: str, candidates: Iterable[str]) -> tuple[str, str]:
    """Message and hint for a name that does not exist: the nearest one, else the list.

    >>> unknown("format", "jsn", ["csv", "ndjson"])
    ("unknown format 'jsn'", "did you mean 'ndjson'?")
    """
    names = sorted(candidates)
    hint = did_you_mean(word, names)
    if hint is None:
        hint = "expected one of " + ", ".join(f"'{name}'" for name in names) if names else "there is none"
    return f"unknown {kind} '{word}'", hint
