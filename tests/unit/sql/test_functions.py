"""Every entry of the function registry keeps its promises: example, null rule, DuckDB's answer."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

from velostream.errors import BindError, InternalError
from velostream.operators.expressions import Program, constant
from velostream.sql.expressions import Call, ColumnRef, Expr, Literal
from velostream.sql.functions import Function, common_type, functions, resolve
from velostream.sql.functions.registry import PROPAGATE, function
from velostream.sql.functions.rules import signatures

ENTRIES = sorted({entry.value.name: entry.value for entry in functions}.values(), key=lambda f: f.name)

WRITTEN_IN_DUCKDB = {
    "position": "position({0} IN {1})",
    "dow": "dayofweek({0})",
    "doy": "dayofyear({0})",
    "round": "round({0}, {1}::INTEGER)",
}


def literal(value: object) -> Literal:
    if value is None:
        return Literal(type=pa.null(), value=None)
    if isinstance(value, datetime):
        return Literal(type=pa.timestamp("us"), value=value)
    return Literal(type=pa.scalar(value).type, value=value)


def call(name: str, *args: Expr) -> Call:
    literals = {index: arg.value for index, arg in enumerate(args) if isinstance(arg, Literal)}
    found = resolve(name, [arg.type for arg in args], literals)
    return Call(type=found.result_type, function=found.name, args=args)


def sql_text(value: object) -> str:
    if isinstance(value, datetime):
        return f"TIMESTAMP '{value}'"
    if isinstance(value, float):
        return f"{value!r}::DOUBLE"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value}::BIGINT"
    return str(literal(value))


def sql_call(entry: Function, arguments: tuple[object, ...]) -> str:
    texts = [f"({sql_text(value)})" for value in arguments]
    form = WRITTEN_IN_DUCKDB.get(entry.name, entry.form)
    if form is None:
        return f"{entry.name}({', '.join(texts)})"
    if entry.name in ("and", "or"):
        return form.format("", "").join(texts)
    text = form.format(*texts, rest=", ".join(texts[1:]))
    return text if len(texts) < 3 or entry.name == "in" else f"{text} ESCAPE {texts[2]}"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_example_of_an_entry_is_true(entry: Function) -> None:
    arguments, expected = entry.example
    got = constant(call(entry.name, *map(literal, arguments)))
    assert (got, type(got)) == (expected, type(expected))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_example_of_an_entry_is_true_in_duckdb(entry: Function) -> None:
    arguments, expected = entry.example
    ((got,),) = duckdb.sql(f"SELECT {sql_call(entry, arguments)}").fetchall()
    assert got == expected


@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if e.nulls.startswith(PROPAGATE)], ids=lambda entry: entry.name
)
def test_a_null_in_any_argument_gives_null_where_the_entry_says_so(entry: Function) -> None:
    arguments = entry.example[0]
    bound = call(entry.name, *map(literal, arguments))
    for position in range(len(arguments)):
        args = list(bound.args)
        args[position] = Literal(type=args[position].type, value=None)
        assert constant(call(entry.name, *args)) is None, position


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_columns_give_the_same_as_constants_and_no_rows_give_none(entry: Function) -> None:
    arguments, expected = entry.example
    bound = call(entry.name, *map(literal, arguments))
    refs: list[Expr] = []
    columns = {"n": pa.array([0, 1, 2])}
    for position, arg in enumerate(bound.args):
        if position in entry.literals or pa.types.is_null(arg.type):
            refs.append(arg)
            continue
        columns[f"c{position}"] = pa.array([arg.value, None, arg.value], arg.type)
        refs.append(ColumnRef(type=arg.type, name=f"c{position}"))
    batch = pa.record_batch(columns)
    program = Program([("x", call(entry.name, *refs))], batch.schema)
    got, failures = program.run(batch)
    assert failures is None
    assert got.column(0).take([0, 2]).to_pylist() == [expected, expected]
    assert program.run(batch.slice(2))[0].column(0).to_pylist() == [expected]
    assert program.run(batch.slice(0, 0))[0].num_rows == 0
    assert got.schema.field("x").type == bound.type


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_an_entry_says_what_it_is(entry: Function) -> None:
    assert entry.doc.endswith(".")
    assert entry.rule.arguments


def test_a_function_without_docstring_is_refused_at_import() -> None:
    with pytest.raises(InternalError, match="needs a docstring, a null rule and an example"):
        function("nothing", rule=signatures("BIGINT -> BIGINT"), nulls=PROPAGATE, example=((1,), 1))(
            lambda call, x: x
        )
    assert "nothing" not in functions


def test_an_unknown_function_names_the_nearest() -> None:
    with pytest.raises(BindError) as caught:
        resolve("substing", [pa.string()])
    assert caught.value.message == "unknown function 'substing'"
    assert caught.value.hint == "did you mean 'substring'?"


def test_wrong_types_name_what_is_expected() -> None:
    with pytest.raises(BindError) as caught:
        resolve("left", [pa.int64(), pa.string()])
    assert caught.value.message == "'left' does not take (BIGINT, VARCHAR)"
    assert caught.value.hint == "expected (VARCHAR, BIGINT)"


def test_arithmetic_on_times_is_refused_with_a_way_out() -> None:
    with pytest.raises(BindError, match="arithmetic on TIMESTAMP and DATE is not supported"):
        resolve("subtract", [pa.timestamp("us"), pa.timestamp("us")])


def test_an_unknown_unit_of_date_trunc_names_the_nearest() -> None:
    with pytest.raises(BindError) as caught:
        call("date_trunc", literal("huor"), literal(datetime(2024, 1, 1)))
    assert caught.value.hint == "did you mean 'hour'?"
    with pytest.raises(BindError, match="argument 1 of 'date_trunc' must be a constant"):
        resolve("date_trunc", [pa.string(), pa.timestamp("us")], {})


def test_escape_is_one_character() -> None:
    with pytest.raises(BindError, match="one character"):
        call("like", literal("a"), literal("a"), literal("##"))


@pytest.mark.parametrize(
    ("name", "types", "result"),
    [
        ("add", (pa.int8(), pa.int32()), pa.int64()),
        ("add", (pa.decimal128(10, 2), pa.decimal128(8, 4)), pa.decimal128(13, 4)),
        ("add", (pa.decimal128(38, 2), pa.decimal128(38, 4)), pa.decimal128(38, 4)),
        ("add", (pa.decimal128(10, 2), pa.int64()), pa.decimal128(22, 2)),
        ("multiply", (pa.decimal128(10, 2), pa.decimal128(8, 4)), pa.decimal128(18, 6)),
        ("multiply", (pa.decimal128(38, 20), pa.decimal128(18, 4)), pa.decimal128(38, 24)),
        ("multiply", (pa.decimal128(10, 2), pa.float64()), pa.float64()),
        ("modulo", (pa.decimal128(10, 2), pa.decimal128(8, 4)), pa.decimal128(12, 4)),
        ("divide", (pa.int64(), pa.decimal128(5, 2)), pa.float64()),
        ("add", (pa.null(), pa.float64()), pa.float64()),
        ("round", (pa.decimal128(10, 2),), pa.decimal128(10, 0)),
        ("round", (pa.decimal128(3, 2), pa.int64()), pa.decimal128(4, 2)),
        ("nullif", (pa.int32(), pa.float64()), pa.int32()),
        ("coalesce", (pa.int32(), pa.decimal128(2, 1)), pa.decimal128(11, 1)),
    ],
)
def test_results_have_the_types_of_duckdb(
    name: str, types: tuple[pa.DataType, ...], result: pa.DataType
) -> None:
    assert resolve(name, types).result_type == result


def test_a_product_with_too_many_decimal_places_is_refused() -> None:
    with pytest.raises(BindError, match="40 digits behind the point"):
        resolve("multiply", [pa.decimal128(38, 20), pa.decimal128(38, 20)])


def test_text_and_numbers_have_no_common_type() -> None:
    assert common_type([pa.date32(), pa.null(), pa.timestamp("us")]) == pa.timestamp("us")
    with pytest.raises(BindError, match="VARCHAR and BIGINT have no common type"):
        common_type([pa.string(), pa.int64()])


def test_decimal_literals_stay_exact() -> None:
    third = constant(call("multiply", literal(Decimal("0.1")), literal(Decimal("0.3"))))
    assert third == Decimal("0.03")
