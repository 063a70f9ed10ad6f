"""The aggregate operator against a naive twin: dictionaries, fractions, and one row at a time."""

import math
from collections import Counter
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.batches import concat
from velostream.operators.aggregate import Aggregate, Keyer
from velostream.operators.batch import DELETE, INSERT, OPERATIONS, UPDATE
from velostream.plan.nodes import AggregateNode, AggregateSpec, WindowSpec
from velostream.sql.functions.aggregates import resolve_aggregate

INPUT = pa.schema(
    [
        ("name", pa.string()),
        ("code", pa.int16()),
        ("price", pa.decimal128(12, 3)),
        ("ratio", pa.float64()),
        ("ts", pa.timestamp("us")),
        ("n", pa.int64()),
        ("day", pa.date32()),
        ("flag", pa.bool_()),
    ]
)
EPOCH = datetime(1970, 1, 1)
SIZE = 60_000_000


def us(time):
    return (time - EPOCH) // timedelta(microseconds=1)


def eighth(n):
    return n / 8


decimals = st.integers(-(10**12) + 1, 10**12 - 1).map(lambda n: Decimal(n).scaleb(-3))
rows_of = st.tuples(
    st.none() | st.sampled_from(["", "a", "b", "ab", "é", "a longer name than sixteen bytes"]),
    st.none() | st.integers(-2, 2),
    st.none() | st.sampled_from([Decimal("1.500"), Decimal("0.000"), Decimal("-2.001")]) | decimals,
    # Eighths: their sums are exact, so that they can be compared exactly.
    st.none() | st.sampled_from([0.0, -0.0, math.nan, 1.5, -2.25]) | st.integers(-(10**9), 10**9).map(eighth),
    st.integers(-150, 150).map(lambda s: EPOCH + timedelta(seconds=s)),
    st.none() | st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.integers(-3, 3).map(lambda d: date(1970, 1, 1) + timedelta(days=d)),
    st.none() | st.booleans(),
)


def canonical(value):
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value + 0.0
    return value


def order(value):
    if isinstance(value, float):
        return (math.isnan(value), 0 if math.isnan(value) else value)
    return value.encode() if isinstance(value, str) else value


def naive(spec, rows):
    """The aggregate of rows (dicts), or OverflowError."""
    if spec.filter is not None:
        rows = [row for row in rows if row[spec.filter] is True]
    if spec.argument is None:
        return len(rows)
    values = [row[spec.argument] for row in rows if row[spec.argument] is not None]
    if spec.distinct:
        values = list({canonical(value): value for value in reversed(values)}.values())[::-1]
    if spec.function == "COUNT":
        return len(values)
    if not values:
        return None
    if spec.function == "MIN":
        return min(values, key=order)
    if spec.function == "MAX":
        return max(values, key=order)
    if isinstance(values[0], float):
        total = math.nan if any(math.isnan(value) for value in values) else math.fsum(values)
        return total if spec.function == "SUM" else total / len(values)
    if spec.function == "SUM":
        total = sum(values)
        if isinstance(total, int) and not -(2**63) <= total < 2**63:
            raise OverflowError
        return total
    if isinstance(values[0], int):
        return float(Fraction(sum(values), len(values)))
    with localcontext(prec=60):
        return (sum(values) / len(values)).quantize(Decimal("0.000001"), ROUND_HALF_EVEN)


def specs(draw):
    calls = [("COUNT", None)]
    calls += [(f, c) for f in ("COUNT", "MIN", "MAX") for c in INPUT.names]
    calls += [(f, c) for f in ("SUM", "AVG") for c in ("n", "price", "ratio")]
    for number, (function, argument) in enumerate(
        draw(st.lists(st.sampled_from(calls), min_size=1, max_size=6))
    ):
        type = None if argument is None else INPUT.field(argument).type
        distinct = argument is not None and draw(st.booleans())
        found = resolve_aggregate(function, type, distinct)
        chosen = draw(st.sampled_from([None, "flag"]))
        yield AggregateSpec(f"a{number}", function, argument, found.result_type, distinct, chosen)


@st.composite
def nodes(draw, windowed=False):
    keys = tuple(
        draw(
            st.lists(
                st.sampled_from(["name", "code", "price", "ratio", "day", "flag"]), unique=True, max_size=3
            )
        )
    )
    chosen = tuple(specs(draw))
    window = WindowSpec("tumble", "ts", SIZE) if windowed or draw(st.booleans()) else None
    fields = [INPUT.field(key) for key in keys]
    if window is not None:
        fields += [pa.field("_window_start", pa.timestamp("us")), pa.field("_window_end", pa.timestamp("us"))]
    fields += [pa.field(spec.name, spec.type) for spec in chosen]
    return AggregateNode(keys, chosen, window, INPUT, pa.schema(fields))


def group_of(node, row):
    window = () if node.window is None else (us(row["ts"]) // SIZE,)
    return tuple(canonical(row[key]) for key in node.keys) + window


def expected_row(node, group, rows):
    """The output row as comparable values, or None when the group fails."""
    bounds = ()
    if node.window is not None:
        start = EPOCH + timedelta(microseconds=group[-1] * SIZE)
        bounds = (start, start + timedelta(microseconds=SIZE))
        group = group[:-1]
    try:
        values = tuple(canonical(naive(spec, rows)) for spec in node.aggregates)
    except OverflowError:
        return None
    return (*group, *bounds, *values)


def output_rows(batch):
    return list(zip(*[map(canonical, column.to_pylist()) for column in batch.columns], strict=True))


def finish(aggregate):
    return concat(list(aggregate.finish()))


def blocks_of(rows, sizes):
    """Batches of the rows, cut at `sizes`, each a slice of a greater batch so that offsets are not 0."""
    at = 0
    for size in sizes:
        part = rows[at : at + size]
        at += size
        padded = [part[0] if part else None, *part] if part else []
        columns = [pa.array([row[c] for row in padded], INPUT.field(c).type) for c in range(len(INPUT.names))]
        batch = pa.RecordBatch.from_arrays(columns, schema=INPUT)
        yield batch.slice(1) if part else batch


@st.composite
def inputs(draw):
    rows = draw(st.lists(rows_of, max_size=40))
    sizes = []
    while sum(sizes) < len(rows):
        sizes.append(draw(st.integers(0, len(rows))))
    return rows, sizes


def grouped(node, rows):
    groups = {}
    for row in rows:
        named = dict(zip(INPUT.names, row, strict=True))
        groups.setdefault(group_of(node, named), []).append(named)
    if node.global_group and not groups:
        groups[()] = []
    return groups


@settings(max_examples=150, deadline=None)
@given(node=nodes(), data=inputs(), lanes=st.sampled_from([1, 2, 5]))
def test_final_rows_of_all_lanes_equal_a_group_by_in_python(node, data, lanes):
    rows, sizes = data
    keyer = Keyer(node)
    home = Keyer.global_lane(lanes, 16)
    aggregates = [Aggregate(node, owns_global=lane == home) for lane in range(lanes)]
    for batch in blocks_of(rows, sizes):
        for aggregate, part in zip(aggregates, keyer.split(batch, lanes, 16), strict=True):
            assert part is None or aggregate.process(part) is None
    got = Counter()
    for aggregate in aggregates:
        batch = finish(aggregate)
        if batch is not None:
            assert batch.ops is None
            got.update(output_rows(batch.data))
        assert aggregate.open_groups == 0
    expected = [expected_row(node, group, members) for group, members in grouped(node, rows).items()]
    assert got == Counter(row for row in expected if row is not None)
    assert sum(aggregate.failed_groups for aggregate in aggregates) == expected.count(None)


@settings(max_examples=60, deadline=None)
@given(node=nodes(windowed=True), data=inputs())
def test_closing_windows_as_time_goes_on_gives_the_rows_of_one_that_closes_all_at_the_end(node, data):
    rows, sizes = data
    rows = sorted(rows, key=lambda row: row[4])
    keyer, aggregate, whole = Keyer(node), Aggregate(node), Aggregate(node)
    got = []
    for batch in blocks_of(rows, sizes):
        for part in keyer.split(batch, 1, 1):
            if part is None:
                continue
            whole.process(part)
            aggregate.process(part)
            sent = concat(list(aggregate.advance(us(part.batch.column("ts")[-1].as_py()))))
            got += [] if sent is None else output_rows(sent.data)
    last = finish(aggregate)
    got += [] if last is None else output_rows(last.data)
    together = finish(whole)
    assert got == ([] if together is None else output_rows(together.data))
    assert aggregate.late_rows == 0


@settings(max_examples=60, deadline=None)
@given(node=nodes(), data=inputs())
def test_changes_by_record_give_the_state_after_each_row(node, data):
    rows, sizes = data
    node = replace(node, emit="changes", granularity="record")
    keyer, aggregate = Keyer(node), Aggregate(node)
    got = []
    for batch in blocks_of(rows, sizes):
        for part in keyer.split(batch, 1, 1):
            sent = None if part is None else aggregate.process(part)
            if sent is not None:
                ops = [INSERT] * sent.rows if sent.ops is None else sent.ops.tolist()
                got += zip(map(OPERATIONS.__getitem__, ops), output_rows(sent.data), strict=True)
    groups, sent_before, expected = {}, set(), []
    for row in rows:
        named = dict(zip(INPUT.names, row, strict=True))
        group = group_of(node, named)
        groups.setdefault(group, []).append(named)
        now = expected_row(node, group, groups[group])
        if now is not None:
            expected.append((OPERATIONS[UPDATE if group in sent_before else INSERT], now))
            sent_before.add(group)
    assert got == expected


@settings(max_examples=60, deadline=None)
@given(node=nodes(), data=inputs())
def test_applying_changes_by_block_gives_the_final_rows(node, data):
    rows, sizes = data
    node = replace(node, emit="changes")
    keyer, aggregate = Keyer(node), Aggregate(node, owns_global=True)
    width = len(node.schema) - len(node.aggregates)
    table = {}
    for batch in blocks_of(rows, sizes):
        for part in keyer.split(batch, 1, 1):
            sent = None if part is None else aggregate.process(part)
            if sent is None:
                continue
            ops = [INSERT] * sent.rows if sent.ops is None else sent.ops.tolist()
            seen = set()
            for op, row in zip(ops, output_rows(sent.data), strict=True):
                assert op != DELETE and (op == UPDATE) == (row[:width] in table)
                assert row[:width] not in seen
                seen.add(row[:width])
                table[row[:width]] = row
    last = finish(aggregate)
    if last is not None:
        table.update((row[:width], row) for row in output_rows(last.data))
    for group, members in grouped(node, rows).items():
        row = expected_row(node, group, members)
        if row is not None:
            assert table.pop(row[:width]) == row
    # What is left are groups that failed in the end, with the row of an earlier block.
    assert len(table) <= aggregate.failed_groups


@settings(max_examples=100, deadline=None)
@given(node=nodes(), data=inputs(), lanes=st.sampled_from([2, 5]), record=st.booleans())
def test_groups_folded_by_their_senders_give_what_rows_sent_to_their_owner_do(node, data, lanes, record):
    rows, sizes = data
    node = replace(node, emit="changes")
    keyer, direct = Keyer(node), Aggregate(node)
    owners = [Aggregate(node) for _ in range(lanes)]
    for number, batch in enumerate(blocks_of(rows, sizes)):
        times = batch.column("ts").cast(pa.int64()).to_numpy() if record else None
        expected = [direct.process(part) for part in keyer.split(batch, 1, 16, times) if part is not None]
        got = []
        for owner, part in zip(owners, keyer.split(batch, lanes, 16, times, sender=number), strict=True):
            sent = None if part is None else owner.process(part)
            got += changes_of(sent)
        assert Counter(got) == Counter(row for sent in expected for row in changes_of(sent))
    assert sum(owner.open_groups for owner in owners) == direct.open_groups
    assert sum(owner.failed_groups for owner in owners) == direct.failed_groups


def changes_of(sent):
    """(operation, event time, values) of each row that was sent."""
    if sent is None:
        return []
    ops = [INSERT] * sent.rows if sent.ops is None else sent.ops.tolist()
    times = [None] * sent.rows if sent.times is None else sent.times.tolist()
    return list(zip(ops, times, output_rows(sent.data), strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(-1e12, 1e12)), max_size=60), st.integers(1, 60))
def test_double_sums_of_parts_stay_within_the_bound_of_the_sum_of_magnitudes(rows, size):
    spec = AggregateSpec("s", "SUM", "ratio", pa.float64())
    fields = pa.schema([INPUT.field("name"), INPUT.field("ratio")])
    node = AggregateNode(
        ("name",), (spec,), None, fields, pa.schema([("name", pa.string()), ("s", pa.float64())])
    )
    keyer, owners = Keyer(node), [Aggregate(node) for _ in range(3)]
    for number, at in enumerate(range(0, len(rows), size)):
        names, ratios = zip(*rows[at : at + size], strict=True)
        batch = pa.RecordBatch.from_arrays([pa.array(names), pa.array(ratios)], schema=fields)
        for owner, part in zip(owners, keyer.split(batch, 3, 16, sender=number), strict=True):
            assert part is None or owner.process(part) is None
    sums = dict(row for owner in owners for batch in owner.finish() for row in output_rows(batch.data))
    for name in {name for name, _ in rows}:
        values = [value for key, value in rows if key == name]
        assert abs(sums[name] - math.fsum(values)) <= 1e-12 * math.fsum(map(abs, values))
