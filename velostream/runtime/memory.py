"""How much memory a job's keyed state may take: `state.memory_limit`, all lanes together."""

from __future__ import annotations

from velostream.config.units import parse_bytes
from velostream.errors import StateError, Where
from velostream.runtime.stages import KeyedStage, Stages


class StateMemory:
    """What the keyed stages of all lanes hold, against a limit (`64MiB`; empty: none).

    Lanes check their own stages, side by side: each notes what it holds and adds up what all have noted, so
    that the last one to grow sees the growth of the others. By then they hold too much by the groups of one
    part per lane at most.
    """

    def __init__(self, limit: str, stages: Stages) -> None:
        self._text = limit
        self._limit_bytes = parse_bytes(limit) if limit else 0
        self._stages = [keyed for lane in stages.keyed for keyed in lane.values()]

    def check(self, keyed: KeyedStage) -> None:
        """Called by the stage's lane when it may have grown. Raises StateError when all hold too much."""
        if self._limit_bytes and self._note(keyed):
            self._compare()

    def check_all(self) -> None:
        """`check` of all stages, while no lane runs."""
        for keyed in self._stages:
            self._note(keyed)
        if self._limit_bytes:
            self._compare()

    def _note(self, keyed: KeyedStage) -> bool:
        """Whether that is news."""
        before, keyed.noted_bytes = keyed.noted_bytes, keyed.aggregate.nbytes
        return before != keyed.noted_bytes

    def _compare(self) -> None:
        total = sum(keyed.noted_bytes for keyed in self._stages)
        if total > self._limit_bytes:
            raise self._exceeded(total)

    def _exceeded(self, total: int) -> StateError:
        queries: dict[str, list[int]] = {}
        for keyed in self._stages:
            figures = queries.setdefault(keyed.stage.query, [0, 0])
            figures[0] += keyed.noted_bytes
            figures[1] += keyed.aggregate.open_groups
        query, (held, groups) = max(queries.items(), key=lambda entry: entry[1])
        return StateError(
            f"the state takes {total:,} bytes, more than {self._text}: "
            f"{held:,} of them are the {groups:,} groups of '{query}'",
            where=Where(key="state.memory_limit"),
            hint="raise it, or keep less: group by fewer values, or in a shorter window; the next start goes "
            "on from the last commit",
        )
