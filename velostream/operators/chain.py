"""The stateless part of a stage: filters and projections, one after the other, on one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.kernels import take_rows
from velostream.operators.batch import Failures
from velostream.operators.expressions import Predicate, Program
from velostream.plan.nodes import FilterNode, ProjectNode

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Failed:
    """A row that an expression failed for; `row` counts in the batch that entered the chain."""

    row: int
    code: str
    detail: str


@dataclass(slots=True)
class Chained:
    """What came out. `rows` are the survivors' positions in the input (int64), None when all survived."""

    batch: pa.RecordBatch
    rows: Rows | None
    failed: list[Failed]


class Chain:
    """Filters and projections. Holds no state: one instance serves all lanes at once."""

    def __init__(self, nodes: Sequence[FilterNode | ProjectNode], schema: pa.Schema) -> None:
        self._steps: list[Predicate | Program] = []
        # For each step the columns that are kept, by index, and their schema.
        self._kept: list[tuple[list[int], pa.Schema]] = []
        for node, used in zip(nodes, _columns_used(nodes), strict=True):
            if isinstance(node, FilterNode):
                self._steps.append(Predicate(node.predicate, schema))
                # In their order, so that as many columns as there are means all of them as they are.
                indices = [index for index, name in enumerate(schema.names) if used is None or name in used]
                schema = pa.schema([schema.field(index) for index in indices])
            else:
                self._steps.append(Program([(item.name, item.expr) for item in node.items], schema))
                schema = node.schema
                indices = list(range(len(schema)))
            self._kept.append((indices, schema))
        self.schema = schema

    def run(self, batch: pa.RecordBatch) -> Chained:
        """Run all steps; failed rows and rows that a filter drops are left out."""
        rows: Rows | None = None
        failed: list[Failed] = []
        for step, (indices, schema) in zip(self._steps, self._kept, strict=True):
            if isinstance(step, Predicate):
                kept, failures = step.select(batch)
            else:
                batch, failures = step.run(batch)
                kept = None if failures is None else np.flatnonzero(~failures.mask)
            if failures is not None:
                _note(failed, failures, rows)
            if kept is not None:
                batch = _take(batch, kept, indices, schema)
                rows = kept if rows is None else rows[kept]
            elif len(indices) < batch.num_columns:
                batch = batch.select(indices)
        return Chained(batch, rows, failed)


def _take(batch: pa.RecordBatch, rows: Rows, indices: Sequence[int], schema: pa.Schema) -> pa.RecordBatch:
    """The rows at these positions, of these columns."""
    if not indices:
        # Arrays say how many rows there are; without one only a selection keeps the number.
        return batch.slice(0, len(rows)).select([])
    columns = [take_rows(batch.column(index), rows) for index in indices]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _note(failed: list[Failed], failures: Failures, rows: Rows | None) -> None:
    for row in np.flatnonzero(failures.mask):
        code, detail = failures.reason(int(row))
        failed.append(Failed(int(row if rows is None else rows[row]), code, detail))


def _columns_used(nodes: Sequence[FilterNode | ProjectNode]) -> list[list[str] | None]:
    """For each filter, the columns that later steps read, so that no others are copied; None for all."""
    used: list[list[str] | None] = []
    for number, node in enumerate(nodes):
        later = nodes[number + 1 :]
        if not isinstance(node, FilterNode) or not later or not isinstance(later[0], ProjectNode):
            used.append(None)
            continue
        names = dict.fromkeys(name for item in later[0].items for name in item.expr.columns())
        used.append(list(names) or None)
    return used
