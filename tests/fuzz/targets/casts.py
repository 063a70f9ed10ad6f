"""CAST from text against `decimal`, `float` and `datetime`."""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_UP

import pyarrow as pa

from tests.fuzz.draw import Draw, text_array
from tests.fuzz.numeric import EXACT, Misfit, stored
from tests.fuzz.times import us_of
from velostream.kernels import casts

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BLANKS = " \t\n\v\f\r"


def check(data: bytes) -> None:
    draw = Draw(data)
    lead = draw.number(10)
    precision = 1 + draw.number(38)
    type = pa.decimal128(precision, draw.number(precision + 1))
    texts = draw.texts()
    array = text_array(texts, lead)
    wholes, no_whole = casts.parse_i64(array)
    exacts, no_exact = casts.parse_decimal(array, type)
    reals, no_real = casts.parse_f64(array)
    times, no_time = casts.parse_timestamp(array)
    for result in (wholes, exacts, reals, times):
        result.validate(full=True)
        assert result.null_count == texts.count(None)
    integers, decimals, doubles, instants = (stored(column) for column in (wholes, exacts, reals, times))
    for row, text in enumerate(texts):
        if text is None:
            continue
        whole = rounded(text, 0, 1 << 63)
        assert (whole is None) == (no_whole is not None and bool(no_whole[row])), text
        assert whole is None or integers[row] == whole, text
        unscaled = rounded(text, type.scale, 10**precision)
        assert (unscaled is None) == (no_exact is not None and bool(no_exact[row])), text
        assert unscaled is None or decimals[row] == unscaled, text
        real = real_of(text)
        assert (real is None) == (no_real is not None and bool(no_real[row])), text
        if real is not None and not (math.isnan(real) and math.isnan(doubles[row])):
            assert doubles[row] == real and math.copysign(1, doubles[row]) == math.copysign(1, real), text
        if no_time is None or not no_time[row]:
            try:
                expected = us_of(text.strip(_BLANKS))
            except Misfit:
                # Casts also take 24:00 and other spellings of offsets; their own tests say which.
                continue
            assert instants[row] == expected, text


def rounded(text: str, scale: int, limit: int) -> int | None:
    """The number times 10 ** scale, rounded half away from zero; None when it is none or out of range."""
    text = text.strip(_BLANKS)
    if _NUMBER.fullmatch(text) is None:
        return None
    mantissa, _, exponent = text.lower().partition("e")
    digits = EXACT.create_decimal(mantissa)
    power = int(exponent or 0) + scale
    if digits == 0 or digits.adjusted() + power < -2:
        return 0
    if digits.adjusted() + power > 100:
        return None
    number = int(digits.scaleb(power, EXACT).to_integral_value(ROUND_HALF_UP, EXACT))
    return number if -limit < number < limit or number == -limit == -(1 << 63) else None


def real_of(text: str) -> float | None:
    text = text.strip(_BLANKS)
    if _NUMBER.fullmatch(text) or re.fullmatch(r"[+-]?(inf|infinity|nan)", text, re.ASCII | re.IGNORECASE):
        return float(text)
    return None
