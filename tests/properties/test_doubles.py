"""Doubles from decimal text: the powers of five against exact integers, hard cases against `float`."""

from __future__ import annotations

import math
import re
import struct
from fractions import Fraction
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from velostream.formats.base import formats
from velostream.sql.types import DOUBLE, Field, Schema

HEADER = Path(__file__).parents[2] / "cython_ext" / "fives.h"
SCHEMA = Schema((Field("real", DOUBLE),))


def five(power: int) -> int:
    """The 128 bits that the table has for 5 ** `power`."""
    value = 5 ** abs(power)
    if power < 0:
        return (1 << 127 + value.bit_length()) // value + (power >= -27)
    return value << 128 >> value.bit_length() if value >= 1 << 128 else value << 128 - value.bit_length()


def test_the_powers_of_five_are_the_leading_bits_of_exact_integers() -> None:
    rows = re.findall(r"\{0x([0-9a-f]{16})u, 0x([0-9a-f]{16})u\}", HEADER.read_text(encoding="ascii"))
    assert [int(high + low, 16) for high, low in rows] == [five(power) for power in range(-342, 309)]


def decode(data: bytes) -> list[bytes]:
    """The bits of the column `real`, but for its nulls; records that fail have none."""
    format = formats["ndjson"](formats["ndjson"].Options())
    decoder = format.decoder(SCHEMA, ["real"], format.layout(b""))
    values = decoder.decode(memoryview(data), 0, 1 << 20).batch.column(0).drop_null()
    return [struct.pack("<d", value) for value in values.to_pylist()]


def halfway(bits: int) -> Fraction:
    """The number exactly between the double of these bits and the next larger one."""
    low, high = struct.unpack("<2d", struct.pack("<2Q", bits, bits + 1))
    return (Fraction(low) + Fraction(high)) / 2


def shortened(value: Fraction, digits: int, up: bool) -> str:
    """The number cut to so many significant digits, or the next larger one of as many."""
    power = math.floor(math.log10(value.numerator) - math.log10(value.denominator)) - digits + 1
    scaled = value / Fraction(10) ** power
    return f"{math.floor(scaled) + up}e{power}"


finite = st.integers(0, 0x7FEFFFFFFFFFFFFE)
texts = st.one_of(
    st.builds(lambda digits, power: f"{digits}e{power}", st.integers(0, 10**19 - 1), st.integers(-345, 310)),
    st.builds(shortened, finite.map(halfway), st.integers(12, 19), st.booleans()),
    # Halves and quarters whose digits are all there: ties.
    st.builds(
        lambda digits, tail: f"{digits}.{tail}",
        st.integers(1 << 51, 1 << 54),
        st.sampled_from(["5", "25", "75", "50"]),
    ),
    st.builds(
        lambda odd, shift: str((2 * odd + 1) << shift), st.integers(1 << 52, 1 << 53), st.integers(0, 9)
    ),
    st.builds(
        lambda odd, power: f"{2 * odd + 1}e{power}", st.integers(1 << 52, 1 << 53), st.integers(-5, 24)
    ),
    finite.map(lambda bits: repr(struct.unpack("<d", struct.pack("<Q", bits))[0])),
)


@given(st.lists(st.tuples(st.sampled_from(["", "-"]), texts).map("".join), min_size=1, max_size=50))
@example(["9007199254740993", "9007199254740993e0", "18014398509481988", "18014398509481990e-1"])
@example(["4.9406564584124654e-324", "2.4703282292062328e-324", "2.4703282292062327e-324", "1e-343"])
@example(["2.2250738585072011e-308", "2.2250738585072014e-308", "22250738585072012e-324"])
@example(["1.7976931348623157e308", "1.7976931348623158e308", "17976931348623158e292", "9e308", "1e309"])
@example(["8.988465674311580e307", "5e-324", "7450580596923828125e-27", "1e23", "8.41e21"])
@settings(max_examples=300, deadline=None)
def test_a_double_is_the_nearest_to_its_text(texts: list[str]) -> None:
    data = "".join(f'{{"real":{text}}}\n' for text in texts).encode()
    assert decode(data) == [struct.pack("<d", float(text)) for text in texts if not math.isinf(float(text))]


@given(st.lists(st.from_regex(r"-?(0|[1-9][0-9]{0,16})(\.[0-9]{1,16})?", fullmatch=True), max_size=20))
@settings(max_examples=100, deadline=None)
def test_short_decimals_of_every_length_are_read_by_every_way(texts: list[str]) -> None:
    # In front of many bytes the quick way reads them, at the end of the block the other one.
    data = "".join(f'{{"real":{text}}}\n' for text in texts).encode()
    expected = [struct.pack("<d", float(text)) for text in texts]
    for tail in (b"", b"{}\n" * 40):
        assert decode(data + tail) == expected
