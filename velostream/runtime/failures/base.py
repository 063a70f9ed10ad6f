"""What a failure strategy is."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event, Lock
from typing import TypeVar

from velostream.config.schema import FailureConfig
from velostream.config.units import parse_duration_us
from velostream.errors import ConnectorError
from velostream.registry import Registry

T = TypeVar("T")
logger = logging.getLogger("velostream.failures")


@dataclass(frozen=True, slots=True)
class FailedRecord:
    """One record on its way out: its bytes as they were read, where they stood, and why it failed.

    `offset` is the source's own position (bytes in a file, rows in memory); `data` has the bytes, for
    columns the row as JSON.
    """

    source: str
    partition: str
    offset: int
    data: bytes
    code: str
    detail: str
    column: str | None = None

    def __str__(self) -> str:
        text = self.data[:200].decode("utf-8", "replace")
        more = "…" if len(self.data) > 200 else ""
        return f"{self.source} {self.partition} at {self.offset}: {self.detail} [{self.code}]: {text}{more}"


class FailureStrategy:
    """Base of all: counts nothing itself (the counters do), logs the first `log_first` records in full.

    `records` is called by lanes, several at a time. `call` runs an external call (a read, a write) by the
    strategy's rules; `stopping` ends its waits.
    """

    retries = False

    def __init__(self, config: FailureConfig, output_dir: str) -> None:
        self.config = config
        self.output_dir = output_dir
        self.logged: list[str] = []
        self.stopping = Event()
        self._backoff = (
            parse_duration_us(config.backoff) / 1e6,
            parse_duration_us(config.max_backoff) / 1e6,
        )
        self._suppressed = False
        self._lock = Lock()

    def records(self, failed: Sequence[FailedRecord]) -> None:
        """Deal with records that failed. Raises RecordFailure when the job is to stop."""
        self._log(failed)

    def call(self, what: str, function: Callable[[], T]) -> T:
        """The result of `function`; a ConnectorError is retried where the strategy says so.

        Waits grow from `backoff` to `max_backoff` by doubling, each shortened by up to a half at random so
        that workers do not come back together.
        """
        attempt = 0
        wait, longest = self._backoff
        while True:
            try:
                return function()
            except ConnectorError as error:
                if not self.retries or attempt >= self.config.max_retries or self.stopping.is_set():
                    raise
                attempt += 1
                pause = min(wait, longest) * random.uniform(0.5, 1.0)
                logger.warning(
                    "%s failed (try %d of %d, next in %.1f s): %s",
                    what,
                    attempt,
                    self.config.max_retries + 1,
                    pause,
                    error.message,
                )
                self.stopping.wait(pause)
                wait *= 2

    def close(self) -> None:
        """Finish; called once, when the job ends in whatever way."""

    def _log(self, failed: Sequence[FailedRecord]) -> None:
        with self._lock:
            room = self.config.log_first - len(self.logged)
            fresh = [str(record) for record in failed[: max(0, room)]]
            self.logged += fresh
            suppressed = len(failed) > len(fresh) and not self._suppressed
            self._suppressed = self._suppressed or suppressed
        for text in fresh:
            logger.warning("record failed: %s", text)
        if suppressed:
            first = self.config.log_first
            logger.warning("further failed records are counted and not logged (failure.log_first=%d)", first)


failures: Registry[type[FailureStrategy]] = Registry("failure strategy", "velostream.runtime.failures")
