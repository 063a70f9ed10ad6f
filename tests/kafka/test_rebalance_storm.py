"""Workers that join and leave all the time while others go on."""

from __future__ import annotations

from pathlib import Path

from tests.crash.processes import Zygote
from tests.crash.storm import weather
from tests.kafka.topics import Topics

GUESTS = 8


def test_a_storm_of_rebalances_loses_nothing_and_stops_nothing(topics: Topics, tmp_path: Path) -> None:
    with Zygote() as zygote:
        found = weather(zygote, topics, tmp_path / "storm", GUESTS)
    assert found.rows > 0
