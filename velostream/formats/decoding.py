"""Between the decoding kernels and the rest: a schema as kernels take it, their results as `Decoded`.

A format gives its kernel; what a refused record is told is written here, once for all formats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.config.units import parse_bytes
from velostream.errors import ConfigError
from velostream.formats.base import Decoded, Decoder
from velostream.formats.file_range import FileRange
from velostream.formats.written_times import Pattern, Zone, is_utc, localise
from velostream.kernels import Reason
from velostream.operators.arrays import mask
from velostream.operators.batch import RecordError
from velostream.sql.typenames import type_name
from velostream.sql.types import Field, Schema

# Exponents of ten that turn a number of the unit into microseconds.
_UNITS = {None: 3, "s": 6, "ms": 3, "us": 0, "ns": -3}
# Offsets of a text column are 32 bits wide.
MAX_RECORD_BYTES = (1 << 30) - 64
# A file is read so many bytes at a time: they are decoded before they leave a CPU's own cache.
PIECE_BYTES = 1 << 19
_EXCERPT = 40


@dataclass(frozen=True, slots=True)
class KernelColumns:
    """What a kernel needs to know of the asked columns; see `BatchBuilder`."""

    types: list[pa.DataType]
    places: list[int]
    zoned: bool


class Kernel(Protocol):
    """A decoder of `cython_ext`."""

    def decode(self, data: Any, start: int, max_rows: int) -> tuple[Any, ...]: ...


@runtime_checkable
class FileKernel(Protocol):
    """One that also reads files."""

    def decode_file(
        self, descriptor: int, offset: int, size: int, start: int, max_rows: int, piece_bytes: int
    ) -> tuple[Any, ...]: ...


def record_limit(size: str) -> int:
    """The option `max_record_bytes` in bytes; ConfigError when it is no size or too large for a column."""
    limit = parse_bytes(size)
    if not 1 <= limit <= MAX_RECORD_BYTES:
        raise ConfigError(
            f"max_record_bytes is '{size}'", hint=f"it is from 1 to {MAX_RECORD_BYTES} bytes: below 1GiB"
        )
    return limit


class ColumnarDecoder(Decoder):
    """A kernel's decoder. `format` begins the codes of its errors: `json`, `csv`.

    `open_kernel` is given the asked columns. Columns of a strptime format are decoded as text, then read in
    Python; so are, by the hour, times without an offset in another zone than UTC.
    """

    def __init__(
        self,
        format: str,
        schema: Schema,
        columns: Sequence[str],
        open_kernel: Callable[[KernelColumns], Kernel],
    ) -> None:
        self._format = format
        self._fields = [schema.field(name) for name in columns]
        self._schema = pa.schema([pa.field(field.name, field.type) for field in self._fields])
        self._patterns = [_pattern(field, schema.timezone) for field in self._fields]
        zoned = not is_utc(schema.timezone)
        self._zone = Zone(schema.timezone) if zoned else None
        self._kernel = open_kernel(
            KernelColumns(
                [
                    field.type if pattern is None else pa.string()
                    for field, pattern in zip(self._fields, self._patterns, strict=True)
                ],
                [_UNITS.get(field.format, 3) for field in self._fields],
                zoned,
            )
        )

    def decode(self, data: memoryview, start: int, max_rows: int) -> Decoded:
        return self._decoded(data, self._kernel.decode(data, start, max_rows))

    def decode_file(self, data: FileRange, start: int, max_rows: int) -> Decoded:
        kernel = self._kernel
        if not isinstance(kernel, FileKernel):
            return super().decode_file(data, start, max_rows)
        try:
            found = kernel.decode_file(data.descriptor, data.offset, data.size, start, max_rows, PIECE_BYTES)
        except (OSError, EOFError) as exc:
            raise data.failure(exc) from exc
        return self._decoded(data, found)

    def _decoded(self, data: memoryview | FileRange, found: tuple[Any, ...]) -> Decoded:
        arrays, naive, starts, ends, failures, end, records = found
        errors = [self._error(data, *failure) for failure in failures]
        if self._zone is not None:
            arrays = [
                array if rows is None else localise(array, rows, self._zone)
                for array, rows in zip(arrays, naive, strict=True)
            ]
        bad: npt.NDArray[np.bool_] | None = None
        for column, pattern in enumerate(self._patterns):
            if pattern is not None:
                texts = arrays[column]
                arrays[column], misfits = pattern.read(texts)
                fresh = misfits if bad is None else misfits & ~bad
                errors.extend(
                    self._misfit(column, texts[row].as_py(), int(starts[row]), int(ends[row]))
                    for row in np.flatnonzero(fresh)
                )
                bad = misfits if bad is None else bad | misfits
        batch = _batch(self._schema, arrays, len(starts))
        if bad is not None and bad.any():
            batch = batch.filter(mask(~bad))
            starts, ends = starts[~bad], ends[~bad]
            errors.sort(key=lambda error: error.start)
        return Decoded(batch, starts, ends, errors, end, records)

    def _misfit(self, column: int, text: str, start: int, end: int) -> RecordError:
        field = self._fields[column]
        detail = f"column '{field.name}' takes text of the format '{field.format}', not {_quote(text)}"
        return RecordError(start, end, _type_code(field.type), detail, field.name)

    def _error(
        self,
        data: memoryview | FileRange,
        start: int,
        end: int,
        reason: int,
        column: int,
        value: int,
        value_end: int,
    ) -> RecordError:
        if column >= 0:
            field = self._fields[column]
            text = bytes(data[value : min(value_end, value + 4 * _EXCERPT)]).decode(errors="replace")
            detail = f"column '{field.name}' takes {_takes(field, reason)}, not {_quote(text)}"
            code = "overflow" if reason in _OVERFLOWS else _type_code(field.type)
            if reason == Reason.NOT_UTF8:
                code = f"{self._format}.utf8"
            return RecordError(start, end, code, detail, field.name)
        if reason == Reason.FIELD_COUNT:
            detail = f"the record has {value} fields, expected {value_end}"
            return RecordError(start, end, f"{self._format}.fields", detail)
        if reason == Reason.TOO_LONG:
            detail = f"the record has {end - start} bytes or more, above max_record_bytes"
            return RecordError(start, end, "record.too_long", detail)
        if reason == Reason.TOO_MANY_COLUMNS:
            detail = "the record has more fields than max_columns"
            return RecordError(start, end, "record.too_many_columns", detail)
        code, words = _SYNTAX[Reason(reason)]
        rest = bytes(data[value : min(end, value + 4 * _EXCERPT)]).decode(errors="replace")
        found = _quote(rest) if rest else "the end of the record"
        detail = f"{words} at byte {value - start} of the record: {found}"
        return RecordError(start, end, f"{self._format}.{code}", detail)


_SYNTAX = {
    Reason.INCOMPLETE: ("syntax", "the record is incomplete"),
    Reason.NOT_OBJECT: ("syntax", "expected an object in braces"),
    Reason.KEY_EXPECTED: ("syntax", "expected a key in quotes"),
    Reason.COLON_EXPECTED: ("syntax", "expected ':' behind a key"),
    Reason.COMMA_EXPECTED: ("syntax", "expected ',' or a closing bracket"),
    Reason.VALUE_EXPECTED: ("syntax", "expected a value"),
    Reason.BAD_NUMBER: ("syntax", "malformed number"),
    Reason.CONTROL: ("syntax", "a control character in a string must be escaped"),
    Reason.BAD_ESCAPE: ("syntax", "unknown escape in a string"),
    Reason.SURROGATE: ("syntax", "a surrogate without its other half"),
    Reason.NOT_UTF8: ("utf8", "text that is not UTF-8"),
    Reason.TOO_DEEP: ("depth", "nested deeper than max_depth"),
    Reason.TEXT_TOO_LONG: ("text_too_long", "text longer than max_text_bytes"),
    Reason.TRAILING: ("syntax", "expected a newline behind the object"),
    Reason.TEXT_AFTER_QUOTE: ("quote", "expected a delimiter or a newline behind a closing quote"),
    Reason.OPEN_QUOTE: ("quote", "a quoted field that does not end, begun"),
}
_OVERFLOWS = (Reason.OVERFLOW, Reason.PRECISION, Reason.INFINITE)


def _takes(field: Field, reason: int) -> str:
    """What the column's values must be, as the failure `reason` has it."""
    name = type_name(field.type)
    if reason == Reason.OVERFLOW:
        return f"{name} within its range"
    if reason == Reason.FRACTION:
        return f"{name} without a fraction"
    if reason == Reason.SCALE:
        return f"{name}: at most {field.type.scale} digits behind the point"
    if reason == Reason.PRECISION:
        return f"{name}: at most {field.type.precision - field.type.scale} digits before the point"
    if reason == Reason.INFINITE:
        return f"{name} below 1.8e308"
    if reason == Reason.NOT_UTF8:
        return f"{name} in UTF-8"
    if reason == Reason.BAD_TIME:
        return f"{name} as {'YYYY-MM-DD' if pa.types.is_date(field.type) else 'ISO 8601 text'} of a real date"
    return name


def _type_code(type: pa.DataType) -> str:
    return "type." + type_name(type).split("(")[0].lower()


def _quote(text: str) -> str:
    return f"'{text}'" if len(text) <= _EXCERPT else f"'{text[:_EXCERPT]}…'"


def _pattern(field: Field, timezone: str) -> Pattern | None:
    """How to read a field of a strptime format; None for other fields."""
    if not pa.types.is_temporal(field.type) or field.format in _UNITS:
        return None
    assert field.format is not None
    return Pattern(field.format, field.type, timezone)


def _batch(schema: pa.Schema, arrays: Sequence[pa.Array], rows: int) -> pa.RecordBatch:
    """A batch of the columns; one without columns still has its rows."""
    if not arrays:
        return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=["rows"]).select([])
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
