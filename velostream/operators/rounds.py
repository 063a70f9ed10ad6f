"""Which part of a table a round of saving gives next; what a round is, `Changes` tells."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Rows that a round gives at once, beside those that have changed: as many as have changed, within these.
LEAST_ROWS = 1 << 14
MOST_ROWS = 1 << 18


class Walk:
    """A round's way through one table: the slots that there were when it began, in order.

    Slots that are made later have changed since, so they are saved anyway.
    """

    def __init__(self) -> None:
        self._at = 0
        self._end = 0

    def begin(self, slots: int) -> None:
        """Go through the slots below `slots`."""
        self._at, self._end = 0, slots

    def next(self, changed: int) -> tuple[int, int]:
        """The next slots to give, from the first to the one before the second; `changed` are given anyway."""
        first = self._at
        self._at = min(self._end, first + min(max(changed, LEAST_ROWS), MOST_ROWS))
        return first, self._at

    @property
    def done(self) -> bool:
        return self._at >= self._end

    def compact(self, keep: npt.NDArray[np.int32]) -> None:
        """Slot keep[j] (ascending) becomes slot j; all others are gone."""
        self._at, self._end = np.searchsorted(keep, (self._at, self._end)).tolist()
