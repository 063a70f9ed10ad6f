import numpy as np
import numpy.typing as npt
import pyarrow as pa

def tumble_start(
    times: pa.Array, size_us: int, rows: npt.NDArray[np.int32] | None = None
) -> npt.NDArray[np.int64]: ...
def judge_late(
    times: npt.NDArray[np.int64],
    seen_max: int,
    out_of_orderness_us: int,
    allowed_lateness_us: int,
    size_us: int,
    valid: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.bool_] | None, int]: ...
