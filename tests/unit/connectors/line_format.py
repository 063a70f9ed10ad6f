"""The smallest formats, for tests of readers: a record is a line, with or without quotes around newlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from velostream.formats.base import Decoder, Encoder, Format, Layout, Splitter, formats
from velostream.sql.types import VARCHAR, Field, Schema


@dataclass
class LineOptions:
    header: bool = False
    max_record_bytes: str = "1KiB"


class LineSplitter(Splitter):
    """Newlines end records, but not within double quotes when `quoted`."""

    def __init__(self, quoted: bool) -> None:
        self._quoted = quoted

    def _ends(self, data: memoryview) -> list[int]:
        ends, inside = [], False
        for at, byte in enumerate(bytes(data)):
            if byte == 34 and self._quoted:
                inside = not inside
            elif byte == 10 and not inside:
                ends.append(at + 1)
        return ends

    def cut(self, data: memoryview, final: bool) -> int:
        return len(data) if final else (self._ends(data) or [0])[-1]

    def take(self, data: memoryview, records: int) -> int:
        return ([0, *self._ends(data)][: records + 1])[-1]


@formats.register("lines")
class LineFormat(Format):
    """Lines of text."""

    Options = LineOptions
    splittable = True
    extensions = (".lines",)
    quoted = False

    def layout(self, head: bytes) -> Layout:
        if not self.options.header:
            return Layout()
        line = head.partition(b"\n")[0] + b"\n"
        return Layout(len(line), (line.decode().strip(),))

    def infer(self, sample: bytes, complete: bool) -> Schema:
        return Schema((Field("line", VARCHAR),))

    def splitter(self) -> Splitter:
        return LineSplitter(self.quoted)

    def decoder(self, schema: Schema, columns: Sequence[str], layout: Layout) -> Decoder:
        raise NotImplementedError

    def encoder(self, schema: pa.Schema) -> Encoder:
        raise NotImplementedError


@formats.register("quoted_lines")
class QuotedLineFormat(LineFormat):
    """Lines of text, with quotes around newlines that end no record."""

    splittable = False
    extensions = (".qlines",)
    quoted = True


def contents(blocks: Any) -> list[bytes]:
    """What the blocks hold, each loaded."""
    return [bytes(block.load()) for block in blocks]
