"""What a scalar function is, and how one is found for the types of a call.

A function is one entry: a decorated implementation that says its types, its null rule, an example, and in
its docstring what it gives. Operators (`add`, `eq`, `like`, …) are functions with a `form`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from velostream.errors import BindError, InternalError, unknown
from velostream.registry import Registry
from velostream.sql.functions.rules import Rule
from velostream.sql.typenames import type_name

Value = Any  # pa.Array with a value per row, or pa.Scalar for a constant
Mask = npt.NDArray[np.bool_]

PROPAGATE = "NULL when an argument is NULL"


class Invocation(Protocol):
    """What an implementation may know and tell about the batch that it works on."""

    rows: int
    result_type: pa.DataType

    def fail(self, mask: Mask | None, code: str, detail: str) -> None:
        """Note that the rows of `mask` failed; nothing for None. Their values do not matter."""


class Implementation(Protocol):
    """Values from values: one per row, at least one argument an array, types as resolved."""

    def __call__(self, call: Invocation, /, *args: Value) -> Value: ...


@dataclass(frozen=True)
class Function:
    """An entry of the registry.

    `nulls` is PROPAGATE or a sentence. `example` is the arguments and the result as Python values. `form` is
    how an operator is written, with `{0}` for its first argument and `{rest}` for others. `taken` says for
    which rows argument number `len(values)` matters, given those before it: its failures count only there;
    None is all rows. `literals` are the positions of arguments that must be constants of the query, and come
    as scalars; `check` raises BindError for one that makes no sense.
    """

    name: str
    rule: Rule
    nulls: str
    example: tuple[tuple[object, ...], object]
    doc: str
    implementation: Implementation
    aliases: tuple[str, ...] = ()
    form: str | None = None
    taken: Callable[[Sequence[Value]], Mask] | None = None
    literals: tuple[int, ...] = ()
    check: Callable[[object], None] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.doc)


functions: Registry[Function] = Registry("function", "velostream.sql.functions")


def function(
    name: str,
    *,
    rule: Rule,
    nulls: str,
    example: tuple[tuple[object, ...], object],
    aliases: tuple[str, ...] = (),
    form: str | None = None,
    taken: Callable[[Sequence[Value]], Mask] | None = None,
    literals: tuple[int, ...] = (),
    check: Callable[[object], None] | None = None,
) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Decorator: make an implementation known as the SQL function `name`, and by its `aliases`."""

    def add(implementation: Callable[..., Value]) -> Callable[..., Value]:
        doc = (implementation.__doc__ or "").strip().partition("\n\n")[0]
        if not doc or not nulls or not example[0]:
            raise InternalError(f"function '{name}' needs a docstring, a null rule and an example")
        entry = Function(
            name, rule, nulls, example, doc, implementation, aliases, form, taken, literals, check
        )
        for known_as in (name, *aliases):
            functions.register(known_as)(entry)
        return implementation

    return add


@dataclass(frozen=True, slots=True)
class Resolved:
    """A function for given types: arguments of other types than `argument_types` are cast to them."""

    name: str
    argument_types: tuple[pa.DataType, ...]
    result_type: pa.DataType


def resolve(
    name: str, types: Sequence[pa.DataType], literals: Mapping[int, object] | None = None
) -> Resolved:
    """The function `name` (any case, or an alias) for arguments of `types`; `pa.null()` fits any type.

    `literals` are the values of the arguments that are constants, by position; with None they are not looked
    at. Raises BindError, without a place, when there is no such function, or it does not take these types or
    constants.

    >>> resolve("UPPER", [pa.string()])
    Resolved(name='upper', argument_types=(DataType(string),), result_type=DataType(string))
    """
    key = name.lower()
    if key not in functions:
        message, hint = unknown("function", name, functions.names())
        raise BindError(message, hint=hint)
    found = functions[key]
    match = found.rule.apply(tuple(types))
    if match is None:
        given = ", ".join(map(type_name, types))
        expected = " or ".join(f"({text})" for text in found.rule.arguments)
        raise BindError(f"'{found.name}' does not take ({given})", hint=f"expected {expected}")
    if literals is not None:
        _check_literals(found, len(types), literals)
    return Resolved(found.name, *match)


def _check_literals(found: Function, count: int, literals: Mapping[int, object]) -> None:
    for position in found.literals:
        if position >= count:
            continue
        if position not in literals:
            raise BindError(f"argument {position + 1} of '{found.name}' must be a constant")
        if found.check is not None:
            found.check(literals[position])
