"""CAST: how values of one type become another's.

As DuckDB 2.0 converts them, except that text with a time zone is converted to UTC, that a number's text takes
neither `_` nor `0x`, and that DECIMAL below 1 is always written with the zero before the point.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from velostream.errors import InternalError
from velostream.kernels import arithmetic, casts
from velostream.sql.functions.dates import beyond_calendar
from velostream.sql.functions.rules import as_decimal, is_integer
from velostream.sql.functions.values import mask_of, null_where, scalar
from velostream.sql.types import BIGINT, BOOLEAN, DATE, DOUBLE, TIMESTAMP, VARCHAR

Mask = npt.NDArray[np.bool_]
Converted = tuple[Any, Mask | None]
Conversion = Callable[[Any], Converted]

_MICROSECONDS_A_DAY = 86_400_000_000


def conversion(source: pa.DataType, target: pa.DataType) -> Conversion:
    """The conversion of arrays of `source` to `target`: to an array, and the rows that do not fit or None.

    The binder allows no other pair than these; InternalError for one that is not known.
    """
    if pa.types.is_null(source):
        return lambda values: (pa.nulls(len(values), target), None)
    if target == VARCHAR:
        return _to_text(source)
    if source == VARCHAR:
        return _from_text(target)
    if source in (DATE, TIMESTAMP) and target in (DATE, TIMESTAMP):
        return _date_to_timestamp if target == TIMESTAMP else _exactly(lambda values: pc.cast(values, DATE))
    found = _between_numbers(source, target)
    if found is None:
        raise InternalError(f"no conversion from {source} to {target}")
    return found


def _exactly(convert: Callable[[Any], Any]) -> Conversion:
    """A conversion that fits every value."""
    return lambda values: (convert(values), None)


def _then(first: Conversion, second: Conversion) -> Conversion:
    """One conversion after the other."""

    def convert(values: Any) -> Converted:
        middle, failed = first(values)
        result, failed_too = second(null_where(middle, failed))
        if failed is None or failed_too is None:
            return result, failed if failed_too is None else failed_too
        return result, failed | failed_too

    return convert


# --- numbers and BOOLEAN ------------------------------------------------------------------------------


def _between_numbers(source: pa.DataType, target: pa.DataType) -> Conversion | None:
    if BOOLEAN in (source, target):
        return _with_boolean(source, target)
    if is_integer(source):
        if is_integer(target):
            return _narrow(source, target)
        if target == DOUBLE:
            return _exactly(lambda values: pc.cast(values, DOUBLE, safe=False))
        if pa.types.is_decimal(target):
            whole = as_decimal(source)
            if target == whole:
                return _exactly(lambda values: pc.cast(values, whole))
            return lambda values: arithmetic.rescale_decimal(pc.cast(values, whole), target)
    if is_integer(target):
        wide = _wide_integer(source)
        return wide if wide is None or target == BIGINT else _then(wide, _narrow(BIGINT, target))
    if pa.types.is_decimal(source):
        if pa.types.is_decimal(target):
            return lambda values: arithmetic.rescale_decimal(values, target)
        if target == DOUBLE:
            return _exactly(casts.decimal_to_f64)
    if source == DOUBLE and pa.types.is_decimal(target):
        return lambda values: casts.f64_to_decimal(values, target)
    return None


def _wide_integer(source: pa.DataType) -> Conversion | None:
    """DOUBLE or DECIMAL to BIGINT."""
    if source == DOUBLE:
        return casts.f64_to_i64
    if not pa.types.is_decimal(source):
        return None
    # One digit more than it has, for 9.5 to become 10; 38 digits without a scale are themselves.
    whole = pa.decimal128(min(source.precision - source.scale + 1, 38), 0)
    return _then(lambda values: arithmetic.rescale_decimal(values, whole), casts.decimal_to_i64)


def _narrow(source: pa.DataType, target: pa.DataType) -> Conversion:
    """An integer type to another."""
    if target.bit_width >= source.bit_width:
        return _exactly(lambda values: pc.cast(values, target))
    limits = np.iinfo(target.to_pandas_dtype())
    low, high = pa.scalar(int(limits.min), source), pa.scalar(int(limits.max), source)

    def convert(values: Any) -> Converted:
        mask = mask_of(pc.or_(pc.less(values, low), pc.greater(values, high)), len(values))
        failed = mask if mask.any() else None
        return pc.cast(null_where(values, failed), target), failed

    return convert


def _with_boolean(source: pa.DataType, target: pa.DataType) -> Conversion | None:
    if target == BOOLEAN and (is_integer(source) or source == DOUBLE or pa.types.is_decimal(source)):
        zero = pa.scalar(0, BIGINT).cast(source)
        return _exactly(lambda values: pc.not_equal(values, zero))
    if is_integer(target) or target == DOUBLE:
        return _exactly(lambda values: pc.cast(values, target))
    if pa.types.is_decimal(target):
        return _then(_exactly(lambda values: pc.cast(values, BIGINT)), _required(BIGINT, target))
    return None


def _required(source: pa.DataType, target: pa.DataType) -> Conversion:
    found = _between_numbers(source, target)
    if found is None:
        raise InternalError(f"no conversion from {source} to {target}")
    return found


# --- text ---------------------------------------------------------------------------------------------


def _to_text(source: pa.DataType) -> Conversion:
    if pa.types.is_decimal(source):
        return _exactly(casts.format_decimal)
    if source == DOUBLE:
        # Arrow finds the shortest digits; the spelling of the exponent and of whole numbers is ours.
        return _exactly(lambda values: casts.spell_f64(pc.cast(values, VARCHAR)))
    if source == TIMESTAMP:
        return _timestamp_to_text
    return _exactly(lambda values: pc.cast(values, VARCHAR))


def _timestamp_to_text(values: Any) -> Converted:
    """`YYYY-MM-DD HH:MM:SS`, and the microseconds without zeros at their end where there are any."""
    beyond = beyond_calendar(values)
    text = pc.cast(null_where(values, beyond), VARCHAR)
    return pc.utf8_rtrim(pc.utf8_rtrim(text, "0"), "."), beyond


def _from_text(target: pa.DataType) -> Conversion:
    if pa.types.is_decimal(target):
        return lambda values: casts.parse_decimal(values, target)
    if target == DOUBLE:
        return casts.parse_f64
    if target == TIMESTAMP:
        return casts.parse_timestamp
    if target == DATE:
        return _then(casts.parse_timestamp, _exactly(lambda values: pc.cast(values, DATE)))
    if target == BOOLEAN:
        return _text_to_boolean
    return casts.parse_i64 if target == BIGINT else _then(casts.parse_i64, _narrow(BIGINT, target))


_TRUE = ("true", "t", "yes", "y", "1")
_FALSE = ("false", "f", "no", "n", "0")


@cache
def _words(words: tuple[str, ...]) -> pa.Array:
    """The words as an array, made at first use: `pa.array` imports pandas where there is one (0.2 s)."""
    return pa.array(words)


def _text_to_boolean(values: Any) -> Converted:
    lower = pc.ascii_lower(values)
    true = pc.is_in(lower, value_set=_words(_TRUE))
    false = pc.is_in(lower, value_set=_words(_FALSE))
    known = pc.or_(true, false)
    mask = mask_of(pc.and_(pc.invert(known), pc.is_valid(values)), len(values))
    return pc.if_else(known, true, pa.scalar(None, BOOLEAN)), mask if mask.any() else None


# --- DATE and TIMESTAMP -------------------------------------------------------------------------------

_FIRST_DAY = scalar(-(2**63) // _MICROSECONDS_A_DAY + 1, pa.int32())
_LAST_DAY = scalar((2**63 - 1) // _MICROSECONDS_A_DAY, pa.int32())


def _date_to_timestamp(values: Any) -> Converted:
    """The start of the day; years beyond 294246 have no TIMESTAMP."""
    days = values.view(pa.int32())
    outside = mask_of(pc.or_(pc.less(days, _FIRST_DAY), pc.greater(days, _LAST_DAY)), len(values))
    failed = outside if outside.any() else None
    return pc.cast(null_where(values, failed), TIMESTAMP), failed
