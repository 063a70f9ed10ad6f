"""Rows of updating streams for sinks that only append."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from velostream.errors import ConnectorError
from velostream.operators.batch import DELETE, OPERATIONS, Batch

COLUMN = "_op"


class Changes:
    """What a sink writes of a stream's batches: its rows, or all changes with their operation.

    `schema` is the written one. Without `changelog`, inserts and updates are written alike, each as a row.
    """

    def __init__(self, sink: str, schema: pa.Schema, changelog: bool) -> None:
        self._sink = sink
        self._changelog = changelog
        self.schema = schema
        if changelog:
            # Made only when it is used: `pa.array` imports pandas where there is one (0.2 s).
            self._names = pa.array(OPERATIONS)
            if COLUMN in schema.names:
                raise ConnectorError(
                    f"sink '{sink}' cannot add the column '{COLUMN}': the stream has one of that name",
                    hint="rename it in the query",
                )
            self.schema = pa.schema([pa.field(COLUMN, pa.string()), *schema])

    def rows(self, batch: Batch) -> pa.RecordBatch:
        """The rows to write. Raises ConnectorError at a DELETE that could not be told from a row."""
        if self._changelog:
            ops = np.zeros(batch.rows, dtype=np.uint8) if batch.ops is None else batch.ops
            return pa.record_batch([self._names.take(pa.array(ops)), *batch.data.columns], schema=self.schema)
        if batch.ops is not None and (batch.ops == DELETE).any():
            raise ConnectorError(
                f"the stream deletes rows, which sink '{self._sink}' cannot write as rows",
                hint=f"set sinks.{self._sink}.changelog=true to write each change with its operation",
            )
        return batch.data
