"""The four counters, per query: every input record ends as exactly one of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Records that entered a query and what became of them: used + filtered + late + failed = in_.

    `groups_failed` counts result rows that could not be computed (a SUM out of range): no records.
    """

    in_: int = 0
    used: int = 0
    filtered: int = 0
    late: int = 0
    failed: int = 0
    groups_failed: int = 0

    def add(self, other: Counters) -> None:
        self.in_ += other.in_
        self.used += other.used
        self.filtered += other.filtered
        self.late += other.late
        self.failed += other.failed
        self.groups_failed += other.groups_failed

    def to_dict(self) -> dict[str, int]:
        return {
            "in": self.in_,
            "used": self.used,
            "filtered": self.filtered,
            "late": self.late,
            "failed": self.failed,
            "groups_failed": self.groups_failed,
        }
