"""The modes a query runs in: a processor and how many records are in a block."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

PROCESSORS = ("v1", "v2:1", "v2:2", "v2:4", "v2:8")


@dataclass(frozen=True)
class Mode:
    """`block_records` 0 is blocks by size, the default."""

    processor: str
    block_records: int

    @property
    def id(self) -> str:
        return f"{self.processor}-{self.block_records or 'MiB'}"

    def blocks_for(self, rows: int) -> int:
        """Records of a block for a table of that size: a block costs a millisecond, so few for large ones."""
        if rows <= 700:
            return self.block_records
        return self.block_records * (29 if rows <= 30_000 else 9_973)


MODES = tuple(Mode(processor, records) for records in (1, 7, 0) for processor in PROCESSORS)


def mode_of(id: str) -> Mode:
    """The one mode that `make test` runs a query in: by its name, so the same everywhere."""
    return MODES[zlib.crc32(id.encode()) % len(MODES)]
