"""Which worker is to have which tasks of a job: decided by the leader of their group, from what all hold.

As in incremental cooperative rebalancing (KIP-429) a task that stays where it is never stops, and one that
moves goes in two steps: who has too many is given fewer than it holds, and once it has given them up, in the
next generation of the group, they go to who has too few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Holding:
    """The tasks that a member has, begun or about to be, and which of them are complete.

    Those that it is `stopping`, since it was asked to or cannot go on with them, are nobody's before it has.
    """

    holds: frozenset[int] = frozenset()
    stopping: frozenset[int] = frozenset()
    complete: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Share:
    """What a member is to have: `tasks` for now, and in the end `quota` of those that are not complete.

    With a quota of 0 it stands by.
    """

    tasks: frozenset[int]
    quota: int


def assign(members: Mapping[str, Holding], tasks: int) -> dict[str, Share]:
    """The share of each member in the tasks 0 … `tasks` - 1. Depends on the arguments' values alone.

    Quotas differ by at most one, and are such that the fewest tasks move. No task is given to a member while
    another one holds it. Complete tasks stay with who has them and count for no quota: nothing is left to do.

    >>> a, b = Holding(holds=frozenset({0, 1, 2})), Holding()
    >>> [sorted(share.tasks) for share in assign({"a": a, "b": b}, 4).values()]
    [[0, 1], [3]]
    """
    holder: dict[int, str] = {}
    for name in sorted(members):
        for task in members[name].holds:
            holder.setdefault(task, name)
    complete = complete_tasks(members)
    unfinished = [task for task in range(tasks) if task not in complete]
    staying = {task: name for task, name in holder.items() if task not in members[name].stopping}
    kept = {name: [task for task in unfinished if staying.get(task) == name] for name in sorted(members)}
    # Who has the most gets what does not divide evenly: each task that it would give up is one moved.
    least, more = divmod(len(unfinished), len(members))
    fullest = sorted(kept, key=lambda name: (-len(kept[name]), name))
    quotas = {name: least + (place < more) for place, name in enumerate(fullest)}
    for name, held in kept.items():
        del held[quotas[name] :]
    for task in unfinished:
        if task not in holder:
            below = (name for name in kept if len(kept[name]) < quotas[name])
            kept[min(below, key=lambda name: len(kept[name]))].append(task)
    for task in complete.intersection(staying):
        kept[staying[task]].append(task)
    return {name: Share(frozenset(kept[name]), quotas[name]) for name in members}


def complete_tasks(members: Mapping[str, Holding]) -> frozenset[int]:
    """Those of which a member that has them says so."""
    return frozenset[int]().union(*(member.complete & member.holds for member in members.values()))
