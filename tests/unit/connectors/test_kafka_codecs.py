"""Compression against aiokafka's codecs, and what is refused."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Callable

import cramjam
import pytest
import zstandard
from aiokafka import codec as theirs

from tests.record_batches import Message, patched, read, rows_of, written
from velostream.connectors.kafka.codecs import CODECS, compressor, decompress
from velostream.kernels import BatchHeader, CorruptBatch, read_headers

PACKED = CODECS[1:]
BODIES = [
    b"",
    b"a",
    b'{"price": 1.5}' * 10_000,
    random.Random(5).randbytes(200_000),
    bytes(32 << 10),
    bytes((32 << 10) + 1),
]
THEIR_PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": theirs.gzip_encode,
    "snappy": theirs.snappy_encode,
    "lz4": theirs.lz4_encode,
    "zstd": theirs.zstd_encode,
}
THEIR_UNPACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": theirs.gzip_decode,
    "snappy": theirs.snappy_decode,
    "lz4": theirs.lz4_decode,
    "zstd": theirs.zstd_decode,
}


def header_of(codec: int | str) -> BatchHeader:
    number = CODECS.index(codec) if isinstance(codec, str) else codec
    [header] = read_headers(patched(written([Message(42, 0, None, None)]), attributes=number))
    return header


@pytest.mark.parametrize("codec", PACKED)
@pytest.mark.parametrize("body", BODIES, ids=len)
def test_what_one_client_packs_the_other_unpacks(codec: str, body: bytes) -> None:
    packer = compressor(codec)
    assert packer is not None
    # xerial's header alone is no stream to aiokafka.
    if body or codec != "snappy":
        assert THEIR_UNPACKERS[codec](bytes(packer(body))) == body
    assert decompress(header_of(codec), packer(body)) == body
    assert decompress(header_of(codec), THEIR_PACKERS[codec](body)) == body


def test_no_codec_leaves_the_bytes_as_they_are() -> None:
    assert compressor("none") is None
    assert decompress(header_of("none"), b"abc") == b"abc"


@pytest.mark.parametrize("codec", PACKED)
def test_batches_of_another_client_are_read(codec: str) -> None:
    messages = [Message(at, at, b"key", b"value %d" % at) for at in range(1_000)]
    assert rows_of(read(written(messages, CODECS.index(codec)))) == messages


def test_bare_snappy_is_read() -> None:
    body = b"librdkafka writes no frames" * 99
    assert decompress(header_of("snappy"), bytes(cramjam.snappy.compress_raw(body))) == body


def test_streams_that_were_put_together_are_read_to_the_end() -> None:
    for codec in PACKED:
        two = THEIR_PACKERS[codec](b"one") + THEIR_PACKERS[codec](b"two")
        assert decompress(header_of(codec), two) == b"onetwo", codec


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(CorruptBatch, match="offset 42 is compressed by codec 5"):
        decompress(header_of(5), b"abc")


@pytest.mark.parametrize("codec", PACKED)
def test_bytes_of_no_codec_are_refused(codec: str) -> None:
    for body in (b"no codec writes this", b"\xff" * 40, b"\1"):
        with pytest.raises(CorruptBatch, match=f"offset 42 is corrupt: .* unpacked as {codec}"):
            decompress(header_of(codec), body)


@pytest.mark.parametrize("codec", PACKED)
def test_cut_bytes_are_refused_or_give_less(codec: str) -> None:
    body = b"".join(b"%d," % at for at in range(30_000))
    packed = THEIR_PACKERS[codec](body)
    for cut in range(1, len(packed), len(packed) // 40):
        try:
            assert len(decompress(header_of(codec), packed[:cut])) < len(body)
        except CorruptBatch:
            continue


@pytest.mark.parametrize("codec", PACKED)
def test_no_more_than_allowed_is_unpacked(codec: str) -> None:
    body = bytes(3 << 20)
    packed = THEIR_PACKERS[codec](body)
    assert decompress(header_of(codec), packed, 4 << 20) == body
    with pytest.raises(CorruptBatch, match="offset 42 unpacks to more than 2097152 bytes"):
        decompress(header_of(codec), packed, 2 << 20)


def test_a_length_that_snappy_claims_takes_no_memory() -> None:
    with pytest.raises(CorruptBatch, match="unpacks to more than"):
        decompress(header_of("snappy"), b"\xff\xff\xff\xff\x0fabc")


def test_a_zstd_frame_that_tells_no_length_is_bounded() -> None:
    packer = zstandard.ZstdCompressor(write_content_size=False)
    packed = packer.compress(bytes(3 << 20))
    assert len(decompress(header_of("zstd"), packed)) == 3 << 20
    with pytest.raises(CorruptBatch, match="unpacks to more than"):
        decompress(header_of("zstd"), packed, 1 << 20)


def test_gzip_and_xerial_frames_that_are_cut_off_are_refused() -> None:
    with pytest.raises(CorruptBatch, match="cut off"):
        decompress(header_of("gzip"), gzip.compress(b"abc")[:-1])
    whole = theirs.snappy_encode(b"abc")
    for wrong in (whole[:18], whole[:16] + struct.pack(">i", 100) + whole[20:], whole[:16] + b"\xff" * 4):
        with pytest.raises(CorruptBatch, match="is corrupt"):
            decompress(header_of("snappy"), wrong)
