"""What the members of a job's group say of themselves, and what its leader gives them: JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self, get_type_hints


@dataclass(frozen=True, slots=True)
class _Message:
    def encode(self) -> bytes:
        return json.dumps(asdict(self), default=sorted).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        entries: dict[str, Any] = json.loads(data)
        hints = get_type_hints(cls)
        sets = {field.name for field in fields(cls) if hints[field.name] == frozenset[int]}
        return cls(**{name: frozenset(entry) if name in sets else entry for name, entry in entries.items()})


@dataclass(frozen=True, slots=True)
class Said(_Message):
    """What a member says when it joins.

    `what` it is, for a person. `seen`: the last generation whose assignment it has, -1 for none; so what it
    says is new, and the coordinator begins another generation for it. Of the tasks that it `holds` (it has
    begun them, or is about to) it is giving up those that it is `stopping`. `over`: it has heard that the job
    is complete. `reset`: the job is to be begun afresh, if it is not running.
    """

    what: str
    seen: int
    holds: frozenset[int]
    stopping: frozenset[int]
    complete: frozenset[int]
    over: bool
    reset: bool


@dataclass(frozen=True, slots=True)
class Given(_Message):
    """What the leader gives a member.

    `member`, the id of the one that it is for; its `tasks` and `quota` (`assignor.Share`); and what is so for
    all: the `run` of the job, whether it begins with this generation (`afresh`), whether the job is
    `complete`, the number of `workers`, and which of them has the first task (`holder`, for a person).
    """

    member: str
    tasks: frozenset[int]
    quota: int
    run: int
    afresh: bool
    complete: bool
    workers: int
    holder: str
