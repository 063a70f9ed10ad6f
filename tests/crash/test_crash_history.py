"""A job with a history that is killed in it, at the switch and behind it loses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.crash.cases import CASES, Case
from tests.crash.grounds import Files
from tests.crash.harness import torture
from tests.crash.processes import Zygote

KILLS = 5


class Archived(Files):
    """The first of the input's files are the history of the last one."""

    def begin(self, case: Case, folder: Path, records: int, seed: int) -> None:
        super().begin(case, folder, records, seed)
        (folder / "past").mkdir()
        for file in sorted((folder / "in").iterdir())[:-1]:
            file.rename(folder / "past" / file.name)

    def ends(self) -> tuple[dict[str, Any], dict[str, Any]]:
        source, sink = super().ends()
        return {**source, "history": {**source, "path": str(self.folder / "past")}}, sink


@pytest.mark.parametrize("case", (CASES[1], CASES[3]), ids=lambda case: case.name)
def test_killed_jobs_with_a_history_lose_nothing_and_count_nothing_twice(case: Case, tmp_path: Path) -> None:
    parts = Case(case.name, case.sql, case.oracle, case.latest, files=3, source=case.source)
    with Zygote() as zygote:
        tally = torture(zygote, Archived(), parts, tmp_path, kills=KILLS, seed=3)
    assert tally.exact, tally
    assert tally.kills >= KILLS
