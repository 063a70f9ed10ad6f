"""The clauses of SELECT, and the windows and options that SQL does not have."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal as Choice

from sqlglot import exp
from sqlglot.tokenizer_core import TokenType

from velostream.errors import did_you_mean
from velostream.sql.statements import Name, Select, SelectItem, Source, Star, WindowClause
from velostream.sql.window_clause import OTHER_WINDOWS, WindowParser

# Where a clause may stand: not before one of a lower rank. WINDOW goes before or after GROUP BY and HAVING.
_RANKS = {"WHERE": 1, "GROUP BY": 2, "HAVING": 3, "EMIT": 4, "WITH": 4}


@dataclass
class _Clauses:
    """What was read behind FROM."""

    options: dict[str, str]
    where: exp.Expr | None = None
    group_by: tuple[exp.Expr, ...] | None = None
    having: exp.Expr | None = None
    window: WindowClause | None = None
    emit: Choice["changes", "final"] | None = None
    seen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.options:
            self.seen.append("WITH")


class SelectParser(WindowParser):
    """Reads one SELECT from the tokens of one statement."""

    def parse_select(self, options: dict[str, str] | None = None) -> Select:
        """`options` are those written before AS."""
        first = self._curr
        self.expect("SELECT")
        if self.at("DISTINCT"):
            hint = "GROUP BY the columns instead"
            self.unsupported("SELECT DISTINCT", self.span_from(self._curr, self._curr), hint)
        self.take("ALL")
        items = [self._read_item()]
        while self.take(","):
            items.append(self._read_item())
        if not self._curr:
            self.unsupported("a query without FROM", self.span_from(first), "name a stream or a 'file'")
        self.expect("FROM")
        source = self._read_source()
        clauses = self._read_clauses(options or {})
        return Select(
            tuple(items),
            source,
            clauses.where,
            clauses.group_by,
            clauses.having,
            clauses.window,
            clauses.emit,
            clauses.options,
            self.span_from(first),
        )

    # -- the list ----------------------------------------------------------------------------------

    def _read_item(self) -> SelectItem:
        first = self._curr
        if self.take("*"):
            star = Star(None, self.span_from(first))
            self._refuse_star_options()
            return SelectItem(star, None, star.span)
        if (
            self._curr.token_type in self.IDENTIFIER_TOKENS
            and self._next.token_type == TokenType.DOT
            and self._index + 2 < self._tokens_size
            and self._tokens[self._index + 2].token_type == TokenType.STAR
        ):
            name = self.parse_name("a stream")
            self._advance(2)
            star = Star(name, self.span_from(first))
            self._refuse_star_options()
            return SelectItem(star, None, star.span)
        expr = self.parse_expression()
        alias = self._read_alias_name()
        key = self.take("PRIMARY", "KEY")
        return SelectItem(expr, alias, self.span_from(first), key)

    def _refuse_star_options(self) -> None:
        for word in ("EXCLUDE", "EXCEPT", "REPLACE", "RENAME"):
            if self.at(word):
                self.unsupported(f"* {word}", self.span_from(self._curr, self._curr))

    def _read_alias_name(self) -> Name | None:
        if self.take("AS"):
            return self.parse_name("an alias")
        if self._curr.token_type in self.IDENTIFIER_TOKENS and not (
            self.at("EMIT") or self.at("PRIMARY", "KEY") or self._at_call_suffix()
        ):
            return self.parse_name("an alias")
        return None

    def _at_call_suffix(self) -> bool:
        return self.at("COLLATE") or self.at("SIMILAR", "TO") or self.at("GLOB")

    # -- FROM --------------------------------------------------------------------------------------

    def _read_source(self) -> Source:
        first = self._curr
        window = None
        if self._next.token_type == TokenType.L_PAREN and first.token_type == TokenType.VAR:
            (stream, path), window = self._read_table_function()
        else:
            if self.at("(") or self.at("VALUES"):
                hint = "CREATE STREAM from it first"
                self.unsupported("a subquery in FROM", self.span_from(first, first), hint)
            stream, path = self._read_stream()
            if self.at("."):
                self.unsupported("a stream's name of two parts", self.span_from(first, self._next))
        alias = self._read_alias_name()
        if self.at(","):
            self.unsupported("a join by ','", self.span_from(self._curr, self._curr))
        if path is not None and alias is not None:
            stream = Name(alias.text, alias.quoted, stream.span)
        return Source(stream, path, alias, window, self.span_from(first))

    def _read_stream(self) -> tuple[Name, str | None]:
        """A stream's name, and the path where a file is written."""
        token = self._curr
        if token.token_type != TokenType.STRING:
            return self.parse_name("a stream or a 'file'"), None
        self._advance()
        if not token.text:
            self.fault("the path of a file is empty", self.span_from(token))
        return Name(stream_name(token.text), False, self.span_from(token)), token.text

    def _read_table_function(self) -> tuple[tuple[Name, str | None], WindowClause]:
        first = self._curr
        kind = first.text.upper()
        if kind != "TUMBLE":
            hint = did_you_mean(kind, ("TUMBLE",))
            if kind in OTHER_WINDOWS or hint is None:
                self.unsupported(f"the table function {kind}", self.span_from(first, first), "use TUMBLE")
            self.fault(f"unknown table function '{first.text}'", self.span_from(first, first), hint)
        self._advance(2)
        self.expect("TABLE")
        stream = self._read_stream()
        self.expect(",", "DESCRIPTOR", "(")
        time = self._read_time()
        self.expect(")", ",")
        size_us = self._read_duration()
        if self.at(","):
            self.unsupported("the offset of a window", self.span_from(self._curr, self._curr))
        self.expect(")")
        return stream, WindowClause(kind, time, size_us, self.span_from(first))

    # -- clauses -----------------------------------------------------------------------------------

    def _read_clauses(self, options: dict[str, str]) -> _Clauses:
        clauses = _Clauses(options)
        while clause := self._next_clause(clauses.seen):
            match clause:
                case "WHERE":
                    self._advance()
                    clauses.where = self.parse_expression()
                case "GROUP BY":
                    clauses.group_by = self._read_group_by()
                case "HAVING":
                    self._advance()
                    clauses.having = self.parse_expression()
                case "WINDOW":
                    clauses.window = self._read_window_clause()
                case "EMIT":
                    clauses.emit = self._read_emit()
                case "WITH":
                    clauses.options = self.parse_options()
        return clauses

    def _next_clause(self, seen: list[str]) -> str | None:
        if not self._curr:
            return None
        for clause in (*_RANKS, "WINDOW"):
            if self.at(clause.split()[0]):
                break
        else:
            self.expected("the end of the statement")
        span = self.span_from(self._curr, self._curr)
        if clause in seen:
            self.fault(f"{clause} stands here for the second time", span)
        rank = _RANKS.get(clause, 3)
        # WITH may stand before AS.
        later = [other for other in seen if _RANKS.get(other, 1) > rank and other != "WITH"]
        if later:
            self.fault(f"{clause} stands behind {later[0]}", span, f"write {clause} before {later[0]}")
        seen.append(clause)
        return clause

    def _read_group_by(self) -> tuple[exp.Expr, ...]:
        self.expect("GROUP", "BY")
        for words in (("ALL",), ("ROLLUP", "("), ("CUBE", "("), ("GROUPING", "SETS")):
            if self.at(*words):
                self.unsupported(
                    f"GROUP BY {self._curr.text.upper()}", self.span_from(self._curr, self._curr)
                )
        keys = [self.parse_expression()]
        while self.take(","):
            keys.append(self.parse_expression())
        return tuple(keys)

    def _read_emit(self) -> Choice["changes", "final"]:
        self.expect("EMIT")
        if self.take("CHANGES"):
            return "changes"
        if self.take("FINAL"):
            return "final"
        self.expected("CHANGES or FINAL")

    def parse_options(self) -> dict[str, str]:
        """WITH ('key' = 'value', …); a value may be a number, TRUE or FALSE as well."""
        self.expect("WITH", "(")
        options: dict[str, str] = {}
        while True:
            key = self._curr
            if key.token_type != TokenType.STRING:
                self.expected("a key in quotes")
            if key.text in options:
                self.fault(f"option '{key.text}' is given twice", self.span_from(key, key))
            self._advance()
            self.expect("=")
            value = self._curr
            if value.token_type not in (TokenType.STRING, TokenType.NUMBER, TokenType.TRUE, TokenType.FALSE):
                self.expected("a value in quotes")
            self._advance()
            options[key.text] = value.text if value.token_type == TokenType.STRING else value.text.lower()
            if not self.take(","):
                break
        self.expect(")")
        return options


def stream_name(path: str) -> str:
    """The name of the stream that `FROM 'path'` reads, unless aliased.

    The file's name up to its first dot, with `_` for what no name may hold; of a glob, the folder's.

    >>> stream_name("data/flights-2013.csv.gz"), stream_name("trades/*.ndjson")
    ('flights_2013', 'trades')
    """
    for part in reversed(PurePath(path).parts):
        word = re.sub(r"\W+", "_", part.lstrip(".").split(".")[0]).strip("_")
        if word:
            return f"_{word}" if word[0].isdigit() else word
    return "input"
