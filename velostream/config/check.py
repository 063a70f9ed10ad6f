"""The rules between keys: everything about a job that its values alone can say."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from zoneinfo import ZoneInfo

from velostream.config.processor_text import TRANSACTIONAL, VERSIONS
from velostream.config.schema import (
    RESET,
    RESUME,
    DeliveryConfig,
    FailureConfig,
    JobConfig,
    ProcessorConfig,
    SourceConfig,
)
from velostream.config.units import parse_bytes, parse_duration_us
from velostream.errors import ConfigError, VelostreamError, Where, did_you_mean

LATE_POLICIES = ("drop", "side_output", "update")
# From the least to the most.
GUARANTEES = ("best_effort", "at_least_once", "exactly_once")
UNLIMITED = "unlimited"


def validate(job: JobConfig) -> list[VelostreamError]:
    """All problems of a job, each at the key to change (`where.key`). Pure: opens nothing.

    `job.sources` and `job.sinks` hold instances of their kinds' dataclasses; others are passed over.
    """
    return [
        *_job(job),
        *_processor(job.processor),
        *_failure(job.failure),
        *_delivery(job.delivery),
        *_transactional(job),
        *_tasks(job),
        *_state(job),
        *_dead_letters(job),
        *_late_records(job),
        *(
            problem
            for name, source in job.sources.items()
            if isinstance(source, SourceConfig)
            for problem in _source(f"sources.{name}", source)
        ),
    ]


def warnings(job: JobConfig) -> list[str]:
    """What works, but not as the configuration may make one think."""
    found: list[str] = []
    version = job.processor.version
    if job.processor.affinity and version != "v2":
        found.append(f"processor.affinity: the lane of processor={version} is never pinned; use processor=v2")
    if job.processor.affinity and sys.platform == "darwin":
        found.append("processor.affinity: macOS does not pin threads; the lanes run unpinned")
    return found


def _error(key: str, message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(message, where=Where(key=key), hint=hint)


def _one_of(key: str, value: str, names: Collection[str]) -> Iterator[VelostreamError]:
    if value not in names:
        listed = "expected one of " + ", ".join(f"'{name}'" for name in names)
        yield _error(key, f"'{key}' cannot be '{value}'", did_you_mean(value, names) or listed)


def _parsed(key: str, value: str, parse: Callable[[str], int]) -> Iterator[VelostreamError]:
    try:
        parse(value)
    except ConfigError as error:
        yield _error(key, f"'{key}': {error.message}", error.hint)


def _at_least(key: str, value: int, least: int) -> Iterator[VelostreamError]:
    if value < least:
        yield _error(key, f"'{key}' is {value}, expected at least {least}")


def _job(job: JobConfig) -> Iterator[VelostreamError]:
    if not job.sql.strip():
        yield _error("sql", "the job has no SQL", "give 'sql' as text or as the path of a .sql file")
    if not job.name.strip() or "/" in job.name:
        yield _error("name", f"'{job.name}' is not a job name", "use letters, digits, '_', '-' and '.'")
    yield from _one_of("emit.changes", job.emit.changes, ("block", "record"))
    yield from _one_of("observability.progress", job.observability.progress, ("auto", "on", "off"))
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    yield from _one_of("observability.log_level", job.observability.log_level, levels)


def _processor(processor: ProcessorConfig) -> Iterator[VelostreamError]:
    yield from _one_of("processor.version", processor.version, VERSIONS)
    partitions = processor.partitions
    if partitions is not None:
        yield from _at_least("processor.partitions", partitions, 1)
        if processor.version in ("v1", TRANSACTIONAL) and partitions > 1:
            yield _error(
                "processor.partitions",
                f"processor={processor.version} has one lane, not {partitions}",
                "use processor=v2, or leave processor.partitions out",
            )
        if partitions > processor.key_groups >= 1:
            yield _error(
                "processor.partitions",
                f"{partitions} lanes need as many key groups, and processor.key_groups is "
                f"{processor.key_groups}",
                "raise processor.key_groups",
            )
    yield from _at_least("processor.block_records", processor.block_records, 0)
    yield from _at_least("processor.key_groups", processor.key_groups, 1)
    yield from _at_least("processor.tasks", processor.tasks, 1)
    sizes = [
        *_parsed("processor.block_size", processor.block_size, parse_bytes),
        *_parsed("processor.queue_size", processor.queue_size, parse_bytes),
    ]
    yield from sizes
    if not sizes:
        block, queue = parse_bytes(processor.block_size), parse_bytes(processor.queue_size)
        yield from _at_least("processor.block_size", block, 1)
        if queue < block:
            yield _error(
                "processor.queue_size",
                f"a queue of {processor.queue_size} does not hold one block of {processor.block_size}",
                "raise processor.queue_size",
            )


def _dead_letters(job: JobConfig) -> Iterator[VelostreamError]:
    if job.failure.strategy == "send_to_dlq" and not (job.failure.dlq_path or job.output_dir):
        yield _error(
            "failure.dlq_path", "failure=send_to_dlq has no file to write to", "set failure.dlq_path"
        )


def _late_records(job: JobConfig) -> Iterator[VelostreamError]:
    for name, source in job.sources.items():
        if isinstance(source, SourceConfig) and source.late == "side_output" and not job.output_dir:
            yield _error(
                f"sources.{name}.late",
                "late=side_output has no folder to write late.ndjson to",
                "set output_dir, or late=drop",
            )


def _failure(failure: FailureConfig) -> Iterator[VelostreamError]:
    yield from _at_least("failure.log_first", failure.log_first, 0)
    yield from _at_least("failure.max_retries", failure.max_retries, 0)
    yield from _parsed("failure.backoff", failure.backoff, parse_duration_us)
    yield from _parsed("failure.max_backoff", failure.max_backoff, parse_duration_us)
    if failure.dlq_path and failure.strategy != "send_to_dlq":
        yield _error(
            "failure.dlq_path", f"failure={failure.strategy} writes no file", "use failure=send_to_dlq"
        )


def _delivery(delivery: DeliveryConfig) -> Iterator[VelostreamError]:
    yield from _one_of("delivery.guarantee", delivery.guarantee, GUARANTEES)
    if not delivery.interval:
        return
    interval = [*_parsed("delivery.interval", delivery.interval, parse_duration_us)]
    yield from interval
    if not interval and parse_duration_us(delivery.interval) < 1000:
        message = f"'delivery.interval' is {delivery.interval}, expected at least 1ms"
        yield _error("delivery.interval", message)
    if delivery.guarantee == "best_effort":
        yield _error(
            "delivery.interval",
            "delivery=best_effort commits nothing",
            "use delivery=at_least_once or exactly_once, or leave delivery.interval out",
        )


def _transactional(job: JobConfig) -> Iterator[VelostreamError]:
    if job.processor.version == TRANSACTIONAL and job.delivery.guarantee in GUARANTEES[:-1]:
        yield _error(
            "delivery.guarantee",
            f"processor={TRANSACTIONAL} delivers exactly once, not {job.delivery.guarantee}",
            "leave delivery out, or use processor=v1",
        )


def _tasks(job: JobConfig) -> Iterator[VelostreamError]:
    """What a job of several tasks cannot be."""
    if job.processor.tasks == 1:
        return
    if job.delivery.guarantee == "best_effort":
        yield _error(
            "delivery.guarantee",
            "delivery=best_effort saves no positions, and workers take over tasks by what was saved",
            "use delivery=at_least_once or exactly_once, or processor.tasks=1",
        )
    if not job.state.path:
        yield _error(
            "state.path",
            "a job of several tasks has no folder in which its workers have their places",
            "set state.path",
        )
    if job.state.start not in (RESUME, RESET):
        yield _error(
            "state.start",
            "a job of several tasks does not start from a savepoint",
            "use state=reset, or processor.tasks=1",
        )


def _state(job: JobConfig) -> Iterator[VelostreamError]:
    state = job.state
    if state.memory_limit:
        limit = [*_parsed("state.memory_limit", state.memory_limit, parse_bytes)]
        yield from limit
        if not limit:
            yield from _at_least("state.memory_limit", parse_bytes(state.memory_limit), 1)
    if state.start == RESUME:
        return
    if job.delivery.guarantee == "best_effort":
        yield _error(
            "state.start",
            "delivery=best_effort saves no state and starts from none",
            "use delivery=at_least_once or exactly_once, or leave state.start out",
        )
    elif not state.path:
        yield _error("state.start", "the job has no folder to save its state in", "set state.path")


def _source(key: str, source: SourceConfig) -> Iterator[VelostreamError]:
    yield from _one_of(f"{key}.late", source.late, LATE_POLICIES)
    if source.out_of_orderness not in ("", UNLIMITED):
        yield from _parsed(f"{key}.out_of_orderness", source.out_of_orderness, parse_duration_us)
    yield from _parsed(f"{key}.idle_timeout", source.idle_timeout, parse_duration_us)
    yield from _parsed(f"{key}.max_ahead", source.max_ahead, parse_duration_us)
    lateness = [*_parsed(f"{key}.allowed_lateness", source.allowed_lateness, parse_duration_us)]
    yield from lateness
    if not lateness and parse_duration_us(source.allowed_lateness) > 0 and source.late != "update":
        yield _error(
            f"{key}.allowed_lateness",
            f"late={source.late} keeps no window open after its end",
            "use late=update, or leave allowed_lateness out",
        )
    if source.out_of_orderness == UNLIMITED and source.late in ("side_output", "update"):
        yield _error(
            f"{key}.late",
            f"late={source.late} has no record to take: out_of_orderness is unlimited, so nothing is late",
            "declare out_of_orderness as a duration, or leave late out",
        )
    try:
        ZoneInfo(source.timezone)
    except (KeyError, ValueError, OSError):
        yield _error(
            f"{key}.timezone", f"unknown time zone '{source.timezone}'", "use an IANA name: Europe/Berlin"
        )
