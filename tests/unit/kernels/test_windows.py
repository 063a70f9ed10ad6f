import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velostream.kernels import judge_late, tumble_start

LEAST, MOST = -(2**63), 2**63 - 1
times = st.integers(-300, 300) | st.integers(LEAST, MOST) | st.sampled_from([LEAST, MOST, LEAST + 1])


def int64s(values):
    return np.array(values, dtype=np.int64)


@settings(max_examples=100, deadline=None)
@given(st.lists(times, max_size=66), st.integers(1, 100) | st.sampled_from([3_600_000_000, MOST]))
def test_a_window_starts_at_the_multiple_of_its_size_below_the_time(values, size):
    expected = [max(LEAST, value // size * size) for value in values]
    assert tumble_start(pa.array(values, pa.int64()), size).tolist() == expected


def test_windows_before_1970_are_half_open_too():
    array = pa.array([-1, -60, -61, 0, 59, 60], pa.timestamp("us"))
    assert tumble_start(array, 60).tolist() == [-60, -60, -120, 0, 0, 60]


def test_slices_and_selected_rows_are_followed():
    array = pa.array([5, 15, 25, 35], pa.timestamp("us")).slice(1)
    assert tumble_start(array, 10).tolist() == [10, 20, 30]
    assert tumble_start(array, 10, np.array([2, 0], dtype=np.int32)).tolist() == [30, 10]
    assert tumble_start(array, 10, np.array([], dtype=np.int32)).tolist() == []


def saturate(value):
    return min(MOST, max(LEAST, value))


def judge_naively(values, seen, disorder, allowed, size, valid):
    late = []
    for value, counts in zip(values, valid, strict=True):
        watermark = saturate(seen - disorder)
        end = value // size * size + size
        late.append(counts and seen > LEAST and end <= saturate(watermark - allowed))
        if counts:
            seen = max(seen, value)
    return late, seen


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(times, st.booleans()), max_size=70),
    st.just(LEAST) | times,
    st.integers(0, 200) | st.integers(0, MOST),
    st.integers(0, 100) | st.integers(0, MOST),
    st.integers(1, 100),
    st.integers(0, 70),
)
def test_a_row_is_late_by_the_rows_before_it_wherever_the_block_is_cut(
    rows, seen, disorder, allowed, size, cut
):
    values = [row[0] for row in rows]
    valid = [row[1] for row in rows]
    expected, most = judge_naively(values, seen, disorder, allowed, size, valid)
    got, at = [], seen
    for part in (slice(0, cut), slice(cut, None)):
        mask, at = judge_late(
            int64s(values[part]), at, disorder, allowed, size, np.array(valid[part], dtype=np.bool_)
        )
        assert mask is None or mask.any()
        got += [False] * len(values[part]) if mask is None else mask.tolist()
    assert (got, at) == (expected, most)


def test_a_row_whose_window_ends_at_the_watermark_is_late_and_one_microsecond_later_is_not():
    mask, seen = judge_late(int64s([110, 99, 100]), LEAST, 10, 0, 100)
    assert mask.tolist() == [False, True, False] and seen == 110
    mask, seen = judge_late(int64s([109, 99]), LEAST, 10, 0, 100)
    assert mask is None and seen == 109
    mask, seen = judge_late(int64s([110, 99]), LEAST, 10, 1, 100)
    assert mask is None and seen == 110


def test_nothing_is_late_when_nothing_was_seen():
    assert judge_late(int64s([]), LEAST, 0, 0, 1) == (None, LEAST)
    assert judge_late(int64s([LEAST, 5]), LEAST, 0, 0, 1) == (None, 5)


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="a window of 0 microseconds"):
        tumble_start(pa.array([1]), 0)
    with pytest.raises(TypeError, match="expected times, got string"):
        tumble_start(pa.array(["1"]), 1)
    with pytest.raises(ValueError, match="cannot be negative"):
        judge_late(int64s([1]), LEAST, -1, 0, 1)
    with pytest.raises(ValueError, match="1 flags for 2 rows"):
        judge_late(int64s([1, 2]), LEAST, 0, 0, 1, np.array([True]))
