"""A job on Kafka that is killed at any step or time loses nothing and counts nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.cases import SHARED, Case
from tests.crash.grounds import Kafka, Shared
from tests.crash.harness import torture
from tests.crash.processes import Zygote
from tests.kafka.topics import Topics

KILLS = 2
WORKERS = 3


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


@pytest.mark.parametrize("case", Kafka.cases, ids=lambda case: case.name)
def test_killed_jobs_on_kafka_lose_nothing_and_count_nothing_twice(
    zygote: Zygote, topics: Topics, case: Case, tmp_path: Path
) -> None:
    tally = torture(zygote, Kafka(topics), case, tmp_path, kills=KILLS, seed=1, records=20_000)
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
        zygote, Shared(topics), case, tmp_path, kills=KILLS, seed=1, records=20_000, workers=WORKERS
    )
    assert tally.exact, tally
    assert tally.kills >= KILLS
