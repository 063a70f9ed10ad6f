"""From a job's configuration to its plan: reads at most the samples of sources without a schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from velostream.config.check import validate
from velostream.config.fit import fit
from velostream.config.processor_text import TRANSACTIONAL
from velostream.config.schema import JobConfig, SinkConfig, SourceConfig
from velostream.config.units import parse_duration_us
from velostream.connectors.base import Sink, Source, Task, sinks, sources
from velostream.connectors.history import make_source
from velostream.errors import (
    BindError,
    ConfigError,
    VelostreamError,
    Where,
    raise_all,
    unknown,
)
from velostream.plan.explain import describe_plan, explain_text
from velostream.plan.keys import stream_key
from velostream.plan.nodes import Plan, WatermarkSpec
from velostream.plan.planner import SourceTraits, plan, result_name
from velostream.runtime.failures.base import failures
from velostream.runtime.promises import Promise, lacking, promises, undivided
from velostream.sql.binder import StreamInfo, bind
from velostream.sql.logical import Script
from velostream.sql.parser import parse
from velostream.sql.statements import DeclaredStream, InputRef, ParsedScript
from velostream.sql.typenames import type_name
from velostream.sql.types import Schema

# How far behind the latest event time records of an unbounded source may come, when nothing is said.
DEFAULT_OUT_OF_ORDERNESS_US = 5_000_000


@dataclass(slots=True)
class Prepared:
    """A job that has been checked: its plan, and the sources and sinks that it uses. Nothing is open."""

    plan: Plan
    script: Script
    sources: dict[str, Source]
    sinks: dict[str, Sink]
    promises: dict[str, Promise]

    @property
    def schemas(self) -> dict[str, Schema]:
        """The schema of each source's records, without what it tells of them besides."""
        return {
            name: replace(
                source.schema,
                fields=tuple(field for field in source.schema.fields if field.name not in source.metadata),
            )
            for name, source in self.sources.items()
        }

    @property
    def grows(self) -> bool:
        """Whether there may come to be more to read than there is now."""
        return any(source.grows for source in self.sources.values())

    @property
    def inferred(self) -> set[str]:
        """Sources whose schema was inferred."""
        return {name for name, source in self.sources.items() if source.inferred}

    def explain(self) -> dict[str, Any]:
        """The plan, JSON-able."""
        return describe_plan(
            self.plan,
            {name: source.describe() for name, source in self.sources.items()},
            {
                name: {**sink.describe(), "delivery": str(self.promises[name])}
                for name, sink in self.sinks.items()
            },
        )

    def explain_text(self) -> str:
        """The plan for a person."""
        return explain_text(self.explain())


def prepare(job: JobConfig, task: Task | None = None) -> Prepared:
    """Check a job, or one of its tasks, and plan it. Raises VelostreamError, or Problems with all that was
    found."""
    errors: list[VelostreamError] = list(validate(job))
    sound = not errors
    try:
        failures.entry(job.failure.strategy)
    except ConfigError as error:
        errors.append(ConfigError(error.message, where=Where(key="failure.strategy"), hint=error.hint))
    try:
        parsed = read_script(job) if job.sql.strip() else None
    except VelostreamError as error:
        errors.append(error)
        parsed = None
    if parsed is None or not sound:
        # Without the query nobody knows what is read, and a source of wrong values cannot be looked at.
        raise_all(errors)
    assert parsed is not None
    used = _sources(job, parsed, errors)
    tasks = job.processor.tasks
    if tasks > 1:
        _divide(used, task or Task(0, tasks, 1), errors)
    traits = _traits(used, errors)
    outlets = _sinks(job, errors)
    if tasks > 1:
        errors += undivided(outlets)
    if len(traits) < len(parsed.inputs):
        raise_all(errors)
    catalog = {
        name: StreamInfo(
            name,
            source.schema.arrow(),
            source.config.event_time or None,
            source.bounded,
            tuple(source.metadata),
        )
        for name, source in used.items()
    }
    try:
        script = bind(parsed, catalog)
    except VelostreamError as error:
        raise_all([*errors, error])
    taken = _streams_of_sinks(outlets, script, errors)
    raise_all(errors)
    physical = plan(script, traits, taken, granularity=job.emit.changes, tasks=tasks)
    _bind(outlets, physical)
    delivery = promises(job.delivery.guarantee, used, outlets, bool(job.state.path))
    if job.processor.version == TRANSACTIONAL:
        raise_all(lacking(TRANSACTIONAL, delivery))
    return Prepared(physical, script, used, outlets, delivery)


def read_script(job: JobConfig) -> ParsedScript:
    """The job's query, parsed: `sql` is its text or a .sql file. Raises ConfigError, SqlError."""
    text = job.sql.strip()
    if not text:
        raise ConfigError(
            "no query", where=Where(key="sql"), hint="set sql to a query, or to a .sql file's path"
        )
    if not text.lower().endswith(".sql") or "\n" in text:
        return parse(job.sql)
    path = Path(text)
    try:
        return parse(path.read_text(encoding="utf-8"), file=str(path))
    except OSError as error:
        raise ConfigError(f"cannot read '{path}': {error.strerror}", where=Where(key="sql")) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"'{path}' is not UTF-8 text", where=Where(key="sql")) from error


def _sources(job: JobConfig, parsed: ParsedScript, errors: list[VelostreamError]) -> dict[str, Source]:
    """The sources that the queries read: configured, declared by CREATE STREAM, or paths in FROM."""
    used: dict[str, Source] = {}
    for ref in parsed.inputs:
        try:
            config = _config_of(ref, job, parsed)
            used[ref.name] = make_source(ref.name, config)
        except VelostreamError as error:
            errors.append(error)
    return used


def _config_of(ref: InputRef, job: JobConfig, parsed: ParsedScript) -> SourceConfig:
    where = Where.in_text(parsed.text, *ref.span, file=parsed.file) if ref.span else None
    declared = _match(ref.name, parsed.declared)
    configured = _match(ref.name, job.sources)
    if ref.path is not None and configured is None:
        return sources["file"].Config(path=ref.path)  # type: ignore[call-arg]
    if declared is None and configured is None:
        message, hint = unknown("stream", ref.name, [*job.sources, *parsed.declared, *parsed.outputs])
        raise BindError(message, where=where, hint=hint)
    if declared is None:
        assert configured is not None
        return job.sources[configured]  # type: ignore[no-any-return]
    stream = parsed.declared[declared]
    base = job.sources[configured] if configured is not None else None
    return _declared_config(stream, base, parsed)


def _declared_config(stream: DeclaredStream, base: SourceConfig | None, parsed: ParsedScript) -> SourceConfig:
    """The configuration that a CREATE STREAM with columns gives: its WITH options are the source's keys."""
    where = Where.in_text(parsed.text, *stream.span, file=parsed.file) if stream.span else None
    options = dict(stream.options)
    kind = options.pop("kind", options.pop("type", base.kind if base is not None else "file"))
    try:
        config_class = sources[kind].Config
    except ConfigError as error:
        raise BindError(error.message, where=where, hint=error.hint) from error
    config = base if base is not None and isinstance(base, config_class) else config_class()
    given = {**options, "kind": kind, "schema": {f.name: type_name(f.type) for f in stream.schema.fields}}
    problems: list[VelostreamError] = []
    made = fit({**vars(config), **given}, config_class, (stream.name,), problems)
    raise_all([BindError(problem.message, where=where, hint=problem.hint) for problem in problems])
    return made  # type: ignore[no-any-return]


def _match(name: str, names: Iterable[str]) -> str | None:
    """The same name, or the only one that differs in case alone."""
    candidates = [other for other in names if other.lower() == name.lower()]
    if name in candidates:
        return name
    return candidates[0] if len(candidates) == 1 else None


def _divide(used: Mapping[str, Source], task: Task, errors: list[VelostreamError]) -> None:
    for source in used.values():
        try:
            source.share(task)
        except VelostreamError as error:
            errors.append(error)


def _traits(used: Mapping[str, Source], errors: list[VelostreamError]) -> dict[str, SourceTraits]:
    traits = {}
    for name, source in used.items():
        try:
            schema = source.schema.arrow()
            for column in source.partitioned_by:
                if column not in schema.names:
                    message, hint = unknown("column", column, schema.names)
                    where = Where(key=f"sources.{name}.partitioned_by")
                    raise ConfigError(message, where=where, hint=hint)
            traits[name] = SourceTraits(schema, source.bounded, _watermark(source), source.partitioned_by)
            source.partitions()
            source.total_bytes()
        except VelostreamError as error:
            errors.append(error)
    return traits


def _watermark(source: Source) -> WatermarkSpec:
    """How time goes on in a source, as configured or by the defaults of bounded and unbounded ones."""
    config = source.config
    text = config.out_of_orderness
    if text:
        limit = None if text == "unlimited" else parse_duration_us(text)
    else:
        limit = None if source.bounded else DEFAULT_OUT_OF_ORDERNESS_US
    return WatermarkSpec(
        "",
        limit,
        None if source.bounded else parse_duration_us(config.max_ahead),
        None if source.bounded else parse_duration_us(config.idle_timeout),
        config.late,
        parse_duration_us(config.allowed_lateness) if config.late == "update" else 0,
    )


def _sinks(job: JobConfig, errors: list[VelostreamError]) -> dict[str, Sink]:
    made: dict[str, Sink] = {}
    for name, config in job.sinks.items():
        try:
            made[name] = sinks[config.kind](name, config)
        except VelostreamError as error:
            errors.append(error)
    if not job.sinks:
        made["output"] = sinks["console"]("output", sinks["console"].Config())
    return made


def _bind(outlets: Mapping[str, Sink], physical: Plan) -> None:
    """Tell each sink what it will be given. Raises what does not fit."""
    errors: list[VelostreamError] = []
    for name, stream in physical.sinks.items():
        try:
            outlets[name].bind(physical.stage_of(stream).schema, stream_key(physical, stream))
        except VelostreamError as error:
            errors.append(error)
    raise_all(errors)


def _streams_of_sinks(
    outlets: Mapping[str, Sink], script: Script, errors: list[VelostreamError]
) -> dict[str, str]:
    """Which stream each sink takes: as it says, else the one of its own name, else the last query's."""
    streams = [query.name or result_name(number, script) for number, query in enumerate(script.queries)]
    taken = {}
    for name, sink in outlets.items():
        config: SinkConfig = sink.config
        wanted = _match(config.stream or name, streams)
        if wanted is None and config.stream:
            message, hint = unknown("stream", config.stream, streams)
            errors.append(ConfigError(message, where=Where(key=f"sinks.{name}.stream"), hint=hint))
            continue
        taken[name] = wanted if wanted is not None else streams[-1]
    return taken
