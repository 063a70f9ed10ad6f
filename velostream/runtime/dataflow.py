"""The way of rows through the stages: what a lane does with a slice, and where its rows go.

A slice is run through the stateless stages in any lane, side by side with others (`run`). What depends on
order - lateness, exchange, output - waits for the turn of its block (`deliver`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.kernels import judge_late
from velostream.operators.aggregate import Part
from velostream.operators.arrays import int64s, mask, value_at
from velostream.operators.batch import Batch
from velostream.plan.nodes import WatermarkSpec
from velostream.runtime.epochs import Gathering
from velostream.runtime.lane import Lane
from velostream.runtime.memory import StateMemory
from velostream.runtime.outlets import Outlet
from velostream.runtime.rejects import Rejects
from velostream.runtime.stages import InlineStage, KeyedStage, KeyedTarget, Outputs, Stages
from velostream.runtime.ticket import Ticket
from velostream.runtime.watermarks import END, START, Watermarks

Rows = npt.NDArray[np.int64]

LOGGED_GROUPS = 3
logger = logging.getLogger("velostream.failures")


@dataclass(slots=True)
class PartitionState:
    """What the ordered part of a source partition carries from block to block."""

    source: str
    number: int
    name: str
    # Whether rows may be late, and the time of the partition goes on with them. That of a history without a
    # declared limit goes on at its end only, as that of any bounded source.
    timed: bool = True
    # Whether all of it has been delivered.
    ended: bool = False
    # Latest event time so far, by windowed stage.
    seen: dict[int, int] = field(default_factory=dict)
    # Of an exchange: what the tasks have said of their time.
    heard: Watermarks | None = None


@dataclass(slots=True)
class Output:
    """Rows for a sink, encoded."""

    outlet: Outlet
    payload: object
    rows: int


@dataclass(slots=True)
class Judged:
    """What judging lateness needs of the rows that entered a windowed query.

    `times` are those of all that entered, `failed` the positions of those that failed, `rows` the positions
    of the survivors (None: all), `origin` their rows in the slice (None: the same).
    """

    spec: WatermarkSpec
    times: npt.NDArray[np.int64]
    failed: Rows
    rows: Rows | None
    origin: Rows | None
    rejects: Rejects | None


@dataclass(slots=True)
class Keyed:
    """Rows for a keyed stage, split by lane already; split again only if some turn out to be late."""

    target: KeyedTarget
    batch: Batch
    parts: Parts
    judged: Judged | None


Delivery = Output | Keyed


@dataclass(slots=True)
class Sent:
    """Rows for other tasks, encoded."""

    payload: object
    rows: int


# What a keyed stage is sent: a part for each lane, or () when there is none.
Parts = Sequence[Part | None] | Sent


class Dataflow:
    """All rows' way. `lanes` is set before the first block."""

    def __init__(self, stages: Stages, key_groups: int, memory: StateMemory) -> None:
        self.stages = stages
        self._memory = memory
        self.key_groups = key_groups
        self.lanes: list[Lane] = []
        self.failed_groups: list[str] = []

    # --- in any lane, in any order --------------------------------------------------------------

    def run(
        self, source: str, batch: pa.RecordBatch, rejects: Rejects, lane: Lane, now_us: int
    ) -> list[Delivery]:
        """Run a slice of a source's block through the stateless stages; what comes out, to be delivered."""
        deliveries: list[Delivery] = []
        self._offer(self.stages.roots[source], Batch(batch), None, rejects, None, deliveries, lane, now_us)
        return deliveries

    def run_exchanged(self, source: str, batch: Batch, lane: Lane) -> list[Delivery]:
        """As `run`, for rows that came from another task: they are counted and judged already."""
        deliveries: list[Delivery] = []
        self._offer(self.stages.roots[source], batch, None, None, None, deliveries, lane, 0)
        return deliveries

    def _run_stage(
        self,
        inline: InlineStage,
        batch: Batch,
        rejects: Rejects | None,
        origin: Rows | None,
        deliveries: list[Delivery],
        lane: Lane,
        now_us: int,
    ) -> None:
        begun = time.perf_counter()
        stage = inline.stage
        chained = inline.chain.run(batch.data)
        rows, out = chained.rows, chained.batch
        failed = np.fromiter((failure.row for failure in chained.failed), np.int64, len(chained.failed))
        if rejects is not None:
            for failure in chained.failed:
                rejects.failed_row(_at(origin, failure.row), failure.code, failure.detail)
        times = batch.times
        judged = None
        if stage.watermark is not None:
            column = batch.data.column(stage.watermark.column)
            times = int64s(column)
            bad = _bad_times(column, times, stage.watermark, now_us)
            if bad is not None:
                fresh = np.setdiff1d(np.flatnonzero(bad), failed)
                if rejects is not None:
                    _reject_times(rejects, origin, fresh, column, stage.watermark)
                failed = np.concatenate([failed, fresh])
                keep = ~bad if rows is None else ~bad[rows]
                out = out.filter(mask(keep))
                rows = np.flatnonzero(keep) if rows is None else rows[keep]
            if stage.watermark.out_of_orderness_us is not None:
                judged = Judged(stage.watermark, times, failed, rows, origin, rejects)
        counters = lane.count(stage.query)
        counters.in_ += batch.rows
        counters.failed += len(failed)
        counters.used += out.num_rows
        counters.filtered += batch.rows - len(failed) - out.num_rows
        result = Batch(out, _take(batch.ops, rows), _take(times, rows))
        lane.spend("evaluate", begun)
        self._offer(
            inline.outputs,
            result,
            judged,
            rejects,
            _take(origin, rows, default=rows),
            deliveries,
            lane,
            now_us,
        )

    def _offer(
        self,
        outputs: Outputs,
        result: Batch,
        judged: Judged | None,
        rejects: Rejects | None,
        origin: Rows | None,
        deliveries: list[Delivery],
        lane: Lane,
        now_us: int,
    ) -> None:
        """Make what the takers of these rows need: everything that can be done before their turn."""
        if result.rows:
            deliveries += [
                Output(outlet, outlet.encode(result, lane), result.rows) for outlet in outputs.outlets
            ]
            for child in outputs.inline:
                self._run_stage(child, result, rejects, origin, deliveries, lane, now_us)
        if result.rows or judged is not None:
            deliveries += [
                Keyed(target, result, self._split(target, result, lane), judged) for target in outputs.keyed
            ]

    def _split(self, target: KeyedTarget, batch: Batch, lane: Lane) -> Parts:
        if not batch.rows:
            return ()
        if target.remote is not None:
            return Sent(target.remote.encode(batch, lane), batch.rows)
        begun = time.perf_counter()
        parts = target.keyer.split(batch.data, len(self.lanes), self.key_groups, batch.times, lane.number)
        lane.spend("exchange", begun)
        return parts

    # --- in the turn of the block ---------------------------------------------------------------

    def deliver(
        self, deliveries: Sequence[Delivery], state: PartitionState, ticket: Ticket, lane: Lane
    ) -> None:
        """Send what `run` made of one slice on its way."""
        for delivery in deliveries:
            if isinstance(delivery, Output):
                delivery.outlet.write(delivery.payload, delivery.rows, lane, ticket, state.number)
            elif delivery.judged is None or not state.timed:
                self._send(delivery.target, state.number, delivery.parts, START, ticket, lane)
            else:
                self._judge(delivery, delivery.judged, state, ticket, lane)

    def _judge(
        self, delivery: Keyed, judged: Judged, state: PartitionState, ticket: Ticket, lane: Lane
    ) -> None:
        begun = time.perf_counter()
        target, spec, parts = delivery.target, judged.spec, delivery.parts
        window = target.node.window
        assert window is not None and spec.out_of_orderness_us is not None
        valid = None
        if len(judged.failed):
            valid = np.ones(len(judged.times), dtype=np.bool_)
            valid[judged.failed] = False
        late, seen = judge_late(
            judged.times,
            state.seen.get(target.stage.id, START),
            spec.out_of_orderness_us,
            spec.allowed_lateness_us,
            window.size_us,
            valid,
        )
        state.seen[target.stage.id] = seen
        lane.spend("lateness", begun)
        if late is not None:
            keep = ~(late if judged.rows is None else late[judged.rows])
            rows, times = delivery.batch.data, delivery.batch.times
            batch = Batch(rows.filter(mask(keep)), times=None if times is None else times[keep])
            parts = self._split(target, batch, lane)
            counters = lane.count(target.stage.query)
            late_rows = np.flatnonzero(late)
            survivors = delivery.batch.rows - batch.rows
            counters.late += len(late_rows)
            counters.used -= survivors
            counters.filtered -= len(late_rows) - survivors
            if spec.late == "side_output" and judged.rejects is not None:
                for row in late_rows:
                    judged.rejects.late_row(_at(judged.origin, int(row)))
        watermark = START if seen == START else max(START + 1, seen - spec.out_of_orderness_us)
        self._send(target, state.number, parts, watermark, ticket, lane)

    def advance(self, state: PartitionState, watermark: int, ticket: Ticket, lane: Lane) -> None:
        """Tell all keyed stages how far the partition is in time, has ended (END) or is silent (IDLE)."""
        state.ended = watermark == END
        for target in self.stages.roots[state.source].targets():
            self._send(target, state.number, (), watermark, ticket, lane)

    def hear(
        self, state: PartitionState, heard: Sequence[tuple[int, int]], ticket: Ticket, lane: Lane
    ) -> bool:
        """Tasks have said how far they are in time, behind rows of theirs; True when all have ended now."""
        assert state.heard is not None
        risen = [state.heard.advance(task, watermark) for task, watermark in heard]
        if any(risen):
            self.advance(state, state.heard.current, ticket, lane)
        return any(risen) and state.ended

    def mark(
        self,
        state: PartitionState,
        position: int | None,
        fingerprint: str | None,
        gathering: Gathering,
        ticket: Ticket,
    ) -> None:
        """An epoch ends here in the partition, which is to be read on from `position` (None: its start)."""
        about: dict[str, Any] = {
            "seen": self._by_query(state.seen),
            "fingerprint": fingerprint,
            "ended": state.ended,
        }
        if state.heard is not None:
            about["heard"] = state.heard.save()
        gathering.partition(state.source, state.name, position, about)
        self._pass_on(self.stages.roots[state.source], state.number, gathering, ticket)

    def _by_query(self, seen: dict[int, int]) -> dict[str, int]:
        return {target.stage.query: seen[id] for id, target in self.stages.targets.items() if id in seen}

    def _pass_on(self, outputs: Outputs, sender: int, gathering: Gathering, ticket: Ticket) -> None:
        """Send an epoch's marker to all that take the sender's rows."""
        for target in outputs.targets():
            for lane in self.lanes if target.remote is None else ():
                ticket.hold()
                lane.put_batch(partial(self._receive_marker, target.stage.id, sender, gathering, ticket))
        for outlet in outputs.reached():
            outlet.mark(sender, gathering)

    def _send(
        self,
        target: KeyedTarget,
        sender: int,
        parts: Parts,
        watermark: int,
        ticket: Ticket,
        lane: Lane,
    ) -> None:
        """Post to every lane that gets rows, and to all lanes when the watermark says something."""
        if target.remote is not None:
            if isinstance(parts, Sent):
                target.remote.write(parts.payload, parts.rows, lane, ticket, sender)
            if watermark != START:
                target.remote.advance(sender, watermark, lane, ticket)
            return
        assert not isinstance(parts, Sent)
        for number, receiver in enumerate(self.lanes):
            part = parts[number] if parts else None
            if part is not None or watermark != START:
                ticket.hold()
                receiver.put_batch(partial(self._receive, target.stage.id, sender, part, watermark, ticket))

    # --- in the lane of the key -----------------------------------------------------------------

    def _receive(
        self, stage: int, sender: int, part: Part | None, watermark: int, ticket: Ticket, lane: Lane
    ) -> None:
        begun = time.perf_counter()
        keyed = self.stages.keyed[lane.number][stage]
        if sender in keyed.marked:
            keyed.held.append((sender, part, watermark, ticket))
            return
        aggregate = keyed.aggregate
        counters = lane.count(keyed.stage.query)
        if part is not None:
            late, failed = aggregate.late_rows, aggregate.failed_rows
            changed = aggregate.process(part)
            self._memory.check(keyed)
            # Only rows of another query get here late or without a time: lateness is judged at sources.
            counters.late += aggregate.late_rows - late
            counters.failed += aggregate.failed_rows - failed
            counters.used -= aggregate.late_rows - late + aggregate.failed_rows - failed
            lane.spend("aggregate", begun)
            begun = time.perf_counter()
            if aggregate.take_ahead():
                lane.snapshot(begun)
            if changed is not None:
                self._publish(keyed, changed, ticket, lane)
        risen = keyed.watermarks.advance(sender, watermark)
        if risen:
            current = keyed.watermarks.current
            closed = aggregate.finish() if current == END else aggregate.advance(current)
            begun = time.perf_counter()
            for batch in closed:
                lane.spend("aggregate", begun)
                self._publish(keyed, batch, ticket, lane)
                begun = time.perf_counter()
            lane.spend("aggregate", begun)
        for reason, key in aggregate.take_failed():
            self._log_group(keyed, reason, key)
        if risen:
            for target in keyed.outputs.targets():
                self._send(target, lane.number, (), keyed.watermarks.current, ticket, lane)
        ticket.release()

    def _receive_marker(
        self, stage: int, sender: int, gathering: Gathering, ticket: Ticket, lane: Lane
    ) -> None:
        keyed = self.stages.keyed[lane.number][stage]
        keyed.marked.add(sender)
        if len(keyed.marked) == keyed.senders:
            begun = time.perf_counter()
            changes = keyed.aggregate.take_changes() if gathering.saves else None
            gathering.operator(keyed.stage.query, lane.number, changes, keyed.watermarks.current)
            lane.snapshot(begun)
            self._pass_on(keyed.outputs, lane.number, gathering, ticket)
            keyed.marked.clear()
            held, keyed.held = keyed.held, []
            for entry in held:
                self._receive(stage, *entry, lane)
        ticket.release()

    def _log_group(self, keyed: KeyedStage, reason: str, key: dict[str, object]) -> None:
        """A result row that cannot be computed: all are counted, the first few are logged."""
        if len(self.failed_groups) >= LOGGED_GROUPS:
            return
        group = ", ".join(f"{keyed.names.get(name, name)}={value!r}" for name, value in key.items())
        for name, known in keyed.names.items():
            reason = reason.replace(f"'{name}'", f"'{known}'")
        text = f"{keyed.stage.query}: the group {group or 'of all rows'} is left out: {reason}"
        self.failed_groups.append(text)
        logger.warning("%s", text)

    def _publish(self, keyed: KeyedStage, batch: Batch, ticket: Ticket, lane: Lane) -> None:
        """Rows of a keyed stage: through what is left of the stage, then to whoever takes its stream."""
        begun = time.perf_counter()
        chained = keyed.chain.run(batch.data)
        lane.count(keyed.stage.query).groups_failed += len(chained.failed)
        rows = chained.rows
        result = Batch(chained.batch, _take(batch.ops, rows), _take(batch.times, rows))
        lane.spend("evaluate", begun)
        deliveries: list[Delivery] = []
        self._offer(keyed.outputs, result, None, None, None, deliveries, lane, 0)
        for delivery in deliveries:
            if isinstance(delivery, Output):
                delivery.outlet.write(delivery.payload, delivery.rows, lane, ticket, lane.number)
            else:
                self._send(delivery.target, lane.number, delivery.parts, START, ticket, lane)


def _at(rows: Rows | None, row: int) -> int:
    return row if rows is None else int(rows[row])


def _take(values: Any, rows: Rows | None, default: Rows | None = None) -> Any:
    """The values at these rows; `default` when there are no values, all of them when `rows` is None."""
    if values is None:
        return default
    return values if rows is None else values[rows]


def _bad_times(
    column: pa.Array, times: npt.NDArray[np.int64], spec: WatermarkSpec, now_us: int
) -> npt.NDArray[np.bool_] | None:
    """Rows without an event time, or with one too far ahead of the clock; None when there are none."""
    bad: npt.NDArray[np.bool_] | None = None
    if column.null_count:
        bad = column.is_null().to_numpy(zero_copy_only=False)
    if spec.max_ahead_us is not None and len(times):
        limit = now_us + spec.max_ahead_us
        if bad is not None or int(times.max()) > limit:
            ahead = times > limit
            bad = ahead if bad is None else bad | ahead
            bad = bad if bad.any() else None
    return bad


def _reject_times(
    rejects: Rejects, origin: Rows | None, rows: Rows, column: pa.Array, spec: WatermarkSpec
) -> None:
    for row in rows:
        value = value_at(column, int(row))
        if value is None:
            code, detail = "event_time.null", f"event time '{spec.column}' is NULL"
        else:
            code = "event_time.ahead"
            detail = f"event time '{spec.column}' = {value} is further ahead of the clock than max_ahead"
        rejects.failed_row(_at(origin, int(row)), code, detail)
