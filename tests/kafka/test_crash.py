"""A job on Kafka that is killed at any step or time loses nothing and counts nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.cases import SHARED, Case, expected
from tests.crash.grounds import Kafka, Shared
from tests.crash.harness import torture
from tests.crash.processes import Zygote
from tests.kafka.topics import Topics

KILLS = 2
WORKERS = 3
RECORDS = 20_000


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


@pytest.mark.parametrize("case", Kafka.cases, ids=lambda case: case.name)
def test_killed_jobs_on_kafka_lose_nothing_and_count_nothing_twice(
    zygote: Zygote, topics: Topics, case: Case, tmp_path: Path
) -> None:
    tally = torture(zygote, Kafka(topics), case, tmp_path, kills=KILLS, seed=1, records=RECORDS)
    assert tally.exact, tally
    assert tally.kills >= KILLS


@pytest.mark.parametrize(
    "case",
    [case for case in SHARED if case.name in ("stateless-none", "windows-topic", "updating-topic")],
    ids=lambda case: case.name,
)
def test_killed_and_paused_workers_of_a_job_lose_nothing_and_count_nothing_twice(
    zygote: Zygote, topics: Topics, case: Case, tmp_path: Path
) -> None:
    tally = torture(
        zygote, Shared(topics), case, tmp_path, kills=KILLS, seed=1, records=RECORDS, workers=WORKERS
    )
    assert tally.exact, tally
    assert tally.kills >= KILLS


@pytest.mark.parametrize("tasks", [1, 2])
def test_what_a_killed_process_had_prepared_is_not_taken_for_what_another_has_committed(
    zygote: Zygote, topics: Topics, tmp_path: Path, tasks: int
) -> None:
    """Both have epoch 1 on their disks: of half of the input, and of all of it."""
    case, ground = SHARED[0], Shared(topics, tasks, [2], session_ms=500)
    ground.prepare(case, tmp_path / "job", RECORDS, 1)
    ground.feed(RECORDS // 2)
    ground.interval = "20ms"
    assert zygote.run(ground.config("v1"), "kafka.before_commit").killed
    here = ground.config("v1")
    ground.move(0)
    ground.feed(RECORDS)
    # The only commit of each task is its last one.
    ground.interval = "1h"
    assert zygote.run(ground.config("v1"), f"epoch.decided:{tasks}").killed
    assert zygote.run(here).state == "completed"
    assert ground.committed() == expected(case, RECORDS, 1)


def test_what_a_process_has_committed_is_not_taken_for_the_state_of_a_later_run(
    zygote: Zygote, topics: Topics, tmp_path: Path
) -> None:
    case, ground = SHARED[0], Shared(topics, 2, [2], session_ms=500)
    ground.prepare(case, tmp_path / "job", RECORDS, 1)
    ground.feed(RECORDS // 2)
    # Each task is killed behind its first commit, which is of all that is there.
    here = ground.config("v1")
    assert zygote.run(here, "epoch.published:2").killed
    before = ground.committed()
    assert before
    ground.move(0)
    ground.feed(RECORDS)
    ground.interval = "1h"
    afresh = ground.config("v1")
    afresh["state"]["start"] = "reset"
    assert zygote.run(afresh, "epoch.decided:2").killed
    assert zygote.run(here).state == "completed"
    assert ground.committed() == before + expected(case, RECORDS, 1)
