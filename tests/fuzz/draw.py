"""What a target draws from its input, and memory in which an over-read shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

T = TypeVar("T")
U = TypeVar("U")


def exact(data: bytes) -> npt.NDArray[np.uint8]:
    """The bytes in a buffer of their size: the NUL that ends a `bytes` would hide an over-read by one."""
    return np.frombuffer(data, dtype=np.uint8).copy()


def exact_buffer(data: bytes) -> pa.Buffer:
    """The same as an Arrow buffer, without Arrow's padding."""
    return pa.py_buffer(exact(data))


class Draw:
    """Choices from the front of the input, a byte each; what is left are the bytes to read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, below: int) -> int:
        """From 0 to `below` - 1, at most 256 of them; 0 at the end of the input."""
        if self._at == len(self._data):
            return 0
        self._at += 1
        return self._data[self._at - 1] % below

    def choice(self, options: Sequence[T]) -> T:
        return options[self.number(len(options))]

    def two(self, low: Sequence[T], high: Sequence[U]) -> tuple[T, U]:
        """A choice by the low four bits of a byte, and one by the high ones."""
        byte = self.number(256)
        return low[(byte & 15) % len(low)], high[(byte >> 4) % len(high)]

    def rest(self) -> bytes:
        return self._data[self._at :]

    def texts(self) -> list[str | None]:
        """The rest as texts: parts between bytes of 0xFF, of which those that are not UTF-8 are NULL."""
        texts: list[str | None] = []
        for part in self.rest().split(b"\xff"):
            try:
                texts.append(part.decode())
            except UnicodeDecodeError:
                texts.append(None)
        return texts


def text_array(texts: Sequence[str | None], lead: int = 0) -> pa.Array:
    """A string array in buffers of their exact size, a slice that begins at row `lead` of its buffers.

    The rows before the slice are NULL when their number is odd, so that the validity has an offset, too.
    """
    rows: list[str | None] = [None if lead % 2 else "lead"] * lead + list(texts)
    encoded = [b"" if text is None else text.encode() for text in rows]
    offsets = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    valid = np.array([text is not None for text in rows], dtype=np.bool_)
    bits = None if valid.all() else exact_buffer(np.packbits(valid, bitorder="little").tobytes())
    buffers = [bits, exact_buffer(offsets.tobytes()), exact_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers, offset=lead)
