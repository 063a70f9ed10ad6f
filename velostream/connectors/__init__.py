"""Where blocks come from and where output goes: one module or folder per connector.

Whatever runs lanes or parses records is elsewhere (`velostream/runtime`, `velostream/formats`).
Read `base.py` first, then `memory.py`, the shortest connector.
"""
