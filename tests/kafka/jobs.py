"""Jobs on topics for these tests: run to their end, or stopped when they have written enough."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from velostream.config.schema import FailureConfig, JobConfig, ProcessorConfig, SinkConfig, SourceConfig
from velostream.connectors.kafka.source import KafkaSourceConfig
from velostream.connectors.memory import MemorySinkConfig
from velostream.runtime.job import Job
from velostream.runtime.report import Report

SECONDS = 30
Row = tuple[Any, ...]


def kafka(address: str, topic: str = "", **keys: Any) -> KafkaSourceConfig:
    """The source of a topic; of its present records unless it says otherwise."""
    keys.setdefault("schema", {"id": "BIGINT"})
    keys.setdefault("until", "latest")
    return KafkaSourceConfig(brokers=address, topic=topic, **keys)


def live(address: str, topic: str = "", **keys: Any) -> KafkaSourceConfig:
    """The source of a topic that is read for ever, from its first record."""
    keys.setdefault("start", "earliest")
    return kafka(address, topic, until="", **keys)


def make(
    sql: str,
    sources: Mapping[str, SourceConfig],
    processor: ProcessorConfig | None = None,
    failure: FailureConfig | None = None,
    sink: SinkConfig | None = None,
) -> Job:
    return Job(
        JobConfig(
            name="test",
            sql=sql,
            sources=dict(sources),
            sinks={"out": sink or MemorySinkConfig()},
            processor=processor or ProcessorConfig(version="v1"),
            failure=failure or FailureConfig(),
        )
    )


def rows_of(job: Job) -> list[Row]:
    """What the job has written so far, sorted."""
    return sorted(
        (tuple(row.values()) for row in table_of(job).to_pylist()),
        key=lambda row: [
            (value is None, str(type(value)), value if value is not None else 0) for value in row
        ],
    )


def table_of(job: Job) -> pa.Table:
    table: pa.Table = job.sink("out").table()
    return table


def run(sql: str, sources: Mapping[str, SourceConfig], **parts: Any) -> tuple[Report, list[Row]]:
    """The report and the sorted rows of a job that ends by itself."""
    job = make(sql, sources, **parts)
    report = job.run()
    assert report.error is None, report.error
    counters = report.records
    assert counters["in"] == sum(counters[name] for name in ("used", "filtered", "late", "failed"))
    return report, rows_of(job)


@contextmanager
def running(job: Job) -> Iterator[Job]:
    """The job while it runs; stopped in the end."""
    job.start()
    try:
        yield job
    finally:
        job.stop()
        assert job.wait(SECONDS), "the job does not stop"


def wait_for_rows(job: Job, count: int, seconds: float = SECONDS) -> list[Row]:
    """The sorted rows as soon as there are so many; fails when the job fails, or when they do not come."""
    deadline = time.monotonic() + seconds
    while len(rows := rows_of(job)) < count:
        assert not job.state.ended, job.failure().render()
        assert time.monotonic() < deadline, f"{len(rows)} rows of {count}"
        job.wait(0.01)
    return rows


def values(ids: Sequence[int]) -> list[bytes]:
    """Messages of `{"id": …}`."""
    return [b'{"id": %d}' % number for number in ids]
