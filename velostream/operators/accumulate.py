"""The aggregates of one operator: which rows each one takes, and the states it folds them into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.kernels import Cells, GroupTable, KeyEncoder, Keys, select_rows
from velostream.operators.arrays import fixed, int64s
from velostream.operators.batch import Failures
from velostream.operators.rounds import Walk
from velostream.plan.nodes import AggregateSpec
from velostream.sql.functions.aggregates import aggregate_kernel, aggregate_state
from velostream.sql.typenames import type_name

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Argument = tuple[pa.Array | None, pa.Array | None, Int32s | None]


class Distinct:
    """The values that were seen in each slot."""

    def __init__(self, type: pa.DataType) -> None:
        self.type = type
        self._encoder = KeyEncoder([type])
        self._seen = GroupTable([type])
        # For saving: values never change, so those behind the first `_saved` are new.
        self._saved = 0
        self._walk = Walk()

    def first(self, values: pa.Array, slots: Int32s) -> Int32s:
        """Positions (ascending) of values that their slot has not seen; `values` has one per slot."""
        return self._seen.add_new(self._encoder.encode([values]), None, slots.astype(np.int64))

    def compact(self, keep: Int32s, slots: int) -> None:
        moved = np.full(slots, -1, dtype=np.int32)
        moved[keep] = np.arange(len(keep), dtype=np.int32)
        kept = self._seen.retarget(moved)
        self._saved = int(np.searchsorted(kept, self._saved))
        self._walk.compact(kept)

    def begin_round(self) -> None:
        self._walk.begin(self._saved)

    @property
    def round_done(self) -> bool:
        return self._walk.done

    def take(self) -> Int32s:
        """The numbers of new values, and of the next part of the round: for `pairs`."""
        count = self._seen.count
        first, stop = self._walk.next(count - self._saved)
        saved, self._saved = self._saved, count
        return np.concatenate(
            [np.arange(first, stop, dtype=np.int32), np.arange(saved, count, dtype=np.int32)]
        )

    def pairs(self, numbers: Int32s) -> tuple[Int32s, pa.Array]:
        """The slots and the values of these numbers."""
        (values,) = self._seen.keys(numbers)
        return self._seen.windows_of(numbers).astype(np.int32), values

    def put(self, slots: Int32s, values: pa.Array) -> None:
        """Values that their slots have seen, and that are saved."""
        self._seen.assign(self._encoder.encode([values]), None, slots.astype(np.int64))
        self._saved = self._seen.count

    def save_again(self) -> None:
        """Let the next `take` give all values."""
        self._saved = 0

    @property
    def count(self) -> int:
        """Values, of all slots."""
        return int(self._seen.count)

    @property
    def nbytes(self) -> int:
        return int(self._seen.nbytes)


@dataclass(frozen=True, slots=True)
class Taken:
    """The rows that a state takes, by columns of the input: `filter` is TRUE, `argument` not NULL.

    Of distinct values only the first of a group counts.
    """

    argument: int | None
    filter: int | None
    distinct: bool

    def columns(self, batch: pa.RecordBatch) -> Argument:
        return (
            None if self.argument is None else batch.column(self.argument),
            None if self.filter is None else batch.column(self.filter),
            None,
        )


@dataclass(frozen=True, slots=True)
class _Layout:
    """The states of some aggregates: what each one takes, and for each aggregate its state and method.

    `names` are those of the input's columns.
    """

    specs: tuple[AggregateSpec, ...]
    names: tuple[str, ...]
    taken: tuple[Taken, ...]
    types: tuple[pa.DataType | None, ...]
    parts: tuple[frozenset[str], ...]
    reads: tuple[tuple[int, str], ...]

    def name(self, column: int | None) -> str | None:
        return None if column is None else self.names[column]


class Results:
    """Cells to read results from: those of slots, or of rows after a trace."""

    def __init__(self, layout: _Layout, cells: Cells) -> None:
        self._layout = layout
        self._cells = cells

    def results(self, slots: Int32s) -> tuple[list[pa.Array], Failures]:
        """The aggregates' columns for these slots, and where one is out of its type's range."""
        columns = []
        failures = Failures(len(slots))
        for spec, (state, read) in zip(self._layout.specs, self._layout.reads, strict=True):
            values, failed = getattr(self._cells.states[state], read)(self._cells, slots)
            if failed is not None:
                failures.add(
                    failed, "overflow", f"{spec.function} '{spec.name}' is out of range of {spec.type}"
                )
            columns.append(values)
        return columns, failures


class Accumulators(Results):
    """The states of all aggregates; those that take the same rows of one argument share a state.

    `count_rows` keeps the number of rows too, for `rows`.
    """

    def __init__(self, specs: Sequence[AggregateSpec], schema: pa.Schema, count_rows: bool = False) -> None:
        layout = _layout(specs, schema, count_rows)
        states = map(aggregate_state, layout.types, layout.parts)
        self._set(layout, Cells(states))

    def _set(self, layout: _Layout, cells: Cells) -> None:
        super().__init__(layout, cells)
        self._distinct = [
            Distinct(type) if taken.distinct else None
            for taken, type in zip(layout.taken, layout.types, strict=True)
        ]
        self._has_distinct = any(seen is not None for seen in self._distinct)
        self._slots = 0

    def fresh(self) -> Accumulators:
        """The same aggregates without groups."""
        other = Accumulators.__new__(Accumulators)
        other._set(self._layout, self._cells.fresh())
        return other

    @property
    def mergeable(self) -> bool:
        """Whether `merge` gives what folding the rows would have: distinct values do not add up."""
        return not self._has_distinct

    def reserve(self, slots: int) -> None:
        """Make room for slots below `slots`."""
        self._slots = slots
        self._cells.reserve(slots)

    def group(
        self,
        table: GroupTable,
        keys: Keys,
        batch: pa.RecordBatch,
        rows: Int32s | None,
        windows: Int64s | None,
        give_slots: bool = False,
    ) -> Int32s | None:
        """Find the groups of the selected rows, new ones where needed, and fold the rows into them.

        Gives their slots when asked.
        """
        arguments: list[Argument | None] = [
            None if taken.distinct else taken.columns(batch) for taken in self._layout.taken
        ]
        slots = self._cells.group(table, keys, arguments, rows, windows, give_slots or self._has_distinct)
        self._slots = table.count
        if self._has_distinct:
            assert slots is not None
            self._cells.update(slots, self._distinct_arguments(batch, slots, rows, []), rows)
        return slots

    def trace(self, batch: pa.RecordBatch, slots: Int32s, rows: Int32s | None) -> Results:
        """Fold the selected rows one by one: gives results whose slot j is that of `slots[j]` after row j."""
        others = [taken.columns(batch) for taken in self._layout.taken]
        arguments = self._distinct_arguments(batch, slots, rows, others)
        return Results(self._layout, self._cells.trace(slots, arguments, rows))

    def _distinct_arguments(
        self, batch: pa.RecordBatch, slots: Int32s, rows: Int32s | None, others: Sequence[Argument]
    ) -> list[Argument | None]:
        """For states of distinct values the rows that count; for the rest what is in `others`, else None."""
        arguments: list[Argument | None] = list(others) or [None] * len(self._distinct)
        for number, (seen, taken) in enumerate(zip(self._distinct, self._layout.taken, strict=True)):
            if seen is None:
                continue
            values, chosen, _ = taken.columns(batch)
            positions = select_rows(batch.num_rows, rows, values, chosen)
            within = rows
            if positions is not None:
                slots_taken = slots[positions]
                within = positions if rows is None else rows[positions]
            else:
                slots_taken = slots
            assert values is not None
            counted = values if within is None else values.take(fixed(within, pa.int32()))
            first = seen.first(counted, slots_taken)
            arguments[number] = (values, None, first if positions is None else positions[first])
        return arguments

    def merge(self, slots: Int32s, other: Accumulators, others: Int32s) -> None:
        """Fold the groups `others` of the same aggregates elsewhere into `slots` here."""
        self._cells.merge(slots, other._cells, others)

    def rows(self, slots: Int32s) -> int:
        """How many rows were folded into these slots; for those made with `count_rows`."""
        number = self._layout.taken.index(_ALL_ROWS)
        counts, _ = self._cells.states[number].count(self._cells, slots)
        return int(int64s(counts).sum())

    def compact(self, keep: Int32s) -> None:
        """Slot keep[j] becomes slot j; all others are dropped."""
        self._cells.compact(keep)
        for seen in self._distinct:
            if seen is not None:
                seen.compact(keep, self._slots)
        self._slots = len(keep)

    # --- saving -------------------------------------------------------------------------------

    @property
    def distinct(self) -> dict[int, Distinct]:
        """The distinct values of those states that keep them, by the state's number."""
        return {number: seen for number, seen in enumerate(self._distinct) if seen is not None}

    @property
    def fields(self) -> list[pa.Field]:
        """The columns of `take`."""
        return list(self._cells.fields)

    def take(self, slots: Int32s) -> list[pa.Array]:
        """All of these slots but for the distinct values; see `Cells.take`."""
        return list(self._cells.take(slots))

    def put(self, slots: Int32s, columns: Sequence[pa.Array], rows: Int32s | None) -> None:
        """Set slots to rows of what `take` gave; see `Cells.put`."""
        self._cells.put(slots, columns, rows)

    def describe(self) -> list[dict[str, Any]]:
        """What each state keeps, of which rows, and in which form (JSON)."""
        described = []
        for taken, type, state in zip(
            self._layout.taken, self._layout.types, self._cells.states, strict=True
        ):
            form, version = state.form()
            described.append(
                {
                    "form": form,
                    "version": version,
                    "parts": sorted(state.parts),
                    "argument": self._layout.name(taken.argument),
                    "type": None if type is None else type_name(type),
                    "filter": self._layout.name(taken.filter),
                    "distinct": taken.distinct,
                }
            )
        return described

    @property
    def nbytes(self) -> int:
        return int(self._cells.nbytes) + sum(seen.nbytes for seen in self._distinct if seen is not None)


_ALL_ROWS = Taken(None, None, False)


def _layout(specs: Sequence[AggregateSpec], schema: pa.Schema, count_rows: bool) -> _Layout:
    parts: dict[Taken, set[str]] = {}
    reads = []
    for spec in specs:
        kernel = aggregate_kernel(spec.function)
        # The least and greatest of values and of distinct values are the same.
        taken = Taken(
            None if spec.argument is None else schema.get_field_index(spec.argument),
            None if spec.filter is None else schema.get_field_index(spec.filter),
            spec.distinct and kernel.part not in ("least", "greatest"),
        )
        kept = parts.setdefault(taken, set())
        if kernel.part is not None:
            kept.add(kernel.part)
        reads.append((list(parts).index(taken), kernel.read))
    if count_rows:
        parts.setdefault(_ALL_ROWS, set())
    types = [None if taken.argument is None else schema.field(taken.argument).type for taken in parts]
    kept_parts = tuple(frozenset(kept) for kept in parts.values())
    return _Layout(tuple(specs), tuple(schema.names), tuple(parts), tuple(types), kept_parts, tuple(reads))
