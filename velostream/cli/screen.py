"""Where a person looks: a terminal, or plain lines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from velostream.cli.words import aligned


class Screen:
    """Lines for a person, on standard output; on standard error while the results go to the former."""

    def __init__(self, results_on_stdout: bool = False) -> None:
        self.stream: TextIO = sys.stderr if results_on_stdout else sys.stdout

    @property
    def terminal(self) -> bool:
        return self.stream.isatty()

    def line(self, text: str = "") -> None:
        print(text, file=self.stream, flush=True)

    def lines(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.line(text)

    def table(
        self, header: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str | None] = ()
    ) -> None:
        """A table: boxes on a terminal, each row in its style where `styles` are given; columns elsewhere."""
        if not self.terminal:
            self.lines(aligned([list(header), *map(list, rows)]))
            return
        from rich.console import Console
        from rich.table import Table

        table = Table(*header)
        for at, row in enumerate(rows):
            table.add_row(*row, style=styles[at] if styles else None)
        Console(file=self.stream).print(table)


def write_error(text: str) -> None:
    """An error, on standard error."""
    print(text, file=sys.stderr, flush=True)
