import math
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velostream.kernels import KEY_HASH_VERSION, KeyEncoder


def hashes(type, values):
    return KeyEncoder([type]).encode([pa.array(values, type)]).hashes.tolist()


def test_the_hash_of_version_1_stays_what_it_is():
    assert KEY_HASH_VERSION == 1
    assert (
        hashes(pa.string(), ["", "a", "abc", "AAPL", "12345678", "a key of 18 bytes.", None]) == GOLDEN_TEXTS
    )
    assert hashes(pa.int64(), [0, 1, -1, None]) == GOLDEN_INTS


GOLDEN_TEXTS = [
    0x14085FA829B6B620,
    0x0882A8679AA5E0B3,
    0x742D6A7DEEE8FDA8,
    0x28F58146F11B0FBC,
    0x2649358D1CA6DEC6,
    0x1547C77E949E42EA,
    0xD891653D7FF06D5B,
]
GOLDEN_INTS = [
    0x45063C4E3D7E8823,
    0x00078C827B8F8B90,
    0xE586A76A7B2D4CE4,
    0xD891653D7FF06D5B,
]


@pytest.mark.parametrize("type", [pa.int8(), pa.int16(), pa.int32()])
def test_an_integer_hashes_the_same_in_every_width(type):
    assert hashes(type, [-5, 0, 7, None]) == hashes(pa.int64(), [-5, 0, 7, None])


def test_equal_decimals_of_different_scale_hash_the_same():
    values = [Decimal("1.5"), Decimal("-120"), Decimal("0"), Decimal("99999999.9")]
    narrow = hashes(pa.decimal128(9, 1), values)
    assert narrow == hashes(pa.decimal128(18, 6), values) == hashes(pa.decimal128(38, 20), values)
    assert len(set(narrow)) == 4


def test_negative_zero_is_zero_and_all_nans_are_one():
    plus, minus, nan, other = hashes(pa.float64(), [0.0, -0.0, math.nan, -math.nan])
    assert plus == minus and nan == other and plus != nan


def test_null_and_the_empty_text_and_zero_are_different_keys():
    assert len(set(hashes(pa.string(), ["", None, "\0"]))) == 3
    assert len(set(hashes(pa.int64(), [0, None]))) == 2


def test_the_columns_of_a_text_key_do_not_run_into_each_other():
    keys = KeyEncoder([pa.string(), pa.string()]).encode(
        [pa.array(["ab", "a", "", "abc", None, ""]), pa.array(["c", "bc", "abc", "", "", None])]
    )
    assert len(set(keys.hashes.tolist())) == 6


def test_a_row_hashes_the_same_within_a_slice():
    columns = [
        pa.array([None, "a", None, "bcd", "e"]),
        pa.array([1, None, 3, 4, None], pa.int32()),
        pa.array([True, None, False, None, True]),
        pa.array([date(1969, 12, 31)] * 4 + [None]),
        pa.array([Decimal("1.10"), None, Decimal("7.00"), Decimal("0.01"), Decimal("1.1")]),
        pa.array([None, 1.5, -0.0, 0.0, math.nan]),
        pa.array([datetime(1960, 1, 1), None, None, datetime(2020, 1, 1), None], pa.timestamp("us")),
    ]
    for chosen in (columns, *[[column] for column in columns]):
        encoder = KeyEncoder([column.type for column in chosen])
        whole = encoder.encode(chosen).hashes.tolist()
        assert encoder.encode([column.slice(2) for column in chosen]).hashes.tolist() == whole[2:]
        assert encoder.encode([column.slice(1, 3) for column in chosen]).hashes.tolist() == whole[1:4]


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65])
@pytest.mark.parametrize("lanes", [1, 2, 3, 128])
def test_lanes_share_the_rows_by_key_group_in_order(n, lanes):
    keys = KeyEncoder([pa.int64()]).encode([pa.array(range(n), pa.int64())])
    expected = [[] for _ in range(lanes)]
    for row, value in enumerate(keys.hashes.tolist()):
        expected[value % 128 * lanes // 128].append(row)
    parts = keys.partition(lanes, 128)
    assert [[] if part is None else part.tolist() for part in parts] == expected
    assert all(part is None or (part.dtype == np.int32 and len(part)) for part in parts)


def test_key_groups_need_not_be_a_power_of_two():
    keys = KeyEncoder([pa.int64()]).encode([pa.array(range(1000))])
    parts = keys.partition(3, 10)
    for lane, part in enumerate(parts):
        assert {int(keys.hashes[row]) % 10 * 3 // 10 for row in part} == {lane}


def test_without_key_columns_all_rows_go_to_the_first_lane():
    keys = KeyEncoder([]).encode([], 5)
    assert [None if part is None else part.tolist() for part in keys.partition(3, 128)] == [
        [0, 1, 2, 3, 4],
        None,
        None,
    ]


def test_dense_integers_and_short_texts_spread_evenly():
    for array in (pa.array(range(128_000)), pa.array([f"S{i}" for i in range(128_000)])):
        counts = np.bincount(KeyEncoder([array.type]).encode([array]).hashes % np.uint64(128), minlength=128)
        # 1,000 expected in each; the deviation of a fair hash is 31.
        assert 800 < counts.min() and counts.max() < 1200


def test_one_flipped_bit_flips_half_of_the_hash():
    base = np.arange(1, 1001, dtype=np.int64)
    before = KeyEncoder([pa.int64()]).encode([pa.array(base)]).hashes
    for bit in range(63):
        after = KeyEncoder([pa.int64()]).encode([pa.array(base ^ (1 << bit))]).hashes
        flipped = np.unpackbits((before ^ after).view(np.uint8)).mean()
        assert 0.48 < flipped < 0.52


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=40), unique=True, max_size=50))
def test_different_texts_hash_differently(texts):
    assert len(set(hashes(pa.string(), texts))) == len(texts)


def test_columns_that_do_not_fit_are_refused():
    encoder = KeyEncoder([pa.int64(), pa.string()])
    with pytest.raises(ValueError, match="expected 2 key columns, got 1"):
        encoder.encode([pa.array([1])])
    with pytest.raises(ValueError, match="expected a key column of type string, got int64"):
        encoder.encode([pa.array([1]), pa.array([1])])
    with pytest.raises(ValueError, match="differ in length"):
        encoder.encode([pa.array([1]), pa.array(["a", "b"])])
    with pytest.raises(TypeError, match="no key has columns of type list"):
        KeyEncoder([pa.list_(pa.int64())])
    with pytest.raises(ValueError, match="4 lanes cannot share 2 key groups"):
        KeyEncoder([]).encode([], 1).partition(4, 2)
