"""An aggregation that is saved and restored, in any number of lanes, gives what one does that never was."""

import json
from collections import Counter
from dataclasses import replace
from unittest.mock import patch

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties.test_aggregate_twin import INPUT, SIZE, nodes, rows_of
from velostream.operators import groups, rounds
from velostream.operators.aggregate import Aggregate, Keyer
from velostream.sql.expressions import Call, ColumnRef, Literal

KEY_GROUPS = 16


def written(changes):
    """The changes as they come back from a disk."""
    tables = {}
    for name, batch in changes.tables.items():
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, batch.schema) as writer:
            writer.write_batch(batch)
        tables[name] = pa.ipc.open_stream(out.getvalue()).read_next_batch()
    return replace(changes, tables=tables, values=json.loads(json.dumps(changes.values)))


class Saved:
    """What a store keeps: of each lane the changes since its last complete round began.

    Those of earlier lanes are kept until each of the present ones has completed a round.
    """

    def __init__(self, lanes, earlier=()):
        self.earlier = list(earlier)
        self.lanes = [[] for _ in range(lanes)]
        self.begins = [None] * lanes
        self.complete = [False] * lanes

    def add(self, lane, changes):
        kept = self.lanes[lane]
        if changes.begins:
            assert self.begins[lane] is None, "a round begins within another"
            self.begins[lane] = len(kept)
        kept.append(written(changes))
        if changes.ends:
            del kept[: self.begins[lane]]
            self.begins[lane] = None
            self.complete[lane] = True
            if all(self.complete):
                self.earlier = []

    def all(self):
        """In order per lane, the lanes one behind the other."""
        return [*self.earlier, *(changes for lane in self.lanes for changes in lane)]


class Lanes:
    """The lanes of a job, and what they have saved."""

    def __init__(self, node, number, earlier=()):
        home = Keyer.global_lane(number, KEY_GROUPS)
        self.operators = [Aggregate(node, owns_global=lane == home) for lane in range(number)]
        self.saved = Saved(number, earlier)
        for lane, operator in enumerate(self.operators):
            if earlier:
                operator.restore(earlier, number, lane, KEY_GROUPS)
            else:
                operator.track_changes()

    def save(self):
        for lane, operator in enumerate(self.operators):
            self.saved.add(lane, operator.take_changes())


def bits(column):
    """Values that are equal only when all their bits are."""
    return (column.view(pa.int64()) if pa.types.is_float64(column.type) else column).to_pylist()


def shown(batches):
    """The rows of batches, with operation and event time, in any order."""
    got = Counter()
    for batch in batches:
        if batch is None:
            continue
        ops = [0] * batch.rows if batch.ops is None else batch.ops.tolist()
        times = [None] * batch.rows if batch.times is None else batch.times.tolist()
        got.update(zip(ops, times, *map(bits, batch.data.columns), strict=True))
    return got


@st.composite
def saved_nodes(draw):
    node = draw(nodes())
    options = {"emit": draw(st.sampled_from(["final", "changes"]))}
    if options["emit"] == "changes":
        options["granularity"] = draw(st.sampled_from(["block", "record"]))
    if node.window is not None:
        options["late"] = draw(st.sampled_from(["drop", "update"]))
        options["allowed_lateness_us"] = draw(st.sampled_from([0, SIZE, 2 * SIZE]))
    counts = [spec.name for spec in node.aggregates if spec.type == pa.int64()]
    if counts and draw(st.booleans()):
        column = ColumnRef(name=counts[0], type=pa.int64())
        most = Literal(value=draw(st.integers(0, 2)), type=pa.int64())
        options["having"] = Call(function="le", args=(column, most), type=pa.bool_())
    return replace(node, **options)


# Rows, how far the watermark goes (seconds), whether to save, and then with how many lanes to go on.
steps = st.tuples(
    st.lists(rows_of, max_size=12),
    st.none() | st.integers(-150, 200),
    st.booleans(),
    st.none() | st.sampled_from([1, 2, 4, 8]),
)


@settings(max_examples=80, deadline=None)
@given(
    node=saved_nodes(),
    steps=st.lists(steps, min_size=1, max_size=8),
    lanes=st.sampled_from([1, 2, 4, 8]),
    timed=st.booleans(),
    least=st.sampled_from([1, 3, 100]),
    ahead=st.sampled_from([1, 3, 100]),
)
def test_a_restored_aggregation_goes_on_bit_by_bit_as_if_it_had_never_stopped(
    node, steps, lanes, timed, least, ahead
):
    small = patch.multiple(rounds, LEAST_ROWS=least, MOST_ROWS=least + 1)
    with small, patch.multiple(groups, SAVED_ROWS=3, AHEAD_ROWS=ahead):
        go(node, steps, lanes, timed)


def batch_of(rows):
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, INPUT, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=INPUT)


def go(node, steps, lanes, timed):
    keyer, whole, job = Keyer(node), Aggregate(node, owns_global=True), Lanes(node, lanes)
    ended = []
    for number, (rows, watermark, save, go_on_with) in enumerate(steps):
        if rows:
            batch = batch_of(rows)
            times = batch.column("ts").cast(pa.int64()).to_numpy() if timed else None
            parts = keyer.split(batch, len(job.operators), KEY_GROUPS, times, sender=number)
            taken = [(operator, part) for operator, part in zip(job.operators, parts, strict=True) if part]
            # The same parts in the same order: doubles are then added in the same order.
            expected = [whole.process(part) for _, part in taken]
            assert shown(operator.process(part) for operator, part in taken) == shown(expected)
            for operator, _ in taken:
                operator.take_ahead()
        if watermark is not None:
            expected = list(whole.advance(watermark * 1_000_000))
            got = [batch for operator in job.operators for batch in operator.advance(watermark * 1_000_000)]
            assert shown(got) == shown(expected)
        if save:
            job.save()
            if go_on_with is not None:
                ended += job.operators
                job = Lanes(node, go_on_with, job.saved.all())
                assert sum(operator.open_groups for operator in job.operators) == whole.open_groups
    got = [batch for operator in job.operators for batch in operator.finish()]
    assert shown(got) == shown(whole.finish())
    job.save()
    again = Lanes(node, 2, job.saved.all())
    assert [operator.open_groups for operator in again.operators] == [0, 0]
    assert [list(operator.finish()) for operator in again.operators] == [[], []]
    for counter in ("late_rows", "failed_rows", "failed_groups"):
        counted = sum(getattr(operator, counter) for operator in [*ended, *job.operators])
        assert counted == getattr(whole, counter), counter


@settings(max_examples=80, deadline=None)
@given(
    node=saved_nodes(),
    first=st.lists(rows_of, min_size=6, max_size=30),
    later=st.lists(st.tuples(rows_of, st.none() | st.integers(-150, 100)), min_size=4, max_size=20),
    least=st.sampled_from([1, 2, 5]),
)
def test_what_was_saved_before_the_last_complete_round_is_not_needed(node, first, later, least):
    keyer, never_saved, operator, saved = Keyer(node), Aggregate(node), Aggregate(node), Saved(1)

    def run(operator, rows, watermark):
        (part,) = keyer.split(batch_of(rows), 1, KEY_GROUPS)
        yield operator.process(part)
        if watermark is not None:
            yield from operator.advance(watermark * 1_000_000)

    for rows, watermark in [(first, None), *(([row], watermark) for row, watermark in later)]:
        assert shown(run(operator, rows, watermark)) == shown(run(never_saved, rows, watermark))
        with patch.multiple(rounds, LEAST_ROWS=least, MOST_ROWS=least + 1):
            saved.add(0, operator.take_changes())
    restored = Aggregate(node)
    restored.restore(saved.all(), 1, 0, KEY_GROUPS)
    # All rows once more show what each one knows.
    again = [*first, *(row for row, _ in later)]
    assert shown(run(restored, again, None)) == shown(run(never_saved, again, None))
    assert shown(restored.finish()) == shown(never_saved.finish())
