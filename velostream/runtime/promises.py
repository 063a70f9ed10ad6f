"""What a job promises of its output: the least of what was asked for and what its sources and sinks can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from velostream.config.check import GUARANTEES
from velostream.connectors.base import Sink, Source, Transaction
from velostream.errors import ConfigError, VelostreamError, Where

BEST_EFFORT, _, EXACTLY_ONCE = GUARANTEES
# What gives more, by the group that a promise's key is of.
_REMEDIES = {
    "sinks": "write to files, or to topics of one cluster",
    "sources": "read files, topics or tables",
    "state": "set state.path",
}


@dataclass(frozen=True, slots=True)
class Promise:
    """What reaches a sink of each input record, and why it is not more: `key` is of the configuration that
    would have to change."""

    guarantee: str
    reason: str
    key: str

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
            best, reason, key = GUARANTEES.index(asked), "as asked", "delivery.guarantee"
        else:
            reason, key = f"a {sink.config.kind} sink can do no more", f"sinks.{name}"
        if best == 2 and first is not None and clusters.get(name, clusters[first]) != clusters[first]:
            best, key = 1, f"sinks.{name}"
            reason = f"its cluster or options are not those of the sink '{first}': two cannot commit as one"
        if best and fleeting:
            best, key = 0, f"sources.{fleeting[0]}"
            reason = f"the source '{fleeting[0]}' cannot be read again"
        if best and not saved:
            best, reason, key = 0, "state.path is empty: nothing is saved", "state.path"
        found[name] = Promise(GUARANTEES[best], reason, key)
    return found


def lacking(processor: str, promised: Mapping[str, Promise]) -> list[VelostreamError]:
    """Why a job is refused by a processor that delivers exactly once or not at all: an error for each sink
    that gets less."""
    return [
        ConfigError(
            f"processor={processor} delivers exactly once, and sink '{name}' would get {promise}",
            where=Where(key=promise.key),
            hint=f"{_REMEDIES[promise.key.partition('.')[0]]}, or use processor=v1",
        )
        for name, promise in promised.items()
        if promise.guarantee != EXACTLY_ONCE
    ]


def join_transaction(
    job: str,
    promised: Mapping[str, Promise],
    sources: Mapping[str, Source],
    sinks: Mapping[str, Sink],
    tasks: int = 1,
) -> Transaction | None:
    """The transaction by which the job's exactly-once sinks write, if they need one; a job of several tasks
    always does, for its positions and state. Raises ConfigError."""
    shared: Transaction | None = None
    for name, sink in sinks.items():
        transaction = sink.transaction(job) if promised[name].guarantee == EXACTLY_ONCE else None
        if transaction is not None:
            shared = shared or transaction
            sink.join(shared)
    if shared is None and tasks > 1:
        found = [sink.transaction(job) for sink in sinks.values()]
        found += [source.transaction(job) for source in sources.values()]
        shared = next(transaction for transaction in found if transaction is not None)
    return shared


def undivided(sinks: Mapping[str, Sink]) -> list[VelostreamError]:
    """Why sinks cannot take the rows of a job of several tasks: an error for each."""
    return [
        ConfigError(
            f"sink '{name}' of kind {sink.config.kind} is written by one process",
            where=Where(key=f"sinks.{name}"),
            hint="write to a topic of Kafka, or use processor.tasks=1",
        )
        for name, sink in sinks.items()
        if not sink.shared
    ]
