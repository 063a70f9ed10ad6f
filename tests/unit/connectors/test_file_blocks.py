"""How a file's blocks are dealt out, loaded and followed, and what becomes of their memory."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velostream.config.schema import JobConfig, ProcessorConfig
from velostream.connectors.base import Block, BlockReader, Limits
from velostream.connectors.file import FileSource, FileSourceConfig, readers
from velostream.connectors.file.buffers import BufferPool
from velostream.connectors.file.parts import Identity, Part
from velostream.connectors.file.ranges import LEAST_RANGE_BYTES, RANGE_BLOCKS, RangeReader
from velostream.runtime.job import Job
from velostream.testing.scripted import ScriptedSinkConfig

LINES = [b'{"n":%d}\n' % n for n in range(2000)]


@given(
    size=st.integers(0, 1 << 30),
    behind=st.integers(0, 1 << 30),
    lanes=st.integers(1, 16),
    max_bytes=st.integers(1 << 19, 1 << 25),
)
@settings(deadline=None)
def test_guided_ranges_cover_a_file_exactly_once_and_shrink(
    size: int, behind: int, lanes: int, max_bytes: int
) -> None:
    part = Part("f", "none", size, Identity(0, 0))
    reader = RangeReader(part, 0, 1, Limits(max_bytes, lanes=lanes), 0, behind)
    blocks = list(iter(reader.read, None))
    offset = 0
    for block in blocks:
        assert block.offset == offset
        offset = block.next_offset
    assert offset == size
    lengths = [block.next_offset - block.offset for block in blocks]
    assert lengths == sorted(lengths, reverse=True) == [block.input_bytes for block in blocks]
    assert all(0 < length <= RANGE_BLOCKS * max_bytes for length in lengths)
    # What back-pressure counts is what a block holds, never 0.
    assert all(0 < block.size <= max_bytes for block in blocks)
    if lanes == 1:
        assert all(length == RANGE_BLOCKS * max_bytes for length in lengths[:-1])
    elif not behind and lengths:
        assert lengths[-1] <= LEAST_RANGE_BYTES


def packed(folder: Path, lines: list[bytes]) -> FileSource:
    path = folder / "t.ndjson.gz"
    path.write_bytes(gzip.compress(b"".join(lines)))
    return FileSource("t", FileSourceConfig(path=str(path), schema={"n": "BIGINT"}))


@pytest.fixture(scope="module", autouse=True)
def no_waiting() -> Iterator[None]:
    """A read that may not deal yet says so at once: here nobody loads meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "WAIT_SECONDS", 0.001)
        yield


@given(data=st.data(), max_bytes=st.integers(1, 9000), lanes=st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_blocks_dealt_ahead_load_in_order_however_dealing_and_loading_interleave(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, max_bytes: int, lanes: int
) -> None:
    lines = LINES[: data.draw(st.integers(0, 40) | st.just(2000))]
    max_bytes = max(max_bytes, len(lines) // 4)
    source = packed(tmp_path_factory.mktemp("gz"), lines)
    dealt: list[Block] = []
    contents: list[bytes] = []
    input_bytes = 0
    with closing(source.reader(0, Limits(max_bytes, lanes=lanes))) as reader:
        while True:
            if not dealt or (len(dealt) < 2 * lanes and data.draw(st.booleans())):
                block = reader.read()
                if block is None:
                    break
                if block.size:
                    dealt.append(block)
                    assert len(dealt) <= 2 * lanes
                    continue
            block = dealt.pop(0)
            contents.append(bytes(block.load()))
            assert block.origin == sum(map(len, contents[:-1])) or not contents[-1]
            input_bytes += block.input_bytes
        contents += [bytes(block.load()) for block in dealt]
    assert b"".join(contents) == b"".join(lines)
    assert input_bytes == (source.total_bytes() if lines else 0)


def test_a_small_compressed_file_is_one_block(tmp_path: Path) -> None:
    reader = packed(tmp_path, LINES).reader(0, Limits(lanes=4))
    block = reader.read()
    # Until it is loaded nothing says that there is more.
    assert block.size and reader.read().size == 0
    assert bytes(block.load()) == b"".join(LINES)
    assert reader.read() is None
    reader.close()


def job_of(path: Path, lanes: int, block_size: str = "4KiB", **sink: object) -> Job:
    return Job(
        JobConfig(
            sql="SELECT n FROM t",
            sources={"t": FileSourceConfig(path=str(path), schema={"n": "BIGINT"})},
            sinks={"out": ScriptedSinkConfig(**sink)},
            processor=ProcessorConfig("v2", lanes, block_size=block_size),
        )
    )


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_lanes_take_turns_at_unpacking_one_file(tmp_path: Path, lanes: int) -> None:
    packed(tmp_path, LINES * 5)
    path = tmp_path / "t.ndjson.gz"
    job = job_of(path, lanes)
    report = job.run()
    assert report.state == "completed"
    assert [row["n"] for row in job.sink("out").rows] == [*range(len(LINES))] * 5
    assert report.bytes_in == path.stat().st_size


def test_a_file_that_breaks_off_fails_the_job_with_lanes_at_work(tmp_path: Path) -> None:
    packed(tmp_path, LINES * 20)
    path = tmp_path / "t.ndjson.gz"
    path.write_bytes(path.read_bytes()[:-9])
    report = job_of(path, 4).run()
    assert report.state == "failed"
    assert report.error is not None and "cannot read" in report.error and "(after byte " in report.error


def test_a_job_stops_while_lanes_wait_for_their_turn(tmp_path: Path) -> None:
    packed(tmp_path, LINES * 50)
    jobs: list[Job] = []
    job = job_of(tmp_path / "t.ndjson.gz", 4, on_write=lambda batch: jobs[0].stop())
    jobs.append(job)
    report = job.run()
    assert report.state == "interrupted"
    rows = [row["n"] for row in job.sink("out").rows]
    # What was begun is finished, in order and whole.
    assert 0 < len(rows) == report.records["used"] < len(LINES) * 50
    assert rows == ([*range(len(LINES))] * 50)[: len(rows)]


def test_memory_comes_back_when_the_last_view_of_it_is_gone() -> None:
    pool = BufferPool(8)
    first = pool.take(8)
    first[:] = b"abcdefgh"
    piece = first[2:4]
    del first
    # A part of it is still in use.
    assert bytes(pool.take(2)) != b"" and bytes(piece) == b"cd"
    other = pool.take(8)
    other[:] = b"x" * 8
    assert bytes(piece) == b"cd"
    del piece, other
    assert len({bytes(view) for view in (pool.take(8), pool.take(8))} & {b"abcdefgh", b"x" * 8}) > 0
    assert len(pool.take(99)) == 99


APPEND = """
import sys
with open(sys.argv[1], "ab", buffering=0) as file:
    text = b"".join(b"%d\\n" % n for n in range(20000))
    step = 1
    while text:
        file.write(text[:step])
        text, step = text[step:], step * 7 % 4093
"""


def test_a_followed_file_gives_every_line_once_while_another_process_appends(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.touch()
    config = FileSourceConfig(
        path=str(path), schema={"n": "BIGINT"}, format_options={"header": False}, follow=True
    )
    reader: BlockReader = FileSource("t", config).reader(0, Limits(1 << 12))
    writer = subprocess.Popen([sys.executable, "-c", APPEND, str(path)])
    lines: list[int] = []
    try:
        while len(lines) < 20000:
            block = reader.read()
            content = bytes(block.load())
            assert not content or content.endswith(b"\n")
            lines += map(int, content.split())
    finally:
        assert writer.wait() == 0
        reader.close()
    assert lines == [*range(20000)]
