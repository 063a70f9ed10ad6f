"""The saved state of one job, in a folder of its own.

    lock                 who has the folder (`lock.py`)
    manifest.json        the last commit (`manifest.py`)
    manifest.json.new    the next one while it is written
    manifest.json.ready  the next one, while a transaction decides whether it is committed
    copy/                what is taken from elsewhere, until it is whole
    epochs/              a file of changes per commit and stage (`changes_file.py`), those still needed

A commit writes the files of changes, then the manifest beside the last one, all down to the disk, and
renames the manifest. So a crash leaves the last commit or this one, each whole, and files that no manifest
names; the next `open` removes those.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from velostream.config.paths import shown
from velostream.config.schema import RESET, RESUME
from velostream.errors import InternalError, StateError
from velostream.faults import fault
from velostream.operators.saving import Changes
from velostream.state import durable
from velostream.state.changes_file import ChangesFile
from velostream.state.lock import FolderLock
from velostream.state.manifest import EPOCHS, MANIFEST, Epoch, Manifest, read_manifest
from velostream.state.rounds import Rounds
from velostream.state.savepoint import copy_files, read_savepoint, take_savepoint

_NEXT = f"{MANIFEST}.new"
_READY = f"{MANIFEST}.ready"
_COPY = "copy"
_CHANGES = re.compile(r"\d{12,}-[0-9a-f]{8}\.changes(\.new)?")


def _nobody() -> None:
    return None


def _unmarked() -> str:
    return ""


def _sizes(manifest: Manifest | None) -> dict[str, int]:
    """The files of a copy of this commit. No file ever changes, so its manifest has a name of its own."""
    if manifest is None:
        return {}
    files = {entry.name: entry.size for entry in manifest.files}
    return {**files, _name(manifest.number): len(manifest.to_bytes())}


def _name(number: int | None) -> str:
    return f"{number or 0:012}.manifest"


class StateStore:
    """One job's saved state. Making one touches nothing.

    `commit` may run in a thread of its own; calls do not overlap, but for `changes`, which serves several
    threads at once. Errors of the disk are StateErrors. A commit that raised one may be repeated with the
    same epoch; none may be left out, since the changes of an epoch are taken from the operators once.
    """

    def __init__(self, folder: Path, job: str) -> None:
        self.folder = folder
        self.job = job
        self._epochs = folder / EPOCHS
        self._lock: FolderLock | None = None
        self._manifest: Manifest | None = None
        self._rounds = Rounds()
        # Goes up with every `open`: rounds of changes do not go on over a restart.
        self._session = 1
        # The epoch whose changes are written and not yet committed.
        self._written = -1
        self._prepared: Manifest | None = None
        # Name and size of the files that a copy elsewhere has.
        self._copied: dict[str, int] = {}

    def open(
        self,
        start: str = RESUME,
        decide: Callable[[], int | None] = _nobody,
        copy: Callable[[], Iterable[tuple[str, bytes]]] = tuple,
        mark: Callable[[], str] = _unmarked,
    ) -> Manifest | None:
        """Take the folder for this process, and give the commit to go on from; None to begin afresh.

        `start` is `state.start`: `resume` goes on from the last commit, `reset` forgets it, a path makes
        that savepoint the last commit. `decide` gives the epoch that a transaction has committed last, None
        when there is no such transaction or it knows of none, 0 when whatever is here is of another run; it
        is asked when the folder is this process's. `mark`, asked behind it, gives that of the manifest that
        was decided, empty when nobody knows: what the folder has under the same number may be another one.
        Where the folder has not what was decided it is filled from the `copy`: names and bytes, those of one
        name in order, as `replica` gave them. Raises StateError: another process has the folder, it is
        another job's, what it holds is damaged, or is not what was decided.
        """
        self._lock = FolderLock(self.folder)
        self._written = -1
        try:
            durable.make_folder(self._epochs)
            decided = decide()
            before = read_manifest(self.folder) if start == RESUME else None
            if start == RESET:
                self._forget()
            elif start != RESUME:
                self._adopt(Path(start))
            else:
                self._decide(decided, copy, mark())
            self._manifest = self._own_manifest()
            self._copied = _sizes(self._manifest or before)
            self._session = self._manifest.session + 1 if self._manifest is not None else 1
            self._rounds = Rounds(self._files(self._manifest))
            self._clean(self._manifest)
        except BaseException:
            self.close()
            raise
        return self._manifest

    def changes(self, manifest: Manifest, stage: str) -> Iterator[Changes]:
        """The saved changes of a stage, of all lanes: in order per lane, whatever the number of lanes was.

        Read one after the other, their checksums verified; raises StateError.
        """
        rounds = self._rounds if manifest is self._manifest else Rounds(self._files(manifest))
        for place in rounds.places(stage):
            yield place.file.read(place.part)

    def commit(self, epoch: Epoch) -> None:
        """Make the epoch the last commit. It is on the disk when this returns. Raises StateError."""
        self._settle(_NEXT, self._write(epoch))

    def prepare(self, epoch: Epoch) -> None:
        """Bring the epoch to the disk, beside the last commit, for a transaction to decide on."""
        self._prepared = self._write(epoch)
        durable.rename(self.folder / _NEXT, self.folder / _READY)

    def settle(self) -> None:
        """The epoch that was prepared is the last commit: so it was decided."""
        assert self._prepared is not None, "prepare() comes first"
        self._settle(_READY, self._prepared)
        self._copied = _sizes(self._prepared)

    def replica(self) -> tuple[dict[str, bytes], dict[str, int]]:
        """What makes a copy of the last commit one of the prepared epoch: files to write, and files to remove
        with their sizes. Raises StateError."""
        assert self._prepared is not None, "prepare() comes first"
        sizes = _sizes(self._prepared)
        fresh = {entry.name for entry in self._prepared.files} - self._copied.keys()
        written = {name: durable.read(self._epochs / name) for name in fresh}
        written[_name(self._prepared.number)] = self._prepared.to_bytes()
        return written, {name: size for name, size in self._copied.items() if name not in sizes}

    @property
    def mark(self) -> str:
        """The mark of the prepared epoch's manifest."""
        assert self._prepared is not None, "prepare() comes first"
        return self._prepared.mark

    @property
    def copied(self) -> dict[str, int]:
        """Name and size of all files that a copy of the last commit has."""
        return self._copied

    def _write(self, epoch: Epoch) -> Manifest:
        """Write the changes and the manifest of an epoch."""
        if self._lock is None:
            raise InternalError(f"the state of '{self.job}' is not open")
        if self._manifest is not None and epoch.number <= self._manifest.number:
            raise InternalError(f"epoch {epoch.number} comes after {self._manifest.number}")
        fault("state.before_changes")
        if self._written != epoch.number:
            self._write_changes(epoch)
            self._written = epoch.number
        fault("state.after_changes")
        files = [file.entry for file in self._rounds.files()]
        manifest = Manifest.of(self.job, epoch, self._session, files)
        self._write_next(manifest)
        return manifest

    def _settle(self, name: str, manifest: Manifest) -> None:
        if self._renamed(name, manifest):
            durable.sync_folder(self.folder)
        else:
            durable.rename(self.folder / name, self.folder / MANIFEST)
        fault("state.after_manifest")
        self._clean(manifest)
        fault("state.after_cleanup")
        self._manifest = manifest

    def _renamed(self, name: str, manifest: Manifest) -> bool:
        """Whether the manifest has its name already: the disk did not take that, and is asked again."""
        if (self.folder / name).exists():
            return False
        own = read_manifest(self.folder)
        return own is not None and own.number == manifest.number

    def clear(self) -> None:
        """Forget all that is saved: a bounded job has completed."""
        self._forget()
        self._manifest, self._rounds, self._written = None, Rounds(), -1

    def savepoint(self, path: Path) -> Manifest:
        """Copy the last commit into a new folder that is complete in itself (`savepoint.py`)."""
        return take_savepoint(self.folder, path)

    def close(self) -> None:
        """Give up the folder, which goes when nothing is saved in it; may be called twice."""
        if self._lock is None:
            return
        with suppress(OSError):
            self._epochs.rmdir()
        self._lock.release()
        self._lock = None

    def _own_manifest(self) -> Manifest | None:
        manifest = read_manifest(self.folder)
        if manifest is not None and manifest.job != self.job:
            raise StateError(
                f"'{shown(self.folder)}' holds the state of job '{manifest.job}', not of '{self.job}'",
                hint="set state.path to another folder, or start afresh with state=reset",
            )
        return manifest

    def _files(self, manifest: Manifest | None) -> Iterator[ChangesFile]:
        for entry in manifest.files if manifest is not None else ():
            yield ChangesFile.open(self._epochs / entry.name, entry)

    def _write_changes(self, epoch: Epoch) -> None:
        """Each stage has a file of its own, so that one that changes slowly keeps nothing of a busy one."""
        files = [
            # Never the name of a file that was there before: a savepoint may hold that one.
            ChangesFile.write(
                self._epochs / f"{epoch.number:012}-{secrets.token_hex(4)}.changes",
                epoch.number,
                self._session,
                {stage: lanes},
            )
            for stage, lanes in epoch.operators.items()
            if any(changes is not None for changes in lanes)
        ]
        if files:
            durable.sync_folder(self._epochs)
        for file in files:
            self._rounds.add(file)

    def _write_next(self, manifest: Manifest) -> None:
        new = self.folder / _NEXT
        durable.remove(new)
        durable.write_new(new, [memoryview(manifest.to_bytes())])
        fault("state.before_manifest")

    def _decide(
        self, decided: int | None, copy: Callable[[], Iterable[tuple[str, bytes]]], mark: str
    ) -> None:
        """Make what a transaction has decided on the last commit."""

        def is_it(manifest: Manifest | None) -> bool:
            return manifest is not None and manifest.number == decided and mark in ("", manifest.mark)

        if decided == 0:
            self._forget()
            return
        ready = read_manifest(self.folder, _READY)
        own = read_manifest(self.folder)
        if is_it(ready):
            durable.rename(self.folder / _READY, self.folder / MANIFEST)
            return
        if decided is None and (own is None or ready is None):
            return
        if not is_it(own):
            if self._take(copy(), decided):
                return
            found = "nothing" if own is None else f"epoch {own.number}"
            if own is not None and own.number == decided:
                found = f"another {found}"
            raise StateError(
                f"'{shown(self.folder)}' holds {found} of job '{self.job}', whose output is that of "
                f"epoch {'?' if decided is None else decided}",
                hint="bring back the folder of the last run, or begin afresh with state=reset: "
                "what was put out stays",
            )

    def _adopt(self, savepoint: Path) -> None:
        """Make a savepoint the last commit of this folder."""
        if savepoint.exists() and savepoint.samefile(self.folder):
            return
        manifest = read_savepoint(savepoint)
        copy_files(manifest, savepoint, self.folder, set())
        self._write_next(replace(manifest, job=self.job))
        durable.rename(self.folder / _NEXT, self.folder / MANIFEST)

    def _take(self, copy: Iterable[tuple[str, bytes]], decided: int | None) -> bool:
        """Make a copy the last commit, if it is that of the decided epoch."""
        taken = self.folder / _COPY
        shutil.rmtree(taken, ignore_errors=True)
        durable.make_folder(taken)
        for name, data in copy:
            if name == _name(decided):
                durable.append(taken / MANIFEST, data)
            elif _CHANGES.fullmatch(name):
                durable.append(taken / name, data)
        manifest = read_manifest(taken)
        if manifest is not None and manifest.number == decided:
            for entry in manifest.files:
                ChangesFile.open(taken / entry.name, entry)
            durable.remove(self.folder / MANIFEST)
            for entry in manifest.files:
                durable.rename(taken / entry.name, self._epochs / entry.name)
            durable.rename(taken / MANIFEST, self.folder / MANIFEST)
        shutil.rmtree(taken, ignore_errors=True)
        return manifest is not None and manifest.number == decided

    def _forget(self) -> None:
        durable.remove(self.folder / MANIFEST)
        durable.sync_folder(self.folder)
        self._clean(None)

    def _clean(self, manifest: Manifest | None) -> None:
        """Remove what the manifest does not name: old changes, and what a crash has left behind."""
        durable.remove(self.folder / _NEXT)
        durable.remove(self.folder / _READY)
        needed = {entry.name for entry in manifest.files} if manifest is not None else ()
        for name in os.listdir(self._epochs):
            if name not in needed and _CHANGES.fullmatch(name):
                durable.remove(self._epochs / name)
