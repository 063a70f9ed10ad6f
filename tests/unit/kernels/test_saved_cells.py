"""Cells as columns and back, and which groups of a table have changed."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from velostream.kernels import (
    Cells,
    CountState,
    DecimalState,
    DoubleState,
    GroupTable,
    Int64State,
    KeyEncoder,
    TextState,
)

ALL = ["sum", "least", "greatest"]
TEXTS = pa.array(["b", None, "", "a text that is longer than sixteen bytes", "zz"])
VALUES = {
    "count": (lambda: CountState(), pa.array([1, None, 3, 4, 5])),
    "int64": (lambda: Int64State(pa.int64(), ALL), pa.array([-(2**63), 2**63 - 1, None, 2**63 - 1, 7])),
    "double": (lambda: DoubleState(pa.float64(), ALL), pa.array([1e300, None, -0.0, float("nan"), 1e-300])),
    "decimal": (
        lambda: DecimalState(pa.decimal128(38, 2), ALL),
        pa.array([Decimal("9" * 36 + ".99"), None, Decimal("-1.00"), Decimal("9" * 36 + ".98"), None]).cast(
            pa.decimal128(38, 2)
        ),
    ),
    "text": (lambda: TextState(pa.string(), ["least", "greatest"]), TEXTS),
}


def slots_of(*values):
    return np.array(values, dtype=np.int32)


def read(cells, slots):
    return [
        getattr(state, name)(cells, slots)[0].to_pylist()
        for state in cells.states
        for name in ["count", *sorted(state.parts)]
    ]


def folded():
    cells = Cells([make() for make, _ in VALUES.values()])
    cells.reserve(3)
    cells.update(slots_of(0, 1, 0, 1, 2), [(values, None, None) for _, values in VALUES.values()])
    return cells


def test_columns_are_named_by_state_and_texts_by_their_part():
    assert [(field.name, str(field.type)) for field in folded().fields] == [
        ("0", "fixed_size_binary[8]"),
        ("1", "fixed_size_binary[40]"),
        ("2", "fixed_size_binary[40]"),
        ("3", "fixed_size_binary[64]"),
        ("4", "fixed_size_binary[8]"),
        ("4.least", "string"),
        ("4.greatest", "string"),
    ]
    assert [state.form() for state in folded().states] == [(name, 1) for name in VALUES]


def test_cells_that_were_put_read_as_those_that_were_taken_and_go_on_as_they_do():
    cells, other = folded(), folded().fresh()
    columns = cells.take(slots_of(2, 0, 1))
    other.reserve(5)
    other.put(slots_of(4, 1), columns, slots_of(0, 2))
    other.put(slots_of(0, 2, 3), columns)
    twins, originals = slots_of(4, 1, 0, 2, 3), slots_of(2, 1, 2, 0, 1)
    assert str(read(other, twins)) == str(read(cells, originals))
    more = [(values, None, None) for _, values in VALUES.values()]
    cells.update(slots_of(0, 1, 2, 1, 0), more)
    other.update(slots_of(2, 3, 0, 3, 2), more)
    assert [c.to_pylist() for c in other.take(slots_of(0, 2, 3))] == [
        c.to_pylist() for c in cells.take(slots_of(2, 0, 1))
    ]


def test_put_overwrites_what_a_slot_had_also_with_nothing():
    cells = folded()
    cells.reserve(4)
    nothing, something = cells.take(slots_of(3)), cells.take(slots_of(0))
    cells.put(slots_of(0), nothing)
    assert read(cells, slots_of(0)) == read(cells, slots_of(3))
    cells.put(slots_of(3), something)
    assert [c.to_pylist() for c in cells.take(slots_of(3))] == [c.to_pylist() for c in something]


def test_sliced_columns_are_put_from_where_they_begin():
    cells, other = folded(), folded().fresh()
    other.reserve(2)
    other.put(slots_of(0, 1), [column.slice(1) for column in cells.take(slots_of(0, 1, 2))])
    assert str(read(other, slots_of(0, 1))) == str(read(cells, slots_of(1, 2)))


def test_texts_that_were_put_over_are_given_back():
    cells = Cells([TextState(pa.string(), ["least"])])
    cells.reserve(10)
    columns = [pa.array([b"\x01" + b"\0" * 7] * 10, pa.binary(8)), pa.array(["x" * 10_000] * 10)]
    for _ in range(20):
        cells.put(np.arange(10, dtype=np.int32), columns)
    assert cells.nbytes < 600_000


def test_columns_that_take_did_not_give_are_refused():
    cells = folded()
    columns = cells.take(slots_of(0, 1))
    with pytest.raises(ValueError, match="expected columns"):
        cells.put(slots_of(0, 1), columns[1:])
    with pytest.raises(ValueError, match="expected columns"):
        cells.put(slots_of(0, 1), [columns[1], *columns[1:]])
    with pytest.raises(ValueError, match="differ in number"):
        cells.put(slots_of(0), columns)
    with pytest.raises(ValueError, match="differ in number"):
        cells.put(slots_of(0, 1), columns, slots_of(0))
    with pytest.raises(IndexError):
        cells.put(slots_of(0, 1), columns, slots_of(0, 2))
    with pytest.raises(IndexError):
        cells.put(slots_of(0, 99), columns)
    with pytest.raises(IndexError):
        cells.take(slots_of(99))
    for wrong, why in (([None, b"\0" * 8], "cannot be NULL"), ([b"\0" * 8, b"\xff" * 8], "negative number")):
        with pytest.raises(ValueError, match=why):
            cells.put(slots_of(0, 1), [pa.array(wrong, pa.binary(8)), *columns[1:]])


def test_text_offsets_are_checked_one_by_one():
    cells = Cells([TextState(pa.string(), ["least"])])
    cells.reserve(3)
    for second in (-(2**31), -1, 3, 2**31 - 1):
        offsets = np.array([0, 1, 2, 2], dtype=np.int32)
        texts = pa.Array.from_buffers(pa.string(), 3, [None, pa.py_buffer(offsets), pa.py_buffer(b"ab")])
        offsets[1] = second
        with pytest.raises(ValueError, match="not in order"):
            cells.put(slots_of(0, 1, 2), [pa.array([b"\0" * 8] * 3, pa.binary(8)), texts])


# --- which groups have changed --------------------------------------------------------------------


def keys_of(*values):
    return KeyEncoder([pa.int64()]).encode([pa.array(values, pa.int64())])


def test_groups_that_are_found_or_adopted_or_marked_have_changed_until_they_are_taken():
    table = GroupTable([pa.int64()])
    table.assign(keys_of(*range(100)))
    assert not table.tracks
    table.track(False)
    assert table.tracks and table.changed == 0 and table.take_changed(0, 0).tolist() == []
    table.assign(keys_of(70, 3, 70, 100))
    other = GroupTable([pa.int64()])
    other.assign(keys_of(200, 5, 1))
    table.adopt(other, slots_of(0, 1))
    table.mark(slots_of(99, 3))
    Cells([]).group(table, keys_of(8, 9), [], slots_of(1))
    assert table.changed == 7
    assert table.take_changed(97, 100).tolist() == [3, 5, 9, 70, 97, 98, 99, 100, 101]
    assert table.changed == 0 and table.take_changed(0, 0).tolist() == []


def test_all_groups_that_there_are_may_count_as_changed():
    table = GroupTable([pa.int64()])
    table.assign(keys_of(1, 2, 3))
    table.track(True)
    assert table.take_changed(0, 0).tolist() == [0, 1, 2]
    table.track(True)
    table.track(False)
    assert table.changed == 0


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 63, 64, 65, 1000])
def test_changes_are_found_in_tables_of_any_size_as_they_grow_and_shrink(n):
    table = GroupTable([pa.int64()])
    table.track(False)
    table.assign(keys_of(*range(n)))
    assert table.take_changed(0, 0).tolist() == list(range(n))
    table.assign(keys_of(*range(0, n, 3)))
    table.compact(np.arange(0, n, 2, dtype=np.int32))
    assert table.take_changed(0, 0).tolist() == [slot for slot in range((n + 1) // 2) if slot % 3 == 0]
    table.assign(keys_of(*range(n)))
    assert table.changed == n


def test_a_table_tells_what_it_cannot_give():
    table = GroupTable([pa.int64()])
    with pytest.raises(ValueError, match="does not note"):
        table.take_changed(0, 0)
    table.mark(slots_of())
    table.assign(keys_of(1))
    with pytest.raises(IndexError):
        table.mark(slots_of(1))
    table.track(False)
    for first, stop in ((0, 2), (-1, 0), (1, 0)):
        with pytest.raises(IndexError, match="are not slots"):
            table.take_changed(first, stop)
