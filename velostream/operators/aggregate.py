"""GROUP BY, windowed or not: rows are keyed where they are read, and aggregated where their key lives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.errors import InternalError
from velostream.kernels import KEY_HASH_VERSION, GroupTable, KeyEncoder, Keys, change_ops, select_rows
from velostream.operators.accumulate import Accumulators, Results
from velostream.operators.arrays import fixed, mask, value_at
from velostream.operators.batch import INSERT, Batch, Failures
from velostream.operators.expressions import Predicate
from velostream.operators.groups import Groups, Latest
from velostream.operators.restoring import Restoring, unusable
from velostream.operators.saving import Changes, Stateful
from velostream.plan.nodes import AggregateNode
from velostream.sql.typenames import type_name
from velostream.sql.types import TIMESTAMP
from velostream.sql.windows import window_kinds

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_MIN, _MAX = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_NOT_SENT = 255
_NO_SLOTS = np.zeros(0, dtype=np.int32)
_REMEMBERED_FAILURES = 100
# Rows of one batch of results: a lane does not hold all of them at once.
_RESULT_ROWS = 65_536
# A sender whose last slice had more groups than this part of its rows sends as many slices as rows.
_WIDE_PART = 0.25
_WIDE_SLICES = 15


@dataclass(slots=True)
class KeyedPart:
    """Rows for one lane: `rows` of `batch`, None all of them; `keys` and `times` are by row of the batch.

    `times` are the rows' event times (microseconds UTC), for a query without a window whose input has them:
    either all parts that one operator gets have them, or none.
    """

    batch: pa.RecordBatch
    keys: Keys
    rows: Int32s | None
    times: Int64s | None

    @property
    def most_groups(self) -> int:
        """So many groups may change by it."""
        return self.batch.num_rows if self.rows is None else len(self.rows)


@dataclass(slots=True)
class PartialPart:
    """Groups for one lane: `slots` of a table into which the sender has folded a batch. Not changed any more.

    `latest` is there when a `KeyedPart` of the rows would have times.
    """

    table: GroupTable
    accumulators: Accumulators
    latest: Latest | None
    slots: Int32s

    @property
    def most_groups(self) -> int:
        """As a `KeyedPart`."""
        return len(self.slots)


Part = KeyedPart | PartialPart


class Keyer:
    """Finds the key of each row, and the lane that owns it. Serves all lanes at once.

    Between lanes it sends groups where it can: rows of one key then cost the owner what one group does, and
    the rest is done where the rows are.
    """

    def __init__(self, node: AggregateNode) -> None:
        self._node = node
        self._columns = [node.input.get_field_index(name) for name in node.keys]
        self._types = [node.input.field(index).type for index in self._columns]
        self._encoder = KeyEncoder(self._types)
        windowed = node.window is not None
        # Rows of windows that have gone when a group arrives are counted: their number goes with it.
        self._empty = Accumulators(node.aggregates, node.input, count_rows=windowed)
        self._folds = self._empty.mergeable and not (node.emit == "changes" and node.granularity == "record")
        # By sender, how many slices to send as rows; each one is written by its own thread alone.
        self._wide: dict[int, int] = {}
        if node.window is not None:
            self._window = window_kinds[node.window.kind]()
            self._time = node.input.get_field_index(node.window.time)

    def keys(self, batch: pa.RecordBatch) -> Keys:
        """The key of each row."""
        return self._encoder.encode([batch.column(index) for index in self._columns], batch.num_rows)

    def split(
        self,
        batch: pa.RecordBatch,
        lanes: int,
        key_groups: int,
        times: Int64s | None = None,
        sender: int = 0,
    ) -> Sequence[Part | None]:
        """For each lane its part of the batch, None when it has no row there; `sender` is the calling one."""
        n = batch.num_rows
        if n == 0:
            return [None] * lanes
        keys = self.keys(batch)
        if lanes == 1:
            return [KeyedPart(batch, keys, None, times)]
        wide = self._wide.get(sender, 0)
        if self._folds and not wide:
            folded = self._fold(batch, keys, times)
            if folded is not None:
                table, accumulators, latest = folded
                if table.count > n * _WIDE_PART:
                    self._wide[sender] = _WIDE_SLICES
                return [
                    None if slots is None else PartialPart(table, accumulators, latest, slots)
                    for slots in table.partition(lanes, key_groups)
                ]
        if wide:
            self._wide[sender] = wide - 1
        return [
            None if rows is None else KeyedPart(batch, keys, None if len(rows) == n else rows, times)
            for rows in keys.partition(lanes, key_groups)
        ]

    def _fold(
        self, batch: pa.RecordBatch, keys: Keys, times: Int64s | None
    ) -> tuple[GroupTable, Accumulators, Latest | None] | None:
        """The groups of a batch; None when rows lack a window time: only their owner counts them."""
        windows = None
        if self._node.window is not None:
            column = batch.column(self._time)
            if column.null_count:
                return None
            windows = self._window.starts(column, self._node.window.size_us)
            times = None
        table, accumulators = GroupTable(self._types), self._empty.fresh()
        slots = accumulators.group(table, keys, batch, None, windows, give_slots=times is not None)
        latest = None
        if times is not None and slots is not None:
            latest = Latest()
            latest.reserve(table.count)
            latest.update(slots, times, None)
        return table, accumulators, latest

    @staticmethod
    def global_lane(lanes: int, key_groups: int) -> int:
        """The lane of the rows of a query without keys."""
        parts = KeyEncoder([]).encode([], 1).partition(lanes, key_groups)
        return next(lane for lane, rows in enumerate(parts) if rows is not None)


class Aggregate(Stateful):
    """The groups of one lane, and their state. Owned by the lane.

    A window closes when the watermark reaches its end. With `late` update its group is sent then, kept until
    end + allowed lateness, and sent again after each block that changes it; otherwise it is sent and dropped
    at end + allowed lateness. `owns_global`: this lane sends the row of a query without keys and window when
    there was no input.
    """

    def __init__(self, node: AggregateNode, owns_global: bool = False) -> None:
        self._node = node
        self._owns_global = owns_global
        self._groups = Groups(node)
        self._having = None if node.having is None else Predicate(node.having, node.schema)
        self._changes = node.emit == "changes"
        self._size = 0 if node.window is None else node.window.size_us
        self._close_after = self._size + (0 if self._groups.flagged else node.allowed_lateness_us)
        self._drop_after = self._size + node.allowed_lateness_us
        self._watermark = _MIN
        self._first_window = _MAX
        self._failures: list[tuple[str, dict[str, object]]] = []
        self._seen_rows = False
        self._finished = False
        self.failed_groups = 0
        self.late_rows = 0
        self.failed_rows = 0
        if node.window is not None:
            self._window = window_kinds[node.window.kind]()
            self._time = node.input.get_field_index(node.window.time)

    # --- in -----------------------------------------------------------------------------------

    def process(self, part: Part) -> Batch | None:
        """Add rows; gives those to send now (see `AggregateNode.emit`), None when there are none.

        Rows of windows that were dropped already count in `late_rows`, rows whose window time is NULL in
        `failed_rows`; both are left out.
        """
        self._groups.expect(part.most_groups)
        if isinstance(part, PartialPart):
            slots = self._merge(part)
        elif self._changes and self._node.granularity == "record":
            return self._process_by_record(part)
        else:
            slots = self._fold(part)
        if slots is None or not len(slots):
            return None
        touched = self._groups.table.touched(slots)
        if self._changes:
            return self._send(touched)
        return self._send(touched[self._groups.table.windows_of(touched) <= self._bound(self._close_after)])

    def _sends_now(self) -> bool:
        """Whether some of the groups that rows go to have to be sent at once."""
        closed = self._first_window <= self._bound(self._close_after)
        return self._changes or (self._node.window is not None and closed)

    def _fold(self, part: KeyedPart) -> Int32s | None:
        """The slots of the rows, when they have to be sent at once."""
        rows, windows = self._selected(part)
        if not (part.batch.num_rows if rows is None else len(rows)):
            return None
        timed = part.times is not None and self._node.window is None
        slots = self._groups.accumulators.group(
            self._groups.table, part.keys, part.batch, rows, windows, give_slots=timed or self._sends_now()
        )
        self._reserve()
        if timed:
            assert slots is not None and part.times is not None
            self._groups.latest_of().update(slots, part.times, rows)
        return slots if self._sends_now() else None

    def _merge(self, part: PartialPart) -> Int32s | None:
        """Add groups; their slots here, when they have to be sent at once."""
        others = part.slots
        if self._node.window is not None:
            windows = part.table.windows_of(others)
            kept = self._open_windows(windows)
            if kept is not None:
                dropped = np.ones(len(others), dtype=np.bool_)
                dropped[kept] = False
                self.late_rows += part.accumulators.rows(others[dropped])
                others = others[kept]
        if not len(others):
            return None
        slots = self._groups.table.adopt(part.table, others)
        self._reserve()
        self._groups.accumulators.merge(slots, part.accumulators, others)
        if part.latest is not None:
            self._groups.latest_of().merge(slots, part.latest, others)
        return slots if self._sends_now() else None

    def _selected(self, part: KeyedPart) -> tuple[Int32s | None, Int64s | None]:
        if self._node.window is None:
            return part.rows, None
        return self._open_rows(part.batch.column(self._time), part.rows)

    def _open_rows(self, times: pa.Array, rows: Int32s | None) -> tuple[Int32s | None, Int64s]:
        """Those of the selected rows whose window can still take them, and the start of each one's window."""
        n = len(times) if rows is None else len(rows)
        timed = select_rows(len(times), rows, times)
        if timed is not None:
            self.failed_rows += n - len(timed)
            rows = timed if rows is None else rows[timed]
        windows = self._window.starts(times, self._size, rows)
        if not len(windows):
            return rows, windows
        kept = self._open_windows(windows)
        if kept is not None:
            self.late_rows += len(windows) - len(kept)
            windows = windows[kept]
            rows = kept if rows is None else rows[kept]
        return rows, windows

    def _open_windows(self, windows: Int64s) -> Int32s | None:
        """Positions of the windows that have not been dropped, None when that is all of them."""
        first = int(windows.min())
        dropped = self._bound(self._drop_after)
        kept = None
        if first <= dropped:
            kept = np.flatnonzero(windows > dropped).astype(np.int32)
            first = int(windows[kept].min()) if len(kept) else _MAX
        self._first_window = min(self._first_window, first)
        return kept

    def _process_by_record(self, part: KeyedPart) -> Batch | None:
        rows, windows = self._selected(part)
        slots = self._groups.table.assign(part.keys, rows, windows)
        if not len(slots):
            return None
        self._reserve()
        after = self._groups.accumulators.trace(part.batch, slots, rows)
        latest = None
        if part.times is not None and self._node.window is None:
            latest = self._groups.latest_of().trace(slots, part.times, rows)
        return self._send(slots, after, latest)

    def _reserve(self) -> None:
        self._seen_rows = True
        self._groups.reserve()

    # --- time ---------------------------------------------------------------------------------

    def advance(self, watermark_us: int) -> Iterator[Batch]:
        """Close windows up to the watermark; gives their groups, by window, then by their first row.

        Nothing happens before the first batch is asked for, and all of them have to be taken.
        """
        if self._node.window is None or watermark_us <= self._watermark:
            return
        closed = self._bound(self._close_after)
        self._watermark = watermark_us
        closing, dropped = self._bound(self._close_after), self._bound(self._drop_after)
        if self._first_window > closing:
            return
        windows = self._groups.table.windows
        if not self._changes:
            slots = np.flatnonzero((windows <= closing) & (windows > closed)).astype(np.int32)
            yield from self._send_all(slots[np.argsort(windows[slots], kind="stable")])
        if self._first_window <= dropped:
            self._keep(np.flatnonzero(windows > dropped).astype(np.int32))

    def finish(self) -> Iterator[Batch]:
        """The input has ended: gives all groups that were not sent, and drops everything; as `advance`."""
        if self._owns_global and self._node.global_group and not self._seen_rows:
            self._groups.table.assign(KeyEncoder([]).encode([], 1))
            self._reserve()
            yield from self._send_all(np.zeros(1, dtype=np.int32))
        elif self._node.window is not None:
            yield from self.advance(_MAX)
        elif not self._changes:
            yield from self._send_all(np.arange(self._groups.table.count, dtype=np.int32))
        self._keep(_NO_SLOTS)
        self._finished = True

    def _send_all(self, slots: Int32s) -> Iterator[Batch]:
        if self._groups.flagged:
            self._groups.table.mark(slots)
        for start in range(0, len(slots), _RESULT_ROWS):
            batch = self._send(slots[start : start + _RESULT_ROWS])
            if batch is not None:
                yield batch

    def _bound(self, after: int) -> int:
        """The greatest start of windows that the watermark has left behind by `after`."""
        return max(_MIN, self._watermark - after) if self._watermark > _MIN else _MIN

    def _keep(self, slots: Int32s) -> None:
        """Drop all other groups."""
        self._groups.keep(slots)
        self._first_window = int(self._groups.table.windows.min()) if len(slots) else _MAX

    # --- out ----------------------------------------------------------------------------------

    def _send(
        self, slots: Int32s, after: Results | None = None, latest: Latest | None = None
    ) -> Batch | None:
        """Rows of these slots as they are, or as traced states tell (one per entry of `slots`)."""
        n = len(slots)
        if not n:
            return None
        cells = slots if after is None else np.arange(n, dtype=np.int32)
        groups = self._groups
        columns = groups.table.keys(slots)
        times: Int64s | None = None
        if self._node.window is not None:
            starts = groups.table.windows_of(slots)
            ends = np.where(starts > _MAX - self._size, _MAX, starts + self._size)
            columns += [fixed(starts, TIMESTAMP), fixed(ends, TIMESTAMP)]
            times = ends - 1
        results, failures = (groups.accumulators if after is None else after).results(cells)
        data = pa.RecordBatch.from_arrays(columns + results, schema=self._node.schema)
        passes, failed = None, failures.mask if failures else None
        if self._having is not None:
            passes, wrong = self._having.run(data)
            if wrong is not None:
                failures.merge(wrong)
                failed = failures.mask
        if failed is not None:
            self._note(data, slots, failures, failed)
        if groups.latest is not None:
            latest = groups.latest if latest is None else latest
            times = latest.times(cells)
        ops = change_ops(slots, failed, passes, groups.sent if groups.flagged else None)
        keep = ops != _NOT_SENT
        if not keep.all():
            if not keep.any():
                return None
            data, ops = data.filter(mask(keep)), ops[keep]
            times = None if times is None else times[keep]
        return Batch(data, ops if (ops != INSERT).any() else None, times)

    def _note(self, data: pa.RecordBatch, slots: Int32s, failures: Failures, failed: Mask) -> None:
        for row in np.flatnonzero(failed):
            if self._groups.flagged:
                if self._groups.failed[slots[row]]:
                    continue
                self._groups.failed[slots[row]] = True
            self.failed_groups += 1
            if len(self._failures) < _REMEMBERED_FAILURES:
                names = data.schema.names[: data.num_columns - len(self._node.aggregates)]
                key = {name: value_at(data.column(name), int(row)) for name in names}
                self._failures.append((": ".join(failures.reason(int(row))), key))

    # --- what it holds ------------------------------------------------------------------------

    def take_failed(self) -> list[tuple[str, dict[str, object]]]:
        """Reason and key of groups that failed since the last call; at most 100, `failed_groups` has all."""
        taken, self._failures = self._failures, []
        return taken

    @property
    def open_groups(self) -> int:
        return int(self._groups.table.count)

    @property
    def open_windows(self) -> int:
        """Distinct windows that have not closed."""
        if self._node.window is None:
            return 0
        windows = self._groups.table.windows
        return len(np.unique(windows[windows > self._bound(self._close_after)]))

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the state holds."""
        return self._groups.nbytes

    # --- saving -------------------------------------------------------------------------------

    def describe_state(self) -> dict[str, Any]:
        """See `Stateful`; HAVING is no part of it."""
        node = self._node
        window = None
        if node.window is not None:
            window = {"kind": node.window.kind, "time": node.window.time, "size_us": node.window.size_us}
        return {
            "kind": "aggregate",
            "version": 1,
            "key_hash": KEY_HASH_VERSION,
            "keys": [{"name": name, "type": type_name(node.input.field(name).type)} for name in node.keys],
            "window": window,
            "states": self._groups.accumulators.describe(),
            "emit": node.emit,
            "late": node.late,
            "allowed_lateness_us": node.allowed_lateness_us,
        }

    def track_changes(self) -> None:
        """Note from now on what changes, before anything has been processed."""
        self._groups.track(again=False)

    def take_ahead(self) -> bool:
        """Take some of the next changes, if there are many; whether it did. Called between two batches."""
        return self._groups.take_ahead()

    def take_changes(self) -> Changes:
        """See `Stateful`. The tables are those of `Groups`.

        The values: `watermark` (null: none), which says what was dropped; `seen_rows`, whether there was
        ever a row; `finished`, whether the input has ended, which drops all.
        """
        tables, begins, ends = self._groups.take()
        values = {
            "watermark": self._watermark if self._watermark > _MIN else None,
            "seen_rows": self._seen_rows,
            "finished": self._finished,
        }
        return Changes(tables, values, begins, ends)

    def restore(self, changes: Iterable[Changes], lanes: int, lane: int, key_groups: int) -> None:
        """See `Stateful`. Groups are numbered as they are read, and those of a window are sent in that order.

        All lanes save at one point of the input, with one watermark: where they differ, some have had nothing
        to save since, and the greatest one is that of all.
        """
        if self._seen_rows or self._watermark > _MIN or self._groups.table.count:
            raise InternalError("only an aggregation that has processed nothing can be restored")
        restoring = Restoring(self._groups, lanes, lane, key_groups)
        for change in changes:
            restoring.add(change.tables)
            watermark, seen_rows, finished = _values(change.values)
            self._watermark = max(self._watermark, watermark)
            self._seen_rows |= seen_rows
            if finished:
                restoring.keep(_NO_SLOTS)
        windows = self._groups.table.windows
        if self._node.window is not None:
            restoring.keep(np.flatnonzero(windows > self._bound(self._drop_after)).astype(np.int32))
            windows = self._groups.table.windows
        self._first_window = int(windows.min()) if len(windows) else _MAX
        restoring.finish()


def _values(values: Mapping[str, Any]) -> tuple[int, bool, bool]:
    """Watermark, seen_rows and finished of saved values."""
    if set(values) != {"watermark", "seen_rows", "finished"}:
        raise unusable(f"it has the values {', '.join(sorted(values))}")
    watermark = _MIN if values["watermark"] is None else values["watermark"]
    if type(watermark) is not int or not _MIN <= watermark <= _MAX:
        raise unusable(f"it has the watermark {watermark!r}")
    for name in ("seen_rows", "finished"):
        if type(values[name]) is not bool:
            raise unusable(f"its value '{name}' is {values[name]!r}")
    return watermark, values["seen_rows"], values["finished"]
