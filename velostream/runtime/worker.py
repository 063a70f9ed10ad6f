"""A worker: one of the processes that share a job, with the tasks that it holds.

The job's group says which tasks are this worker's. Each is a `Job` of its own; one that moves to another
worker is stopped with a commit here, and goes on from there. What the group and the jobs have to say comes to
one thread, which acts on it in that order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock, Thread

from velostream.config.schema import RESET, RESUME, JobConfig
from velostream.config.units import parse_bytes
from velostream.connectors.base import Assignment, Group, Sink, Task
from velostream.errors import ConnectorError, FencedError, InternalError, VelostreamError
from velostream.faults import fault
from velostream.runtime.job import Job, JobState
from velostream.runtime.merging import merged_progress, merged_report
from velostream.runtime.prepare import Prepared, prepare
from velostream.runtime.promises import join_transaction
from velostream.runtime.report import Progress, Report

logger = logging.getLogger("velostream.job")


def make_job(
    config: JobConfig,
    prepared: Prepared | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Job | Worker:
    """What runs that job, or in a job of several tasks those that the group gives this process."""
    if config.processor.tasks > 1 or (prepared is not None and prepared.grows):
        return Worker(config, prepared=prepared, on_progress=on_progress)
    return Job(config, prepared=prepared, on_progress=on_progress)


@dataclass(frozen=True, slots=True)
class _Assigned:
    """The group has given this worker other tasks."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class _Ended:
    """A job has ended, by itself or because it was asked to."""

    task: int
    job: Job


@dataclass(frozen=True, slots=True)
class _Grown:
    """A task has more to read than when its job began: `how`."""

    task: int
    job: Job
    how: str


@dataclass(frozen=True, slots=True)
class _Lost:
    """Other workers may have this one's tasks by now."""

    error: VelostreamError


@dataclass(frozen=True, slots=True)
class _Stop:
    """The worker is asked to stop: its jobs have been told why."""


@dataclass(frozen=True, slots=True)
class _Abort:
    reason: str


_Event = _Assigned | _Ended | _Grown | _Lost | _Stop | _Abort


class Worker:
    """Runs its share of a job's tasks; as of a `Job`, `run` may be called once, and all methods are
    thread-safe.

    A job of one task is run here where there may come to be more to read, since a task whose topics have
    grown is stopped with a commit and begun again. Its group, if it has one, keeps other workers out.
    """

    def __init__(
        self,
        config: JobConfig,
        *,
        prepared: Prepared | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.config = config
        self.state = JobState.STARTING
        self._prepared = prepared
        self._on_progress = on_progress
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._ended = Event()
        self._group: Group | None = None
        self._run = 1
        # `_held` and what jobs there are change together.
        self._lock = Lock()
        self._held = False
        self._stopping = False
        self._error: BaseException | None = None
        # The owning thread's: the jobs of the tasks held, those that are to begin again when they have ended,
        # tasks that are complete, and jobs that are over.
        self._jobs: dict[int, Job] = {}
        self._again: set[int] = set()
        self._complete: set[int] = set()
        self._over: list[tuple[int, Report]] = []
        self._starting = ThreadPoolExecutor(max(2, min(8, config.processor.tasks)), f"{config.name}/start")
        self._thread = Thread(target=self._work, name=f"{config.name}/worker", daemon=True)

    # --- from outside -------------------------------------------------------------------------------------

    def run(self) -> Report:
        """Run to the end, as `Job.run`."""
        self.start()
        while not self._ended.wait(0.1):
            if self._on_progress is not None:
                self._on_progress(self.progress())
        return self.report()

    def start(self) -> None:
        """Check the job and join its group; returns when the first tasks run (or have failed to). Raises as
        `Job.start`."""
        self._prepared = self._prepared or prepare(self.config)
        self._group = self._find_group(self._prepared)
        first = Assignment(frozenset({0}), 1, False, 1) if self._group is None else self._group.open()
        self.state = JobState.PAUSED if self._held else JobState.RUNNING
        self._assign(first)
        if self._error is not None and not self._over:
            raise self._error
        self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False when it did not come in time (seconds)."""
        return self._ended.wait(timeout)

    def pause(self) -> bool:
        """As `Job.pause`, of all tasks, also those that come."""
        with self._lock:
            if self._held or self.state.ended or self._stopping:
                return False
            self._held = True
            jobs = list(self._jobs.values())
        for job in jobs:
            job.pause()
        if self.state is JobState.RUNNING:
            self.state = JobState.PAUSED
        return True

    def resume(self) -> bool:
        """As `Job.resume`."""
        with self._lock:
            if not self._held or self.state.ended:
                return False
            self._held = False
            jobs = list(self._jobs.values())
        for job in jobs:
            job.resume()
        if self.state is JobState.PAUSED:
            self.state = JobState.RUNNING
        return True

    def stop(self, reason: str = "stopped") -> None:
        """Stop all tasks with a commit, and leave them to other workers; does not wait."""
        if not self._stopping:
            logger.info("job '%s' is asked to stop: %s", self.config.name, reason)
        self._stopping = True
        for job in list(self._jobs.values()):
            job.stop(reason)
        self._events.put(_Stop())

    def abort(self, reason: str = "aborted") -> None:
        """End at once, as `Job.abort`."""
        for job in list(self._jobs.values()):
            job.abort(reason)
        self._events.put(_Abort(reason))

    def failure(self) -> VelostreamError:
        """Why the job did not complete, as an error to raise."""
        if isinstance(self._error, VelostreamError):
            return self._error
        return InternalError(f"job '{self.config.name}' was {self.state}: {self._error}")

    def sink(self, name: str) -> Sink:
        """A sink of the job."""
        assert self._prepared is not None, "run() comes first"
        return self._prepared.sinks[name]

    def progress(self) -> Progress:
        """Of all tasks that this worker has or had."""
        running = [job.progress() for _, job in self._begun_jobs()]
        return merged_progress([report for _, report in self._over], running)

    def report(self) -> Report:
        """Of all tasks that this worker has or had."""
        reports = [*self._over, *((task, job.report()) for task, job in self._begun_jobs())]
        error = self._error
        text = None
        if error is not None:
            text = error.render() if isinstance(error, VelostreamError) else f"internal error: {error!r}"
        return merged_report(self.config, reports, str(self.state), text)

    def _begun_jobs(self) -> list[tuple[int, Job]]:
        return [(task, job) for task, job in list(self._jobs.items()) if job.state is not JobState.STARTING]

    # --- the group ----------------------------------------------------------------------------------------

    def _find_group(self, prepared: Prepared) -> Group | None:
        """The group to join; None where nobody else can work on the job, or its transaction sees to that."""
        config, tasks = self.config, self.config.processor.tasks
        transaction = join_transaction(
            config.name, prepared.promises, prepared.sources, prepared.sinks, tasks
        )
        if tasks == 1:
            found = [source.transaction(config.name) for source in prepared.sources.values()]
            if transaction is not None or None in found or not config.state.path:
                return None
            transaction = found[0]
        assert transaction is not None
        return transaction.group(
            Path(config.state.path),
            tasks,
            config.state.start == RESET and tasks > 1,
            lambda assignment: self._events.put(_Assigned(assignment)),
            lambda error: self._events.put(_Lost(error)),
        )

    def _tell(self) -> None:
        """Let the group know what this worker holds."""
        if self._group is not None and not self.state.ended:
            self._group.update(frozenset(self._jobs) | self._complete, frozenset(self._complete))

    # --- the owning thread ----------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self.state.ended:
                self._act(self._events.get())
        except Exception as error:  # a defect, which must not leave the job hanging
            self._end(error)

    def _act(self, event: _Event) -> None:
        if isinstance(event, _Assigned):
            self._assign(event.assignment)
        elif isinstance(event, _Ended):
            self._take_end(event.task, event.job)
        elif isinstance(event, _Grown):
            self._grow(event)
        elif isinstance(event, _Lost):
            self._lose(event.error)
        elif isinstance(event, _Stop):
            self._end(None)
        else:
            self._end(ConnectorError(event.reason))

    def _assign(self, given: Assignment) -> None:
        """Hold these tasks and no others."""
        if self._stopping:
            return
        if given.complete:
            self._end(None, JobState.COMPLETED)
            return
        if given.run != self._run and (self._jobs or self._complete):
            # The job was begun afresh by others, while this worker was away.
            self._drop("the job was begun afresh")
        self._run = given.run
        fault("worker.assigned")
        self._give_up(self._jobs.keys() - given.tasks)
        fault("worker.given_up")
        self._complete &= given.tasks
        self._begin(given.tasks - self._jobs.keys() - self._complete)
        fault("worker.begun")
        self._tell()

    def _begin(self, tasks: Iterable[int]) -> None:
        """Start the jobs of these tasks, side by side."""
        made = {task: self._make(task) for task in tasks}
        with self._lock:
            if self._held:
                for job in made.values():
                    job.pause()
            self._jobs.update(made)
        started = {task: self._starting.submit(job.start) for task, job in made.items()}
        failed: BaseException | None = None
        for task, start in started.items():
            error = start.exception()
            if error is not None:
                # It has not begun, and so will never end.
                del self._jobs[task], made[task]
                failed = failed or error
        for task, job in made.items():
            name = f"{self.config.name}/{task}"
            Thread(target=self._watch, args=(task, job), name=name, daemon=True).start()
        if failed is not None and not self._is_lost(failed):
            self._end(failed)

    def _watch(self, task: int, job: Job) -> None:
        job.wait()
        self._events.put(_Ended(task, job))

    def _make(self, task: int) -> Job:
        tasks = self.config.processor.tasks
        if tasks == 1:
            return Job(self.config, prepared=self._take_prepared(), on_growth=partial(self._grown, task))
        return Job(
            self._config_of(task),
            task=Task(task, tasks, self._run),
            on_growth=partial(self._grown, task),
        )

    def _take_prepared(self) -> Prepared | None:
        """What was prepared serves one run: what is new is found by preparing again."""
        return None if self._over else self._prepared

    def _config_of(self, task: int) -> JobConfig:
        """The job's configuration for one task: nothing that it writes here is another's."""
        config, name = self.config, f"task-{task}"
        assert self._group is not None
        state = replace(config.state, path=str(self._group.folder / name), start=RESUME)
        if state.memory_limit:
            # Whoever holds all tasks stays within it.
            state.memory_limit = str(parse_bytes(state.memory_limit) // config.processor.tasks)
        failure = config.failure
        if failure.dlq_path:
            path = Path(failure.dlq_path)
            failure = replace(failure, dlq_path=str(path.with_stem(f"{path.stem}-{task}")))
        output_dir = str(Path(config.output_dir) / name) if config.output_dir else ""
        return replace(config, state=state, failure=failure, output_dir=output_dir)

    def _give_up(self, tasks: Iterable[int]) -> None:
        """Stop the jobs of these tasks with a commit, and wait for that."""
        stopped = {task: self._jobs[task] for task in tasks}
        for job in stopped.values():
            job.stop("its task goes to another worker")
        for task, job in stopped.items():
            job.wait()
            self._note(task, job)
            if job.state is JobState.FAILED and not isinstance(job.failure(), FencedError):
                logger.warning("task %d of job '%s': %s", task, self.config.name, job.failure().render())

    def _drop(self, reason: str) -> None:
        """End all jobs without a commit: their tasks may be others' by now."""
        for job in self._jobs.values():
            job.abort(reason)
        for task, job in list(self._jobs.items()):
            job.wait()
            self._note(task, job)
        self._complete.clear()

    def _note(self, task: int, job: Job) -> None:
        """A job is over."""
        del self._jobs[task]
        self._again.discard(task)
        self._over.append((task, job.report()))

    def _take_end(self, task: int, job: Job) -> None:
        if self._jobs.get(task) is not job:
            return  # it was given up or dropped
        again = task in self._again
        self._note(task, job)
        if job.state is JobState.COMPLETED and self.config.processor.tasks == 1:
            self._end(None, JobState.COMPLETED)
        elif job.state is JobState.COMPLETED:
            self._complete.add(task)
            fault("worker.before_complete")
            self._tell()
        elif self._stopping:
            pass
        elif again and job.state is JobState.INTERRUPTED:
            self._begin([task])
        elif self._is_lost(job.failure()):
            logger.warning("task %d of job '%s' was taken over", task, self.config.name)
            self._tell()
        else:
            self._end(job.failure())

    def _is_lost(self, error: BaseException) -> bool:
        """Whether a job has failed because another worker has its task, or all tasks of this one: then the
        group says so, or gives it back. Who goes on with another's task may fail in any way, as by its
        state, which is not what that one has committed since."""
        if self._group is None or self.config.processor.tasks == 1:
            return False
        return isinstance(error, FencedError) or not self._group.confirm()

    def _grown(self, task: int, how: str) -> None:
        """On the loop."""
        job = self._jobs.get(task)
        if job is not None:
            self._events.put(_Grown(task, job, how))

    def _grow(self, event: _Grown) -> None:
        if self._jobs.get(event.task) is event.job and not self._stopping:
            logger.warning("job '%s': %s: it goes on with all of it", self.config.name, event.how)
            self._again.add(event.task)
            event.job.stop(event.how)

    def _lose(self, error: VelostreamError) -> None:
        if self._stopping:
            return
        self._drop("its tasks may be other workers' by now")
        if isinstance(error, FencedError) and self.config.processor.tasks > 1:
            logger.warning("job '%s': %s", self.config.name, error.render())
            self._tell()
        else:
            self._end(error)

    def _end(self, error: BaseException | None, state: JobState | None = None) -> None:
        """Stop what runs, leave the group, be over."""
        self._stopping = True
        self._error = self._error or error
        for job in self._jobs.values():
            job.stop("the worker stops")
        for task, job in list(self._jobs.items()):
            job.wait()
            self._note(task, job)
            if job.state is JobState.FAILED:
                self._error = self._error or job.failure()
        self._starting.shutdown(wait=False, cancel_futures=True)
        fault("worker.before_leave")
        try:
            if self._group is not None:
                self._group.close()
        except VelostreamError as left:
            # Its session ends without it, too.
            logger.warning("job '%s': %s", self.config.name, left.render())
        if self._error is not None:
            self.state = JobState.FAILED
        else:
            self.state = state or JobState.INTERRUPTED
        self._ended.set()
