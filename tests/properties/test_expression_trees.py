"""Random typed expressions over random rows give what DuckDB gives, value for value.

Each tree is built twice, as a bound expression and as DuckDB's SQL. Where the two mean different things on
purpose, the SQL says what ours means: integers are BIGINT in arithmetic, division by zero is NULL, the rest
of the lowest BIGINT by -1 is 0. DuckDB's TRY gives NULL where an expression fails, which must be where ours
reports a failed record.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from velostream.operators.expressions import Predicate, Program
from velostream.sql.expressions import Call, Case, Cast, ColumnRef, Expr, Literal
from velostream.sql.functions import resolve
from velostream.sql.typenames import type_name

BIGINT, INTEGER, DOUBLE, VARCHAR, BOOLEAN = pa.int64(), pa.int32(), pa.float64(), pa.string(), pa.bool_()
TIMESTAMP, DATE = pa.timestamp("us"), pa.date32()
MONEY, WIDE = pa.decimal128(10, 2), pa.decimal128(38, 4)

COLUMNS = {
    "i": BIGINT,
    "j": INTEGER,
    "k": BIGINT,
    "d": DOUBLE,
    "e": DOUBLE,
    "m": MONEY,
    "w": WIDE,
    "s": VARCHAR,
    "t": VARCHAR,
    "b": BOOLEAN,
    "c": BOOLEAN,
    "ts": TIMESTAMP,
    "dt": DATE,
}
SCHEMA = pa.schema(list(COLUMNS.items()))

EDGES = [0, 1, -1, 2, 3, 7, 10, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), -(2**63) + 1]
integers = st.sampled_from(EDGES) | st.integers(-20, 20) | st.integers(-(2**63), 2**63 - 1)
doubles = (
    st.sampled_from([0.0, -0.0, 1.0, -1.5, 0.5, 2.5, math.inf, -math.inf, math.nan, 1e300, 2.0**63, 5e-324])
    | st.integers(-50, 50).map(lambda n: n / 4)
    | st.floats(allow_nan=True)
)
texts = st.text("aAbBé%_\\ 1.ßΣ語", max_size=6) | st.sampled_from(["12", " -3.5 ", "1e2", "true", "nan", "x"])
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    BIGINT: integers,
    INTEGER: st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31)]) | st.integers(-(2**31), 2**31 - 1),
    DOUBLE: doubles,
    MONEY: st.integers(-(10**10) + 1, 10**10 - 1).map(lambda n: Decimal(n).scaleb(-2))
    | st.integers(-300, 300).map(lambda n: Decimal(n).scaleb(-2)),
    WIDE: (st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(-30000, 30000)).map(
        lambda n: Decimal((n < 0, tuple(map(int, str(abs(n)))), -4))
    ),
    VARCHAR: texts,
    BOOLEAN: st.booleans(),
    TIMESTAMP: st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))
    | st.sampled_from([datetime(1970, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999999)]),
    DATE: st.dates(date(1900, 1, 1), date(2100, 1, 1)),
}


@dataclass(frozen=True)
class Tree:
    """An expression, and the same as DuckDB's SQL."""

    expr: Expr
    sql: str

    @property
    def type(self) -> pa.DataType:
        return self.expr.type


def literal(type: pa.DataType, value: Any) -> Tree:
    """A literal; in DuckDB taken from a list by a column, `one`, which is always 1.

    Behind a constant NULL DuckDB evaluates no further operand, and so misses what fails there.
    """
    text = "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"
    return Tree(Literal(type=type, value=value), f"([CAST({text} AS {type_name(type)})])[one]")


def call(name: str, sql: str, *args: Tree) -> Tree:
    """`sql` has `{0}`, `{1}`, … for the arguments, already of the types that the function takes."""
    found = resolve(name, [arg.type for arg in args])
    texts = [
        arg.sql if arg.type == wanted else f"CAST({arg.sql} AS {type_name(wanted)})"
        for arg, wanted in zip(args, found.argument_types, strict=True)
    ]
    expr = Call(type=found.result_type, function=found.name, args=tuple(arg.expr for arg in args))
    return Tree(expr, "(" + sql.format(*texts) + ")")


def leaves(type: pa.DataType) -> st.SearchStrategy[Tree]:
    columns = [Tree(ColumnRef(type=type, name=name), name) for name, of in COLUMNS.items() if of == type]
    constants = (st.none() | VALUES[type]).map(lambda value: literal(type, value))
    return st.sampled_from(columns) | constants


NUMBERS = (BIGINT, INTEGER, DOUBLE, MONEY)
COMPARABLE = (BIGINT, DOUBLE, MONEY, VARCHAR, BOOLEAN, TIMESTAMP, DATE)
PARTS = ("year", "quarter", "month", "week", "day", "dow", "doy", "hour", "minute", "second", "millisecond")
UNITS = ("microsecond", "millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year")

MODULO = "CASE WHEN {1} = -1 AND {0} IS NOT NULL THEN {0} - {0} ELSE {0} % NULLIF({1}, 0) END"


@st.composite
def trees(draw: st.DrawFn, type: pa.DataType, depth: int) -> Tree:
    """An expression of exactly that type, at most `depth` calls deep."""
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        return draw(leaves(type))
    makers = [*MAKERS.get(type, []), _case, _coalesce]
    return draw(st.sampled_from(makers))(draw, type, depth - 1)


Maker = Callable[[st.DrawFn, pa.DataType, int], Tree]


def _case(draw: st.DrawFn, type: pa.DataType, depth: int) -> Tree:
    when, then, otherwise = draw(trees(BOOLEAN, depth)), draw(trees(type, depth)), draw(trees(type, depth))
    expr = Case(type=type, branches=((when.expr, then.expr),), otherwise=otherwise.expr)
    return Tree(expr, f"CASE WHEN {when.sql} THEN {then.sql} ELSE {otherwise.sql} END")


def _coalesce(draw: st.DrawFn, type: pa.DataType, depth: int) -> Tree:
    name = draw(st.sampled_from(["coalesce", "nullif", "greatest", "least"]))
    return call(name, f"{name}({{0}}, {{1}})", draw(trees(type, depth)), draw(trees(type, depth)))


def _of(name: str, sql: str, *types: pa.DataType) -> Maker:
    def make(draw: st.DrawFn, type: pa.DataType, depth: int) -> Tree:
        return call(name, sql, *(draw(trees(of, depth)) for of in types))

    return make


def _cast(source: pa.DataType) -> Maker:
    def make(draw: st.DrawFn, type: pa.DataType, depth: int) -> Tree:
        arg = draw(trees(source, depth))
        safe = draw(st.booleans())
        word = "TRY_CAST" if safe else "CAST"
        return Tree(Cast(type=type, arg=arg.expr, safe=safe), f"{word}({arg.sql} AS {type_name(type)})")

    return make


def _comparison(draw: st.DrawFn, type: pa.DataType, depth: int) -> Tree:
    name, sign = draw(
        st.sampled_from([("eq", "="), ("ne", "<>"), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">=")])
    )
    left = draw(st.sampled_from(COMPARABLE))
    right = draw(st.sampled_from([BIGINT, DOUBLE, MONEY])) if left in (BIGINT, DOUBLE, MONEY) else left
    return call(name, f"{{0}} {sign} {{1}}", draw(trees(left, depth)), draw(trees(right, depth)))


def _in(draw: st.DrawFn, type: pa.DataType, depth: int) -> Tree:
    of = draw(st.sampled_from([BIGINT, DOUBLE, VARCHAR, MONEY, DATE]))
    members = draw(st.lists(leaves(of), min_size=1, max_size=3))
    inside = ", ".join(f"{{{index + 1}}}" for index in range(len(members)))
    return call("in", f"{{0}} IN ({inside})", draw(trees(of, depth)), *members)


def _is(draw: st.DrawFn, type: pa.DataType, depth: int) -> Tree:
    name = draw(st.sampled_from(["is_null", "is_not_null"]))
    of = draw(st.sampled_from(COMPARABLE))
    return call(name, f"{{0}} {name.replace('_', ' ').upper()}", draw(trees(of, depth)))


def _truth(draw: st.DrawFn, type: pa.DataType, depth: int) -> Tree:
    name = draw(st.sampled_from(["is_true", "is_false", "is_not_true", "is_not_false"]))
    return call(name, f"{{0}} {name.replace('_', ' ').upper()}", draw(trees(BOOLEAN, depth)))


def _arithmetic(draw: st.DrawFn, type: pa.DataType, depth: int) -> Tree:
    name, sign = draw(st.sampled_from([("add", "+"), ("subtract", "-"), ("multiply", "*")]))
    left, right = draw(st.sampled_from([(BIGINT, BIGINT), (INTEGER, BIGINT)] if type == BIGINT else [
        (DOUBLE, DOUBLE), (DOUBLE, BIGINT), (MONEY, DOUBLE)]))  # fmt: skip
    return call(name, f"{{0}} {sign} {{1}}", draw(trees(left, depth)), draw(trees(right, depth)))


def _part(draw: st.DrawFn, type: pa.DataType, depth: int) -> Tree:
    name = draw(st.sampled_from(PARTS))
    return call(
        name, f"date_part('{name}', {{0}})", draw(trees(draw(st.sampled_from([TIMESTAMP, DATE])), depth))
    )


def _trunc(draw: st.DrawFn, type: pa.DataType, depth: int) -> Tree:
    unit = draw(st.sampled_from(UNITS))
    time = draw(trees(draw(st.sampled_from([TIMESTAMP, DATE])), depth))
    return call("date_trunc", "date_trunc({0}, {1})", literal(VARCHAR, unit), time)


MAKERS: dict[pa.DataType, list[Maker]] = {
    BIGINT: [
        _arithmetic,
        _arithmetic,
        _of("modulo", MODULO, BIGINT, BIGINT),
        # Not -{0}, which of a constant is evaluated before TRY.
        _of("negate", "0::BIGINT - {0}", BIGINT),
        _of("abs", "abs({0})", BIGINT),
        _of("length", "length({0})", VARCHAR),
        _of("strpos", "strpos({0}, {1})", VARCHAR, VARCHAR),
        _part,
        _cast(DOUBLE),
        _cast(VARCHAR),
        _cast(MONEY),
        _cast(WIDE),
        _cast(BOOLEAN),
    ],
    INTEGER: [_cast(BIGINT), _cast(DOUBLE), _cast(VARCHAR)],
    DOUBLE: [
        _arithmetic,
        _of("divide", "{0} / NULLIF({1}, 0)", DOUBLE, DOUBLE),
        _of("divide", "{0} / NULLIF({1}, 0)", BIGINT, MONEY),
        _of("modulo", "{0} % NULLIF({1}, 0)", DOUBLE, DOUBLE),
        _of("abs", "abs({0})", DOUBLE),
        _of("floor", "floor({0})", DOUBLE),
        _of("ceil", "ceil({0})", DOUBLE),
        _of("round", "round({0})", DOUBLE),
        _of("sqrt", "sqrt({0})", DOUBLE),
        _of("epoch", "epoch({0})", TIMESTAMP),
        _cast(BIGINT),
        _cast(VARCHAR),
        _cast(MONEY),
        _cast(WIDE),
    ],
    MONEY: [_cast(BIGINT), _cast(DOUBLE), _cast(VARCHAR), _cast(WIDE), _of("abs", "abs({0})", MONEY)],
    WIDE: [
        _cast(MONEY),
        _cast(BIGINT),
        _cast(VARCHAR),
        _of("add", "{0} + {1}", WIDE, WIDE),
        _of("subtract", "{0} - {1}", WIDE, WIDE),
    ],
    VARCHAR: [
        _of("trim", "trim({0})", VARCHAR),
        _of("left", "left({0}, {1})", VARCHAR, INTEGER),
        _of("replace", "replace({0}, {1}, {2})", VARCHAR, VARCHAR, VARCHAR),
        _of("concat", "concat({0}, {1})", VARCHAR, BIGINT),
        _of("||", "{0} || {1}", VARCHAR, DOUBLE),
        _cast(BIGINT),
        _cast(DOUBLE),
        _cast(MONEY),
        _cast(WIDE),
        _cast(BOOLEAN),
        _cast(TIMESTAMP),
        _cast(DATE),
    ],
    BOOLEAN: [
        _comparison,
        _comparison,
        _in,
        _is,
        _truth,
        _of("not", "NOT {0}", BOOLEAN),
        _of("like", "{0} LIKE {1}", VARCHAR, VARCHAR),
        _of("starts_with", "starts_with({0}, {1})", VARCHAR, VARCHAR),
        _cast(BIGINT),
        _cast(VARCHAR),
    ],
    TIMESTAMP: [_trunc, _cast(DATE)],
    DATE: [_cast(TIMESTAMP)],
}


@st.composite
def rows(draw: st.DrawFn) -> pa.RecordBatch:
    n = draw(st.integers(1, 6))
    columns = [
        pa.array(draw(st.lists(st.none() | VALUES[type], min_size=n, max_size=n)), type)
        for type in COLUMNS.values()
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float):
        return ours == theirs or (math.isnan(ours) and math.isnan(theirs))
    return bool(ours == theirs) and isinstance(ours, type(theirs))


connection = duckdb.connect()
# The optimizer evaluates constants outside of TRY, and what fails there fails the query.
connection.execute("SET threads = 1; SET timezone = 'UTC'; PRAGMA disable_optimizer")


def duckdb_values(batch: pa.RecordBatch, sql: str, type: pa.DataType) -> list[Any]:
    ones = pa.array([1] * batch.num_rows, pa.int32())
    relation = connection.from_arrow(pa.Table.from_batches([batch]).append_column("one", ones))
    answer = relation.project(f"TRY({sql}) AS x").to_arrow_table().column("x")
    return list(answer.cast(type).to_pylist())


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(list(MAKERS)).flatmap(lambda type: trees(type, 3)), rows())
def test_expressions_give_what_duckdb_gives(tree: Tree, batch: pa.RecordBatch) -> None:
    got, failures = Program([("x", tree.expr)], SCHEMA).run(batch)
    theirs = duckdb_values(batch, tree.sql, tree.type)
    failed = [False] * batch.num_rows if failures is None else failures.mask.tolist()
    for row, (value, other) in enumerate(zip(got.column(0).to_pylist(), theirs, strict=True)):
        if failed[row]:
            assert (value, other) == (None, None), (tree.sql, batch.slice(row, 1).to_pylist())
        else:
            assert same(value, other), (tree.sql, value, other, batch.slice(row, 1).to_pylist())


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(trees(BOOLEAN, 2), trees(BOOLEAN, 2), rows())
def test_a_predicate_keeps_the_rows_that_the_program_finds_true(
    left: Tree, right: Tree, batch: pa.RecordBatch
) -> None:
    for name in ("and", "or"):
        expr = call(name, "", left, right).expr
        value, failed = Program([("x", expr)], SCHEMA).run(batch)
        kept, failed_too = Predicate(expr, SCHEMA).run(batch)
        assert [v is True for v in value.column(0).to_pylist()] == (
            [True] * batch.num_rows if kept is None else kept.tolist()
        )
        assert (failed is None) == (failed_too is None)
