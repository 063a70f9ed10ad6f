"""Binds what stands above GROUP BY: keys, aggregates, window columns, and expressions over them.

An expression is bound over the input first, with a column of its own for each aggregate and window
bound. `finish` then replaces what equals a key by that key; a column of the input that is left over is
neither grouped nor aggregated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from sqlglot import exp

from velostream.sql import faults
from velostream.sql.expressions import Call, Case, Cast, ColumnRef, Expr, Literal, Span
from velostream.sql.functions.aggregates import is_aggregate, resolve_aggregate
from velostream.sql.literals import coerce
from velostream.sql.logical import WINDOW_END, WINDOW_START, AggregateCall, Item
from velostream.sql.reader import span_of
from velostream.sql.scalars import ScalarBinder, name_of
from velostream.sql.scopes import Scope, matches
from velostream.sql.statements import Name
from velostream.sql.types import INTEGER, TIMESTAMP

# The names under which a query's window can be read: those of the WINDOW clause, and of the TUMBLE function.
WINDOW_COLUMNS = {WINDOW_START: WINDOW_START, WINDOW_END: WINDOW_END}
TABLE_FUNCTION_COLUMNS = {**WINDOW_COLUMNS, "window_start": WINDOW_START, "window_end": WINDOW_END}


def has_aggregate(node: exp.Expr) -> bool:
    """Whether an aggregate is called anywhere in the expression."""
    return any(is_aggregate(call.name) for call in node.find_all(exp.Anonymous))


@dataclass(frozen=True, slots=True)
class Output:
    """A column of the SELECT list: its name, and the node, or the column that `*` stands for. `is_key`: it is
    a part of the PRIMARY KEY."""

    name: str
    value: exp.Expr | ColumnRef
    is_alias: bool
    is_key: bool = False


class KeyBinder(ScalarBinder):
    """Binds GROUP BY: positions and aliases of the SELECT list besides columns, which come first."""

    def __init__(self, scope: Scope, outputs: Sequence[Output], window_columns: dict[str, str]) -> None:
        super().__init__(scope, "GROUP BY")
        self._outputs = outputs
        self._window_columns = window_columns

    def key(self, node: exp.Expr) -> Expr | None:
        """The key that a GROUP BY item means; None for a bound of the window, which is a key anyway."""
        if isinstance(node, exp.Literal) and not node.is_string:
            return self._at_position(node)
        if isinstance(node, exp.Column):
            if self._is_window_bound(node):
                return None
            name = name_of(node.this)
            if node.args.get("table") is None and not self.scope.has(name):
                named = {output.name: output for output in self._outputs if output.is_alias}
                if found := matches(name, named):
                    return self._output(named[found[0]])
        return self.bind(node)

    def _is_window_bound(self, node: exp.Column) -> bool:
        table = node.args.get("table")
        qualifier = name_of(table) if table is not None else None
        return window_bound(name_of(node.this), qualifier, self.scope, self._window_columns) is not None

    def _at_position(self, node: exp.Literal) -> Expr | None:
        span = span_of(node)
        count = len(self._outputs)
        if not node.name.isdecimal() or not 1 <= int(node.name[:9]) <= count:
            message = f"GROUP BY position {node.name} is not in the SELECT list"
            raise faults.wrong(message, span, f"it has {count} column{'s' if count > 1 else ''}")
        return self._output(self._outputs[int(node.name) - 1])

    def _output(self, output: Output) -> Expr | None:
        node = output.value
        if isinstance(node, exp.Column) and self._is_window_bound(node):
            return None
        return self.bind(node)


class GroupBinder(ScalarBinder):
    """Binds SELECT list and HAVING of a grouped query."""

    def __init__(
        self, scope: Scope, keys: Sequence[Expr], aliases: Collection[str], window_columns: dict[str, str]
    ) -> None:
        super().__init__(scope, "SELECT", aliases, window_columns)
        self._window_columns = window_columns
        self._taken = set(scope.columns)
        self.keys = tuple(Item(self._fresh(f"k{i}"), key) for i, key in enumerate(keys))
        self._bounds = {WINDOW_START: self._fresh("w0"), WINDOW_END: self._fresh("w1")}
        self._calls: dict[AggregateCall, AggregateCall] = {}
        self._aliases: dict[str, exp.Expr] = {}
        self._in_argument = False

    @property
    def aggregates(self) -> tuple[AggregateCall, ...]:
        """The aggregates called so far, equal ones once."""
        return tuple(self._calls.values())

    def output(self, node: exp.Expr | ColumnRef) -> Expr:
        """A column of the SELECT list, over keys, window bounds and aggregates."""
        return self._finish(self.bind(node))

    def having(self, node: exp.Expr, outputs: Iterable[Output]) -> Expr:
        """HAVING; it may use aliases, which hide columns that are not grouped."""
        self.place = "HAVING"
        self._unusable_aliases = ()
        self._aliases = {
            output.name: output.value
            for output in outputs
            if output.is_alias and isinstance(output.value, exp.Expr)
        }
        self._others = (*self._aliases, *self._window_columns)
        return self._finish(self.condition(node))

    # -- what grouping changes -----------------------------------------------------------------------

    def column(self, name: Name, qualifier: Name | None, span: Span) -> Expr:
        bound = window_bound(name, qualifier, self.scope, self._window_columns)
        if bound is not None:
            if self._in_argument:
                raise faults.wrong(f"'{name.text}' cannot stand inside an aggregate", span)
            return ColumnRef(type=TIMESTAMP, name=self._bounds[bound], span=span)
        is_alias = qualifier is None and not self._in_argument and not self._is_key(name)
        if is_alias and (found := matches(name, self._aliases)):
            return self._alias(found[0], span)
        return super().column(name, qualifier, span)

    def aggregate(self, node: exp.Anonymous, condition: exp.Expr | None, span: Span) -> Expr:
        if self._in_argument:
            message = f"the aggregate '{node.name}' stands inside another aggregate"
            raise faults.wrong(message, span, "compute the inner one in a stream of its own")
        self._in_argument = True
        place, self.place = self.place, "FILTER"
        try:
            argument, distinct = self._argument(node, span)
            filter = self.condition(condition) if condition is not None else None
        finally:
            self._in_argument = False
            self.place = place
        with faults.at(span):
            found = resolve_aggregate(node.name, argument.type if argument is not None else None, distinct)
        if argument is not None and found.argument_type is not None:
            argument = coerce(argument, found.argument_type)
        # Equal calls differ in nothing but their names.
        call = AggregateCall("", found.name, argument, found.result_type, distinct, filter, span)
        if call not in self._calls:
            self._calls[call] = replace(call, name=self._fresh(f"a{len(self._calls)}"))
        return ColumnRef(type=call.type, name=self._calls[call].name, span=span)

    def _argument(self, node: exp.Anonymous, span: Span) -> tuple[Expr | None, bool]:
        arguments = node.expressions
        distinct = bool(arguments) and isinstance(arguments[0], exp.Distinct)
        if distinct:
            arguments = arguments[0].expressions
        if len(arguments) == 1 and isinstance(arguments[0], exp.Star):
            if node.name.lower() != "count":
                raise faults.wrong(
                    f"'{node.name}' does not take '*'", span_of(arguments[0]), "only COUNT does"
                )
            return None, False
        if len(arguments) != 1:
            hint = "write COUNT(*)" if node.name.lower() == "count" and not arguments else None
            raise faults.wrong(f"'{node.name}' takes one argument, not {len(arguments)}", span, hint)
        return self.bind(arguments[0]), distinct

    def _is_key(self, name: Name) -> bool:
        keys = {key.expr.name for key in self.keys if isinstance(key.expr, ColumnRef)}
        return any(column in keys for column in matches(name, self.scope.columns))

    def _alias(self, alias: str, span: Span) -> Expr:
        aliases, self._aliases = self._aliases, {}  # an alias is not defined by aliases
        try:
            return replace(self.bind(aliases[alias]), span=span)
        finally:
            self._aliases = aliases

    # -- keys ----------------------------------------------------------------------------------------

    def _finish(self, expr: Expr) -> Expr:
        names = {item.expr: item.name for item in self.keys}
        aggregates = {call.name for call in self._calls.values()}
        bounds = {internal: bound for bound, internal in self._bounds.items()}

        def above(node: Expr) -> Expr | None:
            if node in names:
                return ColumnRef(type=node.type, name=names[node], span=node.span)
            if not isinstance(node, ColumnRef):
                return None
            if node.name in bounds:
                return replace(node, name=bounds[node.name])
            if node.name in aggregates:
                return node
            hint = "add it to GROUP BY, or use an aggregate such as MAX"
            message = f"column '{node.name}' is neither grouped nor aggregated"
            assert node.span is not None
            raise faults.wrong(message, node.span, hint)

        return _rewrite(expr, above)

    def _fresh(self, stem: str) -> str:
        name = f"_{stem}"
        while name in self._taken:
            name = f"_{name}"
        self._taken.add(name)
        return name


def window_bound(
    name: Name, qualifier: Name | None, scope: Scope, window_columns: dict[str, str]
) -> str | None:
    """The bound of the window that a name means, or None.

    A qualified name means a column of the input first.
    """
    if qualifier is not None and (scope.has(name) or not matches(qualifier, [scope.qualifier])):
        return None
    found = matches(name, window_columns)
    return window_columns[found[0]] if found else None


def typed(expr: Expr) -> Expr:
    """The expression as a column: NULL alone, which has no type, is an INTEGER, as in DuckDB."""
    return coerce(expr, INTEGER) if pa.types.is_null(expr.type) else expr


def _rewrite(expr: Expr, change: Callable[[Expr], Expr | None]) -> Expr:
    """`expr` with what `change` gives for a node in its place; below a None, its children are changed."""
    changed = change(expr)
    if changed is not None:
        return changed
    match expr:
        case Call():
            return replace(expr, args=tuple(_rewrite(arg, change) for arg in expr.args))
        case Cast():
            return replace(expr, arg=_rewrite(expr.arg, change))
        case Case():
            branches = tuple((_rewrite(when, change), _rewrite(then, change)) for when, then in expr.branches)
            return replace(expr, branches=branches, otherwise=_rewrite(expr.otherwise, change))
        case Literal() | _:
            return expr
