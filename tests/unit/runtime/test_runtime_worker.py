"""A worker: what it does with its tasks when the group, a job or a caller has something to say.

Group and jobs are scripted: no row is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Condition, Event, Thread
from types import SimpleNamespace
from typing import Any, cast

import pytest

from velostream.config.schema import JobConfig, ProcessorConfig, StateConfig
from velostream.connectors.base import Assignment, Task
from velostream.errors import (
    ConfigError,
    ConnectorError,
    FencedError,
    InternalError,
    StateError,
    VelostreamError,
)
from velostream.runtime import worker as worker_module
from velostream.runtime.job import JobState
from velostream.runtime.prepare import Prepared
from velostream.runtime.report import Progress, Report
from velostream.runtime.worker import Worker

SECONDS = 30.0


def given(*tasks: int, run: int = 1, complete: bool = False) -> Assignment:
    return Assignment(frozenset(tasks), run, complete, 1)


class ScriptedGroup:
    """Gives the assignments that a test pushes; keeps what it is told."""

    def __init__(self, folder: Path, first: Assignment) -> None:
        self.folder = folder
        self.first = first
        self.said: list[tuple[set[int], set[int]]] = []
        self.closed = 0
        self.on_assigned: Callable[[Assignment], None] = lambda assignment: None
        self.on_lost: Callable[[ConnectorError], None] = lambda error: None
        self.reset = False
        self.member = True
        self._changed = Condition()

    def open(self) -> Assignment:
        return self.first

    def update(self, holds: frozenset[int], complete: frozenset[int]) -> None:
        assert not self.closed, "it has left"
        with self._changed:
            self.said.append((set(holds), set(complete)))
            self._changed.notify_all()

    def confirm(self) -> bool:
        return self.member

    def close(self) -> None:
        self.closed += 1

    def hears(self, times: int) -> tuple[set[int], set[int]]:
        """What it was told then; it waits for that."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.said) >= times, SECONDS), self.said
            return self.said[times - 1]


class ScriptedJob:
    """Runs until it is asked to stop, or the test ends it."""

    made: list[ScriptedJob]
    changed = Condition()
    refused: dict[int, Exception]
    # Whether `start` waits until the test sets `go`.
    slow = False

    def __init__(
        self,
        config: JobConfig,
        *,
        prepared: Prepared | None = None,
        task: Task | None = None,
        on_growth: Callable[[str], None],
    ) -> None:
        self.config = config
        self.prepared = prepared
        self.task = task
        self.number = task.number if task is not None else 0
        self.grow = on_growth
        self.state = JobState.STARTING
        self.calls: list[str] = []
        self.starting, self.go = Event(), Event()
        self._error: VelostreamError | None = None
        self._over = Event()
        with ScriptedJob.changed:
            ScriptedJob.made.append(self)

    def start(self) -> None:
        self._start()
        with ScriptedJob.changed:
            ScriptedJob.changed.notify_all()

    def _start(self) -> None:
        self.starting.set()
        with ScriptedJob.changed:
            ScriptedJob.changed.notify_all()
        if ScriptedJob.slow:
            assert self.go.wait(SECONDS)
        if self.number in ScriptedJob.refused:
            raise ScriptedJob.refused[self.number]
        if self._error is not None:
            self.end(JobState.FAILED, self._error)
            return
        self.state = JobState.PAUSED if "pause" in self.calls else JobState.RUNNING
        if any(call.startswith("stop") for call in self.calls):
            self.end(JobState.INTERRUPTED)

    def end(self, state: JobState, error: VelostreamError | None = None) -> None:
        self._error, self.state = error, state
        self._over.set()

    def wait(self, timeout: float | None = None) -> bool:
        ended = self._over.wait(SECONDS if timeout is None else timeout)
        assert ended or timeout is not None, "nobody may wait for a job that never ends"
        return ended

    def pause(self) -> bool:
        self.calls.append("pause")
        if self.state is JobState.RUNNING:
            self.state = JobState.PAUSED
        return True

    def resume(self) -> bool:
        self.calls.append("resume")
        self.state = JobState.RUNNING
        return True

    def stop(self, reason: str) -> None:
        self.calls.append(f"stop: {reason}")
        if self.state.running:
            self.end(JobState.INTERRUPTED)

    def abort(self, reason: str) -> None:
        self.calls.append(f"abort: {reason}")
        if self.state.running:
            self.end(JobState.FAILED, ConnectorError(reason))
        else:
            self._error = ConnectorError(reason)

    def failure(self) -> VelostreamError:
        return self._error or InternalError("it has not failed")

    def progress(self) -> Progress:
        return Progress(records=10, bytes=100, total_bytes=None, rows_out=1, seconds=1.0)

    def report(self) -> Report:
        return Report(
            name=self.config.name, state=str(self.state), records={"in": 10}, rows_out=1, bytes_in=100
        )


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ground]:
    ScriptedJob.made, ScriptedJob.refused, ScriptedJob.slow = [], {}, False
    found = Ground(monkeypatch, tmp_path)
    yield found
    for job in ScriptedJob.made:
        job.go.set()
    for worker in found.workers:
        worker.abort("the test is over")


class Ground:
    """Makes workers of scripted jobs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = folder
        self.workers: list[Worker] = []
        self.group = ScriptedGroup(folder / "mine", given())
        monkeypatch.setattr(worker_module, "Job", ScriptedJob)
        monkeypatch.setattr(worker_module, "join_transaction", lambda *_: SimpleNamespace(group=self._group))

    def _group(
        self,
        folder: Path,
        tasks: int,
        reset: bool,
        on_assigned: Callable[[Assignment], None],
        on_lost: Callable[[ConnectorError], None],
    ) -> ScriptedGroup:
        self.group.on_assigned, self.group.on_lost, self.group.reset = on_assigned, on_lost, reset
        return self.group

    def worker(self, first: Assignment, tasks: int = 4, **of: Any) -> Worker:
        self.group.first = first
        config = JobConfig(
            name="shared",
            processor=ProcessorConfig(tasks=tasks),
            state=StateConfig(path=str(self.folder / "state")),
            **of,
        )
        prepared = cast(Prepared, SimpleNamespace(promises={}, sources={}, sinks={"out": "a sink"}))
        worker = Worker(config, prepared=prepared)
        self.workers.append(worker)
        return worker

    def started(self, first: Assignment, tasks: int = 4, **of: Any) -> Worker:
        worker = self.worker(first, tasks, **of)
        worker.start()
        return worker


def jobs() -> list[tuple[int, str]]:
    return [(job.number, str(job.state)) for job in sorted(ScriptedJob.made, key=lambda job: job.number)]


def job_of(task: int) -> ScriptedJob:
    """The last one of that task."""
    return [job for job in ScriptedJob.made if job.number == task][-1]


def until(condition: Callable[[], bool]) -> None:
    """Wait for what jobs that are made and started make true."""
    with ScriptedJob.changed:
        assert ScriptedJob.changed.wait_for(condition, SECONDS)


# --- what the group says ---------------------------------------------------------------------------


def test_a_worker_runs_the_tasks_that_it_is_given(ground: Ground) -> None:
    worker = ground.started(given(0, 2, run=7))
    assert jobs() == [(0, "running"), (2, "running")]
    assert [job_of(n).task for n in (0, 2)] == [Task(0, 4, 7), Task(2, 4, 7)]
    assert ground.group.said == [({0, 2}, set())]
    assert worker.state is JobState.RUNNING


def test_each_task_has_places_of_its_own(ground: Ground) -> None:
    config = JobConfig(name="x")
    config.failure.dlq_path = "dead/letters.ndjson"
    ground.started(given(3), failure=config.failure, output_dir="run")
    made = job_of(3).config
    assert made.state.path == str(ground.group.folder / "task-3")
    assert made.failure.dlq_path == str(Path("dead/letters-3.ndjson"))
    assert made.output_dir == str(Path("run/task-3"))


def test_all_tasks_together_stay_within_the_limit_of_the_state(ground: Ground) -> None:
    worker = ground.worker(given(0))
    worker.config.state.memory_limit = "4 MiB"
    worker.start()
    assert job_of(0).config.state.memory_limit == str(1 << 20)


@pytest.mark.parametrize(("start", "afresh"), [("resume", False), ("reset", True)])
def test_only_the_group_begins_a_job_afresh(ground: Ground, start: str, afresh: bool) -> None:
    worker = ground.worker(given(0))
    worker.config.state.start = start
    worker.start()
    assert ground.group.reset is afresh
    assert job_of(0).config.state.start == "resume"


def test_a_task_that_moves_is_stopped_and_the_others_run_on(ground: Ground) -> None:
    ground.started(given(0, 1))
    ground.group.on_assigned(given(1, 3))
    assert ground.group.hears(2) == ({1, 3}, set())
    assert jobs() == [(0, "interrupted"), (1, "running"), (3, "running")]
    assert job_of(0).calls == ["stop: its task goes to another worker"]
    assert job_of(1).calls == []


def test_a_task_that_comes_back_begins_again(ground: Ground) -> None:
    worker = ground.started(given(0, 1))
    ground.group.on_assigned(given(0))
    ground.group.on_assigned(given(0, 1))
    assert ground.group.hears(3) == ({0, 1}, set())
    assert jobs() == [(0, "running"), (1, "interrupted"), (1, "running")]
    assert worker.report().records["in"] == 30


def test_a_worker_without_tasks_stands_by(ground: Ground) -> None:
    worker = ground.started(given())
    assert (worker.state, jobs(), ground.group.said) == (JobState.RUNNING, [], [(set(), set())])
    assert worker.report().records["in"] == 0
    ground.group.on_assigned(given(2))
    assert ground.group.hears(2) == ({2}, set())


def test_a_complete_task_is_held_until_all_are(ground: Ground) -> None:
    worker = ground.started(given(0, 1))
    job_of(0).end(JobState.COMPLETED)
    assert ground.group.hears(2) == ({0, 1}, {0})
    job_of(1).end(JobState.COMPLETED)
    assert ground.group.hears(3) == ({0, 1}, {0, 1})
    assert not worker.state.ended
    ground.group.on_assigned(given(0, 1, complete=True))
    assert worker.wait(SECONDS)
    assert (worker.state, ground.group.closed) == (JobState.COMPLETED, 1)


def test_a_complete_task_is_not_begun_again(ground: Ground) -> None:
    ground.started(given(0))
    job_of(0).end(JobState.COMPLETED)
    ground.group.hears(2)
    ground.group.on_assigned(given(0, 1))
    assert ground.group.hears(3) == ({0, 1}, {0})
    assert jobs() == [(0, "completed"), (1, "running")]


def test_a_worker_that_comes_when_all_is_done_completes(ground: Ground) -> None:
    worker = ground.started(given(complete=True))
    assert worker.wait(SECONDS)
    assert (worker.state, jobs(), ground.group.closed) == (JobState.COMPLETED, [], 1)


def test_another_run_of_the_job_begins_all_tasks_afresh(ground: Ground) -> None:
    ground.started(given(0, 1, run=1))
    job_of(1).end(JobState.COMPLETED)
    ground.group.hears(2)
    ground.group.on_assigned(given(0, 1, run=2))
    assert ground.group.hears(3) == ({0, 1}, set())
    assert ScriptedJob.made[0].calls == ["abort: the job was begun afresh"]
    assert [job_of(n).task for n in (0, 1)] == [Task(0, 4, 2), Task(1, 4, 2)]


def test_a_fenced_worker_drops_its_tasks_and_says_that_it_holds_none(ground: Ground) -> None:
    worker = ground.started(given(0, 1))
    job_of(1).end(JobState.COMPLETED)
    ground.group.hears(2)
    ground.group.on_lost(FencedError("its session is over"))
    assert ground.group.hears(3) == (set(), set())
    assert job_of(0).calls == ["abort: its tasks may be other workers' by now"]
    assert not worker.state.ended
    ground.group.on_assigned(given(0))
    assert ground.group.hears(4) == ({0}, set())
    assert job_of(0).state is JobState.RUNNING


def test_a_worker_that_has_lost_its_group_fails(ground: Ground) -> None:
    worker = ground.started(given(0))
    ground.group.on_lost(ConnectorError("the broker says no"))
    assert worker.wait(SECONDS)
    assert (worker.state, worker.failure().message) == (JobState.FAILED, "the broker says no")
    assert (job_of(0).calls[0], ground.group.closed) == ("abort: its tasks may be other workers' by now", 1)


# --- what jobs do ----------------------------------------------------------------------------------


def test_a_job_that_fails_ends_the_worker_and_stops_the_others_with_a_commit(ground: Ground) -> None:
    worker = ground.started(given(0, 1))
    job_of(0).end(JobState.FAILED, ConnectorError("the disk is full"))
    assert worker.wait(SECONDS)
    assert (worker.state, worker.failure().message) == (JobState.FAILED, "the disk is full")
    assert (job_of(1).calls, ground.group.closed) == (["stop: the worker stops"], 1)
    assert "the disk is full" in (worker.report().error or "")


def test_a_job_whose_task_was_taken_over_is_no_failure(ground: Ground) -> None:
    worker = ground.started(given(0, 1))
    job_of(0).end(JobState.FAILED, FencedError("another one has it"))
    assert ground.group.hears(2) == ({1}, set())
    assert not worker.state.ended
    ground.group.on_assigned(given(0, 1))
    assert ground.group.hears(3) == ({0, 1}, set())
    assert jobs() == [(0, "failed"), (0, "running"), (1, "running")]


def test_a_job_that_fails_where_the_worker_has_lost_its_place_is_no_failure(ground: Ground) -> None:
    worker = ground.started(given(0, 1))
    ground.group.member = False
    job_of(0).end(JobState.FAILED, ConnectorError("its rows have been deleted"))
    assert ground.group.hears(2) == ({1}, set())
    ground.group.on_lost(FencedError("its session is over"))
    assert ground.group.hears(3) == (set(), set())
    assert not worker.state.ended
    ground.group.on_assigned(given(0))
    assert ground.group.hears(4) == ({0}, set())
    assert job_of(0).state is JobState.RUNNING


def test_a_task_whose_topics_have_grown_begins_again_in_place(ground: Ground) -> None:
    ground.started(given(0, 1))
    job = job_of(0)
    job.grow("topic 'bets' has 8 partitions now, and had 4")
    until(lambda: job_of(0) is not job and job_of(0).state.running)
    assert job.calls == ["stop: topic 'bets' has 8 partitions now, and had 4"]
    assert jobs() == [(0, "interrupted"), (0, "running"), (1, "running")]
    assert len(ground.group.said) == 1, "it has held the task all the time"


def test_a_job_of_one_task_that_has_grown_is_prepared_again(ground: Ground) -> None:
    ground.started(given(0), tasks=1, sources={})
    job = job_of(0)
    assert (job.task, job.prepared is None) == (None, False)
    job.grow("more")
    until(lambda: job_of(0) is not job)
    assert (job_of(0).task, job_of(0).prepared) == (None, None)


def test_a_job_of_one_task_completes_with_it(ground: Ground) -> None:
    worker = ground.started(given(0), tasks=1)
    job_of(0).end(JobState.COMPLETED)
    assert worker.wait(SECONDS)
    assert worker.state is JobState.COMPLETED


# --- starting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("refused", [(0,), (0, 1), (0, 1, 2)])
def test_tasks_that_cannot_start_end_the_worker(ground: Ground, refused: tuple[int, ...]) -> None:
    """However many: one that has not begun will never end, and nobody may wait for it."""
    ScriptedJob.refused = {task: ConfigError("no such topic") for task in refused}
    worker = ground.worker(given(0, 1, 2))
    if len(refused) == 3:
        with pytest.raises(ConfigError, match="no such topic"):
            worker.start()
    else:
        worker.start()
    assert worker.wait(SECONDS)
    assert (worker.state, worker.failure().message) == (JobState.FAILED, "no such topic")
    for task in {0, 1, 2} - set(refused):
        assert job_of(task).calls == ["stop: the worker stops"]
    assert (ground.group.said, ground.group.closed) == ([], 1), "it has left, and says no more"


def test_a_task_that_comes_later_and_cannot_start_ends_the_worker(ground: Ground) -> None:
    worker = ground.started(given(0))
    ScriptedJob.refused = {1: ConfigError("no such topic")}
    ground.group.on_assigned(given(0, 1))
    assert worker.wait(SECONDS)
    assert (worker.state, job_of(0).state) == (JobState.FAILED, JobState.INTERRUPTED)


def test_a_task_that_cannot_start_where_the_worker_has_lost_its_place_is_no_failure(ground: Ground) -> None:
    worker = ground.started(given(0))
    ScriptedJob.refused = {1: StateError("the state is not that of the last commit")}
    ground.group.member = False
    ground.group.on_assigned(given(0, 1))
    assert ground.group.hears(2) == ({0}, set())
    assert not worker.state.ended
    assert job_of(0).state is JobState.RUNNING


# --- what callers ask for --------------------------------------------------------------------------


def test_a_worker_stopped_before_it_starts_runs_nothing(ground: Ground) -> None:
    worker = ground.worker(given(0, 1))
    worker.stop()
    worker.start()
    assert worker.wait(SECONDS)
    assert (worker.state, jobs(), ground.group.closed) == (JobState.INTERRUPTED, [], 1)


def test_a_worker_stopped_while_its_tasks_start_stops_them(ground: Ground) -> None:
    ScriptedJob.slow = True
    worker = ground.worker(given(0, 1))
    starting = Thread(target=worker.start)
    starting.start()
    until(lambda: sum(job.starting.is_set() for job in ScriptedJob.made) == 2)
    worker.stop("enough")
    for job in ScriptedJob.made:
        job.go.set()
    starting.join(SECONDS)
    assert worker.wait(SECONDS)
    assert worker.state is JobState.INTERRUPTED
    assert jobs() == [(0, "interrupted"), (1, "interrupted")]
    assert "stop: enough" in job_of(0).calls


def test_a_stopped_worker_stops_all_tasks_and_leaves(ground: Ground) -> None:
    worker = ground.started(given(0, 1))
    worker.stop("enough")
    assert worker.wait(SECONDS)
    assert (worker.state, ground.group.closed) == (JobState.INTERRUPTED, 1)
    assert [job_of(n).calls[0] for n in (0, 1)] == ["stop: enough"] * 2
    report = worker.report()
    assert (report.state, report.error, report.records["in"], report.rows_out) == ("interrupted", None, 20, 2)


def test_assignments_behind_a_stop_are_not_heard(ground: Ground) -> None:
    worker = ground.started(given(0))
    worker.stop()
    ground.group.on_assigned(given(0, 1, 2))
    ground.group.on_lost(FencedError("too late"))
    assert worker.wait(SECONDS)
    assert (worker.state, jobs()) == (JobState.INTERRUPTED, [(0, "interrupted")])


def test_an_aborted_worker_fails_without_a_commit(ground: Ground) -> None:
    worker = ground.started(given(0))
    worker.abort("killed by its user")
    assert worker.wait(SECONDS)
    assert (worker.state, worker.failure().message) == (JobState.FAILED, "killed by its user")
    assert job_of(0).calls[0] == "abort: killed by its user"


def test_a_pause_is_of_tasks_that_come_later_too(ground: Ground) -> None:
    worker = ground.started(given(0))
    assert worker.pause() and not worker.pause()
    assert worker.state is JobState.PAUSED
    ground.group.on_assigned(given(0, 1))
    ground.group.hears(2)
    assert jobs() == [(0, "paused"), (1, "paused")]
    assert worker.resume() and not worker.resume()
    assert (worker.state, jobs()) == (JobState.RUNNING, [(0, "running"), (1, "running")])


def test_a_worker_paused_before_it_starts_starts_paused(ground: Ground) -> None:
    worker = ground.worker(given(0))
    assert worker.pause()
    worker.start()
    assert (worker.state, jobs()) == (JobState.PAUSED, [(0, "paused")])


def test_a_worker_that_is_over_is_neither_paused_nor_resumed(ground: Ground) -> None:
    worker = ground.started(given(0))
    worker.stop()
    assert worker.wait(SECONDS)
    assert not worker.pause() and not worker.resume()


# --- figures ---------------------------------------------------------------------------------------


def test_progress_is_of_tasks_that_run_and_of_those_that_are_over(ground: Ground) -> None:
    worker = ground.started(given(0, 1))
    ground.group.on_assigned(given(1))
    ground.group.hears(2)
    found = worker.progress()
    assert (found.records, found.bytes, found.rows_out, found.total_bytes) == (20, 200, 2, None)


def test_tasks_that_have_not_started_have_no_figures(ground: Ground) -> None:
    ScriptedJob.slow = True
    worker = ground.worker(given(0))
    starting = Thread(target=worker.start)
    starting.start()
    until(lambda: any(job.starting.is_set() for job in ScriptedJob.made))
    assert (worker.progress().records, worker.report().records["in"]) == (0, 0)
    job_of(0).go.set()
    starting.join(SECONDS)
    assert (worker.progress().records, worker.report().records["in"]) == (10, 10)


def test_running_to_the_end_gives_the_report(ground: Ground) -> None:
    seen: list[int] = []
    worker = ground.worker(given(0))

    def watch(progress: Progress) -> None:
        seen.append(progress.records)
        worker.stop()

    worker._on_progress = watch
    report = worker.run()
    assert (report.name, report.state, report.records["in"]) == ("shared", "interrupted", 10)
    assert seen[0] == 10
    assert worker.sink("out") == "a sink"
