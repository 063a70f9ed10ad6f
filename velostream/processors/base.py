"""What a processor is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from threading import Lock
from typing import ClassVar

import pyarrow as pa

from velostream.api import run_query
from velostream.config.schema import JobConfig, SinkConfig, SourceConfig
from velostream.errors import ConfigError
from velostream.processors.config import JobProcessorConfig
from velostream.registry import Registry
from velostream.runtime.job import Job
from velostream.runtime.prepare import Prepared
from velostream.runtime.report import Report

processors: Registry[type[JobProcessor]] = Registry("processor", "velostream.processors")


class LifecycleState(StrEnum):
    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ProcessorMetrics:
    """`throughput_rps` is records per second of work; `uptime_secs` since `start`."""

    version: str
    name: str
    num_partitions: int
    lifecycle_state: LifecycleState
    total_records: int
    failed_records: int
    throughput_rps: float
    uptime_secs: float


class JobProcessor:
    """Runs jobs on the lanes that its configuration says. One at a time; thread-safe.

    Life cycle: idle, `start` to running, `pause` and `resume`, `stop` to stopping and stopped. Work on an
    idle processor starts it; a stopped one takes no more.
    """

    version: ClassVar[str]
    name: ClassVar[str]

    def __init__(self, config: JobProcessorConfig) -> None:
        self.config = config
        self._state = LifecycleState.IDLE
        self._job: Job | None = None
        self._records = 0
        self._failed = 0
        self._seconds = 0.0
        self._started = 0.0
        self._lock = Lock()

    @property
    def num_partitions(self) -> int:
        return self.config.lanes

    @property
    def state(self) -> LifecycleState:
        return self._state

    @property
    def job(self) -> Job | None:
        """The job that runs now, or ran last."""
        return self._job

    def process_batch(
        self, records: pa.Table | pa.RecordBatch, query: str, stream: str = "records"
    ) -> pa.Table:
        """The result of `query` over one batch, which it reads as `stream`: real operators, on this
        processor's lanes. Raises VelostreamError."""
        self._begin()
        result, report = run_query(query, str(self.config), tables={stream: records})
        self._account(report)
        return result

    def process_multi_job(
        self,
        sources: Mapping[str, SourceConfig],
        sinks: Mapping[str, SinkConfig],
        query: str,
        job_name: str,
        *,
        base: JobConfig | None = None,
        prepared: Prepared | None = None,
    ) -> Report:
        """Run a job of several sources and sinks to its end. Raises VelostreamError for what is wrong in it.

        `base` has the job's other settings; `prepared` is given when it has been checked already.
        """
        self._begin()
        base = base or JobConfig()
        config = replace(
            base,
            name=job_name,
            sql=query,
            sources=dict(sources),
            sinks=dict(sinks),
            processor=self.config.to_config(base.processor),
        )
        with self._lock:
            job = self._job = Job(config, prepared=prepared)
        job.start()
        if self._state is LifecycleState.PAUSED:
            job.pause()
        elif self._state in (LifecycleState.STOPPING, LifecycleState.STOPPED):
            job.stop("stopped")
        job.wait()
        report = job.report()
        self._account(report)
        return report

    def process_job(self, source: SourceConfig, sink: SinkConfig, query: str, job_name: str) -> Report:
        """Run a job of one source, read as `records`, and one sink."""
        return self.process_multi_job({"records": source}, {"output": sink}, query, job_name)

    def start(self) -> None:
        """Get ready; nothing more happens until there is work."""
        self._begin()

    def pause(self) -> None:
        """Read no more until `resume`; what is in flight is finished."""
        self._change(LifecycleState.RUNNING, LifecycleState.PAUSED)
        if self._job is not None:
            self._job.pause()

    def resume(self) -> None:
        self._change(LifecycleState.PAUSED, LifecycleState.RUNNING)
        if self._job is not None:
            self._job.resume()

    def stop(self) -> None:
        """Finish the blocks begun, close sinks, take no more work. May be repeated."""
        with self._lock:
            if self._state is LifecycleState.STOPPED:
                return
            self._state = LifecycleState.STOPPING
            job = self._job
        if job is not None:
            job.stop("stopped")
            job.wait()
        self._state = LifecycleState.STOPPED

    def metrics(self) -> ProcessorMetrics:
        return ProcessorMetrics(
            self.version,
            self.name,
            self.num_partitions,
            self._state,
            self._records,
            self._failed,
            self._records / self._seconds if self._seconds else 0.0,
            time.monotonic() - self._started if self._started else 0.0,
        )

    def _begin(self) -> None:
        with self._lock:
            if self._state in (LifecycleState.STOPPING, LifecycleState.STOPPED):
                raise ConfigError(f"processor is {self._state}", hint="make a new one")
            if self._state is LifecycleState.IDLE:
                self._state = LifecycleState.RUNNING
                self._started = time.monotonic()

    def _change(self, before: LifecycleState, after: LifecycleState) -> None:
        with self._lock:
            if self._state is not before:
                raise ConfigError(f"processor is {self._state}, not {before}")
            self._state = after

    def _account(self, report: Report) -> None:
        with self._lock:
            self._records += report.records["in"]
            self._failed += report.records["failed"]
            self._seconds += report.seconds


def make_processor(config: JobProcessorConfig) -> JobProcessor:
    """The processor of that version."""
    return processors[config.version](config)
