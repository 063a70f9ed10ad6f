"""Several workers of one job: who has which tasks, and that their output is that of one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.crash.cases import SHARED, Case, Rows, expected
from tests.crash.grounds import Shared
from tests.crash.processes import Process, Zygote
from tests.kafka.chaos import shares, wait_for
from tests.kafka.topics import Topics
from velostream.cli.main import main

RECORDS = 20_000
SECONDS = 60.0
STATELESS, SUMS, FINAL = (
    next(case for case in SHARED if case.name == name)
    for name in ("stateless-none", "updating-topic", "windows-topic")
)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


class Crew:
    """Workers of one job whose input comes when the test says so."""

    def __init__(
        self, zygote: Zygote, topics: Topics, folder: Path, case: Case, tasks: int = 4, session_ms: int = 1500
    ) -> None:
        self.ground = Shared(topics, tasks, [max(4, tasks)], session_ms)
        self.ground.prepare(case, folder / "job", RECORDS, 1)
        self.want: Rows = expected(case, RECORDS, 1)
        self._zygote, self._topics = zygote, topics

    def start(self, **keys: Any) -> Process:
        """One more worker; `keys` are of the configuration's group `state`."""
        config = self.ground.config("v2:2")
        config["state"] |= keys
        return self._zygote.start(config, log=self.ground.folder / "workers.log")

    def feed(self, records: int) -> None:
        self.ground.feed(records)

    def wait_for_shares(self, wanted: dict[int, int]) -> None:
        """Until each of these processes, and no other one, has so many tasks."""
        group = f"velostream-{self.ground.config('v1')['name']}"

        def dealt() -> bool:
            found = shares(self._topics.address, group)
            return {process: len(tasks) for process, tasks in found.items()} == wanted

        wait_for(dealt, f"shares of {wanted}")

    def wait_for_rows(self, count: int) -> None:
        wait_for(lambda: self.ground.committed().total() >= count, f"{count} rows")

    def check(self) -> None:
        """The output is what DuckDB makes of the same records."""
        assert self.ground.committed() == self.want
        assert not self.ground.case.again(self.ground.lines())


def completed(*workers: Process) -> list[dict[str, Any]]:
    """The reports of workers, all of which end because the job is complete."""
    runs = [worker.end(SECONDS) for worker in workers]
    assert [run.state for run in runs] == ["completed"] * len(runs), (runs, workers[0].said())
    return [run.report for run in runs if run.report is not None]


@pytest.mark.parametrize("case", SHARED, ids=lambda case: case.name)
def test_two_workers_share_a_job_and_give_what_duckdb_gives(
    zygote: Zygote, topics: Topics, tmp_path: Path, case: Case
) -> None:
    crew = Crew(zygote, topics, tmp_path, case)
    first = crew.start()
    crew.feed(RECORDS // 2)
    second = crew.start()
    crew.wait_for_shares({first.pid: 2, second.pid: 2})
    crew.feed(RECORDS)
    reports = completed(first, second)
    crew.check()
    assert all(report["records"] for report in reports)
    # What was read before a task moved, and was not committed, is read again.
    assert sum(report["records"] for report in reports) >= RECORDS


def test_the_tasks_of_a_worker_that_leaves_go_to_the_others_at_once(
    zygote: Zygote, topics: Topics, tmp_path: Path
) -> None:
    # Nobody waits for the end of a session that would outlast the test.
    crew = Crew(zygote, topics, tmp_path, SUMS, session_ms=300_000, tasks=6)
    workers = [crew.start() for _ in range(3)]
    crew.feed(RECORDS // 3)
    crew.wait_for_shares({worker.pid: 2 for worker in workers})
    crew.feed(RECORDS // 3)
    leaving = workers.pop()
    leaving.send(signal.SIGTERM)
    assert leaving.end(SECONDS).state == "interrupted"
    crew.wait_for_shares({worker.pid: 3 for worker in workers})
    crew.feed(RECORDS)
    completed(*workers)
    crew.check()


def test_a_worker_that_is_killed_is_followed_by_one_that_stood_by(
    zygote: Zygote, topics: Topics, tmp_path: Path
) -> None:
    crew = Crew(zygote, topics, tmp_path, FINAL, tasks=2)
    first, second = crew.start(), crew.start()
    crew.wait_for_shares({first.pid: 1, second.pid: 1})
    third = crew.start()
    crew.wait_for_shares({first.pid: 1, second.pid: 1, third.pid: 0})
    crew.feed(RECORDS // 2)
    crew.wait_for_rows(1)
    first.send(signal.SIGKILL)
    assert first.end().killed
    crew.wait_for_shares({second.pid: 1, third.pid: 1})
    crew.feed(RECORDS)
    _, report = completed(second, third)
    assert report["records"] > 0
    crew.check()


def test_a_killed_worker_that_starts_again_has_its_tasks_back_without_waiting(
    zygote: Zygote, topics: Topics, tmp_path: Path
) -> None:
    crew = Crew(zygote, topics, tmp_path, SUMS, session_ms=300_000)
    first, second = crew.start(), crew.start()
    crew.feed(RECORDS // 2)
    crew.wait_for_shares({first.pid: 2, second.pid: 2})
    crew.wait_for_rows(1)
    second.send(signal.SIGKILL)
    assert second.end().killed
    again = crew.start()
    crew.feed(RECORDS)
    completed(first, again)
    crew.check()


@pytest.mark.parametrize("case", [STATELESS, SUMS], ids=lambda case: case.name)
def test_a_worker_that_was_paused_writes_nothing_of_what_others_have_and_joins_them_again(
    zygote: Zygote, topics: Topics, tmp_path: Path, case: Case
) -> None:
    crew = Crew(zygote, topics, tmp_path, case)
    first, second = crew.start(), crew.start()
    crew.feed(RECORDS // 4)
    crew.wait_for_shares({first.pid: 2, second.pid: 2})
    crew.wait_for_rows(1)
    second.send(signal.SIGSTOP)
    crew.feed(RECORDS // 4)
    crew.wait_for_shares({first.pid: 4})
    crew.feed(RECORDS // 4)
    second.send(signal.SIGCONT)
    crew.wait_for_shares({first.pid: 2, second.pid: 2})
    crew.feed(RECORDS)
    completed(first, second)
    crew.check()


def test_a_second_worker_of_a_job_of_one_task_is_told_of_processor_tasks(
    zygote: Zygote, topics: Topics, tmp_path: Path
) -> None:
    crew = Crew(zygote, topics, tmp_path, STATELESS, tasks=1)
    first = crew.start()
    crew.feed(RECORDS // 2)
    crew.wait_for_rows(1)
    second = crew.start(path=str(tmp_path / "elsewhere"))
    run = second.end(SECONDS)
    assert run.state == "refused" and run.report is not None
    assert f"process {first.pid} on" in run.report["error"]
    assert "processor.tasks" in run.report["error"]
    crew.feed(RECORDS)
    completed(first)
    crew.check()


def test_a_worker_of_another_number_of_tasks_is_refused_while_others_run_the_job(
    zygote: Zygote, topics: Topics, tmp_path: Path
) -> None:
    crew = Crew(zygote, topics, tmp_path, STATELESS)
    first = crew.start()
    crew.feed(RECORDS // 2)
    crew.wait_for_rows(1)
    config = crew.ground.config("v2:2")
    config["processor"]["tasks"] = 3
    run = zygote.start(config).end(SECONDS)
    assert run.state == "refused" and run.report is not None
    assert "processor.tasks" in run.report["error"]
    crew.feed(RECORDS)
    completed(first)
    crew.check()


@pytest.mark.parametrize("case", [STATELESS, FINAL], ids=lambda case: case.name)
def test_a_job_that_is_complete_stays_so_until_it_is_reset(
    zygote: Zygote, topics: Topics, tmp_path: Path, case: Case
) -> None:
    crew = Crew(zygote, topics, tmp_path, case)
    crew.feed(RECORDS)
    completed(crew.start(), crew.start())
    crew.check()
    for place in ("state", "elsewhere"):
        (report,) = completed(crew.start(path=str(crew.ground.folder / place)))
        assert (report["rows"], report["records"]) == (0, 0)
    crew.check()
    completed(crew.start(start="reset"))
    assert crew.ground.committed() == crew.want + crew.want
    # That, too, is complete.
    completed(crew.start())
    assert crew.ground.committed() == crew.want + crew.want


def run_py(*arguments: str) -> subprocess.Popen[str]:
    """The command line, as a person has it."""
    return subprocess.Popen(
        [sys.executable, "run.py", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def job_file(folder: Path, config: dict[str, Any]) -> list[str]:
    """Arguments for a job that is in a file."""
    (folder / "job").mkdir(parents=True, exist_ok=True)
    text = "# @package _global_\n" + yaml.safe_dump(config)
    (folder / "job" / "shared.yaml").write_text(text)
    return ["--config-dir", str(folder), "job=shared", f"output_dir={folder / 'outputs'}"]


def test_processes_started_alike_share_a_job_and_exit_with_0(
    zygote: Zygote, topics: Topics, tmp_path: Path
) -> None:
    crew = Crew(zygote, topics, tmp_path, SUMS)
    config = crew.ground.config("v2:2")
    arguments = job_file(tmp_path / "conf", config)
    processes = [run_py(*arguments) for _ in range(2)]
    crew.wait_for_shares({process.pid: 2 for process in processes})
    crew.feed(RECORDS)
    for process in processes:
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, said
    crew.check()


@pytest.mark.parametrize(
    "changes, told",
    [
        (
            {"sinks": {"out": {"kind": "file", "path": "out.ndjson"}}},
            "sink 'out' of kind file is written by one process; "
            "write to a topic of Kafka, or use processor.tasks=1",
        ),
        (
            {"sources": {"trades": {"kind": "generator", "columns": {"id": {"distribution": "sequence"}}}}},
            "source 'trades' of kind generator cannot be divided into tasks; "
            "read a topic of Kafka, or use processor.tasks=1",
        ),
        (
            {"delivery": {"guarantee": "best_effort"}},
            "delivery=best_effort saves no positions, and workers take over tasks by what was saved; "
            "use delivery=at_least_once or exactly_once, or processor.tasks=1",
        ),
        (
            {"processor": {"tasks": 5}},
            "has 4 partitions, too few for 5 tasks; set it to 4 at most, or give the topic more partitions",
        ),
    ],
    ids=["file sink", "generator", "best effort", "too many tasks"],
)
def test_what_workers_cannot_share_is_refused_before_anything_starts(
    topics: Topics, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], told: str
) -> None:
    ground = Shared(topics, partitions=[4])
    ground.prepare(STATELESS, tmp_path / "job", 4, 1)
    config = {"processor": {"tasks": 4}, **changes}
    config = {**ground.config("v2:2"), **config}
    assert main([*job_file(tmp_path / "conf", config), "command=validate"]) == 2
    assert told in capsys.readouterr().err
