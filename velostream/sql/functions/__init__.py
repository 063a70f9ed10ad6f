"""The scalar functions and operators of SQL, one file per family, one entry per function.

`resolve` finds a function for the types of a call; nothing here evaluates an expression, and aggregates are
a registry of their own. Read `registry.py` first, then the family that your function belongs to.
"""

from velostream.sql.functions.registry import Function, Resolved, functions, resolve
from velostream.sql.functions.rules import common_type

__all__ = ["Function", "Resolved", "common_type", "functions", "resolve"]
