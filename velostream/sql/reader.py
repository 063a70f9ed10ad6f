"""What every part of the grammar reads with: words, places, and errors that say what was expected."""

from __future__ import annotations

import re
from typing import NoReturn, TypeVar

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.parser import Parser
from sqlglot.tokenizer_core import Token, TokenType

from velostream.sql import faults
from velostream.sql.expressions import Span

E = TypeVar("E", bound=exp.Expr)

RESERVED = (
    "ALL AND AS ASC BETWEEN CASE CREATE CROSS DESC DISTINCT ELSE END ESCAPE EXCEPT EXISTS FALSE FETCH FROM "
    "FULL GROUP HAVING ILIKE IN INNER INTERSECT INTO IS JOIN LEFT LIKE LIMIT NATURAL NOT NULL OFFSET ON OR "
    "ORDER OUTER QUALIFY RIGHT SELECT TABLE THEN TRUE UNION USING WHEN WHERE WINDOW WITH"
).split()

# What SQL has and velostream not (yet), by the word that starts it behind an expression.
_UNSUPPORTED_WORDS = {
    "JOIN": "JOIN",
    "INNER": "JOIN",
    "LEFT": "JOIN",
    "RIGHT": "JOIN",
    "FULL": "JOIN",
    "CROSS": "JOIN",
    "NATURAL": "JOIN",
    "UNION": "UNION",
    "INTERSECT": "INTERSECT",
    "EXCEPT": "EXCEPT",
    "ORDER": "ORDER BY",
    "LIMIT": "LIMIT",
    "OFFSET": "OFFSET",
    "FETCH": "FETCH",
    "QUALIFY": "QUALIFY",
    "INTO": "INTO",
    "OVER": "OVER",
    "WITHIN": "WITHIN GROUP",
    "IGNORE": "IGNORE NULLS",
    "RESPECT": "RESPECT NULLS",
    "COLLATE": "COLLATE",
    "SIMILAR": "SIMILAR TO",
    "GLOB": "GLOB",
    "[": "the subscript",
    "->": "the lambda",
    "=>": "the named argument",
    "^": "the operator '^'",
    "&": "the operator '&'",
    "|": "the operator '|'",
    "~": "the operator '~'",
    "?": "the parameter",
    "$": "the parameter",
    "@": "the parameter",
    "{": "the struct",
}
_NO_TOKEN = Token.string("")


def span_of(node: exp.Expr) -> Span:
    """The characters of the script that `node` comes from."""
    start, end = node.meta["span"]
    return start, end


class TokenReader(Parser):
    """sqlglot's parser over the tokens of one statement, with our errors, and a span on every node."""

    def __init__(self, text: str, tokens: list[Token], dialect: type[Dialect]) -> None:
        super().__init__(dialect=dialect)
        self.sql = text
        self._tokens = tokens
        self._tokens_size = len(tokens)
        self._index = -1
        self._advance()

    # -- errors ------------------------------------------------------------------------------------

    def fault(self, message: str, span: Span, hint: str | None = None) -> NoReturn:
        raise faults.syntax(message, span, hint)

    def unsupported(self, what: str, span: Span, hint: str | None = None) -> NoReturn:
        raise faults.unsupported(what, span, hint)

    def expected(self, what: str) -> NoReturn:
        """Raise: `what` should stand here; a construct that is only unsupported is named as such."""
        token = self._curr
        if not token:
            end = len(self.sql.rstrip())
            if self._prev:
                end = self._prev.end + 1
            self.fault(f"expected {what}, found the end of the query", (end, end + 1))
        text = self.sql[token.start : token.end + 1]
        # A call such as LEFT(x, 1) is no join.
        if text.upper() in _UNSUPPORTED_WORDS:
            self.unsupported(_UNSUPPORTED_WORDS[text.upper()], self.span_from(token, token))
        if token.token_type in (TokenType.STRING, TokenType.IDENTIFIER):
            self.fault(f"expected {what}, found {text}", self.span_from(token, token))
        self.fault(f"expected {what}, found '{text}'", self.span_from(token, token))

    def raise_error(self, message: str, token: Token = _NO_TOKEN) -> NoReturn:
        # sqlglot's own complaints; ours say what was expected before it comes to that.
        self.expected(re.sub(r"^Expect(ing|ed) ", "", message).lower())

    # -- spans -------------------------------------------------------------------------------------

    def span_from(self, first: Token, last: Token | None = None) -> Span:
        """From the start of `first` to the end of `last` (the token read last when None)."""
        return first.start, (last or self._prev).end + 1

    def spanned(self, node: E, first: Token) -> E:
        node.meta["span"] = self.span_from(first)
        return node

    def expression(self, instance: E, token: Token | None = None, comments: list[str] | None = None) -> E:
        node = super().expression(instance, token, comments)
        if token is not None:
            node.meta["span"] = self.span_from(token, token)
        else:
            starts = [child.meta["span"][0] for child in node.iter_expressions() if "span" in child.meta]
            node.meta["span"] = (min([*starts, self._prev.start]), self._prev.end + 1)
        return node

    # -- words -------------------------------------------------------------------------------------

    def at(self, *words: str) -> bool:
        """Whether the next tokens are these words or symbols, unquoted."""
        for offset, word in enumerate(words):
            index = self._index + offset
            if index >= self._tokens_size:
                return False
            token = self._tokens[index]
            if token.token_type in (TokenType.STRING, TokenType.IDENTIFIER) or token.text.upper() != word:
                return False
        return True

    def take(self, *words: str) -> bool:
        """Step over these words if they come next."""
        if not self.at(*words):
            return False
        self._advance(len(words))
        return True

    def expect(self, *words: str) -> None:
        for word in words:
            if not self.take(word):
                self.expected(f"'{word}'" if not word[0].isalpha() else word)
