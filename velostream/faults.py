"""Fault points: places where a crash could split something that must happen as a whole.

`VELOSTREAM_FAULT=state.before_manifest:3` kills the process, as `kill -9` does, when it comes to that point
the third time; tests set it in the processes that they start. Unset, a fault point costs a look-up in an
empty table.
"""

from __future__ import annotations

import os
import signal
from threading import Lock

VARIABLE = "VELOSTREAM_FAULT"

_lock = Lock()


def _parse(text: str) -> dict[str, int]:
    """`name:count,name:count`, the count 1 unless given."""
    points: dict[str, int] = {}
    for entry in filter(None, text.split(",")):
        name, _, count = entry.partition(":")
        points[name.strip()] = int(count or 1)
    return points


_left = _parse(os.environ.get(VARIABLE, ""))


def fault(name: str) -> None:
    """Die here, if the environment says so."""
    if name not in _left:
        return
    with _lock:
        _left[name] -= 1
        if _left[name] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
