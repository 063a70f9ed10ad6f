"""Between tasks: whose rows are whose, and what of their time the senders of a task tell the others."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from velostream.config.schema import FailureConfig, JobConfig
from velostream.connectors.base import Sink, SinkWriter, Task
from velostream.connectors.memory import MemorySourceConfig
from velostream.operators.aggregate import Keyer
from velostream.plan.nodes import AggregateNode
from velostream.runtime.epochs import Gathering
from velostream.runtime.exchange import ExchangeOutlet, owns_global, task_split
from velostream.runtime.failures.base import failures
from velostream.runtime.lane import Lane, LaneThread
from velostream.runtime.prepare import prepare
from velostream.runtime.ticket import Ticket
from velostream.runtime.watermarks import END, IDLE, Watermarks

# --- watermarks that were saved ----------------------------------------------------------------------

SENDERS = 3
told = st.lists(
    st.tuples(st.integers(0, SENDERS - 1), st.one_of(st.integers(0, 6), st.sampled_from([IDLE, END]))),
    max_size=12,
)


def heard(events: list[tuple[int, int]], known: Watermarks) -> list[tuple[bool, int, bool]]:
    return [(known.advance(*event), known.current, known.silent) for event in events]


@given(told, told)
def test_watermarks_go_on_from_what_was_saved(
    before: list[tuple[int, int]], after: list[tuple[int, int]]
) -> None:
    known, restored = Watermarks(SENDERS), Watermarks(SENDERS)
    heard(before, known)
    restored.restore(known.save())
    assert (restored.current, restored.silent, restored.save()) == (known.current, known.silent, known.save())
    assert heard(after, restored) == heard(after, known)


def test_nothing_is_silent_before_a_sender_is_nor_behind_the_end() -> None:
    known = Watermarks(2)
    assert not known.silent
    known.advance(0, IDLE)
    assert not known.silent
    known.advance(1, END)
    assert known.silent
    known.advance(0, END)
    assert (known.silent, known.current) == (False, END)


# --- the outlet --------------------------------------------------------------------------------------


class ScriptedWriter(SinkWriter):
    """Keeps what it was given and told, in order."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def write(self, payload: Any, rows: int) -> None:
        self.got.append(payload)

    def say(self, watermark: int) -> None:
        self.got.append(watermark)

    def cut(self) -> Any:
        self.got.append("cut")
        return len(self.got)

    def close(self, complete: bool) -> None:
        pass


class ScriptedSink:
    """The sink of a scripted writer."""

    name = "exchange"

    def __init__(self) -> None:
        self.writer = ScriptedWriter()

    def open(self, schema: pa.Schema, bounded: bool, resume: Any = None) -> SinkWriter:
        return self.writer


class Sender:
    """An open outlet, and what its senders do."""

    def __init__(self, senders: int) -> None:
        sink = ScriptedSink()
        self.got = sink.writer.got
        self.outlet = ExchangeOutlet(cast(Sink, sink), "q", pa.schema([]))
        self.outlet.senders = senders
        self.outlet.open(True, failures["fail_batch"](FailureConfig(), ""))
        self.lane = Lane(0, LaneThread("job/lane/0", None, lambda error: None))
        self.done: list[int] = []
        self.tickets: list[Ticket] = []

    def ticket(self) -> Ticket:
        self.tickets.append(Ticket(len(self.tickets), 0, lambda ticket: self.done.append(ticket.number)))
        return self.tickets[-1]

    def write(self, sender: int, payload: str) -> None:
        ticket = self.ticket()
        self.outlet.write(payload, 1, self.lane, ticket, sender)
        ticket.release()

    def advance(self, sender: int, watermark: int) -> None:
        ticket = self.ticket()
        self.outlet.advance(sender, watermark, self.lane, ticket)
        ticket.release()


def test_tasks_are_told_the_least_of_the_senders_watermarks_behind_its_rows() -> None:
    sender = Sender(2)
    sender.write(0, "a")
    sender.advance(0, 10)
    sender.write(1, "b")
    sender.advance(1, 4)
    sender.advance(1, 7)
    sender.advance(1, 30)
    assert sender.got == ["a", "b", 4, 7, 10]


def test_what_was_said_is_not_repeated() -> None:
    sender = Sender(1)
    for watermark in (5, 5, 3, 6):
        sender.advance(0, watermark)
    assert sender.got == [5, 6]


def test_tasks_are_told_of_silence_when_all_open_senders_are_silent_and_of_its_end() -> None:
    sender = Sender(3)
    sender.advance(0, 5)
    sender.advance(1, 8)
    sender.advance(2, END)
    sender.advance(0, IDLE)
    sender.advance(1, IDLE)
    sender.advance(1, IDLE)
    sender.advance(1, 9)
    sender.advance(1, 12)
    assert sender.got == [5, 8, IDLE, 9, 12]


def test_silence_is_told_also_before_anybody_has_spoken() -> None:
    sender = Sender(1)
    sender.advance(0, IDLE)
    sender.advance(0, 3)
    assert sender.got == [IDLE, 3]


def test_tasks_are_told_of_the_end_once_all_senders_have_ended() -> None:
    sender = Sender(2)
    sender.advance(0, END)
    sender.advance(1, 5)
    sender.advance(1, IDLE)
    sender.advance(1, END)
    assert sender.got == [5, IDLE, END]


def test_what_is_said_behind_a_marker_waits_in_order_for_the_others() -> None:
    """The next epoch's: a receiver that goes on from the last one must not have heard of it."""
    sender = Sender(2)
    sender.advance(1, 4)
    gathering = cast(Gathering, _Gathering())
    sender.outlet.mark(0, gathering)
    sender.write(0, "next")
    sender.advance(0, 9)
    sender.write(1, "this")
    assert sender.got == ["this"]
    assert sender.done == [0, 3], "what is held is not done"
    sender.outlet.mark(1, gathering)
    assert sender.got == ["this", "cut", "next", 4]
    assert (sender.done, cast(Any, gathering).tokens) == ([0, 3, 1, 2], [("exchange", 2)])
    sender.advance(1, 6)
    assert sender.got[4:] == [6]


def test_only_rows_are_counted() -> None:
    sender = Sender(1)
    sender.write(0, "a")
    sender.advance(0, 1)
    assert sender.outlet.rows == 1


class _Gathering:
    def __init__(self) -> None:
        self.tokens: list[tuple[str, Any]] = []

    def sink(self, name: str, token: Any) -> None:
        self.tokens.append((name, token))


# --- whose rows are whose ----------------------------------------------------------------------------

KEYS = 20_000
KEY_GROUPS = 128


def keyer() -> Keyer:
    data = MemorySourceConfig(data=pa.table({"k": pa.array([], pa.int64())}))
    found = prepare(JobConfig(sql="SELECT k, COUNT(*) AS n FROM t GROUP BY k", sources={"t": data}))
    node = next(
        node for stage in found.plan.stages for node in stage.nodes if isinstance(node, AggregateNode)
    )
    return Keyer(node)


def batch(of: Keyer, keys: range) -> pa.RecordBatch:
    (name,) = of._node.keys
    schema = of._node.input
    columns = [pa.array(keys, pa.int64()).cast(field.type) for field in schema]
    assert name in schema.names
    return pa.record_batch(columns, schema=schema)


@pytest.mark.parametrize("lanes", [2, 4])
@pytest.mark.parametrize("tasks", [2, 4, 8])
def test_keys_are_spread_over_tasks_and_those_of_a_task_over_its_lanes(tasks: int, lanes: int) -> None:
    of = keyer()
    rows = batch(of, range(KEYS))
    parts = task_split(of, tasks)(rows)
    assert len(parts) == tasks
    taken = np.concatenate([part for part in parts if part is not None])
    assert sorted(taken.tolist()) == list(range(KEYS)), "each row is one task's"
    fair = KEYS / tasks
    for part in parts:
        assert part is not None and 0.85 * fair < len(part) < 1.15 * fair
        by_lane = of.keys(rows.take(pa.array(part))).partition(lanes, KEY_GROUPS)
        counts = [0 if lane is None else len(lane) for lane in by_lane]
        assert min(counts) > 0.7 * len(part) / lanes and max(counts) < 1.3 * len(part) / lanes, counts


def test_a_key_is_of_the_same_task_in_any_batch() -> None:
    of = keyer()
    split = task_split(of, 4)
    home = {
        key: task
        for task, part in enumerate(split(batch(of, range(1000))))
        for key in (part if part is not None else np.empty(0, np.int32)).tolist()
    }
    for start in (0, 250, 990):
        for task, part in enumerate(split(batch(of, range(start, start + 10)))):
            assert part is None or {home[start + row] for row in part.tolist()} == {task}


def test_a_task_without_rows_gets_none() -> None:
    of = keyer()
    parts = task_split(of, 8)(batch(of, range(1)))
    assert sum(part is None for part in parts) == 7


@pytest.mark.parametrize("tasks", [1, 2, 3, 4, 8, 61])
def test_the_row_of_all_rows_is_one_tasks(tasks: int) -> None:
    assert sum(owns_global(Task(number, tasks, 1)) for number in range(tasks)) == 1
