"""Workers that share a state folder each have a place of their own in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from velostream.connectors.kafka.slots import Slot
from velostream.errors import ConnectorError

HOLD = """
import sys
from pathlib import Path
from velostream.connectors.kafka.slots import Slot
print(Slot.take(Path(sys.argv[1])).number, flush=True)
sys.stdin.read()
"""


def test_the_lowest_free_place_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "job"
    first, second, third = (Slot.take(folder) for _ in range(3))
    assert [slot.number for slot in (first, second, third)] == [0, 1, 2]
    assert second.path == folder / "worker-1"
    second.release()
    second.release()
    again, fourth = Slot.take(folder), Slot.take(folder)
    assert (again.number, fourth.number) == (1, 3)
    for slot in (first, again, third, fourth):
        slot.release()
    assert not list(folder.iterdir())


def test_a_place_is_free_when_its_process_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        second = Slot.take(tmp_path)
        assert second.number == 1
        os.kill(process.pid, signal.SIGKILL)
    first = Slot.take(tmp_path)
    assert first.number == 0
    first.release()
    second.release()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ConnectorError, match=r"cannot lock a worker's place in '.*file/job': Not a directory"
    ) as error:
        Slot.take(tmp_path / "file" / "job")
    assert "state.path" in error.value.render()
