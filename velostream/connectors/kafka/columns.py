"""Which columns a message has besides those of its value, and what reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from velostream.connectors.kafka.metadata import (
    FIELDS,
    HEADERS,
    KEY,
    OFFSET,
    PARTITION,
    TIME,
    TOPIC,
    Constant,
    Header,
    Headers,
    KeyHex,
    KeyJson,
    KeyText,
    Offset,
    Reader,
    Timestamp,
)
from velostream.errors import BindError, ConfigError, VelostreamError, Where, raise_all, unknown
from velostream.formats.base import Layout
from velostream.formats.options import open_format
from velostream.sql.typenames import parse_type
from velostream.sql.types import Field, Schema

KEY_FORMATS = ("string", "json", "raw")
# Columns that a query has to ask for.
METADATA = tuple(field.name for field in FIELDS)


class MessageColumns:
    """The columns of keys and headers, as the source with the configuration key `source_key` declares them,
    and those of every message. Raises ConfigError or Problems.

    `key_columns` and `header_columns` are names and SQL types; `key_format` is one of `KEY_FORMATS`.
    """

    def __init__(
        self,
        source_key: str,
        key_format: str,
        key_columns: Mapping[str, str],
        header_columns: Mapping[str, str],
    ) -> None:
        self._source_key = source_key
        self._key_format = key_format
        errors = list(self._problems(key_columns))
        self._of_key = self._declared("key.columns", key_columns, errors)
        self._of_headers = self._declared("header_columns", header_columns, errors)
        raise_all(errors)
        self._json = open_format("ndjson", {}, f"{source_key}.key") if key_format == "json" else None

    def _problems(self, key_columns: Mapping[str, str]) -> Iterable[VelostreamError]:
        if self._key_format not in KEY_FORMATS:
            message, hint = unknown("format of keys", self._key_format, KEY_FORMATS)
            yield ConfigError(message, where=Where(key=f"{self._source_key}.key.format"), hint=hint)
        where = Where(key=f"{self._source_key}.key.columns")
        if self._key_format == "raw" and key_columns:
            hint = "leave them out, and ask for _key"
            yield ConfigError("raw keys have no columns", where=where, hint=hint)
        if self._key_format == "string" and len(key_columns) > 1:
            hint = "name one, or set key.format=json for keys that are objects"
            yield ConfigError("a key that is text is one column", where=where, hint=hint)

    def _declared(self, option: str, columns: Mapping[str, str], errors: list[VelostreamError]) -> Schema:
        fields = []
        for name, text in columns.items():
            try:
                fields.append(Field(name, parse_type(text)))
            except BindError as exc:
                where = Where(key=f"{self._source_key}.{option}.{name}")
                errors.append(ConfigError(exc.message, where=where, hint=exc.hint))
        return Schema(tuple(fields))

    def without_others(self, inferred: Iterable[Field]) -> list[Field]:
        """The columns of an inferred value that are not read from elsewhere."""
        others = {name.lower() for name in (*METADATA, *self._of_key.names, *self._of_headers.names)}
        return [column for column in inferred if column.name.lower() not in others]

    def beside(self, value: Iterable[Field]) -> list[Field]:
        """All columns but those of the value. Raises ConfigError or Problems for names that are taken."""
        owners = {column.name.lower(): "schema" for column in value}
        errors: list[VelostreamError] = []
        found: list[Field] = []
        for option, columns in (
            ("key.columns", self._of_key.fields),
            ("header_columns", self._of_headers.fields),
            ("", FIELDS),
        ):
            for column in columns:
                if (name := column.name.lower()) in owners:
                    errors.append(self._twice(column.name, owners[name], option))
                owners.setdefault(name, option)
                found.append(column)
        raise_all(errors)
        return found

    def _twice(self, name: str, owner: str, option: str) -> ConfigError:
        if not option:
            said, hint = "is given with every message", "leave it out: a query may ask for it"
        else:
            both = option if owner == option else f"{owner} and {option}"
            said, hint = f"stands twice in {both}", "leave one of them out"
        where = Where(key=f"{self._source_key}.{option or owner}.{name}")
        return ConfigError(f"column '{name}' {said}", where=where, hint=hint)

    def readers(self, topic: str, partition: int, columns: Sequence[str]) -> dict[tuple[str, ...], Reader]:
        """What reads the asked columns that are not of the value, of messages of that partition."""
        known: dict[str, Reader] = {
            TOPIC.name: Constant(topic, TOPIC.type),
            PARTITION.name: Constant(partition, PARTITION.type),
            OFFSET.name: Offset(),
            TIME.name: Timestamp(),
            KEY.name: KeyHex() if self._key_format == "raw" else KeyText(),
            HEADERS.name: Headers(),
        }
        known |= {column.name: Header(column, column.name) for column in self._of_headers.fields}
        of_key = tuple(name for name in columns if name in self._of_key.names)
        readers: dict[tuple[str, ...], Reader] = {}
        if self._json is None:
            known |= {column.name: KeyText(column) for column in self._of_key.fields}
        elif of_key:
            readers[of_key] = KeyJson(self._json.decoder(self._of_key, of_key, Layout()))
        return readers | {(name,): known[name] for name in columns if name in known}
