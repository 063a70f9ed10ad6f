"""The aggregates of one operator: which rows each one takes, and the state it folds them into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.kernels import GroupTable, KeyEncoder, State, select_rows
from velostream.operators.batch import Failures
from velostream.plan.nodes import AggregateSpec
from velostream.sql.functions.aggregates import aggregate_kernel

Int32s = npt.NDArray[np.int32]


class Distinct:
    """The values that were seen in each slot."""

    def __init__(self, type: pa.DataType) -> None:
        self._encoder = KeyEncoder([type])
        self._seen = GroupTable([type])

    def first(self, values: pa.Array, slots: Int32s) -> Int32s:
        """Positions (ascending) of values that their slot has not seen; `values` has one per slot."""
        return self._seen.add_new(self._encoder.encode([values]), None, slots.astype(np.int64))

    def compact(self, keep: Int32s, slots: int) -> None:
        moved = np.full(slots, -1, dtype=np.int32)
        moved[keep] = np.arange(len(keep), dtype=np.int32)
        self._seen.retarget(moved)

    @property
    def nbytes(self) -> int:
        return int(self._seen.nbytes)


@dataclass(slots=True)
class Accumulator:
    """A state and the rows it takes: columns of the input by index."""

    state: State
    argument: int | None
    filter: int | None
    distinct: Distinct | None

    def positions(self, batch: pa.RecordBatch, slots: Int32s, rows: Int32s | None) -> Int32s | None:
        """Positions in the selection of the rows that count, None when all do."""
        values = None if self.argument is None else batch.column(self.argument)
        truth = None if self.filter is None else batch.column(self.filter)
        positions = select_rows(batch.num_rows, rows, values, truth)
        if self.distinct is None or values is None:
            return positions
        taken, within = _narrow(slots, rows, positions)
        first = self.distinct.first(values if within is None else values.take(pa.array(within)), taken)
        return first if positions is None else positions[first]

    def values(self, batch: pa.RecordBatch) -> pa.Array | None:
        return None if self.argument is None else batch.column(self.argument)


class Results:
    """States to read results from: those of slots, or of rows after a trace."""

    def __init__(self, specs: Sequence[AggregateSpec], reads: Sequence[tuple[State, str]]) -> None:
        self._specs = specs
        self._reads = reads

    def results(self, cells: Int32s) -> tuple[list[pa.Array], Failures]:
        """The aggregates' columns for these cells, and where one is out of its type's range."""
        columns = []
        failures = Failures(len(cells))
        for spec, (state, read) in zip(self._specs, self._reads, strict=True):
            values, failed = getattr(state, read)(cells)
            if failed is not None:
                failures.add(
                    failed, "overflow", f"{spec.function} '{spec.name}' is out of range of {spec.type}"
                )
            columns.append(values)
        return columns, failures


class Accumulators(Results):
    """The states of all aggregates; those that take the same rows to the same state share it."""

    def __init__(self, specs: Sequence[AggregateSpec], schema: pa.Schema) -> None:
        self._accumulators: list[Accumulator] = []
        self._numbers: list[int] = []
        self._methods: list[str] = []
        self._slots = 0
        known: dict[tuple[object, ...], int] = {}
        for spec in specs:
            argument = None if spec.argument is None else schema.get_field_index(spec.argument)
            chosen = None if spec.filter is None else schema.get_field_index(spec.filter)
            type = None if argument is None else schema.field(argument).type
            kernel = aggregate_kernel(spec.function, type)
            # The least and greatest of values and of distinct values are the same.
            distinct = spec.distinct and kernel.read != "value"
            share = (kernel.kind, argument, chosen, distinct)
            if share not in known:
                known[share] = len(self._accumulators)
                seen = Distinct(type) if distinct else None
                self._accumulators.append(Accumulator(kernel.state(), argument, chosen, seen))
            self._numbers.append(known[share])
            self._methods.append(kernel.read)
        super().__init__(specs, self._reads_of([each.state for each in self._accumulators]))

    def _reads_of(self, states: Sequence[State]) -> list[tuple[State, str]]:
        return [(states[number], read) for number, read in zip(self._numbers, self._methods, strict=True)]

    def reserve(self, slots: int) -> None:
        """Make room for slots below `slots`."""
        self._slots = slots
        for each in self._accumulators:
            each.state.reserve(slots)

    def update(self, batch: pa.RecordBatch, slots: Int32s, rows: Int32s | None) -> None:
        """Fold the selected rows of a batch into their slots."""
        for each in self._accumulators:
            taken, within = _narrow(slots, rows, each.positions(batch, slots, rows))
            each.state.update(taken, within, each.values(batch))

    def trace(self, batch: pa.RecordBatch, slots: Int32s, rows: Int32s | None) -> Results:
        """As `update`; gives the results after each row: cell j is that of `slots[j]` after row j."""
        after = [
            each.state.trace(slots, rows, each.values(batch), each.positions(batch, slots, rows))
            for each in self._accumulators
        ]
        return Results(self._specs, self._reads_of(after))

    def compact(self, keep: Int32s) -> None:
        """Slot keep[j] becomes slot j; all others are dropped."""
        for each in self._accumulators:
            each.state.compact(keep)
            if each.distinct is not None:
                each.distinct.compact(keep, self._slots)
        self._slots = len(keep)

    @property
    def nbytes(self) -> int:
        return sum(
            each.state.nbytes + (0 if each.distinct is None else each.distinct.nbytes)
            for each in self._accumulators
        )


def _narrow(slots: Int32s, rows: Int32s | None, positions: Int32s | None) -> tuple[Int32s, Int32s | None]:
    """Slots and rows at these positions of a selection; None is every position, every row."""
    if positions is None:
        return slots, rows
    return slots[positions], positions if rows is None else rows[positions]
