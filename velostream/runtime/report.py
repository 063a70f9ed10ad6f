"""What a run has to say at its end, and while it goes on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job is. `total_bytes` is None where the input has no known end."""

    records: int
    bytes: int
    total_bytes: int | None
    rows_out: int
    seconds: float


@dataclass(slots=True)
class Report:
    """A run, ended. `state` is completed, interrupted or failed; `error` says why it failed.

    `records` has the sums over all queries that read a source (in, used, filtered, late, failed), `queries`
    the same by query. `seconds` and `rate` (records/s) count from the first block read to the last row
    written. `stages` is time by kind of work, summed over lanes. A lane's `python_share` is the part of its
    busy time outside decoders, operators, encoders and sinks. `open_windows` were not emitted.
    """

    name: str
    state: str = "completed"
    error: str | None = None
    processor: str = ""
    seconds: float = 0.0
    records: dict[str, int] = field(default_factory=dict)
    rows_out: int = 0
    rate: float = 0.0
    bytes_in: int = 0
    queries: list[dict[str, Any]] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)
    lanes: list[dict[str, Any]] = field(default_factory=list)
    sinks: list[dict[str, Any]] = field(default_factory=list)
    open_windows: int = 0
    state_rows: int = 0
    state_bytes: int = 0
    peak_queue_bytes: int = 0
    failures: list[str] = field(default_factory=list)
    dead_letters: str | None = None
    late_records: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, keys as the fields."""
        return asdict(self)
