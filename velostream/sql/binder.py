"""Binds a parsed script to its streams: every name found, every type known, one logical plan per query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from sqlglot import exp

from velostream.errors import SqlError, raise_all
from velostream.sql import faults
from velostream.sql.expressions import ColumnRef, Expr
from velostream.sql.faults import Fault
from velostream.sql.grouping import (
    TABLE_FUNCTION_COLUMNS,
    WINDOW_COLUMNS,
    GroupBinder,
    KeyBinder,
    Output,
    has_aggregate,
    typed,
)
from velostream.sql.logical import Aggregate, Filter, Item, Project, Query, Relation, Scan, Script, Window
from velostream.sql.naming import column_name, unique_names
from velostream.sql.scalars import ScalarBinder
from velostream.sql.scopes import Scope, StreamInfo, find, find_stream, matches
from velostream.sql.statements import Name, ParsedScript, Star, Statement, WindowClause
from velostream.sql.typenames import type_name
from velostream.sql.types import TIMESTAMP

__all__ = ["StreamInfo", "bind"]

T = TypeVar("T")

# The words of the query to the kinds of window that the runtime knows.
_WINDOW_KINDS = {"TUMBLING": "tumble", "TUMBLE": "tumble"}


def bind(script: ParsedScript, catalog: Mapping[str, StreamInfo]) -> Script:
    """The logical plans of a script's queries over the streams of `catalog`, inputs and declared ones.

    A later query may read what an earlier one creates: a stream of its columns, without an event time,
    bounded as its input. Raises the one error of the script, or Problems with all of them.
    """
    errors: list[SqlError] = []
    streams = dict(catalog)
    broken: set[str] = set()
    queries = []
    for statement in script.statements:
        # What reads a query with an error would only repeat that error.
        reads_broken = statement.select.source.stream.text.lower() in broken
        query = None
        if not reads_broken:
            query = _QueryBinder(script, statement, streams, errors).query()
        if query is not None:
            queries.append(query)
        if statement.name is None:
            continue
        if query is None:
            broken.add(statement.name.text.lower())
        else:
            source = find_stream(statement.select.source.stream, streams)
            streams[query.name or ""] = StreamInfo(
                statement.name.text, query.root.schema, None, source.bounded
            )
    raise_all(errors)
    return Script(script.text, script.file, tuple(queries))


class _QueryBinder:
    """One statement; what is wrong is added to `errors`, and the rest is looked at all the same."""

    def __init__(
        self,
        script: ParsedScript,
        statement: Statement,
        streams: Mapping[str, StreamInfo],
        errors: list[SqlError],
    ) -> None:
        self._script = script
        self._statement = statement
        self._select = statement.select
        self._streams = streams
        self._errors = errors
        self._count = len(errors)
        # The columns of the PRIMARY KEY.
        self._key: tuple[str, ...] = ()

    def query(self) -> Query | None:
        """The bound query, or None when there were errors."""
        root = self._try(self._root)
        if root is None or len(self._errors) > self._count:
            return None
        name = self._statement.name.text if self._statement.name is not None else None
        select, kind = self._select, self._statement.kind
        return Query(name, kind, root, select.emit, dict(select.options), self._key, self._statement.span)

    def _try(self, step: Callable[[], T]) -> T | None:
        try:
            return step()
        except Fault as fault:
            self._report(fault)
        except _Reported:
            pass
        except RecursionError:
            self._report(faults.unsupported("an expression nested this deep", self._statement.span))
        return None

    def _report(self, fault: Fault) -> None:
        self._errors.append(fault.error(self._script.text, self._script.file))

    def _root(self) -> Relation:
        select = self._select
        info = find_stream(select.source.stream, self._streams)
        scope = Scope(info, select.source.alias)
        window = self._window_clause()
        bound_window = self._try(lambda: _window(window, scope)) if window is not None else None
        outputs = self._outputs(scope)
        aliases = [output.name for output in outputs if output.is_alias]
        relation: Relation = Scan(info.name, info.schema)
        if (where := select.where) is not None:
            binder = ScalarBinder(scope, "WHERE", aliases)
            predicate = self._try(lambda: binder.condition(where))
            if predicate is not None:
                relation = Filter(relation, predicate)
        if self._is_grouped(outputs):
            return self._grouped(relation, scope, outputs, bound_window)
        if window is not None:
            hint = "add GROUP BY or an aggregate such as COUNT(*)"
            raise faults.unsupported("a window without aggregation", window.span, hint)
        binder = ScalarBinder(scope, "SELECT", aliases)
        return Project(relation, self._items(outputs, binder.bind))

    def _window_clause(self) -> WindowClause | None:
        clause, function = self._select.window, self._select.source.window
        if clause is not None and function is not None:
            self._report(faults.wrong("a query has one window, and TUMBLE is one", clause.span))
        return clause or function

    def _is_grouped(self, outputs: list[Output]) -> bool:
        select = self._select
        return (
            select.group_by is not None
            or select.having is not None
            or select.window is not None
            or any(
                not isinstance(output.value, ColumnRef) and has_aggregate(output.value) for output in outputs
            )
        )

    def _outputs(self, scope: Scope) -> list[Output]:
        """The SELECT list with `*` spelt out, under distinct names."""
        outputs: list[Output] = []
        for item in self._select.items:
            if isinstance(item.expr, Star):
                star = item.expr
                if star.qualifier is not None:
                    self._try(partial(scope.check_qualifier, star.qualifier))
                outputs += [Output(name, scope.ref(name, star.span), False) for name in scope.starred]
            elif item.alias is not None:
                outputs.append(Output(item.alias.text, item.expr, True, item.key))
            else:
                outputs.append(Output(self._column_name(item.expr, scope), item.expr, False, item.key))
        names = unique_names(output.name for output in outputs)
        named = [replace(output, name=name) for name, output in zip(names, outputs, strict=True)]
        self._key = tuple(output.name for output in named if output.is_key)
        return named

    def _column_name(self, node: exp.Expr, scope: Scope) -> str:
        name = column_name(node)
        found = matches(Name(name, False, self._select.span), scope.columns)
        return found[0] if isinstance(node, exp.Column) and len(found) == 1 else name

    def _items(
        self, outputs: Sequence[Output], bind: Callable[[exp.Expr | ColumnRef], Expr]
    ) -> tuple[Item, ...]:
        bound = [(output.name, self._try(partial(bind, output.value))) for output in outputs]
        return tuple(Item(name, typed(expr)) for name, expr in bound if expr is not None)

    def _grouped(
        self, relation: Relation, scope: Scope, outputs: list[Output], window: Window | None
    ) -> Relation:
        select = self._select
        columns: dict[str, str] = {}
        if select.window is not None:
            columns = WINDOW_COLUMNS
        elif select.source.window is not None:
            columns = TABLE_FUNCTION_COLUMNS
        keys: dict[Expr, None] = {}
        key_binder = KeyBinder(scope, outputs, columns)
        count = len(self._errors)
        for node in select.group_by or ():
            key = self._try(partial(key_binder.key, node))
            if key is not None:
                keys[typed(key)] = None
        if len(self._errors) > count:
            # Without its keys, every column of the query would be an error.
            raise _Reported
        aliases = [output.name for output in outputs if output.is_alias]
        binder = GroupBinder(scope, list(keys), aliases, columns)
        items = self._items(outputs, binder.output)
        having = None
        if (condition := select.having) is not None:
            having = self._try(lambda: binder.having(condition, outputs))
        relation = Aggregate(relation, binder.keys, binder.aggregates, window)
        return Project(Filter(relation, having) if having is not None else relation, items)


class _Reported(Exception):
    """What stopped the binding of a query is among its errors already."""


def _window(clause: WindowClause, scope: Scope) -> Window:
    if clause.time is None:
        time = scope.stream.event_time
        if time is None:
            hint = f"write {clause.kind}(column, …), or set event_time of '{scope.stream.name}'"
            raise faults.wrong("this window has no time column", clause.span, hint)
        column = find("column", Name(time, True, clause.span), scope.columns)
        span = clause.span
    else:
        *qualifier, name = clause.time
        if qualifier:
            scope.check_qualifier(qualifier[0])
        span = name.span
        column = scope.column(name, span).name
    type = scope.ref(column, span).type
    if type != TIMESTAMP:
        hint = "declare it as TIMESTAMP, or cast it in a stream of its own"
        message = f"the time of a window is a TIMESTAMP, '{column}' is {type_name(type)}"
        raise faults.wrong(message, span, hint)
    return Window(_WINDOW_KINDS[clause.kind], column, clause.size_us, clause.span)
