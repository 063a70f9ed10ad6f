"""Savepoints: a commit copied into a folder of its own, while the job runs or not.

A savepoint has a manifest and its files of changes, as a state folder has. Files of changes are never written
twice, so hard links do where source and copy are on one file system; starting from a savepoint only reads it.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from velostream.config.paths import shown
from velostream.errors import StateError
from velostream.state import durable
from velostream.state.changes_file import ChangesFile, SavedPart
from velostream.state.lock import holder
from velostream.state.manifest import EPOCHS, MANIFEST, Manifest, read_manifest
from velostream.state.rounds import Rounds

_PIECE = 8 << 20


def take_savepoint(folder: Path, target: Path) -> Manifest:
    """Copy the last commit in a state folder to `target`, which must not be there yet and comes in one step.

    The folder may be in use: when it moves on meanwhile, what has come is copied, too. Raises StateError.
    """
    if os.path.lexists(target):
        raise StateError(f"'{shown(target)}' is there already", hint="give a savepoint a new folder")
    manifest = saved(folder)
    copy = target.with_name(f"{target.name}.new-{secrets.token_hex(4)}")
    try:
        durable.make_folder(copy / EPOCHS)
        manifest = _copy_last(manifest, folder, copy)
        durable.write_new(copy / MANIFEST, [memoryview(manifest.to_bytes())])
        durable.sync_folder(copy)
        durable.rename(copy, target)
    except BaseException:
        shutil.rmtree(copy, ignore_errors=True)
        raise
    return manifest


def _copy_last(manifest: Manifest, folder: Path, copy: Path) -> Manifest:
    """Copy that commit, or the one that takes its place meanwhile."""
    done: set[str] = set()
    while True:
        try:
            copy_files(manifest, folder, copy, done)
            break
        except FileNotFoundError as error:
            last, manifest = manifest, saved(folder)
            if manifest.number == last.number:
                raise durable.disk_error("read", Path(error.filename), error) from error
    for name in done - {entry.name for entry in manifest.files}:
        durable.remove(copy / EPOCHS / name)
    return manifest


def saved(folder: Path) -> Manifest:
    """The last commit in a folder; StateError when there is none."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise StateError(f"there is no saved state in '{shown(folder)}'")
    return manifest


def read_savepoint(folder: Path) -> Manifest:
    """The commit in a savepoint, or in the state folder of a job that does not run. Raises StateError."""
    owner = holder(folder)
    if owner is not None:
        raise StateError(
            f"the state in '{shown(folder)}' is used by {owner}",
            hint="take a savepoint of it with command=savepoint, and start from that",
        )
    return saved(folder)


def copy_files(manifest: Manifest, folder: Path, target: Path, done: set[str]) -> None:
    """Copy the files of a commit, down to the disk, but for those in `done`; adds them there.

    Raises FileNotFoundError for one that is not there (any more), StateError for one that is damaged.
    """
    for entry in manifest.files:
        if entry.name not in done:
            file = target / EPOCHS / entry.name
            _copy(folder / EPOCHS / entry.name, file)
            done.add(entry.name)
            ChangesFile.open(file, entry)
    durable.sync_folder(target / EPOCHS)


def _copy(source: Path, file: Path) -> None:
    """In one step: a file of that name may be there, whole or not."""
    new = file.with_name(f"{file.name}.new")
    durable.remove(new)
    try:
        os.link(source, new)
    except FileNotFoundError:
        raise
    except OSError:
        # Another file system, or one without links.
        with source.open("rb") as content:
            durable.write_new(new, map(memoryview, iter(lambda: content.read(_PIECE), b"")))
    os.replace(new, file)
    # Where both were links to one file, nothing was renamed.
    durable.remove(new)


def look(folder: Path) -> tuple[Manifest, list[SavedPart]]:
    """The last commit in a folder that may be in use, and all parts of its state. Raises StateError."""
    manifest = saved(folder)
    while True:
        try:
            rounds = Rounds(ChangesFile.open(folder / EPOCHS / entry.name, entry) for entry in manifest.files)
            return manifest, [place.part for stage in rounds.stages() for place in rounds.places(stage)]
        except StateError:
            last, manifest = manifest, saved(folder)
            if manifest.number == last.number:
                raise
