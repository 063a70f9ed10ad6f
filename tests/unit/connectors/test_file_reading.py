"""Whatever the block size, every record of a file is given exactly once, whole and in order."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import pytest
import zstandard

from velostream.connectors.base import Block, BlockReader, Limits
from velostream.connectors.file.buffers import BufferPool
from velostream.connectors.file.parts import find_parts
from velostream.connectors.file.ranges import RangeReader
from velostream.connectors.file.readers import StreamReader
from velostream.connectors.file.streams import open_stream
from velostream.errors import ConnectorError, FormatError
from velostream.formats.base import Layout, Splitter
from velostream.formats.file_range import FileRange
from velostream.formats.ndjson import Ndjson, NdjsonOptions
from velostream.sql.types import BIGINT, Field, Schema

MAX_RECORD = 1 << 10
TEXTS = {
    "empty": b"",
    "one newline": b"\n",
    "no newline at the end": b"a",
    "one record": b"a\n",
    "crlf and empty lines": b"aa\r\nbb\r\n\r\n\ncccc\r\nd",
    "lines of all lengths": b"".join(b"x" * n + b"\n" for n in (3, 0, 1, 17, 2, 9, 0, 0, 5)) + b"tail",
}


class QuotedLines(Splitter):
    """A newline ends a record unless it stands within double quotes."""

    def _ends(self, data: memoryview) -> list[int]:
        ends, inside = [], False
        for at, byte in enumerate(bytes(data)):
            if byte == ord('"'):
                inside = not inside
            elif byte == ord("\n") and not inside:
                ends.append(at + 1)
        return ends

    def cut(self, data: memoryview, final: bool) -> int:
        return len(data) if final else (self._ends(data) or [0])[-1]

    def take(self, data: memoryview, records: int) -> int:
        return ([0, *self._ends(data)][: records + 1])[-1]


def read_all(reader: BlockReader) -> list[Block]:
    try:
        return list(iter(reader.read, None))
    finally:
        reader.close()


def range_reader(path: Path, max_bytes: int, first: int = 0, offset: int = 0) -> RangeReader:
    (part,) = find_parts(str(path), "none", "path")
    return RangeReader(part, first, MAX_RECORD, Limits(max_bytes), offset)


def stream_reader(
    path: Path, limits: Limits, *, splittable: bool = False, offset: int = 0, poll_us: int | None = None
) -> StreamReader:
    (part,) = find_parts(str(path), "auto", "path")
    return StreamReader(
        open_stream(part, follow=poll_us is not None),
        QuotedLines(),
        limits,
        offset,
        splittable=splittable,
        max_record=MAX_RECORD,
        buffers=BufferPool(64),
        poll_us=poll_us,
    )


def content(block: Block) -> bytes:
    data = block.load()
    try:
        return bytes(data)  # type: ignore[arg-type]
    finally:
        if isinstance(data, FileRange):
            data.close()


def check(text: bytes, blocks: list[Block], begin: int = 0) -> None:
    """The blocks hold all of `text` from `begin` on, in whole records, where they say they are."""
    contents = [content(block) for block in blocks]
    assert b"".join(contents) == text[begin:]
    filled = [held for held in contents if held]
    assert all(held.endswith(b"\n") for held in filled[:-1])
    for block, held in zip(blocks, contents, strict=True):
        assert text[block.origin : block.origin + len(held)] == held
    for block, after in itertools.pairwise(blocks):
        assert block.next_offset == after.offset


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_byte_ranges_of_every_size_give_each_record_once(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "lines"
    path.write_bytes(text)
    for max_bytes in range(1, len(text) + 3):
        blocks = read_all(range_reader(path, max_bytes))
        check(text, blocks)
        assert sum(block.input_bytes for block in blocks) == len(text)


@pytest.mark.parametrize("first", [2, 3, 9])
def test_byte_ranges_begin_behind_a_header_of_any_length(tmp_path: Path, first: int) -> None:
    text = b"a\nhead\nxyz" + TEXTS["lines of all lengths"]
    path = tmp_path / "lines"
    path.write_bytes(text)
    for max_bytes in range(1, len(text)):
        check(text, read_all(range_reader(path, max_bytes, first)), first)


def test_byte_ranges_from_any_offset_give_the_records_that_begin_there(tmp_path: Path) -> None:
    text = TEXTS["lines of all lengths"]
    starts = [0, *(at + 1 for at, byte in enumerate(text) if byte == ord("\n"))]
    path = tmp_path / "lines"
    path.write_bytes(text)
    for offset in range(len(text)):
        begin = min((start for start in starts if start >= offset), default=len(text))
        for max_bytes in (1, 4, 100):
            contents = [content(block) for block in read_all(range_reader(path, max_bytes, offset=offset))]
            assert b"".join(contents) == text[begin:]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("extension", ["", ".gz", ".zst"])
def test_streams_cut_at_every_size_give_each_record_once(tmp_path: Path, text: bytes, extension: str) -> None:
    path = tmp_path / f"lines{extension}"
    # Several members or frames, as appending writes them.
    halves = text[: len(text) // 2], text[len(text) // 2 :]
    packed = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[extension]
    path.write_bytes(b"".join(packed(half) for half in halves))
    for max_bytes in range(1, len(text) + 3):
        blocks = read_all(stream_reader(path, Limits(max_bytes)))
        check(text, blocks)
        if text:
            assert sum(block.input_bytes for block in blocks) == path.stat().st_size


@pytest.mark.parametrize("records", [1, 2, 3, 5])
def test_blocks_of_n_records_have_exactly_n(tmp_path: Path, records: int) -> None:
    text = b'a\n"b\nb"\n\nc\r\nd\n"e\n\n"\nf'
    lines = [b"a\n", b'"b\nb"\n', b"\n", b"c\r\n", b"d\n", b'"e\n\n"\n', b"f"]
    path = tmp_path / "lines"
    path.write_bytes(text)
    contents = [content(block) for block in read_all(stream_reader(path, Limits(records=records)))]
    assert contents == [b"".join(lines[at : at + records]) for at in range(0, len(lines), records)]


def test_quoted_line_breaks_never_end_a_block(tmp_path: Path) -> None:
    text = b'a\n"b\nb"\n"\n\n\n"\nc\n'
    path = tmp_path / "lines"
    path.write_bytes(text)
    for max_bytes in range(1, len(text) + 3):
        blocks = read_all(stream_reader(path, Limits(max_bytes)))
        check(text, blocks)
        assert all(content(block).count(b'"') % 2 == 0 for block in blocks)


def test_a_stream_goes_on_from_the_offset_of_any_block(tmp_path: Path) -> None:
    text = TEXTS["lines of all lengths"]
    for name, packed in (("lines", text), ("lines.gz", gzip.compress(text))):
        path = tmp_path / name
        path.write_bytes(packed)
        for block in read_all(stream_reader(path, Limits(4))):
            rest = read_all(stream_reader(path, Limits(4), offset=block.next_offset))
            assert b"".join(content(after) for after in rest) == text[block.next_offset :]


@pytest.mark.parametrize("max_bytes", [1, 7, 600, 1 << 20])
def test_a_record_that_is_too_long_is_given_cut_and_the_next_ones_whole(
    tmp_path: Path, max_bytes: int
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\n" + b"x" * 5000 + b"\nbb\n")
    cut = b"a\n" + b"x" * (MAX_RECORD + 1) + b"bb\n"
    blocks = read_all(range_reader(path, max_bytes))
    contents = [content(block) for block in blocks]
    if max_bytes < 1 << 20:
        # The range in which it begins ends so much later.
        (end,) = [block.next_offset for block in blocks if block.offset <= 2 < block.next_offset]
        assert b"".join(contents) == path.read_bytes()[: end + MAX_RECORD + 1] + b"bb\n"
    else:
        # Within a range nothing is cut: the decoder sees the record's length itself.
        assert contents == [path.read_bytes()]
    blocks = read_all(stream_reader(path, Limits(max_bytes), splittable=True))
    if max_bytes < 1 << 20:
        assert b"".join(content(block) for block in blocks) == cut
        (long,) = [block for block in blocks if len(block.load()) > MAX_RECORD]
        assert (long.offset, long.origin, long.next_offset) == (2, 2, 5003)


def test_a_record_without_an_end_is_an_error_where_newlines_end_none(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'a\n"' + b"x\n" * 5000)
    reader = stream_reader(path, Limits(64))
    assert content(reader.read()) == b"a\n"
    with pytest.raises(
        FormatError, match=r"record at byte 2 of '.*lines' is longer than 1024 bytes; close the"
    ):
        reader.read()
    reader.close()


@pytest.mark.parametrize("extension", [".gz", ".zst"])
def test_a_compressed_file_cut_at_any_byte_is_an_error(tmp_path: Path, extension: str) -> None:
    text = b"".join(b"%d\n" % n for n in range(99))
    packed = gzip.compress(text) if extension == ".gz" else zstandard.ZstdCompressor().compress(text)
    path = tmp_path / f"lines{extension}"
    for length in range(len(packed)):
        path.write_bytes(packed[:length])
        with pytest.raises(ConnectorError, match=f"lines{extension}'"):
            read_all(stream_reader(path, Limits(16)))


def test_a_damaged_compressed_file_is_an_error_with_its_position(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"abc\n" * 999))
    packed[-8] ^= 1  # the checksum
    path = tmp_path / "lines.gz"
    path.write_bytes(packed)
    with pytest.raises(ConnectorError, match=r"cannot read '.*lines\.gz': .*\(after byte \d+\)"):
        read_all(stream_reader(path, Limits(16)))


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\nb\nc\n")
    ranges, stream = read_all(range_reader(path, 2)), stream_reader(path, Limits(2))
    path.write_bytes(b"a\nb\n")
    for block in ranges:
        with pytest.raises(ConnectorError, match="had 6 bytes and has shrunk to 4"):
            block.load()
    with pytest.raises(ConnectorError, match="had 6 bytes and has shrunk"):
        read_all(stream)


def test_a_file_that_shrinks_while_a_block_of_it_is_decoded_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'{"n": 1}\n{"n": 2}\n')
    (block,) = read_all(range_reader(path, 64))
    decoder = Ndjson(NdjsonOptions()).decoder(Schema((Field("n", BIGINT),)), ["n"], Layout())
    data = block.load()
    path.write_bytes(b'{"n": 1}\n')
    for read in (lambda: decoder.decode_file(data, 0, 9), lambda: data[0:18], lambda: bytes(data)):
        with pytest.raises(ConnectorError, match="had 18 bytes and has shrunk to 9 while it was being read"):
            read()
    data.close()


def test_what_is_appended_later_is_not_read_by_a_bounded_reader(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\nb")
    ranges, stream = range_reader(path, 2), stream_reader(path, Limits(2))
    with path.open("ab") as file:
        file.write(b"b\nc\n")
    assert b"".join(content(block) for block in read_all(ranges)) == b"a\nb"
    assert [content(block) for block in read_all(stream)] == [b"a\n", b"b"]


def test_a_file_replaced_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path, other = tmp_path / "lines", tmp_path / "other"
    path.write_bytes(b"a\nb\n")
    other.write_bytes(b"c\nd\n")
    (block,) = read_all(range_reader(path, 9))
    other.replace(path)
    with pytest.raises(ConnectorError, match="was replaced by another file"):
        block.load()


def followed(path: Path, records: int = 0) -> StreamReader:
    return stream_reader(path, Limits(64, records), poll_us=0)


def test_a_followed_file_gives_records_as_they_are_finished(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\nb")
    reader = followed(path)
    with path.open("ab", buffering=0) as file:
        assert content(reader.read()) == b"a\n"
        assert reader.read().size == 0
        file.write(b"b")
        assert reader.read().size == 0
        file.write(b"\nc\n\nd")
        block = reader.read()
        assert content(block) == b"bb\nc\n\n"
        assert (block.offset, block.next_offset) == (2, 8)
        assert reader.read().size == 0
    reader.close()


def test_a_followed_file_gives_what_it_has_when_there_are_fewer_than_n_records(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\nb\nc\n")
    reader = followed(path, records=2)
    assert [content(reader.read()) for _ in range(3)] == [b"a\nb\n", b"c\n", b""]
    reader.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda path: path.write_bytes(b""),
            "was truncated to 0 bytes, 4 had been read; a followed file may",
        ),
        (lambda path: (path.rename(f"{path}.1"), path.write_bytes(b"x\n")), "was replaced by another file"),
        (lambda path: path.unlink(), "cannot read .*: no such file or directory"),
    ],
    ids=["truncated", "replaced", "removed"],
)
def test_a_followed_file_may_only_grow(tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\nb\n")
    reader = followed(path)
    assert content(reader.read()) == b"a\nb\n"
    assert callable(change)
    change(path)
    with pytest.raises(ConnectorError, match=message):
        reader.read()
    reader.close()
