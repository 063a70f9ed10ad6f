"""CSV by RFC 4180 with any delimiter and quote, byte by byte: the records accepted, and their values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tests.fuzz.numeric import Misfit, number_of
from tests.fuzz.times import days_of, us_of

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TRUTHS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


@dataclass
class Record:
    """A record's bytes without its newline, its fields (text, whether quoted), the bytes of the longest as it
    is written, and whether it is malformed."""

    start: int
    end: int = 0
    next: int = 0
    fields: list[tuple[bytes, bool]] = field(default_factory=list)
    longest: int = 0
    bad: bool = False


def records_of(data: bytes, delimiter: int, quote: int) -> Iterator[Record]:
    """All records, empty lines included as records of one empty field."""
    at = 0
    while at < len(data):
        record = _read(data, at, delimiter, quote)
        yield record
        at = record.next


def _read(data: bytes, at: int, delimiter: int, quote: int) -> Record:
    record = Record(at)
    end = len(data)
    while True:
        begin = at
        if at < end and data[at] == quote:
            at = _read_quoted(data, at + 1, delimiter, quote, record)
        else:
            start = at
            at = _find(data, at, delimiter)
            text = data[start:at]
            if at < end and data[at] == 0x0A:
                text = text.removesuffix(b"\r")
            record.fields.append((text, False))
        written = data[begin:at]
        if at < end and data[at] == 0x0A:
            written = written.removesuffix(b"\r")
        record.longest = max(record.longest, len(written))
        if at == end or data[at] == 0x0A:
            break
        at += 1
    record.end = at - (record.start < at < end and data[at - 1] == 0x0D)
    record.next = min(at + 1, end)
    return record


def _read_quoted(data: bytes, at: int, delimiter: int, quote: int, record: Record) -> int:
    """Read the field whose opening quote is before `at`; its delimiter, newline or end."""
    text = bytearray()
    while at < len(data):
        if data[at] == quote:
            if data[at + 1 : at + 2] != bytes([quote]):
                break
            at += 1
        text.append(data[at])
        at += 1
    else:
        record.bad = True
        return len(data)
    record.fields.append((bytes(text), True))
    stop = _find(data, at + 1, delimiter)
    if data[at + 1 : stop] not in (b"", b"\r") or (stop > at + 1 and data[stop : stop + 1] != b"\n"):
        record.bad = True
    return stop


def _find(data: bytes, at: int, delimiter: int) -> int:
    while at < len(data) and data[at] not in (delimiter, 0x0A):
        at += 1
    return at


def value_of(text: bytes, quoted: bool, type: pa.DataType, nulls: Collection[str]) -> Any:
    """The column's value as `numeric.stored` has it; Misfit."""
    try:
        word = text.decode()
    except UnicodeDecodeError:
        raise Misfit from None
    if not quoted and word in nulls:
        return None
    if pa.types.is_string(type):
        return word
    if pa.types.is_boolean(type):
        if word.lower() in _TRUTHS and word.isascii():
            return _TRUTHS[word.lower()]
        raise Misfit
    if pa.types.is_temporal(type) and len(text) >= 10 and text[4:5] == b"-":
        return days_of(word) if pa.types.is_date(type) else us_of(word)
    if _NUMBER.fullmatch(word) is None:
        raise Misfit
    return number_of(word, type)
