"""Where reading a topic begins and where it ends, as a person says it and as offsets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from velostream.errors import ConfigError, VelostreamError, Where, did_you_mean, unknown

if TYPE_CHECKING:
    from aiokafka import TopicPartition

    from velostream.connectors.kafka.fetching import BatchConsumer

COMMITTED, EARLIEST, LATEST, TIMESTAMP, OFFSETS = "committed", "earliest", "latest", "timestamp", "offsets"
PLACES = (COMMITTED, EARLIEST, LATEST, TIMESTAMP, OFFSETS)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in every partition. `milliseconds` goes with `timestamp`, `offsets` (by partition name, or by
    number as text) with `offsets`."""

    kind: str
    milliseconds: int = 0
    offsets: Mapping[str, int] = field(default_factory=dict)


def read_place(
    key: str, name: str, kind: str, timestamp: str, offsets: Mapping[str, int], timezone: str
) -> tuple[Place, list[VelostreamError]]:
    """The place that the keys `NAME`, `NAME_timestamp` and `NAME_offsets` below `key` mean, and what is
    wrong with them.

    `kind` is what was given or else the default; a timestamp without a zone is in `timezone`.
    """
    errors: list[VelostreamError] = []

    def wrong(below: str, message: str, hint: str) -> None:
        errors.append(ConfigError(message, where=Where(key=f"{key}.{below}"), hint=hint))

    if kind not in PLACES:
        listed = "expected one of " + ", ".join(f"'{place}'" for place in PLACES)
        wrong(name, f"'{name}' cannot be '{kind}'", did_you_mean(kind, PLACES) or listed)
    for given, option, wanted in (
        (timestamp, f"{name}_timestamp", TIMESTAMP),
        (offsets, f"{name}_offsets", OFFSETS),
    ):
        if given and kind != wanted:
            wrong(option, f"{option} says nothing with {name}={kind}", f"set {name}={wanted}")
        elif not given and kind == wanted:
            wrong(name, f"{name}={wanted} needs {option}", f"set {option}")
    milliseconds = 0
    if kind == TIMESTAMP and timestamp:
        try:
            milliseconds = milliseconds_of(timestamp, timezone)
        except (ValueError, OverflowError):
            hint = "write 2026-01-31T12:00:00Z, or milliseconds since 1970"
            wrong(f"{name}_timestamp", f"'{timestamp}' is not a time after 1970", hint)
    for partition, offset in offsets.items():
        if offset < 0:
            wrong(f"{name}_offsets.{partition}", f"offset {offset} is below 0", "offsets count from 0")
    return Place(kind, milliseconds, dict(offsets)), errors


def milliseconds_of(text: str, timezone: str) -> int:
    """A time as Kafka counts: milliseconds since 1970. ValueError for what is none, or is before.

    >>> milliseconds_of("1970-01-01T00:01:00Z", "UTC"), milliseconds_of("1970-01-01 00:01", "UTC")
    (60000, 60000)
    """
    if text.strip().isdecimal():
        return int(text)
    time = datetime.fromisoformat(text.strip())
    if time.tzinfo is None:
        time = time.replace(tzinfo=ZoneInfo(timezone))
    milliseconds = int(time.timestamp() * 1000)
    if milliseconds < 0:
        raise ValueError(text)
    return milliseconds


def check_offsets(
    key: str, name: str, place: Place, partitions: Sequence[tuple[str, int]]
) -> Iterator[VelostreamError]:
    """What is wrong with the offsets of a place, now that the partitions (topic and number) are known."""
    if place.kind != OFFSETS:
        return
    given = {_partition_name(given, partitions): given for given in place.offsets}
    names = [f"{topic}-{number}" for topic, number in partitions]
    for partition, written in given.items():
        if partition not in names:
            message, hint = unknown("partition", written, names)
            yield ConfigError(message, where=Where(key=f"{key}.{name}_offsets.{written}"), hint=hint)
    missing = [partition for partition in names if partition not in given]
    if missing:
        yield ConfigError(
            f"{name}_offsets says nothing of {_some(missing)}",
            where=Where(key=f"{key}.{name}_offsets"),
            hint="give the offset of each partition",
        )


def _partition_name(given: str, partitions: Sequence[tuple[str, int]]) -> str:
    """A partition's full name; of one topic the number is enough."""
    topics = {topic for topic, _ in partitions}
    return f"{next(iter(topics))}-{int(given)}" if given.isdecimal() and len(topics) == 1 else given


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


async def find_offsets(
    consumer: BatchConsumer, place: Place, partitions: Sequence[TopicPartition], uncommitted: str = EARLIEST
) -> dict[TopicPartition, int]:
    """The offsets of a place. A time is that of the first message of then or later, else the end.

    `uncommitted` is where a partition is read from of which the group has committed nothing. The end is that
    of the committed transactions, under isolation.level=read_committed. Raises aiokafka's errors.
    """
    if place.kind == OFFSETS:
        pairs = [(tp.topic, tp.partition) for tp in partitions]
        named = {_partition_name(given, pairs): offset for given, offset in place.offsets.items()}
        return {tp: named[f"{tp.topic}-{tp.partition}"] for tp in partitions}
    if place.kind == EARLIEST:
        return dict(await consumer.beginning_offsets(list(partitions)))
    if place.kind == LATEST:
        return dict(await consumer.end_offsets(list(partitions)))
    found: dict[TopicPartition, int | None]
    if place.kind == TIMESTAMP:
        times = await consumer.offsets_for_times(dict.fromkeys(partitions, place.milliseconds))
        found = {tp: None if times[tp] is None else times[tp].offset for tp in partitions}
        instead = LATEST
    else:
        answers = await asyncio.gather(*(consumer.committed(tp) for tp in partitions))
        found = dict(zip(partitions, answers, strict=True))
        instead = uncommitted
    others = [tp for tp in partitions if found[tp] is None]
    rest = await find_offsets(consumer, Place(instead), others) if others else {}
    return {tp: rest[tp] if offset is None else offset for tp, offset in found.items()}
