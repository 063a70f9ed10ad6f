"""CAST: what converts to what, and how.

As DuckDB 2.0 does it, unless said otherwise beside the conversion.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from velostream.kernels import arithmetic
from velostream.sql.functions.rules import as_decimal, is_integer
from velostream.sql.functions.values import mask_of, null_where

Mask = npt.NDArray[np.bool_]


def cast(values: Any, source: pa.DataType, target: pa.DataType) -> tuple[pa.Array, Mask | None]:
    """`values` (an array of `source`) as `target`, and the rows that do not fit, None when all do."""
    if pa.types.is_null(source):
        return pa.nulls(len(values), target), None
    if is_integer(source) and is_integer(target):
        return _integer_to_integer(values, target)
    if is_integer(source) and pa.types.is_decimal(target):
        return arithmetic.rescale_decimal(pc.cast(values, as_decimal(source)), target)
    if pa.types.is_decimal(source) and pa.types.is_decimal(target):
        return arithmetic.rescale_decimal(values, target)
    return pc.cast(values, target, safe=False), None


def _integer_to_integer(values: pa.Array, target: pa.DataType) -> tuple[pa.Array, Mask | None]:
    if target.bit_width >= values.type.bit_width:
        return pc.cast(values, target), None
    limits = np.iinfo(target.to_pandas_dtype())
    outside = pc.or_(pc.less(values, int(limits.min)), pc.greater(values, int(limits.max)))
    mask = mask_of(outside, len(values))
    if not mask.any():
        return pc.cast(values, target), None
    return pc.cast(null_where(values, mask), target), mask
