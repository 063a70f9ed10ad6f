"""Commits: what comes back, who may have the folder, and what a crash or a failing disk leaves."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from saved import changes, epoch, rows_of

from velostream.errors import InternalError, StateError
from velostream.state.manifest import read_manifest
from velostream.state.store import StateStore


def _files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def _committed(folder: Path, count: int) -> None:
    """A folder with that many commits, each of which changes key 0 and adds one."""
    store = StateStore(folder, "job")
    store.open()
    for number in range(1, count + 1):
        store.commit(epoch(number, changes({0: number, number: number}, begins=number == 1)))
    store.close()


def test_making_a_store_touches_nothing(tmp_path: Path) -> None:
    StateStore(tmp_path / "state" / "job", "job")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_commit_begins_afresh_and_leaves_nothing(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state" / "job", "job")
    assert store.open() is None
    store.close()
    store.close()
    assert list((tmp_path / "state").iterdir()) == []


def test_the_last_commit_comes_back_as_it_was_given(tmp_path: Path) -> None:
    store = StateStore(tmp_path, "job")
    store.open()
    store.commit(epoch(1, changes({1: 10, 2: 20}, bound=5), None, description={"stages": {"bars": 1}}))
    last = epoch(
        2, None, changes({3: 30}, begins=False), description={"stages": {"bars": 2}}, sinks={"ü": [1, None]}
    )
    store.commit(last)
    store.close()

    again = StateStore(tmp_path, "job")
    manifest = again.open()
    assert manifest is not None
    assert (manifest.job, manifest.number) == ("job", 2)
    for field in ("positions", "partitions", "watermarks", "sinks", "description"):
        assert getattr(manifest, field) == getattr(last, field)
    saved = list(again.changes(manifest, "bars"))
    assert [(change.values, change.begins, change.ends) for change in saved] == [
        ({"bound": 5}, True, False),
        ({}, False, False),
    ]
    assert [change.tables["rows"].to_pydict() for change in saved] == [
        {"key": [1, 2], "value": [10, 20]},
        {"key": [3], "value": [30]},
    ]
    assert list(again.changes(manifest, "other")) == []
    again.close()


def test_an_epoch_without_changes_moves_positions_alone(tmp_path: Path) -> None:
    store = StateStore(tmp_path, "job")
    store.open()
    store.commit(epoch(1, None, None))
    store.commit(epoch(2))
    store.close()
    assert _files(tmp_path) == {"manifest.json"}
    manifest = read_manifest(tmp_path)
    assert manifest is not None and manifest.positions == {"trades": {"part-0": 20}}


def test_epochs_go_up(tmp_path: Path) -> None:
    _committed(tmp_path, 2)
    store = StateStore(tmp_path, "job")
    with pytest.raises(InternalError):
        store.commit(epoch(3))
    store.open()
    with pytest.raises(InternalError):
        store.commit(epoch(2))
    store.close()


def test_a_completed_job_leaves_nothing(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "job", "job")
    store.open()
    store.commit(epoch(1, changes({1: 1})))
    store.clear()
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_store_goes_on_after_it_was_cleared(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "job", "job")
    store.open()
    store.commit(epoch(5, changes({1: 1})))
    store.clear()
    store.commit(epoch(5, changes({2: 2})))
    store.close()
    manifest = store.open()
    assert manifest is not None
    assert (manifest.number, rows_of(store.changes(manifest, "bars"))) == (5, {2: 2})
    store.close()


def test_a_store_that_could_not_commit_goes_on_from_the_last_commit_when_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _committed(tmp_path, 1)
    store = StateStore(tmp_path, "job")
    store.open()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", _fail(os.replace, 1, errno.EIO))
        with pytest.raises(StateError, match="Input/output error"):
            store.commit(epoch(2, changes({2: 2}, begins=False)))
    store.close()
    manifest = store.open()
    assert manifest is not None and manifest.number == 1
    store.commit(epoch(2, changes({3: 3}, begins=False)))
    store.close()
    manifest = store.open()
    assert manifest is not None
    assert rows_of(store.changes(manifest, "bars")) == {0: 1, 1: 1, 3: 3}
    assert len(_files(tmp_path)) == 4
    store.close()


def test_reset_forgets_what_is_saved_even_if_it_is_damaged_or_another_job_s(tmp_path: Path) -> None:
    _committed(tmp_path, 3)
    (tmp_path / "manifest.json").write_text("{}")
    for job in ("job", "other"):
        store = StateStore(tmp_path, job)
        assert store.open("reset") is None
        assert _files(tmp_path) == {"lock"}
        store.commit(epoch(1, changes({1: 1})))
        store.close()


def test_the_state_of_another_job_is_refused(tmp_path: Path) -> None:
    _committed(tmp_path, 1)
    store = StateStore(tmp_path, "other")
    with pytest.raises(StateError, match="holds the state of job 'job', not of 'other'") as caught:
        store.open()
    assert "state.path" in str(caught.value.hint)
    # It has not kept the lock.
    StateStore(tmp_path, "job").open()


def test_files_that_are_not_the_store_s_stay(tmp_path: Path) -> None:
    _committed(tmp_path, 1)
    (tmp_path / "epochs" / "mine.txt").write_text("x")
    (tmp_path / "mine.txt").write_text("x")
    store = StateStore(tmp_path, "job")
    store.open("reset")
    store.close()
    assert _files(tmp_path) == {"mine.txt", "epochs/mine.txt"}


# --- the lock -----------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from velostream.state.store import StateStore
StateStore(Path(sys.argv[1]), "job").open()
print("open", flush=True)
sys.stdin.read()
"""


def test_a_folder_is_of_one_process_until_it_is_killed(tmp_path: Path) -> None:
    _committed(tmp_path, 1)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == b"open\n"
            with pytest.raises(StateError) as caught:
                StateStore(tmp_path, "job").open()
            caught.match(rf"the state in '.*' is used by process {other.pid} on \S+ since 20\d\d-.* UTC")
            assert "stop it first" in str(caught.value.hint)
        finally:
            other.kill()
    store = StateStore(tmp_path, "job")
    assert store.open() is not None
    store.close()


def test_two_jobs_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    first, second = StateStore(tmp_path, "job"), StateStore(tmp_path, "job")
    first.open()
    with pytest.raises(StateError, match=f"is used by process {os.getpid()} "):
        second.open()
    first.close()
    second.open()
    second.close()


def test_a_lock_taken_on_a_removed_file_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other has the file open while its owner gives it up and removes it."""
    first, second = StateStore(tmp_path / "job", "job"), StateStore(tmp_path / "job", "job")
    third = StateStore(tmp_path / "job", "job")
    first.open()
    opened = os.open

    def slow(path: Any, *args: Any) -> int:
        descriptor = opened(path, *args)
        if Path(path).name == "lock":
            monkeypatch.undo()
            first.close()
            third.open()
        return descriptor

    monkeypatch.setattr(os, "open", slow)
    with pytest.raises(StateError, match="is used by"):
        second.open()
    third.close()


def test_a_lock_that_cannot_be_written_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = StateStore(tmp_path / "job", "job")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", _fail(os.pwrite, 1, errno.ENOSPC))
        with pytest.raises(StateError, match=r"cannot write '.*lock': No space left on device"):
            store.open()
    assert list(tmp_path.iterdir()) == []
    store.open()
    store.close()


# --- crashes ------------------------------------------------------------------------------------

POINTS = {
    "state.before_changes": 2,
    "state.after_changes": 2,
    "state.before_manifest": 2,
    "state.after_manifest": 3,
    "state.after_cleanup": 3,
}
COMMIT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from saved import changes, epoch
from velostream.state.store import StateStore
store = StateStore(Path(sys.argv[1]), "job")
store.open()
for number in range(1, 5):
    store.commit(epoch(number, changes({0: number, number: number}, ends=True)))
"""


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_leaves_one_commit_whole(point: str, tmp_path: Path) -> None:
    died = subprocess.run(
        [sys.executable, "-c", COMMIT, str(tmp_path), str(Path(__file__).parent)],
        env={**os.environ, "VELOSTREAM_FAULT": f"{point}:3"},
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    store = StateStore(tmp_path, "job")
    manifest = store.open()
    assert manifest is not None
    number = POINTS[point]
    assert (manifest.number, manifest.positions) == (number, {"trades": {"part-0": 10 * number}})
    assert rows_of(store.changes(manifest, "bars")) == {0: number, number: number}
    # What the crash has left behind is gone.
    assert _files(tmp_path) == {"lock", "manifest.json", f"epochs/{manifest.files[0].name}"}
    store.commit(epoch(number + 1, changes({9: 9}, ends=True)))
    store.close()
    manifest = store.open()
    assert manifest is not None
    assert rows_of(store.changes(manifest, "bars")) == {9: 9}
    store.close()


def _fail(call: Callable[..., Any], at: int, number: int) -> Callable[..., Any]:
    """The call, failing as the disk does the `at`-th time."""
    left = [at]

    def failing(*args: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(number, os.strerror(number))
        return call(*args)

    return failing


@pytest.mark.parametrize(
    ("name", "at"), [("write", 1), ("write", 4), *(("fsync", at) for at in range(1, 6)), ("replace", 1)]
)
def test_a_commit_that_the_disk_refused_can_be_repeated(
    name: str, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StateStore(tmp_path, "job")
    store.open()
    store.commit(epoch(1, changes({1: 1})))
    # A repeated beginning of a round would look like the end of that round.
    second = epoch(2, operators={"bars": [changes({2: 2}, begins=True)], "more": [changes({4: 4})]})
    with monkeypatch.context() as patch:
        patch.setattr(os, name, _fail(getattr(os, name), at, errno.ENOSPC))
        with pytest.raises(StateError, match="No space left on device") as caught:
            store.commit(second)
    assert "free some space" in str(caught.value.hint)
    store.commit(second)
    store.commit(epoch(3, changes({3: 3}, begins=False)))
    store.close()
    manifest = store.open()
    assert manifest is not None
    assert [file.epoch for file in manifest.files] == [1, 2, 2, 3]
    assert rows_of(store.changes(manifest, "bars")) == {1: 1, 2: 2, 3: 3}
    assert rows_of(store.changes(manifest, "more")) == {4: 4}
    assert len(_files(tmp_path)) == 6
    store.close()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=r"cannot (make|lock) '.*file.*': Not a directory"):
        StateStore(tmp_path / "file" / "job", "job").open()


def test_a_manifest_of_a_later_velostream_is_refused(tmp_path: Path) -> None:
    _committed(tmp_path, 1)
    manifest = tmp_path / "manifest.json"
    assert json.loads(manifest.read_text())["manifest"]["job"] == "job"
    manifest.write_text(manifest.read_text().replace('"format":1', '"format":2', 1))
    with pytest.raises(StateError, match="has the format 2, and this velostream reads 1"):
        StateStore(tmp_path, "job").open()


# --- transactions -------------------------------------------------------------------------------


def _prepared(folder: Path) -> None:
    """Epoch 2 is committed, and 3 on the disk when the process dies."""
    _committed(folder, 2)
    store = StateStore(folder, "job")
    store.open()
    store.prepare(epoch(3, changes({3: 3}, begins=False)))
    # As the operating system does it.
    store._lock.release()  # type: ignore[union-attr]


@pytest.mark.parametrize("decided", [2, 3])
def test_a_transaction_decides_whether_what_was_prepared_is_the_last_commit(
    decided: int, tmp_path: Path
) -> None:
    _prepared(tmp_path)
    store = StateStore(tmp_path, "job")
    manifest = store.open(decide=lambda: decided)
    assert manifest is not None and manifest.number == decided
    rows = {0: 2, 1: 1, 2: 2} if decided == 2 else {0: 2, 1: 1, 2: 2, 3: 3}
    assert rows_of(store.changes(manifest, "bars")) == rows
    assert len(_files(tmp_path)) == 2 + decided
    store.close()


@pytest.mark.parametrize("decided", [None, 1, 4])
def test_a_folder_that_is_not_of_what_was_decided_is_refused(decided: int | None, tmp_path: Path) -> None:
    _prepared(tmp_path)
    with pytest.raises(StateError, match="holds epoch 2 of job 'job', whose output is that of epoch"):
        StateStore(tmp_path, "job").open(decide=lambda: decided)
    # Nothing is lost by asking.
    store = StateStore(tmp_path, "job")
    manifest = store.open(decide=lambda: 3)
    assert manifest is not None and manifest.number == 3
    store.close()


def test_what_was_prepared_is_settled_and_the_next_follows(tmp_path: Path) -> None:
    _committed(tmp_path, 1)
    store = StateStore(tmp_path, "job")
    store.open(decide=lambda: 1)
    for number in (2, 3):
        store.prepare(epoch(number, changes({number: number}, begins=False)))
        last = read_manifest(tmp_path)
        assert last is not None and last.number == number - 1
        store.settle()
    store.close()
    manifest = store.open(decide=lambda: 3)
    assert manifest is not None
    assert rows_of(store.changes(manifest, "bars")) == {0: 1, 1: 1, 2: 2, 3: 3}
    store.close()


def test_settling_can_be_repeated_after_the_disk_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StateStore(tmp_path, "job")
    store.open()
    store.prepare(epoch(1, changes({1: 1})))
    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, _fail(getattr(os, name), 1, errno.EIO))
            with pytest.raises(StateError, match="Input/output error"):
                store.settle()
    store.settle()
    store.close()
    manifest = store.open(decide=lambda: 1)
    assert manifest is not None and rows_of(store.changes(manifest, "bars")) == {1: 1}
    store.close()
