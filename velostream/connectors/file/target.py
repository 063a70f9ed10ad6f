"""The file of a text sink: a hidden one until it is complete, or one that is appended to."""

from __future__ import annotations

import errno
import os
from typing import Any

from velostream.connectors.base import changed
from velostream.connectors.file.appended import (
    AppendedFile,
    Mark,
    copy_bytes,
    gone,
    remove,
    sync_folder,
)
from velostream.connectors.file.parts import cannot
from velostream.connectors.file.sidecar import remove_sidecar, remove_unfinished, write_sidecar
from velostream.errors import ConnectorError
from velostream.faults import fault


class Target:
    """The file at `path`, its folders made when missing. Used by one thread at a time, but for `prepare` and
    `publish`.

    Without `append` the bytes go to a hidden file beside it, which takes its name in `close(True)`: a reader
    finds the former file, or none, or all of the new one. In `close(False)` it goes away, unless epochs have
    been cut: then a job may go on from it.

    `layout` says how the bytes are to be read, for the sidecar. `resume` is the token of the last commit:
    the rows go on there. Under another path than the token's, rows that nobody has seen come along, and those
    that were appended to the former file stay there. Raises ConnectorError with the path.
    """

    def __init__(self, path: str, append: bool, layout: dict[str, Any], resume: Any = None) -> None:
        self.path = path
        self._append = append
        self._layout = layout
        # Through symbolic links, so that they are not replaced themselves.
        self._final = os.path.realpath(path)
        self._place = self._place_of(path)
        self._cut = resume is not None
        self._epoch = 0
        self._shown = self._closed = False
        # What the last cut and the last sidecar say.
        self._marked: Mark | None = None
        self._published: Any = None
        # The former path, whose hidden file is needed until its successor has been committed.
        self._former: str | None = None
        try:
            os.makedirs(os.path.dirname(self._final), exist_ok=True)
            if os.path.isdir(self._final):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        except OSError as exc:
            raise cannot("write", path, exc) from exc
        self._file = self._begin() if resume is None else self._resume(resume)
        # Up to here rows may be committed.
        self._prepared = self._file.length
        if resume is not None:
            self.publish(resume)

    def _place_of(self, path: str) -> str:
        final = os.path.realpath(path)
        return final if self._append else hidden(final, "part")

    def _begin(self) -> AppendedFile:
        file = AppendedFile(self.path, self._place, keep=self._append)
        if not self._append:
            remove_unfinished(self.path)
        return file

    def _resume(self, token: Any) -> AppendedFile:
        check_layout(self.path, token, self._append, self._layout)
        mark = Mark(token["length"], token["tail"])
        self._epoch = token["epoch"]
        if token["path"] != self.path:
            return self._move(token["path"], mark)
        self._marked = mark
        if not self._append and not os.path.exists(self._place):
            self._copy_final(mark)
        return AppendedFile(self.path, self._place, mark=mark)

    def _move(self, former: str, mark: Mark) -> AppendedFile:
        place = self._place_of(former)
        AppendedFile(former, place, mark=mark).close()
        file = self._begin()
        if not self._append:
            copy_bytes(place, mark.length, file)
            self._former = former
        return file

    def _copy_final(self, mark: Mark) -> None:
        """The job was stopped between completing its file and forgetting its state: go on from a copy."""
        try:
            with open(self._final, "rb", buffering=0) as file:
                mark.check(file, self._final)
        except FileNotFoundError:
            raise gone(self._place, mark.length) from None
        except OSError as exc:
            raise cannot("read", self._final, exc) from exc
        copy = AppendedFile(self.path, hidden(self._final, "copy"))
        try:
            copy_bytes(self._final, mark.length, copy)
            copy.sync()
            os.replace(copy.place, self._place)
        except OSError as exc:
            raise cannot("write", self.path, exc) from exc
        finally:
            copy.close()

    @property
    def empty(self) -> bool:
        return self._file.length == 0

    @property
    def written(self) -> int:
        return self._file.written

    def write(self, data: Any) -> int:
        """See `AppendedFile`."""
        return self._file.write(data)

    def cut(self) -> dict[str, Any]:
        self._cut = True
        mark = self._file.mark()
        if mark != self._marked:
            self._marked = mark
            self._epoch += 1
        token = {"path": self.path, "appended": self._append, "layout": self._layout, "epoch": self._epoch}
        return token | {"length": mark.length, "tail": mark.tail}

    def prepare(self, token: Any) -> None:
        self._file.sync()
        self._prepared = token["length"]

    def publish(self, token: Any) -> None:
        if token["path"] != self.path:
            return  # what was committed under the former path
        fault("sink.before_publish")
        if token != self._published:
            self._say(token, self._place, complete=False)
            self._published = token
        if self._former is not None:
            remove(self._place_of(self._former))
            remove_sidecar(self._former)
            self._former = None
        fault("sink.after_publish")

    def _say(self, token: Any, place: str, complete: bool) -> None:
        content = {"epoch": token["epoch"], "complete": complete, **self._layout}
        position = {"file": os.path.basename(place), "length": token["length"], "tail": token["tail"]}
        write_sidecar(self.path, content | position, durable=complete)

    def close(self, complete: bool) -> None:
        """May be repeated until it succeeds, and called again after that."""
        if self._closed:
            return
        if complete and not self._append:
            try:
                self._show()
            except ConnectorError:
                if not self._cut:
                    self._end(keep=False)
                raise
        try:
            if self._cut and not complete:
                self._file.take_back(self._prepared)
        finally:
            self._end(keep=complete or self._cut)

    def _show(self) -> None:
        """Give the hidden file its name."""
        if self._cut:
            self._file.sync()
        else:
            remove_sidecar(self.path)  # it told of another file
        fault("sink.before_complete")
        try:
            if not self._shown:
                os.replace(self._place, self._final)
                self._shown = True
            if self._cut:
                sync_folder(self._final)
        except OSError as exc:
            raise cannot("write", self.path, exc) from exc
        fault("sink.within_complete")
        if self._cut:
            self._say(self.cut(), self._final, complete=True)
        fault("sink.after_complete")

    def _end(self, keep: bool) -> None:
        self._closed = True
        try:
            self._file.close()
        finally:
            if not (keep or self._append):
                remove(self._place)


def hidden(path: str, extension: str) -> str:
    """Where what belongs to the file at `path` lies before it is shown: `a/.b.csv.part` for `a/b.csv`."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{extension}")


def check_layout(path: str, token: Any, appended: bool, layout: dict[str, Any]) -> None:
    """Raises ConnectorError when rows of `layout` do not belong behind those that the token stands for."""
    if token["appended"] != appended:
        raise changed(path, f"the input of its job {'ends now' if token['appended'] else 'had an end'}")
    for key, value in layout.items():
        former = token["layout"].get(key)
        if former != value:
            raise ConnectorError(
                f"'{path}' was written with {key} {former} until the last commit, and is {value} now",
                hint="give the sink another name and path, or begin afresh with state=reset",
            )
