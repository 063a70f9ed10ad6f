"""Programs and predicates: whose failures count, what is shared, folded and passed through."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from velostream.errors import BindError, RecordFailure
from velostream.operators.expressions import Predicate, Program, constant
from velostream.sql.expressions import Call, Case, Cast, ColumnRef, Expr, Literal
from velostream.sql.functions import functions, resolve

HIGH = 2**63 - 1
BATCH = pa.record_batch(
    {
        "i": pa.array([1, HIGH, None, -(2**63)]),
        "d": pa.array([0.0, float("nan"), None, -0.0]),
        "s": pa.array(["12", "x", None, " 7 "]),
        "b": pa.array([True, False, None, True]),
    }
)


def column(name: str) -> Expr:
    return ColumnRef(type=BATCH.schema.field(name).type, name=name)


def literal(value: Any, type: pa.DataType | None = None) -> Expr:
    return Literal(type=type or pa.scalar(value).type, value=value)


def call(name: str, *args: Expr) -> Expr:
    found = resolve(name, [arg.type for arg in args])
    return Call(type=found.result_type, function=found.name, args=args)


def run(expr: Expr) -> tuple[list[Any], list[int], set[tuple[str, str]]]:
    """The values, the rows that failed, and why."""
    result, failures = Program([("x", expr)], BATCH.schema).run(BATCH)
    failed = [] if failures is None else [row for row in range(BATCH.num_rows) if failures.mask[row]]
    reasons = set() if failures is None else {failures.reason(row) for row in failed}
    return result.column(0).to_pylist(), failed, reasons


OVERFLOW = call("gt", call("add", column("i"), literal(1)), literal(0))  # fails in row 1
TRUE, FALSE, NULL = (literal(value, pa.bool_()) for value in (True, False, None))


def test_an_overflow_fails_its_record_and_no_other() -> None:
    assert run(call("add", column("i"), literal(1))) == (
        [2, None, None, -HIGH],
        [1],
        {("overflow", "add is out of range for BIGINT")},
    )
    assert run(call("negate", column("i")))[:2] == ([-1, -HIGH, None, None], [3])


def test_a_failed_cast_fails_its_record_and_try_cast_gives_null() -> None:
    assert run(Cast(type=pa.int64(), arg=column("s"))) == (
        [12, None, None, 7],
        [1],
        {("cast", "a VARCHAR does not fit BIGINT")},
    )
    assert run(Cast(type=pa.int64(), arg=column("s"), safe=True)) == ([12, None, None, 7], [], set())


def test_try_cast_does_not_hide_the_failure_of_its_argument() -> None:
    inner = call("add", column("i"), literal(1))
    assert run(Cast(type=pa.string(), arg=inner, safe=True))[1] == [1]


@pytest.mark.parametrize(
    ("expr", "values", "failed"),
    [
        (call("and", FALSE, OVERFLOW), [False] * 4, []),
        (call("and", OVERFLOW, FALSE), [False, None, False, False], [1]),
        (call("and", column("b"), OVERFLOW), [True, False, None, False], []),
        (call("and", NULL, OVERFLOW), [None, None, None, False], [1]),
        (call("or", TRUE, OVERFLOW), [True] * 4, []),
        (call("or", column("b"), OVERFLOW), [True, None, None, True], [1]),
        (call("coalesce", column("b"), OVERFLOW), [True, False, None, True], []),
        (call("coalesce", NULL, OVERFLOW), [True, None, None, False], [1]),
        (call("if", column("b"), OVERFLOW, TRUE), [True, True, True, False], []),
        (call("if", column("b"), TRUE, OVERFLOW), [True, None, None, True], [1]),
        (call("is_null", OVERFLOW), [False, None, True, False], [1]),
    ],
)
def test_an_argument_fails_only_for_rows_that_look_at_it(
    expr: Expr, values: list[bool | None], failed: list[int]
) -> None:
    got = run(expr)
    assert (got[0], got[1]) == (values, failed)


def test_a_case_branch_fails_only_for_rows_that_take_it() -> None:
    plus_one = call("add", column("i"), literal(1))
    guard = call("lt", column("i"), literal(HIGH))
    guarded = Case(type=pa.int64(), branches=((guard, plus_one),), otherwise=literal(0))
    assert run(guarded) == ([2, 0, 0, -HIGH], [], set())
    turned = Case(type=pa.int64(), branches=((guard, literal(0)),), otherwise=plus_one)
    assert run(turned)[:2] == ([0, None, None, 0], [1])
    # A condition is evaluated only where none before it was TRUE.
    second = Case(
        type=pa.int64(), branches=((TRUE, literal(5)), (OVERFLOW, literal(6))), otherwise=literal(7)
    )
    assert run(second) == ([5] * 4, [], set())


def test_a_constant_that_fails_does_so_in_the_rows_that_take_it() -> None:
    impossible = call("add", literal(HIGH), literal(1))
    assert run(impossible)[:2] == ([None] * 4, [0, 1, 2, 3])
    guarded = Case(type=pa.int64(), branches=((column("b"), impossible),), otherwise=literal(0))
    assert run(guarded)[:2] == ([None, 0, 0, None], [0, 3])


def test_equal_subexpressions_are_evaluated_once_and_constants_at_compile_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    entry = functions["add"]

    def counted(invocation: Any, *args: Any) -> Any:
        calls.append(invocation.rows)
        return entry.implementation(invocation, *args)

    monkeypatch.setattr(
        "velostream.operators.expressions.functions",
        {entry.name: type(entry)(**{**vars_of(entry), "implementation": counted})},
    )
    plus_two = call("add", column("i"), call("add", literal(1), literal(1)))
    program = Program([("x", plus_two), ("y", call("add", plus_two, literal(0)))], BATCH.schema)
    assert calls == [1]
    program.run(BATCH)
    assert calls == [1, 4, 4]


def vars_of(entry: Any) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__dataclass_fields__}


def test_constants_that_are_equal_but_not_the_same_are_kept_apart() -> None:
    schema = pa.schema([])
    program = Program([("x", literal(0.0)), ("y", literal(-0.0))], schema)
    batch = pa.RecordBatch.from_struct_array(pa.array([{}], pa.struct([])))
    assert str(program.run(batch)[0].to_pylist()[0]) == "{'x': 0.0, 'y': -0.0}"


def test_columns_pass_without_a_copy_and_may_be_renamed() -> None:
    result, failures = Program([("again", column("i")), ("s", column("s"))], BATCH.schema).run(BATCH)
    assert failures is None
    assert result.schema.names == ["again", "s"]
    assert result.column(0).buffers()[1].address == BATCH.column(0).buffers()[1].address


def test_no_columns_keep_the_number_of_rows() -> None:
    assert Program([], BATCH.schema).run(BATCH)[0].num_rows == 4


def test_a_predicate_keeps_what_is_true_and_says_when_that_is_all() -> None:
    keep, failures = Predicate(column("b"), BATCH.schema).run(BATCH)
    assert keep is not None
    assert (keep.tolist(), failures) == ([True, False, False, True], None)
    assert Predicate(TRUE, BATCH.schema).run(BATCH) == (None, None)
    nothing, _ = Predicate(literal(None, pa.null()), BATCH.schema).run(BATCH)
    assert nothing is not None
    assert not nothing.any()
    with pytest.raises(BindError, match="a condition is BOOLEAN"):
        Predicate(column("i"), BATCH.schema)


def test_a_row_that_fails_does_not_pass() -> None:
    keep, failures = Predicate(call("is_null", OVERFLOW), BATCH.schema).run(BATCH)
    assert keep is not None
    assert failures is not None
    assert keep.tolist() == [False, False, True, False]
    assert failures.mask.tolist() == [False, True, False, False]


def test_a_constant_has_a_value_or_a_reason() -> None:
    assert constant(call("concat", literal("a"), literal(1), literal(date(2024, 1, 2)))) == "a12024-01-02"
    with pytest.raises(RecordFailure, match="overflow"):
        constant(call("add", literal(HIGH), literal(1)))


@pytest.mark.parametrize(
    ("value", "type", "expected"),
    [
        (2.5, pa.int64(), 2),
        (3.5, pa.int64(), 4),
        (Decimal("2.5"), pa.int64(), 3),
        ("2.5", pa.int64(), 3),
        (" 1e3 ", pa.int64(), 1000),
        (1e20, pa.string(), "1e+20"),
        (1.0, pa.string(), "1.0"),
        (Decimal("0.50"), pa.string(), "0.50"),
        (datetime(2024, 1, 2, 3, 4, 5), pa.string(), "2024-01-02 03:04:05"),
        (datetime(2024, 1, 2, 3, 4, 5, 120000), pa.string(), "2024-01-02 03:04:05.12"),
        (datetime(1969, 12, 31, 23, 59), pa.date32(), date(1969, 12, 31)),
        ("2024-01-02T03:04:05+02:00", pa.timestamp("us"), datetime(2024, 1, 2, 1, 4, 5)),
        ("Yes", pa.bool_(), True),
        (True, pa.decimal128(3, 1), Decimal("1.0")),
        (Decimal("9.995"), pa.decimal128(4, 2), Decimal("10.00")),
        (127.5, pa.int8(), None),
        (128, pa.int8(), None),
        ("", pa.float64(), None),
        (" true ", pa.bool_(), None),
        (float("nan"), pa.int64(), None),
        (date(9999, 12, 31), pa.timestamp("us"), datetime(9999, 12, 31)),
    ],
)
def test_a_cast_gives_the_value_or_null(value: Any, type: pa.DataType, expected: Any) -> None:
    assert constant(Cast(type=type, arg=literal(value), safe=True)) == expected


def test_a_date_beyond_timestamp_fails_its_record() -> None:
    far = pa.record_batch({"d": pa.array([2**31 - 1, None, 0], pa.int32()).view(pa.date32())})
    expr = Cast(type=pa.timestamp("us"), arg=ColumnRef(type=pa.date32(), name="d"))
    result, failures = Program([("x", expr)], far.schema).run(far)
    assert failures is not None
    assert failures.mask.tolist() == [True, False, False]
    assert result.column(0).to_pylist() == [None, None, datetime(1970, 1, 1)]


def test_a_timestamp_without_a_calendar_date_fails_its_record() -> None:
    micros = pa.array([-(2**63), 2**63 - 1, 0, None, 900_000_000_000_000_000])
    times = pa.record_batch({"t": micros.view(pa.timestamp("us"))})
    time = ColumnRef(type=pa.timestamp("us"), name="t")
    year = [None, None, 1970, None, 30489]
    day = [None, None, 0, None, 899_999_942_400_000_000]
    text = [None, None, "1970-01-01 00:00:00", None, "30489-11-11 16:00:00"]
    for expr, expected in [
        (call("year", time), year),
        (call("date_trunc", literal("day"), time), day),
        (Cast(type=pa.string(), arg=time), text),
    ]:
        result, failures = Program([("x", expr)], times.schema).run(times)
        values = result.column(0)
        got = values.view(pa.int64()) if pa.types.is_timestamp(values.type) else values
        assert failures is not None
        assert failures.mask.tolist() == [True, True, False, False, False]
        assert got.to_pylist() == expected


# What the upstream gets wrong, by its number in the list of known mistakes.


@pytest.mark.parametrize("zero", [0, 0.0, -0.0, Decimal("0.00")])
def test_mistake_1_division_by_zero_is_null(zero: Any) -> None:
    for name in ("divide", "modulo"):
        assert run(call(name, column("i"), literal(zero))) == ([None] * 4, [], set())
    assert constant(call("divide", literal(7), literal(2))) == 3.5


def test_mistake_2_integers_and_decimals_stay_exact() -> None:
    assert constant(call("add", literal(2**53), literal(1))) == 2**53 + 1
    cents = call("multiply", literal(Decimal("1234567890123456.78")), literal(Decimal("3")))
    assert constant(cents) == Decimal("3703703670370370.34")
    assert constant(call("lt", literal(HIGH - 1), literal(Decimal(HIGH)))) is True


def test_mistake_15_comparisons_are_three_valued_and_exact() -> None:
    null = literal(None, pa.int64())
    for name in ("eq", "ne", "lt", "ge"):
        assert constant(call(name, null, null)) is None
        assert constant(call(name, literal(1), null)) is None
    assert constant(call("eq", literal(1.0), literal(1.0 + 2**-52))) is False
    assert constant(call("eq", literal(0.3), literal(0.1 + 0.2))) is False
    assert constant(call("eq", literal(float("nan")), literal(float("nan")))) is True
    assert constant(call("gt", literal(float("nan")), literal(float("inf")))) is True


def test_mistake_15_like_takes_other_characters_as_they_are() -> None:
    for text, pattern, expected in [
        ("a.c", "a.c", True),
        ("abc", "a.c", False),
        ("a+", "a+", True),
        ("(x)", "(_)", True),
        ("a\\b", "a\\b", True),
        ("a\nb", "a%b", True),
    ]:
        assert constant(call("like", literal(text), literal(pattern))) is expected


def test_mistake_16_the_number_1_is_not_the_text_1() -> None:
    with pytest.raises(BindError, match="BIGINT and VARCHAR have no common type"):
        resolve("eq", [pa.int64(), pa.string()])
