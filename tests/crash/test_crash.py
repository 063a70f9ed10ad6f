"""A job on files that is killed at any step or time loses nothing and counts nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.cases import CASES, Case
from tests.crash.grounds import Files
from tests.crash.harness import torture
from tests.crash.processes import Zygote

KILLS = 5


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_killed_jobs_on_files_lose_nothing_and_count_nothing_twice(
    zygote: Zygote, case: Case, tmp_path: Path
) -> None:
    tally = torture(zygote, Files(), case, tmp_path, kills=KILLS, seed=1)
    assert tally.exact, tally
    assert tally.kills >= KILLS


@pytest.mark.parametrize(
    "point", ["epoch.prepared", "epoch.committed", "job.before_close", "job.before_clear"]
)
def test_a_job_killed_when_all_was_read_is_finished_by_the_next_start(
    zygote: Zygote, point: str, tmp_path: Path
) -> None:
    case, ground = CASES[1], Files()
    ground.begin(case, tmp_path / "job", 3000, 1)
    # The only commit is the last one.
    ground.interval = "1h"
    assert zygote.run(ground.config("v2:2"), point).killed
    first = zygote.run(ground.config("v1"))
    assert first.report is not None and first.report["state"] == "completed"
    once = ground.committed()
    # Nothing is left to go on from: another start begins afresh, and replaces the output.
    again = zygote.run(ground.config("v2:4"))
    assert again.report is not None and again.report["rows"] == once.total()
    assert ground.committed() == once
