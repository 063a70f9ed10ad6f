import numpy as np
import numpy.typing as npt
import pyarrow as pa

Rows = npt.NDArray[np.int64]

def true_rows(condition: pa.Array) -> Rows | None: ...
def take_rows(array: pa.Array, rows: Rows) -> pa.Array: ...
