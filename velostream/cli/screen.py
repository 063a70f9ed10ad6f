"""Where a person looks: a terminal, or plain lines."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TextIO


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


def write_error(text: str) -> None:
    """An error, on standard error."""
    print(text, file=sys.stderr, flush=True)
