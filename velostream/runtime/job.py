"""A job: prepared from its configuration, run to its end, stopped on request, reported."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from velostream.config.schema import JobConfig
from velostream.config.units import parse_bytes, parse_duration_us
from velostream.connectors.base import Limits, Sink, Source, Task, Transaction
from velostream.errors import ConnectorError, InternalError, NoAnswerError, VelostreamError
from velostream.faults import fault
from velostream.loop import shared_loop, submit
from velostream.operators.aggregate import Keyer
from velostream.plan.nodes import AggregateNode
from velostream.runtime.admission import Admission
from velostream.runtime.app import App, make_app
from velostream.runtime.counters import Counters
from velostream.runtime.dataflow import Dataflow
from velostream.runtime.epochs import Epochs
from velostream.runtime.exchange import ExchangeOutlet, task_split
from velostream.runtime.failures.base import Trouble, failures
from velostream.runtime.failures.dead_letters import DeadLetterFile
from velostream.runtime.intake import Intake
from velostream.runtime.lane import CAN_PIN, Lane, LaneThread, make_lanes, usable_cpus
from velostream.runtime.memory import StateMemory
from velostream.runtime.outlets import Outlet
from velostream.runtime.prepare import Prepared, prepare
from velostream.runtime.promises import BEST_EFFORT, join_transaction
from velostream.runtime.report import (
    Progress,
    Report,
    counters_by_query,
    lane_figures,
    outlet_figures,
    processor_text,
    stage_times,
)
from velostream.runtime.saved import SavedState
from velostream.runtime.stages import Stages
from velostream.runtime.transport import Inputs

# Between two commits where `delivery.interval` does not say: readers of a topic see no row sooner.
INTERVAL_US = 1_000_000
KAFKA_INTERVAL_US = 200_000
# How long a job that is asked to stop waits for whom does not answer: `docker stop` kills after 10 s, and to
# close beside brokers that are away takes half of that.
STOP_SECONDS = 3.0
# Why reading pauses, beside what was asked for.
TROUBLE = "trouble"
logger = logging.getLogger("velostream.job")


class JobState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    FAILED = "failed"

    @property
    def running(self) -> bool:
        """Begun and not ended, be it paused or stopping."""
        return self in (JobState.RUNNING, JobState.PAUSED, JobState.STOPPING)

    @property
    def ended(self) -> bool:
        return self in (JobState.COMPLETED, JobState.INTERRUPTED, JobState.FAILED)


def wall_clock_us() -> int:
    """Microseconds since the epoch, UTC."""
    return time.time_ns() // 1000


def timer_us() -> int:
    """Microseconds since some moment, whatever is done to the wall clock."""
    return time.monotonic_ns() // 1000


class Job:
    """One run of a job, or of one of its tasks. `run` may be called once, from any thread but the shared
    loop's.

    `clock` gives microseconds UTC, `timer` those since some moment: a clock that is set back or forward makes
    no partition silent. Tests inject their own. `on_growth` is called when there is more to read than when
    the job began, which is an error without it. All methods are thread-safe.
    """

    outlet_type: ClassVar[type[Outlet]] = Outlet

    def __init__(
        self,
        config: JobConfig,
        *,
        prepared: Prepared | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        clock: Callable[[], int] = wall_clock_us,
        timer: Callable[[], int] = timer_us,
        task: Task | None = None,
        on_growth: Callable[[str], None] | None = None,
    ) -> None:
        self.config = config
        self._task = task
        self._on_growth = on_growth
        self.state = JobState.STARTING
        self._prepared = prepared
        self._on_progress = on_progress
        self._clock = clock
        self._timer = timer
        self._ended = threading.Event()
        self._held = False
        self._stop_reason: str | None = None
        self._app_started = asyncio.Event()
        self._error: BaseException | None = None
        self._seconds = 0.0
        self._app: App | None = None
        self._intake: Intake | None = None
        self._lanes: list[Lane] = []
        self._threads: list[LaneThread] = []
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._finishing: asyncio.Future[None] | None = None
        self._flushing: asyncio.Future[None] | None = None
        self._bounded = True
        self._saved: SavedState | None = None
        self._exchanged: dict[str, tuple[ExchangeOutlet, Source]] = {}
        self._epochs: Epochs | None = None

    # --- from outside ---------------------------------------------------------------------------

    def run(self) -> Report:
        """Run to the end. Raises VelostreamError when the configuration is wrong, before anything starts;
        a job that fails while running gives a Report that says so."""
        self.start()
        while not self._ended.wait(0.1):
            if self._on_progress is not None:
                self._on_progress(self.progress())
        return self.report()

    def start(self) -> None:
        """Check, open and begin; returns when the job runs (or has failed to)."""
        prepared = self._prepared or prepare(self.config, self._task)
        self._prepared = prepared
        self._setup(prepared)
        submit(self._start()).result()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end; False when it did not come in time (seconds)."""
        return self._ended.wait(timeout)

    def pause(self) -> bool:
        """Read nothing more until `resume`; what is in flight is finished. A job that has not started yet
        starts paused. False when the job was paused, is stopping or has ended."""
        return submit(self._pause()).result()

    def resume(self) -> bool:
        """Read on. False when the job was not paused."""
        return submit(self._resume()).result()

    def stop(self, reason: str = "stopped") -> None:
        """Stop reading, finish the blocks begun, close the sinks: the job ends as interrupted.

        Does not wait, so a signal handler may call it; before `start` too: the job then ends at once.
        """
        if self._stop_reason is None:
            self._stop_reason = reason
            logger.info("job '%s' is asked to stop: %s", self.config.name, reason)
        self._call(self._interrupt)

    def abort(self, reason: str = "aborted") -> None:
        """End at once: blocks in flight are dropped, and bounded sinks leave no file."""
        self._call(self._fail, ConnectorError(reason))

    def drain(self, records: int) -> None:
        """Wait until that many records in all have been read and nothing is in flight, or the job has ended.

        A barrier through all lanes: what came of those records has left the job when it returns.
        """
        submit(self._drain(records)).result()

    def failure(self) -> VelostreamError:
        """Why the job did not complete, as an error to raise."""
        if isinstance(self._error, VelostreamError):
            return self._error
        return InternalError(self._error_text() or f"job '{self.config.name}' was {self.state}")

    def sink(self, name: str) -> Sink:
        """A sink of the job, to take its results from when they stay in memory."""
        assert self._prepared is not None, "run() comes first"
        return self._prepared.sinks[name]

    def outlet(self, sink: str) -> Outlet:
        """Where the job writes that sink's rows."""
        return self._outlets[sink]

    def progress(self) -> Progress:
        return Progress(
            records=sum(lane.records for lane in self._lanes),
            bytes=self._intake.bytes_read if self._intake is not None else 0,
            total_bytes=self._total_bytes,
            rows_out=self._rows_out(),
            seconds=self._elapsed(),
            troubles=self._troubles(),
        )

    def _troubles(self) -> list[Trouble]:
        """Of calls that fail, and of sources that wait by themselves for what is away."""
        found = self._strategy.troubles
        failing = {trouble.what for trouble in found}
        sources = self._prepared.sources if self._prepared is not None else {}
        for name, source in sources.items():
            outage = source.outage
            if outage is not None and (what := f"source '{name}'") not in failing:
                reason, since = outage
                found.append(Trouble(what, since, 0, reason))
        return found

    def _elapsed(self) -> float:
        """Seconds since the first block was read; 0 before."""
        begun = self._intake.begun if self._intake is not None else 0.0
        return time.perf_counter() - begun if begun else 0.0

    def _rows_out(self) -> int:
        """Rows of all streams that leave the job; a stream with several sinks counts once."""
        rows: dict[str, int] = {}
        for outlet in self._outlets.values():
            rows[outlet.stream] = max(rows.get(outlet.stream, 0), outlet.rows)
        return sum(rows.values())

    # --- setting up -----------------------------------------------------------------------------

    def _setup(self, prepared: Prepared) -> None:
        config = self.config.processor
        cpus = usable_cpus()
        lanes = 1 if config.version != "v2" else config.partitions or max(1, len(cpus) // config.tasks)
        self._strategy = failures[self.config.failure.strategy](self.config.failure, self.config.output_dir)
        self._strategy.on_trouble = partial(self._call, self._on_trouble)
        self._outlets = {
            name: self.outlet_type(prepared.sinks[name], stream, prepared.plan.stage_of(stream).schema)
            for name, stream in prepared.plan.sinks.items()
        }
        transaction = self._transaction(prepared)
        self._exchanged = self._make_exchanges(prepared, transaction)
        partitions = {name: len(source.partitions()) for name, source in self._all_sources.items()}
        stages = Stages(
            prepared.plan,
            partitions,
            self._outlets,
            lanes,
            config.key_groups,
            {name: outlet for name, (outlet, _) in self._exchanged.items()},
            self._task,
        )
        self._memory = StateMemory(self.config.state.memory_limit, stages)
        self._dataflow = Dataflow(stages, config.key_groups, self._memory)
        if self._saves(prepared):
            self._saved = SavedState(self.config, prepared.plan, prepared.sources, stages, transaction)
        if self._task is not None:
            # Tasks of one process are pinned side by side.
            first = self._task.number * lanes % len(cpus)
            cpus = cpus[first:] + cpus[:first]
        pinned = config.affinity and config.version == "v2" and CAN_PIN
        self._lanes = make_lanes(self.config.name, lanes, cpus, pinned, self._lane_error)
        self._threads = list(dict.fromkeys(lane.thread for lane in self._lanes))
        self._dataflow.lanes = self._lanes
        block_bytes = parse_bytes(config.block_size)
        self._admission = Admission(max(block_bytes, parse_bytes(config.queue_size) // config.tasks))
        self._limits = Limits(block_bytes, config.block_records, len(self._threads))
        sizes = [source.total_bytes() for source in prepared.sources.values()]
        self._total_bytes = sum(size for size in sizes if size is not None) if None not in sizes else None
        folder = self.config.output_dir
        late = [stage.watermark.late for stage in prepared.plan.stages if stage.watermark is not None]
        self._late_file = (
            DeadLetterFile(Path(folder) / "late.ndjson") if folder and "side_output" in late else None
        )

    @staticmethod
    def _saves(prepared: Prepared) -> bool:
        return any(promise.guarantee != BEST_EFFORT for promise in prepared.promises.values())

    def _transaction(self, prepared: Prepared) -> Transaction | None:
        if not self._saves(prepared):
            return None
        tasks = self.config.processor.tasks
        transaction = join_transaction(
            self.config.name, prepared.promises, prepared.sources, prepared.sinks, tasks
        )
        if self._task is not None:
            assert transaction is not None
            transaction.divide(self._task)
        return transaction

    def _make_exchanges(
        self, prepared: Prepared, transaction: Transaction | None
    ) -> dict[str, tuple[ExchangeOutlet, Source]]:
        """What takes rows to the tasks of their keys, by `Stage.exchange_name`."""
        made = {}
        for sender, stage in prepared.plan.exchanged():
            node, name = stage.nodes[0], stage.exchange_name
            assert isinstance(node, AggregateNode) and transaction is not None and self._task is not None
            split = task_split(Keyer(node), self._task.count)
            bounded = all(source.bounded for source in prepared.sources.values())
            sink, source = transaction.exchange(name, stage.query, split, sender.schema, bounded)
            made[name] = ExchangeOutlet(sink, stage.query, sender.schema), source
        return made

    @property
    def _all_sources(self) -> dict[str, Source]:
        """Exchanges with other tasks among them."""
        assert self._prepared is not None
        return {**self._prepared.sources, **{name: source for name, (_, source) in self._exchanged.items()}}

    @property
    def _all_outlets(self) -> dict[str, Outlet]:
        """Exchanges with other tasks among them."""
        return {**self._outlets, **{name: outlet for name, (outlet, _) in self._exchanged.items()}}

    # --- on the loop ----------------------------------------------------------------------------

    async def _start(self) -> None:
        prepared = self._prepared
        assert prepared is not None
        self._bounded = all(source.bounded for source in prepared.sources.values())
        for source in prepared.sources.values():
            source.on_growth = self._on_growth
        try:
            for name, outlet in self._all_outlets.items():
                token = self._saved.token(name) if self._saved is not None else None
                await asyncio.to_thread(outlet.open, self._bounded, self._strategy, token)
            if self._saved is not None and self._saved.transaction is not None:
                await asyncio.to_thread(self._saved.transaction.begin)
        except VelostreamError as error:
            self._error = self._error or error
        if self._error is not None:
            self._app_started.set()
            await self._finish(self._error)
            return
        if self._saved is not None and self._saved.complete:
            logger.info("job '%s' had read all of its input: its output is finished now", self.config.name)
            self._app_started.set()
            await self._finish(None)
            return
        self._intake = Intake(
            prepared.plan,
            prepared.sources,
            self._dataflow,
            self._lanes,
            self._admission,
            self._strategy,
            self._late_file,
            self._clock,
            self._on_idle,
            {name: source for name, (_, source) in self._exchanged.items()},
            self.config.processor.tasks,
        )
        try:
            await self._begin_epochs(prepared, self._intake)
        except VelostreamError as error:
            self._app_started.set()
            await self._finish(error)
            return
        for thread in self._threads:
            thread.start()
        idle = {
            name: parse_duration_us(source.config.idle_timeout)
            for name, source in prepared.sources.items()
            if not source.bounded
        }
        open_partitions = max(2, len(self._lanes))
        inputs = Inputs(
            self._all_sources,
            self._limits,
            open_partitions,
            self._intake.positions(),
            idle,
            self._timer,
            self._strategy.call,
        )
        self._app = make_app(self.config.name, inputs, self._intake.submit, self._fail)
        if self._held or self._stop_reason is not None:
            self._admission.pause()
        self.state = JobState.PAUSED if self._held else JobState.RUNNING
        try:
            if self._epochs is not None and not self._bounded:
                # Else a sink that appends could not tell, after a crash before its first commit, which rows
                # were there before the job.
                await self._epochs.commit()
            await self._app.start()
            if self._epochs is not None and self._finishing is None:
                self._epochs.start()
        except Exception as error:
            self._fail(error)
        finally:
            self._app_started.set()
        if self._stop_reason is not None:
            self._interrupt()

    async def _begin_epochs(self, prepared: Prepared, intake: Intake) -> None:
        """Take up what an earlier run has saved, and save from now on."""
        saved = self._saved
        if saved is not None:
            states = {}
            for key, partition in intake.partitions.items():
                partition.position = saved.position(partition.state.source, partition.state.name)
                states[key] = partition.state
            await asyncio.to_thread(saved.restore, states, self.config.processor.key_groups)
            intake.leave_out_ended()
            self._memory.check_all()
        elif self._bounded or not any(sink.shows_by_commits for sink in prepared.sinks.values()):
            return
        self._epochs = Epochs(
            saved.store if saved is not None else None,
            saved.transaction if saved is not None else None,
            self._commit_interval_us(),
            intake,
            self._all_sources,
            len(intake.partitions),
            [target.stage.query for target in self._dataflow.stages.targets.values()],
            len(self._lanes),
            self._all_outlets,
            saved.description if saved is not None else {},
            self.config.output_dir,
            self._strategy,
            self._fail,
            saved.numbered if saved is not None else 0,
        )

    def _commit_interval_us(self) -> int:
        if self.config.delivery.interval:
            return parse_duration_us(self.config.delivery.interval)
        assert self._prepared is not None
        kinds = {source.config.kind for source in self._prepared.sources.values()}
        kinds |= {sink.config.kind for sink in self._prepared.sinks.values()}
        return KAFKA_INTERVAL_US if "kafka" in kinds else INTERVAL_US

    def _on_idle(self) -> None:
        """Nothing is in flight."""
        waiters, self._idle_waiters = self._idle_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        intake = self._intake
        assert intake is not None
        if intake.open_partitions == 0 or self.state is JobState.STOPPING:
            self._spawn_finish(None)
        elif self._flushing is None or self._flushing.done():
            outlets = [outlet for outlet in self._outlets.values() if outlet.holds_back]
            if outlets:
                self._flushing = asyncio.ensure_future(self._flush(outlets))

    async def _flush(self, outlets: list[Outlet]) -> None:
        """The input of an endless job pauses: whoever reads its output must not wait for more of it."""
        try:
            for outlet in outlets:
                await asyncio.to_thread(outlet.flush)
        except VelostreamError as error:
            self._fail(error)

    async def _drain(self, records: int) -> None:
        while not self.state.ended and (
            self._intake is None
            or self._intake.in_flight
            or sum(lane.records for lane in self._lanes) < records
        ):
            waiter = asyncio.get_running_loop().create_future()
            self._idle_waiters.append(waiter)
            await waiter

    async def _pause(self) -> bool:
        if self.state is JobState.STARTING and not self._held:
            self._held = True
            return True
        if self.state is not JobState.RUNNING:
            return False
        self.state = JobState.PAUSED
        self._admission.pause()
        return True

    async def _resume(self) -> bool:
        if self.state is JobState.STARTING and self._held:
            self._held = False
            return True
        if self.state is not JobState.PAUSED:
            return False
        self.state = JobState.RUNNING
        self._admission.resume()
        return True

    def _interrupt(self) -> None:
        if self.state in (JobState.RUNNING, JobState.PAUSED):
            self.state = JobState.STOPPING
            self._admission.pause()
            self._strategy.stopping.set()
            for outlet in self._all_outlets.values():
                outlet.hurry(STOP_SECONDS)
            if self._saved is not None and self._saved.transaction is not None:
                self._saved.transaction.hurry(STOP_SECONDS)
            if self._intake is not None and self._intake.in_flight == 0:
                self._spawn_finish(None)

    def _on_trouble(self) -> None:
        """Read nothing while a source, a sink or the state is tried again: it could go nowhere."""
        if self._strategy.retrying:
            self._admission.pause(TROUBLE)
        else:
            self._admission.resume(TROUBLE)

    def _lane_error(self, error: BaseException) -> None:
        shared_loop().call_soon_threadsafe(self._fail, error)

    def _fail(self, error: BaseException) -> None:
        if not self.state.ended and self._error is None:
            self._error = error
            if self._epochs is not None:
                self._epochs.fail(error)
            if self._intake is None:
                return  # not started yet: `_start` sees the error
            self._admission.pause()
            self._strategy.stopping.set()
            self._spawn_finish(error)

    def _spawn_finish(self, error: BaseException | None) -> None:
        if not self.state.ended and self._finishing is None:
            self._finishing = asyncio.ensure_future(self._finish(error))

    async def _finish(self, error: BaseException | None) -> None:
        """Stop reading, join lanes, close sinks: in this order, whatever ended the job."""
        # A Faust app cannot be stopped while it starts; a short job may be done by then.
        await self._app_started.wait()
        interrupted = self.state is JobState.STOPPING
        state = JobState.FAILED if error else JobState.INTERRUPTED if interrupted else JobState.COMPLETED
        if self._epochs is not None:
            await self._epochs.stop()
            if error is None:
                try:
                    await self._epochs.commit(complete=state is JobState.COMPLETED)
                except Exception as failed:
                    error, state = failed, JobState.FAILED
        await asyncio.to_thread(self._close_lanes)
        try:
            fault("job.before_close")
            await asyncio.to_thread(self._close_sinks, state is JobState.COMPLETED)
            # All rows are written: what comes now is of the state.
            self._seconds = self._elapsed()
            fault("job.before_clear")
            # That a task is complete its job must know until all are, and others that it was run.
            if self._saved is not None and state is JobState.COMPLETED and self._task is None:
                await asyncio.to_thread(self._saved.clear)
                fault("job.after_clear")
        except VelostreamError as failed:
            error, state = error or failed, JobState.FAILED
        finally:
            if self._saved is not None:
                await asyncio.to_thread(self._saved.close, error is None)
        if interrupted and isinstance(error, NoAnswerError):
            self._tell_left(error)
            self._error = error = None
            state = JobState.INTERRUPTED
        if error is not None:
            self._error = error
            if not isinstance(error, VelostreamError):
                logger.error("job '%s' failed by a defect of velostream", self.config.name, exc_info=error)
        self._seconds = self._seconds or self._elapsed()
        if self._app is not None:
            await self._app.stop()
        for source in self._all_sources.values():
            await asyncio.to_thread(source.close)
        self.state = state
        self._on_ended()

    def _tell_left(self, error: NoAnswerError) -> None:
        """Of a job that was to stop, and could not commit any more."""
        left = "not all of its rows are written"
        if self._saved is not None and self._epochs is not None:
            left = f"what it has read since epoch {self._epochs.committed} may be read again"
        name = self.config.name
        logger.warning("job '%s' stops without its last commit: %s; %s", name, error.message, left)

    def _on_ended(self) -> None:
        for waiter in self._idle_waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._ended.set()

    def _close_lanes(self) -> None:
        for thread in self._threads:
            thread.stop()
        if self._intake is not None:
            self._intake.close()

    def _close_sinks(self, complete: bool) -> None:
        self._strategy.close()
        if self._late_file is not None:
            self._late_file.close()
        first: VelostreamError | None = None
        for outlet in self._all_outlets.values():
            try:
                outlet.close(complete and first is None)
            except VelostreamError as error:
                first = first or error
        if first is not None:
            raise first

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        shared_loop().call_soon_threadsafe(function, *args)

    # --- at the end -----------------------------------------------------------------------------

    def report(self) -> Report:
        """What happened; complete once the job has ended.

        Of a running job the lanes own the state, so what is said of open windows and state is 0 until then.
        """
        assert self._prepared is not None
        plan = self._prepared.plan
        queries = counters_by_query(plan, self._lanes)
        keyed = []
        if self.state.ended:
            keyed = [stage for stages in self._dataflow.stages.keyed for stage in stages.values()]
        for keyed_stage in keyed:
            queries[keyed_stage.stage.query].groups_failed += keyed_stage.aggregate.failed_groups
        total = Counters()
        reading = {stage.query for stage in plan.stages if isinstance(stage.input, str)}
        for query in reading:
            total.add(queries[query])
        seconds = self._seconds or self._elapsed()
        read = sum(lane.records for lane in self._lanes)
        return Report(
            name=self.config.name,
            state=str(self.state),
            error=self._error_text(),
            processor=processor_text(
                self.config.processor.version, len(self._lanes), self.config.processor.affinity
            ),
            begun_at=self._begun_at(),
            seconds=seconds,
            records=total.to_dict(),
            rows_out=self._rows_out(),
            rate=read / seconds if seconds else 0.0,
            bytes_in=self._intake.bytes_read if self._intake is not None else 0,
            queries=[{"name": name, **counters.to_dict()} for name, counters in queries.items()],
            stages=stage_times(self._lanes),
            lanes=[lane_figures(lane) for lane in self._lanes],
            sinks=[
                outlet_figures(outlet, self._prepared.promises.get(name))
                for name, outlet in self._outlets.items()
            ],
            resumed_epoch=self._saved.committed if self._saved is not None else 0,
            epochs=self._epochs.committed if self._epochs is not None else 0,
            commits=self._epochs.commits if self._epochs is not None else 0,
            open_windows=sum(stage.aggregate.open_windows for stage in keyed),
            state_rows=sum(stage.aggregate.open_groups for stage in keyed),
            state_bytes=sum(stage.aggregate.nbytes for stage in keyed),
            peak_queue_bytes=self._admission.peak_bytes,
            failures=self._strategy.logged + self._dataflow.failed_groups,
            troubles=[asdict(trouble) for trouble in self._troubles()],
            dead_letters=_path_of(getattr(self._strategy, "file", None)),
            late_records=_path_of(self._late_file),
        )

    def _begun_at(self) -> float:
        """Unix time of the first block read; 0 when none was."""
        elapsed = self._elapsed()
        return time.time() - elapsed if elapsed else 0.0

    def _error_text(self) -> str | None:
        if self._error is None:
            return None
        if isinstance(self._error, VelostreamError):
            return self._error.render()
        return f"internal error: {type(self._error).__name__}: {self._error}"


def _path_of(file: DeadLetterFile | None) -> str | None:
    return str(file.path) if file is not None and file.count else None
