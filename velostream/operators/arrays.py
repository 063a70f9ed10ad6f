"""Between numpy and Arrow for arrays without NULLs: the same memory, no copy.

Not by `pa.array` and `to_numpy`: the first of them in a process imports pandas where there is one (0.2 s),
while records wait.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def fixed(values: npt.NDArray[Any], type: pa.DataType) -> pa.Array:
    """Values of the width of `type` (not BOOLEAN) as an array of it; `values` must not change any more."""
    return pa.Array.from_buffers(type, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def mask(chosen: npt.NDArray[np.bool_]) -> pa.Array:
    """A BOOLEAN array, for `filter`; this one is a copy, a bit a row."""
    return pa.Array.from_buffers(
        pa.bool_(), len(chosen), [None, pa.py_buffer(np.packbits(chosen, bitorder="little"))]
    )


def value_at(column: pa.Array, row: int) -> object:
    """A value as Python's, for a person; a time beyond Python's calendar (the years 1 to 9999) as text."""
    scalar = column[row]
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        unit = "days" if pa.types.is_date(column.type) else "µs"
        return f"{scalar.value} {unit} since 1970"


def int64s(column: pa.Array) -> npt.NDArray[np.int64]:
    """The values of a BIGINT, or the microseconds of a TIMESTAMP; what stands at NULLs means nothing."""
    values = column.buffers()[1]
    if values is None or not len(column):
        return np.empty(0, dtype=np.int64)
    whole = np.frombuffer(values, dtype=np.int64, count=column.offset + len(column))
    return whole[column.offset :]


def uint8s(column: pa.Array) -> npt.NDArray[np.uint8]:
    """The values of an array of uint8; what stands at NULLs means nothing."""
    values = column.buffers()[1]
    if values is None or not len(column):
        return np.empty(0, dtype=np.uint8)
    whole = np.frombuffer(values, dtype=np.uint8, count=column.offset + len(column))
    return whole[column.offset :]
