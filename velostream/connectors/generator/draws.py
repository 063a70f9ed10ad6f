"""Random numbers by position: the number of record `i` does not depend on which were drawn before."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.uint64]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


class Draws:
    """The random numbers of one column: SplitMix64 of (seed, column's name, stream, record).

    `stream` tells apart the numbers that one record needs several of.
    """

    def __init__(self, seed: int, column: str) -> None:
        self._key = _mix(_mix(seed & _MASK) ^ zlib.crc32(column.encode()))

    def bits(self, index: Index, stream: int = 0) -> Index:
        """64 random bits per record."""
        key = np.uint64(_mix(self._key + stream))
        z = index * np.uint64(_GOLDEN) + key
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
        return z ^ (z >> np.uint64(31))

    def unit(self, index: Index, stream: int = 0) -> npt.NDArray[np.float64]:
        """Uniform in [0, 1), in steps of 2**-53."""
        return (self.bits(index, stream) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def between(self, index: Index, low: int, high: int, stream: int = 0) -> npt.NDArray[np.int64]:
        """Uniform integers from `low` to `high`, both included; their bias is below 2**-64 * (high - low)."""
        bits = self.bits(index, stream)
        span = high - low + 1
        if span <= _MASK:
            bits = bits % np.uint64(span)
        return (bits + np.uint64(low & _MASK)).view(np.int64)


def _mix(z: int) -> int:
    """SplitMix64's output function of one number."""
    z = (z + _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * _FIRST) & _MASK
    z = ((z ^ (z >> 27)) * _SECOND) & _MASK
    return z ^ (z >> 31)
