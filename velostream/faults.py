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


_left: dict[str, int] = {}


def arm(points: str) -> None:
    """Die at these points: `name:count,name:count`, the count 1 unless given. Others are disarmed."""
    _left.clear()
    for entry in filter(None, points.split(",")):
        name, _, count = entry.partition(":")
        _left[name.strip()] = int(count or 1)


arm(os.environ.get(VARIABLE, ""))


def fault(name: str) -> None:
    """Die here, if the environment says so."""
    if name not in _left:
        return
    with _lock:
        _left[name] -= 1
        if _left[name] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
