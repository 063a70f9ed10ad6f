"""What a failure strategy is."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Event, Lock, get_ident
from typing import TypeVar

from velostream.config.schema import FailureConfig
from velostream.config.units import parse_duration_us
from velostream.errors import ConnectorError, StateError
from velostream.registry import Registry

T = TypeVar("T")
# A call that takes longer is worth a word.
LONG_SECONDS = 5.0
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


@dataclass(slots=True)
class Trouble:
    """A call of a source, a sink or the state that has failed, and not succeeded yet; or takes long.

    `what` it is of; `since` its first try failed (Unix time), `tries` were made since, the last one with
    `error`. `given_up`: there will be no other. Without a try: what has not answered since.
    """

    what: str
    since: float
    tries: int
    error: str
    given_up: bool = False


class FailureStrategy:
    """Base of all: counts nothing itself (the counters do), logs the first `log_first` records in full.

    `records` is called by lanes, several at a time, and so is `call`, which makes an external call (a read, a
    write, a commit) by the strategy's rules; `stopping` ends its waits. `on_trouble` is called, in any
    thread, whenever one of the `troubles` begins, ends or is given up.
    """

    retries = False

    def __init__(self, config: FailureConfig, output_dir: str) -> None:
        self.config = config
        self.output_dir = output_dir
        self.logged: list[str] = []
        self.stopping = Event()
        self.on_trouble: Callable[[], None] = _nothing
        self._troubles: list[Trouble] = []
        # What each thread calls, and since when.
        self._calls: dict[int, tuple[str, float]] = {}
        # What was given up, with its last error: nobody tries it again.
        self._given_up: dict[str, ConnectorError | StateError] = {}
        self._backoff = (
            parse_duration_us(config.backoff) / 1e6,
            parse_duration_us(config.max_backoff) / 1e6,
        )
        self._suppressed = False
        self._lock = Lock()

    def records(self, failed: Sequence[FailedRecord]) -> None:
        """Deal with records that failed. Raises RecordFailure when the job is to stop."""
        self._log(failed)

    @property
    def troubles(self) -> list[Trouble]:
        """What fails now, was given up, or is waited for: of each source or sink the call that has been in
        trouble for longest."""
        found: dict[str, Trouble] = {}
        with self._lock:
            for trouble in self._troubles:
                found.setdefault(trouble.what, replace(trouble))
        late = time.time() - LONG_SECONDS
        for what, begun in sorted(self._calls.copy().values(), key=lambda call: call[1]):
            if begun < late:
                found.setdefault(what, Trouble(what, begun, 0, "it has not answered yet"))
        return list(found.values())

    @property
    def retrying(self) -> bool:
        """Whether something fails, and is not given up."""
        with self._lock:
            return any(not trouble.given_up for trouble in self._troubles)

    def call(self, what: str, function: Callable[[], T], repeat: bool = True) -> T:
        """The result of `function`; a ConnectorError that is not final, or a StateError, is retried where the
        strategy says so, and the call can be repeated.

        Waits grow from `backoff` to `max_backoff` by doubling, each shortened by up to a half at random so
        that workers do not come back together. After `max_retries` of them `what` is given up: this call and
        all others of it, begun or to come, raise that error.
        """
        thread = get_ident()
        self._calls[thread] = what, time.time()
        try:
            return self._call(what, function, self.config.max_retries if self.retries and repeat else 0)
        finally:
            del self._calls[thread]

    def _call(self, what: str, function: Callable[[], T], retries: int) -> T:
        trouble: Trouble | None = None
        wait, longest = self._backoff
        while True:
            self._raise_given_up(what)
            try:
                result = function()
            except (ConnectorError, StateError) as error:
                trouble = self._note(what, error, trouble)
                tries = trouble.tries
                final = isinstance(error, ConnectorError) and error.final
                if final or tries > retries or self.stopping.is_set():
                    self._give_up(what, error)
                    raise
                pause = min(wait, longest) * random.uniform(0.5, 1.0)
                logger.warning(
                    "%s failed (try %d of %d, next in %.1f s): %s",
                    what,
                    tries,
                    retries + 1,
                    pause,
                    error.message,
                )
                self.stopping.wait(pause)
                wait *= 2
            else:
                if trouble is not None:
                    self._forget(trouble)
                return result

    def _give_up(self, what: str, error: ConnectorError | StateError) -> None:
        with self._lock:
            self._given_up.setdefault(what, error)
            for trouble in self._troubles:
                trouble.given_up |= trouble.what == what
        self.on_trouble()

    def _raise_given_up(self, what: str) -> None:
        error = self._given_up.get(what)
        if error is not None:
            raise error

    def _note(self, what: str, error: ConnectorError | StateError, trouble: Trouble | None) -> Trouble:
        with self._lock:
            if trouble is not None:
                trouble.tries += 1
                trouble.error = error.message
                return trouble
            trouble = Trouble(what, time.time(), 1, error.message)
            self._troubles.append(trouble)
        self.on_trouble()
        return trouble

    def _forget(self, trouble: Trouble) -> None:
        with self._lock:
            # By identity: two calls may fail alike.
            self._troubles = [other for other in self._troubles if other is not trouble]
        logger.warning("%s works again, after %.1f s", trouble.what, time.time() - trouble.since)
        self.on_trouble()

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


def _nothing() -> None:
    """Nobody wants to know."""


failures: Registry[type[FailureStrategy]] = Registry("failure strategy", "velostream.runtime.failures")
