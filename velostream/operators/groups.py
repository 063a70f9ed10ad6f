"""The groups of one lane: keys, accumulators and flags side by side by slot, and how they are saved."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.kernels import Cells, GroupTable, Int64State, State
from velostream.operators.accumulate import Accumulators
from velostream.operators.arrays import fixed, int64s
from velostream.operators.rounds import Walk
from velostream.plan.nodes import AggregateNode
from velostream.sql.types import BIGINT, TIMESTAMP

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

# Rows of one saved table: its texts have to stay below 2 GiB.
SAVED_ROWS = 65_536
# So many changed groups are taken before they are asked for, so that few are left when they are.
AHEAD_ROWS = 1 << 18
# In the column `flags`.
SENT, FAILED = 1, 2


class Latest:
    """The greatest event time by slot."""

    def __init__(self) -> None:
        self._state: State = Int64State(BIGINT, ("greatest",))
        self._cells = Cells([self._state])

    def update(self, slots: Int32s, times: Int64s, rows: Int32s | None) -> None:
        self._cells.update(slots, [(fixed(times, BIGINT), None, None)], rows)

    def trace(self, slots: Int32s, times: Int64s, rows: Int32s | None) -> Latest:
        after = Latest.__new__(Latest)
        after._cells = self._cells.trace(slots, [(fixed(times, BIGINT), None, None)], rows)
        after._state = after._cells.states[0]
        return after

    def merge(self, slots: Int32s, other: Latest, others: Int32s) -> None:
        self._cells.merge(slots, other._cells, others)

    def times(self, slots: Int32s) -> Int64s:
        return int64s(self._state.greatest(self._cells, slots)[0])

    def reserve(self, slots: int) -> None:
        self._cells.reserve(slots)

    def compact(self, keep: Int32s) -> None:
        self._cells.compact(keep)

    def take(self, slots: Int32s) -> pa.Array:
        """The times of slots as they are saved; NULL where there is none."""
        return self._state.greatest(self._cells, slots)[0].view(TIMESTAMP)

    def put(self, slots: Int32s, times: pa.Array, rows: Int32s | None) -> None:
        """Take in rows of what `take` gave. Times only grow, so that the last one saved is the greatest."""
        self._cells.update(slots, [(times.view(BIGINT), None, None)], rows)

    @property
    def nbytes(self) -> int:
        return int(self._cells.nbytes)


class Groups:
    """(key, window) to slot, and by slot all that is kept of the group. Owned by one lane.

    Saved are two kinds of tables, in parts of at most `SAVED_ROWS` rows:

    | table | columns |
    |---|---|
    | groups.<part> | key.<n>; window; state.<n>, state.<n>.least … (see `Cells.fields`); flags; latest |
    | distinct.<state>.<part> | key.<n>; window; value |

    `window` (its start) is there for a query with a window, `latest` (the greatest event time) for one
    without whose input has times. A row of the first kind stands for all earlier ones of its group; rows of
    the second kind add up.
    """

    def __init__(self, node: AggregateNode) -> None:
        self.key_types = [node.input.field(name).type for name in node.keys]
        self.windowed = node.window is not None
        self.table = GroupTable(self.key_types)
        self.accumulators = Accumulators(node.aggregates, node.input)
        self.latest: Latest | None = None
        # Whether the reader of the output has a row of the group; whether it ever failed. Both are only kept
        # where a group can be sent more than once.
        self.flagged = node.emit == "changes" or node.late == "update"
        self.sent = np.zeros(0, dtype=np.uint8)
        self.failed = np.zeros(0, dtype=np.bool_)
        self._walk = Walk()
        self._in_round = False
        # Whether a round has begun at all: the first one does also while nothing changes.
        self._begun = False
        # What was taken ahead of the next `take`, its number of rows, and their bytes.
        self._ahead: list[pa.RecordBatch] = []
        self._ahead_rows = 0
        self._ahead_bytes = 0
        # Not more groups than this have changed since changes were taken: to count them takes O(groups).
        self._most_changed = 0

    def latest_of(self) -> Latest:
        """The event times, with room for all slots."""
        if self.latest is None:
            self.latest = Latest()
        self.latest.reserve(self.table.count)
        return self.latest

    def reserve(self) -> None:
        """Make room for what is kept of all slots."""
        count = self.table.count
        self.accumulators.reserve(count)
        if self.flagged and count > len(self.sent):
            room = max(64, 2 * count) - len(self.sent)
            self.sent = np.concatenate([self.sent, np.zeros(room, dtype=np.uint8)])
            self.failed = np.concatenate([self.failed, np.zeros(room, dtype=np.bool_)])

    def keep(self, slots: Int32s) -> None:
        """Drop all other groups: slot slots[j] (ascending) becomes slot j."""
        if len(slots) == self.table.count:
            return
        self.accumulators.compact(slots)
        if self.latest is not None:
            self.latest.compact(slots)
        if self.flagged:
            self.sent = self.sent[slots]
            self.failed = self.failed[slots]
        self.table.compact(slots)
        self._walk.compact(slots)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held, rows that wait to be saved included."""
        latest = 0 if self.latest is None else self.latest.nbytes
        kept = self.table.nbytes + self.accumulators.nbytes + latest + 2 * len(self.sent)
        return int(kept + self._ahead_bytes)

    # --- saving -------------------------------------------------------------------------------

    def track(self, again: bool) -> None:
        """Note from now on what changes. All that there is was saved; `again`: save it once more."""
        self.table.track(again)
        if again:
            for seen in self.accumulators.distinct.values():
                seen.save_again()

    def expect(self, changes: int) -> None:
        """At most so many groups are about to change."""
        self._most_changed += changes

    def take_ahead(self) -> bool:
        """Take what has changed, when it is much, for the next `take` to give; whether that was so.

        A group that changes again is taken again: not more rows are held than there are groups.
        """
        if self._most_changed < AHEAD_ROWS or not self.table.tracks:
            return False
        self._most_changed = self.table.changed
        if not AHEAD_ROWS <= self._most_changed <= self.table.count - self._ahead_rows:
            return False
        slots = self.table.take_changed(0, 0)
        taken = list(map(self._rows, _parts(slots)))
        self._ahead += taken
        self._ahead_rows += len(slots)
        self._ahead_bytes += sum(batch.nbytes for batch in taken)
        self._most_changed = 0
        return True

    def take(self) -> tuple[dict[str, pa.RecordBatch], bool, bool]:
        """Tables of what has changed, and of the next part of a round; whether one begins and ends with them.

        The first call gives everything, and tracks changes from then on, if `track` does not already. It
        begins a round, also where nothing has changed since groups were restored, and a round goes on while
        nothing changes: what was saved before a restart is kept until all lanes have completed one.
        """
        if not self.table.tracks:
            self.table.track(True)
        changed = self.table.changed + self._ahead_rows
        distinct = self.accumulators.distinct
        begins = not self._in_round and (changed > 0 or self.table.count == 0 or not self._begun)
        if begins:
            self._in_round = self._begun = True
            # Where all has changed, these are the whole round.
            self._walk.begin(self.table.count if self.table.changed < self.table.count else 0)
            for seen in distinct.values():
                seen.begin_round()
        tables = {}
        if changed or self._in_round:
            slots = self.table.take_changed(*self._walk.next(changed))
            # A later row of a group stands for the earlier ones.
            rows = [*self._ahead, *map(self._rows, _parts(slots))]
            tables = {f"groups.{part}": batch for part, batch in enumerate(rows)}
            self._ahead, self._ahead_rows, self._ahead_bytes, self._most_changed = [], 0, 0, 0
            for state, seen in distinct.items():
                for part, chosen in enumerate(_parts(seen.take())):
                    owners, values = seen.pairs(chosen)
                    columns = [*self._names(owners), values]
                    schema = self.distinct_schema(seen.type)
                    tables[f"distinct.{state}.{part}"] = pa.RecordBatch.from_arrays(columns, schema=schema)
        ends = self._in_round and self._walk.done and all(seen.round_done for seen in distinct.values())
        if ends:
            self._in_round = False
        return tables, begins, ends

    def _rows(self, slots: Int32s) -> pa.RecordBatch:
        columns = [*self._names(slots), *self.accumulators.take(slots), fixed(self._flags(slots), pa.uint8())]
        if self.latest is not None:
            columns.append(self.latest.take(slots))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema(self.latest is not None))

    def _names(self, slots: Int32s) -> list[pa.Array]:
        """Keys and windows."""
        columns = list(self.table.keys(slots))
        return [*columns, fixed(self.table.windows_of(slots), TIMESTAMP)] if self.windowed else columns

    def _flags(self, slots: Int32s) -> npt.NDArray[np.uint8]:
        if not self.flagged:
            return np.zeros(len(slots), dtype=np.uint8)
        flags: npt.NDArray[np.uint8] = self.sent[slots] * np.uint8(SENT)
        flags[self.failed[slots]] |= FAILED
        return flags

    def schema(self, timed: bool) -> pa.Schema:
        """That of a table of groups; `timed` with their event times."""
        cells = [field.with_name(f"state.{field.name}") for field in self.accumulators.fields]
        latest = [pa.field("latest", TIMESTAMP)] if timed else []
        return pa.schema([*self._name_fields(), *cells, pa.field("flags", pa.uint8()), *latest])

    def distinct_schema(self, type: pa.DataType) -> pa.Schema:
        """That of a table of distinct values of `type`."""
        return pa.schema([*self._name_fields(), pa.field("value", type)])

    def _name_fields(self) -> list[pa.Field]:
        keys = [pa.field(f"key.{number}", type) for number, type in enumerate(self.key_types)]
        return [*keys, pa.field("window", TIMESTAMP)] if self.windowed else keys


def _parts(slots: Int32s) -> Iterator[Int32s]:
    for start in range(0, len(slots), SAVED_ROWS):
        yield slots[start : start + SAVED_ROWS]
