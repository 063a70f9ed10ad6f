"""CSV and its kin with other delimiters."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import pyarrow as pa

from velostream.config.units import parse_bytes
from velostream.errors import ConfigError, FormatError, VelostreamError, raise_all, unknown
from velostream.formats.base import Decoder, Encoder, Format, Layout, Splitter, formats
from velostream.formats.decoding import MAX_RECORD_BYTES, ColumnarDecoder, record_limit
from velostream.formats.inference import ColumnTypes, type_of_text
from velostream.kernels import CsvDecoder, CsvEncoder, last_csv_record, take_csv_records
from velostream.sql.types import VARCHAR, Field, Schema

_BOM = b"\xef\xbb\xbf"
# A header is found within the head that a source reads.
_HEAD_BYTES = 1 << 20


@dataclass
class CsvOptions:
    """How the CSV of a stream is written."""

    # One ASCII character.
    delimiter: str = ","
    # One ASCII character, or empty when fields are never quoted.
    quote: str = '"'
    # Whether the first record names the columns; else they are the schema's, in its order.
    header: bool = True
    # Unquoted fields that are NULL.
    nulls: list[str] = field(default_factory=lambda: [""])
    # A longer record is a record error.
    max_record_bytes: str = "16MiB"
    # A record of more fields is a record error; a header of more, or a schema, is refused.
    max_columns: int = 10_000
    # A field written in more bytes is a record error.
    max_text_bytes: str = "16MiB"


class CsvSplitter(Splitter):
    """A newline outside of quotes ends a record; an empty line is no record.

    Every call begins at a record's start, hence outside of quotes, so that nothing is carried over. Where
    records have one field only, `take` counts no empty lines, though the decoder reads them as records.
    """

    def __init__(self, delimiter: int, quote: int) -> None:
        self._delimiter = delimiter
        self._quote = quote

    def cut(self, data: memoryview, final: bool) -> int:
        return len(data) if final else last_csv_record(data, self._delimiter, self._quote)

    def take(self, data: memoryview, records: int) -> int:
        return take_csv_records(data, records, self._delimiter, self._quote)


@formats.register("csv")
class Csv(Format):
    """RFC 4180 in UTF-8, with a header or without, and any delimiter, quote and texts of NULL.

    A quoted empty field is the empty text. Fields are not trimmed. A record whose number of fields differs
    from the header's is a record error.
    """

    Options = CsvOptions
    extensions = (".csv", ".tsv")

    def __init__(self, options: CsvOptions) -> None:
        super().__init__(options)
        self._max_record = record_limit(options.max_record_bytes)
        self._max_text = parse_bytes(options.max_text_bytes)
        raise_all(_problems(options, self._max_text))
        self._delimiter = ord(options.delimiter)
        self._quote = ord(options.quote) if options.quote else -1

    def layout(self, head: bytes) -> Layout:
        begin = len(_BOM) if head.startswith(_BOM) else 0
        if not self.options.header:
            return Layout(begin)
        length = take_csv_records(memoryview(head)[begin:], 1, self._delimiter, self._quote)
        names = self._first_record(head[begin : begin + length] if length else head[begin:])
        if names is None or (length == 0 and len(head) >= _HEAD_BYTES):
            raise FormatError(
                f"no header among the first {len(head)} bytes",
                hint="set `header: false` when the first record is data",
            )
        self._check_columns("header", names)
        return Layout(begin + length if length else len(head), tuple(names))

    def infer(self, sample: bytes, complete: bool) -> Schema:
        layout = self.layout(sample)
        body = memoryview(sample)[layout.header_bytes :]
        if not complete:
            body = body[: self.splitter().cut(body, final=False)]
        names = layout.names
        if names is None:
            first = self._first_record(bytes(body))
            if first is None:
                raise FormatError(
                    f"no record among the first {len(sample)} bytes to infer columns from",
                    hint="declare the columns in `schema`",
                )
            names = tuple(f"column{number}" for number in range(len(first)))
        # A column without a name cannot be asked for.
        text = Schema(tuple(Field(name, VARCHAR) for name in dict.fromkeys(names) if name))
        layout = Layout(layout.header_bytes, names)
        rows = self.decoder(text, text.names, layout).decode(body, 0, len(body) + 1).batch
        columns = ColumnTypes()
        for name, values in zip(text.names, rows.columns, strict=True):
            columns.add(name, None)
            for value in values.unique().to_pylist():
                columns.add(name, None if value is None else type_of_text(value))
                if columns.settled(name):
                    break
        return Schema(tuple(Field(name, type) for name, type in columns.types().items()))

    def splitter(self) -> Splitter:
        return CsvSplitter(self._delimiter, self._quote)

    def decoder(self, schema: Schema, columns: Sequence[str], layout: Layout) -> Decoder:
        names = schema.names if layout.names is None else layout.names
        self._check_columns("schema", names)
        raise_all(_header_problems(schema, names))
        column = {name: number for number, name in enumerate(columns)}
        return ColumnarDecoder(
            "csv",
            schema,
            columns,
            lambda asked: CsvDecoder(
                asked.types,
                asked.places,
                asked.zoned,
                [column.get(name, -1) for name in names],
                self._delimiter,
                self._quote,
                list(self.options.nulls),
                self._max_record,
                self.options.max_columns,
                self._max_text,
            ),
        )

    def encoder(self, schema: pa.Schema) -> Encoder:
        options = self.options
        null = options.nulls[0] if options.nulls else ""
        encoder = CsvEncoder(schema, options.delimiter, options.quote or '"', null, options.header)
        return cast(Encoder, encoder)

    def _check_columns(self, what: str, names: Sequence[str]) -> None:
        if len(names) > self.options.max_columns:
            raise FormatError(
                f"the {what} has {len(names)} columns, above max_columns: {self.options.max_columns}",
                hint="raise `max_columns` in `format_options`, or see that `delimiter` is the right one",
            )

    def _first_record(self, text: bytes) -> list[str] | None:
        """The fields of the first record that is no empty line; None when there is none."""
        try:
            reader = csv.reader(
                io.StringIO(text.decode(), newline=""),
                delimiter=self.options.delimiter,
                quotechar=self.options.quote or None,
                quoting=csv.QUOTE_MINIMAL if self.options.quote else csv.QUOTE_NONE,
                # A quote that does not close is an error.
                strict=True,
            )
            return next((fields for fields in reader if fields), None)
        except (UnicodeDecodeError, csv.Error) as exc:
            raise FormatError(f"the first record cannot be read: {exc}") from exc


def _problems(options: CsvOptions, max_text: int) -> list[VelostreamError]:
    """What is wrong with the options, each by itself and together."""
    problems: list[VelostreamError] = []
    if options.max_columns < 1:
        problems.append(ConfigError(f"max_columns is {options.max_columns}", hint="it is at least 1"))
    if not 1 <= max_text <= MAX_RECORD_BYTES:
        hint = f"it is from 1 to {MAX_RECORD_BYTES} bytes: below 1GiB"
        problems.append(ConfigError(f"max_text_bytes is '{options.max_text_bytes}'", hint=hint))
    for name, mark in (("delimiter", options.delimiter), ("quote", options.quote)):
        if mark == "" and name == "quote":
            continue
        if len(mark) != 1 or not mark.isascii() or mark.isalnum() or mark in "\r\n\0":
            hint = "it is one ASCII character that is no letter or digit, such as ',' or '\\t'"
            problems.append(ConfigError(f"{name} is {mark!r}", hint=hint))
    if options.delimiter == options.quote:
        problems.append(ConfigError(f"delimiter and quote are both {options.quote!r}"))
    return problems


def _header_problems(schema: Schema, names: Sequence[str]) -> list[VelostreamError]:
    """Columns of the schema that the header lacks or has twice."""
    problems: list[VelostreamError] = []
    for name in schema.names:
        if name not in names:
            _, hint = unknown("column", name, names)
            problems.append(FormatError(f"the header has no column '{name}'", hint=hint))
        elif names.count(name) > 1:
            problems.append(
                FormatError(f"the header has column '{name}' {names.count(name)} times", hint="rename one")
            )
    return problems
