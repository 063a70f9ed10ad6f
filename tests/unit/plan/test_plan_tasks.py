"""The plan of a job that is divided into tasks: what is exchanged between them, and what needs not be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from velostream.config.schema import DeliveryConfig, JobConfig, ProcessorConfig, StateConfig
from velostream.connectors.file.sink import FileSinkConfig
from velostream.connectors.file.source import FileSourceConfig
from velostream.connectors.memory import MemorySink, MemorySinkConfig, MemorySource, MemorySourceConfig
from velostream.errors import VelostreamError
from velostream.plan.nodes import AggregateNode
from velostream.runtime.prepare import Prepared, prepare

BETS = pa.table(
    {
        "game": pa.array([], pa.string()),
        "player": pa.array([], pa.string()),
        "stake": pa.array([], pa.int64()),
        "ts": pa.array([], pa.timestamp("us")),
    }
)


@pytest.fixture(autouse=True)
def _shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables in memory that can be divided, and partitioned as the test says."""
    monkeypatch.setattr(MemorySource, "share", lambda source, task: None)
    monkeypatch.setattr(MemorySource, "partitioned_by", ())
    monkeypatch.setattr(MemorySink, "shared", True)


def prepared(sql: str, tasks: int, **of: Any) -> Prepared:
    return prepare(
        JobConfig(
            sql=sql,
            sources={"bets": MemorySourceConfig(data=BETS)},
            sinks={"out": MemorySinkConfig()},
            processor=ProcessorConfig(tasks=tasks),
            **{"state": StateConfig(path="state"), **of},
        )
    )


def exchanges(sql: str, tasks: int = 4) -> list[str]:
    """How rows reach each keyed stage."""
    stages = prepared(sql, tasks).plan.stages
    return [stage.exchange.kind for stage in stages if isinstance(stage.nodes[0], AggregateNode)]


BY_GAME = "SELECT game, COUNT(*) AS n FROM bets GROUP BY game"
BY_BOTH = "SELECT game, player, COUNT(*) AS n FROM bets GROUP BY game, player"
IN_WINDOWS = "SELECT game, COUNT(*) AS n FROM bets WINDOW TUMBLING(ts, 1m) GROUP BY game"
ALL = "SELECT COUNT(*) AS n FROM bets"
RENAMED = "CREATE STREAM x AS SELECT game AS g, stake FROM bets; SELECT g, COUNT(*) AS n FROM x GROUP BY g"
COMPUTED = (
    "CREATE STREAM x AS SELECT UPPER(game) AS game FROM bets; SELECT game, COUNT(*) AS n FROM x GROUP BY game"
)
LEFT_OUT = "CREATE STREAM x AS SELECT player FROM bets; SELECT player, COUNT(*) AS n FROM x GROUP BY player"
CHAINED = (
    "CREATE STREAM x AS SELECT game, player, SUM(stake) AS s FROM bets GROUP BY game, player; "
    "SELECT game, player, MAX(s) AS s FROM x GROUP BY game, player"
)
COARSER = (
    "CREATE STREAM x AS SELECT game, player, SUM(stake) AS s FROM bets GROUP BY game, player; "
    "SELECT game, MAX(s) AS s FROM x GROUP BY game"
)


@pytest.mark.parametrize(
    ("sql", "partitioned_by", "expected"),
    [
        (BY_GAME, (), ["topic"]),
        (IN_WINDOWS, (), ["topic"]),
        (BY_GAME, ("game",), ["none"]),
        (IN_WINDOWS, ("game",), ["none"]),
        (BY_BOTH, ("game",), ["none"]),
        (BY_BOTH, ("player", "game"), ["none"]),
        (BY_GAME, ("game", "player"), ["topic"]),
        (BY_GAME, ("player",), ["topic"]),
        (ALL, ("game",), ["topic"]),
        (RENAMED, ("game",), ["none"]),
        (COMPUTED, ("game",), ["topic"]),
        (LEFT_OUT, ("game",), ["topic"]),
        # Behind an exchange rows are where their key is.
        (CHAINED, (), ["topic", "none"]),
        (COARSER, (), ["topic", "topic"]),
        (COARSER, ("game",), ["none", "none"]),
        (COARSER, ("player",), ["none", "topic"]),
    ],
)
def test_rows_are_exchanged_unless_those_of_a_group_are_in_one_task(
    monkeypatch: pytest.MonkeyPatch, sql: str, partitioned_by: tuple[str, ...], expected: list[str]
) -> None:
    monkeypatch.setattr(MemorySource, "partitioned_by", partitioned_by)
    assert exchanges(sql) == expected
    assert exchanges(sql, tasks=1) == ["local"] * len(expected)


def test_the_exchanges_of_a_plan_are_those_between_tasks() -> None:
    plan = prepared(COARSER, 4).plan
    assert [(stage.exchange_name, sender.id) for sender, stage in plan.exchanged()] == [
        ("x-exchange", 0),
        ("result-exchange", 2),
    ]
    assert prepared(COARSER, 1).plan.exchanged() == []


def lines(sql: str, tasks: int) -> list[str]:
    return prepared(sql, tasks).explain_text().splitlines()


def test_the_plan_tells_of_tasks_and_why_rows_are_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines(BY_GAME, 4)[0] == "4 tasks, each with its share of the partitions of every source"
    assert "  exchange: topic on game (rows of one group meet in one task)" in lines(BY_GAME, 4)
    assert "  exchange: topic (one group: all rows meet in one task)" in lines(ALL, 4)
    assert lines(BY_GAME, 1)[0] == "source bets, bounded"
    assert "  exchange: local on game (rows of one group meet in one lane)" in lines(BY_GAME, 1)
    monkeypatch.setattr(MemorySource, "partitioned_by", ("game",))
    assert "  exchange: none on game (rows are partitioned by game)" in lines(BY_GAME, 4)
    # By the name that the query which reads them knows.
    assert "  exchange: none on g (rows are partitioned by g)" in lines(RENAMED, 4)


def refused(tasks: int = 4, **of: Any) -> str:
    with pytest.raises(VelostreamError) as caught:
        prepared(BY_GAME, tasks, **of)
    return str(caught.value)


def test_a_source_that_cannot_be_divided_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    text = refused()
    assert "processor.tasks: source 'bets' of kind memory cannot be divided into tasks" in text
    assert "sinks.out: sink 'out' of kind memory is written by one process" in text, "all at once"


def test_files_are_neither_divided_nor_shared(tmp_path: Path) -> None:
    (tmp_path / "bets.csv").write_text("game\na\n")
    job = JobConfig(
        sql="SELECT game FROM bets",
        sources={"bets": FileSourceConfig(path=str(tmp_path / "bets.csv"))},
        sinks={"out": FileSinkConfig(path=str(tmp_path / "out.ndjson"))},
        processor=ProcessorConfig(tasks=2),
        state=StateConfig(path=str(tmp_path / "state")),
    )
    with pytest.raises(VelostreamError) as caught:
        prepare(job)
    assert "source 'bets' of kind file cannot be divided into tasks" in str(caught.value)
    assert "sink 'out' of kind file is written by one process" in str(caught.value)


def test_an_unknown_column_to_be_partitioned_by_is_told_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MemorySource, "partitioned_by", ("gmae",))
    assert "sources.bets.partitioned_by: unknown column 'gmae'; did you mean 'game'" in refused()
    assert "did you mean 'game'" in refused(tasks=1)


@pytest.mark.parametrize("tasks", [0, -1])
def test_there_is_at_least_one_task(tasks: int) -> None:
    assert "processor.tasks" in refused(tasks=tasks)


def test_tasks_save_their_positions() -> None:
    text = refused(delivery=DeliveryConfig(guarantee="best_effort"))
    assert "delivery.guarantee: delivery=best_effort saves no positions" in text


def test_tasks_start_from_no_savepoint(tmp_path: Path) -> None:
    text = refused(state=StateConfig(path=str(tmp_path / "state"), start=str(tmp_path / "savepoint")))
    assert "state.start: a job of several tasks does not start from a savepoint" in text


def test_tasks_need_a_folder_for_their_state() -> None:
    with pytest.raises(VelostreamError, match="no folder in which its workers have their places"):
        prepared("SELECT game FROM bets", 2, state=StateConfig())
