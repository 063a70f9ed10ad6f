"""Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

# How long an abort may take before the process ends without it.
ABORT_SECONDS = 1.0


class Signals:
    """While it is entered, SIGINT and SIGTERM call `stop(name)` first and `abort()` the second time.

    `code` is the exit code that the first signal asks for (130, 143), 0 while there was none. Outside the
    main thread, where Python delivers no signals, entering changes nothing.
    """

    def __init__(self, stop: Callable[[str], None], abort: Callable[[], None]) -> None:
        self.name: str | None = None
        self.code = 0
        self._stop = stop
        self._abort = abort
        self._before: dict[int, Any] = {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._timer is not None:
            self._timer.cancel()

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self.name is None:
            self.name = signal.Signals(number).name
            self.code = 128 + number
            self._stop(self.name)
            return
        if self._timer is None:
            self._timer = threading.Timer(ABORT_SECONDS, os._exit, [self.code])
            self._timer.daemon = True
            self._timer.start()
            self._abort()
