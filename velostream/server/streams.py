"""Streams between the jobs of a server: what a job gives, what it reads, and in which order jobs start."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from velostream.config.schema import JobConfig
from velostream.connectors.base import Sink
from velostream.connectors.channel import Channel, ChannelSink, ChannelSinkConfig
from velostream.errors import ConfigError
from velostream.plan.planner import result_name
from velostream.runtime.prepare import Prepared, read_script


@dataclass(frozen=True, slots=True)
class Stream:
    """What a job gives, by all its names. `updating`: later rows replace earlier ones, which a channel does
    not tell, so no job may read it."""

    names: tuple[str, ...]
    channel: Channel
    updating: bool


def publish(
    prepared: Prepared, topic: str, keep_sinks: bool, readers: Collection[str] | None = None
) -> list[Stream]:
    """Give each CREATE's rows a channel, and the last query's, which is called `topic` too; no lane has
    started. Without `keep_sinks` the job's other sinks are taken away. `readers` has the names, in lower
    case, of the streams that will be read; None: any may be."""
    queries = prepared.script.queries
    names: dict[str, list[str]] = {}
    for number, query in enumerate(queries):
        last = number == len(queries) - 1
        given = [] if query.name is None else [query.name]
        if last and topic not in given:
            given.append(topic)
        if given and (readers is None or any(name.lower() in readers for name in given)):
            names[query.name or result_name(number, prepared.script)] = given
    sinks: dict[str, Sink] = dict(prepared.sinks) if keep_sinks else {}
    taken = {name: stream for name, stream in prepared.plan.sinks.items() if name in sinks}
    streams = []
    for stream, given in names.items():
        stage = prepared.plan.stage_of(stream)
        channel = Channel(given[0], stage.schema)
        sink = f"stream {given[0]}"
        sinks[sink] = ChannelSink(sink, ChannelSinkConfig(channel=channel))
        taken[sink] = stream
        streams.append(Stream(tuple(given), channel, stage.updating))
    prepared.sinks = sinks
    prepared.plan = replace(prepared.plan, sinks=taken)
    return streams


def streams_read(config: JobConfig) -> set[str]:
    """Names, in lower case, of the streams that a job's queries read and the job itself does not have."""
    parsed = read_script(config)
    own = {name.lower() for name in (*config.sources, *parsed.declared)}
    return {ref.name.lower() for ref in parsed.inputs if ref.path is None} - own


def streams_made(name: str, config: JobConfig) -> set[str]:
    """Names, in lower case, of the streams that a job gives, its own name (as the topic) included."""
    return {stream.lower() for stream in (*read_script(config).outputs, name)}


def producers_first(jobs: Sequence[tuple[str, JobConfig]]) -> list[tuple[str, JobConfig]]:
    """The jobs so that each comes after those whose streams it reads. Raises ConfigError for a circle."""
    makers = {stream: name for name, config in jobs for stream in streams_made(name, config)}
    feeders: Mapping[str, set[str]] = {
        name: {makers[stream] for stream in streams_read(config) if stream in makers} for name, config in jobs
    }
    ordered: dict[str, JobConfig] = {}
    waiting = dict(jobs)
    while waiting:
        ready = [name for name in waiting if not feeders[name] & waiting.keys()]
        if not ready:
            circle = ", ".join(f"'{name}'" for name in waiting)
            raise ConfigError(f"jobs feed each other in a circle: {circle}", hint="rename one of the streams")
        for name in ready:
            ordered[name] = waiting.pop(name)
    return list(ordered.items())
