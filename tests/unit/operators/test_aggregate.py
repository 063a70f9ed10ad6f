from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from tests.batches import concat
from velostream.operators.aggregate import Aggregate, KeyedPart, Keyer, PartialPart
from velostream.operators.batch import OPERATIONS
from velostream.plan.nodes import AggregateNode, AggregateSpec, WindowSpec
from velostream.sql.expressions import Call, ColumnRef, Literal

INPUT = pa.schema([("key", pa.string()), ("ts", pa.timestamp("us")), ("n", pa.int64())])
MINUTE = 60_000_000
COUNT = AggregateSpec("c", "COUNT", None, pa.int64())
SUM = AggregateSpec("s", "SUM", "n", pa.int64())


def make(keys=("key",), window=False, aggregates=(COUNT, SUM), **options):
    fields = [INPUT.field(key) for key in keys]
    if window:
        fields += [pa.field("_window_start", pa.timestamp("us")), pa.field("_window_end", pa.timestamp("us"))]
    fields += [pa.field(spec.name, spec.type) for spec in aggregates]
    spec = WindowSpec("tumble", "ts", MINUTE) if window else None
    return AggregateNode(tuple(keys), aggregates, spec, INPUT, pa.schema(fields), **options)


def rows_in(*rows):
    """(key, second, n) rows as a batch."""
    columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
    times = [None if second is None else int(second * 1_000_000) for second in columns[1]]
    return pa.RecordBatch.from_arrays(
        [
            pa.array(columns[0], pa.string()),
            pa.array(times, pa.int64()).cast(pa.timestamp("us")),
            pa.array(columns[2], pa.int64()),
        ],
        schema=INPUT,
    )


def send(node, aggregate, *rows, times=None):
    (part,) = Keyer(node).split(rows_in(*rows), 1, 128, times)
    return aggregate.process(part)


def shown(batch):
    """(operation, values…) rows; window bounds in minutes."""
    if batch is None:
        return []
    columns = []
    for name, column in zip(batch.data.schema.names, batch.data.columns, strict=True):
        values = column.to_pylist()
        if name.startswith("_window"):
            values = [value.replace(tzinfo=UTC).timestamp() / 60 for value in values]
        columns.append(values)
    ops = ["insert"] * batch.rows if batch.ops is None else [OPERATIONS[op] for op in batch.ops]
    return list(zip(ops, *columns, strict=True))


def advance(aggregate, watermark_us):
    return concat(list(aggregate.advance(watermark_us)))


def finish(aggregate):
    return concat(list(aggregate.finish()))


def above(name, value):
    column = ColumnRef(name=name, type=pa.int64())
    literal = Literal(value=value, type=pa.int64())
    return Call(function="gt", args=(column, literal), type=pa.bool_())


def test_windows_are_sent_once_when_the_watermark_reaches_their_end_by_window_then_first_row():
    node = make(window=True)
    aggregate = Aggregate(node)
    assert (
        send(node, aggregate, ("b", 70, 1), ("a", 10, 2), ("b", 20, 3), ("a", 65, 4), ("a", 59.9, 5)) is None
    )
    assert (aggregate.open_groups, aggregate.open_windows) == (4, 2)
    assert advance(aggregate, MINUTE - 1) is None
    batch = advance(aggregate, MINUTE)
    assert shown(batch) == [("insert", "a", 0, 1, 2, 7), ("insert", "b", 0, 1, 1, 3)]
    assert batch.times.tolist() == [MINUTE - 1, MINUTE - 1]
    assert (aggregate.open_groups, aggregate.open_windows) == (2, 1)
    assert advance(aggregate, MINUTE) is None
    send(node, aggregate, ("c", -1, 0))
    assert aggregate.late_rows == 1 and aggregate.open_groups == 2
    assert shown(finish(aggregate)) == [("insert", "b", 1, 2, 1, 1), ("insert", "a", 1, 2, 1, 4)]
    assert aggregate.open_groups == 0 and finish(aggregate) is None


def test_windows_before_1970():
    node = make(window=True, keys=())
    aggregate = Aggregate(node, owns_global=True)
    send(node, aggregate, ("a", -1, 1), ("a", -60, 2), ("a", -60.5, 3), ("a", 0, 4))
    assert shown(finish(aggregate)) == [
        ("insert", -2, -1, 1, 3),
        ("insert", -1, 0, 2, 3),
        ("insert", 0, 1, 1, 4),
    ]


def test_without_late_update_a_window_takes_rows_and_is_sent_at_its_end_and_allowed_lateness():
    node = make(window=True, allowed_lateness_us=MINUTE)
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", 10, 1))
    assert advance(aggregate, 2 * MINUTE - 1) is None
    send(node, aggregate, ("a", 20, 1))
    assert shown(advance(aggregate, 2 * MINUTE)) == [("insert", "a", 0, 1, 2, 2)]
    send(node, aggregate, ("a", 30, 1))
    assert aggregate.late_rows == 1 and finish(aggregate) is None


def test_late_update_sends_a_window_at_its_end_and_again_when_it_changes():
    node = make(window=True, late="update", allowed_lateness_us=MINUTE)
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", 10, 1), ("b", 10, 1), ("a", 130, 5))
    assert shown(advance(aggregate, MINUTE)) == [("insert", "a", 0, 1, 1, 1), ("insert", "b", 0, 1, 1, 1)]
    assert (aggregate.open_groups, aggregate.open_windows) == (3, 1)
    changed = send(node, aggregate, ("c", 30, 7), ("a", 20, 1), ("a", 140, 1), ("c", 31, 1))
    assert shown(changed) == [("insert", "c", 0, 1, 2, 8), ("update", "a", 0, 1, 2, 2)]
    assert changed.times.tolist() == [MINUTE - 1] * 2
    assert advance(aggregate, 2 * MINUTE) is None
    assert aggregate.open_groups == 1
    assert send(node, aggregate, ("a", 50, 1)) is None and aggregate.late_rows == 1
    assert shown(finish(aggregate)) == [("insert", "a", 2, 3, 2, 6)]


def test_changes_of_windows_go_on_while_they_are_open_and_closing_sends_nothing():
    node = make(window=True, emit="changes")
    aggregate = Aggregate(node)
    assert shown(send(node, aggregate, ("a", 1, 1), ("a", 61, 1))) == [
        ("insert", "a", 0, 1, 1, 1),
        ("insert", "a", 1, 2, 1, 1),
    ]
    assert shown(send(node, aggregate, ("a", 2, 1))) == [("update", "a", 0, 1, 2, 2)]
    assert advance(aggregate, MINUTE) is None and aggregate.open_groups == 1
    assert finish(aggregate) is None and aggregate.open_groups == 0


def test_changes_send_each_group_once_per_block_with_its_greatest_event_time():
    node = make(emit="changes")
    aggregate = Aggregate(node)
    rows = [("b", 0, 1), ("a", 0, 2), ("b", 0, 3)]
    batch = send(node, aggregate, *rows, times=np.array([30, 20, 10]))
    assert shown(batch) == [("insert", "b", 2, 4), ("insert", "a", 1, 2)]
    assert batch.times.tolist() == [30, 20]
    batch = send(node, aggregate, ("a", 0, 1), ("c", 0, None), times=np.array([5, 6]))
    assert shown(batch) == [("update", "a", 2, 3), ("insert", "c", 1, None)]
    assert batch.times.tolist() == [20, 6]


def test_changes_by_record_send_a_row_per_record_with_its_event_time():
    node = make(emit="changes", granularity="record")
    aggregate = Aggregate(node)
    batch = send(node, aggregate, ("a", 0, 1), ("b", 0, 2), ("a", 0, 3), times=np.array([3, 2, 1]))
    assert shown(batch) == [("insert", "a", 1, 1), ("insert", "b", 1, 2), ("update", "a", 2, 4)]
    assert batch.times.tolist() == [3, 2, 3]


def test_having_turns_changes_into_inserts_updates_and_deletes():
    node = make(emit="changes", aggregates=(COUNT, SUM), having=above("s", 10))
    aggregate = Aggregate(node)
    assert send(node, aggregate, ("a", 0, 5)) is None
    assert shown(send(node, aggregate, ("a", 0, 6), ("b", 0, 1))) == [("insert", "a", 2, 11)]
    assert shown(send(node, aggregate, ("a", 0, 1))) == [("update", "a", 3, 12)]
    assert shown(send(node, aggregate, ("a", 0, -9))) == [("delete", "a", 4, 3)]
    assert send(node, aggregate, ("a", 0, 1)) is None
    assert shown(send(node, aggregate, ("a", 0, 20))) == [("insert", "a", 6, 24)]


def test_having_by_record_follows_each_row():
    node = make(emit="changes", granularity="record", having=above("s", 1))
    aggregate = Aggregate(node)
    rows = [("a", 0, 1), ("a", 0, 1), ("a", 0, 1), ("a", 0, -2), ("a", 0, 0), ("a", 0, 9)]
    assert [row[0] for row in shown(send(node, aggregate, *rows))] == ["insert", "update", "delete", "insert"]


def test_having_chooses_final_rows_and_null_is_not_true():
    node = make(having=above("s", 1))
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", 0, 2), ("b", 0, 1), ("c", 0, None))
    assert shown(finish(aggregate)) == [("insert", "a", 1, 2)]


def test_a_group_whose_sum_is_out_of_range_is_reported_once_and_comes_back_when_it_fits():
    node = make(emit="changes")
    aggregate = Aggregate(node)
    assert shown(send(node, aggregate, ("a", 0, 2**63 - 1), ("b", 0, 1))) == [
        ("insert", "a", 1, 2**63 - 1),
        ("insert", "b", 1, 1),
    ]
    assert send(node, aggregate, ("a", 0, 1)) is None
    assert send(node, aggregate, ("a", 0, 1)) is None
    assert aggregate.failed_groups == 1
    assert aggregate.take_failed() == [("overflow: SUM 's' is out of range of int64", {"key": "a"})]
    assert aggregate.take_failed() == []
    assert shown(send(node, aggregate, ("a", 0, -2))) == [("update", "a", 4, 2**63 - 1)]


def test_a_group_whose_having_fails_is_not_sent():
    big = Literal(value=2**63 - 1, type=pa.int64())
    total = Call(function="add", args=(ColumnRef(name="s", type=pa.int64()), big), type=pa.int64())
    zero = Literal(value=0, type=pa.int64())
    node = make(having=Call(function="gt", args=(total, zero), type=pa.bool_()))
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", 0, 1), ("b", 0, -1))
    assert shown(finish(aggregate)) == [("insert", "b", 1, -1)]
    ((reason, key),) = aggregate.take_failed()
    assert reason.startswith("overflow") and key == {"key": "a"} and aggregate.failed_groups == 1


def test_a_failed_window_says_which_one_it_was():
    node = make(window=True)
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", 0, 2**63 - 1), ("a", 0, 1))
    assert finish(aggregate) is None
    ((_, key),) = aggregate.take_failed()
    assert key == {
        "key": "a",
        "_window_start": datetime(1970, 1, 1),
        "_window_end": datetime(1970, 1, 1, 0, 1),
    }


@pytest.mark.parametrize("emit", ["final", "changes"])
def test_a_query_without_keys_has_one_row_even_without_input_and_only_in_its_lane(emit):
    node = make(keys=(), emit=emit)
    assert shown(finish(Aggregate(node, owns_global=True))) == [("insert", 0, None)]
    assert finish(Aggregate(node, owns_global=False)) is None
    aggregate = Aggregate(node, owns_global=True)
    sent = send(node, aggregate, ("a", 0, 2))
    assert (shown(sent) + shown(finish(aggregate))) == [("insert", 1, 2)]


def test_keyed_and_windowed_queries_have_no_row_without_input():
    assert finish(Aggregate(make(), owns_global=True)) is None
    assert finish(Aggregate(make(keys=(), window=True), owns_global=True)) is None


def test_rows_without_an_event_time_are_counted_and_left_out():
    node = make(window=True)
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", None, 1), ("a", 1, 2), ("a", None, 3))
    assert aggregate.failed_rows == 2
    assert shown(finish(aggregate)) == [("insert", "a", 0, 1, 1, 2)]


def test_distinct_values_are_forgotten_with_their_window():
    distinct = AggregateSpec("d", "SUM", "n", pa.int64(), distinct=True)
    node = make(window=True, aggregates=(distinct,))
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", 1, 5), ("a", 61, 5), ("a", 2, 5), ("b", 61, 5), ("b", 62, 6))
    assert shown(advance(aggregate, MINUTE)) == [("insert", "a", 0, 1, 5)]
    send(node, aggregate, ("b", 63, 6), ("a", 63, 7), ("c", 121, 5))
    assert shown(finish(aggregate)) == [
        ("insert", "a", 1, 2, 12),
        ("insert", "b", 1, 2, 11),
        ("insert", "c", 2, 3, 5),
    ]


def test_memory_follows_the_open_groups():
    node = make(window=True)
    aggregate = Aggregate(node)
    empty = aggregate.nbytes
    for minute in range(3):
        send(node, aggregate, *[(f"key {i}", 60 * minute, i) for i in range(5000)])
        advance(aggregate, minute * MINUTE)
    held = aggregate.nbytes
    assert held > empty + 5000 * 50
    advance(aggregate, 3 * MINUTE)
    assert aggregate.open_groups == 0 and aggregate.nbytes < empty + 10_000


def test_parts_share_the_rows_between_lanes_and_leave_out_lanes_without_any():
    keyer = Keyer(make())
    batch = rows_in(*[(f"key {i % 7}", 0, i) for i in range(50)])
    by_record = Keyer(make(emit="changes", granularity="record"))
    parts = by_record.split(batch, 16, 128)
    assert sorted(row for part in parts if part is not None for row in part.rows.tolist()) == list(range(50))
    assert any(part is None for part in parts)
    (alone,) = keyer.split(batch, 1, 128)
    assert alone.rows is None
    one_key = by_record.split(rows_in(("a", 0, 1), ("a", 0, 2)), 4, 128)
    assert [part.rows for part in one_key if part is not None] == [None]
    assert keyer.split(rows_in(), 4, 128) == [None] * 4


def test_rows_of_a_query_without_keys_go_to_the_lane_that_owns_its_row():
    keyer = Keyer(make(keys=()))
    for lanes in (1, 2, 5):
        parts = keyer.split(rows_in(("a", 0, 1)), lanes, 128)
        assert [part is not None for part in parts].index(True) == Keyer.global_lane(lanes, 128)


def test_groups_that_can_be_merged_travel_in_place_of_rows_until_there_are_too_many():
    keyer = Keyer(make())
    few = rows_in(*[(f"key {i % 7}", 0, i) for i in range(50)])
    parts = [part for part in keyer.split(few, 4, 128) if part is not None]
    assert all(isinstance(part, PartialPart) for part in parts)
    assert sum(len(part.slots) for part in parts) == 7
    many = rows_in(*[(f"key {i}", 0, i) for i in range(50)])
    kinds = [
        {type(part) for part in keyer.split(many, 4, 128, sender=1) if part is not None} for _ in range(17)
    ]
    assert kinds == [{PartialPart}] + [{KeyedPart}] * 15 + [{PartialPart}]
    assert {type(part) for part in keyer.split(few, 4, 128, sender=2) if part is not None} == {PartialPart}


def test_distinct_values_and_rows_without_a_window_time_travel_as_rows():
    distinct = AggregateSpec("d", "SUM", "n", pa.int64(), distinct=True)
    rows = [("a", 0, 1), ("b", 0, 2)]
    for node, batch in (
        (make(aggregates=(distinct,)), rows_in(*rows)),
        (make(window=True), rows_in(*rows, ("c", None, 1))),
    ):
        parts = [part for part in Keyer(node).split(batch, 4, 128) if part is not None]
        assert {type(part) for part in parts} == {KeyedPart}


def test_groups_of_windows_that_have_gone_count_all_their_rows_as_late():
    node = make(window=True, aggregates=(SUM,))
    aggregates = [Aggregate(node) for _ in range(2)]
    for aggregate in aggregates:
        assert advance(aggregate, MINUTE) is None
    rows = [("a", 1, 1), ("a", 2, None), ("b", 3, 1), ("a", 61, 5)]
    for aggregate, part in zip(aggregates, Keyer(node).split(rows_in(*rows), 2, 128), strict=True):
        assert part is None or aggregate.process(part) is None
    assert sum(aggregate.late_rows for aggregate in aggregates) == 3
    got = [row for aggregate in aggregates for row in shown(finish(aggregate))]
    assert got == [("insert", "a", 1, 2, 5)]


def test_results_leave_in_batches_of_bounded_size():
    node = make(aggregates=(COUNT,))
    aggregate = Aggregate(node)
    keys = pa.array([f"k{i}" for i in range(70_000)])
    n = pa.array(range(70_000))
    batch = pa.RecordBatch.from_arrays([keys, pa.nulls(70_000, pa.timestamp("us")), n], schema=INPUT)
    aggregate.process(Keyer(node).split(batch, 1, 128)[0])
    sizes = [made.rows for made in aggregate.finish()]
    assert sum(sizes) == 70_000 and max(sizes) == 65_536
