"""What happens to records that fail, and to sources and sinks that do: one module per strategy.

Nothing here decodes or evaluates; a strategy gets what failed, with its bytes, position and reason.
Read `base.py` first.
"""
