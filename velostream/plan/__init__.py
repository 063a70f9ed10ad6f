"""Logical plan to physical: stages, exchanges, pushed-down columns and predicates.

No operator is imported here; nodes are data. Read `nodes.py` first, then `planner.py`.
"""
