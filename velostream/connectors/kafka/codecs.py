"""Compression of record batches, by Kafka's names and numbers of it.

The bytes are those of Kafka's own clients: gzip of one member, snappy in xerial's framing or bare (librdkafka
writes it so), lz4 frames of independent blocks, zstd frames. What is unpacked is bounded, whatever the bytes
claim.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import cramjam
import zstandard
from isal import igzip, isal_zlib
from isal.igzip_lib import IsalError
from typing_extensions import Buffer

from velostream.kernels import BatchHeader, CorruptBatch, native

# By the number that a batch's attributes have for it.
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
MAX_BATCH_BYTES = 1 << 30

# xerial's framing: this, then blocks of at most 32 KiB that are packed, each behind its packed length.
_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = _XERIAL_MAGIC + struct.pack(">ii", 1, 1)
_XERIAL_BLOCK = 32 << 10
_LENGTH = struct.Struct(">i")
_GZIP_WRAPPED = 31
# Magic, flags, size of blocks; a block's length, of which the highest bit says that it is not packed.
_LZ4_FRAME = struct.Struct("<IBB")
_LZ4_LENGTH = struct.Struct("<I")
# How much is unpacked between two looks at the bound.
_PIECE = 1 << 20


class _TooLong(Exception):
    """More comes out than may."""


def decompress(header: BatchHeader, payload: Buffer, max_bytes: int = MAX_BATCH_BYTES) -> memoryview:
    """The records of a batch. Raises CorruptBatch: an unknown codec, bytes that are none of it, too many."""
    packed = memoryview(payload)
    if header.codec == 0 or not len(packed):
        return packed
    if header.codec >= len(CODECS):
        raise CorruptBatch(header.base_offset, f"is compressed by codec {header.codec}, which Kafka has not")
    try:
        with native:
            records = memoryview(_UNPACKERS[header.codec](packed, max_bytes))
        return records
    except _TooLong:
        reason = f"unpacks to more than {max_bytes} bytes"
    # (isal's stub takes its class for an instance.)
    except (IsalError, zstandard.ZstdError, cramjam.DecompressionError, EOFError) as error:  # type: ignore[misc]
        reason = f"is corrupt: its records cannot be unpacked as {CODECS[header.codec]} ({error})"
    raise CorruptBatch(header.base_offset, reason)


def compressor(codec: str) -> Callable[[Buffer], Buffer] | None:
    """What packs the records of a batch; None for `none`. The codec is one of `CODECS`."""
    return _PACKERS[CODECS.index(codec)]


def _gzip(data: Buffer) -> Buffer:
    with native:
        packed: bytes = igzip.compress(data, 1)
    return packed


def _gunzip(packed: memoryview, max_bytes: int) -> Buffer:
    parts = []
    room = max_bytes
    while True:
        unpacker = isal_zlib.decompressobj(_GZIP_WRAPPED)
        parts.append(unpacker.decompress(packed, room + 1))
        room -= len(parts[-1])
        if room < 0:
            raise _TooLong
        if not unpacker.eof:
            raise EOFError("it is cut off")
        packed = memoryview(unpacker.unused_data)
        if not packed:
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _snappy(data: Buffer) -> Buffer:
    blocks = memoryview(data)
    out = bytearray(_XERIAL_HEADER)
    with native:
        for start in range(0, len(blocks), _XERIAL_BLOCK):
            packed = cramjam.snappy.compress_raw(blocks[start : start + _XERIAL_BLOCK])
            out += _LENGTH.pack(len(packed))
            out += packed
    return out


def _unsnappy(packed: memoryview, max_bytes: int) -> Buffer:
    if packed[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        return _unsnappy_blocks([packed], max_bytes)
    blocks = []
    at = len(_XERIAL_HEADER)
    while at < len(packed):
        if packed[at : at + len(_XERIAL_MAGIC)] == _XERIAL_MAGIC:
            # Streams that were put together.
            at += len(_XERIAL_HEADER)
            continue
        if len(packed) - at < _LENGTH.size:
            raise EOFError("it is cut off")
        (length,) = _LENGTH.unpack_from(packed, at)
        at += _LENGTH.size
        if not 0 <= length <= len(packed) - at:
            raise EOFError(f"a block of {length} bytes does not fit")
        blocks.append(packed[at : at + length])
        at += length
    return _unsnappy_blocks(blocks, max_bytes)


def _unsnappy_blocks(blocks: list[memoryview], max_bytes: int) -> Buffer:
    # A block says how long it is unpacked, and its memory is taken before it is read.
    lengths = [cramjam.snappy.decompress_raw_len(block) for block in blocks]
    total = sum(lengths)
    if total > max_bytes:
        raise _TooLong
    out = bytearray(total)
    room = memoryview(out)
    at = 0
    for block, length in zip(blocks, lengths, strict=True):
        if length:
            cramjam.snappy.decompress_raw_into(block, room[at : at + length])
            at += length
    return out


def _lz4(data: Buffer) -> Buffer:
    # Kafka reads no blocks that refer to the one before (KIP-57).
    packer = cramjam.lz4.Compressor(level=1, content_checksum=False, block_linked=False)
    with native:
        packer.compress(bytes(data))
        packed = packer.finish()
    return memoryview(packed)


def _unlz4(packed: memoryview, max_bytes: int) -> Buffer:
    # A byte of lz4 stands for at most 255: few need a look at their blocks.
    if len(packed) > max_bytes // 255 and _lz4_room(packed) > max_bytes:
        raise _TooLong
    return memoryview(cramjam.lz4.decompress(packed))


def _lz4_room(packed: memoryview) -> int:
    """The most bytes that the blocks of lz4 frames can hold.

    https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md
    """
    room = at = 0
    while at < len(packed):
        if len(packed) - at < _LZ4_FRAME.size:
            raise EOFError("a frame is cut off")
        _, flags, sizes = _LZ4_FRAME.unpack_from(packed, at)
        # Behind them the length of all and the dictionary, where there are any, and a checksum of the header.
        at += _LZ4_FRAME.size + 8 * bool(flags & 0x08) + 4 * bool(flags & 0x01) + 1
        while True:
            if len(packed) - at < _LZ4_LENGTH.size:
                raise EOFError("a block is cut off")
            (length,) = _LZ4_LENGTH.unpack_from(packed, at)
            at += _LZ4_LENGTH.size
            if length == 0:
                break
            at += (length & 0x7FFF_FFFF) + 4 * bool(flags & 0x10)
            room += 1 << 8 + 2 * (sizes >> 4 & 7)
        at += 4 * bool(flags & 0x04)
    return room


def _zstd(data: Buffer) -> Buffer:
    with native:
        packed = zstandard.compress(memoryview(data), 3)
    return packed


def _unzstd(packed: memoryview, max_bytes: int) -> Buffer:
    parts = []
    room = max_bytes
    with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
        while part := reader.read(_PIECE):
            parts.append(part)
            room -= len(part)
            if room < 0:
                raise _TooLong
    return parts[0] if len(parts) == 1 else b"".join(parts)


_UNPACKERS: tuple[Callable[[memoryview, int], Buffer], ...] = (
    lambda packed, max_bytes: packed,
    _gunzip,
    _unsnappy,
    _unlz4,
    _unzstd,
)
_PACKERS: tuple[Callable[[Buffer], Buffer] | None, ...] = (None, _gzip, _snappy, _lz4, _zstd)
