import math
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velostream.kernels import GroupTable, KeyEncoder


def slots_of(*values):
    return np.array(values, dtype=np.int32)


def encode(*columns):
    return KeyEncoder([column.type for column in columns]).encode(list(columns))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["", "a", "bb", None, "x" * 20]), st.integers(0, 3), st.integers(-2, 2))
    ),
    st.booleans(),
)
def test_slots_number_keys_of_windows_by_first_row_even_when_all_hashes_collide(rows, collide):
    texts = pa.array([row[0] for row in rows], pa.string())
    numbers = pa.array([row[1] for row in rows], pa.int64())
    windows = np.array([row[2] for row in rows], dtype=np.int64)
    table = GroupTable([pa.string(), pa.int64()])
    keys = encode(texts, numbers)
    if collide:
        keys.hashes[:] = 7
    known = {}
    expected = [known.setdefault(row, len(known)) for row in rows]
    assert table.assign(keys, None, windows).tolist() == expected
    assert table.count == len(known)
    everything = np.arange(table.count, dtype=np.int32)
    decoded = [column.to_pylist() for column in table.keys(everything)]
    assert list(zip(*decoded, table.windows.tolist(), strict=True)) == list(known)


def test_a_table_grows_through_many_groups_and_finds_them_again():
    values = pa.array(range(50_000))
    table = GroupTable([pa.int64()])
    keys = encode(values)
    assert table.assign(keys).tolist() == list(range(50_000))
    assert table.assign(keys).tolist() == list(range(50_000))
    assert table.keys(slots_of(49_999, 0))[0].to_pylist() == [49_999, 0]


def test_selected_rows_alone_get_slots():
    table = GroupTable([pa.string()])
    keys = encode(pa.array(["a", "b", "c", "b"]))
    assert table.assign(keys, slots_of(3, 2, 1)).tolist() == [0, 1, 0]
    assert table.keys(slots_of(0, 1))[0].to_pylist() == ["b", "c"]


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65])
def test_keys_of_every_type_come_back_as_they_went_in(n):
    def some(values):
        return [None if row % 5 == 3 else values[row % len(values)] for row in range(n)]

    columns = [
        pa.array(some(["", "a", "é", "more than sixteen bytes"]), pa.string()),
        pa.array(some([-128, 127]), pa.int8()),
        pa.array(some([-(2**63), 2**63 - 1]), pa.int64()),
        pa.array(some([True, False]), pa.bool_()),
        pa.array(some([date(1969, 12, 31), date(9999, 12, 31)]), pa.date32()),
        pa.array(some([datetime(1, 1, 1), datetime(2020, 2, 3, 4, 5, 6, 7)]), pa.timestamp("us")),
        pa.array(
            some([Decimal("-12.500"), Decimal("0.001"), Decimal("9" * 35 + ".000")]), pa.decimal128(38, 3)
        ),
        pa.array(some([1.5, -math.inf, 1e-300]), pa.float64()),
        pa.array(some(["second", ""]), pa.string()),
    ]
    rows = np.arange(n, dtype=np.int64)
    for chosen in (columns, *[[column] for column in columns]):
        table = GroupTable([column.type for column in chosen])
        slots = table.assign(encode(*chosen), None, rows)
        assert slots.tolist() == list(range(n))
        for got, column in zip(table.keys(slots), chosen, strict=True):
            got.validate(full=True)
            assert got.equals(column)


def test_compaction_keeps_chosen_slots_in_order_and_finds_them_under_new_numbers():
    table = GroupTable([pa.string()])
    keys = encode(pa.array([f"key {i}" for i in range(1000)]))
    table.assign(keys, None, np.arange(1000, dtype=np.int64) % 7)
    keep = np.arange(0, 1000, 3, dtype=np.int32)
    before = table.nbytes
    table.compact(keep)
    assert table.count == len(keep) and table.nbytes < before
    assert table.keys(slots_of(0, 1, 333))[0].to_pylist() == ["key 0", "key 3", "key 999"]
    assert table.windows.tolist() == [int(slot) % 7 for slot in keep]
    again = table.assign(keys, keep, keep.astype(np.int64) % 7)
    assert again.tolist() == list(range(len(keep)))
    assert table.assign(keys, slots_of(1), np.array([1])).tolist() == [len(keep)]
    table.compact(slots_of())
    assert table.count == 0 and table.assign(keys, slots_of(5, 5)).tolist() == [0, 0]


@pytest.mark.parametrize("texts", [False, True])
def test_large_tables_grow_shrink_and_grow_again(texts):
    def encoded(numbers):
        return encode(pa.array(numbers).cast(pa.string() if texts else pa.int64()))

    n = 600_000
    windows = np.arange(n, dtype=np.int64) % 3
    table = GroupTable([pa.string() if texts else pa.int64()])
    assert np.array_equal(table.assign(encoded(np.arange(n)), None, windows), np.arange(n))
    large = table.nbytes
    keep = np.arange(0, n, 1000, dtype=np.int32)
    table.compact(keep)
    assert table.count == len(keep) and table.nbytes < large / 50
    assert table.assign(encoded(keep), None, windows[keep]).tolist() == list(range(len(keep)))
    again = table.assign(encoded(np.arange(n)), None, windows)
    assert table.count == n and np.array_equal(again[keep], np.arange(len(keep)))
    assert np.array_equal(table.windows_of(again), windows)
    assert table.keys(again[-2:])[0].cast(pa.int64()).to_pylist() == [n - 2, n - 1]


def test_groups_of_another_table_are_adopted_whatever_their_keys_and_windows():
    columns = [
        pa.array(["a", None, "more than sixteen bytes", "b", "a"]),
        pa.array([1, 2, 3, None, 1], pa.int32()),
    ]
    windows = np.array([0, 1, -1, 0, 5], dtype=np.int64)
    for chosen in (columns, columns[:1], columns[1:], []):
        types = [column.type for column in chosen]
        keys = KeyEncoder(types).encode(chosen, 5)
        here, other = GroupTable(types), GroupTable(types)
        expected = here.assign(keys, None, windows)
        other_slots = other.assign(keys, slots_of(4, 3, 2, 1, 0), windows[::-1].copy())
        assert here.adopt(other, other_slots).tolist() == expected[::-1].tolist()
        fresh = GroupTable(types)
        fresh.adopt(other, other_slots)
        assert fresh.count == other.count and np.array_equal(fresh.windows, other.windows)
        parts = other.partition(3, 128)
        by_row = keys.partition(3, 128)
        assert [part is None for part in parts] == [part is None for part in by_row]
    with pytest.raises(ValueError, match="cannot adopt"):
        GroupTable([pa.int64()]).adopt(GroupTable([pa.string()]), slots_of())


def test_touched_slots_are_listed_once_in_order_of_their_first_row():
    table = GroupTable([pa.int64()])
    slots = table.assign(encode(pa.array([5, 6, 7, 8])))
    assert table.touched(slots[[2, 0, 2, 3, 0]]).tolist() == [2, 0, 3]
    assert table.touched(slots[[0, 0]]).tolist() == [0]
    assert table.touched(slots[:0]).tolist() == []


def test_new_values_are_reported_once_per_window_and_follow_another_tables_compaction():
    seen = GroupTable([pa.int64()])
    keys = encode(pa.array([1, 1, 2, 1, 2]))
    groups = np.array([0, 0, 1, 1, 1], dtype=np.int64)
    assert seen.add_new(keys, None, groups).tolist() == [0, 2, 3]
    assert seen.add_new(keys, None, groups).tolist() == []
    assert seen.retarget(slots_of(-1, 0)).tolist() == [1, 2]
    assert seen.windows.tolist() == [0, 0]
    assert seen.add_new(keys, slots_of(0, 2), np.array([0, 0])).tolist() == []
    assert seen.add_new(keys, slots_of(0, 2), np.array([1, 1])).tolist() == [0, 1]


def test_rows_and_slots_out_of_range_are_refused():
    table = GroupTable([pa.int64()])
    keys = encode(pa.array([1, 2]))
    with pytest.raises(IndexError, match="not one of 2"):
        table.assign(keys, slots_of(2))
    with pytest.raises(IndexError, match="not one of 2"):
        table.assign(keys, slots_of(-1))
    with pytest.raises(ValueError, match="1 windows for 2 rows"):
        table.assign(keys, None, np.array([1]))
    with pytest.raises(IndexError, match="there is no slot 0"):
        table.keys(slots_of(0))
    table.assign(keys)
    with pytest.raises(IndexError, match="must ascend"):
        table.compact(slots_of(1, 0))
