"""Many jobs in one process: deploy, pause, resume, stop, and feed one from another."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from threading import Lock
from typing import Any, Self

from velostream.config.fit import fit
from velostream.config.schema import JobConfig, ObservabilityConfig, SinkConfig, SourceConfig
from velostream.connectors.channel import ChannelSource, ChannelSourceConfig
from velostream.errors import ConfigError, VelostreamError, raise_all, unknown
from velostream.processors import JobProcessorConfig, make_processor
from velostream.runtime.prepare import prepare
from velostream.runtime.report import Report
from velostream.server.deployed import Deployed, JobStatus, JobSummary
from velostream.server.streams import (
    Stream,
    producers_first,
    publish,
    streams_made,
    streams_read,
)

logger = logging.getLogger("velostream.server")

STOP_SECONDS = 10.0


class StreamJobServer:
    """Runs up to `max_jobs` jobs side by side, each on a processor of its own. All methods are thread-safe.

    A job that reads a stream which a running job of this server makes (by its CREATE's name, or its topic)
    gets that job's rows from then on; a slow reader slows the job that it reads. `brokers` and
    `base_group_id` are what Kafka connectors of this server's jobs connect to and are known as.

    >>> server = StreamJobServer.new("localhost:9092", "my-group", 100)
    >>> server.processor_config()
    JobProcessorConfig('v2')
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
        if max_jobs < 1:
            raise ConfigError(f"max_jobs is {max_jobs}, expected at least 1")
        self.brokers = brokers
        self.base_group_id = base_group_id
        self.max_jobs = max_jobs
        self.enable_monitoring = enable_monitoring
        self._observability = dict(observability or {})
        _observed(JobConfig(), self._observability)
        self._processor_config = JobProcessorConfig()
        self._stopping: str | None = None
        self._jobs: dict[str, Deployed] = {}
        # One deployment at a time: what it has checked of the others holds until it is entered.
        self._deploying = Lock()

    @classmethod
    def new(cls, brokers: str, base_group_id: str, max_jobs: int) -> Self:
        """A server with the default processor, V2."""
        return cls(brokers, base_group_id, max_jobs)

    @classmethod
    def new_with_monitoring(
        cls, brokers: str, base_group_id: str, max_jobs: int, enable_monitoring: bool
    ) -> Self:
        """A server whose `get_performance_metrics` gives figures, when `enable_monitoring`."""
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
        """The processor of jobs that name none."""
        return self._processor_config

    def __copy__(self) -> Self:
        """A server of the same settings, without jobs."""
        made = type(self)(
            self.brokers,
            self.base_group_id,
            self.max_jobs,
            enable_monitoring=self.enable_monitoring,
            observability=self._observability,
        )
        made._processor_config = self._processor_config
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return copy.copy(self)

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
        base = config or JobConfig()
        base = replace(
            base,
            sql=query,
            sources=base.sources if sources is None else dict(sources),
            sinks=base.sinks if sinks is None else dict(sinks),
        )
        with self._deploying:
            if self._stopping is not None:
                raise ConfigError(f"the server stops ({self._stopping}) and takes no more jobs")
            deployed = self._admit(
                name, version, topic, base, processor or self._processor_config, bool(base.sinks)
            )
            deployed.start()

    def stop_job(self, name: str) -> None:
        """Stop a job: blocks begun are finished, sinks closed. Waits for its end, 10 s at most."""
        self.stop_job_with_timeout(name, STOP_SECONDS)

    def stop_job_with_timeout(self, name: str, seconds: float) -> None:
        """As `stop_job`; a job that takes longer than `seconds` is ended at once, and counts as failed.

        Nothing happens to a job that has ended.
        """
        deployed = self._deployed(name)
        deployed.job.stop("stopped")
        deployed.finish(seconds)

    def pause_job(self, name: str) -> None:
        """Let a running job read no more until `resume_job`; raises ConfigError when it does not run."""
        deployed = self._deployed(name)
        if deployed.status is not JobStatus.RUNNING:
            raise ConfigError(f"Job '{name}' is {deployed.status}: only a running job can be paused")
        deployed.processor.pause()

    def resume_job(self, name: str) -> None:
        """Let a paused job read on; raises ConfigError when it is not paused."""
        deployed = self._deployed(name)
        if deployed.status is not JobStatus.PAUSED:
            raise ConfigError(f"Job '{name}' is {deployed.status}: only a paused job can be resumed")
        deployed.processor.resume()

    def list_jobs(self) -> list[JobSummary]:
        """All jobs in the order of their deployment, ended ones too (until their name is used again)."""
        return [deployed.summary() for deployed in list(self._jobs.values())]

    def get_job_status(self, name: str) -> JobSummary:
        """Raises ConfigError for a name that was never deployed."""
        return self._deployed(name).summary()

    def wait_job(self, name: str, timeout: float | None = None) -> Report | None:
        """The report of a job when it has ended; None when it did not end in time (seconds)."""
        deployed = self._deployed(name)
        deployed.wait(timeout)
        return deployed.report

    def graceful_shutdown(self, seconds: float = STOP_SECONDS) -> None:
        """Stop all jobs, and wait for them; what runs after `seconds` is ended at once."""
        self.interrupt("shutdown")
        deadline = time.monotonic() + seconds
        errors: list[VelostreamError] = []
        for deployed in list(self._jobs.values()):
            try:
                deployed.finish(max(0.0, deadline - time.monotonic()))
            except VelostreamError as error:
                errors.append(error)
        raise_all(errors)

    def interrupt(self, reason: str) -> None:
        """Ask all jobs to stop and take no more; does not wait, so a signal handler may call it."""
        self._stopping = reason
        for deployed in list(self._jobs.values()):
            deployed.job.stop(reason)

    def run_all(self, jobs: Sequence[tuple[str, JobConfig]]) -> list[Report]:
        """Run several jobs side by side until all have ended; the reports in the order given.

        A job may read what another makes, whatever the order: all have subscribed before the first starts,
        so no row is missed. Each runs on the processor of its own configuration; one without sinks, whose
        streams no other of them reads, prints its rows. Raises VelostreamError, before any starts, when one
        is wrong.
        """
        read: set[str] = set().union(*(streams_read(config) for _, config in jobs))
        admitted: dict[str, Deployed] = {}
        with self._deploying:
            try:
                for name, config in producers_first(jobs):
                    alone = not streams_made(name, config) & read
                    processor = JobProcessorConfig.from_config(config.processor)
                    admitted[name] = self._admit(
                        name, "1", name, config, processor, bool(config.sinks) or alone, read
                    )
            except VelostreamError:
                for deployed in admitted.values():
                    deployed.discard()
                    del self._jobs[deployed.name]
                raise
            for deployed in admitted.values():
                if self._stopping is not None:
                    deployed.job.stop(self._stopping)
                deployed.start()
        for deployed in admitted.values():
            deployed.wait()
        return [report for name, _ in jobs if (report := admitted[name].report) is not None]

    def get_performance_metrics(self) -> dict[str, dict[str, Any]] | None:
        """Figures by job (the keys of a Report); None without monitoring."""
        if not self.enable_monitoring:
            return None
        return {summary.name: summary.stats for summary in self.list_jobs()}

    # --- inside ---------------------------------------------------------------------------------

    def _admit(
        self,
        name: str,
        version: str,
        topic: str,
        config: JobConfig,
        processor: JobProcessorConfig,
        keep_sinks: bool,
        readers: Collection[str] | None = None,
    ) -> Deployed:
        """Check a job and enter it, not started, its inputs subscribed to. `_deploying` is held.

        `keep_sinks` and `readers` are those of `publish`.
        """
        running = [deployed for deployed in self._jobs.values() if not deployed.status.ended]
        if len(running) >= self.max_jobs:
            raise ConfigError(f"Maximum jobs limit reached ({self.max_jobs})", hint="stop a job first")
        if any(deployed.name == name for deployed in running):
            raise ConfigError(f"Job '{name}' already exists", hint="stop it first, or use another name")
        texts = (("job name", name), ("job version", version), ("query", config.sql), ("topic", topic))
        for what, text in texts:
            if not text.strip():
                raise ConfigError(f"{what} cannot be empty")
        config = _observed(replace(config, name=name), self._observability)
        config = replace(config, sources={**_inputs(config, running), **config.sources})
        runner = make_processor(processor)
        prepared = prepare(replace(config, processor=processor.to_config(config.processor)))
        streams = publish(prepared, topic, keep_sinks, readers)
        _check_names(streams, running)
        logger.info("Job '%s' using JobProcessor architecture: %s", name, processor.description())
        inputs = [source for source in prepared.sources.values() if isinstance(source, ChannelSource)]
        for source in inputs:
            source.subscribe()
        self._jobs.pop(name, None)
        deployed = self._jobs[name] = Deployed(
            name,
            version,
            topic,
            runner,
            runner.make_job(config, prepared),
            inputs,
            streams,
            all(source.bounded for source in prepared.sources.values()),
            time.time(),
        )
        return deployed

    def _deployed(self, name: str) -> Deployed:
        deployed = self._jobs.get(name)
        if deployed is None:
            message, hint = unknown("job", name, list(self._jobs))
            raise ConfigError(message, hint=hint)
        return deployed


def _inputs(config: JobConfig, running: Sequence[Deployed]) -> dict[str, SourceConfig]:
    """The streams of running jobs that this job reads, as sources."""
    read = streams_read(config)
    inputs: dict[str, SourceConfig] = {}
    for deployed in running:
        for stream in deployed.streams:
            for name in stream.names:
                if name.lower() not in read:
                    continue
                if stream.updating:
                    raise ConfigError(
                        f"'{name}' of job '{deployed.name}' has rows that are updated later, which another "
                        f"job cannot read",
                        hint="let its query EMIT FINAL",
                    )
                inputs[name] = ChannelSourceConfig(channel=stream.channel, bounded=deployed.bounded)
    return inputs


def _check_names(streams: Sequence[Stream], running: Sequence[Deployed]) -> None:
    """Raises ConfigError when a running job makes a stream of one of these names."""
    taken = {
        name.lower(): deployed.name
        for deployed in running
        for stream in deployed.streams
        for name in stream.names
    }
    for stream in streams:
        for name in stream.names:
            if name.lower() in taken:
                raise ConfigError(
                    f"stream '{name}' is made by job '{taken[name.lower()]}' already",
                    hint="choose another topic, or another name in CREATE",
                )


def _observed(config: JobConfig, keys: Mapping[str, Any]) -> JobConfig:
    """The configuration with these keys of its observability set. Raises ConfigError for a wrong one."""
    errors: list[VelostreamError] = []
    tree = {**asdict(config.observability), **keys}
    made = fit(tree, ObservabilityConfig, ("observability",), errors)
    raise_all(errors)
    return replace(config, observability=made)
