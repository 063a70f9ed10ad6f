import numpy as np
import numpy.typing as npt
import pyarrow as pa

def match_like(
    texts: pa.Array | pa.Scalar, patterns: pa.Array | pa.Scalar, escape: bytes
) -> tuple[pa.Array, npt.NDArray[np.bool_] | None]: ...
