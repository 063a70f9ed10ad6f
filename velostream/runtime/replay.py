"""A job that reads its dead letters instead of its sources."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from velostream.config.schema import JobConfig
from velostream.connectors.replay import ReplaySourceConfig
from velostream.errors import ConfigError, Where
from velostream.runtime.failures.dead_letters import read_dead_letters
from velostream.runtime.prepare import prepare


def replay(job: JobConfig, path: Path) -> JobConfig:
    """The job with every source replaced by its records of the dead-letter file `path`.

    Raises what `prepare` raises, ConnectorError and FormatError for the file, ConfigError when it holds
    records of none of the job's sources.
    """
    prepared = prepare(job)
    records: dict[str, list[tuple[str, bytes]]] = {name: [] for name in prepared.sources}
    others: set[str] = set()
    for letter in read_dead_letters(path):
        if letter.source in records:
            records[letter.source].append((letter.partition, letter.data))
        else:
            others.add(letter.source)
    if others:
        raise ConfigError(
            f"'{path}' has records of {', '.join(sorted(others))}, which job '{job.name}' does not read",
            where=Where(key="dlq"),
            hint="name the job that wrote it",
        )
    sources = {
        name: ReplaySourceConfig(
            original=source,
            records=records[name],
            event_time=source.config.event_time,
            timezone=source.config.timezone,
        )
        for name, source in prepared.sources.items()
    }
    return replace(job, sources=sources)
