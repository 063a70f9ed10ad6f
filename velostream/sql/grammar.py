"""Expressions: operators by sqlglot's precedence ladder, atoms, calls and types by our own rules.

sqlglot reads thirty dialects and forgives much: trailing commas, a missing THEN, `'a' 'b'`. So only its
ladder is used, and what stands on it is read here: nothing is accepted that the binder does not know.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.parser import IsPredicatePrecedence, binary_range_parser
from sqlglot.tokenizer_core import Token, TokenType

from velostream.sql.reader import RESERVED, TokenReader
from velostream.sql.statements import Name
from velostream.sql.typenames import is_type

_SECOND_TYPE_WORDS = {"DOUBLE": "PRECISION", "CHARACTER": "VARYING"}
WORD = re.compile(r"[^\W\d]\w*")


class Plus(exp.Unary):
    """Unary plus, which sqlglot drops: its operand must be a number all the same."""


class ExpressionParser(TokenReader):
    """Reads one expression."""

    IS_PREDICATE_PRECEDENCE = IsPredicatePrecedence.LOW
    BITWISE: ClassVar[dict[TokenType, Any]] = {}
    FACTOR: ClassVar[dict[TokenType, Any]] = {
        TokenType.STAR: exp.Mul,
        TokenType.SLASH: exp.Div,
        TokenType.MOD: exp.Mod,
    }
    TERM: ClassVar[dict[TokenType, Any]] = {TokenType.PLUS: exp.Add, TokenType.DASH: exp.Sub}
    EQUALITY: ClassVar[dict[TokenType, Any]] = {TokenType.EQ: exp.EQ, TokenType.NEQ: exp.NEQ}
    CONJUNCTION: ClassVar[dict[TokenType, Any]] = {TokenType.AND: exp.And}
    DISJUNCTION: ClassVar[dict[TokenType, Any]] = {TokenType.OR: exp.Or}
    UNARY_PARSERS: ClassVar[dict[TokenType, Any]] = {
        TokenType.PLUS: lambda self: self.expression(Plus(this=self._parse_unary())),
        TokenType.DASH: lambda self: self.expression(exp.Neg(this=self._parse_unary())),
        TokenType.NOT: lambda self: self.expression(exp.Not(this=self._parse_equality())),
    }
    RANGE_PARSERS: ClassVar[dict[TokenType, Any]] = {
        TokenType.BETWEEN: lambda self, this: self._parse_between(this),
        TokenType.IN: lambda self, this: self._parse_in(this),
        TokenType.IS: lambda self, this: self._parse_is(this),
        TokenType.LIKE: binary_range_parser(exp.Like),
        TokenType.ILIKE: binary_range_parser(exp.ILike),
    }
    PLACEHOLDER_PARSERS: ClassVar[dict[TokenType, Any]] = {}

    # -- operators ---------------------------------------------------------------------------------

    def _parse_unary(self) -> exp.Expr | None:
        first = self._curr
        node = super()._parse_unary()
        return node if node is None or isinstance(node, exp.Cast) else self.spanned(node, first)

    def _parse_between(self, this: exp.Expr | None) -> exp.Between:
        if self.at("SYMMETRIC"):
            self.unsupported("BETWEEN SYMMETRIC", self.span_from(self._curr, self._curr))
        low = self._parse_bitwise()
        self.expect("AND")
        return self.expression(exp.Between(this=this, low=low, high=self._parse_bitwise()))

    def _parse_in(self, this: exp.Expr | None, alias: bool = False) -> exp.In:
        self.expect("(")
        self._refuse_query()
        items = [self.parse_expression()]
        while self.take(","):
            items.append(self.parse_expression())
        self.expect(")")
        return self.expression(exp.In(this=this, expressions=items))

    def _parse_escape(self, this: exp.Expr | None) -> exp.Expr | None:
        if not self.take("ESCAPE"):
            return this
        return self.expression(exp.Escape(this=this, expression=self._parse_unary()))

    def _parse_null(self) -> exp.Expr | None:
        return None

    # -- atoms -------------------------------------------------------------------------------------

    def parse_expression(self) -> exp.Expr:
        node = self._parse_disjunction()
        assert node is not None  # an absent atom raises
        return node

    def _refuse_query(self) -> None:
        if self.at("SELECT") or self.at("WITH"):
            self.unsupported("a subquery", self.span_from(self._curr, self._curr))

    def _parse_type(
        self, parse_interval: bool = True, fallback_to_identifier: bool = False
    ) -> exp.Expr | None:
        first = self._curr
        node = self._parse_atom()
        while self.at("::"):
            self._advance()
            node = self.spanned(exp.Cast(this=node, to=self.parse_type_name()), first)
        if self.at("AT", "TIME", "ZONE"):
            self.unsupported("AT TIME ZONE", self.span_from(self._curr, self._tokens[self._index + 2]))
        return node

    def _parse_atom(self) -> exp.Expr:
        token = self._curr
        match token.token_type if token else None:
            case TokenType.STRING:
                self._advance()
                return self.expression(exp.Literal.string(token.text), token)
            case TokenType.NUMBER:
                self._advance()
                self._refuse_number_tail(token)
                return self.expression(exp.Literal.number(token.text), token)
            case TokenType.DOT if (
                self._next.token_type == TokenType.NUMBER and self._next.start == token.end + 1
            ):
                self._advance(2)
                self._refuse_number_tail(token)
                return self.spanned(exp.Literal.number(f".{self._prev.text}"), token)
            case TokenType.NULL:
                self._advance()
                return self.expression(exp.Null(), token)
            case TokenType.TRUE | TokenType.FALSE:
                self._advance()
                return self.expression(exp.Boolean(this=token.token_type == TokenType.TRUE), token)
            case TokenType.L_PAREN:
                return self._read_parenthesis()
            case TokenType.CASE:
                return self._parse_case()
            case TokenType.EXISTS if self._next.token_type == TokenType.L_PAREN:
                self.unsupported("EXISTS", self.span_from(token, token))
            case TokenType.VAR | TokenType.IDENTIFIER | TokenType.LEFT | TokenType.RIGHT:
                if self._next.token_type == TokenType.L_PAREN:
                    return self._read_call()
                if self._at_typed_literal():
                    return self._read_typed_literal()
                if token.token_type in self.IDENTIFIER_TOKENS:
                    return self._read_name()
        self.expected("an expression")

    def _refuse_number_tail(self, first: Token) -> None:
        if self._curr and self._is_connected() and WORD.match(self._curr.text):
            text = self.sql[first.start : self._curr.end + 1]
            self.fault(f"'{text}' is not a number", self.span_from(first, self._curr))

    def _read_parenthesis(self) -> exp.Expr:
        first = self._curr
        self.expect("(")
        self._refuse_query()
        node = self.parse_expression()
        if self.at(","):
            self.unsupported("a row value", self.span_from(first, self._curr))
        self.expect(")")
        return self.spanned(exp.Paren(this=node), first)

    def _read_name(self) -> exp.Expr:
        first = self._curr
        parts = [self.parse_identifier("a column")]
        while self.take("."):
            parts.append(self.parse_identifier("a column"))
        if len(parts) > 2:
            self.unsupported("a name of more than two parts", self.span_from(first))
        table = parts[0] if len(parts) == 2 else None
        return self.spanned(exp.Column(this=parts[-1], table=table), first)

    def parse_identifier(self, what: str) -> exp.Identifier:
        """A quoted identifier, or a word that is not reserved."""
        token = self._curr
        if not token or token.token_type not in self.IDENTIFIER_TOKENS:
            if token and token.text.upper() in RESERVED and token.token_type != TokenType.STRING:
                text = self.sql[token.start : token.end + 1]
                hint = f'write "{text}" if it is a name'
                self.fault(f"expected {what}, found '{text}'", self.span_from(token, token), hint)
            self.expected(what)
        self._advance()
        quoted = token.token_type == TokenType.IDENTIFIER
        if not token.text:
            self.fault("an empty name", self.span_from(token, token))
        return self.expression(exp.Identifier(this=token.text, quoted=quoted), token)

    def parse_name(self, what: str) -> Name:
        node = self.parse_identifier(what)
        return Name(node.name, bool(node.args["quoted"]), node.meta["span"])

    def _at_typed_literal(self) -> bool:
        if self._curr.token_type != TokenType.VAR or self._next.token_type != TokenType.STRING:
            return False
        return self.at("INTERVAL") or is_type(self._curr.text)

    def _read_typed_literal(self) -> exp.Expr:
        first = self._curr
        if self.at("INTERVAL"):
            hint = "an interval stands only as the size of a window"
            self.unsupported("INTERVAL in an expression", self.span_from(first, self._next), hint)
        to = self.parse_type_name()
        token = self._curr
        self._advance()
        return self.spanned(
            exp.Cast(this=self.expression(exp.Literal.string(token.text), token), to=to), first
        )

    def parse_type_name(self) -> exp.Expr:
        """A type as its text (`exp.Var`), for `parse_type`."""
        first = self._curr
        if not first or first.token_type != TokenType.VAR:
            self.expected("a type")
        self._advance()
        if self.at(_SECOND_TYPE_WORDS.get(first.text.upper(), "")):
            self._advance()
        for word in ("WITH", "WITHOUT"):
            self.take(word, "TIME", "ZONE")
        if self.take("("):
            self._expect_digits()
            if self.take(","):
                self._expect_digits()
            self.expect(")")
        start, end = self.span_from(first)
        return self.spanned(exp.Var(this=self.sql[start:end]), first)

    def _expect_digits(self) -> None:
        if not self._curr or not self._curr.text.isdecimal():
            self.expected("a number of digits")
        self._advance()

    def _parse_case(self) -> exp.Expr:
        first = self._curr
        self.expect("CASE")
        subject = None if self.at("WHEN") else self.parse_expression()
        branches: list[exp.Expr] = []
        while self.take("WHEN"):
            when = self.parse_expression()
            self.expect("THEN")
            branches.append(self.expression(exp.If(this=when, true=self.parse_expression())))
        if not branches:
            self.expected("WHEN")
        default = self.parse_expression() if self.take("ELSE") else None
        self.expect("END")
        return self.spanned(exp.Case(this=subject, ifs=branches, default=default), first)

    # -- calls -------------------------------------------------------------------------------------

    def _read_call(self) -> exp.Expr:
        first = self._curr
        name = first.text
        self._advance(2)
        node: exp.Expr
        match name.upper() if first.token_type != TokenType.IDENTIFIER else None:
            case "CAST":
                node = self._read_cast_call(exp.Cast)
            case "TRY_CAST":
                node = self._read_cast_call(exp.TryCast)
            case "EXTRACT":
                node = self._read_extract_call()
            case _:
                node = exp.Anonymous(this=name, expressions=self._read_arguments(name))
        self.expect(")")
        node = self.spanned(node, first)
        if self.at("FILTER", "("):
            self._advance(2)
            self.expect("WHERE")
            condition = self.parse_expression()
            self.expect(")")
            node = self.spanned(exp.Filter(this=node, expression=condition), first)
        for word in ("OVER", "WITHIN", "IGNORE", "RESPECT"):
            if self.at(word) and (self._next.text == "(" or self._next.text.upper() in ("GROUP", "NULLS")):
                self.expected("the end of the call")
        return node

    def _read_arguments(self, name: str) -> list[exp.Expr]:
        if self.at(")"):
            return []
        if self.at("*"):
            self._advance()
            return [self.expression(exp.Star(), self._prev)]
        first = self._curr
        if name.upper() == "TRIM" and any(map(self.at, ("BOTH", "LEADING", "TRAILING"))):
            if self._next.token_type not in (TokenType.COMMA, TokenType.R_PAREN):
                self.unsupported(
                    f"TRIM({first.text} …)", self.span_from(first, first), "use TRIM, LTRIM or RTRIM"
                )
        distinct = self.take("DISTINCT")
        if not distinct:
            self.take("ALL")
        self._refuse_query()
        arguments = [self.parse_expression()]
        while self.take(","):
            arguments.append(self.parse_expression())
        # The standard's own forms of two functions.
        if name.upper() == "SUBSTRING" and len(arguments) == 1 and self.take("FROM"):
            arguments.append(self.parse_expression())
            if self.take("FOR"):
                arguments.append(self.parse_expression())
        if self.at("ORDER"):
            self.expected("')'")
        return [self.spanned(exp.Distinct(expressions=arguments), first)] if distinct else arguments

    def _read_cast_call(self, kind: type[exp.Cast]) -> exp.Expr:
        value = self.parse_expression()
        self.expect("AS")
        return kind(this=value, to=self.parse_type_name())

    def _read_extract_call(self) -> exp.Expr:
        token = self._curr
        if not token or token.token_type not in (TokenType.VAR, TokenType.STRING):
            self.expected("a part of a date, such as YEAR")
        self._advance()
        part = self.expression(exp.Var(this=token.text), token)
        if not self.take(","):
            self.expect("FROM")
        return exp.Extract(this=part, expression=self.parse_expression())
