"""Text kernels against regular expressions and DuckDB."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets.like import matches
from velostream.kernels import like, text

words = st.text("ab%_#é語\\", max_size=7)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(words, words), min_size=1, max_size=5), st.sampled_from(["", "#", "%", "_", "é", "a"])
)
def test_like_is_its_regular_expression(rows: list[tuple[str, str]], escape: str) -> None:
    values, patterns = [value for value, _ in rows], [pattern for _, pattern in rows]
    result, flags = like.match_like(pa.array(values), pa.array(patterns), escape.encode())
    for row, (value, pattern) in enumerate(rows):
        expected = matches(value, pattern, escape)
        assert (flags is not None and bool(flags[row])) == (expected is None)
        if expected is not None:
            assert result[row].as_py() == expected, (value, pattern, escape)
            constant, _ = like.match_like(pa.array([value]), pa.scalar(pattern), escape.encode())
            assert constant[0].as_py() == expected


def test_like_takes_time_in_proportion_on_hostile_patterns() -> None:
    value, pattern = "a" * 20_000, "%a" * 50 + "b"
    result, _ = like.match_like(pa.array([value]), pa.scalar(pattern), b"")
    assert result.to_pylist() == [False]


POSITIONS = [0, 1, -1, 2, -2, 3, 5, -5, 6, 7, -7, 100, -100, 2**31 - 1, -(2**31) + 1]


def test_parts_of_text_are_those_of_duckdb() -> None:
    values = ["", "a", "hello", "héllo", "語言é"]
    rows = [(value, first, count) for value in values for first in POSITIONS for count in POSITIONS]
    columns = pa.table(
        {
            "s": pa.array([value for value, _, _ in rows]),
            "p": pa.array([first for _, first, _ in rows], pa.int64()),
            "n": pa.array([count for _, _, count in rows], pa.int64()),
        }
    )
    s, p, n = (columns.column(name).combine_chunks() for name in ("s", "p", "n"))
    ours = zip(
        text.substring(s, p, n).to_pylist(),
        text.left(s, p).to_pylist(),
        text.right(s, p).to_pylist(),
        strict=True,
    )
    theirs = duckdb.from_arrow(columns).project("substring(s, p, n), left(s, p), right(s, p)").fetchall()
    assert list(ours) == theirs


def test_the_extremes_of_bigint_are_positions_too() -> None:
    low, high = -(2**63), 2**63 - 1
    values = pa.array(["héllo"] * 4)
    firsts, counts = pa.array([1, low, high, low]), pa.array([high, high, low, low])
    assert text.substring(values, firsts, counts).to_pylist() == ["héllo", "héll", "héllo", ""]
    assert text.left(values, pa.array([low, high, 1, 0])).to_pylist() == ["", "héllo", "h", ""]
    assert text.right(values, pa.array([low, high, 1, 0])).to_pylist() == ["", "héllo", "o", ""]


@settings(max_examples=100, deadline=None)
@given(words, st.text("ab%é", max_size=2), words)
def test_searching_and_replacing_is_pythons(value: str, part: str, new: str) -> None:
    values, parts = pa.array([value]), pa.array([part])
    assert text.find_text(values, parts)[0].as_py() == value.find(part) + 1
    assert text.starts_with(values, parts)[0].as_py() == value.startswith(part)
    assert text.ends_with(values, parts)[0].as_py() == value.endswith(part)
    expected = value if part == "" else value.replace(part, new)
    assert text.replace(values, parts, pa.scalar(new))[0].as_py() == expected


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65])
def test_nulls_and_slices_are_kept(n: int) -> None:
    values = pa.array([None, "x"] + [None if i % 3 else "abc" for i in range(n)]).slice(2)
    expected = [None if i % 3 else "b" for i in range(n)]
    assert text.substring(values, pa.scalar(2), pa.scalar(1)).to_pylist() == expected
    assert text.substring(values, pa.scalar(2), pa.scalar(None, pa.int64())).to_pylist() == [None] * n
    found = text.replace(values, pa.scalar("a"), pa.scalar("aa"))
    found.validate(full=True)
    assert found.to_pylist() == [None if i % 3 else "aabc" for i in range(n)]


@pytest.mark.parametrize("wanted", ["", "a", "abcdefg", "abcdefgh", "abcdefghi", "é" * 20])
def test_text_equals_a_constant_byte_by_byte(wanted: str) -> None:
    near = [wanted, wanted + "a", wanted[:-1], wanted[:-1] + "b", "b" + wanted[1:], "", "abcdefgh" * 3]
    for n in (0, 1, 7, 8, 9, 65):
        values = [None if k % 11 == 5 else near[k % len(near)] for k in range(n + 2)]
        found = text.equal_text(pa.array(values, pa.string()).slice(2), pa.scalar(wanted))
        found.validate(full=True)
        assert found.to_pylist() == [None if value is None else value == wanted for value in values[2:]]
    assert text.equal_text(pa.array(["", ""]), pa.scalar(wanted)).to_pylist() == [wanted == ""] * 2
    unknown = pa.scalar(None, pa.string())
    assert text.equal_text(pa.array(["a", None]), unknown).to_pylist() == [None, None]
