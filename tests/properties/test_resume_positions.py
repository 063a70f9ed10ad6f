"""Reading up to the end of any block and going on there in a new reader gives what one reader would have."""

from __future__ import annotations

import gzip
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from velostream.connectors.base import Block, BlockReader, Limits, Source
from velostream.connectors.file import FileSource, FileSourceConfig, readers
from velostream.connectors.generator import GeneratorSource, GeneratorSourceConfig
from velostream.connectors.generator import source as generating
from velostream.connectors.memory import MemorySource
from velostream.connectors.replay import ReplaySource, ReplaySourceConfig
from velostream.formats.file_range import FileRange

LIMITS = st.builds(
    Limits,
    st.integers(1, 60) | st.integers(1, 3000),
    st.sampled_from([0, 0, 0, 1, 2, 7]),
    st.integers(1, 3),
)


@pytest.fixture(scope="module", autouse=True)
def no_waiting() -> Iterator[None]:
    """A read that may not deal yet says so at once: here nobody loads meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "WAIT_SECONDS", 0.0)
        yield


def loaded(reader: BlockReader, rng: random.Random, most: int | None = None) -> list[tuple[Block, Any]]:
    """Blocks with their contents in order: all, or `most`. At times more are dealt ahead; those that are not
    loaded are forgotten, as by a crash."""
    done: list[tuple[Block, Any]] = []
    dealt: list[Block] = []
    ended = False
    while most is None or len(done) < most:
        if not ended and (not dealt or rng.random() < 0.5):
            block = reader.read()
            if block is None:
                ended = True
            elif block.size:
                dealt.append(block)
                continue
        if dealt:
            block = dealt.pop(0)
            content = block.load()
            if isinstance(content, FileRange):
                held, content = content, bytes(content)
                held.close()
            done.append((block, content))
        elif ended:
            break
    reader.close()
    return done


def check(make: Callable[[], Source], join: Callable[[list[Any]], Any], data: st.DataObject) -> None:
    """All contents in one go, and in two or three with other limits each, are the same when put together."""
    rng = random.Random(data.draw(st.integers(0, 99), "dealing"))
    expected = join([content for _, content in loaded(make().reader(0, Limits()), rng)])
    contents: list[Any] = []
    offset = 0
    for _ in range(data.draw(st.integers(1, 2), "stops")):
        limits, most = data.draw(LIMITS), data.draw(st.integers(0, 6))
        blocks = loaded(make().reader(0, limits, offset), rng, most)
        contents += [content for _, content in blocks]
        for block, _ in blocks:
            assert offset <= block.offset <= block.next_offset
            offset = block.next_offset
    limits = data.draw(LIMITS)
    blocks = loaded(make().reader(0, limits, offset), rng)
    assert join(contents + [content for _, content in blocks]) == expected


def text_of(contents: list[Any]) -> bytes:
    return b"".join(bytes(content) for content in contents)


JSON_LINES = st.lists(
    st.integers(0, 40).map(lambda n: b'{"n":"%s"}\n' % (b"x" * n)) | st.just(b"\n"), max_size=30
)
CSV_RECORDS = st.lists(
    st.text(st.sampled_from('a"\n,'), max_size=12).map(
        lambda text: b'1,"%s"\n' % text.replace('"', '""').encode()
    ),
    max_size=30,
)


@st.composite
def texts(draw: st.DrawFn, kind: str) -> bytes:
    text = b"".join(draw(JSON_LINES if kind == "ndjson" else CSV_RECORDS))
    if draw(st.booleans()):
        text = text.removesuffix(b"\n")
    if kind == "csv":
        text = b"n,s\n" + text
    elif draw(st.booleans()):
        text = b"\xef\xbb\xbf" + text
    return text


def pack(path: Path, text: bytes) -> None:
    """Write `text` as the extension says; compressed in two members or frames, as appending writes them."""
    half = len(text) // 2
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path.stem, text)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(text[:half]) + gzip.compress(text[half:]))
    elif path.suffix == ".zst":
        frame = zstandard.ZstdCompressor().compress
        path.write_bytes(frame(text[:half]) + frame(text[half:]))
    else:
        path.write_bytes(text)


def file_source(path: Path, **more: Any) -> FileSource:
    schema = {"n": "VARCHAR"} if ".ndjson" in path.name else {"n": "BIGINT", "s": "VARCHAR"}
    return FileSource("t", FileSourceConfig(path=str(path), schema=schema, **more))


@pytest.mark.parametrize("packing", ["", ".gz", ".zst", ".zip"])
@pytest.mark.parametrize("kind", ["ndjson", "csv"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_files_go_on_where_a_block_has_ended(
    tmp_path_factory: pytest.TempPathFactory, kind: str, packing: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / f"resumed.{kind}{packing}"
    pack(path, data.draw(texts(kind)))
    check(lambda: file_source(path), text_of, data)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_record_too_long_is_given_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "long.ndjson"
    lengths = data.draw(st.lists(st.integers(0, 30), max_size=20))
    path.write_bytes(b"".join(b"x" * length + b"\n" for length in lengths))

    def starts(contents: list[Any]) -> list[int]:
        # How much is given of a long record depends on who reads; that it is too long does not.
        return [min(len(line), 9) for content in contents for line in bytes(content).splitlines()]

    options = {"max_record_bytes": "8"}
    check(lambda: file_source(path, format_options=options), starts, data)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_followed_file_goes_on_though_it_grew_meanwhile(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "followed.ndjson"
    text = b"".join(data.draw(JSON_LINES))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    path.write_bytes(b"")
    given_out = b""
    offset = 0
    saved: str | None = None
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        with path.open("ab") as file:
            file.write(text[begin:end])
        limits, most = data.draw(LIMITS), data.draw(st.integers(0, 5)) if end < len(text) else 1000
        source = file_source(path, follow=True, poll_interval="0s")
        source.verify(0, offset, saved)
        reader = source.reader(0, limits, offset)
        for _ in range(most):
            block = reader.read()
            assert block is not None
            if not block.size:
                break
            given_out += bytes(block.load())  # type: ignore[arg-type]
            offset = block.next_offset
        saved = source.fingerprint(0)
        reader.close()
    assert given_out == text


def rows_of(contents: list[Any]) -> list[Any]:
    return [row for batch in contents for row in batch.to_pylist()]


def generated(**more: Any) -> GeneratorSource:
    columns = {
        "n": {"distribution": "uniform", "low": 0, "high": 10**9, "nulls": 0.2},
        "x": {"distribution": "normal"},
        "c": {"distribution": "zipf", "pattern": "SYM{:03d}", "count": 50},
    }
    schema = {"n": "BIGINT", "x": "DOUBLE", "c": "VARCHAR"}
    return GeneratorSource("g", GeneratorSourceConfig(schema=schema, columns=columns, seed=7, **more))


@given(data=st.data(), partitions=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_generated_records_go_on_with_the_same_random_numbers(data: st.DataObject, partitions: int) -> None:
    check(lambda: generated(count=70, partitions=partitions), rows_of, data)


class Clock:
    """Time that passes while one sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@given(limits=LIMITS, first=st.integers(0, 12), rest=st.integers(1, 12), rate=st.sampled_from([40, 1000]))
@settings(max_examples=60, deadline=None)
def test_an_endless_generator_goes_on_at_its_rate(limits: Limits, first: int, rest: int, rate: int) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generating, "time", clock)
        source = generated(rate=rate)
        offset = 0
        contents = []
        for count in (first, rest):
            clock.now += 1000.0  # a pause is not made up for
            begun, begin = clock.now, offset
            reader = source.reader(0, limits, offset)
            blocks = [block for block in (reader.read() for _ in range(count)) if block is not None]
            for block in blocks:
                contents.append(block.load())
                offset = block.next_offset
            assert clock.now - begun >= (offset - begin) / rate - generating.WAIT_SECONDS - 1e-6
    whole = generated(count=max(offset, 1)).reader(0, Limits())
    expected = rows_of([block.load() for block in iter(whole.read, None)])
    assert rows_of(contents) == expected[:offset]


@given(data=st.data(), chunks=st.lists(st.integers(0, 9), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_tables_go_on_at_any_row(data: st.DataObject, chunks: list[int]) -> None:
    numbers = iter(range(100))
    columns = [[next(numbers) for _ in range(length)] for length in chunks]
    table = pa.table({"n": pa.chunked_array(columns, pa.int64())})
    check(lambda: MemorySource.of("t", table), rows_of, data)


@given(data=st.data(), lengths=st.lists(st.integers(0, 9), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_dead_letters_go_on_at_any_record(data: st.DataObject, lengths: list[int]) -> None:
    original = MemorySource.of("t", pa.table({"n": [1]}))
    records = [("t", b"x" * length) for length in lengths]
    config = ReplaySourceConfig(original=original, records=records)
    check(lambda: ReplaySource("t", config), text_of, data)
