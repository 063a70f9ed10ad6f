"""A job on the server: what is known of it, and how it ends."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Thread
from typing import Any

from velostream.connectors.channel import ChannelSource
from velostream.errors import ConnectorError, VelostreamError
from velostream.processors import JobProcessor
from velostream.runtime.job import Job, JobState
from velostream.runtime.report import Report
from velostream.runtime.worker import Worker
from velostream.server.streams import Stream

logger = logging.getLogger("velostream.server")

# How long a job that was aborted may take to end: a lane may be inside a call of a source or sink.
ABORT_SECONDS = 10.0


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


# A job that finishes the blocks it has begun is running still.
_STATUS = {
    JobState.STARTING: JobStatus.STARTING,
    JobState.RUNNING: JobStatus.RUNNING,
    JobState.PAUSED: JobStatus.PAUSED,
    JobState.STOPPING: JobStatus.RUNNING,
    JobState.COMPLETED: JobStatus.COMPLETED,
    JobState.INTERRUPTED: JobStatus.STOPPED,
    JobState.FAILED: JobStatus.FAILED,
}


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job as `list_jobs` shows it.

    `created_at` is seconds since the epoch. `stats` are the keys of a Report, so far. `error` says why it
    failed.
    """

    name: str
    version: str
    topic: str
    status: JobStatus
    created_at: float
    stats: dict[str, Any]
    error: str | None = None


@dataclass(eq=False)
class Deployed:
    """One deployment of a job. `inputs` are what it reads of other jobs, `streams` what it gives them.

    Its thread runs the job and sets `report` at the end; others only read.
    """

    name: str
    version: str
    topic: str
    processor: JobProcessor
    job: Job | Worker
    inputs: list[ChannelSource]
    streams: list[Stream]
    bounded: bool
    created_at: float
    report: Report | None = None
    _thread: Thread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = Thread(target=self._run, name=f"job/{self.name}", daemon=True)

    @property
    def status(self) -> JobStatus:
        if self.report is not None:
            return _STATUS[JobState(self.report.state)]
        status = _STATUS[self.job.state]
        # Ended is what has closed its streams too.
        return JobStatus.RUNNING if status.ended else status

    def summary(self) -> JobSummary:
        report = self.report
        if report is None and self.job.state is not JobState.STARTING:
            report = self.job.report()
        stats = {} if report is None else report.to_dict()
        error = None if self.report is None else self.report.error
        return JobSummary(self.name, self.version, self.topic, self.status, self.created_at, stats, error)

    def start(self) -> None:
        self._thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end; False when it did not come in time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def finish(self, seconds: float) -> None:
        """Wait for the end of a job that was asked to stop; after `seconds` it is ended at once.

        Raises ConnectorError when even that does not end it.
        """
        if self.wait(seconds):
            return
        reason = f"job '{self.name}' did not stop within {seconds:g} s: blocks in flight were dropped"
        # A lane may be waiting for a reader of its stream.
        self._end_streams(f"was aborted: {reason}")
        self.job.abort(reason)
        if not self.wait(ABORT_SECONDS):
            raise ConnectorError(
                f"job '{self.name}' does not end",
                hint="a call of one of its sources or sinks does not return",
            )

    def discard(self) -> None:
        """Give up a job that is not going to start."""
        for source in self.inputs:
            source.close()

    def _run(self) -> None:
        report = Report(self.name, state=JobState.FAILED, processor=str(self.processor.config))
        try:
            report = self.processor.run_job(self.job)
        except VelostreamError as error:
            report.error = error.render()
        except Exception as error:
            logger.exception("Job '%s' failed by a defect of velostream", self.name)
            report.error = f"internal error: {type(error).__name__}: {error}"
        finally:
            self.discard()
            if report.state == JobState.COMPLETED:
                self._end_streams(None)
            elif report.state == JobState.INTERRUPTED:
                self._end_streams("was stopped")
            else:
                logger.error("Job '%s' failed: %s", self.name, report.error)
                self._end_streams(f"failed: {report.error}")
            self.report = report

    def _end_streams(self, what: str | None) -> None:
        """Tell the readers that no more rows come, or what happened to this job."""
        for stream in self.streams:
            stream.channel.end(
                None
                if what is None
                else f"stream '{stream.channel.name}' broke off: job '{self.name}' {what}"
            )
