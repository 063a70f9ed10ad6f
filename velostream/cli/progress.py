"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from velostream.cli.screen import Screen
from velostream.cli.words import count, seconds, trouble

if TYPE_CHECKING:
    from velostream.runtime.report import Progress

# Seconds between two lines where there is no terminal.
LINE_SECONDS = 5.0


class Silence(AbstractContextManager["Silence"]):
    """No display; the base of those that are one. `show` is called about ten times a second."""

    def show(self, progress: Progress) -> None:
        """Take the latest numbers."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class Lines(Silence):
    """Plain lines, one per `LINE_SECONDS`, and one at once when a source or sink begins to fail, or works
    again."""

    def __init__(self, name: str, screen: Screen) -> None:
        self._name = name
        self._screen = screen
        self._next = LINE_SECONDS
        self._failing: set[str] = set()

    def show(self, progress: Progress) -> None:
        failing = {entry.what for entry in progress.troubles}
        for what in sorted(self._failing - failing):
            self._screen.line(f"{self._name}: {what} works again")
        fresh, self._failing = failing - self._failing, failing
        due = progress.seconds >= self._next
        for entry in progress.troubles:
            if due or entry.what in fresh:
                text = trouble(entry.what, entry.since, entry.tries, entry.given_up)
                self._screen.line(f"{self._name}: {text}: {entry.error}")
        if not due:
            return
        self._next = progress.seconds + LINE_SECONDS
        part = f" ({progress.bytes / progress.total_bytes:.0%})" if progress.total_bytes else ""
        rate = progress.records / progress.seconds
        self._screen.line(
            f"{self._name}: {count(progress.records)} records{part}, {count(progress.rows_out)} rows out, "
            f"{count(rate)} records/s, {seconds(progress.seconds)}"
        )


class Bar(Silence):
    """A bar over the bytes of the input; it only moves to and fro where the input has no known end."""

    def __init__(self, name: str, screen: Screen) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            console=Console(file=screen.stream),
            transient=True,
        )
        self._task: Any = self._bar.add_task(name, total=None, numbers="")

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        rate = progress.records / progress.seconds if progress.seconds else 0
        numbers = f"{count(progress.records)} records  {count(rate)}/s"
        for entry in progress.troubles:
            numbers += f"  {trouble(entry.what, entry.since, entry.tries, entry.given_up)}"
        self._bar.update(self._task, total=progress.total_bytes, completed=progress.bytes, numbers=numbers)


def display(name: str, mode: str, screen: Screen) -> Silence:
    """The display for `observability.progress`: nothing when it is off."""
    if mode == "off":
        return Silence()
    return Bar(name, screen) if screen.terminal else Lines(name, screen)
