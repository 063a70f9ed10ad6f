"""The root of the configuration, and the base class of each group.

A group's options hold their own dataclasses beside their code (`velostream/connectors/file.py`, …);
every field is a configuration key, an override and a heading of the documentation, all of one name.
Durations and sizes are text with a unit (`10s`, `4MiB`; `velostream.config.units`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class SourceConfig:
    """What every source has."""

    kind: str = MISSING
    # Column to SQL type, in order; empty: inferred from the first MiB.
    schema: dict[str, str] = field(default_factory=dict)
    # Zone (IANA name) of timestamps written without one.
    timezone: str = "UTC"
    # Column to strptime format, or to the unit of an epoch number: s, ms (the default), us, ns.
    timestamp_formats: dict[str, str] = field(default_factory=dict)
    # Column of the event time, for windows that name none.
    event_time: str = ""
    # How far behind the latest event time a record may come: a duration, or "unlimited".
    # Empty: unlimited for a bounded source, 5s for an unbounded one.
    out_of_orderness: str = ""
    # A partition silent for so long no longer holds the watermark back. Unbounded sources only.
    idle_timeout: str = "30s"
    # An event time further ahead of the clock than this is a record error. Unbounded sources only.
    max_ahead: str = "1d"
    # What happens to late records: drop, side_output, update.
    late: str = "drop"
    # How long after its end a window still takes records under late=update.
    allowed_lateness: str = "0s"
    # A bounded source (its kind and keys) that is read to its end before this one begins; it has the same
    # schema. {kind: file, path: …}
    history: dict[str, Any] = field(default_factory=dict)


@dataclass
class SinkConfig:
    """What every sink has."""

    kind: str = MISSING
    # The query whose output it takes, by the name of its CREATE. Empty: the query named like the sink,
    # else the last query.
    stream: str = ""


@dataclass
class ProcessorConfig:
    """How a job is run: `processor=v1` (one lane), `processor=v1_transactional` (one lane, exactly once or
    not at all) or `processor=v2` (many)."""

    version: str = "v2"
    # Lanes; null: the CPUs that this process may use.
    partitions: int | None = None
    # Pin each lane to a CPU.
    affinity: bool = False
    # Bytes of a block under load.
    block_size: str = "8MiB"
    # Records of a block instead; 0: by size. For tests and for latency.
    block_records: int = 0
    # Bytes of input in flight; reading stops above.
    queue_size: str = "64MiB"
    # Units in which keyed state is dealt to lanes and saved.
    key_groups: int = 128
    # Parts into which the job is divided, for as many workers (processes started alike) at most: each reads
    # its share of the partitions of every source, on lanes of its own. Fixed once state is saved.
    tasks: int = 1


@dataclass
class DeliveryConfig:
    """What a crash may do to the output: `delivery=exactly_once`, or less.

    `exactly_once`: nothing. `at_least_once`: rows since the last commit come again. `best_effort`: nothing is
    saved, a job starts from the beginning.
    """

    guarantee: str = "exactly_once"
    # Between two commits; empty: 200ms when Kafka takes part, else 1s.
    interval: str = ""


# What `state.start` takes beside the path of a savepoint.
RESUME, RESET = "resume", "reset"


@dataclass
class StateConfig:
    """Where a job's state is saved, and from what it starts."""

    # Folder of this job alone; empty: outputs/state/<job name>. A job of a program has none by default.
    path: str = ""
    # resume: from the last commit, if there is one; reset: from the beginning, forgetting what is saved;
    # a path: from that savepoint. `state=reset` says the same as `state.start=reset`.
    start: str = RESUME
    # Bytes that all state in memory may take, in equal parts for each task; over it the job fails and says
    # what grew. Empty: no limit.
    memory_limit: str = ""


@dataclass
class FailureConfig:
    """What happens to a record that fails, and to a source or sink that does."""

    strategy: str = "log_and_continue"
    # Failed records that are logged in full, with position and reason.
    log_first: int = 3
    # Of a read, a write or a commit under retry_with_backoff; then the job fails.
    max_retries: int = 10
    backoff: str = "100ms"
    max_backoff: str = "10s"
    # Where send_to_dlq writes; empty: dlq.ndjson in the run's folder.
    dlq_path: str = ""


@dataclass
class ObservabilityConfig:
    """What a person sees of a run."""

    # Progress bar: auto (when the output is a terminal), on, off.
    progress: str = "auto"
    log_level: str = "WARNING"


@dataclass
class EmitConfig:
    """When updating queries send rows."""

    # One row per changed group and block, or per record: block, record.
    changes: str = "block"


@dataclass
class JobConfig:
    """A whole job: what a file of `conf/job` gives, with the groups that it selects."""

    name: str = "job"
    # SQL text, or the path of a .sql file.
    sql: str = ""
    sources: dict[str, Any] = field(default_factory=dict)
    sinks: dict[str, Any] = field(default_factory=dict)
    processor: ProcessorConfig = field(default_factory=ProcessorConfig)
    failure: FailureConfig = field(default_factory=FailureConfig)
    delivery: DeliveryConfig = field(default_factory=DeliveryConfig)
    state: StateConfig = field(default_factory=StateConfig)
    emit: EmitConfig = field(default_factory=EmitConfig)
    observability: ObservabilityConfig = field(default_factory=ObservabilityConfig)
    # Folder of this run's results and report; empty: nothing is written but what sinks name.
    output_dir: str = ""
