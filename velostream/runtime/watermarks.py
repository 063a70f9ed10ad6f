"""Watermarks in-band: what each sender has promised, and the minimum that counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

START = -(1 << 63)
END = (1 << 63) - 1
# Not a time: the sender has been silent for so long that it no longer counts, until it speaks again.
IDLE = END - 1


class Watermarks:
    """The watermark of a receiver with a fixed set of senders, in microseconds UTC.

    START means that nothing is known yet, END that the sender's input has ended. Never goes back.
    Owned by the lane that receives.
    """

    __slots__ = ("_by_sender", "_idle", "current")

    def __init__(self, senders: int) -> None:
        self._by_sender = [START] * senders
        self._idle: set[int] = set()
        self.current = START

    @property
    def silent(self) -> bool:
        """Whether all senders that have not ended are idle, and there are such."""
        return bool(self._idle) and all(
            sender in self._idle or watermark == END for sender, watermark in enumerate(self._by_sender)
        )

    def save(self) -> dict[str, Any]:
        """JSON, for `restore`."""
        return {"watermarks": list(self._by_sender), "idle": sorted(self._idle), "current": self.current}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from what `save` has given of the same number of senders."""
        self._by_sender = list(saved["watermarks"])
        self._idle = set(saved["idle"])
        # Not to be had from the others: a sender that was silent may have woken up behind it.
        self.current = saved["current"]

    def advance(self, sender: int, watermark: int) -> bool:
        """Note a sender's watermark (or IDLE); True when the minimum over all that count has risen."""
        if watermark == IDLE:
            self._idle.add(sender)
        else:
            before = self._by_sender[sender]
            awake = sender in self._idle
            if watermark <= before and not awake:
                return False
            self._idle.discard(sender)
            self._by_sender[sender] = max(before, watermark)
            if before > self.current and not awake:
                return False
        speaking = [w for s, w in enumerate(self._by_sender) if s not in self._idle]
        lowest = min(speaking, default=END)
        if lowest == END and self._idle:
            # Whoever has not ended is silent, and may speak again: this is not the end. The furthest of them
            # counts, so that it does not matter which of them fell silent first.
            lowest = max(self._by_sender[s] for s in self._idle)
        if lowest <= self.current:
            return False
        self.current = lowest
        return True
