import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velostream.kernels import (
    Cells,
    CountState,
    DecimalState,
    DoubleState,
    GroupTable,
    Int64State,
    KeyEncoder,
    TextState,
    change_ops,
    select_rows,
)

bigints = st.integers(-10, 10) | st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**63 - 1, -(2**63)])
wide = st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(-20, 20)


def scaled(value, scale):
    """value / 10^scale, exactly, whatever the decimal context."""
    return Decimal(f"{value}E-{scale}")


def slots_of(*values):
    return np.array(values, dtype=np.int32)


class Alone:
    """A state in cells of its own; `read` is the method that gives its result."""

    def __init__(self, state, cells=None):
        self.cells = Cells([CountState(), state]) if cells is None else cells
        self.state = self.cells.states[1]

    def reserve(self, count):
        self.cells.reserve(count)

    def update(self, slots, rows, values):
        self.cells.update(slots, [None, (values, None, None)], rows)

    def trace(self, slots, rows, values, positions):
        return Alone(None, self.cells.trace(slots, [None, (values, None, positions)], rows))

    def compact(self, keep):
        self.cells.compact(keep)

    def read(self, name, slots):
        return getattr(self.state, name)(self.cells, slots)


def in_one_slot(state, array):
    alone = Alone(state)
    alone.reserve(1)
    alone.update(np.zeros(len(array), dtype=np.int32), None, array)
    return alone


@settings(max_examples=200, deadline=None)
@given(st.lists(bigints, min_size=1, max_size=66))
def test_integer_sums_are_exact_and_averages_the_nearest_double(values):
    state = in_one_slot(Int64State(pa.int64(), ["sum"]), pa.array(values, pa.int64()))
    total, failed = state.read("sum", slots_of(0))
    if -(2**63) <= sum(values) < 2**63:
        assert total.to_pylist() == [sum(values)] and failed is None
    else:
        assert total.to_pylist() == [None] and failed.tolist() == [True]
    average, failed = state.read("average", slots_of(0))
    assert average.to_pylist() == [float(Fraction(sum(values), len(values)))] and failed is None


@pytest.mark.parametrize("count", [1, 3, 2**16 + 1])
@pytest.mark.parametrize("value", [2**53 + 1, 2**62 + 2**9, 2**63 - 1, -(2**63), -(2**54) - 1])
def test_averages_of_large_sums_round_ties_to_even(value, count):
    state = in_one_slot(Int64State(pa.int64(), ["sum"]), pa.array(np.full(count, value, dtype=np.int64)))
    state.update(slots_of(0), None, pa.array([1]))
    expected = float(Fraction(value * count + 1, count + 1))
    assert state.read("average", slots_of(0))[0].to_pylist() == [expected]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=100))
def test_double_sums_lose_nothing_that_matters(values):
    total = (
        in_one_slot(DoubleState(pa.float64(), ["sum"]), pa.array(values))
        .read("sum", slots_of(0))[0][0]
        .as_py()
    )
    assert abs(total - math.fsum(values)) <= 1e-12 * math.fsum(map(abs, values))


def test_what_plain_addition_cancels_is_kept():
    values = pa.array([1e100, 1.0, -1e100, 1.0])
    state = in_one_slot(DoubleState(pa.float64(), ["sum"]), values)
    assert state.read("sum", slots_of(0))[0].to_pylist() == [2.0]
    assert state.read("average", slots_of(0))[0].to_pylist() == [0.5]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([math.inf, 1.0], math.inf),
        ([1.0, -math.inf, 2.0], -math.inf),
        ([math.inf, -math.inf], math.nan),
        ([math.nan, 1.0], math.nan),
        ([1e308, 1e308], math.inf),
    ],
)
def test_infinities_and_nans_sum_as_ieee_754_says(values, expected):
    total = (
        in_one_slot(DoubleState(pa.float64(), ["sum"]), pa.array(values))
        .read("sum", slots_of(0))[0][0]
        .as_py()
    )
    assert total == expected or (math.isnan(total) and math.isnan(expected))


@settings(max_examples=300, deadline=None)
@given(st.lists(wide, min_size=1, max_size=66), st.integers(0, 38))
def test_decimal_sums_and_averages_are_exact_whatever_passes_between(values, scale):
    type = pa.decimal128(38, scale)
    result = max(6, scale)
    decimals = [scaled(value, scale) for value in values]
    state = in_one_slot(DecimalState(type, ["sum"]), pa.array(decimals, type))
    got, failed = state.read("sum", slots_of(0))
    fits = abs(sum(values)) < 10**38
    assert got.to_pylist() == [scaled(sum(values), scale) if fits else None]
    assert (failed is None) == fits and got.type == pa.decimal128(38, scale)
    got, failed = state.read("average", slots_of(0))
    # round() of a Fraction is half to even.
    average = round(Fraction(sum(values) * 10 ** (result - scale), len(values)))
    fits = abs(average) < 10**38
    assert got.to_pylist() == [scaled(average, result) if fits else None]
    assert (failed is None) == fits and got.type == pa.decimal128(38, result)


@pytest.mark.parametrize(
    ("values", "average"),
    [
        (["0.000001", "0.000002"], "0.000002"),
        (["0.000002", "0.000003"], "0.000002"),
        (["-0.000001", "-0.000002"], "-0.000002"),
        (["-0.000002", "-0.000003"], "-0.000002"),
        (["0.000001", "0.000001", "0.000000"], "0.000001"),
    ],
)
def test_decimal_averages_round_half_to_even(values, average):
    array = pa.array([Decimal(value) for value in values], pa.decimal128(9, 6))
    got = in_one_slot(DecimalState(array.type, ["sum"]), array).read("average", slots_of(0))[0]
    assert got.to_pylist() == [Decimal(average)]


EXTREMES = [
    (lambda part: Int64State(pa.int16(), part), pa.int16(), st.integers(-(2**15), 2**15 - 1), None),
    (lambda part: Int64State(pa.int64(), part), pa.int64(), bigints, None),
    (lambda part: Int64State(pa.bool_(), part), pa.bool_(), st.booleans(), None),
    (lambda part: Int64State(pa.date32(), part), pa.date32(), st.dates(), None),
    (
        lambda part: Int64State(pa.timestamp("us"), part),
        pa.timestamp("us"),
        st.datetimes(),
        None,
    ),
    (
        lambda part: DecimalState(pa.decimal128(38, 2), part),
        pa.decimal128(38, 2),
        wide.map(lambda value: scaled(value, 2)),
        None,
    ),
    (
        lambda part: TextState(pa.string(), part),
        pa.string(),
        st.text(max_size=20),
        lambda text: text.encode(),
    ),
]


@pytest.mark.parametrize(("make", "type", "values", "order"), EXTREMES, ids=lambda part: str(part)[:20])
@pytest.mark.parametrize("greatest", [False, True])
def test_extremes_are_those_of_python(make, type, values, order, greatest):
    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 2), values), max_size=66), st.integers(0, 66))
    def check(rows, cut):
        state = Alone(make(["greatest" if greatest else "least"]))
        state.reserve(4)
        for part in (rows[:cut], rows[cut:]):
            array = pa.array([part[0][1] if part else None] + [value for _, value in part], type)
            state.update(slots_of(*[slot for slot, _ in part]), None, array.slice(1))
        groups = [[value for slot, value in rows if slot == wanted] for wanted in range(4)]
        pick = max if greatest else min
        expected = [pick(group, key=order) if group else None for group in groups]
        got, failed = state.read("greatest" if greatest else "least", slots_of(0, 1, 2, 3))
        got.validate(full=True)
        assert got.to_pylist() == expected and got.type == type and failed is None

    check()


def test_nan_is_the_greatest_double():
    values = pa.array([1.0, math.nan, math.inf])
    least = in_one_slot(DoubleState(pa.float64(), ["least"]), values)
    assert least.read("least", slots_of(0))[0].to_pylist() == [1.0]
    assert math.isnan(
        in_one_slot(DoubleState(pa.float64(), ["greatest"]), values)
        .read("greatest", slots_of(0))[0][0]
        .as_py()
    )
    only = in_one_slot(DoubleState(pa.float64(), ["least"]), pa.array([math.nan, math.nan]))
    assert math.isnan(only.read("least", slots_of(0))[0][0].as_py())
    only.update(slots_of(0), None, pa.array([math.inf]))
    assert only.read("least", slots_of(0))[0].to_pylist() == [math.inf]


STATES = [
    (CountState, "count", None, 0),
    (lambda: Int64State(pa.int64(), ["sum"]), "sum", pa.array([5, 6]), None),
    (lambda: Int64State(pa.int64(), ["sum"]), "average", pa.array([5, 6]), None),
    (lambda: DoubleState(pa.float64(), ["sum"]), "sum", pa.array([0.5, 1.5]), None),
    (lambda: DoubleState(pa.float64(), ["sum"]), "average", pa.array([0.5, 1.5]), None),
    (
        lambda: DecimalState(pa.decimal128(4, 1), ["sum"]),
        "sum",
        pa.array([Decimal("1.5"), Decimal("2.5")], pa.decimal128(4, 1)),
        None,
    ),
    (
        lambda: DecimalState(pa.decimal128(4, 1), ["sum"]),
        "average",
        pa.array([Decimal("1.5"), Decimal("2.5")], pa.decimal128(4, 1)),
        None,
    ),
    (lambda: Int64State(pa.int64(), ["greatest"]), "greatest", pa.array([-5, -6]), None),
    (lambda: DoubleState(pa.float64(), ["greatest"]), "greatest", pa.array([-5.0, -6.0]), None),
    (
        lambda: DecimalState(pa.decimal128(4, 1), ["greatest"]),
        "greatest",
        pa.array([Decimal("-1.5"), Decimal("2.5")], pa.decimal128(4, 1)),
        None,
    ),
    (lambda: TextState(pa.string(), ["least"]), "least", pa.array(["b", "ab"]), None),
]


@pytest.mark.parametrize(("make", "read", "values", "empty"), STATES)
def test_slots_without_a_value_and_slots_after_compaction(make, read, values, empty):
    state = Alone(make())
    state.reserve(3)
    every = slots_of(0, 1, 2)
    assert state.read(read, every)[0].to_pylist() == [empty] * 3
    state.update(slots_of(2, 1), None, values)
    before = state.read(read, every)[0].to_pylist()
    assert before[0] == empty and before[1] != empty and before[2] != empty
    state.compact(slots_of(0, 2))
    assert state.read(read, slots_of(0, 1))[0].to_pylist() == [before[0], before[2]]
    state.reserve(40)
    assert state.read(read, slots_of(1, 2, 39))[0].to_pylist() == [before[2], empty, empty]
    state.update(slots_of(39, 39), slots_of(1, 1), values)
    alone = Alone(make())
    alone.reserve(1)
    alone.update(slots_of(0, 0), slots_of(1, 1), values)
    assert state.read(read, slots_of(39))[0].equals(alone.read(read, slots_of(0))[0])
    assert state.cells.nbytes > 0


@pytest.mark.parametrize(("make", "read", "values", "empty"), STATES)
def test_a_trace_reads_as_the_state_did_after_each_row(make, read, values, empty):
    traced, stepped = Alone(make()), Alone(make())
    traced.reserve(2)
    stepped.reserve(2)
    rows, slots = slots_of(0, 1, 1, 0), slots_of(0, 0, 1, 0)
    after = traced.trace(slots, rows, values, slots_of(0, 1, 2))
    expected = []
    for position, (slot, row) in enumerate(zip(slots, rows, strict=True)):
        if position < 3:
            stepped.update(slots_of(slot), slots_of(row), values)
        expected += stepped.read(read, slots_of(slot))[0].to_pylist()
    assert after.read(read, slots_of(0, 1, 2, 3))[0].to_pylist() == expected
    both = slots_of(0, 1)
    assert traced.read(read, both)[0].equals(stepped.read(read, both)[0])


def test_dead_texts_are_collected():
    state = Alone(TextState(pa.string(), ["greatest"]))
    state.reserve(1)
    for step in range(200):
        state.update(slots_of(0), None, pa.array([f"{step:04d}" + "x" * 2000]))
    assert state.read("greatest", slots_of(0))[0][0].as_py() == "0199" + "x" * 2000
    assert state.cells.nbytes < 300_000


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65])
def test_rows_count_when_the_value_is_there_and_the_filter_true(n):
    values = pa.array([None if i % 3 == 0 else i for i in range(n + 3)], pa.int64()).slice(3)
    chosen = pa.array([(True, False, None)[i % 4 % 3] for i in range(n + 1)], pa.bool_()).slice(1)
    here = [v is not None for v in values.to_pylist()]
    true = [c is True for c in chosen.to_pylist()]
    if values.null_count:
        assert select_rows(n, None, values).tolist() == [i for i in range(n) if here[i]]
    assert select_rows(n, None, None, chosen).tolist() == [i for i in range(n) if true[i]]
    assert select_rows(n, None, values, chosen).tolist() == [i for i in range(n) if here[i] and true[i]]
    rows = np.arange(n, dtype=np.int32)[::-2].copy()
    expected = [j for j, i in enumerate(rows.tolist()) if here[i] and true[i]]
    assert select_rows(n, rows, values, chosen).tolist() == expected
    assert select_rows(n, rows, pa.array(range(n))) is None


def test_operations_follow_what_the_reader_has():
    sent = np.array([0, 1, 0], dtype=np.uint8)
    slots = slots_of(0, 1, 0, 0, 2, 1, 0)
    failed = np.array([0, 0, 0, 0, 0, 1, 0], dtype=np.bool_)
    passes = np.array([1, 1, 1, 0, 0, 1, 1], dtype=np.bool_)
    assert change_ops(slots, failed, passes, sent).tolist() == [0, 1, 1, 2, 255, 255, 0]
    assert sent.tolist() == [1, 1, 0]
    assert change_ops(slots_of(2, 0), None, None, sent).tolist() == [0, 1]


def test_groups_that_are_sent_once_are_inserted_or_not_sent():
    failed, passes = np.array([1, 0, 0], dtype=np.bool_), np.array([1, 0, 1], dtype=np.bool_)
    assert change_ops(slots_of(0, 1, 2), failed, passes, None).tolist() == [255, 255, 0]
    assert change_ops(slots_of(0, 1), None, None, None).tolist() == [0, 0]


def test_rows_and_slots_out_of_range_are_refused():
    state = Alone(Int64State(pa.int64(), ["sum"]))
    state.reserve(1)
    with pytest.raises(IndexError):
        state.update(slots_of(1000), None, pa.array([1]))
    with pytest.raises(IndexError):
        state.update(slots_of(0), slots_of(1), pa.array([1]))
    with pytest.raises(ValueError, match="differ in number"):
        state.update(slots_of(0, 0), None, pa.array([1]))
    with pytest.raises(TypeError, match="a filter is BOOLEAN"):
        select_rows(1, None, None, pa.array([1]))


@pytest.mark.parametrize(("make", "read", "values", "empty"), STATES)
def test_merged_cells_read_as_if_all_rows_had_been_folded_into_one(make, read, values, empty):
    whole, part = Alone(make()), Alone(make())
    for state in (whole, part):
        state.reserve(3)
        state.update(slots_of(0, 1), None, values)
    whole.update(slots_of(1, 1), None, values)
    other = Alone(make())
    other.reserve(2)
    other.update(slots_of(1, 1), None, values)
    part.cells.merge(slots_of(1, 2), other.cells, slots_of(1, 0))
    every = slots_of(0, 1, 2)
    assert part.read(read, every)[0].equals(whole.read(read, every)[0])


def test_one_pass_keeps_all_parts_of_an_argument_and_lanes_of_it_merge():
    values = pa.array([3, None, -5, 9, 2**62, 2**62], pa.int64())
    chosen = pa.array([True, True, None, True, True, False])
    argument = [(values, chosen, None)]
    state = Int64State(pa.int64(), ["sum", "least", "greatest"])
    cells = Cells([state])
    table = GroupTable([pa.string()])
    keys = KeyEncoder([pa.string()]).encode([pa.array(["a", "a", "a", "b", "b", "b"])])
    assert cells.group(table, keys, argument, give_slots=True).tolist() == [0, 0, 0, 1, 1, 1]
    both = slots_of(0, 1)
    got = [getattr(state, read)(cells, both)[0].to_pylist() for read in ("count", "sum", "least", "greatest")]
    assert got == [[1, 2], [3, 2**62 + 9], [3, 9], [3, 2**62]]


def test_large_cells_grow_and_shrink_without_losing_a_value():
    state = Alone(Int64State(pa.int64(), ["sum"]))
    values = pa.array(np.arange(400_000))
    for n in (100, 150_000, 400_000):
        slots = np.arange(n, dtype=np.int32)
        state.reserve(n)
        state.update(slots, None, values.slice(0, n))
    got = state.read("sum", np.arange(400_000, dtype=np.int32))[0].to_numpy()
    added = np.full(400_000, 1)
    added[:150_000], added[:100] = 2, 3
    assert np.array_equal(got, added * np.arange(400_000))
    state.compact(slots_of(99, 399_999))
    state.reserve(400_000)
    assert state.read("sum", slots_of(0, 1))[0].to_pylist() == [297, 399_999]
    assert state.read("count", np.arange(400_000, dtype=np.int32))[0].to_numpy()[2:].max() == 0


def test_states_and_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="TextState keeps no sum"):
        TextState(pa.string(), ["sum"])
    state = Int64State(pa.int64(), ["least"])
    cells = Cells([state])
    with pytest.raises(ValueError, match="belongs to one Cells"):
        Cells([state])
    with pytest.raises(ValueError, match="keeps no greatest"):
        state.greatest(cells, slots_of())
    cells.reserve(1)
    with pytest.raises(ValueError, match="2 arguments for 1 states"):
        cells.update(slots_of(0), [None, None])
    with pytest.raises(ValueError, match="only like states"):
        cells.merge(slots_of(), Cells([DoubleState(pa.float64(), ["least"])]), slots_of())
