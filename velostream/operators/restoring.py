"""Saved tables of groups, checked and put into the groups of a lane."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.errors import StateError
from velostream.kernels import KeyEncoder
from velostream.operators import rounds
from velostream.operators.arrays import fixed, int64s, uint8s
from velostream.operators.groups import FAILED, SENT, Groups

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

# So many times as many rows as there are may have been saved before all are saved at once.
_REPEATED = 4
_NAME = re.compile(r"groups\.\d+|distinct\.(?P<state>\d+)\.\d+")


def unusable(what: str) -> StateError:
    """The error of saved state that an operator cannot have saved."""
    return StateError(
        f"the saved state of an aggregation cannot be used: {what}",
        hint="start from a savepoint with state=PATH, or afresh with state=reset",
    )


class Restoring:
    """Puts saved tables into groups that are empty: those whose key lives in lane `lane` of `lanes`.

    The tables may come from anywhere: all that memory depends on is checked. Raises StateError.
    """

    def __init__(self, groups: Groups, lanes: int, lane: int, key_groups: int) -> None:
        self._groups = groups
        self._lanes, self._lane, self._key_groups = lanes, lane, key_groups
        self._encoder = KeyEncoder(groups.key_types)
        self._schemas = [groups.schema(timed=False), groups.schema(timed=True)]
        # By slot: whether the group's row was there, and not only distinct values of it.
        self._whole = np.zeros(0, dtype=np.bool_)
        self._read = 0

    def add(self, tables: Mapping[str, pa.RecordBatch]) -> None:
        """Put the tables of one `Changes`, that come after those that were added."""
        for name, batch in tables.items():
            found = _NAME.fullmatch(name)
            if found is None:
                raise unusable(f"it has a table '{name}'")
            if found["state"] is None:
                self._check(name, batch, self._schemas)
                self._put_groups(name, batch)
                continue
            state = int(found["state"])
            seen = self._groups.accumulators.distinct.get(state)
            if seen is None:
                raise unusable(f"it has a table '{name}', and state {state} has no distinct values")
            self._check(name, batch, [self._groups.distinct_schema(seen.type)])
            rows, slots = self._find(batch)
            values = batch.column("value")
            seen.put(slots, values if rows is None else values.take(fixed(rows, pa.int32())))

    def keep(self, slots: Int32s) -> None:
        """Drop all other groups, as `Groups.keep`."""
        self._whole = self._whole[slots]
        self._groups.keep(slots)

    def finish(self) -> None:
        """All tables were added, and what was dropped is dropped."""
        if not self._whole.all():
            raise unusable("it has distinct values of groups that it does not have")
        groups = self._groups
        kept = groups.table.count + sum(seen.count for seen in groups.accumulators.distinct.values())
        # Runs that end before they complete a round add up: this one begins with all that there is.
        groups.track(again=self._read > _REPEATED * kept + rounds.MOST_ROWS)

    def _check(self, name: str, batch: pa.RecordBatch, schemas: list[pa.Schema]) -> None:
        if not any(batch.schema.equals(schema) for schema in schemas):
            raise unusable(f"table '{name}' has the columns {_shown(batch.schema)}, not {_shown(schemas[0])}")
        try:
            batch.validate(full=True)
        except pa.ArrowInvalid as error:
            raise unusable(f"table '{name}' is damaged: {error}") from error
        for column, values in zip(batch.schema.names, batch.columns, strict=True):
            if values.null_count and column in ("window", "value", "flags"):
                raise unusable(f"column '{column}' of table '{name}' has a NULL")

    def _find(self, batch: pa.RecordBatch) -> tuple[Int32s | None, Int32s]:
        """The rows of this lane (None: all), and the slot of each."""
        groups, n = self._groups, batch.num_rows
        keys = self._encoder.encode(batch.columns[: len(groups.key_types)], n)
        rows: Int32s | None = None
        if self._lanes > 1:
            rows = keys.partition(self._lanes, self._key_groups)[self._lane]
            if rows is None:
                rows = np.zeros(0, dtype=np.int32)
        windows: Int64s | None = None
        if groups.windowed:
            windows = int64s(batch.column("window"))
            windows = windows if rows is None else windows[rows]
        slots = groups.table.assign(keys, rows, windows)
        self._read += len(slots)
        groups.reserve()
        count = groups.table.count
        if count > len(self._whole):
            self._whole = np.concatenate([self._whole, np.zeros(count - len(self._whole), dtype=np.bool_)])
        return rows, slots

    def _put_groups(self, name: str, batch: pa.RecordBatch) -> None:
        groups = self._groups
        rows, slots = self._find(batch)
        named = [at for at, column in enumerate(batch.schema.names) if column.startswith("state.")]
        try:
            groups.accumulators.put(slots, [batch.column(at) for at in named], rows)
        except ValueError as error:
            raise unusable(f"table '{name}' is damaged: {error}") from error
        flags = uint8s(batch.column("flags"))
        flags = flags if rows is None else flags[rows]
        if len(flags) and int(flags.max()) > (SENT | FAILED if groups.flagged else 0):
            raise unusable(f"column 'flags' of table '{name}' has the value {int(flags.max())}")
        if groups.flagged:
            groups.sent[slots] = flags & SENT
            groups.failed[slots] = flags & FAILED != 0
        if "latest" in batch.schema.names:
            groups.latest_of().put(slots, batch.column("latest"), rows)
        self._whole[slots] = True


def _shown(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
