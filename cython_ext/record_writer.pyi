from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from typing_extensions import Buffer

def murmur2_partitions(keys: pa.Array, partitions: int) -> npt.NDArray[np.int32]: ...

class BatchWriter:
    def __init__(
        self,
        max_batch_bytes: int,
        codec: int = 0,
        compress: Callable[[memoryview], Buffer] | None = None,
    ) -> None: ...
    def build(
        self,
        values: Buffer,
        ends: npt.NDArray[np.int64],
        keys: pa.Array | None,
        partitions: npt.NDArray[np.int32],
        timestamps: npt.NDArray[np.int64] | None = None,
        headers: pa.Array | None = None,
        *,
        nulls: npt.NDArray[np.bool_] | None = None,
    ) -> list[tuple[int, bytearray, int, int]]: ...
