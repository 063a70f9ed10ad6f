"""Bytes that are not those that were written: always an error that names the file, never another state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from saved import changes, epoch

from velostream.errors import StateError
from velostream.state.changes_file import ChangesFile
from velostream.state.manifest import Manifest, read_manifest
from velostream.state.store import StateStore


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    store = StateStore(tmp_path, "job")
    store.open()
    store.commit(epoch(1, changes({1: 10, 2: 20}, bound=5), None, description={"q": "ü"}))
    store.close()
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    return manifest


def _damaged(content: bytes) -> Iterator[bytes]:
    """Cut at every byte, each byte with another bit changed, with more behind."""
    for at in range(len(content)):
        yield content[:at]
        yield content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :]
    yield content + b"\n"
    yield content + content


def _refused(file: Path, read: Callable[[], object]) -> int:
    """How many kinds of damage were tried; each has to be found."""
    content, tried = file.read_bytes(), 0
    read()
    for damaged in _damaged(content):
        file.write_bytes(damaged)
        with pytest.raises(StateError) as caught:
            read()
        assert file.name in caught.value.message
        tried += 1
    return tried


def test_no_damaged_manifest_is_read(manifest: Manifest, tmp_path: Path) -> None:
    assert _refused(tmp_path / "manifest.json", lambda: read_manifest(tmp_path)) > 600


def test_no_damaged_changes_are_read(manifest: Manifest, tmp_path: Path) -> None:
    [entry] = manifest.files
    path = tmp_path / "epochs" / entry.name

    def read() -> None:
        file = ChangesFile.open(path, entry)
        for part in file.parts:
            file.read(part)

    assert _refused(path, read) > 1000


def test_a_store_with_a_damaged_file_does_not_open_and_removes_nothing(
    manifest: Manifest, tmp_path: Path
) -> None:
    [entry] = manifest.files
    file = tmp_path / "epochs" / entry.name
    content = file.read_bytes()
    for damaged in (content[:-1], content[:-1] + b"x"):
        file.write_bytes(damaged)
        with pytest.raises(StateError, match=f"{entry.name}' is damaged: it") as caught:
            StateStore(tmp_path, "job").open()
        assert "state=reset" in str(caught.value.hint)
    file.unlink()
    with pytest.raises(StateError, match=f"cannot read '.*{entry.name}': No such file"):
        StateStore(tmp_path, "job").open()
    file.parent.mkdir()
    file.write_bytes(content)
    store = StateStore(tmp_path, "job")
    assert store.open() == manifest
    store.close()


def test_rows_that_were_damaged_are_found_where_they_are_read(manifest: Manifest, tmp_path: Path) -> None:
    [entry] = manifest.files
    file = tmp_path / "epochs" / entry.name
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    store = StateStore(tmp_path, "job")
    opened = store.open()
    assert opened is not None
    with pytest.raises(StateError, match="the table 'rows' does not have its checksum"):
        list(store.changes(opened, "bars"))
    store.close()
