"""A source with a history: bounded input, such as files, that is read to its end before the live one begins.

Both are one source to all others: the partitions of the history come first. `Source.history_partitions` tells
the transport how many they are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from velostream.config.fit import fit
from velostream.config.schema import SourceConfig
from velostream.connectors.base import BlockReader, Limits, Source, sources
from velostream.errors import ConfigError, VelostreamError, Where, did_you_mean, raise_all, unknown
from velostream.formats.base import Decoder
from velostream.sql.typenames import type_name
from velostream.sql.types import Schema

# Before the names of the history's partitions, which may be called as live ones are.
PREFIX = "history:"
# What the live source says of both.
SHARED = ("event_time", "out_of_orderness", "idle_timeout", "max_ahead", "late", "allowed_lateness")
logger = logging.getLogger("velostream.job")


def make_source(name: str, config: SourceConfig) -> Source:
    """The source of a configuration, with its history if it has one. Raises ConfigError or Problems."""
    live = sources[config.kind](name, config)
    return History(live, config.history) if config.history else live


class History(Source):
    """What `live` reads, behind the records of `history`: the keys of a bounded source.

    The schema is that of the live source, without the columns that tell of its messages.
    """

    def __init__(self, live: Source, history: Mapping[str, Any]) -> None:
        super().__init__(live.name, live.config)
        self._live = live
        self._key = f"sources.{live.name}.history"
        self._given = _history_config(self._key, history)

    @cached_property
    def _history(self) -> Source:
        """Raises ConfigError or Problems; what the source itself raises where the schema is inferred."""
        given, live = self._given, self._live.config
        columns = {field.name: type_name(field.type) for field in self.schema.fields}
        formats = {field.name: field.format for field in self.schema.fields if field.format is not None}
        config = replace(
            given,
            schema=given.schema or columns,
            timestamp_formats={**formats, **given.timestamp_formats},
            timezone=given.timezone if given.timezone != SourceConfig.timezone else live.timezone,
        )
        history = sources[config.kind](f"{self.name}.history", config)
        if not history.bounded:
            raise ConfigError(
                f"the history of source '{self.name}' has no end",
                where=Where(key=self._key),
                hint="what is read for ever is a source; give files that are not followed, or an end",
            )
        self._compare(history.schema)
        return history

    def _compare(self, history: Schema) -> None:
        """Raise unless each column is in the history, of the same type."""
        errors: list[VelostreamError] = []
        types = {field.name: field.type for field in history.fields}
        for field in self.schema.fields:
            where = Where(key=f"{self._key}.schema")
            if field.name not in types:
                message = f"column '{field.name}' of source '{self.name}' is not in its history"
                hint = did_you_mean(field.name, types) or "declare it in the history, too"
                errors.append(ConfigError(message, where=where, hint=hint))
            elif types[field.name] != field.type:
                errors.append(
                    ConfigError(
                        f"column '{field.name}' is {type_name(types[field.name])} in the history, "
                        f"{type_name(field.type)} in source '{self.name}'",
                        where=where,
                        hint="leave the history's schema out: it is that of the source",
                    )
                )
        raise_all(errors)

    @property
    def bounded(self) -> bool:
        return self._live.bounded

    @property
    def side_by_side(self) -> bool:
        return self._live.side_by_side

    @property
    def grows(self) -> bool:
        return self._live.grows

    @property
    def on_growth(self) -> Callable[[str], None] | None:
        return self._live.on_growth

    @on_growth.setter
    def on_growth(self, told: Callable[[str], None] | None) -> None:
        self._live.on_growth = told

    @property
    def inferred(self) -> bool:
        return self._live.inferred

    @cached_property
    def schema(self) -> Schema:
        live, metadata = self._live.schema, self._live.metadata
        if self.config.event_time in metadata:
            raise ConfigError(
                f"event_time is '{self.config.event_time}', which records of the history do not have",
                where=Where(key=f"sources.{self.name}.event_time"),
                hint="name a column of the schema",
            )
        return replace(live, fields=tuple(field for field in live.fields if field.name not in metadata))

    @cached_property
    def history_partitions(self) -> int:
        return len(self._history.partitions())

    def partitions(self) -> Sequence[str]:
        return [*(PREFIX + name for name in self._history.partitions()), *self._live.partitions()]

    def _owner(self, partition: int) -> tuple[Source, int]:
        """Whose partition that is, and its number there."""
        behind = partition - self.history_partitions
        return (self._live, behind) if behind >= 0 else (self._history, partition)

    def reader(self, partition: int, limits: Limits, offset: int = 0) -> BlockReader:
        source, number = self._owner(partition)
        reader = source.reader(number, limits, offset)
        if source is self._live:
            name = self._live.partitions()[number]
            logger.info("source '%s': the history has been read; '%s' begins", self.name, name)
        return reader

    @property
    def resumable(self) -> bool:
        return self._live.resumable and self._history.resumable

    def fingerprint(self, partition: int) -> str | None:
        source, number = self._owner(partition)
        return source.fingerprint(number)

    def verify(self, partition: int, offset: int, fingerprint: str | None) -> None:
        source, number = self._owner(partition)
        source.verify(number, offset, fingerprint)

    def decoder(self, partition: int, columns: Sequence[str]) -> Decoder | None:
        source, number = self._owner(partition)
        return source.decoder(number, columns)

    def committed(self, positions: Mapping[str, int]) -> None:
        own = {name: offset for name, offset in positions.items() if not name.startswith(PREFIX)}
        self._live.committed(own)

    def close(self) -> None:
        self._live.close()
        self._history.close()

    def total_bytes(self) -> int | None:
        sizes = self._history.total_bytes(), self._live.total_bytes()
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def describe(self) -> dict[str, str]:
        history = self._history.describe()
        kind = history.pop("kind")
        history.pop("reading", None)  # to its end, as any history
        about = ", ".join(f"{name} {value}" for name, value in history.items())
        return {**self._live.describe(), "history": f"{kind} ({about})"}


def _history_config(key: str, given: Mapping[str, Any]) -> SourceConfig:
    """The configuration that the keys below `key` give. Raises ConfigError or Problems."""
    kinds = sorted(entry.name for entry in sources if entry.meta.get("yaml", True))
    kind = str(given.get("kind") or "")
    if not kind:
        raise ConfigError(
            "the history has no kind",
            where=Where(key=key),
            hint="add 'kind': one of " + ", ".join(f"'{name}'" for name in kinds),
        )
    if kind not in sources:
        message, hint = unknown("kind of source", kind, kinds)
        raise ConfigError(message, where=Where(key=f"{key}.kind"), hint=hint)
    errors: list[VelostreamError] = []
    own: dict[str, Any] = {}
    for name, value in given.items():
        if name in SHARED:
            owner = key.removesuffix(".history")
            errors.append(
                ConfigError(
                    f"'{name}' of a history is that of its source",
                    where=Where(key=f"{key}.{name}"),
                    hint=f"set {owner}.{name}",
                )
            )
        elif name == "history":
            errors.append(
                ConfigError(
                    "a history has no history of its own",
                    where=Where(key=f"{key}.{name}"),
                    hint="read all files as one: a folder, or a glob",
                )
            )
        else:
            own[name] = value
    config: SourceConfig = fit(own, sources[kind].Config, tuple(key.split(".")), errors)
    raise_all(errors)
    return config
