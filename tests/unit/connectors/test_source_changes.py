"""A job goes on only in what it has read before: what has changed meanwhile is refused, with what differs."""

from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from velostream.connectors.base import Limits, Source
from velostream.connectors.channel import Channel, ChannelSource, ChannelSourceConfig
from velostream.connectors.file import FileSource, FileSourceConfig, readers
from velostream.connectors.generator import GeneratorSource, GeneratorSourceConfig
from velostream.connectors.memory import MemorySource
from velostream.errors import ConnectorError

LINES = b"".join(b'{"n":%d}\n' % n for n in range(2000))
HINT = "; bring back what was there, or begin afresh with state=reset"


def file_source(path: Path, **more: Any) -> FileSource:
    return FileSource("t", FileSourceConfig(path=str(path), schema={"n": "BIGINT"}, **more))


def refusal(source: Source, offset: int, saved: str | None) -> str:
    with pytest.raises(ConnectorError) as caught:
        source.verify(0, offset, saved)
    return caught.value.render()


def times(path: Path) -> Callable[[], None]:
    """Gives the file the time of change that it has now."""
    status = path.stat()
    return lambda: os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_an_unchanged_file_is_the_same_to_another_process(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(LINES)
    saved = file_source(path).fingerprint(0)
    assert isinstance(saved, str)
    file_source(path).verify(0, 100, saved)
    # The same file elsewhere, with its times.
    moved = path.rename(tmp_path / "b.ndjson")
    file_source(moved).verify(0, 100, saved)
    # One that was saved without a fingerprint is not refused for that.
    file_source(moved).verify(0, 100, None)


@pytest.mark.parametrize(
    ("change", "keep_times", "difference"),
    [
        (lambda data: data[:-9], True, "another size"),
        (lambda data: data + b"{}\n", True, "another size"),
        (lambda data: b"x" + data[1:], True, "other first bytes"),
        (lambda data: data[:-2] + b"x\n", True, "other last bytes"),
        (lambda data: data[:9000] + b"x" + data[9001:], False, "another time of change"),
    ],
)
@pytest.mark.parametrize("packing", ["", ".gz"])
def test_a_bounded_file_that_has_changed_is_refused(
    tmp_path: Path, packing: str, change: Callable[[bytes], bytes], keep_times: bool, difference: str
) -> None:
    path = tmp_path / f"a.ndjson{packing}"
    data = gzip.compress(LINES, 0) if packing else LINES
    path.write_bytes(data)
    saved = file_source(path).fingerprint(0)
    restore = times(path)
    path.write_bytes(change(data))
    if keep_times:
        restore()
    else:
        os.utime(path, ns=(1, 1))
    name = f"'{path}' has changed since the last commit: it has {difference}"
    assert refusal(file_source(path), 100, saved) == name + HINT


def test_a_file_is_known_as_it_was_when_its_reading_began(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(LINES)
    first = file_source(path)
    first.reader(0, Limits()).close()
    path.unlink()
    saved = first.fingerprint(0)
    path.write_bytes(LINES + LINES)
    assert "it has another size" in refusal(file_source(path), len(LINES), saved)


def test_a_member_of_a_zip_is_known_by_its_own_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"

    def write(*members: tuple[str, bytes]) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members:
                archive.writestr(name, data)

    write(("a.ndjson", LINES))
    saved = file_source(path).fingerprint(0)
    write(("a.ndjson", LINES), ("b.ndjson", LINES[:90]))
    file_source(path).verify(0, 100, saved)
    write(("a.ndjson", LINES.replace(b"1000", b"1001")))
    named = f"'{path}:a.ndjson' has changed since the last commit: it has another checksum"
    assert refusal(file_source(path), 100, saved) == named + HINT
    write(("a.ndjson", LINES[:90]))
    assert "it has another size" in refusal(file_source(path), 100, saved)


@pytest.mark.parametrize("length", [0, 90, 9000])
def test_a_followed_file_may_have_grown(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(LINES[:length])
    saved = file_source(path, follow=True).fingerprint(0)
    with path.open("ab") as file:
        file.write(LINES[length:])
    file_source(path, follow=True).verify(0, length, saved)


def test_a_rotated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(LINES)
    saved = file_source(path, follow=True).fingerprint(0)
    path.rename(tmp_path / "a.ndjson.1")
    path.write_bytes(LINES)
    named = f"'{path}' has changed since the last commit: it has another inode"
    assert refusal(file_source(path, follow=True), 100, saved) == named + HINT


def test_a_followed_file_that_was_begun_anew_in_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(LINES)
    saved = file_source(path, follow=True).fingerprint(0)
    path.write_bytes(LINES[:200])
    # The first of its bytes that had been known are missing, so it does not matter how far it was read.
    assert "it has other first bytes" in refusal(file_source(path, follow=True), 100, saved)
    path.write_bytes(LINES[9:] + LINES)
    assert "it has other first bytes" in refusal(file_source(path, follow=True), 100, saved)
    path.write_bytes(LINES[:9000])
    changed = f"'{path}' has changed since the last commit: it has 9000 bytes, 9001 had been read"
    assert refusal(file_source(path, follow=True), 9001, saved) == changed + HINT


@pytest.mark.parametrize(
    ("name", "records"), [("a.ndjson", 0), ("a.ndjson", 3), ("a.ndjson.gz", 0), ("a.zip", 0)]
)
@pytest.mark.parametrize("follow", [False, True])
def test_no_file_is_read_behind_its_end(tmp_path: Path, name: str, records: int, follow: bool) -> None:
    path = tmp_path / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.ndjson", LINES)
    else:
        path.write_bytes(gzip.compress(LINES) if name.endswith(".gz") else LINES)
    source = file_source(path, follow=follow and name == "a.ndjson")
    source.reader(0, Limits(records=records), len(LINES)).close()
    with pytest.raises(
        ConnectorError, match=rf"has changed since the last commit: it .*{len(LINES) + 1} had been"
    ):
        source.reader(0, Limits(records=records), len(LINES) + 1)


def test_blocks_dealt_beyond_the_end_say_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers.StreamReader, "blocks_left", 5)  # more than there are
    path = tmp_path / "a.ndjson.gz"
    path.write_bytes(gzip.compress(LINES))
    reader = file_source(path).reader(0, Limits(8192, lanes=4))
    first = reader.read()
    assert first is not None and first.load()
    ahead = [reader.read() for _ in range(5)]
    loaded = [(len(block.load()), block.next_offset) for block in ahead if block is not None]  # type: ignore[arg-type]
    reader.close()
    assert [length > 0 for length, _ in loaded] == [True, True, False, False, False]
    assert {end for length, end in loaded if not length} == {len(LINES)}


def test_a_generator_is_known_by_all_that_its_records_depend_on() -> None:
    def made(**more: Any) -> GeneratorSource:
        columns = more.pop("columns", {"n": {"distribution": "uniform", "low": 0, "high": 9}})
        return GeneratorSource("g", GeneratorSourceConfig(schema={"n": "BIGINT"}, columns=columns, **more))

    saved = made(seed=1).fingerprint(0)
    made(seed=1, rate=50.0, count=10).verify(0, 5, saved)
    for other in (
        made(seed=2),
        made(seed=1, partitions=2),
        made(seed=1, columns={"n": {"distribution": "uniform", "low": 0, "high": 8}}),
    ):
        assert refusal(other, 5, saved) == "'g-0' has changed since the last commit" + HINT


def test_a_table_is_known_by_its_rows_and_columns() -> None:
    table = pa.table({"n": [1, 2, 3]})
    saved = MemorySource.of("t", table).fingerprint(0)
    MemorySource.of("t", pa.table({"n": [1, 2, 3]})).verify(0, 2, saved)
    assert refusal(MemorySource.of("t", table.slice(1)), 2, saved).startswith("'t' has changed")
    assert refusal(MemorySource.of("t", table.rename_columns(["m"])), 2, saved).startswith("'t' has changed")


def test_sources_that_give_their_records_once_say_so() -> None:
    table = pa.table({"n": [1]})
    channel = ChannelSource("c", ChannelSourceConfig(channel=Channel("c", table.schema)))
    assert not channel.resumable
    assert not MemorySource.of("t", table.to_reader()).resumable
    assert MemorySource.of("t", table).resumable
