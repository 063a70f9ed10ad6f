"""Bound expressions as a person writes them, for `explain`."""

from __future__ import annotations

from collections.abc import Mapping

from velostream.sql.expressions import Call, Case, Cast, ColumnRef, Expr
from velostream.sql.typenames import type_name

_INFIX = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "modulo": "%",
    "concat": "||",
    "eq": "=",
    "ne": "<>",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "and": "AND",
    "or": "OR",
    "like": "LIKE",
    "ilike": "ILIKE",
}
_PREFIX = {"not": "NOT ", "negate": "-"}
_POSTFIX = {
    "is_null": "IS NULL",
    "is_not_null": "IS NOT NULL",
    "is_true": "IS TRUE",
    "is_false": "IS FALSE",
    "is_not_true": "IS NOT TRUE",
    "is_not_false": "IS NOT FALSE",
}


def written(expr: Expr, names: Mapping[str, str] | None = None) -> str:
    """The expression as SQL; `names` says what stands for a column that the planner has named."""
    names = names or {}
    if isinstance(expr, ColumnRef):
        return names.get(expr.name, expr.name)
    if isinstance(expr, Cast):
        return f"{'TRY_CAST' if expr.safe else 'CAST'}({written(expr.arg, names)} AS {type_name(expr.type)})"
    if isinstance(expr, Case):
        whens = " ".join(
            f"WHEN {written(when, names)} THEN {written(then, names)}" for when, then in expr.branches
        )
        return f"CASE {whens} ELSE {written(expr.otherwise, names)} END"
    if not isinstance(expr, Call):
        return str(expr)
    args = [_operand(arg, names) for arg in expr.args]
    if expr.function in _INFIX and len(args) == 2:
        return f"{args[0]} {_INFIX[expr.function]} {args[1]}"
    if expr.function in _PREFIX:
        return f"{_PREFIX[expr.function]}{args[0]}"
    if expr.function in _POSTFIX:
        return f"{args[0]} {_POSTFIX[expr.function]}"
    if expr.function == "in":
        return f"{args[0]} IN ({', '.join(args[1:])})"
    return f"{expr.function.upper()}({', '.join(written(arg, names) for arg in expr.args)})"


def _operand(expr: Expr, names: Mapping[str, str]) -> str:
    """The expression as an operand: in parentheses when it is an operator itself."""
    text = written(expr, names)
    operators = (_INFIX, _PREFIX, _POSTFIX, ("in",))
    if isinstance(expr, Call) and any(expr.function in kind for kind in operators):
        return f"({text})"
    return text
