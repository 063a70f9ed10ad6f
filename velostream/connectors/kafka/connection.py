"""aiokafka's connections, made to receive a large response where it stays: in memory of its own, not copied.

aiokafka reads from asyncio's streams, where the bytes of a fetch are copied three times on their way to its
record batches. Here the socket fills the memory of the response, and what is decoded of it are views: a
million records of 90 bytes in fetches of 8 MiB cost the loop 0.03 s of CPU in place of 0.13. As in
`fetching.py`, methods of aiokafka are bound to other names.
"""

from __future__ import annotations

import asyncio
import io
import struct
from collections import deque
from collections.abc import Callable
from types import FunctionType, SimpleNamespace
from typing import Any, cast

import numpy as np
from aiokafka import conn
from aiokafka.conn import AIOKafkaConnection, AIOKafkaProtocol

# A response is behind its length (kafka.apache.org/protocol, "Protocol Primitive Types": INT32).
_LENGTH = struct.Struct(">i")
# What is received at once while no large response is; one that fits is copied from there.
_SMALL_BYTES = 1 << 16


def rebound(function: Callable[..., Any], **names: Any) -> Any:
    """The same function, with other things under these global names."""
    original = cast(FunctionType, function)
    copy = FunctionType(
        original.__code__,
        {**original.__globals__, **names},
        original.__name__,
        original.__defaults__,
        original.__closure__,
    )
    copy.__kwdefaults__ = original.__kwdefaults__
    return copy


class ResponseReader(asyncio.StreamReader):
    """Cuts what a socket receives into responses, and gives them to aiokafka as if it read them by length.

    The protocol asks for `room`, and says how much of it was `filled`.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._small = memoryview(bytearray(_SMALL_BYTES))
        self._held = 0
        # A response that is being received, and how much of it is there.
        self._large: memoryview | None = None
        self._received = 0
        self._responses: deque[bytes | memoryview] = deque()
        self._given: bytes | memoryview | None = None

    def room(self) -> memoryview:
        if self._large is not None:
            return self._large[self._received :]
        return self._small[self._held :]

    def filled(self, count: int) -> None:
        if self._large is not None:
            self._received += count
            if self._received == len(self._large):
                self._responses.append(self._large)
                self._large = None
                self._wake()
            return
        self._held += count
        at = 0
        while self._large is None and self._held - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._small, at)
            if length < 0:
                self.set_exception(ConnectionError(f"a response claims a length of {length} bytes"))
                return
            begin = at + _LENGTH.size
            at = min(begin + length, self._held)
            if at - begin == length:
                self._responses.append(bytes(self._small[begin:at]))
                self._wake()
            else:
                # Not a bytearray, which would be filled with zeros first.
                self._large = np.empty(length, dtype=np.uint8).data
                self._received = at - begin
                self._large[: self._received] = self._small[begin:at]
        rest = self._held - at
        self._small[:rest] = bytes(self._small[at : self._held])
        self._held = rest

    def _wake(self) -> None:
        self._wakeup_waiter()  # type: ignore[attr-defined]

    async def readexactly(self, n: int) -> Any:
        """In turn the length of a response, and the response."""
        if self._given is not None:
            given, self._given = self._given, None
            assert len(given) == n
            return given
        while not self._responses:
            if self._exception is not None:  # type: ignore[attr-defined]
                raise self._exception  # type: ignore[attr-defined]
            if self._eof:  # type: ignore[attr-defined]
                raise asyncio.IncompleteReadError(b"", n)
            await self._wait_for_data("readexactly")  # type: ignore[attr-defined]
        self._given = self._responses.popleft()
        return _LENGTH.pack(len(self._given))


class ResponseProtocol(AIOKafkaProtocol, asyncio.BufferedProtocol):  # type: ignore[misc]
    def __init__(self, closed: Any, reader: ResponseReader, **arguments: Any) -> None:
        super().__init__(closed, reader, **arguments)
        self._responses = reader

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._responses.room()

    def buffer_updated(self, nbytes: int) -> None:
        self._responses.filled(nbytes)


class ResponseBytes:
    """In place of BytesIO: large pieces are views of the response."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    def read(self, size: int = -1) -> bytes | memoryview:
        end = len(self._data) if size < 0 else min(len(self._data), self._at + size)
        piece = self._data[self._at : end]
        self._at = end
        return piece if len(piece) > _SMALL_BYTES else bytes(piece)


def _but(module: Any, **names: Any) -> SimpleNamespace:
    """A module's names, some of them for other things."""
    return SimpleNamespace(**{**vars(module), **names})


class ResponseConnection(AIOKafkaConnection):  # type: ignore[misc]
    connect = rebound(
        AIOKafkaConnection.connect,
        asyncio=_but(asyncio, StreamReader=ResponseReader),
        AIOKafkaProtocol=ResponseProtocol,
    )
    _handle_frame = rebound(AIOKafkaConnection._handle_frame, io=_but(io, BytesIO=ResponseBytes))


create_connection = rebound(conn.create_conn, AIOKafkaConnection=ResponseConnection)
