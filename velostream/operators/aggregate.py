"""GROUP BY, windowed or not: rows are keyed where they are read, and aggregated where their key lives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.kernels import ExtremeInt64, GroupTable, KeyEncoder, Keys, change_ops, select_rows
from velostream.operators.accumulate import Accumulators, Results
from velostream.operators.batch import INSERT, Batch, Failures
from velostream.operators.expressions import Predicate
from velostream.plan.nodes import AggregateNode
from velostream.sql.types import BIGINT, TIMESTAMP
from velostream.sql.windows import window_kinds

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_MIN, _MAX = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_NOT_SENT = 255
_REMEMBERED_FAILURES = 100


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


class Keyer:
    """Finds the key of each row, and the lane that owns it. Holds no state: serves all lanes at once."""

    def __init__(self, node: AggregateNode) -> None:
        self._columns = [node.input.get_field_index(name) for name in node.keys]
        self._encoder = KeyEncoder([node.input.field(index).type for index in self._columns])

    def split(
        self, batch: pa.RecordBatch, lanes: int, key_groups: int, times: Int64s | None = None
    ) -> list[KeyedPart | None]:
        """For each lane its part of the batch, None when it has no row there."""
        n = batch.num_rows
        if n == 0:
            return [None] * lanes
        keys = self._encoder.encode([batch.column(index) for index in self._columns], n)
        if lanes == 1:
            return [KeyedPart(batch, keys, None, times)]
        return [
            None if rows is None else KeyedPart(batch, keys, None if len(rows) == n else rows, times)
            for rows in keys.partition(lanes, key_groups)
        ]

    @staticmethod
    def global_lane(lanes: int, key_groups: int) -> int:
        """The lane of the rows of a query without keys."""
        parts = KeyEncoder([]).encode([], 1).partition(lanes, key_groups)
        return next(lane for lane, rows in enumerate(parts) if rows is not None)


class Aggregate:
    """The groups of one lane, and their state. Owned by the lane.

    A window closes when the watermark reaches its end. With `late` update its group is sent then, kept until
    end + allowed lateness, and sent again after each block that changes it; otherwise it is sent and dropped
    at end + allowed lateness. `owns_global`: this lane sends the row of a query without keys and window when
    there was no input.
    """

    def __init__(self, node: AggregateNode, owns_global: bool = False) -> None:
        self._node = node
        self._owns_global = owns_global
        self._table = GroupTable([node.input.field(name).type for name in node.keys])
        self._accumulators = Accumulators(node.aggregates, node.input)
        self._latest: ExtremeInt64 | None = None
        self._having = None if node.having is None else Predicate(node.having, node.schema)
        self._changes = node.emit == "changes"
        updates = self._changes or node.late == "update"
        self._size = 0 if node.window is None else node.window.size_us
        self._close_after = self._size + (0 if updates else node.allowed_lateness_us)
        self._drop_after = self._size + node.allowed_lateness_us
        self._watermark = _MIN
        self._first_window = _MAX
        # By slot: whether the reader of the output has a row of the group; whether it ever failed.
        self._sent = np.zeros(0, dtype=np.uint8)
        self._failed = np.zeros(0, dtype=np.bool_)
        self._failures: list[tuple[str, dict[str, object]]] = []
        self._seen_rows = False
        self.failed_groups = 0
        self.late_rows = 0
        self.failed_rows = 0
        if node.window is not None:
            self._window = window_kinds[node.window.kind]()
            self._time = node.input.get_field_index(node.window.time)

    # --- in -----------------------------------------------------------------------------------

    def process(self, part: KeyedPart) -> Batch | None:
        """Add rows; gives those to send now (see `AggregateNode.emit`), None when there are none.

        Rows of windows that were dropped already count in `late_rows`, rows whose window time is NULL in
        `failed_rows`; both are left out.
        """
        rows, windows = part.rows, None
        if self._node.window is not None:
            rows, windows = self._open_rows(part.batch.column(self._time), rows)
        slots = self._table.assign(part.keys, rows, windows)
        if not len(slots):
            return None
        self._seen_rows = True
        self._reserve()
        if self._changes and self._node.granularity == "record":
            return self._process_by_record(part, slots, rows)
        self._accumulators.update(part.batch, slots, rows)
        if part.times is not None and self._node.window is None:
            self._times().update(slots, rows, pa.array(part.times))
        if self._changes:
            return self._send(self._table.touched(slots))
        closed = self._bound(self._close_after)
        if windows is not None and self._first_window <= closed:
            touched = self._table.touched(slots)
            return self._send(touched[self._table.windows[touched] <= closed])
        return None

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
        first = int(windows.min())
        dropped = self._bound(self._drop_after)
        if first <= dropped:
            kept = np.flatnonzero(windows > dropped).astype(np.int32)
            self.late_rows += len(windows) - len(kept)
            windows = windows[kept]
            rows = kept if rows is None else rows[kept]
            first = int(windows.min()) if len(windows) else _MAX
        self._first_window = min(self._first_window, first)
        return rows, windows

    def _process_by_record(self, part: KeyedPart, slots: Int32s, rows: Int32s | None) -> Batch | None:
        after = self._accumulators.trace(part.batch, slots, rows)
        latest = None
        if part.times is not None and self._node.window is None:
            latest = self._times().trace(slots, rows, pa.array(part.times))
        return self._send(slots, after, latest)

    def _times(self) -> ExtremeInt64:
        """The greatest event time by slot."""
        if self._latest is None:
            self._latest = ExtremeInt64(BIGINT, True)
        self._latest.reserve(self._table.count)
        return self._latest

    def _reserve(self) -> None:
        count = self._table.count
        self._accumulators.reserve(count)
        if count > len(self._sent):
            room = max(64, 2 * count) - len(self._sent)
            self._sent = np.concatenate([self._sent, np.zeros(room, dtype=np.uint8)])
            self._failed = np.concatenate([self._failed, np.zeros(room, dtype=np.bool_)])

    # --- time ---------------------------------------------------------------------------------

    def advance(self, watermark_us: int) -> Batch | None:
        """Close windows up to the watermark; gives their groups, by window, then by their first row."""
        if self._node.window is None or watermark_us <= self._watermark:
            return None
        closed = self._bound(self._close_after)
        self._watermark = watermark_us
        closing, dropped = self._bound(self._close_after), self._bound(self._drop_after)
        if self._first_window > closing:
            return None
        windows = self._table.windows
        batch = None
        if not self._changes:
            slots = np.flatnonzero((windows <= closing) & (windows > closed)).astype(np.int32)
            batch = self._send(slots[np.argsort(windows[slots], kind="stable")])
        if self._first_window <= dropped:
            self._keep(np.flatnonzero(windows > dropped).astype(np.int32))
        return batch

    def finish(self) -> Batch | None:
        """The input has ended: gives all groups that were not sent, and drops everything."""
        batch = None
        if self._owns_global and self._node.global_group and not self._seen_rows:
            self._table.assign(KeyEncoder([]).encode([], 1))
            self._reserve()
            batch = self._send(np.zeros(1, dtype=np.int32))
        elif self._node.window is not None:
            batch = self.advance(_MAX)
        elif not self._changes:
            batch = self._send(np.arange(self._table.count, dtype=np.int32))
        self._keep(np.zeros(0, dtype=np.int32))
        return batch

    def _bound(self, after: int) -> int:
        """The greatest start of windows that the watermark has left behind by `after`."""
        return max(_MIN, self._watermark - after) if self._watermark > _MIN else _MIN

    def _keep(self, slots: Int32s) -> None:
        """Drop all other groups."""
        if len(slots) == self._table.count:
            return
        self._accumulators.compact(slots)
        if self._latest is not None:
            self._latest.compact(slots)
        self._sent = self._sent[slots]
        self._failed = self._failed[slots]
        self._table.compact(slots)
        self._first_window = int(self._table.windows.min()) if len(slots) else _MAX

    # --- out ----------------------------------------------------------------------------------

    def _send(
        self, slots: Int32s, after: Results | None = None, latest: ExtremeInt64 | None = None
    ) -> Batch | None:
        """Rows of these slots as they are, or as traced states tell (one per entry of `slots`)."""
        n = len(slots)
        if not n:
            return None
        cells = slots if after is None else np.arange(n, dtype=np.int32)
        columns = self._table.keys(slots)
        times: Int64s | None = None
        if self._node.window is not None:
            starts = self._table.windows[slots]
            ends = np.where(starts > _MAX - self._size, _MAX, starts + self._size)
            columns += [pa.array(starts).cast(TIMESTAMP), pa.array(ends).cast(TIMESTAMP)]
            times = ends - 1
        results, failures = (self._accumulators if after is None else after).results(cells)
        data = pa.RecordBatch.from_arrays(columns + results, schema=self._node.schema)
        passes, failed = None, failures.mask if failures else None
        if self._having is not None:
            passes, wrong = self._having.run(data)
            if wrong is not None:
                failures.merge(wrong)
                failed = failures.mask
        if failed is not None:
            self._note(data, slots, failures, failed)
        if self._latest is not None:
            latest = self._latest if latest is None else latest
            times = latest.value(cells)[0].to_numpy(zero_copy_only=False)
        ops = change_ops(slots, failed, passes, self._sent)
        keep = ops != _NOT_SENT
        if not keep.all():
            if not keep.any():
                return None
            data, ops = data.filter(pa.array(keep)), ops[keep]
            times = None if times is None else times[keep]
        return Batch(data, ops if (ops != INSERT).any() else None, times)

    def _note(self, data: pa.RecordBatch, slots: Int32s, failures: Failures, failed: Mask) -> None:
        for row in np.flatnonzero(failed):
            if self._failed[slots[row]]:
                continue
            self._failed[slots[row]] = True
            self.failed_groups += 1
            if len(self._failures) < _REMEMBERED_FAILURES:
                names = data.schema.names[: data.num_columns - len(self._node.aggregates)]
                key = {name: data.column(name)[int(row)].as_py() for name in names}
                self._failures.append((": ".join(failures.reason(int(row))), key))

    # --- what it holds ------------------------------------------------------------------------

    def take_failed(self) -> list[tuple[str, dict[str, object]]]:
        """Reason and key of groups that failed since the last call; at most 100, `failed_groups` has all."""
        taken, self._failures = self._failures, []
        return taken

    @property
    def open_groups(self) -> int:
        return int(self._table.count)

    @property
    def open_windows(self) -> int:
        """Distinct windows that have not closed."""
        if self._node.window is None:
            return 0
        windows = self._table.windows
        return len(np.unique(windows[windows > self._bound(self._close_after)]))

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the state holds."""
        latest = 0 if self._latest is None else self._latest.nbytes
        return int(self._table.nbytes + self._accumulators.nbytes + latest + 2 * len(self._sent))
