"""The clauses of SELECT, and the windows and options that SQL does not have."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal as Choice

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from velostream.errors import did_you_mean
from velostream.sql.dialect import Velostream, VelostreamParser
from velostream.sql.statements import Name, Select, SelectItem, Source, Star, WindowClause

_UNITS_US = {
    "MILLISECOND": 1_000,
    "SECOND": 1_000_000,
    "MINUTE": 60_000_000,
    "HOUR": 3_600_000_000,
    "DAY": 86_400_000_000,
    "WEEK": 604_800_000_000,
}
_SUFFIXES_NS = {
    "ns": 1,
    "us": 1_000,
    "μs": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_CALENDAR_UNITS = ("MONTH", "QUARTER", "YEAR")
_MAX_SIZE_US = 2**62
_OTHER_WINDOWS = ("HOPPING", "HOP", "SLIDING", "SESSION", "CUMULATE", "ROWS")
# Where a clause may stand: not before one of a lower rank. WINDOW goes before or after GROUP BY and HAVING.
_RANKS = {"WHERE": 1, "GROUP BY": 2, "HAVING": 3, "EMIT": 4, "WITH": 4}


class SelectParser(VelostreamParser):
    """Reads one SELECT from the tokens of one statement."""

    def __init__(self, text: str, tokens: list[Token]) -> None:
        super().__init__(dialect=Velostream)
        self.sql = text
        self._tokens = tokens
        self._tokens_size = len(tokens)
        self._index = -1
        self._advance()

    def parse_name(self, what: str) -> Name:
        node = self.parse_identifier(what)
        return Name(node.name, bool(node.args["quoted"]), node.meta["span"])

    def parse_select(self, options: dict[str, str] | None = None) -> Select:
        """`options` are those written before AS."""
        first = self._curr
        self.expect("SELECT")
        if self.at("DISTINCT"):
            hint = "GROUP BY the columns instead"
            self.unsupported("SELECT DISTINCT", self.span_from(self._curr, self._curr), hint)
        self.take("ALL")
        items = [self._parse_item()]
        while self.take(","):
            items.append(self._parse_item())
        if not self._curr:
            self.unsupported("a query without FROM", self.span_from(first), "name a stream or a 'file'")
        self.expect("FROM")
        source = self._parse_source()
        clauses = self._parse_clauses(options)
        return Select(tuple(items), source, **clauses, span=self.span_from(first))

    # -- the list ----------------------------------------------------------------------------------

    def _parse_item(self) -> SelectItem:
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
        alias = self._parse_alias_name()
        return SelectItem(expr, alias, self.span_from(first))

    def _refuse_star_options(self) -> None:
        for word in ("EXCLUDE", "EXCEPT", "REPLACE", "RENAME"):
            if self.at(word):
                self.unsupported(f"* {word}", self.span_from(self._curr, self._curr))

    def _parse_alias_name(self) -> Name | None:
        if self.take("AS"):
            return self.parse_name("an alias")
        if self._curr.token_type in self.IDENTIFIER_TOKENS and not (
            self.at("EMIT") or self._at_call_suffix()
        ):
            return self.parse_name("an alias")
        return None

    def _at_call_suffix(self) -> bool:
        return self.at("COLLATE") or self.at("SIMILAR", "TO") or self.at("GLOB")

    # -- FROM --------------------------------------------------------------------------------------

    def _parse_source(self) -> Source:
        first = self._curr
        window = None
        path = None
        if first.token_type == TokenType.STRING:
            self._advance()
            path = first.text
            if not path:
                self.fault("an empty path", self.span_from(first))
            stream = Name(stream_name(path), False, self.span_from(first))
        elif self._next.token_type == TokenType.L_PAREN and first.token_type == TokenType.VAR:
            stream, window = self._parse_table_function()
        else:
            if self.at("(") or self.at("VALUES"):
                self.unsupported(
                    "a subquery in FROM", self.span_from(first, first), "CREATE STREAM from it first"
                )
            stream = self.parse_name("a stream or a 'file'")
            if self.at("."):
                self.unsupported("a stream's name of two parts", self.span_from(first, self._next))
        alias = self._parse_alias_name()
        if self.at(","):
            self.unsupported("a join by ','", self.span_from(self._curr, self._curr))
        if path is not None and alias is not None:
            stream = Name(alias.text, alias.quoted, stream.span)
        return Source(stream, path, alias, window, self.span_from(first))

    def _parse_table_function(self) -> tuple[Name, WindowClause]:
        first = self._curr
        kind = first.text.upper()
        if kind != "TUMBLE":
            hint = did_you_mean(kind, ("TUMBLE",))
            if kind in _OTHER_WINDOWS or hint is None:
                self.unsupported(f"the table function {kind}", self.span_from(first, first), "use TUMBLE")
            self.fault(f"unknown table function '{first.text}'", self.span_from(first, first), hint)
        self._advance(2)
        self.expect("TABLE")
        stream = self.parse_name("a stream")
        self.expect(",", "DESCRIPTOR", "(")
        time = self._parse_time()
        self.expect(")", ",")
        size_us = self._parse_duration()
        if self.at(","):
            self.unsupported("the offset of a window", self.span_from(self._curr, self._curr))
        self.expect(")")
        return stream, WindowClause(kind, time, size_us, self.span_from(first))

    # -- clauses -----------------------------------------------------------------------------------

    def _parse_clauses(self, options: dict[str, str] | None) -> dict[str, object]:
        where: exp.Expr | None = None
        group_by: tuple[exp.Expr, ...] | None = None
        having: exp.Expr | None = None
        window: WindowClause | None = None
        emit: Choice["changes", "final"] | None = None
        seen: list[str] = []
        while clause := self._next_clause(seen):
            match clause:
                case "WHERE":
                    self._advance()
                    where = self.parse_expression()
                case "GROUP BY":
                    group_by = self._parse_group_by()
                case "HAVING":
                    self._advance()
                    having = self.parse_expression()
                case "WINDOW":
                    window = self._parse_window_clause()
                case "EMIT":
                    emit = self._parse_emit()
                case "WITH":
                    if options:
                        self.fault(
                            "WITH stands here for the second time", self.span_from(self._curr, self._curr)
                        )
                    options = self.parse_options()
        return {
            "where": where,
            "group_by": group_by,
            "having": having,
            "window": window,
            "emit": emit,
            "options": options or {},
        }

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
        later = [other for other in seen if _RANKS.get(other, 1) > rank]
        if later:
            self.fault(f"{clause} stands behind {later[0]}", span, f"write {clause} before {later[0]}")
        seen.append(clause)
        return clause

    def _parse_group_by(self) -> tuple[exp.Expr, ...]:
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

    def _parse_emit(self) -> Choice["changes", "final"]:
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

    # -- windows -----------------------------------------------------------------------------------

    def _parse_window_clause(self) -> WindowClause:
        self.expect("WINDOW")
        first = self._curr
        if not first or first.token_type != TokenType.VAR:
            self.expected("a window such as TUMBLING(ts, INTERVAL '1' MINUTE)")
        kind = first.text.upper()
        if self._next.token_type == TokenType.ALIAS:
            self.unsupported("a named window", self.span_from(first, self._next))
        if kind not in ("TUMBLING", "TUMBLE"):
            if kind in _OTHER_WINDOWS:
                self.unsupported(f"a window of kind {kind}", self.span_from(first, first), "use TUMBLING")
            hint = did_you_mean(kind, ("TUMBLING",)) or "expected TUMBLING"
            self.fault(f"unknown kind of window '{first.text}'", self.span_from(first, first), hint)
        self._advance()
        self.expect("(")
        time = None
        if self._curr.token_type in self.IDENTIFIER_TOKENS and not self._at_interval():
            time = self._parse_time()
            self.expect(",")
        size_us = self._parse_duration()
        if self.at(","):
            self.unsupported("the offset of a window", self.span_from(self._curr, self._curr))
        self.expect(")")
        return WindowClause(kind, time, size_us, self.span_from(first))

    def _at_interval(self) -> bool:
        return self.at("INTERVAL") and self._next.token_type in (TokenType.STRING, TokenType.NUMBER)

    def _parse_time(self) -> tuple[Name, ...]:
        parts = [self.parse_name("a column")]
        if self.take("."):
            parts.append(self.parse_name("a column"))
        return tuple(parts)

    def _parse_duration(self) -> int:
        """`5m` or `INTERVAL '5' MINUTE`, in microseconds."""
        first = self._curr
        if self.take("INTERVAL"):
            return self._parse_interval_size(first)
        if first.token_type != TokenType.NUMBER:
            self.expected("a duration such as INTERVAL '1' MINUTE or 5m")
        self._advance()
        unit = self._curr
        if not unit or not self._is_connected() or unit.token_type != TokenType.VAR:
            self.fault(f"a duration needs a unit, as in {first.text}s", self.span_from(first))
        self._advance()
        if unit.text.lower() not in _SUFFIXES_NS:
            hint = "expected one of ns, us, ms, s, m, h, d, w"
            self.fault(f"unknown unit '{unit.text}'", self.span_from(unit), hint)
        count = self._whole(first.text, first)
        size_ns = count * _SUFFIXES_NS[unit.text.lower()]
        if size_ns % 1000:
            self.fault("a window is a whole number of microseconds", self.span_from(first))
        return self._checked(size_ns // 1000, first)

    def _parse_interval_size(self, first: Token) -> int:
        value = self._curr
        if value.token_type not in (TokenType.STRING, TokenType.NUMBER):
            self.expected("a number in quotes")
        self._advance()
        number, _, unit = value.text.strip().partition(" ")
        unit_token = value
        if not unit.strip():
            unit_token = self._curr
            if unit_token.token_type != TokenType.VAR:
                self.expected("a unit such as MINUTE")
            self._advance()
            unit = unit_token.text
        unit = unit.strip().upper()
        singular = unit.removesuffix("S")
        if singular in _CALENDAR_UNITS:
            hint = "months and years differ in length; use days"
            self.unsupported(f"a window in {singular}S", self.span_from(unit_token, unit_token), hint)
        if singular not in _UNITS_US:
            hint = did_you_mean(unit, _UNITS_US) or "expected one of " + ", ".join(_UNITS_US)
            self.fault(f"unknown unit '{unit}'", self.span_from(unit_token, unit_token), hint)
        return self._checked(self._whole(number, value) * _UNITS_US[singular], first)

    def _whole(self, text: str, token: Token) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) <= 18):
            self.fault(f"expected a whole number, found '{text}'", self.span_from(token, token))
        return int(text)

    def _checked(self, size_us: int, first: Token) -> int:
        if not 0 < size_us <= _MAX_SIZE_US:
            message = "a window has a size above zero" if size_us <= 0 else "this window is too long"
            self.fault(message, self.span_from(first))
        return size_us


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
