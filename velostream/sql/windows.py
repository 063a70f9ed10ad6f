"""The kinds of time windows.

One entry per kind: what SQL calls it and how it assigns rows. The kernels are in `cython_ext/windows.pyx`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.kernels import tumble_start
from velostream.registry import Registry


class WindowKind(Protocol):
    """How rows are assigned to windows."""

    def starts(
        self, times: pa.Array, size_us: int, rows: npt.NDArray[np.int32] | None = None
    ) -> npt.NDArray[np.int64]:
        """The start (microseconds) of the window of each selected row; `rows` None selects all."""
        ...


window_kinds: Registry[type[Any]] = Registry("window", __name__)


@window_kinds.register("tumble", example="TUMBLE(TABLE trades, DESCRIPTOR(ts), INTERVAL '60' SECOND)")
class Tumble:
    """Fixed windows one behind the other: a row is in exactly one.

    The window of time t is [k * size, (k + 1) * size) with k = floor(t / size), for every integer k: aligned
    to the epoch, its start included and its end not, before 1970 as after.
    """

    def starts(
        self, times: pa.Array, size_us: int, rows: npt.NDArray[np.int32] | None = None
    ) -> npt.NDArray[np.int64]:
        return tumble_start(times, size_us, rows)
