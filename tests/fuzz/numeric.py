"""What the text of a number is in each type, by Python's `float` and `decimal`."""

from __future__ import annotations

import math
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa

from velostream.sql.types import TIMESTAMP

EXACT = Context(prec=100_000, Emin=-(10**9), Emax=10**9, traps=[])
# Numbers beyond are decided by their magnitude.
_FAR = 1000


class Misfit(Exception):
    """The value does not fit its column."""


def number_of(text: str, type: pa.DataType, places: int = 3) -> Any:
    """The value of a column for a number's text, `places` being the unit of epoch numbers: 10 ** places us.

    Integers and decimals as int (unscaled), DOUBLE as float, TIMESTAMP as us, DATE as days. Raises Misfit.
    """
    if pa.types.is_date(type):
        return number_of(text, TIMESTAMP, places) // 86_400_000_000
    if pa.types.is_float64(type):
        value = float(text)
        if math.isinf(value):
            raise Misfit
        return value
    if pa.types.is_boolean(type):
        raise Misfit
    mantissa, _, exponent = text.lower().partition("e")
    digits = EXACT.create_decimal(mantissa)
    power = int(exponent or 0)
    if digits == 0:
        return 0
    if pa.types.is_timestamp(type):
        power += places
    elif pa.types.is_decimal(type):
        power += type.scale
    magnitude = digits.adjusted() + power
    if magnitude > _FAR:
        raise Misfit
    if magnitude < -_FAR:
        if pa.types.is_timestamp(type):
            return -1 if digits < 0 else 0
        raise Misfit
    value = digits.scaleb(power, EXACT)
    if pa.types.is_timestamp(type):
        number = math.floor(value)
        if not -(1 << 63) < number < 1 << 63:
            raise Misfit
        return number
    if value != value.to_integral_value():
        raise Misfit
    number = int(value)
    limit = 10**type.precision if pa.types.is_decimal(type) else 1 << (type.bit_width - 1)
    if pa.types.is_decimal(type) and abs(number) >= limit:
        raise Misfit
    if pa.types.is_integer(type) and not -limit <= number < limit:
        raise Misfit
    return number


def stored(array: pa.Array) -> list[Any]:
    """The values of an array as `number_of` gives them; texts and truths as they are, dates as days."""
    type = array.type
    if pa.types.is_timestamp(type):
        return array.cast(pa.int64()).to_pylist()
    if pa.types.is_date32(type):
        return array.cast(pa.int32()).to_pylist()
    if pa.types.is_decimal(type):
        return [
            None if value is None else int(Decimal(value).scaleb(type.scale, EXACT))
            for value in array.to_pylist()
        ]
    return array.to_pylist()
