"""Bound expressions as programs over batches.

A program is compiled once: a list of steps in order of dependence, one per distinct subexpression, each
writing its value to a slot of the frame of a batch. A step calls Arrow or a kernel for all rows. Constants
are slots that are filled at compile time. A step also leaves which rows failed and why; a function that
looks at an argument only for some rows (AND, CASE, COALESCE) takes over its failures only for those.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from velostream.errors import BindError, InternalError, RecordFailure
from velostream.kernels import true_rows
from velostream.operators.batch import Failures
from velostream.operators.casts import conversion
from velostream.sql.expressions import Call, Case, Cast, ColumnRef, Expr, Literal
from velostream.sql.functions import functions, resolve
from velostream.sql.functions.registry import Function
from velostream.sql.functions.values import as_array, mask_of, null_where, scalar
from velostream.sql.typenames import type_name

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


class _Frame:
    """The slots of one batch. Owned by the call that runs the program."""

    __slots__ = ("failures", "rows", "values")

    def __init__(self, rows: int, constants: list[Any]) -> None:
        self.rows = rows
        self.values = constants.copy()
        self.failures: list[Failures | None] = [None] * len(constants)


Step = Callable[[_Frame], None]


class _Invocation:
    """One call of a function: what it is told, and the failures that it reports."""

    __slots__ = ("failures", "result_type", "rows")

    def __init__(self, rows: int, result_type: pa.DataType, failures: Failures | None) -> None:
        self.rows = rows
        self.result_type = result_type
        self.failures = failures

    def fail(self, mask: Mask | None, code: str, detail: str) -> None:
        if mask is None:
            return
        if self.failures is None:
            self.failures = Failures(self.rows)
        self.failures.add(mask, code, detail)


class _Compiler:
    """Turns expressions over one schema into steps; equal subexpressions share a slot."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.steps: list[Step] = []
        self.constants: list[Any] = []
        self.columns: list[tuple[int, int]] = []
        self._slots: dict[Hashable, int] = {}

    def frame(self, batch: pa.RecordBatch) -> _Frame:
        """The frame of a batch after all steps."""
        frame = _Frame(batch.num_rows, self.constants)
        for slot, index in self.columns:
            frame.values[slot] = batch.column(index)
        for step in self.steps:
            step(frame)
        return frame

    def compile(self, expr: Expr) -> int:
        """The slot of the expression's value, with the steps that fill it."""
        if isinstance(expr, ColumnRef):
            return self._column(expr)
        if isinstance(expr, Literal):
            return self._constant(scalar(expr.value, expr.type), repr(expr.value))
        if isinstance(expr, Call):
            return self._call(expr)
        if isinstance(expr, Case):
            return self._case(expr)
        if isinstance(expr, Cast):
            return self._cast(self.compile(expr.arg), expr.arg.type, expr.type, expr.safe)
        raise InternalError(f"no way to evaluate a {type(expr).__name__}")

    def compile_as(self, expr: Expr, type: pa.DataType) -> int:
        """The slot of the expression's value as `type`, to which it converts by itself."""
        return self._cast(self.compile(expr), expr.type, type, safe=False)

    def _column(self, expr: ColumnRef) -> int:
        index = self.schema.get_field_index(expr.name)
        if index < 0 or self.schema.field(index).type != expr.type:
            raise InternalError(f"no column '{expr.name}' of type {expr.type} among {self.schema.names}")
        key = ("column", index)
        if key not in self._slots:
            self._slots[key] = self._slot(None)
            self.columns.append((self._slots[key], index))
        return self._slots[key]

    def _slot(self, constant: Any) -> int:
        self.constants.append(constant)
        return len(self.constants) - 1

    def _constant(self, value: pa.Scalar, text: str) -> int:
        # By text: 0.0 and -0.0 are equal and yet two constants, NaN is not equal to itself and yet one.
        key = ("constant", value.type, text)
        if key not in self._slots:
            self._slots[key] = self._slot(value)
        return self._slots[key]

    def _call(self, expr: Call) -> int:
        literals = {index: arg.value for index, arg in enumerate(expr.args) if isinstance(arg, Literal)}
        resolved = resolve(expr.function, [arg.type for arg in expr.args], literals)
        if resolved.result_type != expr.type:
            raise InternalError(f"'{expr}' is bound as {expr.type}, and is {resolved.result_type}")
        found = functions[resolved.name]
        slots = tuple(
            self.compile_as(arg, wanted)
            for arg, wanted in zip(expr.args, resolved.argument_types, strict=True)
        )
        return self._step(("call", found.name, expr.type, *slots), slots, _call_step(found, expr.type, slots))

    def _cast(self, slot: int, source: pa.DataType, target: pa.DataType, safe: bool) -> int:
        if source == target:
            return slot
        return self._step(("cast", target, safe, slot), (slot,), _cast_step(slot, source, target, safe))

    def _case(self, expr: Case) -> int:
        pairs = tuple(
            (self.compile_as(when, pa.bool_()), self.compile_as(then, expr.type))
            for when, then in expr.branches
        )
        otherwise = self.compile_as(expr.otherwise, expr.type)
        slots = (*(slot for pair in pairs for slot in pair), otherwise)
        return self._step(("case", *slots), slots, _case_step(pairs, otherwise))

    def _step(self, key: Hashable, slots: Sequence[int], make: Callable[[int], Step]) -> int:
        """The slot of a step, a known one when it was compiled before, a constant when it can be folded."""
        if key in self._slots:
            return self._slots[key]
        out = self._slot(None)
        step = make(out)
        if all(self.constants[slot] is not None for slot in slots):
            frame = _Frame(1, self.constants)
            step(frame)
            # What fails is left to fail in each row that takes it.
            if frame.failures[out] is None:
                self.constants[out] = as_array(frame.values[out], 1)[0]
                self._slots[key] = out
                return out
        self.steps.append(step)
        self._slots[key] = out
        return out


def _arguments(frame: _Frame, slots: Sequence[int], scalars: Sequence[int] = ()) -> list[Any]:
    """The values of the slots; when all are constants, as arrays, so that a result has a value per row.

    The positions `scalars` stay as they are.
    """
    values = [frame.values[slot] for slot in slots]
    if all(isinstance(value, pa.Scalar) for value in values):
        values = [
            value if index in scalars else as_array(value, frame.rows) for index, value in enumerate(values)
        ]
    return values


def _call_step(function: Function, result_type: pa.DataType, slots: tuple[int, ...]) -> Callable[[int], Step]:
    implementation, taken, scalars = function.implementation, function.taken, function.literals

    def make(out: int) -> Step:
        def step(frame: _Frame) -> None:
            values = _arguments(frame, slots, scalars)
            inherited: Failures | None = None
            for index, slot in enumerate(slots):
                failed = frame.failures[slot]
                if failed is not None:
                    if inherited is None:
                        inherited = Failures(frame.rows)
                    inherited.merge(failed, taken(values[:index]) if taken is not None and index else None)
            call = _Invocation(frame.rows, result_type, inherited or None)
            frame.values[out] = implementation(call, *values)
            frame.failures[out] = call.failures or None

        return step

    return make


def _cast_step(slot: int, source: pa.DataType, target: pa.DataType, safe: bool) -> Callable[[int], Step]:
    convert = conversion(source, target)
    detail = f"a {type_name(source)} does not fit {type_name(target)}"

    def make(out: int) -> Step:
        def step(frame: _Frame) -> None:
            (values,) = _arguments(frame, (slot,))
            inherited = frame.failures[slot]
            result, failed = convert(values)
            if failed is not None:
                result = null_where(result, failed)
                if not safe:
                    call = _Invocation(frame.rows, target, None)
                    if inherited is not None:
                        call.failures = Failures(frame.rows)
                        call.failures.merge(inherited)
                    call.fail(failed, "cast", detail)
                    inherited = call.failures
            frame.values[out] = result
            frame.failures[out] = inherited

        return step

    return make


def _case_step(pairs: Sequence[tuple[int, int]], otherwise: int) -> Callable[[int], Step]:
    slots = [slot for pair in pairs for slot in pair] + [otherwise]

    def make(out: int) -> Step:
        def step(frame: _Frame) -> None:
            result = frame.values[otherwise]
            for when, then in reversed(pairs):
                condition = pc.fill_null(as_array(frame.values[when], frame.rows), False)
                result = pc.if_else(condition, frame.values[then], result)
            frame.values[out] = result
            if any(frame.failures[slot] is not None for slot in slots):
                frame.failures[out] = _case_failures(frame, pairs, otherwise)

        return step

    return make


def _case_failures(frame: _Frame, pairs: Sequence[tuple[int, int]], otherwise: int) -> Failures | None:
    """The failures of each condition and branch in the rows that reach it."""
    total = Failures(frame.rows)
    left = np.ones(frame.rows, dtype=np.bool_)

    def take(slot: int, rows: Mask) -> None:
        failed = frame.failures[slot]
        if failed is not None:
            total.merge(failed, rows)

    for when, then in pairs:
        take(when, left)
        true = mask_of(frame.values[when], frame.rows)
        take(then, left & true)
        left = left & ~true
    take(otherwise, left)
    return total or None


class Program:
    """Named expressions computed from the columns of a batch.

    `items` are names and expressions over `schema`. Safe to use from several threads.
    """

    def __init__(self, items: Sequence[tuple[str, Expr]], schema: pa.Schema) -> None:
        self.schema = pa.schema([pa.field(name, expr.type) for name, expr in items])
        compiler = _Compiler(schema)
        self._slots = [compiler.compile(expr) for _, expr in items]
        self._compiler = compiler
        self._indices: list[int] | None = None
        if all(isinstance(expr, ColumnRef) for _, expr in items):
            self._indices = [schema.get_field_index(expr.name) for _, expr in items]  # type: ignore[attr-defined]
        # The columns as they are, under their names.
        self._same = self._indices == list(range(len(schema))) and self.schema.equals(schema)

    def run(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Failures | None]:
        """The items of each row, and the rows that failed, or None; these have NULL where they failed."""
        if self._indices is not None:
            return batch if self._same else self._select(batch, self._indices), None
        frame = self._compiler.frame(batch)
        failures: Failures | None = None
        columns = []
        for slot in self._slots:
            column = as_array(frame.values[slot], frame.rows)
            failed = frame.failures[slot]
            if failed is not None:
                column = null_where(column, failed.mask)
                if failures is None:
                    failures = Failures(frame.rows)
                failures.merge(failed)
            columns.append(column)
        return pa.RecordBatch.from_arrays(columns, schema=self.schema), failures

    def _select(self, batch: pa.RecordBatch, indices: list[int]) -> pa.RecordBatch:
        if not indices:
            # Arrays say how many rows there are; without one only a selection keeps the number.
            return batch.select([])
        return pa.RecordBatch.from_arrays([batch.column(index) for index in indices], schema=self.schema)


class Predicate:
    """A condition on the rows of batches of `schema`. Safe to use from several threads."""

    def __init__(self, expr: Expr, schema: pa.Schema) -> None:
        if expr.type != pa.bool_() and not pa.types.is_null(expr.type):
            raise BindError(f"a condition is BOOLEAN, not {expr.type}")
        self._compiler = _Compiler(schema)
        self._slot = self._compiler.compile_as(expr, pa.bool_())

    def run(self, batch: pa.RecordBatch) -> tuple[Mask | None, Failures | None]:
        """Where the condition is TRUE (None when everywhere), and the rows that it failed for, or None.

        NULL is not TRUE, and neither is a row that failed.
        """
        frame = self._compiler.frame(batch)
        passed = mask_of(frame.values[self._slot], frame.rows)
        failures = frame.failures[self._slot]
        if failures is not None:
            passed = passed & ~failures.mask
        return None if passed.all() else passed, failures

    def select(self, batch: pa.RecordBatch) -> tuple[Rows | None, Failures | None]:
        """As `run`, with the positions of the rows instead of a mask."""
        frame = self._compiler.frame(batch)
        rows = true_rows(as_array(frame.values[self._slot], frame.rows))
        failures = frame.failures[self._slot]
        if failures is not None:
            passed = ~failures.mask
            rows = np.flatnonzero(passed) if rows is None else rows[passed[rows]]
        return rows, failures


def constant(expr: Expr) -> object:
    """The Python value of an expression without columns; raises RecordFailure when it fails."""
    result, failures = Program([("value", expr)], pa.schema([])).run(_ONE_ROW)
    if failures is not None:
        code, detail = failures.reason(0)
        raise RecordFailure(f"'{expr}' fails: {code}, {detail}")
    return result.column(0)[0].as_py()


# Not by `pa.array`, which imports pandas where there is one (0.2 s).
_ONE_ROW = pa.RecordBatch.from_arrays([pa.nulls(1)], names=["row"]).select([])
