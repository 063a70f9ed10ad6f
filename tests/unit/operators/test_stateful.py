"""The contract of operators with state: every one is in `CASES`, and all of them pass the same tests."""

import inspect
import json
import pkgutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from importlib import import_module
from typing import Any, get_args
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest

import velostream.operators
from velostream.errors import InternalError, StateError
from velostream.operators import rounds
from velostream.operators.aggregate import Aggregate, Keyer
from velostream.operators.saving import Changes, Stateful
from velostream.plan.nodes import (
    AggregateNode,
    AggregateSpec,
    FilterNode,
    Node,
    ProjectNode,
    WindowSpec,
)

KEY_GROUPS = 32
MINUTE = 60_000_000
Operators = Sequence[Stateful]


@dataclass(frozen=True)
class Case:
    """An operator under the contract: how lanes of it are made, given a block of input, and ended.

    `feed` and `end` give the rows that leave, as values that can be counted.
    """

    make: Callable[[], Stateful]
    feed: Callable[[Operators, int], list[Any]]
    end: Callable[[Operators], list[Any]]


def rows_of(batches):
    got = []
    for batch in batches:
        if batch is not None:
            ops = [0] * batch.rows if batch.ops is None else batch.ops.tolist()
            got += zip(ops, *[column.to_pylist() for column in batch.data.columns], strict=True)
    return got


INPUT = pa.schema(
    [
        ("name", pa.string()),
        ("code", pa.int16()),
        ("ts", pa.timestamp("us")),
        ("n", pa.int64()),
        ("price", pa.decimal128(12, 2)),
        ("ratio", pa.float64()),
        ("note", pa.string()),
    ]
)
AGGREGATES = (
    AggregateSpec("c", "COUNT", None, pa.int64()),
    AggregateSpec("s", "SUM", "n", pa.int64()),
    AggregateSpec("a", "AVG", "price", pa.decimal128(38, 6)),
    AggregateSpec("r", "SUM", "ratio", pa.float64()),
    AggregateSpec("l", "MIN", "note", pa.string()),
    AggregateSpec("g", "MAX", "note", pa.string()),
    AggregateSpec("d", "SUM", "n", pa.int64(), distinct=True),
)


def aggregation(keys, windowed, **options):
    fields = [INPUT.field(key) for key in keys]
    window = WindowSpec("tumble", "ts", MINUTE) if windowed else None
    if windowed:
        fields += [pa.field("_window_start", pa.timestamp("us")), pa.field("_window_end", pa.timestamp("us"))]
    fields += [pa.field(spec.name, spec.type) for spec in AGGREGATES]
    node = AggregateNode(keys, AGGREGATES, window, INPUT, pa.schema(fields), **options)
    keyer = Keyer(node)

    def block(number):
        random = np.random.default_rng(number)
        n = 200
        arrays = [
            pa.array([f"name {i}" for i in random.integers(0, 60, n)]),
            pa.array(random.integers(-3, 3, n), pa.int16()),
            pa.array(random.integers(number, number + 3, n) * 30_000_000).cast(pa.timestamp("us")),
            pa.array(random.integers(-(10**12), 10**12, n), mask=random.random(n) < 0.1),
            pa.array([Decimal(int(cents)).scaleb(-2) for cents in random.integers(-(10**9), 10**9, n)]),
            pa.array(random.random(n)),
            pa.array([f"note {i}" for i in random.integers(0, 1000, n)], mask=random.random(n) < 0.1),
        ]
        arrays = [array.cast(field.type) for array, field in zip(arrays, INPUT, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=INPUT)

    def feed(operators, number):
        parts = keyer.split(block(number), len(operators), KEY_GROUPS)
        sent = [operator.process(part) for operator, part in zip(operators, parts, strict=True) if part]
        watermark = (number - 1) * 30_000_000
        return rows_of(sent) + rows_of(
            batch for operator in operators for batch in operator.advance(watermark)
        )

    def end(operators):
        return rows_of(batch for operator in operators for batch in operator.finish())

    return Case(lambda: Aggregate(node), feed, end)


CASES: dict[type[Stateful], dict[str, Case]] = {
    Aggregate: {
        "windows": aggregation(("name", "code"), True),
        "updated windows": aggregation(("name",), True, late="update", allowed_lateness_us=MINUTE),
        "changes": aggregation(("code",), False, emit="changes"),
        "without keys": aggregation((), False, emit="changes", granularity="record"),
    },
}
# The operator of each node of a plan that keeps state by key; the others have none.
STATEFUL_NODES: dict[type, type[Stateful]] = {AggregateNode: Aggregate}
STATELESS_NODES = {FilterNode, ProjectNode}

cases = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{kind.__name__}: {name}")
        for kind, named in CASES.items()
        for name, case in named.items()
    ],
)


def test_every_operator_with_state_is_under_this_contract():
    found = set()
    for module in pkgutil.iter_modules(velostream.operators.__path__, "velostream.operators."):
        for _, value in inspect.getmembers(import_module(module.name), inspect.isclass):
            if issubclass(value, Stateful) and not inspect.isabstract(value):
                found.add(value)
    assert found == set(CASES)


def test_every_node_of_a_plan_keeps_no_state_or_has_an_operator_that_saves_it():
    assert set(get_args(Node)) == STATELESS_NODES | set(STATEFUL_NODES)
    assert set(STATEFUL_NODES.values()) <= set(CASES)


def written(changes):
    """The changes as they come back from a disk."""
    tables = {}
    for name, batch in changes.tables.items():
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, batch.schema) as writer:
            writer.write_batch(batch)
        tables[name] = pa.ipc.open_stream(out.getvalue()).read_next_batch()
    return replace(changes, tables=tables, values=json.loads(json.dumps(changes.values)))


def restored(case, changes, lanes):
    operators = [case.make() for _ in range(lanes)]
    for lane, operator in enumerate(operators):
        operator.restore(iter(changes), lanes, lane, KEY_GROUPS)
    return operators


@cases
def test_what_it_keeps_is_described_in_json_and_the_description_does_not_change(case):
    operator = case.make()
    described = operator.describe_state()
    assert json.loads(json.dumps(described)) == described
    case.feed([operator], 0)
    operator.take_changes()
    assert operator.describe_state() == described == case.make().describe_state()


@cases
@pytest.mark.parametrize(("before", "after"), [(1, 1), (4, 1), (4, 2), (2, 8)])
def test_restored_in_any_number_of_lanes_it_goes_on_as_if_it_had_not_stopped(case, before, after):
    whole, saved = [case.make()], [case.make() for _ in range(before)]
    log = []
    for number in range(3):
        assert Counter(case.feed(saved, number)) == Counter(case.feed(whole, number))
        log += [written(operator.take_changes()) for operator in saved]
    operators = restored(case, log, after)
    for number in range(3, 6):
        assert Counter(case.feed(operators, number)) == Counter(case.feed(whole, number))
    assert Counter(case.end(operators)) == Counter(case.end(whole))


@cases
def test_the_first_changes_are_everything_and_begin_a_round(case):
    whole, late = case.make(), case.make()
    for number in range(2):
        case.feed([whole], number)
        case.feed([late], number)
    changes = late.take_changes()
    assert changes.begins
    assert Counter(case.end(restored(case, [written(changes)], 2))) == Counter(case.end([whole]))


@cases
def test_a_restored_operator_saves_what_changes_and_does_not_repeat_all_at_once(case):
    operator = case.make()
    case.feed([operator], 0)
    log = [written(operator.take_changes())]
    (operator,) = restored(case, log, 1)
    with patch.multiple(rounds, LEAST_ROWS=1, MOST_ROWS=1):
        first = operator.take_changes()
        assert first.begins and all(table.num_rows == 1 for table in first.tables.values())
        log.append(written(first))
        case.feed([operator], 1)
        log.append(written(operator.take_changes()))
    assert Counter(case.end(restored(case, log, 2))) == Counter(case.end([operator]))


@cases
def test_nothing_is_taken_where_nothing_has_changed(case):
    operator = case.make()
    case.feed([operator], 0)
    assert operator.take_changes().tables
    again = operator.take_changes()
    assert (again.tables, again.begins, again.ends) == ({}, False, False)


@cases
def test_changes_that_were_taken_do_not_change_any_more(case):
    operator = case.make()
    case.feed([operator], 0)
    changes = operator.take_changes()
    before = {name: batch.serialize().to_pybytes() for name, batch in changes.tables.items()}
    for number in range(1, 4):
        case.feed([operator], number)
    case.end([operator])
    assert {name: batch.serialize().to_pybytes() for name, batch in changes.tables.items()} == before


@cases
def test_an_ended_operator_saves_that_it_has_nothing(case):
    operator = case.make()
    case.feed([operator], 0)
    log = [written(operator.take_changes())]
    case.end([operator])
    log.append(written(operator.take_changes()))
    assert (log[-1].tables, log[-1].ends) == ({}, True)
    assert case.end(restored(case, log, 2)) == []


@cases
def test_an_operator_that_has_processed_rows_cannot_be_restored(case):
    operator = case.make()
    case.feed([operator], 0)
    with pytest.raises(InternalError, match="processed nothing"):
        operator.restore([], 1, 0, KEY_GROUPS)


def damaged(batch):
    """What is wrong, and the batch with it."""
    yield "no columns", pa.RecordBatch.from_pydict({})
    names = batch.schema.names
    for at, (field, column) in enumerate(zip(batch.schema, batch.columns, strict=True)):
        yield f"{field.name} is missing", batch.remove_column(at)
        yield f"{field.name} has another name", batch.rename_columns([*names[:at], "x", *names[at + 1 :]])
        nulls = pa.nulls(len(column))
        yield f"{field.name} has another type", batch.set_column(at, field.name, nulls)
        if not field.name.startswith("key") and not pa.types.is_string(field.type):
            yield f"{field.name} is NULL", batch.set_column(at, field, nulls.cast(field.type))
        if pa.types.is_string(field.type):
            for what, wrong in damaged_texts(column):
                yield f"{field.name} {what}", batch.set_column(at, field, wrong)
        if pa.types.is_fixed_size_binary(field.type):
            narrow = pa.Array.from_buffers(
                pa.binary(field.type.byte_width - 8), len(column), column.buffers()
            )
            yield f"{field.name} is narrower", batch.set_column(at, field.name, narrow)
            negative = pa.array([b"\xff" * field.type.byte_width] * len(column), field.type)
            yield f"{field.name} counts less than nothing", batch.set_column(at, field, negative)


def damaged_texts(column):
    validity, offsets, data = column.buffers()
    n = len(column)
    not_utf8 = pa.py_buffer(b"\xff" * data.size)
    yield "is not UTF-8", pa.Array.from_buffers(column.type, n, [validity, offsets, not_utf8])
    for place, offset in ((0, -1), (n, 1 << 30), (n, -7), (n // 2, 1 << 30), (n // 2, -(1 << 30))):
        # Changed behind Arrow's back, which looks at the first and the last one.
        changed = np.frombuffer(offsets, np.int32, n + 1).copy()
        wrong = pa.Array.from_buffers(column.type, n, [validity, pa.py_buffer(changed), data])
        changed[place] = offset
        yield f"has the offset {offset} at {place}", wrong


@cases
def test_damaged_tables_are_refused(case):
    operator = case.make()
    case.feed([operator], 0)
    changes = written(operator.take_changes())
    assert changes.tables
    for name, batch in changes.tables.items():
        for what, wrong in damaged(batch):
            for lanes in (1, 2):
                with pytest.raises(StateError, match="cannot be used"):
                    restored(case, [replace(changes, tables={**changes.tables, name: wrong})], lanes)
                    pytest.fail(f"{name}: {what}, and it was restored")


@cases
def test_unknown_tables_and_values_are_refused(case):
    operator = case.make()
    case.feed([operator], 0)
    changes = written(operator.take_changes())
    batch = next(iter(changes.tables.values()))
    with pytest.raises(StateError, match="table 'other'"):
        restored(case, [replace(changes, tables={"other": batch})], 1)
    with pytest.raises(StateError, match="values other"):
        restored(case, [Changes({}, {"other": 1}, True)], 1)
    for name in changes.values:
        with pytest.raises(StateError, match=name):
            restored(case, [replace(changes, values={**changes.values, name: "x"})], 1)
