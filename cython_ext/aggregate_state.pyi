from typing import Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_Slots = npt.NDArray[np.int32]
_Result = tuple[pa.Array, npt.NDArray[np.bool_] | None]

def select_rows(
    n: int,
    rows: npt.NDArray[np.int32] | None = None,
    values: pa.Array | None = None,
    filter: pa.Array | None = None,
) -> npt.NDArray[np.int32] | None: ...
def change_ops(
    slots: _Slots,
    failed: npt.NDArray[np.bool_] | None,
    passes: npt.NDArray[np.bool_] | None,
    sent: npt.NDArray[np.uint8],
) -> npt.NDArray[np.uint8]: ...

class State:
    @property
    def nbytes(self) -> int: ...
    def reserve(self, count: int) -> None: ...
    def update(
        self, slots: _Slots, rows: npt.NDArray[np.int32] | None = None, values: pa.Array | None = None
    ) -> None: ...
    def trace(
        self,
        slots: _Slots,
        rows: npt.NDArray[np.int32] | None = None,
        values: pa.Array | None = None,
        positions: npt.NDArray[np.int32] | None = None,
    ) -> Self: ...
    def compact(self, keep: _Slots) -> None: ...

@final
class Count(State):
    def count(self, slots: _Slots) -> _Result: ...

@final
class SumInt64(State):
    def sum(self, slots: _Slots) -> _Result: ...
    def average(self, slots: _Slots) -> _Result: ...

@final
class SumDouble(State):
    def sum(self, slots: _Slots) -> _Result: ...
    def average(self, slots: _Slots) -> _Result: ...

@final
class SumDecimal(State):
    def __init__(self, type: pa.DataType) -> None: ...
    def sum(self, slots: _Slots) -> _Result: ...
    def average(self, slots: _Slots) -> _Result: ...

@final
class ExtremeInt64(State):
    def __init__(self, type: pa.DataType, greatest: bool) -> None: ...
    def value(self, slots: _Slots) -> _Result: ...

@final
class ExtremeDouble(State):
    def __init__(self, greatest: bool) -> None: ...
    def value(self, slots: _Slots) -> _Result: ...

@final
class ExtremeDecimal(State):
    def __init__(self, type: pa.DataType, greatest: bool) -> None: ...
    def value(self, slots: _Slots) -> _Result: ...

@final
class ExtremeText(State):
    def __init__(self, greatest: bool) -> None: ...
    def value(self, slots: _Slots) -> _Result: ...
