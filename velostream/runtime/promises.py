"""What a job promises of its output: the least of what was asked for and what its sources and sinks can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from velostream.config.check import GUARANTEES
from velostream.connectors.base import Sink, Source, Transaction

BEST_EFFORT, _, EXACTLY_ONCE = GUARANTEES


@dataclass(frozen=True, slots=True)
class Promise:
    """What reaches a sink of each input record, and why it is not more."""

    guarantee: str
    reason: str

    def __str__(self) -> str:
        return f"{self.guarantee} ({self.reason})"


def promises(
    asked: str, sources: Mapping[str, Source], sinks: Mapping[str, Sink], saved: bool
) -> dict[str, Promise]:
    """By sink. `saved`: the job has a folder for its state."""
    clusters = {
        name: transaction.identity
        for name, sink in sinks.items()
        if (transaction := sink.transaction("")) is not None
    }
    first = next(iter(clusters), None)
    fleeting = [name for name, source in sources.items() if not source.resumable]
    found = {}
    for name, sink in sinks.items():
        best = GUARANTEES.index(sink.delivery)
        if GUARANTEES.index(asked) <= best:
            best, reason = GUARANTEES.index(asked), "as asked"
        else:
            reason = f"a {sink.config.kind} sink can do no more"
        if best == 2 and first is not None and clusters.get(name, clusters[first]) != clusters[first]:
            best, reason = (
                1,
                f"its cluster or options are not those of the sink '{first}': two cannot commit as one",
            )
        if best and fleeting:
            best, reason = 0, f"the source '{fleeting[0]}' cannot be read again"
        if best and not saved:
            best, reason = 0, "state.path is empty: nothing is saved"
        found[name] = Promise(GUARANTEES[best], reason)
    return found


def join_transaction(
    job: str, promised: Mapping[str, Promise], sinks: Mapping[str, Sink]
) -> Transaction | None:
    """The transaction by which the job's exactly-once sinks write, if they need one."""
    shared: Transaction | None = None
    for name, sink in sinks.items():
        transaction = sink.transaction(job) if promised[name].guarantee == EXACTLY_ONCE else None
        if transaction is not None:
            shared = shared or transaction
            sink.join(shared)
    return shared
