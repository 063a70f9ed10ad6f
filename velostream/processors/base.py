"""What a processor is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from threading import Condition
from typing import ClassVar

import pyarrow as pa

from velostream.api import query_job, query_result
from velostream.config.schema import JobConfig, SinkConfig, SourceConfig
from velostream.errors import ConfigError
from velostream.processors.config import JobProcessorConfig
from velostream.registry import Registry
from velostream.runtime.job import Job
from velostream.runtime.prepare import Prepared
from velostream.runtime.report import Report
from velostream.runtime.worker import Worker, make_job

processors: Registry[type[JobProcessor]] = Registry("processor", "velostream.processors")


class LifecycleState(StrEnum):
    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ProcessorMetrics:
    """What a processor has done, the work it does now included.

    `throughput_rps` is input records per second of work, `uptime_secs` the time since `start`.
    """

    version: str
    name: str
    num_partitions: int
    lifecycle_state: LifecycleState
    total_records: int
    failed_records: int
    throughput_rps: float
    uptime_secs: float


class JobProcessor:
    """Runs jobs on the lanes that its configuration says, one at a time. All methods are thread-safe.

    Life cycle: idle, running after `start` (work starts an idle one), paused and running again by `pause`
    and `resume`, stopped for good by `stop`. A wrong transition is a ConfigError.
    """

    version: ClassVar[str]
    name: ClassVar[str]

    def __init__(self, config: JobProcessorConfig) -> None:
        version = self.version.lower().replace("-", "_")
        if config.version != version:
            raise ConfigError(
                f"{self.name} runs '{version}', not '{config}'",
                hint="make_processor(config) makes the processor that fits",
            )
        self.config = config
        self._state = LifecycleState.IDLE
        self._job: Job | Worker | None = None
        self._records = 0
        self._failed = 0
        self._seconds = 0.0
        self._started = 0.0
        self._changed = Condition()

    @property
    def num_partitions(self) -> int:
        """Lanes of a job."""
        return self.config.lanes

    @property
    def state(self) -> LifecycleState:
        return self._state

    # --- work -----------------------------------------------------------------------------------

    def process_batch(
        self, records: pa.Table | pa.RecordBatch, query: str, stream: str = "records"
    ) -> pa.Table:
        """The result of `query` over one batch, which it reads as `stream`: the real operators, on this
        processor's lanes. Raises VelostreamError."""
        job = query_job(query, str(self.config), tables={stream: records})
        self.run_job(job)
        return query_result(job)

    def process_job(self, source: SourceConfig, sink: SinkConfig, query: str, job_name: str) -> Report:
        """Run a job of one source, which the query reads as `records`, and one sink, to its end."""
        return self.process_multi_job({"records": source}, {"output": sink}, query, job_name)

    def process_multi_job(
        self,
        sources: Mapping[str, SourceConfig],
        sinks: Mapping[str, SinkConfig],
        query: str,
        job_name: str,
        *,
        base: JobConfig | None = None,
    ) -> Report:
        """Run a job of several sources and sinks to its end; `base` has its other settings.

        Raises VelostreamError, before anything starts, for what is wrong in it; a job that fails while it
        runs gives a report that says so.
        """
        base = replace(
            base or JobConfig(), name=job_name, sql=query, sources=dict(sources), sinks=dict(sinks)
        )
        return self.run_job(self.make_job(base))

    def make_job(self, config: JobConfig, prepared: Prepared | None = None) -> Job | Worker:
        """A job for `run_job`: `config` on this processor; `prepared` when it has been checked already."""
        return make_job(replace(config, processor=self.config.to_config(config.processor)), prepared)

    def run_job(self, job: Job | Worker) -> Report:
        """Run a job that was made for this processor to its end. Raises as `process_multi_job`."""
        with self._changed:
            if self._state is LifecycleState.IDLE:
                self._begin()
            if self._state is not LifecycleState.RUNNING:
                raise self._refusal("take work")
            if self._job is not None:
                raise ConfigError(
                    f"{self.name} runs job '{self._job.config.name}' now",
                    hint="wait for its end, or make another processor",
                )
            self._job = job
        report: Report | None = None
        try:
            report = job.run()
        finally:
            with self._changed:
                self._job = None
                if report is not None:
                    self._records += report.records["in"]
                    self._failed += report.records["failed"]
                    self._seconds += report.seconds
                self._changed.notify_all()
        return report

    # --- life cycle -----------------------------------------------------------------------------

    def start(self) -> None:
        """Get ready; nothing more happens until there is work."""
        with self._changed:
            if self._state is not LifecycleState.IDLE:
                raise self._refusal("start")
            self._begin()

    def pause(self) -> None:
        """Read no more until `resume`; what is in flight is finished."""
        with self._changed:
            if self._state is not LifecycleState.RUNNING:
                raise self._refusal("pause")
            self._state = LifecycleState.PAUSED
            if self._job is not None:
                self._job.pause()

    def resume(self) -> None:
        """Read on."""
        with self._changed:
            if self._state is not LifecycleState.PAUSED:
                raise self._refusal("resume")
            self._state = LifecycleState.RUNNING
            if self._job is not None:
                self._job.resume()

    def stop(self) -> None:
        """Finish the blocks begun, close sinks, take no more work; waits for that. May be repeated."""
        with self._changed:
            if self._state is not LifecycleState.STOPPED:
                self._state = LifecycleState.STOPPING
            if self._job is not None:
                self._job.stop(f"{self.name} stops")
            while self._job is not None:
                self._changed.wait()
            self._state = LifecycleState.STOPPED

    def metrics(self) -> ProcessorMetrics:
        with self._changed:
            records, seconds = self._records, self._seconds
            if self._job is not None and self._job.state.running:
                progress = self._job.progress()
                records, seconds = records + progress.records, seconds + progress.seconds
            return ProcessorMetrics(
                self.version,
                self.name,
                self.num_partitions,
                self._state,
                records,
                self._failed,
                records / seconds if seconds else 0.0,
                time.monotonic() - self._started if self._started else 0.0,
            )

    def _begin(self) -> None:
        self._state = LifecycleState.RUNNING
        self._started = time.monotonic()

    def _refusal(self, what: str) -> ConfigError:
        hints = {
            LifecycleState.PAUSED: "resume it first",
            LifecycleState.IDLE: "start it first",
            LifecycleState.STOPPING: "make a new one",
            LifecycleState.STOPPED: "make a new one",
        }
        return ConfigError(f"{self.name} cannot {what}: it is {self._state}", hint=hints.get(self._state))


def make_processor(config: JobProcessorConfig) -> JobProcessor:
    """The processor of that version."""
    return processors[config.version](config)
