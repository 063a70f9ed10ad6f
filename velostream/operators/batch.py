"""What flows between operators: batches of columns, and the records that failed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

INSERT, UPDATE, DELETE = 0, 1, 2
OPERATIONS = ("insert", "update", "delete")


@dataclass(slots=True)
class Batch:
    """Columns of a stream's rows.

    `ops` has INSERT, UPDATE or DELETE per row (uint8), None when all are inserts. `times` has each row's
    event time (int64, microseconds UTC), None when the stream has none.
    """

    data: pa.RecordBatch
    ops: npt.NDArray[np.uint8] | None = None
    times: npt.NDArray[np.int64] | None = None

    @property
    def rows(self) -> int:
        return int(self.data.num_rows)


@dataclass(frozen=True, slots=True)
class RecordError:
    """Why one record failed: `start` and `end` are its bytes within the block.

    `code` is stable (`"json.syntax"`, `"type.bigint"`, `"overflow"`, …); `detail` a sentence for a person
    in lower case; `column` the column concerned, or None.
    """

    start: int
    end: int
    code: str
    detail: str
    column: str | None = None


class Failures:
    """Rows of a batch that an expression failed for: masks in order of evaluation, each with its reason."""

    __slots__ = ("_parts", "rows")

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._parts: list[tuple[npt.NDArray[np.bool_], str, str]] = []

    def add(self, mask: npt.NDArray[np.bool_], code: str, detail: str) -> None:
        """Note that the rows of `mask` (bool, one per row) failed; nothing when none did."""
        if mask.any():
            self._parts.append((mask, code, detail))

    def merge(self, other: Failures, taken: npt.NDArray[np.bool_] | None = None) -> None:
        """Add the failures of `other`, only for the rows `taken` when given."""
        for mask, code, detail in other._parts:
            self.add(mask if taken is None else mask & taken, code, detail)

    def __bool__(self) -> bool:
        return bool(self._parts)

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """True for every row that failed."""
        total = np.zeros(self.rows, dtype=np.bool_)
        for mask, _, _ in self._parts:
            total |= mask
        return total

    def reason(self, row: int) -> tuple[str, str]:
        """Code and detail of the first failure of that row."""
        for mask, code, detail in self._parts:
            if mask[row]:
                return code, detail
        raise KeyError(row)
