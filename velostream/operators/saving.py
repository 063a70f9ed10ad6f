"""What of an operator's state is saved, and how an operator gives and takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Changes:
    """What of an operator's state has changed since the last ones were taken, and a part of the rest.

    Rounds stand in for compaction: with what has changed goes the next part of all that there is, so that
    one round after the other writes the whole state again, and what was saved before a complete round is
    not needed any more. The state is all changes since the last complete round's beginning, in order.
    """

    # By name ("groups", "distinct.0"); rows are upserts by key (and window).
    tables: dict[str, pa.RecordBatch]
    # JSON: the watermark, the bound below which windows are dropped, flags.
    values: dict[str, Any]
    # A round through all of the state begins with these changes.
    begins: bool
    # The round that began last is complete with these changes. One that does not say so is complete when
    # the same operator begins the next.
    ends: bool = False
