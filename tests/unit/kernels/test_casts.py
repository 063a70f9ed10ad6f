"""Text of numbers and times against Python's own."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velostream.kernels import casts

digits = st.text("0123456789", max_size=25)
numbers = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "-", "+", " ", "\t-"]),
    digits,
    st.sampled_from(["", "."]),
    digits,
    st.sampled_from(["", "", "e", "e5", "E-3", "e+30", "e-400", "e400", " ", "x", "e99999999999999999999"]),
)


def exact(text: str, scale: int) -> int | None:
    """The unscaled value that the text means, None when it is no number."""
    text = text.strip(" \t\n\v\f\r")
    if not text or text[-1] in "eE+-" or "_" in text:
        return None
    try:
        with localcontext(prec=2000, Emax=999_999, Emin=-999_999) as context:
            context.traps = dict.fromkeys(context.traps, False)
            value = Decimal(text)
            if not value.is_finite():
                return None if value.is_nan() else 10**40
            if abs(value) > Decimal(10) ** 60:
                return 10**60
            return int((value.scaleb(scale)).to_integral_value(ROUND_HALF_UP))
    except ArithmeticError:
        return None


@settings(max_examples=150, deadline=None)
@given(numbers)
def test_text_becomes_exact_numbers_or_is_flagged(text: str) -> None:
    plain = text if "e9999" not in text else text.replace("e99999999999999999999", "e99999")
    for scale, limit in ((0, 10**38), (4, 10**38), (2, 10**5)):
        precision = len(str(limit)) - 1
        result, flags = casts.parse_decimal(pa.array([text]), pa.decimal128(precision, scale))
        value = exact(plain, scale)
        fits = value is not None and abs(value) < limit
        assert (flags is None) == fits, text
        if fits:
            assert result[0].as_py() == Decimal((value < 0, tuple(map(int, str(abs(value)))), -scale))
    result, flags = casts.parse_i64(pa.array([text]))
    value = exact(plain, 0)
    fits = value is not None and -(2**63) <= value < 2**63
    assert (flags is None) == fits
    if fits:
        assert result[0].as_py() == value


@settings(max_examples=150, deadline=None)
@given(numbers | st.floats(allow_nan=False).map(repr) | st.floats(allow_nan=False).map("{:.25e}".format))
def test_text_becomes_the_nearest_double_as_in_python(text: str) -> None:
    result, flags = casts.parse_f64(pa.array([text]))
    try:
        expected = float(text)
    except ValueError:
        assert flags is not None
        return
    assert flags is None, text
    assert math.copysign(1, result[0].as_py()) == math.copysign(1, expected)
    assert result[0].as_py() == expected


def test_a_thousand_digits_are_rounded_by_the_last() -> None:
    half = "9007199254740993"  # between two doubles; ties go to even, a digit anywhere behind goes up
    texts = [half, half + "." + "0" * 900 + "1", half + "." + "0" * 900]
    result, flags = casts.parse_f64(pa.array(texts))
    assert (result.to_pylist(), flags) == ([float(text) for text in texts], None)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.none() | st.floats(), max_size=20))
def test_doubles_are_written_as_python_writes_them(values: list[float | None]) -> None:
    column = pa.array(values, pa.float64())
    written = casts.spell_f64(pc.cast(column, pa.string()))
    written.validate(full=True)
    assert written.to_pylist() == [None if value is None else repr(value) for value in values]


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(-999, 999), st.integers(0, 38))
def test_decimals_are_written_plainly(unscaled: int, scale: int) -> None:
    value = Decimal((unscaled < 0, tuple(map(int, str(abs(unscaled)))), -scale))
    column = pa.array([value, None, value], pa.decimal128(38, scale)).slice(1)
    expected = f"{abs(value):f}" if unscaled == 0 else f"{value:f}"
    assert casts.format_decimal(column).to_pylist() == [None, expected]
    parsed, flags = casts.parse_decimal(pa.array([expected]), pa.decimal128(38, scale))
    assert (parsed[0].as_py(), flags) == (value, None)


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(-(2**55), 2**55), st.integers(0, 38))
def test_decimals_become_the_nearest_double(unscaled: int, scale: int) -> None:
    value = Decimal((unscaled < 0, tuple(map(int, str(abs(unscaled)))), -scale))
    assert casts.decimal_to_f64(pa.array([value], pa.decimal128(38, scale)))[0].as_py() == float(value)


@settings(max_examples=100, deadline=None)
@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), st.sampled_from([None, 0, 90, -330]))
def test_iso_text_becomes_a_timestamp_in_utc(time: datetime, offset: int | None) -> None:
    text = time.isoformat()
    if offset is not None:
        sign = "-" if offset < 0 else "+"
        text += "Z" if offset == 0 else f"{sign}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    result, flags = casts.parse_timestamp(pa.array([text]))
    expected = (time - datetime(1970, 1, 1) - timedelta(minutes=offset or 0)) // timedelta(microseconds=1)
    assert (result.cast(pa.int64())[0].as_py(), flags) == (expected, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024",
        "2024-13-01",
        "2023-02-29",
        "1900-02-29",
        "2024-01-00",
        "2024-01-02x",
        "2024-01-02T",
        "0000-01-01",
        "2024-01-02 03",
        "2024-01-02 03:04:",
        "2024-01-02 03:60",
        "2024-01-02 24:00:01",
        "2024-01-02 03:04:05.",
        "2024-01-02 03:04:05+",
        "2024-01-02 03:04:05+2",
        "2024-01-02 03:04:05Zx",
        "2024-01-02 03:04:05+16:00",
        "24-01-02",
        "2024/01/02",
        "٢٠٢٤-01-02",
        "2024-01-02 03:04:05+02:3",
    ],
)
def test_text_that_is_no_timestamp_is_flagged(text: str) -> None:
    _, flags = casts.parse_timestamp(pa.array([text, None, "2024-02-29 24:00"]))
    assert flags is not None
    assert flags.tolist() == [True, False, False]
