"""A stand-in for an operator, and epochs of it: a table of numbers by key, saved in rounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from velostream.operators.saving import Changes
from velostream.state.manifest import Epoch

SCHEMA = pa.schema([("key", pa.int64()), ("value", pa.int64())])


class Numbers:
    """Upserts by key. A change gives the changed rows and the next `chunk` keys of the round."""

    def __init__(self, rows: dict[int, int] | None = None, chunk: int = 3, says_end: bool = True) -> None:
        self.rows = dict(rows or {})
        self.chunk = chunk
        self.says_end = says_end
        self._changed: set[int] = set()
        self._round: list[int] | None = None

    def put(self, key: int, value: int) -> None:
        self.rows[key] = value
        self._changed.add(key)

    def drop(self, key: int) -> None:
        """Saved once, as a row of NULL."""
        if self.rows.pop(key, None) is not None:
            self._changed.add(key)

    def take_changes(self) -> Changes | None:
        if not self._changed and self._round == []:
            return None
        begins = not self._round
        if begins:
            self._round = sorted(self.rows)
        assert self._round is not None
        part, self._round = self._round[: self.chunk], self._round[self.chunk :]
        keys = sorted(self._changed.union(part))
        self._changed.clear()
        return changes({key: self.rows.get(key) for key in keys}, begins, self.says_end and not self._round)


def changes(
    rows: Mapping[int, int | None], begins: bool = True, ends: bool = False, **values: Any
) -> Changes:
    columns = [pa.array(list(rows), pa.int64()), pa.array(list(rows.values()), pa.int64())]
    return Changes({"rows": pa.record_batch(columns, schema=SCHEMA)}, values, begins, ends)


def rows_of(saved: Iterable[Changes]) -> dict[int, int]:
    """The state that changes amount to, applied in order."""
    rows: dict[int, int | None] = {}
    for change in saved:
        for batch in change.tables.values():
            rows.update(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))
    return {key: value for key, value in rows.items() if value is not None}


def epoch(number: int, *lanes: Changes | None, stage: str = "bars", **more: Any) -> Epoch:
    fields: dict[str, Any] = {
        "positions": {"trades": {"part-0": 10 * number}},
        "partitions": {"trades": {"part-0": {"ended": False}}},
        "operators": {stage: list(lanes)} if lanes else {},
        "watermarks": {stage: [number]},
        "sinks": {"out": {"bytes": 100 * number}},
        **more,
    }
    return Epoch(number, **fields)
