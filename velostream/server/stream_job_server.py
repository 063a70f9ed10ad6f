"""Many jobs in one process: deploy, pause, resume, stop, and feed one from another."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from threading import RLock, Thread
from typing import Any, Self

from velostream.config.schema import JobConfig, SinkConfig, SourceConfig
from velostream.connectors.base import Sink
from velostream.connectors.channel import Channel, ChannelSink, ChannelSinkConfig, ChannelSourceConfig
from velostream.errors import ConfigError, VelostreamError, unknown
from velostream.processors import JobProcessorConfig, make_processor
from velostream.processors.base import JobProcessor
from velostream.runtime.job import JobState
from velostream.runtime.prepare import Prepared, prepare, read_script
from velostream.runtime.report import Report

logger = logging.getLogger("velostream.server")

STOP_SECONDS = 10.0


class JobStatus(StrEnum):
    """`Completed` is a bounded job at the end of its input, `Stopped` one that was asked to stop."""

    STARTING = "Starting"
    RUNNING = "Running"
    PAUSED = "Paused"
    STOPPED = "Stopped"
    COMPLETED = "Completed"
    FAILED = "Failed"

    @property
    def ended(self) -> bool:
        return self in (JobStatus.STOPPED, JobStatus.COMPLETED, JobStatus.FAILED)


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job as `list_jobs` shows it. `created_at` is seconds since the epoch; `error` says why it failed."""

    name: str
    version: str
    topic: str
    status: JobStatus
    created_at: float
    stats: dict[str, Any]
    error: str | None = None


@dataclass
class _Deployed:
    """A job and the thread that waits for it. `bounded` when all of its input ends."""

    name: str
    version: str
    topic: str
    config: JobConfig
    processor: JobProcessor
    prepared: Prepared
    channels: list[Channel]
    created_at: float
    thread: Thread | None = None
    report: Report | None = None
    error: str | None = None
    status: JobStatus = JobStatus.STARTING
    asked_to_stop: bool = field(default=False)


class StreamJobServer:
    """Runs up to `max_jobs` jobs, each on a processor of its own.

    `brokers` and `base_group_id` are for jobs that read or write Kafka. Jobs that read a stream which an
    earlier job of this server makes (by its CREATE name, or its topic) get that job's rows, from then on.
    """

    def __init__(
        self,
        brokers: str,
        base_group_id: str,
        max_jobs: int,
        *,
        enable_monitoring: bool = False,
        observability: Mapping[str, Any] | None = None,
    ) -> None:
        self.brokers = brokers
        self.base_group_id = base_group_id
        self.max_jobs = max_jobs
        self.enable_monitoring = enable_monitoring
        self.observability = dict(observability or {})
        self._processor_config = JobProcessorConfig()
        self._jobs: dict[str, _Deployed] = {}
        self._lock = RLock()

    @classmethod
    def new(cls, brokers: str, base_group_id: str, max_jobs: int) -> Self:
        """A server with the default processor, V2."""
        return cls(brokers, base_group_id, max_jobs)

    @classmethod
    def new_with_monitoring(
        cls, brokers: str, base_group_id: str, max_jobs: int, enable_monitoring: bool
    ) -> Self:
        """A server whose `get_performance_metrics` gives figures."""
        return cls(brokers, base_group_id, max_jobs, enable_monitoring=enable_monitoring)

    @classmethod
    def new_with_observability(
        cls, brokers: str, base_group_id: str, max_jobs: int, observability: Mapping[str, Any]
    ) -> Self:
        """A monitored server whose jobs get `observability` (keys of that configuration group)."""
        return cls(brokers, base_group_id, max_jobs, enable_monitoring=True, observability=observability)

    def with_processor_config(self, config: JobProcessorConfig) -> Self:
        """Let jobs deployed from now on run on that processor; returns the server."""
        self._processor_config = config
        logger.info("StreamJobServer processor configuration set to: %s", config.description())
        return self

    def processor_config(self) -> JobProcessorConfig:
        """The processor for jobs that name none."""
        return self._processor_config

    def __copy__(self) -> StreamJobServer:
        """A server of the same settings, without jobs."""
        made = type(self)(
            self.brokers,
            self.base_group_id,
            self.max_jobs,
            enable_monitoring=self.enable_monitoring,
            observability=self.observability,
        )
        made._processor_config = copy.copy(self._processor_config)
        return made

    # --- jobs -----------------------------------------------------------------------------------

    def deploy_job(
        self,
        name: str,
        version: str,
        query: str,
        topic: str,
        *,
        sources: Mapping[str, SourceConfig] | None = None,
        sinks: Mapping[str, SinkConfig] | None = None,
        processor: JobProcessorConfig | None = None,
        config: JobConfig | None = None,
    ) -> None:
        """Check a job and run it in the background.

        Its last query's rows are the stream `topic` for jobs deployed later; each CREATE's rows the stream
        of that name. `config` has the job's other settings. Raises VelostreamError: no room, the name is
        taken by a job that has not ended, something empty, or whatever is wrong with the job.
        """
        with self._lock:
            deployed = self._admit(name, version, query, topic, sources, sinks, processor, config)
            self._start(deployed)

    def stop_job(self, name: str) -> None:
        """Stop a job: blocks begun are finished, sinks closed. Waits for its end, 10 s at most."""
        self.stop_job_with_timeout(name, STOP_SECONDS)

    def stop_job_with_timeout(self, name: str, seconds: float) -> None:
        """As `stop_job`; a job that takes longer than `seconds` is ended at once."""
        deployed = self._job(name)
        if deployed.status.ended:
            return
        deployed.asked_to_stop = True
        job = deployed.processor.job
        assert job is not None and deployed.thread is not None
        job.stop("stopped")
        deployed.thread.join(seconds)
        if deployed.thread.is_alive():
            job.abort()
            deployed.thread.join()

    def pause_job(self, name: str) -> None:
        """Let a running job read no more until `resume_job`."""
        self._job(name).processor.pause()

    def resume_job(self, name: str) -> None:
        self._job(name).processor.resume()

    def list_jobs(self) -> list[JobSummary]:
        """All jobs in the order of their deployment, ended ones too."""
        with self._lock:
            return [self._summary(deployed) for deployed in self._jobs.values()]

    def get_job_status(self, name: str) -> JobSummary:
        """Raises ConfigError for a name that was never deployed."""
        return self._summary(self._job(name))

    def wait_job(self, name: str, timeout: float | None = None) -> Report | None:
        """The report of a job when it has ended; None when it did not end in time (seconds)."""
        deployed = self._job(name)
        assert deployed.thread is not None
        deployed.thread.join(timeout)
        return deployed.report

    def graceful_shutdown(self, seconds: float = STOP_SECONDS) -> None:
        """Stop all jobs, those first that feed others."""
        for summary in self.list_jobs():
            self.stop_job_with_timeout(summary.name, seconds)

    def run_all(self, jobs: Sequence[tuple[str, JobConfig]]) -> list[Report]:
        """Run several jobs side by side until all have ended; the reports in the order given.

        A job may read what another makes, whatever the order: readers start first, so no row is missed.
        Raises Problems, before any starts, when one of them is wrong.
        """
        with self._lock:
            admitted = [
                self._admit(
                    name, "1", config.sql, name, config.sources, config.sinks, _processor(config), config
                )
                for name, config in _producers_first(jobs)
            ]
            for deployed in reversed(admitted):
                self._start(deployed)
        for deployed in admitted:
            assert deployed.thread is not None
            deployed.thread.join()
        return [self._report(name) for name, _ in jobs]

    def interrupt(self, reason: str) -> None:
        """Ask all jobs to stop; does not wait."""
        for deployed in list(self._jobs.values()):
            deployed.asked_to_stop = True
            if deployed.processor.job is not None:
                deployed.processor.job.stop(reason)

    def get_performance_metrics(self) -> dict[str, dict[str, Any]] | None:
        """Figures by job; None without monitoring."""
        if not self.enable_monitoring:
            return None
        return {summary.name: summary.stats for summary in self.list_jobs()}

    # --- inside ---------------------------------------------------------------------------------

    def _admit(
        self,
        name: str,
        version: str,
        query: str,
        topic: str,
        sources: Mapping[str, SourceConfig] | None,
        sinks: Mapping[str, SinkConfig] | None,
        processor: JobProcessorConfig | None,
        config: JobConfig | None,
    ) -> _Deployed:
        running = sum(not deployed.status.ended for deployed in self._jobs.values())
        if running >= self.max_jobs:
            raise ConfigError(f"Maximum jobs limit reached ({self.max_jobs})", hint="stop a job first")
        known = self._jobs.get(name)
        if known is not None and not known.status.ended:
            raise ConfigError(f"Job '{name}' already exists", hint="stop it first, or use another name")
        for what, text in (("job name", name), ("job version", version), ("query", query), ("topic", topic)):
            if not text.strip():
                raise ConfigError(f"{what} cannot be empty")
        chosen = processor or self._processor_config
        base = config or JobConfig()
        settings = replace(
            base,
            name=name,
            sql=query,
            sources={**self._streams(), **dict(sources or {})},
            sinks=dict(sinks or {}),
            processor=chosen.to_config(base.processor),
            observability=replace(base.observability, **self.observability),
        )
        prepared = prepare(settings)
        channels = _publish(prepared, topic, keep_console=bool(sinks))
        logger.info("Job '%s' using JobProcessor architecture: %s", name, chosen.description())
        deployed = _Deployed(
            name, version, topic, settings, make_processor(chosen), prepared, channels, time.time()
        )
        self._jobs[name] = deployed
        return deployed

    def _start(self, deployed: _Deployed) -> None:
        thread = Thread(target=self._run, args=(deployed,), name=f"job/{deployed.name}", daemon=True)
        deployed.thread = thread
        thread.start()

    def _run(self, deployed: _Deployed) -> None:
        config = deployed.config
        try:
            deployed.report = deployed.processor.process_multi_job(
                config.sources,
                config.sinks,
                config.sql,
                deployed.name,
                base=config,
                prepared=deployed.prepared,
            )
            deployed.error = deployed.report.error
            deployed.status = {
                JobState.COMPLETED: JobStatus.COMPLETED,
                JobState.INTERRUPTED: JobStatus.STOPPED,
            }.get(JobState(deployed.report.state), JobStatus.FAILED)
        except VelostreamError as error:
            deployed.error = error.render()
            deployed.status = JobStatus.FAILED
        finally:
            if deployed.status is JobStatus.FAILED:
                logger.error("Job '%s' failed: %s", deployed.name, deployed.error)
            for channel in deployed.channels:
                channel.end(
                    None
                    if deployed.status is JobStatus.COMPLETED
                    else f"job '{deployed.name}' did not complete"
                )

    def _streams(self) -> dict[str, SourceConfig]:
        """What jobs of this server make, as sources; subscribed to when a query reads them."""
        return {
            channel.name: ChannelSourceConfig(channel=channel, bounded=_bounded(deployed.prepared))
            for deployed in self._jobs.values()
            if not deployed.status.ended
            for channel in deployed.channels
        }

    def _job(self, name: str) -> _Deployed:
        with self._lock:
            if name not in self._jobs:
                message, hint = unknown("job", name, self._jobs)
                raise ConfigError(message, hint=hint)
            return self._jobs[name]

    def _summary(self, deployed: _Deployed) -> JobSummary:
        status = deployed.status
        job = deployed.processor.job
        if not status.ended and job is not None:
            status = {JobState.RUNNING: JobStatus.RUNNING, JobState.PAUSED: JobStatus.PAUSED}.get(
                job.state, JobStatus.RUNNING if job.state is JobState.STOPPING else status
            )
        stats = deployed.report.to_dict() if deployed.report is not None else {}
        if not stats and job is not None and status is not JobStatus.STARTING:
            stats = job.report().to_dict()
        return JobSummary(
            deployed.name,
            deployed.version,
            deployed.topic,
            status,
            deployed.created_at,
            stats,
            deployed.error,
        )

    def _report(self, name: str) -> Report:
        deployed = self._job(name)
        if deployed.report is not None:
            return deployed.report
        return Report(name, state="failed", error=deployed.error, processor=str(deployed.processor.config))


def _processor(config: JobConfig) -> JobProcessorConfig:
    return JobProcessorConfig.from_config(config.processor)


def _bounded(prepared: Prepared) -> bool:
    return all(source.bounded for source in prepared.sources.values())


def _publish(prepared: Prepared, topic: str, keep_console: bool) -> list[Channel]:
    """Give every stream that the job makes a channel, the last one also under the name `topic`."""
    streams = [stage.stream for stage in prepared.plan.stages if stage.stream is not None]
    named = {stream: stream for stream in streams if stream != streams[-1] or stream == topic}
    named[topic] = streams[-1]
    named.setdefault(streams[-1], streams[-1])
    sinks: dict[str, Sink] = dict(prepared.sinks) if keep_console else {}
    taken = {name: stream for name, stream in prepared.plan.sinks.items() if name in sinks}
    channels = []
    for name, stream in named.items():
        channel = Channel(name, prepared.plan.stage_of(stream).schema)
        sink_name = f"stream {name}"
        sinks[sink_name] = ChannelSink(sink_name, ChannelSinkConfig(channel=channel))
        taken[sink_name] = stream
        channels.append(channel)
    prepared.sinks = sinks
    prepared.plan = replace(prepared.plan, sinks=taken)
    return channels


def _producers_first(jobs: Sequence[tuple[str, JobConfig]]) -> list[tuple[str, JobConfig]]:
    """The jobs so that each comes after those whose streams it reads. Raises ConfigError for a circle."""
    makes: dict[str, str] = {}
    reads: dict[str, set[str]] = {}
    for name, config in jobs:
        parsed = read_script(config)
        for stream in (*parsed.outputs, name):
            makes[stream.lower()] = name
        own = {source.lower() for source in config.sources}
        reads[name] = {ref.name.lower() for ref in parsed.inputs if ref.path is None} - own
    ordered: dict[str, JobConfig] = {}
    waiting = dict(jobs)
    while waiting:
        ready = [
            name
            for name in waiting
            if not any(
                makes.get(stream, name) in waiting and makes.get(stream) != name for stream in reads[name]
            )
        ]
        if not ready:
            raise ConfigError(f"jobs feed each other in a circle: {', '.join(waiting)}")
        for name in ready:
            ordered[name] = waiting.pop(name)
    return list(ordered.items())
