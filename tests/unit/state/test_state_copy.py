"""A copy of the saved state elsewhere: kept up commit by commit, and taken where the folder is not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from saved import Numbers, epoch, rows_of

from velostream.errors import StateError
from velostream.state.manifest import read_manifest
from velostream.state.store import StateStore

Copy = dict[str, bytes]


def commits(folder: Path, copy: Copy, numbers: Numbers, count: int) -> int:
    """That many commits, each decided and copied; the number of the last one."""
    store = StateStore(folder, "job")
    manifest = store.open(decide=lambda: decided(copy), copy=lambda: pieces(copy))
    first = manifest.number + 1 if manifest is not None else 1
    for number in range(first, first + count):
        numbers.put(number % 7, number)
        numbers.drop((number + 3) % 7)
        store.prepare(epoch(number, numbers.take_changes()))
        written, gone = store.replica()
        assert not written.keys() & copy.keys(), "a file never changes"
        assert {name: len(copy[name]) for name in gone} == gone
        copy.update(written)
        for name in gone:
            del copy[name]
        assert store.copied.keys() | written.keys() >= copy.keys()
        store.settle()
        assert store.copied == {name: len(data) for name, data in copy.items()}
    store.close()
    return first + count - 1


def decided(copy: Copy) -> int | None:
    return max((int(name.split(".")[0]) for name in copy if name.endswith(".manifest")), default=None)


def pieces(copy: Copy) -> Iterator[tuple[str, bytes]]:
    """As a topic gives it: files in parts."""
    for name in sorted(copy):
        for start in range(0, len(copy[name]), 100):
            yield name, copy[name][start : start + 100]


def test_another_machine_goes_on_from_the_copy(tmp_path: Path) -> None:
    copy: Copy = {}
    numbers = Numbers()
    for machine, count in enumerate((5, 1, 9)):
        # Each has a folder of its own: the first one's, then one that the job has never seen.
        last = commits(tmp_path / str(machine), copy, numbers, count)
        store = StateStore(tmp_path / f"look-{machine}", "job")
        manifest = store.open(decide=lambda: decided(copy), copy=lambda: pieces(copy))
        assert manifest is not None and manifest.number == last
        assert rows_of(store.changes(manifest, "bars")) == numbers.rows
        store.close()


def test_what_was_prepared_here_is_not_taken_for_what_was_committed_elsewhere(tmp_path: Path) -> None:
    copy: Copy = {}
    numbers = Numbers()
    last = commits(tmp_path / "here", copy, numbers, 3)
    here = StateStore(tmp_path / "here", "job")
    here.open(decide=lambda: last)
    lost = Numbers()
    lost.put(6, 6)
    here.prepare(epoch(last + 1, lost.take_changes()))
    mark = here.mark
    # As the operating system does it.
    here._lock.release()  # type: ignore[union-attr]
    last = commits(tmp_path / "elsewhere", copy, numbers, 1)
    manifest = read_manifest(tmp_path / "elsewhere")
    assert manifest is not None and manifest.number == last and manifest.mark != mark
    here = StateStore(tmp_path / "here", "job")
    taken = here.open(decide=lambda: last, copy=lambda: pieces(copy), mark=lambda: manifest.mark)
    assert taken == manifest
    assert rows_of(here.changes(taken, "bars")) == numbers.rows
    here.close()


def test_what_was_committed_here_is_not_taken_for_the_commit_of_another_run(tmp_path: Path) -> None:
    copy: Copy = {}
    numbers = Numbers()
    commits(tmp_path / "here", {}, Numbers(), 3)
    last = commits(tmp_path / "elsewhere", copy, numbers, 3)
    manifest = read_manifest(tmp_path / "elsewhere")
    assert manifest is not None
    here = StateStore(tmp_path / "here", "job")
    assert here.open(decide=lambda: last, copy=lambda: pieces(copy), mark=lambda: manifest.mark) == manifest
    here.close()
    # Without the copy there is nothing to go on from.
    commits(tmp_path / "there", {}, Numbers(), 3)
    with pytest.raises(StateError, match="holds another epoch 3 of job 'job'"):
        StateStore(tmp_path / "there", "job").open(decide=lambda: 3, mark=lambda: manifest.mark)
    # What it was committed with it knows again.
    there = StateStore(tmp_path / "there", "job")
    own = read_manifest(tmp_path / "there")
    assert own is not None and there.open(decide=lambda: 3, mark=lambda: own.mark) == own
    there.close()


def test_an_older_folder_is_brought_up_to_what_was_decided(tmp_path: Path) -> None:
    copy: Copy = {}
    numbers = Numbers()
    commits(tmp_path / "old", copy, numbers, 3)
    last = commits(tmp_path / "new", copy, numbers, 4)
    store = StateStore(tmp_path / "old", "job")
    manifest = store.open(decide=lambda: last, copy=lambda: pieces(copy))
    assert manifest is not None and rows_of(store.changes(manifest, "bars")) == numbers.rows
    store.close()


def cut(copy: Copy) -> None:
    name = max(name for name in copy if name.endswith(".changes"))
    copy[name] = copy[name][:-1]


def flip(copy: Copy) -> None:
    name = max(name for name in copy if name.endswith(".manifest"))
    copy[name] = copy[name][:-9] + bytes([copy[name][-9] ^ 1]) + copy[name][-8:]


def lose(copy: Copy) -> None:
    del copy[max(name for name in copy if name.endswith(".changes"))]


def forget(copy: Copy) -> None:
    del copy[max(name for name in copy if name.endswith(".manifest"))]


@pytest.mark.parametrize("damage", [cut, flip, lose, forget])
def test_a_damaged_copy_is_refused_and_leaves_the_folder_as_it_was(
    damage: Callable[[Copy], None], tmp_path: Path
) -> None:
    copy: Copy = {}
    numbers = Numbers()
    first = commits(tmp_path / "here", copy, numbers, 3)
    rows = dict(numbers.rows)
    last = commits(tmp_path / "there", copy, numbers, 2)
    damage(copy)
    with pytest.raises(StateError):
        store = StateStore(tmp_path / "here", "job")
        manifest = store.open(decide=lambda: last, copy=lambda: pieces(copy))
        assert manifest is not None
        list(store.changes(manifest, "bars"))
    store = StateStore(tmp_path / "here", "job")
    manifest = store.open(decide=lambda: first)
    assert manifest is not None and rows_of(store.changes(manifest, "bars")) == rows
    store.close()
