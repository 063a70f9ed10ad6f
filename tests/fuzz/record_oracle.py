"""Kafka's record batches read byte by byte, as its documentation describes them."""

from __future__ import annotations

from dataclasses import dataclass

from tests.fuzz.numeric import Misfit
from tests.record_batches import Message
from velostream.kernels import crc32c_by_tables


@dataclass(frozen=True, slots=True)
class Batch:
    """A header, as far as reading needs it, and the bytes of the records."""

    base: int
    last_delta: int
    attributes: int
    base_timestamp: int
    max_timestamp: int
    records: int
    body: bytes


def batches_of(data: bytes) -> list[Batch]:
    """The whole batches; raises Misfit for a wrong one, and when there is only the beginning of one."""
    batches: list[Batch] = []
    at = 0
    while len(data) - at > 16:
        if data[at + 16] != 2:
            raise Misfit
        size = 12 + number(data, at + 8, 4)
        if size < 61:
            raise Misfit
        if at + size > len(data):
            break
        batch = data[at : at + size]
        if crc32c_by_tables(batch[21:]) != int.from_bytes(batch[17:21], "big"):
            raise Misfit
        base, last_delta, records = number(batch, 0, 8), number(batch, 23, 4), number(batch, 57, 4)
        if last_delta < 0 or not 0 <= records <= last_delta + 1 or not 0 <= base < 1 << 62:
            raise Misfit
        stamps = number(batch, 27, 8), number(batch, 35, 8)
        batches.append(Batch(base, last_delta, number(batch, 21, 2), *stamps, records, batch[61:]))
        at += size
    if not batches and data:
        raise Misfit
    return batches


def number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big", signed=True)


def messages_of(batch: Batch) -> list[Message]:
    """The records of a batch that is not compressed; raises Misfit when they are none."""
    messages = []
    rest = Bytes(batch.body)
    previous = -1
    for _ in range(batch.records):
        record = Bytes(rest.take(rest.varint(32)))
        record.take(1)
        timestamp, delta = record.varint(64), record.varint(32)
        key, value = record.field(), record.field()
        count = record.varint(32)
        if count < 0:
            raise Misfit
        headers = tuple(record.header() for _ in range(count))
        if record.left or not previous < delta <= batch.last_delta:
            raise Misfit
        previous = delta
        wrapped = (batch.base_timestamp + timestamp + (1 << 63)) % (1 << 64) - (1 << 63)
        messages.append(
            Message(
                batch.base + delta,
                batch.max_timestamp if batch.attributes & 8 else wrapped,
                key,
                value,
                headers,
            )
        )
    if rest.left:
        raise Misfit
    return messages


class Bytes:
    """Bytes that are read from the front; Misfit when there are fewer than asked for."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.left):
            raise Misfit
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def varint(self, bits: int) -> int:
        raw = shift = 0
        while True:
            byte = self.take(1)[0]
            raw |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits:
                raise Misfit
        if raw >> bits:
            raise Misfit
        return raw >> 1 ^ -(raw & 1)

    def field(self) -> bytes | None:
        length = self.varint(32)
        return None if length == -1 else self.take(length)

    def header(self) -> tuple[str, bytes | None]:
        name = self.field()
        if name is None:
            raise Misfit
        try:
            return name.decode(), self.field()
        except UnicodeDecodeError as error:
            raise Misfit from error
