"""Records that leave a block by another way than the query: failed ones and late ones."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.formats.file_range import FileRange
from velostream.formats.messages import Messages
from velostream.operators.arrays import value_at
from velostream.operators.batch import RecordError
from velostream.runtime.failures.base import FailedRecord


class Rejects:
    """Those of one slice of a block. `starts` and `ends` are the bytes of each decoded row in `data`.

    A block of columns has no bytes (`data` None): its rows leave as JSON. Filled by one lane at a time.
    """

    def __init__(
        self,
        source: str,
        partition: str,
        offset: int,
        data: memoryview | FileRange | Messages | None,
        batch: pa.RecordBatch,
        starts: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
    ) -> None:
        self._source = source
        self._partition = partition
        self._offset = offset
        self._data = data
        self._batch = batch
        self._starts = starts
        self._ends = ends
        self.failed: list[FailedRecord] = []
        self.late: list[FailedRecord] = []

    def undecodable(self, errors: Sequence[RecordError]) -> None:
        """Records that the decoder refused."""
        assert self._data is not None
        for error in errors:
            data = bytes(self._data[error.start : error.end])
            self.failed.append(
                self._record(self._position(error.start), data, error.code, error.detail, error.column)
            )

    def failed_row(self, row: int, code: str, detail: str) -> None:
        self.failed.append(self._row(row, code, detail))

    def late_row(self, row: int) -> None:
        self.late.append(self._row(row, "late", "its window had closed by the watermark"))

    def _row(self, row: int, code: str, detail: str) -> FailedRecord:
        if self._data is None:
            values = {name: value_at(self._batch.column(name), row) for name in self._batch.schema.names}
            text = json.dumps(values, default=str, ensure_ascii=False)
            return self._record(self._offset + int(self._starts[row]), text.encode(), code, detail, None)
        start, end = int(self._starts[row]), int(self._ends[row])
        return self._record(self._position(start), bytes(self._data[start:end]), code, detail, None)

    def _position(self, byte: int) -> int:
        """Where the record of that byte of `data` stands in its partition."""
        return self._data.position(byte) if isinstance(self._data, Messages) else self._offset + byte

    def _record(self, offset: int, data: bytes, code: str, detail: str, column: str | None) -> FailedRecord:
        return FailedRecord(self._source, self._partition, offset, data, code, detail, column)
