"""Binds expressions of one row: names to columns, operators and calls to functions, types checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import ClassVar

import pyarrow as pa
from sqlglot import exp

from velostream.errors import did_you_mean, unknown
from velostream.sql import faults
from velostream.sql.castable import cast_literal, check_cast
from velostream.sql.expressions import Call, Case, Cast, ColumnRef, Expr, Literal, Span
from velostream.sql.faults import Fault
from velostream.sql.functions import common_type, functions, resolve
from velostream.sql.functions.aggregates import aggregates, is_aggregate
from velostream.sql.grammar import Plus
from velostream.sql.literals import as_instants, coerce, number
from velostream.sql.naming import SYMBOLS
from velostream.sql.reader import span_of
from velostream.sql.scopes import Scope, matches
from velostream.sql.statements import Name
from velostream.sql.typenames import parse_type, type_name
from velostream.sql.types import BOOLEAN, VARCHAR

DATE_PARTS = (
    "year",
    "quarter",
    "month",
    "week",
    "day",
    "dow",
    "doy",
    "hour",
    "minute",
    "second",
    "millisecond",
    "microsecond",
    "epoch",
)


class ScalarBinder:
    """Binds against the columns of `scope`.

    For messages: `place` is the clause, `aliases` are names of the SELECT list that it cannot use, `others`
    names that it can use besides columns.
    """

    def __init__(
        self, scope: Scope, place: str, aliases: Collection[str] = (), others: Collection[str] = ()
    ) -> None:
        self.scope = scope
        self.place = place
        self._unusable_aliases = aliases
        self._others = others

    def bind(self, node: exp.Expr | ColumnRef) -> Expr:
        """Raises Fault where a name, a type or a construct does not fit; a column stands for itself."""
        if isinstance(node, ColumnRef):
            return node
        bind = self._BINDERS.get(type(node))
        if bind is None:
            raise faults.unsupported(_construct(node), span_of(node))
        return bind(self, node)

    def condition(self, node: exp.Expr) -> Expr:
        """An expression that must be BOOLEAN."""
        return self._boolean(self.bind(node), self.place)

    # -- what grouping changes -----------------------------------------------------------------------

    def column(self, name: Name, qualifier: Name | None, span: Span) -> Expr:
        if qualifier is not None:
            self.scope.check_qualifier(qualifier)
        elif not self.scope.has(name) and matches(name, self._unusable_aliases):
            hint = f"'{name.text}' is an alias; repeat its expression in {self.place}"
            raise faults.wrong(f"unknown column '{name.text}' in '{self.scope.qualifier}'", span, hint)
        return self.scope.column(name, span, self._others)

    def aggregate(self, node: exp.Anonymous, condition: exp.Expr | None, span: Span) -> Expr:
        hint = "filter groups with HAVING" if self.place == "WHERE" else None
        raise faults.wrong(f"the aggregate '{node.name}' cannot stand in {self.place}", span, hint)

    # -- leaves --------------------------------------------------------------------------------------

    def _column(self, node: exp.Expr) -> Expr:
        table = node.args.get("table")
        return self.column(name_of(node.this), name_of(table) if table is not None else None, span_of(node))

    def _literal(self, node: exp.Expr) -> Expr:
        span = span_of(node)
        if node.is_string:
            return Literal(type=VARCHAR, value=node.name, span=span)
        with faults.at(span):
            return number(node.name, span)

    def _constant(self, node: exp.Expr) -> Expr:
        if isinstance(node, exp.Null):
            return Literal(type=pa.null(), value=None, span=span_of(node))
        return Literal(type=BOOLEAN, value=bool(node.this), span=span_of(node))

    def _paren(self, node: exp.Expr) -> Expr:
        return self.bind(node.this)

    # -- operators -----------------------------------------------------------------------------------

    def _negate(self, node: exp.Expr) -> Expr:
        inner = node.this
        span = span_of(node)
        if isinstance(inner, exp.Literal) and not inner.is_string:
            with faults.at(span):
                return number(f"-{inner.name}", span)
        return self._call("negate", [self.bind(inner)], span)

    def _plus(self, node: exp.Expr) -> Expr:
        value = self.bind(node.this)
        # As `negate` takes it, or not.
        self._call("negate", [value], span_of(node))
        return value

    def _binary(self, node: exp.Expr) -> Expr:
        name = _OPERATORS[type(node)]
        left, right = self.bind(node.this), self.bind(node.expression)
        if name in _COMPARISONS:
            left, right = as_instants([left, right])
        try:
            return self._call(name, [left, right], span_of(node))
        except Fault as fault:
            # People know the operator by its sign.
            fault.message = fault.message.replace(f"'{name}'", f"'{SYMBOLS[type(node)]}'")
            raise

    def _logic(self, node: exp.Expr) -> Expr:
        kind = type(node)
        operands = []
        while type(node) is kind:
            operands.append(node.expression)
            node = node.this
        operands = [node, *reversed(operands)]
        name = "and" if kind is exp.And else "or"
        values = [self._boolean(self.bind(operand), name.upper()) for operand in operands]
        return self._balanced(name, values, [span_of(operand) for operand in operands])

    def _balanced(self, name: str, values: Sequence[Expr], spans: Sequence[Span]) -> Expr:
        """A chain as a tree whose depth is the logarithm of its length: generated queries have long ones."""
        if len(values) == 1:
            return values[0]
        half = (len(values) + 1) // 2
        left = self._balanced(name, values[:half], spans[:half])
        right = self._balanced(name, values[half:], spans[half:])
        return self._call(name, [left, right], (spans[0][0], spans[-1][1]))

    def _not(self, node: exp.Expr) -> Expr:
        value = self._boolean(self.bind(node.this), "NOT")
        if isinstance(value, Call) and value.function in _OPPOSITES:
            return Call(
                type=BOOLEAN, function=_OPPOSITES[value.function], args=value.args, span=span_of(node)
            )
        return self._call("not", [value], span_of(node))

    def _is(self, node: exp.Expr) -> Expr:
        value = self.bind(node.this)
        span = span_of(node)
        match node.expression:
            case exp.Null():
                return self._call("is_null", [value], span)
            case exp.Boolean() as boolean:
                word = "true" if boolean.this else "false"
                return self._call(f"is_{word}", [self._boolean(value, f"IS {word.upper()}")], span)
        raise faults.wrong("IS takes NULL, TRUE or FALSE", span_of(node.expression), "compare with '='")

    def _in(self, node: exp.Expr) -> Expr:
        values = [self.bind(node.this), *(self.bind(item) for item in node.expressions)]
        return self._call("in", as_instants(values), span_of(node))

    def _between(self, node: exp.Expr) -> Expr:
        span = span_of(node)
        value, low, high = as_instants([self.bind(node.args[key]) for key in ("this", "low", "high")])
        return self._call(
            "and", [self._call("ge", [value, low], span), self._call("le", [value, high], span)], span
        )

    def _like(self, node: exp.Expr, escape: exp.Expr | None = None) -> Expr:
        span = span_of(node)
        arguments = [self.bind(node.this), self.bind(node.expression)]
        if escape is not None:
            arguments.append(self.bind(escape))
        call = self._call("like" if isinstance(node, exp.Like) else "ilike", arguments, span)
        return self._call("not", [call], span) if node.args.get("negate") else call

    def _escape(self, node: exp.Expr) -> Expr:
        return self._like(node.this, node.expression)

    # -- CASE and CAST -------------------------------------------------------------------------------

    def _case(self, node: exp.Expr) -> Expr:
        span = span_of(node)
        subject = self.bind(node.this) if node.this is not None else None
        whens: list[Expr] = []
        thens: list[Expr] = []
        for branch in node.args["ifs"]:
            when = self.bind(branch.this)
            if subject is None:
                when = self._boolean(when, "WHEN")
            else:
                when = self._call("eq", as_instants([subject, when]), span_of(branch.this))
            whens.append(when)
            thens.append(self.bind(branch.args["true"]))
        default = node.args.get("default")
        otherwise = (
            self.bind(default) if default is not None else Literal(type=pa.null(), value=None, span=span)
        )
        with faults.at(span):
            type = common_type([branch.type for branch in (*thens, otherwise)])
        branches = tuple((when, coerce(then, type)) for when, then in zip(whens, thens, strict=True))
        return Case(type=type, branches=branches, otherwise=coerce(otherwise, type), span=span)

    def _cast(self, node: exp.Expr) -> Expr:
        value = self.bind(node.this)
        target = node.args["to"]
        with faults.at(span_of(target)):
            type = parse_type(target.name)
        safe = isinstance(node, exp.TryCast)
        with faults.at(span_of(node)):
            check_cast(value.type, type)
            if isinstance(value, Literal) and (constant := cast_literal(value, type, safe)) is not None:
                return constant
        if value.type == type:
            return value
        return Cast(type=type, arg=value, safe=safe, span=span_of(node))

    # -- calls ---------------------------------------------------------------------------------------

    def _anonymous(self, node: exp.Expr, condition: exp.Expr | None = None) -> Expr:
        assert isinstance(node, exp.Anonymous)
        span = span_of(node.parent) if condition is not None and node.parent is not None else span_of(node)
        if is_aggregate(node.name):
            return self.aggregate(node, condition, span)
        if condition is not None:
            raise faults.wrong(f"FILTER needs an aggregate, and '{node.name}' is none", span_of(node))
        if node.name.lower() == "date_part" and len(node.expressions) == 2 and node.expressions[0].is_string:
            return self._date_part(node.expressions[0], node.expressions[1], span)
        if node.name.lower() not in functions or functions[node.name.lower()].form is not None:
            callable = [entry.name for entry in functions if entry.value.form is None]
            hint = did_you_mean(node.name, [*callable, *aggregates.names()])
            raise faults.wrong(f"unknown function '{node.name}'", (span[0], span[0] + len(node.name)), hint)
        for argument in node.expressions:
            if isinstance(argument, exp.Distinct):
                raise faults.wrong(f"DISTINCT needs an aggregate, and '{node.name}' is none", span)
            if isinstance(argument, exp.Star):
                raise faults.wrong(f"'{node.name}' does not take '*'", span_of(argument))
        return self._call(node.name, [self.bind(argument) for argument in node.expressions], span)

    def _filter(self, node: exp.Expr) -> Expr:
        if not isinstance(node.this, exp.Anonymous):
            raise faults.wrong("FILTER needs an aggregate", span_of(node.this))
        return self._anonymous(node.this, node.expression)

    def _extract(self, node: exp.Expr) -> Expr:
        return self._date_part(node.this, node.expression, span_of(node))

    def _date_part(self, part: exp.Expr, value: exp.Expr, span: Span) -> Expr:
        """Each part of a date is a function of its own: `date_part('year', x)` is `year(x)`."""
        if part.name.lower() not in DATE_PARTS:
            message, hint = unknown("part of a date", part.name, DATE_PARTS)
            raise faults.wrong(message, span_of(part), hint)
        return self._call(part.name.lower(), [self.bind(value)], span)

    def _call(self, function: str, arguments: Sequence[Expr], span: Span) -> Expr:
        with faults.at(span):
            constants = {i: value.value for i, value in enumerate(arguments) if isinstance(value, Literal)}
            found = resolve(function, [argument.type for argument in arguments], constants)
        args = tuple(map(coerce, arguments, found.argument_types))
        return Call(type=found.result_type, function=found.name, args=args, span=span)

    def _boolean(self, value: Expr, place: str) -> Expr:
        if pa.types.is_null(value.type):
            return coerce(value, BOOLEAN)
        if value.type != BOOLEAN:
            assert value.span is not None
            message = f"{place} needs BOOLEAN, this is {type_name(value.type)}"
            raise faults.wrong(message, value.span, "compare it with something")
        return value

    _BINDERS: ClassVar[dict[type[exp.Expr], Callable[[ScalarBinder, exp.Expr], Expr]]]


def name_of(node: exp.Expr) -> Name:
    return Name(node.name, bool(node.args.get("quoted")), span_of(node))


def _construct(node: exp.Expr) -> str:
    if isinstance(node, (exp.NullSafeEQ, exp.NullSafeNEQ)):
        return "IS DISTINCT FROM"
    return f"{type(node).__name__} in an expression"


_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_OPERATORS: dict[type[exp.Expr], str] = {
    exp.Add: "add",
    exp.Sub: "subtract",
    exp.Mul: "multiply",
    exp.Div: "divide",
    exp.Mod: "modulo",
    exp.DPipe: "||",
    exp.EQ: "eq",
    exp.NEQ: "ne",
    exp.LT: "lt",
    exp.LTE: "le",
    exp.GT: "gt",
    exp.GTE: "ge",
}
_OPPOSITES = {"is_null": "is_not_null", "is_true": "is_not_true", "is_false": "is_not_false"}

ScalarBinder._BINDERS = {
    **dict.fromkeys(_OPERATORS, ScalarBinder._binary),
    exp.And: ScalarBinder._logic,
    exp.Or: ScalarBinder._logic,
    exp.Not: ScalarBinder._not,
    exp.Neg: ScalarBinder._negate,
    Plus: ScalarBinder._plus,
    exp.Is: ScalarBinder._is,
    exp.In: ScalarBinder._in,
    exp.Between: ScalarBinder._between,
    exp.Like: ScalarBinder._like,
    exp.ILike: ScalarBinder._like,
    exp.Escape: ScalarBinder._escape,
    exp.Case: ScalarBinder._case,
    exp.Cast: ScalarBinder._cast,
    exp.TryCast: ScalarBinder._cast,
    exp.Anonymous: ScalarBinder._anonymous,
    exp.Filter: ScalarBinder._filter,
    exp.Extract: ScalarBinder._extract,
    exp.Column: ScalarBinder._column,
    exp.Literal: ScalarBinder._literal,
    exp.Null: ScalarBinder._constant,
    exp.Boolean: ScalarBinder._constant,
    exp.Paren: ScalarBinder._paren,
}
