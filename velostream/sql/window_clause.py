"""Windows as they are written, and durations."""

from __future__ import annotations

from sqlglot.tokenizer_core import Token, TokenType

from velostream.errors import did_you_mean
from velostream.sql.grammar import ExpressionParser
from velostream.sql.statements import Name, WindowClause

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
OTHER_WINDOWS = ("HOPPING", "HOP", "SLIDING", "SESSION", "CUMULATE", "ROWS")


class WindowParser(ExpressionParser):
    """Reads a window, and the size of one."""

    def _read_window_clause(self) -> WindowClause:
        self.expect("WINDOW")
        first = self._curr
        if not first or first.token_type != TokenType.VAR:
            self.expected("a window such as TUMBLING(ts, INTERVAL '1' MINUTE)")
        kind = first.text.upper()
        if self._next.token_type == TokenType.ALIAS:
            self.unsupported("a named window", self.span_from(first, self._next))
        if kind not in ("TUMBLING", "TUMBLE"):
            if kind in OTHER_WINDOWS:
                self.unsupported(f"a window of kind {kind}", self.span_from(first, first), "use TUMBLING")
            hint = did_you_mean(kind, ("TUMBLING",)) or "expected TUMBLING"
            self.fault(f"unknown kind of window '{first.text}'", self.span_from(first, first), hint)
        self._advance()
        self.expect("(")
        time = None
        if self._curr.token_type in self.IDENTIFIER_TOKENS and not self._at_interval():
            time = self._read_time()
            self.expect(",")
        size_us = self._read_duration()
        if self.at(","):
            self.unsupported("the offset of a window", self.span_from(self._curr, self._curr))
        self.expect(")")
        return WindowClause(kind, time, size_us, self.span_from(first))

    def _at_interval(self) -> bool:
        return self.at("INTERVAL") and self._next.token_type in (TokenType.STRING, TokenType.NUMBER)

    def _read_time(self) -> tuple[Name, ...]:
        parts = [self.parse_name("a column")]
        if self.take("."):
            parts.append(self.parse_name("a column"))
        return tuple(parts)

    def _read_duration(self) -> int:
        """`5m` or `INTERVAL '5' MINUTE`, in microseconds."""
        first = self._curr
        if self.take("INTERVAL"):
            return self._read_interval_size(first)
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

    def _read_interval_size(self, first: Token) -> int:
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
