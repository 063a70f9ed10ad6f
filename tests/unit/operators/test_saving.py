"""How an aggregation saves: rounds, flags, and what is noted while nothing is saved."""

from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.operators.test_aggregate import COUNT, INPUT, MINUTE, SUM, advance, finish, make, send, shown
from velostream.errors import StateError
from velostream.operators import groups, rounds
from velostream.operators.aggregate import Aggregate, Keyer
from velostream.operators.rounds import Walk
from velostream.operators.saving import Changes
from velostream.plan.nodes import AggregateSpec

DISTINCT = AggregateSpec("d", "SUM", "n", pa.int64(), distinct=True)


def restored(node, *changes):
    aggregate = Aggregate(node)
    aggregate.restore(changes, 1, 0, 128)
    return aggregate


def few_at_once(rows):
    return patch.multiple(rounds, LEAST_ROWS=rows, MOST_ROWS=rows)


def saved_keys(changes):
    return [key for name in changes.tables for key in changes.tables[name].column("key.0").to_pylist()]


def test_nothing_is_noted_before_the_first_changes_are_taken():
    node = make()
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", 0, 1))
    before = aggregate.nbytes
    aggregate.take_changes()
    # One byte for each of the 64 groups that there is room for.
    assert aggregate.nbytes == before + 64


def test_a_round_gives_what_changed_and_the_next_groups_until_it_has_given_all():
    node = make()
    aggregate = Aggregate(node)
    send(node, aggregate, *[(key, 0, 1) for key in "abcdefg"])
    with few_at_once(3):
        first = aggregate.take_changes()
        # All of them have changed, so there is nothing left for the round.
        assert saved_keys(first) == list("abcdefg") and (first.begins, first.ends) == (True, True)
        assert aggregate.take_changes().tables == {}
        send(node, aggregate, ("b", 0, 1), ("x", 0, 1))
        second = aggregate.take_changes()
        assert saved_keys(second) == list("abcx") and (second.begins, second.ends) == (True, False)
        third = aggregate.take_changes()
        assert saved_keys(third) == list("def") and (third.begins, third.ends) == (False, False)
        send(node, aggregate, ("a", 0, 1), ("y", 0, 1))
        fourth = aggregate.take_changes()
        assert saved_keys(fourth) == list("agxy") and (fourth.begins, fourth.ends) == (False, True)
        assert aggregate.take_changes().tables == {}
        send(node, aggregate, ("g", 0, 1))
        fifth = aggregate.take_changes()
        # Those that were made during a round belong to the next one.
        assert saved_keys(fifth) == list("abcg") and (fifth.begins, fifth.ends) == (True, False)


def test_a_round_gives_as_many_groups_as_have_changed_within_bounds():
    walk = Walk()
    walk.begin(1_000_000)
    assert walk.next(0) == (0, 16_384)
    assert walk.next(100_000) == (16_384, 116_384)
    assert walk.next(10_000_000) == (116_384, 116_384 + 262_144)
    walk.compact(np.arange(0, 1_000_000, 2, dtype=np.int32))
    assert walk.next(300_000) == ((116_384 + 262_144) // 2, (116_384 + 262_144) // 2 + 262_144)
    assert not walk.done and walk.next(1_000_000)[1] == 500_000 and walk.done


def test_many_changes_are_taken_ahead_so_that_few_are_left():
    node = make()
    aggregate = Aggregate(node)
    aggregate.track_changes()
    with patch.object(groups, "AHEAD_ROWS", 3):
        send(node, aggregate, ("a", 0, 1), ("b", 0, 1))
        assert not aggregate.take_ahead()
        send(node, aggregate, ("b", 0, 1), ("c", 0, 1))
        assert aggregate.take_ahead()
        send(node, aggregate, ("b", 0, 1), ("d", 0, 1))
        assert not aggregate.take_ahead()
        changes = aggregate.take_changes()
    # The later row of b is the one that counts; the round gives all that there are once more.
    assert [batch.column("key.0").to_pylist() for batch in changes.tables.values()] == [
        ["a", "b", "c"],
        ["a", "b", "c", "d"],
    ]
    assert (changes.begins, changes.ends) == (True, True)
    assert shown(finish(restored(node, changes))) == shown(finish(aggregate))


def test_no_more_rows_are_taken_ahead_than_there_are_groups():
    node = make()
    aggregate = Aggregate(node)
    aggregate.track_changes()
    with patch.object(groups, "AHEAD_ROWS", 2):
        taken = []
        for _ in range(4):
            send(node, aggregate, ("a", 0, 1), ("b", 0, 1))
            taken.append(aggregate.take_ahead())
        assert taken == [True, False, False, False]
        changes = aggregate.take_changes()
    assert saved_keys(changes) == list("abab")
    assert shown(finish(restored(node, changes))) == [("insert", "a", 4, 4), ("insert", "b", 4, 4)]


def test_what_was_taken_ahead_is_weighed_until_it_is_saved():
    node = make()
    aggregate = Aggregate(node)
    aggregate.track_changes()
    with patch.object(groups, "AHEAD_ROWS", 2):
        send(node, aggregate, ("a", 0, 1), ("b", 0, 1))
        before = aggregate.nbytes
        assert aggregate.take_ahead()
        ahead = aggregate.nbytes - before
        changes = aggregate.take_changes()
    assert ahead == next(iter(changes.tables.values())).nbytes > 0
    assert aggregate.nbytes == before


def test_nothing_is_taken_ahead_where_nothing_is_saved():
    node = make()
    aggregate = Aggregate(node)
    with patch.object(groups, "AHEAD_ROWS", 1):
        send(node, aggregate, ("a", 0, 1))
        assert not aggregate.take_ahead()


def test_few_groups_are_a_round_each_time():
    node = make()
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", 0, 1), ("b", 0, 2))
    aggregate.take_changes()
    send(node, aggregate, ("b", 0, 2))
    changes = aggregate.take_changes()
    assert (changes.begins, changes.ends) == (True, True)
    assert shown(finish(restored(node, changes))) == [("insert", "a", 1, 1), ("insert", "b", 2, 4)]


def test_a_round_of_distinct_values_goes_on_when_windows_are_dropped():
    node = make(window=True, aggregates=(COUNT, DISTINCT))
    aggregate = Aggregate(node)
    with few_at_once(4):
        send(node, aggregate, *[("a", 1, n) for n in range(6)], *[("a", 61, n) for n in range(6)])
        aggregate.take_changes()
        send(node, aggregate, ("a", 121, 0))
        # The round has given the values of the first window but for the last two.
        begin = aggregate.take_changes()
        assert (begin.begins, begin.ends) == (True, False)
        advance(aggregate, MINUTE)
        later = []
        while not later or not later[-1].ends:
            send(node, aggregate, ("a", 121, 0))
            later.append(aggregate.take_changes())
    again = restored(node, begin, *later)
    send(node, again, *[("a", 61, n) for n in range(8)])
    assert shown(finish(again))[0] == ("insert", "a", 1, 2, 14, sum(range(8)))


def test_more_groups_than_a_table_holds_are_saved_in_several():
    node = make()
    aggregate = Aggregate(node)
    send(node, aggregate, *[(f"k{i}", 0, i) for i in range(10)])
    with patch.object(groups, "SAVED_ROWS", 4):
        changes = aggregate.take_changes()
    assert {name: batch.num_rows for name, batch in changes.tables.items()} == {
        "groups.0": 4,
        "groups.1": 4,
        "groups.2": 2,
    }
    assert shown(finish(restored(node, changes))) == [("insert", f"k{i}", 1, i) for i in range(10)]


def test_a_window_that_was_sent_since_its_rows_were_saved_is_updated_after_a_restart():
    node = make(window=True, late="update", allowed_lateness_us=MINUTE)
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", 1, 1))
    saved = [aggregate.take_changes()]
    assert shown(advance(aggregate, MINUTE)) == [("insert", "a", 0, 1, 1, 1)]
    saved.append(aggregate.take_changes())
    assert shown(send(node, restored(node, *saved), ("a", 2, 1))) == [("update", "a", 0, 1, 2, 2)]


def test_a_group_that_failed_is_not_reported_again_after_a_restart():
    node = make(emit="changes")
    aggregate = Aggregate(node)
    assert send(node, aggregate, ("a", 0, 2**63 - 1), ("a", 0, 1)) is None
    again = restored(node, aggregate.take_changes())
    assert send(node, again, ("a", 0, 1)) is None
    assert (aggregate.failed_groups, again.failed_groups, again.take_failed()) == (1, 0, [])


def test_event_times_of_groups_are_saved():
    node = make(emit="changes")
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", 0, 1), ("b", 0, 1), times=np.array([30, 20]))
    again = restored(node, aggregate.take_changes())
    batch = send(node, again, ("a", 0, 1), ("b", 0, 1), times=np.array([10, 25]))
    assert batch.times.tolist() == [30, 25]


def test_a_restart_keeps_the_watermark_and_drops_the_windows_that_it_has_passed():
    node = make(window=True)
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", 1, 1), ("a", 61, 1))
    saved = [aggregate.take_changes()]
    advance(aggregate, MINUTE)
    saved.append(aggregate.take_changes())
    again = restored(node, *saved)
    assert (again.open_groups, again.open_windows) == (1, 1)
    send(node, again, ("a", 2, 1))
    assert again.late_rows == 1
    assert shown(finish(again)) == [("insert", "a", 1, 2, 1, 1)]


def test_a_row_of_all_rows_is_sent_once_over_a_restart():
    node = make(keys=())
    aggregate = Aggregate(node, owns_global=True)
    assert shown(finish(aggregate)) == [("insert", 0, None)]
    again = Aggregate(node, owns_global=True)
    again.restore([aggregate.take_changes()], 1, 0, 128)
    assert finish(again) is None


def test_groups_without_aggregates_are_saved():
    node = make(aggregates=())
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", 0, 1), (None, 0, 1))
    assert shown(finish(restored(node, aggregate.take_changes()))) == [("insert", "a"), ("insert", None)]


def test_distinct_values_without_their_group_are_refused():
    node = make(aggregates=(DISTINCT,))
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", 0, 1))
    changes = aggregate.take_changes()
    values = {"distinct.0.0": changes.tables["distinct.0.0"]}
    with pytest.raises(StateError, match="distinct values of groups that it does not have"):
        restored(node, Changes(values, changes.values, True))


def test_flags_that_the_query_does_not_have_are_refused():
    node = make(emit="changes")
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", 0, 1))
    changes = aggregate.take_changes()
    with pytest.raises(StateError, match=r"'flags' of table 'groups\.0' has the value 1"):
        restored(make(), changes)


def test_what_other_states_have_saved_is_refused_with_both_kinds_of_columns():
    node = make(aggregates=(COUNT,))
    aggregate = Aggregate(node)
    send(node, aggregate, ("a", 0, 1))
    with pytest.raises(StateError) as caught:
        restored(make(aggregates=(COUNT, SUM)), aggregate.take_changes())
    assert caught.value.render() == (
        "the saved state of an aggregation cannot be used: table 'groups.0' has the columns key.0 string, "
        "state.0 fixed_size_binary[8], flags uint8, not key.0 string, state.0 fixed_size_binary[8], "
        "state.1 fixed_size_binary[24], flags uint8; start from a savepoint with state=PATH, or afresh with "
        "state=reset"
    )


def test_the_description_names_keys_window_and_states_with_their_forms():
    filtered = AggregateSpec("f", "MIN", "key", pa.string())
    node = make(keys=("key", "n"), window=True, aggregates=(COUNT, SUM, DISTINCT, filtered))
    described = Aggregate(node).describe_state()
    assert described["keys"] == [{"name": "key", "type": "VARCHAR"}, {"name": "n", "type": "BIGINT"}]
    assert described["window"] == {"kind": "tumble", "time": "ts", "size_us": MINUTE}
    assert [
        (s["form"], s["parts"], s["argument"], s["type"], s["distinct"]) for s in described["states"]
    ] == [
        ("count", [], None, None, False),
        ("int64", ["sum"], "n", "BIGINT", False),
        ("int64", ["sum"], "n", "BIGINT", True),
        ("text", ["least"], "key", "VARCHAR", False),
    ]


def test_aggregates_that_read_what_is_kept_already_need_no_other_state():
    average = AggregateSpec("a", "AVG", "n", pa.float64())
    before, after = make(aggregates=(SUM,)), make(aggregates=(SUM, average))
    assert Aggregate(before).describe_state() == Aggregate(after).describe_state()
    aggregate = Aggregate(before)
    send(before, aggregate, ("a", 0, 1), ("a", 0, 2))
    assert shown(finish(restored(after, aggregate.take_changes()))) == [("insert", "a", 3, 1.5)]


def test_lanes_take_their_own_keys():
    node = make()
    aggregate = Aggregate(node)
    rows = [(f"k{i}", 0, i) for i in range(100)]
    send(node, aggregate, *rows)
    changes = aggregate.take_changes()
    parts = Keyer(node).split(
        pa.RecordBatch.from_pydict(
            {"key": [r[0] for r in rows], "ts": [None] * 100, "n": [r[2] for r in rows]}, schema=INPUT
        ),
        4,
        128,
        sender=1,
    )
    for lane, part in enumerate(parts):
        owner = Aggregate(node)
        owner.restore([changes], 4, lane, 128)
        known = owner.open_groups
        owner.process(part)
        assert owner.open_groups == known > 0
