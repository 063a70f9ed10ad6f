"""Parquet files that lose no committed row, though such a file can be read only when it is finished.

Rows are first appended to a hidden *spool*, an Arrow stream whose length is marked at each commit as that of
a text file is. A spool that is full (by size, or by time at a commit), or whose job is complete, is *sealed*,
and becomes one Parquet file: made hidden before a commit, and shown behind it. So files are as large as they
should be, however often the job commits, and lanes do not wait for the encoding.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa

from velostream.connectors.base import changed
from velostream.connectors.file.appended import AppendedFile, Mark, gone, remove, sync_folder
from velostream.connectors.file.parquet import ParquetOptions, ParquetRows
from velostream.connectors.file.parts import cannot
from velostream.connectors.file.sidecar import (
    read_sidecar,
    remove_sidecar,
    remove_unfinished,
    write_sidecar,
)
from velostream.connectors.file.target import check_layout, hidden
from velostream.errors import ConfigError, ConnectorError, Where
from velostream.faults import fault

# In the name of a file: where its number stands.
PART = "{part}"
# The extensions of hidden files: of one that is finished and not shown yet, of one that is to become that.
MADE, SPOOL = "part", "spool"


def pattern_of(path: str, key: str) -> str | None:
    """The pattern of numbered files that `path` stands for: a folder, or a name with `{part}`; None for the
    path of one file. Raises ConfigError; `key` is the connector's."""
    folder, name = os.path.split(path)
    if PART in folder or name.count(PART) > 1:
        raise ConfigError(
            f"'{path}' is no pattern",
            where=Where(key=f"{key}.path"),
            hint=f"write {PART} once, in the name of the file",
        )
    if PART in name:
        return path
    return os.path.join(path, f"part-{PART}.parquet") if not name or os.path.isdir(path) else None


class Names:
    """Where the parts of one sink lie: numbered files, or the one file at `path`."""

    def __init__(self, path: str) -> None:
        self.rolling = PART in os.path.basename(path)
        self._path = os.path.realpath(path)

    def shown(self, number: int) -> str:
        return self._named(f"{number:06d}")

    def made(self, number: int) -> str:
        return self._named(f"{number:06d}", MADE)

    def spool(self, number: int) -> str:
        return self._named(f"{number:06d}", SPOOL)

    def _named(self, number: str, extension: str = "") -> str:
        path = self._path.replace(PART, number)
        return hidden(path, extension) if extension else path

    def numbers(self, extension: str = "") -> list[int]:
        """The numbers of the files that are there, sorted: of those shown, or MADE, or SPOOL."""
        if not self.rolling:
            return [1] if os.path.exists(self._named("", extension)) else []
        folder, pattern = os.path.split(self._named(PART, extension))
        text = re.escape(pattern).replace(re.escape(PART), r"([0-9]{6,})")
        try:
            found = [re.fullmatch(text, entry) for entry in os.listdir(folder)]
        except OSError as exc:
            raise cannot("read", folder, exc) from exc
        return sorted(int(match[1]) for match in found if match)


class ParquetParts:
    """Rows on their way into one Parquet file, or into numbered ones that are shown as they are committed.

    Used by one thread at a time, but for `prepare` and `publish`. `resume` is the token of the last commit;
    what was written behind it is taken back. Raises ConnectorError.
    """

    def __init__(
        self, path: str, schema: pa.Schema, options: ParquetOptions, bounded: bool, resume: Any = None
    ) -> None:
        self.path = path
        self.written = 0
        self._names = Names(path)
        self._schema = schema
        self._options = options
        self._bounded = bounded
        columns = [f"{field.name} {field.type}" for field in schema]
        self._layout = {"format": "parquet", "compression": "none", "columns": columns}
        self._cut = resume is not None
        self._closed = False
        # The last token of a run that had completed all, when there is nothing to do but to say so.
        self._complete: Any = None
        # The number of the first file, and of the one that rows go to, which has `_rows` so far; `_uncut` are
        # those behind the last cut.
        self._first = self._number = 1
        self._rows = 0
        self._epoch = 0
        self._uncut = 0
        self._published: Any = None
        # By number; sealed ones stay, locked, until their file is shown.
        self._spools: dict[int, AppendedFile] = {}
        self._sealed: deque[int] = deque()
        # Files that are finished and not shown.
        self._made: set[int] = set()
        try:
            os.makedirs(os.path.dirname(self._names.shown(1)), exist_ok=True)
        except OSError as exc:
            raise cannot("write", path, exc) from exc
        try:
            if resume is None:
                self._begin()
            else:
                self._resume(resume)
        except ConnectorError:
            self._end(keep=self._cut)
            raise

    def _begin(self) -> None:
        there = self._names.numbers() if self._names.rolling else []
        if there and self._bounded:
            raise ConnectorError(
                f"there are files already at '{self.path}' ('{self._names.shown(there[-1])}')",
                hint="remove them, or give the sink another path",
            )
        self._first = self._number = there[-1] + 1 if there else 1
        self._open_spool()
        remove_unfinished(self.path)
        self._clear()

    def _resume(self, token: Any) -> None:
        check_layout(self.path, token, not self._bounded, self._layout)
        if token["path"] != self.path:
            raise ConnectorError(
                f"'{token['path']}' was written until the last commit, and is '{self.path}' now",
                hint="set the path back, give the sink another name too, or begin afresh with state=reset",
            )
        self._epoch, self._first = token["epoch"], token["first"]
        self._number, self._rows = token["number"], token["rows"]
        spool = self._names.spool(self._number)
        if self._rows and not os.path.exists(spool):
            said = read_sidecar(self.path)
            if said is None or not said["complete"] or said["epoch"] != self._epoch:
                raise gone(spool, token["length"])
            # The job was stopped between completing its files and forgetting its state.
            self._complete = token
            return
        self._open_spool(Mark(token["length"], token["tail"]) if self._rows else None)
        self.publish(token)
        self._clear()
        if self._names.rolling:
            for number in self._names.numbers():
                if number >= self._number:
                    remove(self._names.shown(number))

    def _clear(self) -> None:
        """Remove what is hidden, and not that of the present number: it was not committed."""
        for number in self._names.numbers(MADE):
            remove(self._names.made(number))
        for number in self._names.numbers(SPOOL):
            if number != self._number:
                remove(self._names.spool(number))

    def _open_spool(self, mark: Mark | None = None) -> AppendedFile:
        names = self._names
        spool = AppendedFile(names.shown(self._number), names.spool(self._number), mark=mark)
        self._begun = time.monotonic()
        if mark is None:
            try:
                spool.write(self._schema.serialize())
            except ConnectorError:
                spool.close()
                remove(spool.place)
                raise
        self._spools[self._number] = spool
        return spool

    def write(self, payload: pa.Buffer, rows: int) -> None:
        """Append a record batch of `rows`, as a message of an Arrow stream."""
        if self._complete is not None:
            raise ConnectorError(
                f"'{self.path}' is complete, and its job goes on", hint="begin afresh with state=reset"
            )
        spool = self._spools.get(self._number)
        if spool is not None and self._names.rolling and spool.length >= self._options.roll_bytes:
            full, spool = self._number, None
            self._seal()
            if not self._cut:
                # Nobody else may come to make files of them, and spools take room.
                self._make(full)
                self._drop_spool(full)
        (spool or self._open_spool()).write(payload)
        self._rows += rows
        self._uncut += rows

    def _seal(self) -> None:
        """Begin another spool with the next row; this one is to become a file."""
        self._spools[self._number].mend()
        self._sealed.append(self._number)
        self._number += 1
        self._rows = 0

    def cut(self) -> dict[str, Any]:
        if self._complete is not None:
            return dict(self._complete)
        self._cut = True
        old = time.monotonic() - self._begun >= self._options.roll_seconds
        if self._names.rolling and self._rows and old:
            self._seal()
        if self._uncut:
            self._uncut = 0
            self._epoch += 1
        token = {"path": self.path, "appended": not self._bounded, "layout": self._layout}
        token |= {"epoch": self._epoch, "first": self._first, "sealed": list(self._sealed)}
        token |= {"number": self._number, "rows": self._rows, "length": 0, "tail": 0}
        if self._rows:
            mark = self._spools[self._number].mark()
            token |= {"length": mark.length, "tail": mark.tail}
        return token

    def prepare(self, token: Any) -> None:
        for number in token["sealed"]:
            if number not in self._made and not os.path.exists(self._names.shown(number)):
                self._make(number)
        if token["rows"] and self._complete is None:
            self._spools[token["number"]].sync()

    def publish(self, token: Any) -> None:
        if self._complete is not None:
            return
        fault("sink.before_publish")
        self._show(token["sealed"])
        if token != self._published:
            self._say(token, complete=False)
            self._published = token
        self._drop(token["sealed"])
        fault("sink.after_publish")

    def _make(self, number: int) -> None:
        """Write the rows of a sealed spool as a hidden file."""
        names = self._names
        file = AppendedFile(names.shown(number), names.made(number))
        try:
            rows = ParquetRows(file, self._schema, self._options)
            try:
                with pa.OSFile(names.spool(number)) as spool:
                    for batch in pa.ipc.open_stream(spool):
                        rows.write(batch)
                rows.close(True)
            except (ConnectorError, OSError, pa.ArrowInvalid):
                with suppress(ConnectorError):
                    rows.close(False)
                raise
            if self._cut or names.rolling:
                file.sync()
        except (OSError, pa.ArrowInvalid) as exc:
            file.close()
            remove(file.place)
            raise cannot("read", names.spool(number), exc) from exc
        except ConnectorError:
            file.close()
            remove(file.place)
            raise
        file.close()
        self.written += file.written
        self._made.add(number)

    def _show(self, numbers: Sequence[int]) -> None:
        names = self._names
        for number in numbers:
            try:
                os.replace(names.made(number), names.shown(number))
            except FileNotFoundError:
                if not os.path.exists(names.shown(number)):
                    raise changed(names.shown(number), "it is gone") from None
            except OSError as exc:
                raise cannot("write", names.shown(number), exc) from exc
        if numbers and self._cut:
            try:
                sync_folder(names.shown(1))
            except OSError as exc:
                raise cannot("write", self.path, exc) from exc

    def _drop(self, numbers: Sequence[int]) -> None:
        """Forget what is shown."""
        for number in numbers:
            self._drop_spool(number)
            self._made.discard(number)
        while self._sealed and self._sealed[0] in numbers:
            self._sealed.popleft()

    def _drop_spool(self, number: int) -> None:
        spool = self._spools.pop(number, None)
        if spool is not None:
            spool.close()
        remove(self._names.spool(number))

    def _say(self, token: Any, complete: bool) -> None:
        content = {"epoch": token["epoch"], "complete": complete, **self._layout}
        content["schema"] = self._schema.serialize().to_pybytes().hex()
        content["parts"] = token["number"] - 1
        content |= {key: token[key] for key in ("rows", "length", "tail")}
        write_sidecar(self.path, content, durable=complete)

    def close(self, complete: bool) -> None:
        """May be repeated until it succeeds, and called again after that."""
        if self._closed:
            return
        if complete and self._complete is None:
            try:
                self._finish()
            except ConnectorError:
                if not self._cut:
                    self._end(keep=False)
                raise
        self._end(keep=complete or self._cut)

    def _finish(self) -> None:
        """Show all rows; of a bounded job without a row one file that says so."""
        nothing = self._bounded and self._number == self._first
        if self._rows or nothing:
            self._seal()
        numbers = list(self._sealed)
        for number in numbers:
            if number not in self._made:
                self._make(number)
        if self._bounded and not self._cut:
            remove_sidecar(self.path)  # it told of another file
        fault("sink.before_complete")
        self._show(numbers)
        fault("sink.within_complete")
        if self._cut:
            self._say(self.cut(), complete=True)
        self._drop(numbers)
        fault("sink.after_complete")

    def _end(self, keep: bool) -> None:
        """Close what is open; without `keep`, leave nothing that is hidden."""
        self._closed = True
        for spool in self._spools.values():
            if keep:
                spool.close()
            else:
                with suppress(ConnectorError):  # it cannot be mended, and goes away
                    spool.close()
                remove(spool.place)
        if not keep:
            for number in self._made:
                remove(self._names.made(number))
