"""NDJSON by Python's `json`: which records are accepted, and their values."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tests.fuzz.numeric import Misfit, number_of
from tests.fuzz.times import days_of, us_of
from velostream.sql.types import Field

_SPACE = " \t\r"
_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)


class Number(str):
    """A number as it is written, told apart from a string."""


def _refuse(word: str) -> None:
    raise ValueError(word)


_decoder = json.JSONDecoder(
    parse_int=Number, parse_float=Number, parse_constant=_refuse, object_pairs_hook=tuple
)


def records_of(data: bytes) -> list[tuple[int, int]]:
    """Where the lines begin and end that are records, each without the carriage return of its newline."""
    spans = []
    at = 0
    for line in data.split(b"\n"):
        end = at + len(line)
        if line.strip(_SPACE.encode()):
            spans.append((at, end - line.endswith(b"\r")))
        at = end + 1
    return spans


@dataclass(frozen=True)
class Limits:
    """What a record is refused for beyond the grammar."""

    depth: int
    columns: int
    text_bytes: int


def read_object(record: bytes, limits: Limits) -> dict[str, tuple[Any, str]]:
    """The last value of each key, and how it is written. Raises ValueError for what RFC 8259 and the limits
    refuse."""
    text = record.decode()
    keys = 0
    values: dict[str, tuple[Any, str]] = {}
    at = _skip(text, 0)
    _expect(text, at, "{")
    at = _skip(text, at + 1)
    if text[at : at + 1] == "}":
        at += 1
    else:
        while True:
            _expect(text, at, '"')
            key, at = _decode(text, at)
            at = _skip(text, at)
            _expect(text, at, ":")
            start = _skip(text, at + 1)
            value, at = _decode(text, start)
            if _depth(value) >= limits.depth:
                raise ValueError("too deep")
            keys += 1
            if keys > limits.columns:
                raise ValueError("too many columns")
            values[key] = (value, text[start:at])
            at = _skip(text, at)
            if text[at : at + 1] == "}":
                at += 1
                break
            _expect(text, at, ",")
            at = _skip(text, at + 1)
    if _skip(text, at) != len(text):
        raise ValueError("trailing")
    if any(len(string) > limits.text_bytes for string in _STRING.findall(record)):
        raise ValueError("text too long")
    return values


def _decode(text: str, at: int) -> tuple[Any, int]:
    # Python's decoder takes white space in front only by `decode`, and lone surrogates always.
    value, end = _decoder.raw_decode(text, at)
    json.dumps(value, ensure_ascii=False).encode()
    return value, end


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _expect(text: str, at: int, mark: str) -> None:
    if text[at : at + 1] != mark:
        raise ValueError(f"expected {mark} at {at}")


def _depth(value: Any) -> int:
    """How deep lists (arrays) and tuples (objects, of pairs) are nested in a value."""
    depth = 0
    level = [value]
    while level := [item for item in level if isinstance(item, list | tuple)]:
        depth += 1
        level = [
            part
            for item in level
            for part in (item if isinstance(item, list) else [pair[1] for pair in item])
        ]
    return depth


def value_of(value: Any, text: str, field: Field) -> Any:
    """The column's value as `numeric.stored` has it; Misfit."""
    type = field.type
    if value is None:
        return None
    if pa.types.is_string(type):
        return value if isinstance(value, str) and not isinstance(value, Number) else text
    if isinstance(value, Number):
        return number_of(value, type)
    if pa.types.is_boolean(type) and isinstance(value, bool):
        return value
    if isinstance(value, str) and pa.types.is_timestamp(type):
        return us_of(value)
    if isinstance(value, str) and pa.types.is_date(type):
        return days_of(value)
    raise Misfit


def row_of(record: bytes, fields: Sequence[Field], limits: Limits) -> list[Any]:
    """The record's values in the columns' order; ValueError or Misfit when it fails."""
    values = read_object(record, limits)
    return [value_of(*values[field.name], field) if field.name in values else None for field in fields]
