"""Aggregations that are saved into a folder and go on from it: the contract of rounds, end to end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from saved import epoch

from velostream.operators import rounds
from velostream.operators.aggregate import Aggregate, Keyer
from velostream.plan.nodes import AggregateNode, AggregateSpec
from velostream.state.store import StateStore

KEY_GROUPS = 16
NODE = AggregateNode(
    keys=("key",),
    aggregates=(AggregateSpec("total", "SUM", "value", pa.int64()),),
    window=None,
    input=pa.schema([("key", pa.int64()), ("value", pa.int64())]),
    schema=pa.schema([("key", pa.int64()), ("total", pa.int64())]),
)


class Run:
    """A job of one aggregation: restored, fed, committed."""

    def __init__(self, folder: Path, lanes: int) -> None:
        self.store = StateStore(folder, "job")
        self.manifest = self.store.open()
        self.number = 0 if self.manifest is None else self.manifest.number
        self.keyer = Keyer(NODE)
        self.lanes = [Aggregate(NODE) for _ in range(lanes)]
        if self.manifest is not None:
            for at, lane in enumerate(self.lanes):
                lane.restore(self.store.changes(self.manifest, "bars"), lanes, at, KEY_GROUPS)

    def add(self, keys: list[int]) -> None:
        """One row of value 1 for each key."""
        batch = pa.record_batch([pa.array(keys), pa.array([1] * len(keys))], schema=NODE.input)
        parts = self.keyer.split(batch, len(self.lanes), KEY_GROUPS)
        for lane, part in zip(self.lanes, parts, strict=True):
            if part is not None:
                lane.process(part)

    def commit(self) -> int:
        """Gives the number of files."""
        self.number += 1
        self.store.commit(epoch(self.number, *(lane.take_changes() for lane in self.lanes)))
        return len(list((self.store.folder / "epochs").iterdir()))

    def totals(self) -> dict[int, int]:
        """What comes of it in the end; the job is of no use then."""
        batches = [batch.data for lane in self.lanes for batch in lane.finish()]
        self.store.close()
        return {row["key"]: row["total"] for batch in batches for row in batch.to_pylist()}


@pytest.fixture(autouse=True)
def small_rounds() -> Iterator[None]:
    """A round of n groups takes about n / 2 commits."""
    with patch.multiple(rounds, LEAST_ROWS=2, MOST_ROWS=3):
        yield


def test_a_lane_without_rows_keeps_no_files_of_the_others(tmp_path: Path) -> None:
    run = Run(tmp_path, 2)
    run.add(list(range(40)))
    run.commit()
    run.store.close()
    run = Run(tmp_path, 4)
    # One key, so one lane, is busy.
    most = []
    for _ in range(80):
        run.add([7])
        most.append(run.commit())
    assert max(most) <= 45 and most[-1] <= 15
    run.store.close()
    assert Run(tmp_path, 3).totals() == {key: 81 if key == 7 else 1 for key in range(40)}


def test_a_job_without_new_rows_comes_to_rest_with_its_state_saved_once(tmp_path: Path) -> None:
    run = Run(tmp_path, 2)
    run.add(list(range(40)))
    for _ in range(3):
        run.commit()
    run.store.close()
    run = Run(tmp_path, 1)
    files = [run.commit() for _ in range(40)]
    # One round of 40 groups, the first with the session before, and the last values.
    assert files[-1] == files[-10] <= 22
    run.store.close()
    assert Run(tmp_path, 1).totals() == dict.fromkeys(range(40), 1)


def test_runs_that_never_complete_a_round_do_not_add_up(tmp_path: Path) -> None:
    run = Run(tmp_path, 2)
    run.add(list(range(40)))
    run.commit()
    run.store.close()
    files = []
    for key in range(40):
        run = Run(tmp_path, 2)
        run.add([key])
        files.append(run.commit())
        run.store.close()
    # 2 rows of each lane and the one that was added come each time: at 4 times 40 all is saved again.
    assert max(files) == 30 and files[files.index(30) + 1] == 1
    assert Run(tmp_path, 4).totals() == dict.fromkeys(range(40), 2)


def test_restarts_without_new_rows_do_not_add_up(tmp_path: Path) -> None:
    run = Run(tmp_path, 2)
    run.add(list(range(10)))
    run.commit()
    run.store.close()
    files = []
    for lanes in (1, 2, 4) * 6:
        run = Run(tmp_path, lanes)
        run.add([lanes])
        files += [run.commit() for _ in range(6)]
        run.store.close()
    assert max(files) <= 10
    totals = dict.fromkeys(range(10), 1)
    for lanes in (1, 2, 4):
        totals[lanes] += 6
    assert Run(tmp_path, 2).totals() == totals
