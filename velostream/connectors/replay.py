"""Dead letters as a source: the records of `failure=send_to_dlq`, read as their own source would have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from velostream.config.schema import SourceConfig
from velostream.connectors.base import Block, BlockReader, BytesBlock, Limits, Source, sources
from velostream.formats.base import Decoder
from velostream.formats.options import open_format
from velostream.sql.types import Schema


@dataclass
class ReplaySourceConfig(SourceConfig):
    """Not for YAML: `command=replay` makes it. `original` is the source that the records came from."""

    kind: str = "replay"
    original: Any = None
    # Partition and bytes of each record, in order.
    records: Any = ()


class ReplayReader(BlockReader):
    """Blocks of whole records, each ended by a newline."""

    def __init__(self, records: Iterable[bytes], limits: Limits, offset: int) -> None:
        self._blocks = _blocks(records, limits, offset)

    def read(self) -> Block | None:
        return next(self._blocks, None)


@sources.register("replay", yaml=False)
class ReplaySource(Source):
    """The records of a dead-letter file, once more."""

    Config = ReplaySourceConfig

    def __init__(self, name: str, config: ReplaySourceConfig) -> None:
        super().__init__(name, config)
        self._original: Source = config.original
        known = list(self._original.partitions())
        self._names = list(dict.fromkeys(partition for partition, _ in config.records)) or [known[0]]
        # A partition that is gone is decoded as the first one: the files of a source are of one layout.
        self._numbers = [known.index(name) if name in known else 0 for name in self._names]

    @property
    def bounded(self) -> bool:
        return True

    @property
    def inferred(self) -> bool:
        return self._original.inferred

    @property
    def schema(self) -> Schema:
        return self._original.schema

    @property
    def metadata(self) -> Sequence[str]:
        return self._original.metadata

    def partitions(self) -> Sequence[str]:
        return self._names

    def reader(self, partition: int, limits: Limits, offset: int = 0) -> BlockReader:
        name = self._names[partition]
        return ReplayReader((data for owner, data in self.config.records if owner == name), limits, offset)

    def decoder(self, partition: int, columns: Sequence[str]) -> Decoder:
        decoder = self._original.decoder(self._numbers[partition], columns)
        if decoder is not None:
            return decoder
        # A source of columns: its rows were kept as JSON.
        json = open_format("ndjson", {}, f"sources.{self.name}")
        return json.decoder(self.schema, columns, json.layout(b""))


def _blocks(records: Iterable[bytes], limits: Limits, begin: int) -> Iterator[Block]:
    """Blocks of at most `limits.max_bytes` (a larger record alone), or of `limits.records` records; from the
    byte `begin` of all records on."""
    taken: list[bytes] = []
    size = offset = 0
    for data in records:
        record = data.rstrip(b"\r\n") + b"\n"
        if offset < begin:
            offset += len(record)
            continue
        full = len(taken) == limits.records if limits.records else size + len(record) > limits.max_bytes
        if taken and full:
            yield BytesBlock(b"".join(taken), offset, offset + size)
            offset, size, taken = offset + size, 0, []
        taken.append(record)
        size += len(record)
    if taken:
        yield BytesBlock(b"".join(taken), offset, offset + size)
