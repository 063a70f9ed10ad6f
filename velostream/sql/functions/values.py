"""Small operations on the values that implementations share: constants, NULL and Kleene masks."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from velostream.sql.functions.registry import Mask, Value
from velostream.sql.types import BIGINT, BOOLEAN, DOUBLE, VARCHAR

# How a value stands in an Arrow buffer.
_LAYOUTS = {BIGINT: "=q", pa.int32(): "=i", DOUBLE: "=d", BOOLEAN: "=?"}


def scalar(value: object, type: pa.DataType) -> pa.Scalar:
    """A constant, as `pa.scalar` makes it; but that imports pandas where there is one (0.2 s of a start)."""
    if value is None:
        return pa.nulls(1, type)[0]
    if type in _LAYOUTS:
        buffers = [None, pa.py_buffer(struct.pack(_LAYOUTS[type], value))]
    elif type == VARCHAR and isinstance(value, str):
        data = value.encode()
        buffers = [None, pa.py_buffer(struct.pack("=2i", 0, len(data))), pa.py_buffer(data)]
    else:
        return pa.scalar(value, type)
    return pa.Array.from_buffers(type, 1, buffers)[0]


def as_array(value: Value, rows: int) -> pa.Array:
    """The value for each row, a constant repeated."""
    return pa.repeat(value, rows) if isinstance(value, pa.Scalar) else value


def mask_of(condition: Value, rows: int) -> Mask:
    """Where a BOOLEAN is TRUE, as a numpy array."""
    known: Mask = pc.fill_null(as_array(condition, rows), False).to_numpy(zero_copy_only=False)
    return known


def null_where(values: pa.Array, mask: Mask | None) -> pa.Array:
    """`values` with NULL in the rows of `mask`; unchanged for None."""
    if mask is None:
        return values
    return pc.if_else(pa.array(mask), pa.scalar(None, values.type), values)


def valid_mask(value: Value, rows: int) -> Mask:
    """Where a value is not NULL, as a numpy array."""
    if isinstance(value, pa.Scalar):
        return np.full(rows, value.is_valid)
    valid: Mask = pc.is_valid(value).to_numpy(zero_copy_only=False)
    return valid


def rows_of(values: Sequence[Value]) -> int:
    """The rows of arguments: the length of the first array, 1 when all are constants."""
    return next((len(value) for value in values if isinstance(value, pa.Array)), 1)
