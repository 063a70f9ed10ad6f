"""The Kafka source: topics, their partitions read as fetched record batches."""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from velostream.config.schema import SourceConfig
from velostream.config.units import parse_duration_us
from velostream.connectors.base import BlockReader, Limits, Source, Task, Transaction, changed, sources
from velostream.connectors.kafka.columns import METADATA, MessageColumns
from velostream.connectors.kafka.decoder import MessageDecoder, asked
from velostream.connectors.kafka.positions import (
    COMMITTED,
    EARLIEST,
    LATEST,
    Place,
    check_offsets,
    find_offsets,
    read_place,
)
from velostream.errors import (
    ConfigError,
    ConnectorError,
    FormatError,
    VelostreamError,
    Where,
    raise_all,
    unknown,
)
from velostream.formats.base import Decoder, Format, Layout
from velostream.formats.options import open_format
from velostream.sql.schemas import schema_of
from velostream.sql.types import DATE, TIMESTAMP, Field, Schema

if TYPE_CHECKING:
    from aiokafka import TopicPartition

    from velostream.connectors.kafka.consumer import TopicConsumer
    from velostream.connectors.kafka.settings import ClientSettings

logger = logging.getLogger("velostream.kafka")

TOMBSTONES = ("error", "skip")
# What people call a message that is one JSON object.
FORMAT_NAMES = {"json": "ndjson"}
SAMPLE_BYTES = 1 << 20
SAMPLE_SECONDS = 5.0
UNLIMITED = "unlimited"


@dataclass
class KafkaKeyConfig:
    """What the keys of messages are."""

    # string (UTF-8 text), json (an object), raw (any bytes, shown in hexadecimal).
    format: str = "string"
    # Columns read from the key: with json those of the object, with string one that is the whole key.
    columns: dict[str, str] = field(default_factory=dict)


@dataclass
class KafkaSourceConfig(SourceConfig):
    """Topics of Apache Kafka as a source.

    Besides the columns of the values a query may ask for `_key`, `_timestamp`, `_partition`, `_offset`,
    `_topic` and `_headers` of each message; `SELECT *` has none of them.
    """

    kind: str = "kafka"
    # Hosts and ports of one or more brokers, comma-separated.
    brokers: str = ""
    # One topic, or
    topic: str = ""
    # several, or
    topics: list[str] = field(default_factory=list)
    # all whose whole name matches this regular expression.
    topic_pattern: str = ""
    # Format of the values: json (one object), csv (the columns of the schema in its order).
    format: str = "json"
    # Options of the format.
    format_options: dict[str, Any] = field(default_factory=dict)
    # What the keys are, and which columns they give.
    key: KafkaKeyConfig = field(default_factory=KafkaKeyConfig)
    # Columns read from headers: the last header of the column's name.
    header_columns: dict[str, str] = field(default_factory=dict)
    # A message without a value: error (a record error), skip (no record: it counts nowhere).
    tombstones: str = "error"
    # Where a job begins that has saved no state: committed, earliest, latest, timestamp, offsets.
    # Empty: committed, or with `until` earliest. Of a partition without a committed offset all is read.
    start: str = ""
    # With start=timestamp: ISO 8601, or milliseconds since 1970.
    start_timestamp: str = ""
    # With start=offsets: partition (topic-0, or 0 of one topic) to offset, for each partition.
    start_offsets: dict[str, int] = field(default_factory=dict)
    # Where it ends, as `start`, looked up when it begins; the source is then bounded. Empty: never.
    until: str = ""
    until_timestamp: str = ""
    until_offsets: dict[str, int] = field(default_factory=dict)
    # Consumer group that positions are committed to. Empty: to none.
    group: str = ""
    # Columns by which the topic is partitioned: records that are equal in them are in one partition.
    partitioned_by: list[str] = field(default_factory=list)
    # How long brokers may be away before reading fails: a duration, or "unlimited".
    max_outage: str = "5m"
    # Settings of Kafka's client by its own names: {security.protocol: SSL, fetch.max.wait.ms: 50, …}
    options: dict[str, Any] = field(default_factory=dict)


@sources.register("kafka")
class KafkaSource(Source):
    """Topics of Apache Kafka, by name, list or pattern; for ever, or up to a place."""

    Config: ClassVar[type[SourceConfig]] = KafkaSourceConfig
    config: KafkaSourceConfig

    def __init__(self, name: str, config: KafkaSourceConfig) -> None:
        super().__init__(name, config)
        self._lock = threading.Lock()
        self._task: Task | None = None
        self._consumer: TopicConsumer | None = None
        # The first offset of each partition in this run, and where it ends; looked up once.
        self._starts: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._tombstones = 0

    # --- what the configuration says --------------------------------------------------------------

    @property
    def _key(self) -> str:
        return f"sources.{self.name}"

    @property
    def bounded(self) -> bool:
        return bool(self.config.until)

    @cached_property
    def _settings(self) -> ClientSettings:
        from velostream.connectors.kafka.client import client_settings

        return client_settings(self.config.brokers, self.config.options, self._key, "source")

    @cached_property
    def _group(self) -> str | None:
        given, option = self.config.group, self._settings.get("group.id", "")
        if given and option and given != option:
            raise ConfigError(
                f"the group is given twice, as '{given}' and as group.id '{option}'",
                where=Where(key=f"{self._key}.group"),
                hint="leave one of them out",
            )
        return given or option or None

    @cached_property
    def _format(self) -> Format:
        name = FORMAT_NAMES.get(self.config.format, self.config.format)
        return open_format(name, self.config.format_options, self._key)

    @cached_property
    def _places(self) -> tuple[Place, Place | None]:
        """Where reading starts and where it ends. Raises ConfigError or Problems."""
        config = self.config
        kind = config.start or (EARLIEST if config.until else COMMITTED)
        if kind == COMMITTED and not config.start and self._group is None:
            # Without a group nothing can have been committed.
            kind = EARLIEST
        start, errors = read_place(
            self._key, "start", kind, config.start_timestamp, config.start_offsets, config.timezone
        )
        until = None
        if config.until or config.until_timestamp or config.until_offsets:
            until, wrong = read_place(
                self._key,
                "until",
                config.until,
                config.until_timestamp,
                config.until_offsets,
                config.timezone,
            )
            errors += wrong
        for name, place in (("start", start), ("until", until)):
            if place is not None and place.kind == COMMITTED and self._group is None:
                hint = "set group, the consumer group whose offsets are meant"
                where = Where(key=f"{self._key}.{name}")
                errors.append(ConfigError(f"{name}=committed needs a group", where=where, hint=hint))
        raise_all(errors)
        return start, until

    @cached_property
    def _max_outage(self) -> float | None:
        """Seconds."""
        text = self.config.max_outage
        if text == UNLIMITED:
            return None
        try:
            return parse_duration_us(text) / 1e6
        except ConfigError as exc:
            where = Where(key=f"{self._key}.max_outage")
            raise ConfigError(exc.message, where=where, hint=exc.hint) from None

    @cached_property
    def _skips_tombstones(self) -> bool:
        given = self.config.tombstones
        if given not in TOMBSTONES:
            message, hint = unknown("value of tombstones", given, TOMBSTONES)
            raise ConfigError(message, where=Where(key=f"{self._key}.tombstones"), hint=hint)
        return given == "skip"

    # --- topics -------------------------------------------------------------------------------------

    @cached_property
    def _partitions(self) -> list[TopicPartition]:
        """Those that are read, by topic and number. Raises as `_all_partitions`."""
        task = self._task
        if task is None:
            return self._all_partitions
        return [tp for tp in self._all_partitions if tp.partition % task.count == task.number]

    @cached_property
    def _all_partitions(self) -> list[TopicPartition]:
        """Of all topics, by topic and number. Raises ConfigError, ConnectorError."""
        matches = self._topics
        self._check()
        # aiokafka is imported when brokers are asked, and not before.
        from aiokafka import TopicPartition

        from velostream.connectors.kafka.client import missing_topic
        from velostream.loop import submit

        counts = submit(self._find_topics()).result()
        names = matches.names if matches.names else sorted(name for name in counts if matches(name))
        if not names:
            raise ConnectorError(
                f"no topic at {self._settings.brokers} matches '{self.config.topic_pattern}'",
                where=Where(key=f"{self._key}.topic_pattern"),
                hint=f"there are {len(counts)} topics; the pattern must match a whole name",
            )
        for name in names:
            if name not in counts:
                raise missing_topic(
                    name, counts, self._settings, "create it, or see that this client may read it"
                )
        partitions = [TopicPartition(name, number) for name in names for number in range(counts[name])]
        start, until = self._places
        pairs = [(tp.topic, tp.partition) for tp in partitions]
        raise_all(list(check_offsets(self._key, "start", start, pairs)))
        if until is not None:
            raise_all(list(check_offsets(self._key, "until", until, pairs)))
        return partitions

    @cached_property
    def _topics(self) -> _Topics:
        config = self.config
        given = [bool(config.topic), bool(config.topics), bool(config.topic_pattern)]
        if sum(given) != 1:
            said = "no topic is given" if not any(given) else "topics are given in more than one way"
            raise ConfigError(
                said, where=Where(key=f"{self._key}.topic"), hint="set one of topic, topics, topic_pattern"
            )
        if not config.topic_pattern:
            return _Topics(list(dict.fromkeys([config.topic] if config.topic else config.topics)))
        try:
            return _Topics([], re.compile(config.topic_pattern))
        except re.error as exc:
            raise ConfigError(
                f"'{config.topic_pattern}' is no regular expression: {exc}",
                where=Where(key=f"{self._key}.topic_pattern"),
            ) from exc

    def _check(self) -> None:
        """All that can be wrong without a look at the brokers."""
        # By their text: one part may look at another, and meet its problem again.
        errors: dict[str, VelostreamError] = {}
        for name in ("settings", "group", "places", "max_outage", "skips_tombstones", "format", "columns"):
            try:
                getattr(self, f"_{name}")
            except VelostreamError as exc:
                errors.setdefault(exc.render(), exc)
        raise_all(list(errors.values()))

    async def _find_topics(self) -> dict[str, int]:
        from velostream.connectors.kafka.client import admin, topic_partitions

        async with admin(self._settings) as client:
            return await topic_partitions(client)

    def partitions(self) -> Sequence[str]:
        return [_name(tp) for tp in self._partitions]

    @property
    def side_by_side(self) -> bool:
        return True

    @property
    def grows(self) -> bool:
        return not self.bounded

    @property
    def partitioned_by(self) -> tuple[str, ...]:
        return tuple(self.config.partitioned_by)

    @property
    def partition_count(self) -> int:
        return len(self._all_partitions)

    def share(self, task: Task) -> None:
        counts = Counter(tp.topic for tp in self._all_partitions)
        for topic, count in counts.items():
            if count < task.count:
                raise ConfigError(
                    f"topic '{topic}' has {count} partitions, too few for {task.count} tasks",
                    where=Where(key="processor.tasks"),
                    hint=f"set it to {count} at most, or give the topic more partitions",
                )
        if self.partitioned_by and len(set(counts.values())) > 1:
            listed = ", ".join(f"'{topic}' has {count}" for topic, count in counts.items())
            raise ConfigError(
                f"topics of different numbers of partitions are not partitioned alike: {listed}",
                where=Where(key=f"{self._key}.partitioned_by"),
                hint="leave partitioned_by out",
            )
        self._task = task
        self.__dict__.pop("_partitions", None)

    def transaction(self, job: str) -> Transaction:
        from velostream.connectors.kafka.transaction import KafkaTransaction

        return KafkaTransaction(self._settings, job)

    # --- columns ------------------------------------------------------------------------------------

    @cached_property
    def _columns(self) -> MessageColumns:
        key = self.config.key
        return MessageColumns(self._key, key.format, key.columns, self.config.header_columns)

    @cached_property
    def _value_schema(self) -> Schema:
        config = self.config
        if config.schema:
            return schema_of(config.schema, config.timestamp_formats, config.timezone, self._key)
        inferred = self._inferred()
        declared = config.timestamp_formats
        for name in declared:
            if name not in inferred.names:
                message, hint = unknown("column", name, inferred.names)
                where = Where(key=f"{self._key}.timestamp_formats.{name}")
                raise ConfigError(message, where=where, hint=hint)
        columns = tuple(
            Field(column.name, DATE if column.type == DATE else TIMESTAMP, declared[column.name])
            if column.name in declared
            else column
            for column in self._columns.without_others(inferred.fields)
        )
        return replace(inferred, fields=columns, timezone=config.timezone)

    def _inferred(self) -> Schema:
        """From the first messages of the partitions that have any."""
        from velostream.connectors.kafka.sample import first_values
        from velostream.loop import submit

        partitions = self._all_partitions
        sample = submit(first_values(self._settings, partitions, SAMPLE_BYTES, SAMPLE_SECONDS)).result()
        topics = ", ".join(f"'{topic}'" for topic in dict.fromkeys(tp.topic for tp in partitions))
        if not sample.strip():
            raise ConnectorError(
                f"no schema can be inferred from {topics}: no message has a value",
                where=Where(key=f"{self._key}.schema"),
                hint="declare the schema",
            )
        try:
            return self._format.infer(sample, complete=True)
        except FormatError as exc:
            raise FormatError(f"{topics}: {exc.message}", hint=exc.hint) from exc

    @cached_property
    def schema(self) -> Schema:
        """The columns of the value, of the key, of headers, and what tells of the message."""
        # Also when the schema is declared: a missing topic is an error here.
        _ = self._partitions
        value = self._value_schema
        return replace(value, fields=(*value.fields, *self._columns.beside(value.fields)))

    @property
    def metadata(self) -> Sequence[str]:
        return METADATA

    def decoder(self, partition: int, columns: Sequence[str]) -> Decoder:
        tp, value = self._partitions[partition], self._value_schema
        own = [name for name in columns if name in value.names]
        return MessageDecoder(
            self._format.decoder(value, own, Layout()),
            self._format.splittable,
            asked(self.schema, columns),
            self._columns.readers(tp.topic, tp.partition, columns),
            self._skips_tombstones,
            self._skipped,
        )

    def _skipped(self, count: int) -> None:
        with self._lock:
            self._tombstones += count

    # --- reading ------------------------------------------------------------------------------------

    def reader(self, partition: int, limits: Limits, offset: int = 0) -> BlockReader:
        from velostream.connectors.kafka.reader import KafkaReader

        tp = self._partitions[partition]
        consumer = self._opened(limits)
        begin = offset or self._starts[tp]
        queue = consumer.read_from(tp, begin)
        return KafkaReader(
            _name(tp),
            queue,
            begin,
            self._ends.get(tp),
            limits,
            self._format.splittable,
            lambda: consumer.read_no_more(tp),
        )

    def _opened(self, limits: Limits) -> TopicConsumer:
        """The consumer of all partitions, with the offsets where they begin and end.

        Raises ConnectorError.
        """
        from velostream.connectors.kafka.consumer import TopicConsumer

        with self._lock:
            if self._consumer is not None:
                return self._consumer
            partitions = self._partitions
            consumer = TopicConsumer(
                self.name,
                self._settings,
                self._group,
                partitions,
                limits.max_bytes,
                self._max_outage,
                follows=not self.bounded,
                matches=self._topics if self.config.topic_pattern else None,
                counts=Counter(tp.topic for tp in self._all_partitions),
                on_growth=self.on_growth,
            )
            consumer.open()
            start, until = self._places
            reset = self._settings.get("auto.offset.reset", "none")
            uncommitted = LATEST if reset == "latest" else EARLIEST

            async def look(client: Any) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
                new = [tp for tp in partitions if tp not in self._starts]
                # A partition that is not among the saved ones has come to be since.
                place = Place(EARLIEST) if self._starts else start
                starts = await find_offsets(client, place, new, uncommitted) if new else {}
                ends = {} if until is None else await find_offsets(client, until, partitions)
                return starts, ends

            try:
                starts, ends = consumer.ask(look, f"looking up offsets of source '{self.name}'")
            except ConnectorError:
                consumer.close()
                raise
            self._starts.update(starts)
            self._ends = self._ends or ends
            self._consumer = consumer
            return consumer

    def fingerprint(self, partition: int) -> str | None:
        """Where reading began: what a partition that nothing was read of yet goes on from."""
        start = self._starts.get(self._partitions[partition])
        return None if start is None else str(start)

    def verify(self, partition: int, offset: int, fingerprint: str | None) -> None:
        if fingerprint is None:
            return
        if not fingerprint.isdecimal():
            raise changed(self.partitions()[partition])
        self._starts[self._partitions[partition]] = int(fingerprint)

    def committed(self, positions: Mapping[str, int]) -> None:
        if self._group is None or self._consumer is None:
            return
        by_name = {_name(tp): tp for tp in self._partitions}
        self._consumer.commit(
            {by_name[name]: offset for name, offset in positions.items() if name in by_name}
        )

    @property
    def outage(self) -> tuple[str, float] | None:
        consumer = self._consumer
        return None if consumer is None else consumer.outage

    def close(self) -> None:
        with self._lock:
            consumer, self._consumer = self._consumer, None
            skipped, self._tombstones = self._tombstones, 0
        if consumer is not None:
            consumer.close()
        if skipped:
            logger.info("source '%s': %d messages without a value were skipped", self.name, skipped)

    def describe(self) -> dict[str, str]:
        config = self.config
        topics = config.topic or config.topic_pattern or ", ".join(config.topics)
        start, until = self._places
        about = {
            "kind": "kafka",
            "brokers": self._settings.brokers,
            "topic": topics,
            "format": config.format,
            "partitions": str(self.partition_count),
            "start": _words(start, config.start_timestamp),
            "reading": "unbounded" if until is None else f"until {_words(until, config.until_timestamp)}",
        }
        if self._group is not None:
            about["group"] = self._group
        return about


@dataclass(frozen=True, slots=True)
class _Topics:
    """Which topics are meant: names, or those that a pattern matches as a whole."""

    names: list[str]
    pattern: re.Pattern[str] | None = None

    def __call__(self, topic: str) -> bool:
        """Topics of Kafka's own are never meant."""
        return self.pattern is not None and not topic.startswith("__") and bool(self.pattern.fullmatch(topic))


def _name(tp: TopicPartition) -> str:
    return f"{tp.topic}-{tp.partition}"


def _words(place: Place, timestamp: str) -> str:
    return timestamp if place.kind == "timestamp" else place.kind
