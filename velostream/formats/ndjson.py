"""NDJSON: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa

from velostream.config.units import parse_bytes
from velostream.errors import ConfigError, FormatError
from velostream.formats.base import Decoder, Encoder, Format, Layout, Splitter, formats
from velostream.formats.decoding import ColumnarDecoder, record_limit
from velostream.formats.inference import ColumnTypes, type_of_string
from velostream.kernels import JsonDecoder, JsonEncoder, last_line, take_lines
from velostream.sql.types import BIGINT, BOOLEAN, DOUBLE, VARCHAR, Field, Schema

_BOM = b"\xef\xbb\xbf"
_MAX_DEPTH = 1_000_000


@dataclass
class NdjsonOptions:
    """How the NDJSON of a stream is written."""

    # How deep objects and arrays may be nested, the record included; deeper ones are record errors.
    max_depth: int = 64
    # A longer record is a record error.
    max_record_bytes: str = "16MiB"
    # A record with more keys is a record error; those of nested objects do not count.
    max_columns: int = 10_000
    # So is one with a longer string, as it is written: a key, a value, one in an object or array.
    max_text_bytes: str = "16MiB"


class LineSplitter(Splitter):
    """A newline ends a record wherever it stands; a line of white space is no record."""

    def cut(self, data: memoryview, final: bool) -> int:
        return len(data) if final else last_line(data)

    def take(self, data: memoryview, records: int) -> int:
        return take_lines(data, records)


@formats.register("ndjson")
class Ndjson(Format):
    """One JSON object a line (RFC 8259), in UTF-8; lines of white space are ignored.

    Of duplicate keys the last one counts; a missing key is NULL. A VARCHAR column takes any value: strings as
    their text, all else as it is written.
    """

    Options = NdjsonOptions
    splittable = True
    extensions = (".ndjson", ".jsonl", ".json")

    def __init__(self, options: NdjsonOptions) -> None:
        super().__init__(options)
        self._max_record = record_limit(options.max_record_bytes)
        self._max_text = parse_bytes(options.max_text_bytes)
        if self._max_text < 1:
            raise ConfigError(f"max_text_bytes is '{options.max_text_bytes}'", hint="it is at least 1 byte")
        if options.max_columns < 1:
            raise ConfigError(f"max_columns is {options.max_columns}", hint="it is at least 1")
        if not 1 <= options.max_depth <= _MAX_DEPTH:
            raise ConfigError(f"max_depth is {options.max_depth}", hint=f"it is from 1 to {_MAX_DEPTH}")

    def layout(self, head: bytes) -> Layout:
        return Layout(header_bytes=len(_BOM) if head.startswith(_BOM) else 0)

    def infer(self, sample: bytes, complete: bool) -> Schema:
        """The union of the keys of all objects; lines that are none are left to be record errors."""
        sample = sample.removeprefix(_BOM)
        if not complete:
            sample = sample[: sample.rfind(b"\n") + 1]
        columns = ColumnTypes()
        for line in sample.split(b"\n"):
            try:
                record = json.loads(line) if line else None
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                for name, value in record.items():
                    columns.add(name, VARCHAR if columns.settled(name) else _type_of(value))
        types = columns.types()
        if not types:
            raise FormatError(
                f"no JSON object with a key among the first {len(sample)} bytes to infer columns from",
                hint="declare the columns in `schema`",
            )
        return Schema(tuple(Field(name, type) for name, type in types.items()))

    def splitter(self) -> Splitter:
        return LineSplitter()

    def decoder(self, schema: Schema, columns: Sequence[str], layout: Layout) -> Decoder:
        return ColumnarDecoder(
            "json",
            schema,
            columns,
            lambda asked: JsonDecoder(
                asked.types,
                asked.places,
                asked.zoned,
                list(columns),
                self.options.max_depth,
                self._max_record,
                self.options.max_columns,
                self._max_text,
            ),
        )

    def encoder(self, schema: pa.Schema) -> Encoder:
        return cast(Encoder, JsonEncoder(schema))


def _type_of(value: Any) -> pa.DataType | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int):
        return BIGINT if -(1 << 63) <= value < 1 << 63 else DOUBLE
    if isinstance(value, float):
        return DOUBLE
    return type_of_string(value) if isinstance(value, str) else VARCHAR
