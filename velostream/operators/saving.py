"""What of an operator's state is saved, and how an operator gives and takes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Changes:
    """What of an operator's state has changed since the last ones were taken, and a part of the rest.

    Rounds stand in for compaction: with what has changed goes the next part of all that there is, so that
    one round after the other writes the whole state again, and what was saved before a complete round is
    not needed any more. The state is all changes since the last complete round's beginning, in order.

    The first changes that an operator gives begin a round, also when it has been restored or holds nothing;
    a round goes on while nothing changes, and only between two rounds there may be nothing to give. So all
    lanes complete their first round, and what was saved before a restart can go.
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


class Stateful(ABC):
    """An operator that keeps state by key. Owned by a lane, which takes its changes between two batches.

    What is saved does not depend on the number of lanes: each one takes its keys out of what all have saved.
    """

    @abstractmethod
    def describe_state(self) -> dict[str, Any]:
        """What its saved state is made of, as JSON: state that was saved under the same one can be restored.

        Columns are named as in the operator's input; which expressions they are is the plan's to say.
        """

    @abstractmethod
    def take_changes(self) -> Changes:
        """What has changed since the last call, and the next part of a round; see `Changes`.

        The first call gives all that there is, and makes the operator note from then on what changes: a job
        that saves nothing pays nothing. O(changed rows + part of the round); the tables own their memory.
        """

    @abstractmethod
    def restore(self, changes: Iterable[Changes], lanes: int, lane: int, key_groups: int) -> None:
        """Take the keys of lane `lane` of `lanes` out of what any number of lanes have saved.

        `changes` are those of all lanes, of each one in order, from the beginning of its last complete round
        on. Only for an operator that has not processed anything. Raises StateError for what this operator
        cannot have saved; it is of no use then.
        """
