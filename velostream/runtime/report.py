"""What a run has to say at its end, and while it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from velostream.plan.nodes import Plan
from velostream.runtime.counters import Counters
from velostream.runtime.failures.base import Trouble
from velostream.runtime.lane import Lane
from velostream.runtime.outlets import Outlet
from velostream.runtime.promises import BEST_EFFORT, Promise

# Kinds of work, in the order of a block's way.
STAGES = ("read", "decode", "evaluate", "lateness", "exchange", "aggregate", "snapshot", "encode", "write")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job is. `total_bytes` is None where the input has no known end; `troubles` are the
    sources and sinks (and the state) that fail now."""

    records: int
    bytes: int
    total_bytes: int | None
    rows_out: int
    seconds: float
    troubles: Sequence[Trouble] = ()


@dataclass(slots=True)
class Report:
    """A run, ended. `state` is completed, interrupted or failed; `error` says why it failed.

    `records` has the sums over all queries that read a source (in, used, filtered, late, failed), `queries`
    the same by query. `begun_at` is when the first block was read, in Unix time, 0 when none was; `seconds`
    and `rate` (records/s) count from there to the last row written. `stages` is time by kind of work, summed
    over lanes. A lane's `python_share` is the part of its busy time in Python: neither in kernels nor reading
    or writing; waits for the GIL are in it. A lane's `longest_snapshot_seconds` is the longest that a commit
    has kept it from its work. `open_windows` were not emitted; they are saved where the job
    commits. `troubles` are the sources and sinks (and the state) that fail or were given up: `Trouble`.
    `resumed_epoch` is the commit that the run went on from (0: it began afresh), `epochs` its last one,
    `commits` how many it has made; of several tasks the greatest of each, and the sum of the commits.
    """

    name: str
    state: str = "completed"
    error: str | None = None
    processor: str = ""
    begun_at: float = 0.0
    seconds: float = 0.0
    records: dict[str, int] = field(default_factory=dict)
    rows_out: int = 0
    rate: float = 0.0
    bytes_in: int = 0
    queries: list[dict[str, Any]] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    lanes: list[dict[str, Any]] = field(default_factory=list)
    sinks: list[dict[str, Any]] = field(default_factory=list)
    resumed_epoch: int = 0
    epochs: int = 0
    commits: int = 0
    open_windows: int = 0
    state_rows: int = 0
    state_bytes: int = 0
    peak_queue_bytes: int = 0
    failures: list[str] = field(default_factory=list)
    troubles: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: str | None = None
    late_records: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, keys as the fields."""
        return asdict(self)


def processor_text(version: str, lanes: int, affinity: bool) -> str:
    """`v1`, `v2:8`, `v2:8:affinity`: the text form of a processor."""
    if version != "v2":
        return version
    return f"v2:{lanes}{':affinity' if affinity else ''}"


def stage_times(lanes: Sequence[Lane]) -> list[dict[str, Any]]:
    """Seconds by kind of work, summed over the lanes, and their share of the lanes' busy time."""
    seconds = {what: sum(lane.seconds.get(what, 0.0) for lane in lanes) for what in STAGES}
    busy = sum(lane.busy_seconds for lane in lanes) or 1.0
    return [
        {"name": what, "seconds": spent, "share": spent / busy} for what, spent in seconds.items() if spent
    ]


def lane_figures(lane: Lane) -> dict[str, Any]:
    """What a lane has done, and on which CPUs; for `python_share` see `Report`."""
    return {
        "lane": lane.number,
        "cpu": lane.thread.cpu,
        "cpus_seen": sorted(lane.cpus_seen),
        "blocks": lane.blocks,
        "records": lane.records,
        "busy_seconds": lane.busy_seconds,
        "cpu_seconds": lane.cpu_seconds,
        "longest_snapshot_seconds": lane.longest_snapshot_seconds,
        "python_share": max(0.0, 1 - lane.native_seconds / lane.busy_seconds) if lane.busy_seconds else 0.0,
    }


def outlet_figures(outlet: Outlet, promise: Promise | None) -> dict[str, Any]:
    """What a sink has taken, where it lies, and what is promised of it."""
    return {
        "name": outlet.name,
        "kind": outlet.sink.config.kind,
        "stream": outlet.stream,
        "rows": outlet.rows,
        "bytes": outlet.bytes_written,
        "location": outlet.location,
        "delivery": promise.guarantee if promise is not None else BEST_EFFORT,
    }


def counters_by_query(plan: Plan, lanes: Sequence[Lane]) -> dict[str, Counters]:
    """Each query's counters, summed over the lanes, in the order of the plan."""
    queries: dict[str, Counters] = {stage.query: Counters() for stage in plan.stages}
    for lane in lanes:
        for query, counters in list(lane.counters.items()):
            queries[query].add(counters)
    return queries
