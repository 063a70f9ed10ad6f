"""Savepoints: complete in themselves, taken from a job that runs on, never changed by those that start."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from saved import changes, epoch, rows_of

from velostream.errors import StateError
from velostream.state.manifest import read_manifest
from velostream.state.savepoint import look, take_savepoint
from velostream.state.store import StateStore


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def _rows(folder: Path, start: str = "resume") -> dict[int, int]:
    store = StateStore(folder, "job")
    manifest = store.open(start)
    assert manifest is not None
    rows = rows_of(store.changes(manifest, "bars"))
    store.close()
    return rows


def _commit(store: StateStore, number: int) -> None:
    """Row 0 says the epoch; the round is complete, so that the file before is not needed any more."""
    store.commit(epoch(number, changes({0: number, number: number}, ends=True)))


def _no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", link)


@pytest.fixture(params=["links", "copies"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateStore:
    """With one commit; the savepoints of it are hard links, or copies as to another disk."""
    if request.param == "copies":
        _no_links(monkeypatch)
    store = StateStore(tmp_path / "job", "job")
    store.open()
    _commit(store, 1)
    return store


def test_a_savepoint_stays_while_the_job_goes_on_and_ends(store: StateStore, tmp_path: Path) -> None:
    target = tmp_path / "savepoints" / "first"
    manifest = store.savepoint(target)
    before = _contents(target)
    assert sorted(before) == [f"epochs/{manifest.files[0].name}", "manifest.json"]
    assert [path.name for path in (tmp_path / "savepoints").iterdir()] == ["first"]
    _commit(store, 2)
    store.clear()
    store.close()
    assert _contents(target) == before
    assert _rows(tmp_path / "job", str(target)) == {0: 1, 1: 1}
    assert _contents(target) == before


def test_a_job_goes_on_from_a_savepoint_in_a_folder_of_its_own(store: StateStore, tmp_path: Path) -> None:
    target = tmp_path / "savepoint"
    store.savepoint(target)
    before = _contents(target)
    _commit(store, 2)
    store.close()
    # Back to the savepoint, then on from there; also as another job in another folder.
    for folder, job in (("job", "job"), ("copy", "other")):
        again = StateStore(tmp_path / folder, job)
        manifest = again.open(str(target))
        assert manifest is not None and (manifest.job, manifest.number) == (job, 1)
        assert rows_of(again.changes(manifest, "bars")) == {0: 1, 1: 1}
        assert {file.name for file in (tmp_path / folder / "epochs").iterdir()} == {manifest.files[0].name}
        _commit(again, 7)
        again.close()
    assert _rows(tmp_path / "job") == {0: 7, 7: 7}
    assert _contents(target) == before


def test_a_savepoint_heals_a_damaged_folder(store: StateStore, tmp_path: Path) -> None:
    target = tmp_path / "savepoint"
    manifest = store.savepoint(target)
    store.close()
    file = tmp_path / "job" / "epochs" / manifest.files[0].name
    file.unlink()
    file.write_bytes(b"x")
    (tmp_path / "job" / "manifest.json").write_bytes(b"x")
    assert _rows(tmp_path / "job", str(target)) == {0: 1, 1: 1}


def test_starting_from_the_own_folder_is_resuming(store: StateStore, tmp_path: Path) -> None:
    _commit(store, 2)
    store.close()
    assert _rows(tmp_path / "job", str(tmp_path / "job")) == {0: 2, 2: 2}


def test_a_folder_in_use_is_no_savepoint(store: StateStore, tmp_path: Path) -> None:
    other = StateStore(tmp_path / "other", "job")
    with pytest.raises(StateError, match=f"is used by process {os.getpid()} ") as caught:
        other.open(str(tmp_path / "job"))
    assert "command=savepoint" in str(caught.value.hint)
    store.close()
    assert other.open(str(tmp_path / "job")) is not None
    other.close()


def test_what_is_there_is_not_overwritten(store: StateStore, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(StateError, match="there' is there already"):
        store.savepoint(tmp_path / "there")


def test_without_a_commit_there_is_no_savepoint(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="there is no saved state in"):
        take_savepoint(tmp_path / "job", tmp_path / "target")
    with pytest.raises(StateError, match="there is no saved state in"):
        StateStore(tmp_path / "job", "job").open(str(tmp_path / "none"))
    assert not (tmp_path / "target").exists()


def test_a_missing_file_is_an_error_and_leaves_nothing(store: StateStore, tmp_path: Path) -> None:
    [entry] = look(tmp_path / "job")[0].files
    (tmp_path / "job" / "epochs" / entry.name).unlink()
    with pytest.raises(StateError, match=f"cannot read '.*{entry.name}': No such file"):
        store.savepoint(tmp_path / "target")
    with pytest.raises(StateError, match=f"cannot read '.*{entry.name}': No such file"):
        look(tmp_path / "job")
    assert [path.name for path in tmp_path.iterdir()] == ["job"]


def test_a_job_that_moves_on_meanwhile_is_followed(
    store: StateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading the manifest and copying its file, the file goes: twice."""
    moves = [2, 3]

    def moving(call: Callable[..., Any]) -> Callable[..., Any]:
        def moved(*args: Any) -> Any:
            if moves and Path(args[0]).is_relative_to(tmp_path / "job" / "epochs"):
                _commit(store, moves.pop(0))
            return call(*args)

        return moved

    monkeypatch.setattr(os, "link", moving(os.link))
    target = tmp_path / "target"
    assert store.savepoint(target).number == 3
    assert _rows(tmp_path / "own", str(target)) == {0: 3, 3: 3}
    assert len(list((target / "epochs").iterdir())) == 1


def test_savepoints_of_a_busy_job_are_commits(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "job", "job")
    store.open()
    _commit(store, 1)
    enough = threading.Event()

    def work() -> None:
        number = 1
        while not enough.is_set():
            number += 1
            _commit(store, number)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for at in range(20):
            number = take_savepoint(tmp_path / "job", tmp_path / str(at)).number
            manifest, parts = look(tmp_path / "job")
            assert manifest.number >= number and [part.rows for part in parts] == [2]
            assert _rows(tmp_path / f"own-{at}", str(tmp_path / str(at))) == {0: number, number: number}
    finally:
        enough.set()
        thread.join()
    store.close()
    last = read_manifest(tmp_path / "job")
    assert last is not None and _rows(tmp_path / "job") == {0: last.number, last.number: last.number}
